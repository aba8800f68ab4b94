"""
Queries of ``who`` and ``history``. They write nothing and block no writer.

The same statements run in SQLite and in PostgreSQL. What only one of them could do, such as testing an address, is done here.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import islice
from typing import Any, NamedTuple

import msgspec

from consumer.actions import SESSION_ACTIONS, EventAction
from consumer.addresses import Network, is_in, is_same_host
from consumer.events import Block, Event, Login
from consumer.selection import Selection
from consumer.store.event_rows import EventRow, Session, SessionRow, event_of_row, login_of_row, session_of_row, text_of_column
from consumer.store.reader import Reader, Store, path_of, reader_of
from consumer.store.rows import Whole, checked
from consumer.store.state import EVENT_COLUMNS, SESSION_COLUMNS

# A session without a logged end counts as over after this time, as in the correlator: its end was lost.
OPEN_LIMIT_US = 30 * 86400 * 1_000_000
# Rows of one read. A long read makes the writer's log grow, so each page is a separate transaction.
_PAGE = 2_000
# The newest rows in which to look for keys. The limit keeps this fast, however long the history is.
_KEY_ROWS, _KEYS_LIMIT = 100_000, 1_000


class Asked(msgspec.Struct, frozen=True):
    """
    A query of the history.

    Attributes:
        limit: how many of the newest; None: all.
        only_open: only sessions without an end.
    """

    selection: Selection
    network: Network | None = None
    limit: int | None = None
    only_open: bool = False


def open_now(user: str | None, host: str | None, now_us: int) -> Asked:
    """Return the query for open sessions, without those that are too old to be credible."""
    return Asked(Selection(now_us - OPEN_LIMIT_US, None, user, host), only_open=True)


def sessions(store: Store, asked: Asked) -> Iterator[Session]:
    """
    Yield logins with their ends, oldest first: those that were open at some time between the bounds.

    Raises:
        StoreError: the store does not exist or cannot be read.
    """
    for row in _rows(store, _SESSION, asked):
        yield session_of_row(checked(path_of(store), row, SessionRow))


def endless_total(store: Store, user: str | None, host: str | None, now_us: int) -> int:
    """
    Return how many sessions without an end are too old to be credible.

    Raises:
        StoreError: the store does not exist or cannot be read.
    """
    whose, values = _whose(user, host)
    statement = f"SELECT count(*) FROM session WHERE closed_us IS NULL AND opened_us < :before{whose}"  # noqa: S608 - our own
    with closing(reader_of(store, is_optional=False)) as reader:
        ((total,),) = reader.rows(statement, values | {"before": now_us - OPEN_LIMIT_US})
    return int(total)


def events(store: Store, asked: Asked) -> Iterator[Event]:
    """
    Yield all events, oldest first.

    Raises:
        StoreError: the store does not exist or cannot be read.
    """
    for row in _rows(store, _EVENT, asked):
        event = event_of_row(checked(path_of(store), row, EventRow))
        if event is not None:
            yield event


def blocks_after(store: Store, after_us: int, limit: int) -> list[Block]:
    """
    Return the newest blocks that end after a time, the oldest of them first.

    Raises:
        StoreError: the store does not exist or cannot be read.
    """
    found: list[Block] = []
    columns = ", ".join(EVENT_COLUMNS)
    statement = f"SELECT {columns} FROM event WHERE action = '{EventAction.BLOCK}' ORDER BY time_us DESC, id DESC LIMIT ?"  # noqa: S608 - our own
    with closing(reader_of(store, is_optional=False)) as reader:
        rows = reader.rows(statement, (limit,))
    for row in rows:
        event = event_of_row(checked(path_of(store), _named(EVENT_COLUMNS, row), EventRow))
        if isinstance(event, Block) and event.until_us > after_us:
            found.append(event)
    return found[::-1]


def event_of_id(store: Store, prefix: str) -> Event | None:
    """
    Return the event whose id begins with a text; None if there is none, or more than one.

    Raises:
        StoreError: the store does not exist or cannot be read.
    """
    with closing(reader_of(store, is_optional=False)) as reader:
        # An id has hexadecimal digits alone, so those that begin with a text are the next ones in any order of letters.
        rows = reader.rows(f"SELECT {_EVENT.columns} FROM event WHERE id >= ? ORDER BY id LIMIT 2", (prefix,))  # noqa: S608
    found = [row for row in rows if str(row[0]).startswith(prefix)]
    return event_of_row(checked(path_of(store), _named(_EVENT.names, found[0]), EventRow)) if len(found) == 1 else None


def has_canary(store: Store, user: str, since_us: int) -> bool:
    """
    Return whether the failed login of a canary has arrived since a moment.

    Raises:
        StoreError: the store does not exist or cannot be read.
    """
    statement = f"SELECT 1 FROM event WHERE time_us >= ? AND action = '{EventAction.CANARY}' AND user = ?"  # noqa: S608
    with closing(reader_of(store, is_optional=False)) as reader:
        return bool(reader.rows(statement, (since_us, user)))


def keys_used(store: Store, asked: Asked, here: str, *, of_events: bool) -> Iterator[Login]:
    """
    Yield one login for each user and key or certificate on this host: each user's newest, then each user's second, and so on.

    Thus a user with many keys cannot crowd out the others. This yields at most ``_KEYS_LIMIT`` logins, from the newest
    ``_KEY_ROWS`` rows that match. It reads nothing before the caller takes the first.

    Args:
        store: where the rows are.
        asked: the query whose rows the command will show.
        here: this host's name.
        of_events: the query is for ``events``, not for ``sessions``.

    Raises:
        StoreError: the store does not exist or cannot be read.
    """
    kind = _EVENT if of_events else _SESSION
    more = ", user, host, info, " + ("action" if of_events else f"'{EventAction.LOGIN}'")
    with closing(reader_of(store, is_optional=False)) as reader:
        newest: dict[tuple[str | None, str, str], str] = {}
        rows = islice(_newest(reader, kind, asked, *_wanted(reader, kind, asked), more), min(asked.limit or _KEY_ROWS, _KEY_ROWS))
        for _time_us, key, _address, user, host, info, action in rows:
            if info is not None and action in SESSION_ACTIONS and is_same_host(str(host), here):
                newest.setdefault((user, host, info), key)
        # The number of the key among those of the user; the newest first.
        turns: dict[str, int] = {}
        wanted: list[tuple[int, str]] = []
        for (user, _host, _info), key in newest.items():
            name = str(user or "").lower()
            turns[name] = turn = turns.get(name, 0) + 1
            wanted.append((turn, key))
        keys = [key for _turn, key in sorted(wanted, key=lambda each: each[0])[:_KEYS_LIMIT]]
        statement = f"SELECT {kind.columns} FROM {kind.table} WHERE {kind.key} IN (SELECT value FROM json_each(?))"  # noqa: S608
        found = {row[0]: _named(kind.names, row) for row in reader.rows(statement, (json.dumps(keys),))}
    # All rows are read by now, because the caller may take long with each.
    for row in [found[key] for key in keys if key in found]:
        if of_events:
            event = checked(path_of(store), row, EventRow)
            yield login_of_row(event, event.id, event.time_us)
        else:
            yield session_of_row(checked(path_of(store), row, SessionRow)).login


class _Kind(NamedTuple):
    """A table, its time, its key, and the columns to read, of which the key is the first."""

    table: str
    time: str
    key: str
    names: tuple[str, ...]
    columns: str


_SESSION = _Kind("session", "opened_us", "login_id", SESSION_COLUMNS, ", ".join(SESSION_COLUMNS))
_EVENT = _Kind(
    "event", "time_us", "id", (*EVENT_COLUMNS, "opened_us"),
    ", ".join((*EVENT_COLUMNS, "(SELECT opened_us FROM session WHERE session.login_id = event.login_id)")),
)  # fmt: skip


def _named(names: Sequence[str], row: Sequence[object]) -> dict[str, object]:
    return dict(zip(names, row, strict=True))


def _whose(user: str | None, host: str | None) -> tuple[str, dict[str, object]]:
    """Return the condition for a user and a host, and its values."""
    given: dict[str, object] = {name: value for name, value in (("user", user), ("host", host)) if value is not None}
    return "".join(f" AND {name} = :{name}" for name in given), given


def _wanted(reader: Reader, kind: _Kind, asked: Asked) -> tuple[str, dict[str, object]]:
    """Return FROM and WHERE for the rows of a query, without limit and network, and the values."""
    selection = asked.selection
    whose, values = _whose(selection.user, selection.host)
    wanted = f" FROM {kind.table} WHERE ({kind.time}, {kind.key}) > (:time, :key) AND {kind.time} < :until{whose}"
    since_us = first_us = -(1 << 63) if selection.since_us is None else selection.since_us
    if asked.only_open:
        wanted += " AND closed_us IS NULL"
    elif kind is _SESSION and selection.since_us is not None:
        # Sessions count that began before the first bound and were still open then.
        wanted += " AND (opened_us >= :since OR login_id IN (SELECT value FROM json_each(:across)))"
        across = reader.rows(_ACROSS, {"since": since_us, "oldest": since_us - OPEN_LIMIT_US})
        first_us = min((opened_us for _id, opened_us in across if isinstance(opened_us, int)), default=since_us)
        values |= {"since": since_us, "across": json.dumps([login_id for login_id, _us in across if isinstance(login_id, str)])}
    # Every id is greater than an empty one.
    return wanted, values | {
        "time": first_us, "key": "", "until": (1 << 63) - 1 if selection.until_us is None else selection.until_us,
    }  # fmt: skip


# Sessions that were open at a moment: of each host those that ended later, found by session_host alone; and those without an end,
# which are over after a while.
_ACROSS = """
    WITH RECURSIVE known(host) AS (
        SELECT min(host) FROM session
        UNION ALL SELECT (SELECT min(host) FROM session WHERE session.host > known.host) FROM known WHERE host IS NOT NULL
    )
    SELECT login_id, opened_us FROM known JOIN session USING (host) WHERE closed_us >= :since AND opened_us < :since
    UNION ALL SELECT login_id, opened_us FROM session
        WHERE closed_us IS NULL AND opened_us < :since AND opened_us >= :oldest
"""


def _newest(
    reader: Reader, kind: _Kind, asked: Asked, wanted: str, values: dict[str, object], more: str = ""
) -> Iterator[tuple[Any, ...]]:
    """Yield time, key, address and further columns of the rows of a query, newest first, page by page."""
    order = f"ORDER BY {kind.time} DESC, {kind.key} DESC LIMIT {_PAGE}"
    page = reader.rows(f"SELECT {kind.time}, {kind.key}, address{more}{wanted} {order}", values)
    below = f"{wanted} AND ({kind.time}, {kind.key}) < (:last, :lastkey)"
    while page:
        yield from (row for row in page if is_in(asked.network, row[2]))
        last_us, last_key = page[-1][:2]
        page = reader.rows(
            f"SELECT {kind.time}, {kind.key}, address{more}{below} {order}", values | {"last": last_us, "lastkey": last_key}
        )


def _rows(store: Store, kind: _Kind, asked: Asked) -> Iterator[dict[str, object]]:
    """Yield rows in the order of their times, page by page."""
    time, address = kind.names.index(kind.time), kind.names.index("address")
    with closing(reader_of(store, is_optional=False)) as reader:
        wanted, values = _wanted(reader, kind, asked)
        if asked.limit is not None:
            # The row before the first of the limit; if there is none, all rows are within the limit.
            before = islice(_newest(reader, kind, asked, wanted, values), asked.limit, None)
            start = next(before, None)
            values |= {"time": start[0], "key": start[1]} if start is not None else {}
        statement = f"SELECT {kind.columns}{wanted} ORDER BY {kind.time}, {kind.key} LIMIT {_PAGE}"
        while page := reader.rows(statement, values):
            yield from (_named(kind.names, row) for row in page if is_in(asked.network, row[address]))
            values |= {"time": page[-1][time], "key": page[-1][0]}


class KeySeen(msgspec.Struct, frozen=True):
    """A key that logins of an account on a host used: ``info`` as in ``Login``, and the time of the last such login."""

    info: str | None
    user: str | None
    host: str
    last_us: Whole


def keys_seen(store: Store) -> tuple[int | None, list[KeySeen]]:
    """
    Return the time of the oldest login, None if there is none, and the keys that logins used.

    Raises:
        StoreError: the store does not exist or cannot be read.
    """
    with closing(reader_of(store, is_optional=False)) as reader:
        ((oldest_us,),) = reader.rows("SELECT min(opened_us) FROM session WHERE opened_us > 0")
        rows = reader.rows("SELECT info, user, host, max(opened_us) FROM session GROUP BY info, user, host")
    seen = [checked(path_of(store), _named(KeySeen.__struct_fields__, row), KeySeen) for row in rows]
    return checked(path_of(store), [oldest_us], list[Whole | None])[0], [
        KeySeen(text_of_column(key.info), key.user, key.host, key.last_us) for key in seen
    ]
