"""Queries of ``who``, ``history`` and ``status``. They write nothing and block no writer."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from consumer.actions import SESSION_ACTIONS, EventAction
from consumer.addresses import Network, is_in, is_same_host
from consumer.errors import StoreError
from consumer.events import Attempt, Block, Canary, Event, Finding, Forged, Login, LoginCode, Logout, Probe, Trouble
from consumer.records import Line, Trusted
from consumer.selection import Selection
from consumer.state_dir import shards_in
from consumer.store.database import DELIVERY_DB, STATE_DB, reading
from consumer.store.delivery import Budget
from consumer.store.found import stored_block, stored_finding
from consumer.store.rows import Whole, checked
from consumer.text import text_of_bytes

# A session without a logged end counts as over after this time, as in the correlator: its end was lost.
OPEN_LIMIT_US = 30 * 86400 * 1_000_000
# Rows of one read. A long read makes the writer's log grow, so each page is a separate transaction.
_PAGE = 2_000
# The newest rows in which to look for keys. The limit keeps this fast, however long the history is.
_KEY_ROWS, _KEYS_LIMIT = 100_000, 1_000

_Columns = dict[str, Any]  # values of a row, by name


class _LoggedRow(msgspec.Struct, kw_only=True):
    """The common columns of an event and a session, as ``state.sql`` describes them."""

    host: str
    user: str | None
    uid: int | None
    address: str | None
    port: int | None
    method: str | None
    info: str | None
    origin: str
    ambiguous: int
    factors: str | None
    code: str | None = None


class SessionRow(_LoggedRow, kw_only=True):
    """A row of ``session``."""

    login_id: str
    opened_us: Whole
    closed_us: Whole | None


class EventRow(_LoggedRow, kw_only=True):
    """A row of ``event``, and the begin of the session that it ends."""

    id: str
    time_us: Whole
    action: str
    count: int
    reason: str | None
    login_id: str | None
    found: str | None = None
    opened_us: Whole | None = None


class Session(msgspec.Struct, frozen=True):
    """A login, and when it ended; None if it is open or sshd never logged its end."""

    login: Login
    closed_us: int | None


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


def sessions(state_dir: Path, asked: Asked) -> Iterator[Session]:
    """
    Yield logins with their ends, oldest first: those that were open at some time between the bounds.

    Raises:
        StoreError: the store does not exist or cannot be read.
    """
    for row in _rows(state_dir, "SELECT *", _SESSION, asked):
        yield session_of_row(checked(state_dir / STATE_DB, row, SessionRow))


def endless_total(state_dir: Path, user: str | None, host: str | None, now_us: int) -> int:
    """
    Return how many sessions without an end are too old to be credible.

    Raises:
        StoreError: the store does not exist or cannot be read.
    """
    with _reading(state_dir / STATE_DB) as found:
        total: int = found.execute(
            f"SELECT count(*) AS total FROM session WHERE closed_us IS NULL AND opened_us < :before AND {_WHOSE}",  # noqa: S608
            {"user": user, "host": host, "before": now_us - OPEN_LIMIT_US},
        ).fetchone()["total"]
    return total


def events(state_dir: Path, asked: Asked) -> Iterator[Event]:
    """
    Yield all events, oldest first.

    Raises:
        StoreError: the store does not exist or cannot be read.
    """
    columns = "SELECT *, (SELECT opened_us FROM session WHERE session.login_id = event.login_id) AS opened_us"
    for row in _rows(state_dir, columns, _EVENT, asked):
        event = event_of_row(checked(state_dir / STATE_DB, row, EventRow))
        if event is not None:
            yield event


def blocks_after(state_dir: Path, after_us: int, limit: int) -> list[Block]:
    """
    Return the newest blocks that end after a time, the oldest of them first.

    Raises:
        StoreError: the store does not exist or cannot be read.
    """
    found: list[Block] = []
    statement = f"SELECT * FROM event WHERE action = '{EventAction.BLOCK}' ORDER BY time_us DESC LIMIT ?"  # noqa: S608 - our own
    with _reading(state_dir / STATE_DB) as connection:
        for row in connection.execute(statement, (limit,)):
            event = event_of_row(checked(state_dir / STATE_DB, row, EventRow))
            if isinstance(event, Block) and event.until_us > after_us:
                found.append(event)
    return found[::-1]


def event_of_id(state_dir: Path, prefix: str) -> Event | None:
    """
    Return the event whose id begins with a text; None if there is none, or more than one.

    Raises:
        StoreError: the store does not exist or cannot be read.
    """
    statement = (
        "SELECT *, (SELECT opened_us FROM session WHERE session.login_id = event.login_id) AS opened_us"
        " FROM event WHERE id >= :prefix AND id < :prefix || '\U0010ffff' LIMIT 2"
    )
    with _reading(state_dir / STATE_DB) as found:
        rows = found.execute(statement, {"prefix": prefix}).fetchall()
    return event_of_row(checked(state_dir / STATE_DB, rows[0], EventRow)) if len(rows) == 1 else None


def has_canary(state_dir: Path, user: str, since_us: int) -> bool:
    """
    Return whether the failed login of a canary has arrived since a moment.

    Raises:
        StoreError: the store does not exist or cannot be read.
    """
    statement = f"SELECT 1 FROM event WHERE time_us >= ? AND action = '{EventAction.CANARY}' AND user = ?"  # noqa: S608
    with reading(state_dir / STATE_DB) as found:
        return found.execute(statement, (since_us, user)).fetchone() is not None


def keys_used(state_dir: Path, asked: Asked, here: str, *, of_events: bool) -> Iterator[Login]:
    """
    Yield one login for each user and key or certificate on this host: each user's newest, then each user's second, and so on.

    Thus a user with many keys cannot crowd out the others. This yields at most ``_KEYS_LIMIT`` logins, from the newest
    ``_KEY_ROWS`` rows that match. It reads nothing before the caller takes the first.

    Args:
        state_dir: directory of the store.
        asked: the query whose rows the command will show.
        here: this host's name.
        of_events: the query is for ``events``, not for ``sessions``.

    Raises:
        StoreError: the store does not exist or cannot be read.
    """
    kind = _EVENT if of_events else _SESSION
    table, time, key = kind
    wanted = _wanted(kind, asked)
    sessions_alone = f"AND action IN {_SESSIONS}" if of_events else ""
    # max() makes SQLite take the other columns from the newest row. The outer query reads whole rows only for the final logins.
    newest = (
        f"SELECT {key}, user, max({time}) AS newest_us"  # noqa: S608
        f" FROM (SELECT *{wanted} ORDER BY {time} DESC, {key} DESC LIMIT :rows)"
        f" WHERE info IS NOT NULL {sessions_alone} AND is_here(host) GROUP BY user, host, info"
    )
    turns = (
        f"SELECT {key}, newest_us, row_number() OVER (PARTITION BY user COLLATE NOCASE ORDER BY newest_us DESC) AS turn"  # noqa: S608
        f" FROM ({newest}) ORDER BY turn, newest_us DESC LIMIT {_KEYS_LIMIT}"
    )
    statement = f"SELECT {table}.* FROM ({turns}) JOIN {table} USING ({key}) ORDER BY turn, newest_us DESC"  # noqa: S608
    with _reading(state_dir / STATE_DB, asked.network) as found:
        found.create_function("is_here", 1, lambda host: is_same_host(host, here), deterministic=True)
        values = _values(found, kind, asked) | {"rows": min(asked.limit or _KEY_ROWS, _KEY_ROWS)}
        rows = found.execute(statement, values).fetchall()
    # All rows are read by now, because the caller may take long with each.
    for row in rows:
        if of_events:
            event = checked(state_dir / STATE_DB, row, EventRow)
            yield _login(event, event.id, event.time_us)
        else:
            yield session_of_row(checked(state_dir / STATE_DB, row, SessionRow)).login


# A table, its time, and its key.
_SESSION, _EVENT = ("session", "opened_us", "login_id"), ("event", "time_us", "id")
_FINDINGS = frozenset(action for action in EventAction if action.is_finding)
_SESSIONS = tuple(map(str, SESSION_ACTIONS))  # its repr is an SQL list
_WHOSE = "(:user IS NULL OR user = :user) AND (:host IS NULL OR host = :host)"


def _wanted(kind: tuple[str, str, str], asked: Asked) -> str:
    """Return FROM and WHERE for the rows of a query, without the limit."""
    table, time, key = kind
    wanted = (
        f" FROM {table} WHERE ({time}, {key}) > (:time, :key) AND {time} < :until AND {_WHOSE}"
        + (" AND closed_us IS NULL" if asked.only_open else "")
        + (" AND in_network(address)" if asked.network is not None else "")
    )
    if _reaches_back(kind, asked):
        wanted += " AND (opened_us >= :since OR login_id IN (SELECT value FROM json_each(:across)))"
    return wanted


def _reaches_back(kind: tuple[str, str, str], asked: Asked) -> bool:
    """Return whether sessions count that began before the first bound and were still open then."""
    return kind == _SESSION and asked.selection.since_us is not None and not asked.only_open


# Sessions that were open at a moment: of each host those that ended later, found by session_host alone; and those without an end,
# which are over after a while.
_ACROSS = """
    WITH RECURSIVE known(host) AS (
        SELECT min(host) FROM session
        UNION ALL SELECT (SELECT min(host) FROM session WHERE session.host > known.host) FROM known WHERE host IS NOT NULL
    )
    SELECT login_id, opened_us FROM known JOIN session USING (host) WHERE closed_us >= :since AND opened_us < :since
    UNION ALL SELECT login_id, opened_us FROM session
        WHERE closed_us IS NULL AND opened_us < :since AND opened_us >= :since - :open_limit
"""


def _values(found: sqlite3.Connection, kind: tuple[str, str, str], asked: Asked) -> dict[str, object]:
    """Return the values of the condition."""
    selection = asked.selection
    since_us = -(1 << 63) if selection.since_us is None else selection.since_us
    across: list[_Columns] = []
    if _reaches_back(kind, asked):
        across = found.execute(_ACROSS, {"since": since_us, "open_limit": OPEN_LIMIT_US}).fetchall()
    begun_us = [row["opened_us"] for row in across if isinstance(row["opened_us"], int)]
    first_us = min(begun_us, default=since_us)
    return {
        "time": max(first_us - 1, -(1 << 63)),
        "key": "\U0010ffff",  # greater than every id of the microsecond before
        "since": since_us,
        "until": (1 << 63) - 1 if selection.until_us is None else selection.until_us,
        "across": json.dumps([row["login_id"] for row in across if isinstance(row["login_id"], str)]),
        "user": selection.user,
        "host": selection.host,
    }


def _rows(state_dir: Path, columns: str, kind: tuple[str, str, str], asked: Asked) -> Iterator[_Columns]:
    """Yield rows in the order of their times, page by page."""
    _table, time, key = kind
    wanted = _wanted(kind, asked)
    with _reading(state_dir / STATE_DB, asked.network) as found:
        values = _values(found, kind, asked)
        if asked.limit is not None:
            # The row before the first of the limit; if there is none, all rows are within the limit.
            before = f"SELECT {time}, {key}{wanted} ORDER BY {time} DESC, {key} DESC LIMIT 1 OFFSET :limit"
            start = found.execute(before, values | {"limit": asked.limit}).fetchone()
            values |= {"time": start[time], "key": start[key]} if start is not None else {}
        page: list[_Columns] = [{}]
        while page:
            page = found.execute(f"{columns}{wanted} ORDER BY {time}, {key} LIMIT {_PAGE}", values).fetchall()
            yield from page
            if page:
                values |= {"time": page[-1][time], "key": page[-1][key]}


class _reading:  # noqa: N801 - used as a function
    """``reading``, with rows by name and an SQL function that tests addresses."""

    def __init__(self, path: Path, network: Network | None = None) -> None:
        self._reading = reading(path)
        self._network = network

    def __enter__(self) -> sqlite3.Connection:
        connection = self._reading.__enter__()
        connection.row_factory = _named
        connection.create_function("in_network", 1, partial(is_in, self._network), deterministic=True)
        return connection

    def __exit__(self, *details: object) -> bool | None:
        return self._reading.__exit__(*details)  # type: ignore[arg-type]


def _named(cursor: sqlite3.Cursor, row: tuple[Any, ...]) -> _Columns:
    return {column[0]: value for column, value in zip(cursor.description, row, strict=True)}


def session_of_row(row: SessionRow) -> Session:
    """Return the session of a row."""
    return Session(_login(row, row.login_id, row.opened_us), row.closed_us)


def _login(row: _LoggedRow, login_id: str, time_us: int) -> Login:
    try:
        code = None if row.code is None else msgspec.json.decode(row.code, type=LoginCode)
    except msgspec.MsgspecError as error:
        raise StoreError(f"{STATE_DB}: it has a value that sshbell never writes: {error}") from error
    return Login(
        login_id, _line(row, time_us), row.user, _logged(row.address), _digits(row.port), row.method, _logged(row.info), row.uid,
        factors=tuple(row.factors.split(",")) if row.factors else (), code=code,
    )  # fmt: skip


def event_of_row(row: EventRow) -> Event | None:
    """Return the event of a row, without the parts that the store does not keep; None for an unknown action."""
    line = _line(row, row.time_us)
    start = (row.id, line, row.user, _logged(row.address), _digits(row.port))
    match row.action:
        case EventAction.LOGIN:
            return _login(row, row.id, row.time_us)
        case EventAction.LOGOUT:
            return Logout(*start, _login(row, row.login_id or "", row.opened_us or 0), row.time_us)
        case EventAction.ATTEMPT:
            return Attempt(*start, row.method, count=row.count, reason=_logged(row.reason))
        case EventAction.PROBE:
            return Probe(*start, _logged(row.reason))
        case EventAction.TROUBLE:
            return Trouble(*start, row.method or "", _logged(row.reason))
        case EventAction.CANARY:
            return Canary(*start)
        case EventAction.FORGED:
            return Forged(*start, row.uid, row.reason or "", row.count)
        case action if action == EventAction.BLOCK or action in _FINDINGS:
            return _found(start, row)
    return None


def _found(start: tuple[str, Line, str | None, str | None, str | None], row: EventRow) -> Finding | Block:
    try:
        if row.action == EventAction.BLOCK:
            return stored_block(start, row.found or "", _logged(row.reason) or "")
        action, rule = EventAction(row.action), row.reason or ""
        return stored_finding(start, action, row.found or "", origin=row.origin, rule=rule, count=row.count)
    except msgspec.MsgspecError as error:
        raise StoreError(f"{STATE_DB}: it has a value that sshbell never writes: {error}") from error


def _line(row: _LoggedRow, time_us: int) -> Line:
    trusted: Trusted | None = (0, "") if row.origin == "verified" else None
    host = text_of_bytes(row.host.encode())
    nothing = (None, None, None, None, None, None, None)  # the store does not keep the fields that the rule took
    return Line((0, time_us or None, 0, 1, "", trusted, bool(row.ambiguous), "", host, "", *nothing))


def _logged(text: str | None) -> str | None:
    """Return the text of a column as events hold it: one character per byte."""
    return None if text is None else text_of_bytes(text.encode())


def _digits(number: int | None) -> str | None:
    return None if number is None else str(number)


class KeySeen(msgspec.Struct, frozen=True):
    """A key that logins of an account on a host used: ``info`` as in ``Login``, and the time of the last such login."""

    info: str | None
    user: str | None
    host: str
    last_us: Whole


def keys_seen(state_dir: Path) -> tuple[int | None, list[KeySeen]]:
    """
    Return the time of the oldest login, None if there is none, and the keys that logins used.

    Raises:
        StoreError: the store does not exist or cannot be read.
    """
    with reading(state_dir / STATE_DB) as found:
        (oldest_us,) = found.execute("SELECT min(opened_us) FROM session WHERE opened_us > 0").fetchone()
        rows = found.execute("SELECT info, user, host, max(opened_us) FROM session GROUP BY info, user, host")
        seen = [checked(state_dir / STATE_DB, dict(zip(KeySeen.__struct_fields__, row, strict=True)), KeySeen) for row in rows]
        return checked(state_dir / STATE_DB, [oldest_us], list[Whole | None])[0], [
            KeySeen(_logged(key.info), key.user, key.host, key.last_us) for key in seen
        ]


class StoreState(msgspec.Struct):
    """The figures and notes that ``run`` keeps in ``state.db``, and the messages that are not routed yet."""

    figures: dict[str, Whole]
    notes: dict[str, str]
    unrouted: int
    oldest_us: Whole | None


class ChannelState(msgspec.Struct):
    """
    A channel in ``delivery.db``. ``pending``, ``held`` and ``dead`` count messages: those to send, those in holds, dead letters.
    ``spent``: used-up budgets, with their messages.
    """

    pending: int = 0
    held: int = 0
    dead: int = 0
    oldest_us: Whole | None = None
    last_success_us: Whole | None = None
    last_error_us: Whole | None = None
    last_error: str | None = None
    spent: list[tuple[Budget, int]] = msgspec.field(default_factory=list)


def delivered(state_dir: Path) -> tuple[int, dict[str, ChannelState]]:
    """
    Return the number of the last routed message, and the state of each channel.

    Raises:
        StoreError: ``delivery.db`` does not exist or cannot be read.
    """
    channels: dict[str, ChannelState] = {}
    with reading(state_dir / DELIVERY_DB) as found:
        (seq,) = found.execute("SELECT coalesce(max(seq), 0) FROM cursor").fetchone()
        for name, *times in found.execute("SELECT name, last_success_us, last_error_us, last_error FROM channel"):
            channels[name] = ChannelState(0, 0, 0, None, *times)
        for name, state, count, oldest_us in found.execute(
            "SELECT channel, state, count(*), min(max(queued_us, free_us)) FROM delivery"
            " WHERE state = 'pending' AND hold = '' GROUP BY channel"
            " UNION ALL SELECT channel, 'held', count(*), NULL FROM delivery"
            " WHERE state = 'pending' AND hold <> '' GROUP BY channel"
            " UNION ALL SELECT channel, state, count(*), NULL FROM delivery WHERE state = 'dead' GROUP BY channel"
        ):
            channel = channels.setdefault(name, ChannelState())
            match state:
                case "dead":
                    channel.dead = count
                case "held":
                    channel.held = count
                case _:
                    channel.pending, channel.oldest_us = count, oldest_us
        for name, budget, tokens, tokens_us, count in found.execute(
            "SELECT budget.*, count(*) FROM budget JOIN delivery ON delivery.channel = budget.channel AND budget = name"
            " WHERE tokens < 1 AND state = 'pending' AND hold = '' AND seq > 0 GROUP BY budget.channel, name"
        ):
            channels.setdefault(name, ChannelState()).spent.append(
                (checked(state_dir / DELIVERY_DB, (budget, tokens, tokens_us), Budget), count)
            )
    path = state_dir / DELIVERY_DB
    return checked(path, seq, int), checked(
        path, {name: msgspec.structs.asdict(one) for name, one in channels.items()}, dict[str, ChannelState]
    )


def stored(state_dir: Path, routed_seq: int) -> StoreState:
    """
    Return the figures and notes of ``run``, and how many messages wait after ``routed_seq``. Those of shards are added.

    Raises:
        StoreError: ``state.db`` does not exist or cannot be read.
    """
    with reading(state_dir / STATE_DB) as found:
        unrouted, oldest_us = found.execute("SELECT count(*), min(queued_us) FROM outbox WHERE seq > ?", (routed_seq,)).fetchone()
        values = {
            "figures": dict(found.execute("SELECT name, value FROM status")),
            "notes": dict(found.execute("SELECT name, text FROM note")), "unrouted": unrouted, "oldest_us": oldest_us,
        }  # fmt: skip
    whole = checked(state_dir / STATE_DB, values, StoreState)
    for folder in shards_in(state_dir).values():
        with suppress(StoreError):  # sshbell status reports it
            _add(whole, stored(folder, 0))
    return whole


def _add(whole: StoreState, part: StoreState) -> None:
    """Add the figures of a shard to those of the ``run`` that gathers."""
    for name, value in part.figures.items():
        if name.endswith("_total"):
            whole.figures[name] = whole.figures.get(name, 0) + value
        elif name == "last_line_us":
            whole.figures[name] = max(whole.figures.get(name, 0), value)
    for name in ("unmatched", "unframed"):
        if text := part.notes.get(name):
            whole.notes.setdefault(name, text)
