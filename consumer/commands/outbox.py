"""``sshbell outbox``."""

from typing import TYPE_CHECKING, Any

import click

from consumer.commands.options import CONFIG, ZONE, complete_channel, in_color, width
from consumer.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import tzinfo

    from consumer.ecs import EcsEvent
    from consumer.store.delivery import Delivery
    from consumer.store.delivery_rows import DeliveryRow

_STATES = ("pending", "dead", "sent", "dropped")
_LIMIT = 1000
# A shorter one may be a typing error, and drop the wrong message.
_PREFIX = 4
_SHOWN_ID = 12
# A terminal with fewer cells left for reasons shows each on its own line, in full.
_REASON_LEAST = 40
# By channel, and by the name of a budget or a hold.
_Times = dict[tuple[str, str], int]
_COLORS = {"dead": "red", "sent": "green"}


@click.command(short_help="Show unsent messages and the reasons; retry or drop them.")
@click.argument("verb", type=click.Choice(["list", "retry", "drop"]), default="list", metavar="[list|retry|drop]")
@click.argument("ids", nargs=-1, metavar="[ID...]")
@click.option("--channel", metavar="NAME", shell_complete=complete_channel, help="Show or change only this channel.")
@click.option(
    "--all",
    "everything",
    is_flag=True,
    help="list: also show sent and dropped messages. retry, drop: all waiting and given-up ones.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line, for programs.")
@ZONE
@CONFIG
def outbox(verb: str, ids: tuple[str, ...], channel: str | None, zone: "tzinfo", config: str | None, *, everything: bool,
           as_json: bool) -> None:  # fmt: skip
    """
    Show waiting and given-up messages with the reasons; retry them now, or drop them.

    You may shorten an ID to its first four or more characters, as long as they match only one message.

    \b
        sudo sshbell outbox
        sudo sshbell outbox retry --channel ops
        sudo sshbell outbox drop 3fa29c01
        sudo sshbell outbox --json --all | jq 'select(.state == "dead")'
    """
    from contextlib import closing

    from consumer.clock import now_us
    from consumer.config_file import load
    from consumer.deliver.decide import held_until
    from consumer.process.privileges import as_sshbell
    from consumer.store.deliveries import delivery_of

    found = load(config)
    as_sshbell(found)
    with closing(delivery_of(found.store, None)) as delivery:
        known = [one.name for one in found.channel]
        # A channel that was removed from the configuration may still have messages.
        if channel is not None and channel not in known and not delivery.entries(_STATES, 1, "", channel):
            raise UsageError(f"there is no channel {channel!r}; known channels: {', '.join(known) or 'none'}")
        if verb == "list":
            held_us = {
                (one.name, name): until_us
                for one in found.channel
                for name, until_us in held_until(delivery.spent(one.name), one.max_per_hour, now_us()).items()
            }
            due_us = {(one.name, name): until_us for one in found.channel for name, until_us in delivery.holds(one.name).items()}
            _list(delivery, ids, channel, (held_us, due_us), zone, everything=everything, as_json=as_json)
        else:
            _change(delivery, verb, ids, channel, everything=everything)


def _list(
    delivery: "Delivery", ids: tuple[str, ...], channel: str | None, waits: "tuple[_Times, _Times]",
    zone: "tzinfo", *, everything: bool, as_json: bool,
) -> None:  # fmt: skip
    held_us, due_us = waits
    states = _STATES if everything else ("pending", "dead")
    entries = [
        _with_hold(entry, due_us.get((entry.channel, entry.hold)), zone)
        if entry.hold
        else _with_cap(entry, held_us.get((entry.channel, entry.budget)), zone)
        for prefix in ids or ("",)
        for entry in delivery.entries(states, _LIMIT, prefix, channel or "")
    ]
    if len(entries) >= _LIMIT:
        click.echo(f"these are the newest {_LIMIT:,}; there may be more", err=True)
    if as_json:
        from consumer.ecs import json_line

        for entry in entries:
            click.echo(json_line(_object(entry)), nl=False)
        return
    if not entries:
        click.echo("no messages wait" if not everything else "no messages")
        return
    for text in _rows(entries, width(), zone, color=in_color()):
        click.echo(text)


def _with_cap(entry: "DeliveryRow", held_us: int | None, zone: "tzinfo") -> "DeliveryRow":
    """Return a message with the time until which ``max_per_hour`` holds it back, if it does."""
    if entry.next_us is None or held_us is None:
        return entry
    held = f"held back by max_per_hour until {_moment(held_us, zone)}"
    return entry._replace(next_us=max(entry.next_us, held_us), reason=held if entry.reason is None else f"{held}; {entry.reason}")


def _with_hold(entry: "DeliveryRow", due_us: int | None, zone: "tzinfo") -> "DeliveryRow":
    """Return a message with the time at which sshbell reports it together with others."""
    if entry.next_us is None or due_us is None:
        return entry
    kind = entry.hold.partition(" ")[0]
    what = {"quiet": "the end of the quiet hours", "fold": "the end of its window"}.get(kind, f"the {kind} digest")
    held = f"waits for {what} at {_moment(due_us, zone)}"
    return entry._replace(next_us=due_us, reason=held if entry.reason is None else f"{held}; {entry.reason}")


def _rows(entries: list["DeliveryRow"], width: int | None, zone: "tzinfo", *, color: bool) -> "Iterator[str]":
    """
    Yield the lines of the table, the head first.

    Args:
        entries: the rows.
        width: of the terminal, in cells; None cuts nothing.
        zone: of the times.
        color: use colours.
    """
    from consumer.show.columns import LAST, Column, cells_of, painted, row_of, unbounded, widths_of
    from consumer.text import harmless

    columns = (
        Column("id", "id", _SHOWN_ID, _SHOWN_ID), Column("channel", "channel", 8, 12), Column("state", "state", 7, 7),
        Column("tries", "tries", 5, 5), Column("queued", "queued", 16, 19), Column("next", "next try", 16, 19),
        Column("what", "what", 20, 34),
    )  # fmt: skip
    growth = (("what", 24), ("next", 19), ("channel", 12), ("queued", 19), (LAST, _REASON_LEAST), ("what", 34), ("channel", 24))
    dropped = ("queued", "next", "tries", "id")
    widths = unbounded(columns) if width is None else widths_of(columns, 0, growth, dropped, width)
    is_reason_below = width is not None and widths.last < _REASON_LEAST

    head = row_of(widths, [column.head for column in widths.columns], "" if is_reason_below else "reason")
    yield painted(head, bold=True, on=color)
    for entry in entries:
        texts = {
            "id": entry.event_id[:_SHOWN_ID], "channel": entry.channel, "state": entry.state, "tries": f"{entry.attempts:>5}",
            "queued": _moment(entry.queued_us, zone), "next": _next(entry, zone), "what": _what(entry.body),
        }  # fmt: skip
        cells = dict(zip((column.key for column in widths.columns), widths.cells, strict=True))
        for key in ("queued", "next"):
            if cells.get(key, 0) == len("2026-11-22 10:00"):
                texts[key] = texts[key][: cells[key]]
        reason = harmless(entry.reason or "")
        is_delayed = entry.state == "pending" and (entry.attempts or reason)
        row_color = "yellow" if is_delayed else _COLORS.get(entry.state, "")
        is_below = bool(reason) and (is_reason_below or (width is not None and cells_of(reason) > widths.last))
        row = row_of(widths, [harmless(texts[column.key]) for column in widths.columns], "" if is_below else reason)
        for text in (row, f"    {reason}") if is_below else (row,):
            yield painted(text, row_color, on=color)


def _object(entry: "DeliveryRow") -> dict[str, Any]:
    from consumer.clock import isoformat

    known = {
        "id": entry.event_id,
        "channel": entry.channel,
        "state": entry.state,
        "attempts": entry.attempts,
        "queued": isoformat(entry.queued_us),
        "next_try": isoformat(entry.next_us) if entry.next_us else None,
        "reason": entry.reason,
        "event": _event(entry.body),
    }
    return {name: value for name, value in known.items() if value is not None}


def _event(body: bytes) -> "EcsEvent":
    """Return the event of a message; an empty one if the message is not an event."""
    from consumer.ecs import NOTHING, NoEventError, event_of

    try:
        return event_of(body)
    except NoEventError:
        return NOTHING


def _what(body: bytes) -> str:
    event = _event(body)
    return f"{event.event.action or '?'} {event.user.name or '-'}@{event.host.name or '-'}"[:60]


def _next(entry: "DeliveryRow", zone: "tzinfo") -> str:
    from consumer.clock import now_us

    if entry.next_us is None:
        return "never"
    return "now" if entry.next_us <= now_us() else _moment(entry.next_us, zone)


def _moment(time_us: int, zone: "tzinfo") -> str:
    from datetime import datetime

    return f"{datetime.fromtimestamp(time_us // 1_000_000, zone):%Y-%m-%d %H:%M:%S}"


def _change(delivery: "Delivery", verb: str, ids: tuple[str, ...], channel: str | None, *, everything: bool) -> None:
    from consumer.clock import now_us
    from consumer.text import counted

    if bool(ids) + everything > 1 or not (ids or everything or channel is not None):
        raise UsageError(f"choose the messages to {verb}: IDs, --channel NAME or --all")
    chosen: list[str | None] = [_whole(delivery, prefix, channel) for prefix in ids] or [None]
    if verb == "retry":
        count = sum(delivery.retry(event_id, channel) for event_id in chosen)
        click.echo(f"retrying {counted(count, 'message')} now")
    else:
        count = sum(delivery.drop(event_id, channel, now_us()) for event_id in chosen)
        click.echo(f"dropped {counted(count, 'message')}")


def _whole(delivery: "Delivery", prefix: str, channel: str | None) -> str:
    if len(prefix) < _PREFIX:
        raise UsageError(f"{prefix!r} is too short for an id; give at least {_PREFIX} characters")
    found = {entry.event_id for entry in delivery.entries(("pending", "dead"), _LIMIT, prefix, channel or "")}
    if not found:
        raise UsageError(f"no waiting or given-up message has an id that begins with {prefix!r}; see: sshbell outbox")
    if len(found) > 1:
        raise UsageError(f"{len(found)} messages have ids that begin with {prefix!r}; give more characters")
    return found.pop()
