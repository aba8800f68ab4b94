"""The column ``found`` of ``state.db``: the fields that only findings and blocks have, as JSON."""

import msgspec

from consumer.actions import SEVERITIES, EventAction
from consumer.events import Block, Finding
from consumer.records import Line
from consumer.text import readable, text_of_bytes

# The fields with which all events begin: id, line, user, address and port.
_Start = tuple[str, Line, str | None, str | None, str | None]


class _FoundRow(msgspec.Struct, frozen=True):
    """Of a finding."""

    severity: str
    since_us: int
    last_us: int
    users: tuple[str, ...]
    addresses: tuple[str, ...]
    hosts: tuple[str, ...]
    event_ids: tuple[str, ...]
    labels: dict[str, str]


class _BlockRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """Of a block."""

    is_user: bool
    until_us: int
    finding_id: str
    step: int
    is_dry_run: bool
    removed_us: int | None = None


def found_of(event: Finding | Block) -> str:
    """Return the value of the column for an event."""
    row: _FoundRow | _BlockRow
    if isinstance(event, Finding):
        row = _FoundRow(
            event.severity, event.since_us, event.last_us, event.users, tuple(map(readable, event.addresses)),
            tuple(map(readable, event.hosts)), event.event_ids, event.labels,
        )  # fmt: skip
    else:
        row = _BlockRow(event.is_user, event.until_us, event.finding_id, event.step, event.is_dry_run, event.removed_us)
    return msgspec.json.encode(row).decode()


def stored_finding(
    start: _Start, action: EventAction, found: str, *, origin: str, rule: str,
    count: int,
) -> Finding:  # fmt: skip
    """
    Return the finding of a row.

    Raises:
        msgspec.MsgspecError: the column holds something else.
    """
    row = msgspec.json.decode(found, type=_FoundRow)
    if row.severity not in SEVERITIES:
        raise msgspec.ValidationError(f"there is no severity {row.severity!r}")
    return Finding(
        *start, action, row.severity, rule, origin, count, row.since_us, row.last_us, row.users, _logged(row.addresses),
        _logged(row.hosts), row.event_ids, row.labels,
    )  # fmt: skip


def stored_block(start: _Start, found: str, target: str) -> Block:
    """
    Return the block of a row.

    Raises:
        msgspec.MsgspecError: the column holds something else.
    """
    row = msgspec.json.decode(found, type=_BlockRow)
    return Block(*start, target, row.is_user, row.until_us, row.finding_id, row.step, row.is_dry_run, row.removed_us)


def _logged(texts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(text_of_bytes(text.encode()) for text in texts)
