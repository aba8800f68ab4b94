"""``sshbell route``."""

import sys
from typing import TYPE_CHECKING, Any

import click

from consumer.commands.options import CONFIG, in_color
from consumer.errors import InputError, UsageError

if TYPE_CHECKING:
    from consumer.config import Config
    from consumer.deliver.preview import Preview
    from consumer.ecs import EcsEvent

# The widths of the columns, in cells.
_NUMBER, _TAKES = 5, 5


@click.command(short_help="Show which routes take an event, who gets it, and the message.")
@click.argument("source", required=False, metavar="[FILE|ID]")
@click.option(
    "--like", metavar="WORDS", help="Make up a login: user=root ip=203.0.113.7 host=web1 method=password key=SHA256:..."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@CONFIG
def route(source: str | None, like: str | None, config: str | None, *, as_json: bool) -> None:
    """
    Show which routes take an event and why the others do not, who would get it, and the message. Nothing is sent.

    The event comes from a FILE with JSON as "sshbell replay --format json" writes it ("-" is standard input), from the store by
    the beginning of its ID, or from --like. Words of --like: event, user, uid, host, ip, port, method, key, certificate,
    session, origin, time.

    \b
        sudo sshbell route --like 'user=root ip=203.0.113.7'
        sudo sshbell route 3fa29c01
        sshbell replay --format json auth.log | head -n 1 | sshbell route -
    """
    from consumer.config_file import load
    from consumer.deliver.preview import previewed
    from consumer.errors import complain
    from consumer.people.people import People

    if (source is None) == (like is None):
        raise UsageError("give one event: a file, an id, or --like 'user=root ip=203.0.113.7'")
    found = load(config)
    event = _event_of(found, source, like)
    preview = previewed(found, config, People.load(found.people), event, lambda fault: complain(InputError(fault)))
    if as_json:
        from consumer.ecs import json_line

        click.echo(json_line(_object(preview)), nl=False)
        return
    for text in _texts(preview):
        click.echo(text)


def _event_of(config: "Config", source: str | None, like: str | None) -> "EcsEvent":
    from pathlib import Path

    from consumer.clock import isoformat, now_us
    from consumer.deliver.preview import event_like
    from consumer.ecs import NoEventError, event_of
    from consumer.errors import DataError
    from consumer.events_as_ecs import of_event
    from consumer.store.queries import event_of_id

    if like is not None:
        try:
            return event_like(like, isoformat(now_us()))
        except ValueError as error:
            raise UsageError(f"--like: {error}") from error
    assert source is not None
    if source == "-" or Path(source).is_file():
        try:
            text = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
        except OSError as error:
            raise InputError(f"{source}: {error.strerror}") from error
        try:
            return event_of(text)
        except NoEventError as error:
            raise DataError(f"{source}: {error}; it has to be one event") from error
    event = event_of_id(config.store, source)
    if event is None:
        raise UsageError(
            f"there is no file {source!r}, and no single event whose id begins like this; see: sshbell history --json"
        )
    return of_event(event, [])


def _texts(preview: "Preview") -> list[str]:
    """Return the lines for people: a row for each route, then each message."""
    from consumer.show.columns import filled, painted
    from consumer.text import harmless

    on = in_color()
    texts = [painted(f"{filled('route', _NUMBER)}  {filled('takes', _TAKES)}  channels, or the reason", bold=True, on=on)]
    for result in preview.routes:
        text = result.reason or ", ".join(result.route.channels)
        takes = painted(filled("no" if result.reason else "yes", _TAKES), "" if result.reason else "green", on=on)
        texts.append(harmless(f"{result.number:>{_NUMBER}}  ") + takes + f"  {harmless(text)}")
    if preview.event.sshbell.new:
        texts.append(f"new: {', '.join(map(harmless, preview.event.sshbell.new))}")
    if not preview.messages:
        texts += ["", "no channel gets it"]
    for shown in preview.messages:
        to = ", ".join(shown.recipients)
        texts += ["", painted(f"{shown.channel}{f' to {harmless(to)}' if to else ''}, {shown.when}", bold=True, on=on)]
        texts.append(f"Subject: {harmless(shown.message.subject)}")
        texts += ["", *(harmless(line) for line in shown.message.text.splitlines())]
    return texts


def _object(preview: "Preview") -> dict[str, Any]:
    return {
        "event": preview.event,
        "routes": [
            {
                "route": result.number, "takes": not result.reason, "reason": result.reason or None,
                "channels": result.route.channels,
            }
            for result in preview.routes
        ],
        "messages": [
            {
                "channel": shown.channel, "when": shown.when, "recipients": shown.recipients, "subject": shown.message.subject,
                "text": shown.message.text,
            }
            for shown in preview.messages
        ],
    }  # fmt: skip
