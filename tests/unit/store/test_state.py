"""What ``run`` keeps: written twice it is there once; old and surplus rows go; no text of a client changes a statement."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from consumer.ecs import json_line
from consumer.errors import DamagedStoreError, StoreError
from consumer.events import Attempt, Login, LoginCode, Logout
from consumer.events_as_ecs import of_event
from consumer.records import HOST
from consumer.selection import Selection
from consumer.store import database
from consumer.store import state as state_module
from consumer.store.database import open_for_writing, reading, set_aside_of, used_bytes
from consumer.store.outbox import Outbox
from consumer.store.queries import Asked, sessions
from consumer.store.queries import events as stored_events
from consumer.store.state import State
from consumer.text import text_of_bytes
from tests.store_events import DAY_US, KEY, START_US, events_of, forged_line, line, probe_line, session_lines, try_line

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOW_US = START_US + DAY_US
TOLD = frozenset({"ssh_login", "ssh_forged"})
# One of each kind.
LINES = [*session_lines(4711), try_line(5), probe_line(6), forged_line()]


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    """Return a new store; that something is set aside is a failure."""
    with closing(State(tmp_path, pytest.fail)) as found:
        yield found


def rows(tmp_path: Path, statement: str) -> list[tuple[Any, ...]]:
    """Ask ``state.db`` as another process would."""
    with reading(tmp_path / "state.db") as connection:
        return connection.execute(statement).fetchall()


def everything(tmp_path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Return all that is kept."""
    return {table: rows(tmp_path, f"SELECT * FROM {table} ORDER BY 1") for table in ("event", "session", "outbox")}  # noqa: S608


def test_a_session(state: State, tmp_path: Path) -> None:
    """A login opens a session, which its logout closes; both are in the ledger."""
    login, logout = events_of(*session_lines(4711))
    state.record([login], TOLD, NOW_US)
    session = (
        login.id, "web1", "alice", 1001, "192.0.2.7", 4711, "publickey", KEY, "unverified", 0, START_US,
    )  # fmt: skip
    assert rows(tmp_path, "SELECT * FROM session") == [(*session, None, None, None)]
    state.record([logout], TOLD, NOW_US)
    assert rows(tmp_path, "SELECT * FROM session") == [(*session, START_US + 600_000_000, None, None)]
    assert rows(tmp_path, "SELECT id, action, time_us, login_id FROM event ORDER BY time_us") == [
        (login.id, "ssh_login", START_US, None),
        (logout.id, "ssh_logout", START_US + 600_000_000, login.id),
    ]


def test_factors(state: State, tmp_path: Path) -> None:
    """Of a login with several factors all are kept in their order, and given back; others have none."""
    partial = line(START_US, 4711, f"Partial publickey for alice from 192.0.2.7 port 4711 ssh2: {KEY}")
    events = events_of(partial, *session_lines(4711, method="keyboard-interactive/pam", info=""), *session_lines(12))
    state.record(events, TOLD, NOW_US)
    kept = "publickey,keyboard-interactive/pam"
    assert rows(tmp_path, "SELECT factors FROM event WHERE port = 4711") == [(kept,), (kept,)]
    assert rows(tmp_path, "SELECT port, factors FROM session ORDER BY port") == [(12, None), (4711, kept)]
    asked = Asked(Selection(None, None, None, None))
    found = {session.login.port: session.login.factors for session in sessions(tmp_path, asked)}
    assert found == {"12": (), "4711": ("publickey", "keyboard-interactive/pam")}


CODE = LoginCode("accepted", "ops", "482913", 14)


def test_codes(state: State, tmp_path: Path) -> None:
    """The one-time code of a login is kept, and given back; others have none. A value that sshbell never writes is an error."""
    (login, logout), *others = events_of(*session_lines(4711)), *events_of(*session_lines(12))
    assert isinstance(login, Login)
    assert isinstance(logout, Logout)
    login = msgspec.structs.replace(login, code=CODE)
    state.record([login, msgspec.structs.replace(logout, login=login), *others], TOLD, NOW_US)
    asked = Asked(Selection(None, None, None, None))
    assert {session.login.port: session.login.code for session in sessions(tmp_path, asked)} == {"12": None, "4711": CODE}
    assert [event.code for event in stored_events(tmp_path, asked) if isinstance(event, Login)] == [None, CODE]
    with closing(sqlite3.connect(tmp_path / "state.db")) as connection, connection:
        connection.execute("UPDATE session SET code = '[]' WHERE code IS NOT NULL")
    with pytest.raises(StoreError, match="never writes"):
        list(sessions(tmp_path, asked))


def test_every_kind(state: State, tmp_path: Path) -> None:
    """The ledger has what each event says."""
    state.record(events_of(*LINES), TOLD, NOW_US)
    columns = "action, host, user, uid, address, port, method, origin, count, reason, ambiguous"
    assert {row[0]: row[1:] for row in rows(tmp_path, f"SELECT {columns} FROM event")} == {  # noqa: S608
        "ssh_login": ("web1", "alice", 1001, "192.0.2.7", 4711, "publickey", "unverified", 1, None, 0),
        "ssh_logout": ("web1", "alice", 1001, "192.0.2.7", 4711, "publickey", "unverified", 1, None, 0),
        "ssh_attempt": ("web1", "root", None, "198.51.100.9", 6, "password", "unverified", 1, None, 0),
        "ssh_probe": ("web1", None, None, "198.51.100.77", 6, None, "unverified", 1, "invalid format", 0),
        "ssh_forged": ("web1", "root", 1012, "203.0.113.66", 40022, None, "forged", 1, "accepted", 0),
    }


def test_twice_is_once(state: State, tmp_path: Path) -> None:
    """Whatever is recorded again, in whatever order and company, changes nothing and is not told again."""
    events = events_of(*LINES)
    assert state.record(events, TOLD, NOW_US) == 2
    before = everything(tmp_path)
    assert len(before["event"]) == 5
    assert state.record(events, TOLD, NOW_US + 1) == 0
    assert state.record(reversed(events), TOLD, NOW_US + 2) == 0
    for event in events:
        assert state.record([event, event], TOLD | {"ssh_attempt", "ssh_logout", "ssh_probe"}, NOW_US + 3) == 0
    assert everything(tmp_path) == before


def test_a_login_again_opens_no_session_again(state: State, tmp_path: Path) -> None:
    """A session that is over stays so when its login is read again, and one whose logout came first is known."""
    login, logout = events_of(*session_lines(4711))
    for order in ([login, logout, login], [logout, login]):
        state.record(order, TOLD, NOW_US)
        assert rows(tmp_path, "SELECT closed_us FROM session") == [(START_US + 600_000_000,)]


def test_outbox(state: State, tmp_path: Path) -> None:
    """What is to be told stands in the outbox in its order, as ``replay --format json`` writes it; the rest does not."""
    events = events_of(*LINES, *session_lines(77, "bob"))
    assert state.record(events, TOLD, NOW_US) == 3
    told = [event for event in events if event.action in TOLD]
    with closing(Outbox(tmp_path)) as outbox:
        found = outbox.since(0, 100)
        assert [tuple(row)[1:] for row in found] == [
            (event.id, event.action, NOW_US, json_line(of_event(event, []))) for event in told
        ]
        assert outbox.since(found[0].seq, 1) == found[1:2]
        assert outbox.since(found[-1].seq, 100) == []


def test_numbers_of_the_outbox_are_never_used_again(state: State, tmp_path: Path) -> None:
    """``deliver`` remembers a number: what comes after an emptied outbox has a higher one."""
    state.record([], frozenset(), NOW_US, ("test-1", "sshbell_test", b"{}"))
    state.forget(NOW_US + 1)
    state.record([], frozenset(), NOW_US, ("test-2", "sshbell_test", b"{}"))
    state.record([], frozenset(), NOW_US, ("test-2", "sshbell_test", b"{}"))
    assert rows(tmp_path, "SELECT seq, event_id FROM outbox") == [(2, "test-2")]


def deliver(tmp_path: Path, *statements: str) -> None:
    """Write to ``delivery.db`` as ``deliver`` does."""
    with closing(open_for_writing(tmp_path / "delivery.db", pytest.fail)) as connection:
        for statement in statements:
            connection.execute(statement)


PENDING = "INSERT INTO delivery VALUES ('{id}', 'ops', {seq}, '{state}', 0, 1, 1, NULL, NULL, NULL, '', '', '', 0, 0)"


def test_a_new_file_goes_on_behind_what_is_routed(tmp_path: Path) -> None:
    """When ``state.db`` is set aside or lost, ``deliver`` still sees what comes: numbers do not begin anew."""
    deliver(tmp_path, "UPDATE cursor SET seq = 500")
    for seq in (501, 502):
        with closing(State(tmp_path, pytest.fail)) as state:
            state.record([], frozenset(), NOW_US, (f"test-{seq}", "sshbell_test", b"{}"))
            assert rows(tmp_path, "SELECT max(seq) FROM outbox") == [(seq,)]
    (tmp_path / "state.db").write_bytes(b"garbage " * 999)
    with closing(State(tmp_path, lambda _text: None)) as state:
        state.record([], frozenset(), NOW_US, ("test-3", "sshbell_test", b"{}"))
        assert rows(tmp_path, "SELECT seq FROM outbox") == [(501,)]
        state.renew("x")
        state.record([], frozenset(), NOW_US, ("test-4", "sshbell_test", b"{}"))
        assert rows(tmp_path, "SELECT seq FROM outbox") == [(501,)]


def test_numbers_of_delivery_db_that_begin_at_a_base(state: State, tmp_path: Path) -> None:
    """Where ``deliver`` counts on from an earlier ``state.db``, what still waits of this one stays all the same."""
    for number in range(1, 4):
        state.record([], frozenset(), NOW_US, (f"m{number}", "sshbell_test", b"{}"))
    deliver(
        tmp_path, "UPDATE cursor SET seq = 3, base = 700", PENDING.format(id="old", seq=650, state="pending"),
        PENDING.format(id="m2", seq=702, state="pending"),
    )  # fmt: skip
    state.forget_delivered()
    assert rows(tmp_path, "SELECT seq FROM outbox ORDER BY seq") == [(2,), (3,)]


def test_logins_that_deliver_has_routed_ahead_of_noise(tmp_path: Path) -> None:
    """The noise that ``deliver`` has passed stays; a new file goes on behind all that ``deliver`` has seen."""
    with closing(State(tmp_path, pytest.fail)) as state:
        for number, action in enumerate(["ssh_login", "ssh_attempt", "ssh_login", "ssh_attempt"], 1):
            state.record([], frozenset(), NOW_US, (f"m{number}", action, b"{}"))
        deliver(
            tmp_path, "UPDATE cursor SET seq = 1, event_id = 'm1', ahead = 3, ahead_id = 'm3'",
            PENDING.format(id="m3", seq=3, state="sent"),
        )  # fmt: skip
        state.forget_delivered()
        assert rows(tmp_path, "SELECT seq FROM outbox ORDER BY seq") == [(2,), (3,), (4,)]
    for path in tmp_path.glob("state.db*"):
        path.unlink()
    with closing(State(tmp_path, pytest.fail)) as state:
        state.record([], frozenset(), NOW_US, ("n1", "ssh_login", b"{}"))
        assert rows(tmp_path, "SELECT seq FROM outbox ORDER BY seq") == [(4,)]


def test_delivered_messages_are_forgotten(state: State, tmp_path: Path) -> None:
    """What is before the first that still waits goes; where nobody knows what waits, nothing goes."""
    for number in range(1, 6):
        state.record([], frozenset(), NOW_US, (f"m{number}", "sshbell_test", b"{}"))

    def left() -> list[int]:
        state.forget_delivered()
        return [seq for (seq,) in rows(tmp_path, "SELECT seq FROM outbox ORDER BY seq")]

    assert left() == [1, 2, 3, 4, 5]
    deliver(
        tmp_path, "UPDATE cursor SET seq = 4", PENDING.format(id="ring", seq=0, state="pending"),
        PENDING.format(id="m1", seq=1, state="sent"), PENDING.format(id="m2", seq=2, state="pending"),
        PENDING.format(id="m3", seq=3, state="dead"),
    )  # fmt: skip
    assert left() == [2, 3, 4, 5]
    deliver(tmp_path, "UPDATE delivery SET state = 'sent' WHERE event_id = 'm2'")
    assert left() == [5]
    (tmp_path / "delivery.db").write_bytes(b"garbage " * 999)
    assert left() == [5]


def test_nothing_is_half_recorded(state: State, tmp_path: Path) -> None:
    """A batch of which one event cannot be made is not recorded at all."""

    def broken() -> Iterator[Any]:
        yield from events_of(*LINES)
        raise StoreError("x")

    with pytest.raises(StoreError):
        state.record(broken(), TOLD, NOW_US)
    assert everything(tmp_path) == {"event": [], "session": [], "outbox": []}
    assert state.record(events_of(*LINES), TOLD, NOW_US) == 2


HOSTILE = [
    "x'); DROP TABLE event; --",
    '" OR ""="',
    "?1 :user %s {0}",
    r"nul\000byte",
    r"esc\033[2J\r\n",
    r"\342\200\256rtl",
    r"\377\376",
    r"\355\240\200 half a surrogate",
    "=cmd|' /C calc'!A0",
    "a" * 99,
    "",
    " ",
]


@pytest.mark.parametrize("user", HOSTILE)
def test_hostile_names(state: State, tmp_path: Path, user: str) -> None:
    """Whatever a client calls itself stands in the columns as in the event."""
    events = events_of(
        *session_lines(4711, user),
        try_line(5, f"invalid user {user}"),
        line(START_US, 9, f"Invalid user {user} from 192.0.2.1 port 9"),
    )
    assert events
    state.record(events, TOLD | {"ssh_attempt"}, NOW_US)
    assert sorted(map(str, rows(tmp_path, "SELECT id, user FROM event"))) == sorted(
        str((event.id, event.user)) for event in events
    )
    for (body,) in rows(tmp_path, "SELECT body FROM outbox"):
        assert json.loads(body)["user"]["name"] in {event.user for event in events}


def test_hostile_other_texts(state: State, tmp_path: Path) -> None:
    r"""Bytes that are not UTF-8 in a host, an address or a reason are kept as ``\xNN``."""
    (login,) = events_of(*session_lines(4711, lasts_s=None))
    raw = text_of_bytes(b"w\xc3\xbc\xff")
    place = (*login.line[:HOST], raw, *login.line[HOST + 1 :])
    state.record([msgspec.structs.replace(login, line=place, address=raw, info=raw)], TOLD, NOW_US)
    expected = "w\u00fc\\xff"
    assert rows(tmp_path, "SELECT host, address, info FROM session") == [(expected,) * 3]
    assert rows(tmp_path, "SELECT host, address, info FROM event") == [(expected,) * 3]


def test_numbers_beyond_a_column(state: State, tmp_path: Path) -> None:
    """A uid or a count that no column can hold loses neither the event nor its batch."""
    huge = "9" * 19
    events = events_of(
        *session_lines(4711)[:1],
        line(START_US, 4711, f"pam_unix(sshd:session): session opened for user alice(uid={huge}) by (uid=0)"),
    )
    (login,) = events
    assert isinstance(login, Login)
    assert login.uid == int(huge)
    (attempt,) = events_of(try_line(5))
    assert isinstance(attempt, Attempt)
    state.record([login, msgspec.structs.replace(attempt, count=1 << 70)], TOLD, NOW_US)
    assert rows(tmp_path, "SELECT action, uid, count FROM event ORDER BY action") == [
        ("ssh_attempt", None, (1 << 63) - 1), ("ssh_login", None, 1),
    ]  # fmt: skip


def test_an_event_without_a_time(state: State, tmp_path: Path) -> None:
    """It is kept; its time is 0."""
    (login,) = events_of(b"web1 sshd[3]: " + session_lines(3)[0].partition(b": ")[2])
    assert login.time_us == 0
    state.record([login], TOLD, NOW_US)
    assert rows(tmp_path, "SELECT time_us FROM event") == rows(tmp_path, "SELECT opened_us FROM session") == [(0,)]


def test_forgotten_by_age(state: State, tmp_path: Path) -> None:
    """What is older than asked goes. A session is as old as its end, and one without an end stays."""
    old, new = START_US - 10 * DAY_US, START_US
    ended = events_of(*session_lines(1, "ended", at_us=old))
    across = events_of(*session_lines(2, "across", at_us=old, lasts_s=10 * 86400))
    still_in = events_of(*session_lines(3, "still-in", at_us=old, lasts_s=None))
    recent = events_of(*session_lines(4, "recent", at_us=new), try_line(5, at_us=old))
    state.record([*ended, *across, *still_in], TOLD, old)
    state.record(recent, TOLD, new)
    state.forget(START_US - DAY_US)
    assert rows(tmp_path, "SELECT user FROM session ORDER BY user") == [("across",), ("recent",), ("still-in",)]
    assert rows(tmp_path, "SELECT user, action FROM event ORDER BY 1, 2") == [
        ("across", "ssh_logout"), ("recent", "ssh_login"), ("recent", "ssh_logout"),
    ]  # fmt: skip
    assert rows(tmp_path, "SELECT queued_us FROM outbox") == [(new,)]


def test_forgotten_by_size(state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bounds the oldest go; a flood of tries pushes no login out, neither of the ledger nor of the outbox."""
    monkeypatch.setattr(state_module, "EVENT_LIMIT", 20)
    monkeypatch.setattr(state_module, "OUTBOX_LIMIT", 15)
    monkeypatch.setattr(state_module, "SESSION_LIMIT", 3)
    logins = [
        event
        for number in range(5)
        for event in events_of(*session_lines(number + 1, at_us=START_US + number * 1_000_000, lasts_s=None))
    ]
    tries = events_of(*(try_line(pid + 10, at_us=START_US + pid * 1_000_000 + 60_000_000) for pid in range(100)))
    assert len(tries) == 100
    state.record([*logins, *tries], TOLD | {"ssh_attempt"}, NOW_US)
    state.forget(0)
    newest = sorted(tries, key=lambda event: event.time_us)
    assert rows(tmp_path, "SELECT id FROM event ORDER BY time_us") == [(event.id,) for event in [*logins, *newest[-15:]]]
    assert rows(tmp_path, "SELECT event_id FROM outbox ORDER BY seq") == [
        (event.id,) for event in [*logins, *[event for event in tries if event in newest[-10:]]]
    ]
    assert rows(tmp_path, "SELECT opened_us FROM session ORDER BY 1") == [(event.time_us,) for event in logins[-3:]]
    # Where nothing but logins is left, the oldest of them go.
    monkeypatch.setattr(state_module, "EVENT_LIMIT", 3)
    state.forget(0)
    assert rows(tmp_path, "SELECT id FROM event ORDER BY time_us") == [(event.id,) for event in logins[-3:]]


def long_forged(number: int) -> bytes:
    """
    Return the line of a user who claims to be sshd, with a name as long as may be, in bytes that are not UTF-8.

    Each is from another host, because sshbell counts those of one host in few events.
    """
    name = f"{number:08}".encode() + b"\xff" * 1800
    message = b"pam_unix(sshd:session): session opened for user " + name + b"(uid=0) by (uid=0) @[_PID=3377 _UID=1012 _GID=1012]"
    return line(START_US + number * 1_000_000, 1, "x", host=f"web{number}").replace(b": x", b": " + message)


def test_forgotten_by_bytes(state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the rows of a flood are, the file has its bound; tries and forged lines go first, and the oldest of them."""
    monkeypatch.setattr(state_module, "STATE_LIMIT_BYTES", 2 << 20)
    monkeypatch.setattr(state_module, "_PIECE", 10)
    logins = events_of(*session_lines(4711), *session_lines(4712, "bob"))
    forged = events_of(*(long_forged(number) for number in range(1000)))
    assert len(forged) == 1000
    state.record([*logins, *forged], TOLD, NOW_US)
    assert used_bytes(state._connection) > 4 * (2 << 20)
    while state.forget(0):
        pass
    assert (2 << 20) * 0.9 < used_bytes(state._connection) <= 2 << 20
    left = rows(tmp_path, "SELECT action, id FROM event ORDER BY time_us")
    assert left[-1] == ("ssh_forged", forged[-1].id)
    assert [action for action, _ in left if action != "ssh_forged"] == ["ssh_login", "ssh_login", "ssh_logout", "ssh_logout"]
    assert 100 < len(left) < 500
    # Where nothing but logins is left, all tables give up their oldest.
    monkeypatch.setattr(state_module, "STATE_LIMIT_BYTES", 0)
    while state.forget(0):
        pass
    assert [rows(tmp_path, f"SELECT count(*) FROM {table}") for table in ("event", "session", "outbox")] == [[(0,)]] * 3  # noqa: S608
    assert not state.forget(0)


def test_forgotten_piece_by_piece(state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much there is to forget, rsyslog does not wait longer than it may: what there is no time for is done later."""
    state.record(events_of(*(try_line(pid, at_us=START_US + pid * 1_000_000) for pid in range(1, 11))), TOLD, NOW_US)
    monkeypatch.setattr(state_module, "_PIECE", 4)
    monkeypatch.setattr(state_module, "_FORGET_S", -1.0)
    left = []
    while state.forget(START_US + 8 * 1_000_000):
        left += rows(tmp_path, "SELECT count(*) FROM event")
    assert left == [(6,), (3,)]
    monkeypatch.setattr(state_module, "EVENT_LIMIT", 1)
    assert state.forget(0)
    assert rows(tmp_path, "SELECT count(*), max(time_us) FROM event") == [(1, START_US + 10_000_000)]
    assert not state.forget(0)


def snapshot(state: State) -> dict[str, list[bytes]]:
    """Return all parts, each with its pieces."""
    return {part: list(pieces) for part, pieces in state.snapshot()}


def test_snapshot(state: State) -> None:
    """Parts are kept, replaced and forgotten together; others stay as they are."""
    assert snapshot(state) == {}
    state.keep_snapshot([("connections", [b"1", b"2", b"3"]), ("position", [b"\x00\xff"]), ("old", [b"x"])])
    assert snapshot(state) == {"connections": [b"1", b"2", b"3"], "position": [b"\x00\xff"], "old": [b"x"]}
    state.keep_snapshot([("connections", [b"4", b"5"]), ("old", []), ("never", [])])
    assert snapshot(state) == {"connections": [b"4", b"5"], "position": [b"\x00\xff"]}
    state.keep_snapshot([])
    assert len(snapshot(state)) == 2


def test_a_snapshot_is_all_or_nothing(state: State, tmp_path: Path) -> None:
    """A part that cannot be kept leaves the snapshot before; durability is as it was."""
    state.keep_snapshot([("a", [b"1"])])
    with closing(sqlite3.connect(tmp_path / "state.db")) as other:
        other.execute(
            "CREATE TRIGGER wrong BEFORE INSERT ON snapshot WHEN new.part = 'wrong' BEGIN SELECT RAISE(ABORT, 'no'); END"
        )
    with pytest.raises(StoreError, match=r"state\.db: no"):
        state.keep_snapshot([("a", [b"2"]), ("wrong", [b"x"])])
    assert snapshot(state) == {"a": [b"1"]}
    assert state._connection.execute("PRAGMA synchronous").fetchone() == (1,)


def test_figures_and_notes(state: State, tmp_path: Path) -> None:
    """Figures and notes are replaced by name."""
    state.set_status({"lines_total": 1, "pid": 5})
    state.set_status({"lines_total": 2})
    state.set_notes({"version": "0.1", "other": "a\nb"})
    state.set_notes({"version": "0.2"})
    assert rows(tmp_path, "SELECT * FROM status WHERE name <> 'created_us' ORDER BY name") == [("lines_total", 2), ("pid", 5)]
    assert rows(tmp_path, "SELECT * FROM note ORDER BY name") == [("other", "a\nb"), ("version", "0.2")]


def test_all_is_there_after_a_kill(state: State, tmp_path: Path) -> None:
    """What ``record`` has returned for is found by whoever opens the file next, without an orderly end before."""
    state.record(events_of(*LINES), TOLD, NOW_US)
    before = everything(tmp_path)
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("state.db", "state.db-wal"):
        (copy / name).write_bytes((tmp_path / name).read_bytes())
    with closing(State(copy, pytest.fail)):
        assert everything(copy) == before


def test_damaged_in_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is damaged while it is open is known as such, and a new one takes its place; what failed can be done again."""
    said: list[str] = []
    events = events_of(*LINES)
    with closing(State(tmp_path, said.append)) as state:
        state.record(events_of(*(try_line(pid) for pid in range(2000))), TOLD, NOW_US)
    with closing(State(tmp_path, said.append)) as state:
        with (tmp_path / "state.db").open("r+b") as file:
            size = file.seek(0, 2)
            file.seek(4096)
            file.write(bytes(size - 4096))
        state._connection.execute("PRAGMA shrink_memory")
        with pytest.raises(DamagedStoreError, match=r"state\.db: database disk image is malformed") as caught:
            state.record(events, TOLD, NOW_US)
        assert said == []
        # First there is no room for a new one; that is tried again, and nothing else is set aside.
        with monkeypatch.context() as patch:
            patch.setattr(database, "schema_of", lambda _name: "PRAGMA max_page_count = 1; CREATE TABLE a (b);")
            for _ in range(3):
                with pytest.raises(StoreError, match="full"):
                    state.renew(str(caught.value))
        state.renew(str(caught.value))
        assert state.record(events, TOLD, NOW_US) == 2
    assert len(said) == len(set_aside_of(tmp_path / "state.db")) == 1
    assert len(everything(tmp_path)["event"]) == 5
    with closing(State(tmp_path, pytest.fail)) as state:
        assert state.record(events, TOLD, NOW_US) == 0


def test_errors_are_of_the_store(state: State) -> None:
    """Whatever SQLite says becomes a StoreError, which makes rsyslog wait."""
    state._connection.executescript(
        "DROP TABLE event; DROP TABLE snapshot; DROP TABLE status; DROP TABLE note; DROP TABLE outbox"
    )
    (login,) = events_of(*session_lines(4711, lasts_s=None))
    for call in (
        lambda: state.record([login], TOLD, NOW_US),
        lambda: snapshot(state),
        lambda: state.keep_snapshot([("a", [b""])]),
        lambda: state.set_status({"a": 1}),
        lambda: state.set_notes({"a": "b"}),
        lambda: state.record([], frozenset(), 1, ("a", "sshbell_test", b"")),
        lambda: state.forget(1),
    ):
        with pytest.raises(StoreError, match=r"state\.db: no such table"):
            call()


def test_noise_goes_first_in_small_steps(state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Noise among many logins is found in steps that are as small."""
    logins = [
        event for pid in range(1, 9) for event in events_of(*session_lines(pid, at_us=START_US + pid * 1_000_000, lasts_s=None))
    ]
    tries = events_of(*(try_line(pid, at_us=START_US + 5_000_000 + pid) for pid in range(20, 26)))
    state.record([*logins, *tries], TOLD, NOW_US)
    monkeypatch.setattr(state_module, "_PIECE", 2)
    monkeypatch.setattr(state_module, "_FORGET_S", -1.0)
    monkeypatch.setattr(state_module, "EVENT_LIMIT", len(logins) + 2)
    steps = 0
    while state.forget(0):
        steps += 1
        assert rows(tmp_path, "SELECT count(*) FROM event")[0][0] >= len(logins) + len(tries) - 2 * steps
    left = "SELECT count(*), sum(action = 'ssh_login') FROM event"
    assert rows(tmp_path, left) == [(len(logins) + 2, len(logins))]
    assert steps > 3
