"""Rows of ``event`` and ``session`` as events, without the parts that the store does not keep."""

import msgspec

from consumer.actions import EventAction
from consumer.errors import StoreError
from consumer.events import Attempt, Block, Canary, Event, Finding, Forged, Login, LoginCode, Logout, Probe, Trouble
from consumer.records import Line, Trusted
from consumer.store.database import STATE_DB
from consumer.store.found import stored_block, stored_finding
from consumer.store.rows import Whole
from consumer.text import text_of_bytes

_FINDINGS = frozenset(action for action in EventAction if action.is_finding)


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
    ambiguous: bool | int  # PostgreSQL has a type for it
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


def session_of_row(row: SessionRow) -> Session:
    """Return the session of a row."""
    return Session(login_of_row(row, row.login_id, row.opened_us), row.closed_us)


def login_of_row(row: _LoggedRow, login_id: str, time_us: int) -> Login:
    """Return the login of a row."""
    try:
        code = None if row.code is None else msgspec.json.decode(row.code, type=LoginCode)
    except msgspec.MsgspecError as error:
        raise StoreError(f"{STATE_DB}: it has a value that sshbell never writes: {error}") from error
    return Login(
        login_id, _line(row, time_us), row.user, text_of_column(row.address), _digits(row.port), row.method,
        text_of_column(row.info), row.uid, factors=tuple(row.factors.split(",")) if row.factors else (), code=code,
    )  # fmt: skip


def event_of_row(row: EventRow) -> Event | None:
    """Return the event of a row, without the parts that the store does not keep; None for an unknown action."""
    line = _line(row, row.time_us)
    start = (row.id, line, row.user, text_of_column(row.address), _digits(row.port))
    match row.action:
        case EventAction.LOGIN:
            return login_of_row(row, row.id, row.time_us)
        case EventAction.LOGOUT:
            return Logout(*start, login_of_row(row, row.login_id or "", row.opened_us or 0), row.time_us)
        case EventAction.ATTEMPT:
            return Attempt(*start, row.method, count=row.count, reason=text_of_column(row.reason))
        case EventAction.PROBE:
            return Probe(*start, text_of_column(row.reason))
        case EventAction.TROUBLE:
            return Trouble(*start, row.method or "", text_of_column(row.reason))
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
            return stored_block(start, row.found or "", text_of_column(row.reason) or "")
        action, rule = EventAction(row.action), row.reason or ""
        return stored_finding(start, action, row.found or "", origin=row.origin, rule=rule, count=row.count)
    except msgspec.MsgspecError as error:
        raise StoreError(f"{STATE_DB}: it has a value that sshbell never writes: {error}") from error


def _line(row: _LoggedRow, time_us: int) -> Line:
    trusted: Trusted | None = (0, "") if row.origin == "verified" else None
    host = text_of_bytes(row.host.encode())
    nothing = (None, None, None, None, None, None, None)  # the store does not keep the fields that the rule took
    return Line((0, time_us or None, 0, 1, "", trusted, bool(row.ambiguous), "", host, "", *nothing))


def text_of_column(text: str | None) -> str | None:
    """Return the text of a column as events hold it: one character per byte."""
    return None if text is None else text_of_bytes(text.encode())


def _digits(number: int | None) -> str | None:
    return None if number is None else str(number)
