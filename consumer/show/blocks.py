"""What ``sshbell block list`` and ``explain`` print about blocks."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, tzinfo
from ipaddress import ip_network
from pathlib import Path

from consumer.block.commands import split_command
from consumer.block.target import Target, network_target, target_of
from consumer.clock import SECOND_US, isoformat, now_us
from consumer.config import BLOCK_COMMANDS, Blocking, Config
from consumer.events import Attempt
from consumer.guard.allowed import end_text
from consumer.selection import Selection
from consumer.show.columns import LAST, Column, painted, row_of, unbounded, widths_of
from consumer.show.table import short_duration
from consumer.store.block import AllowedRow, BlockRow
from consumer.store.queries import Asked, events
from consumer.store.reader import Store
from consumer.text import harmless, readable

# As many of the newest failed logins of each address or user.
_TRIES = 20


def block_table(
    rows: Sequence[BlockRow], zone: tzinfo, cells: int | None, *, in_color: bool, is_relative: bool, tries_of: Store | None
) -> Iterator[str]:
    """
    Yield the lines of a table of blocks.

    Args:
        rows: the blocks.
        zone: of the times shown.
        cells: the width of the terminal; None cuts nothing.
        in_color: paint the heading.
        is_relative: show how long ago and how long from now, not dates.
        tries_of: the store with the failed logins to list below each block; None: list none.
    """
    columns = (Column("target", "target", 18, 20), Column("begin", "since", 16, 19), Column("until", "until", 16, 19))
    growth = (("target", 24), ("begin", 19), ("until", 19), (LAST, 40), ("target", 43))
    widths = unbounded(columns) if cells is None else widths_of(columns, 10, growth, ("begin",), cells)
    if rows:
        yield painted(row_of(widths, [column.head for column in widths.columns], "reason"), bold=True, on=in_color)
    for row in rows:
        texts = {
            "target": harmless(row.target), "begin": _moment(row.begin_us, zone, is_relative=is_relative),
            "until": _moment(row.until_us, zone, is_relative=is_relative),
        }  # fmt: skip
        reason = harmless(" ".join(filter(None, (row.reason, "(removed)" if row.removed_us is not None else ""))))
        yield row_of(widths, [texts[column.key] for column in widths.columns], reason)
        if row.exceptions:
            yield f"    may log in from {', '.join(row.exceptions)}"
        if tries_of is not None:
            yield from (f"    {text}" for text in tries_before(tries_of, row, zone, is_relative=is_relative))


def tries_before(store: Store, row: BlockRow, zone: tzinfo, *, is_relative: bool = False) -> Iterator[str]:
    """
    Yield the newest failed logins of a target, from the day before its block on.

    Raises:
        StoreError: the store does not exist or cannot be read.
    """
    target = target_of(row.target)
    network = ip_network(network_target(row.target).text) if target.version else None
    asked = Asked(Selection(row.begin_us - 86_400 * SECOND_US, None, target.user or None, None), network=network)
    found = [event for event in events(store, asked) if isinstance(event, Attempt)]
    for event in found[-_TRIES:]:
        when = _moment(event.time_us, zone, is_relative=is_relative)
        who = f"{event.user or '-'} from {event.address or '-'}"
        count = f", {event.count} times" if event.count > 1 else ""
        yield harmless(f"{when}  {who} to {readable(event.host)}: {event.method or 'no method'}{count}")


def block_object(row: BlockRow) -> dict[str, object]:
    """Return a block as an object for JSON."""
    known = {
        "id": row.id, "target": row.target, "begin": isoformat(row.begin_us), "until": isoformat(row.until_us),
        "reason": row.reason, "service": row.service, "exceptions": row.exceptions,
        "removed": isoformat(row.removed_us) if row.removed_us is not None else None,
    }  # fmt: skip
    return {name: value for name, value in known.items() if value not in (None, [])}


def allowed_line(row: AllowedRow) -> str:
    """Return an entry of the allow list as a line."""
    parts = (f"{row.target:<24}", f"{row.source:<28}", end_text(row.until_us), row.reason)
    return harmless("  ".join(filter(None, parts))).rstrip()


def allowed_object(row: AllowedRow) -> dict[str, object]:
    """Return the same as an object for JSON."""
    known: dict[str, object] = {"target": row.target, "source": row.source, "reason": row.reason}
    return known | ({"until": isoformat(row.until_us)} if row.until_us else {})


def blocking_settings(settings: Blocking) -> Iterator[str]:
    """Yield how sshbell blocks, and how it splits the commands into arguments."""
    yield f"mode         {settings.mode}" + ("" if settings.mode == "on" else ": sshbell blocks nothing")
    yield f"access_file  {settings.access_file}"
    yield f"nftables     {', '.join(map(str, settings.nftables)) or 'off'}"
    yield f"hosts_deny   {'on' if settings.hosts_deny else 'off'}"
    for key in BLOCK_COMMANDS:
        if text := getattr(settings, key):
            yield key
            for number, parts in enumerate(split_command(text)):
                yield harmless(f"    {'program' if number == 0 else f'argument {number}':<12} {''.join(parts)!r}")


def blocks_of_target(
    config: Config, target: Target, allowed: Iterable[AllowedRow], active: Sequence[BlockRow], others: Sequence[BlockRow],
    zone: tzinfo,
) -> Iterator[str]:  # fmt: skip
    """
    Yield all about one target: what allows it, its blocks with the failed logins before them, and its lines for pam_access.

    Args:
        config: the configuration.
        target: the target.
        allowed: the allow list.
        active: the blocks that apply now.
        others: the other blocks.
        zone: of the times shown.

    Raises:
        StoreError: the store does not exist or cannot be read.
    """
    for one in allowed:
        if network_target(one.target).covers(target):
            yield harmless(f"never blocked: {one.target} ({one.source}){f': {one.reason}' if one.reason else ''}")
    shown = [row for row in (*others, *active) if target_of(row.target).covers(target)]
    for row in shown:
        state = "removed by hand" if row.removed_us is not None else "blocked" if row in active else "ended"
        yield harmless(f"{row.target}: {state}, {_moment(row.begin_us, zone)} to {_moment(row.until_us, zone)}: {row.reason}")
        if row.exceptions:
            yield f"    may log in from {', '.join(row.exceptions)}"
        yield f"    order {row.id}"
        yield from (f"    {each}" for each in tries_before(config.store, row, zone))
    if not shown:
        yield f"{target.text} is not blocked, and has not been"
    yield from _lines_of(config.block, target.text)


def _lines_of(settings: Blocking, text: str) -> Iterator[str]:
    """Yield the lines of the file for pam_access that name a target."""
    word = text.removeprefix("user:")
    path = Path(settings.access_file)
    try:
        lines = path.read_text("utf-8").splitlines()
    except OSError as error:
        advice = "" if settings.mode == "on" else '; sshbell writes it with mode = "on" under [block]'
        yield f"{path}: {error.strerror}{advice}"
        return
    for number, line in enumerate(lines, 1):
        if not line.startswith("#") and word in line.split():
            shown = line if len(line) <= 200 else f"{line[:60]} ... {word} ..."
            yield f"{path}:{number}: {shown}"


def _moment(time_us: int, zone: tzinfo, *, is_relative: bool = False) -> str:
    if not is_relative:
        return f"{datetime.fromtimestamp(time_us // 1_000_000, zone):%Y-%m-%d %H:%M:%S}"
    left_us = time_us // 1_000_000 * 1_000_000 - now_us() // 1_000_000 * 1_000_000
    return f"in {short_duration(left_us)}" if left_us > 0 else f"{short_duration(-left_us)} ago"
