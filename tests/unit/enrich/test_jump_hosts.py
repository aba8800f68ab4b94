"""Through which host somebody came: only where an address is one host's, and somebody was on it at that moment."""

from __future__ import annotations

import asyncio
from contextlib import closing
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

import pytest

from consumer.ecs import NOTHING
from consumer.enrich.jump_hosts import SENDER_US, SKEW_US, JumpHosts, _is_ours
from consumer.errors import StoreError
from consumer.events import Event, Login, Logout
from consumer.events_as_ecs import of_event
from consumer.records import OURS, SENDER_LIMIT
from consumer.store import state as state_module
from consumer.store.database import reading, set_aside
from consumer.store.jump_hosts import _USERS
from consumer.store.queries import OPEN_LIMIT_US
from consumer.store.state import State
from tests.ecs_events import ecs, fields_of
from tests.lines import line_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SECOND = 1_000_000
NOW = 1_790_000_000 * SECOND
BASTION = "10.0.0.5"


def login(host: str, user: str | None, at_us: int, address: str = "198.51.100.7") -> Login:
    """Return a login with an id of its own."""
    line = line_of(at_us, host=host)
    return Login(f"{host}-{user}-{at_us}", line, user, address, "4711", "publickey", None)


def logout(session: Login, at_us: int) -> Logout:
    """Return its end."""
    return Logout(f"{session.id}-end", session.line, session.user, session.address, session.port, session, at_us)


class Store:
    """A ``state.db`` as ``run`` writes it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = State(folder, pytest.fail)

    def has(self, *events: Event, senders: set[tuple[str, str]] | None = None, seen_us: int = NOW) -> None:
        """Keep events, and pairs of host and address."""
        self.state.record(events, frozenset(), seen_us, senders=senders or ())

    def via(self, event: Event, hosts: dict[str, list[str]] | None = None) -> Any:
        """Return ``ssh.via`` of an event."""
        found = asyncio.run(JumpHosts(self.folder, hosts or {}).of(of_event(event, [])))
        return fields_of(found).get("ssh", {}).get("via")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Return one that knows one host's address."""
    made = Store(tmp_path)
    with closing(made.state):
        made.has(senders={("bastion1", BASTION)})
        yield made


THROUGH = {"host": {"name": "bastion1"}, "user": {"name": "alice"}}
TARGET = login("db3", "root", NOW, BASTION)


def test_one_session(store: Store) -> None:
    """A session that is open then names host and user; the logout says the same, later, when that session is over."""
    session = login("bastion1", "alice", NOW - 60 * SECOND)
    store.has(session)
    assert store.via(TARGET) == THROUGH
    store.has(TARGET, logout(session, NOW + 5 * SECOND), logout(TARGET, NOW + 9 * SECOND))
    assert store.via(TARGET) == THROUGH
    assert store.via(logout(TARGET, NOW + 9 * SECOND)) == THROUGH


def test_nobody_was_there(store: Store) -> None:
    """Without a session, before and after it, and long after one whose end was lost, nothing is said."""
    assert store.via(TARGET) is None
    gone, late = login("bastion1", "alice", NOW - 60 * SECOND), login("bastion1", "alice", NOW + SKEW_US + 1)
    store.has(gone, logout(gone, NOW - 1), late, login("bastion1", "old", NOW - OPEN_LIMIT_US - 1))
    assert store.via(TARGET) is None
    # A clock that is a little ahead does not hide one who is passed on at once.
    store.has(login("bastion1", "bob", NOW + SKEW_US))
    assert store.via(TARGET)["user"]["name"] == "bob"


def test_several_sessions(store: Store) -> None:
    """Several sessions of one user name it; of several users, the host alone; one without a name is one, too."""
    store.has(login("bastion1", "alice", NOW - 2), login("bastion1", "alice", NOW - 3))
    assert store.via(TARGET) == THROUGH
    store.has(login("bastion1", None, NOW - 4))
    assert store.via(TARGET) == {"host": {"name": "bastion1"}}


def test_nameless_session(store: Store) -> None:
    """A session of nobody that is known names the host."""
    store.has(login("bastion1", None, NOW - 4))
    assert store.via(TARGET) == {"host": {"name": "bastion1"}}


def test_an_address_of_several_hosts_is_nobodys(store: Store) -> None:
    """A relay in between, or a NAT: as soon as two hosts' lines come from an address, it names none."""
    store.has(login("bastion1", "alice", NOW - 2), login("web9", "bob", NOW - 2), senders={("web9", BASTION)})
    assert store.via(TARGET) is None
    # The configuration knows better, for both forms of an address, and may say that it is nobody's.
    assert store.via(TARGET, {"bastion1": [f"::ffff:{BASTION}"]}) == THROUGH
    assert store.via(TARGET, {"bastion1": [BASTION], "web9": [BASTION]}) is None
    assert store.via(TARGET, {"gate": [BASTION]}) is None


def test_addresses_move_on(store: Store) -> None:
    """Whose an address was long ago says nothing."""
    store.has(login("bastion1", "alice", NOW - 2))
    assert store.via(login("db3", "root", NOW + SENDER_US, BASTION)) is not None
    assert store.via(login("db3", "root", NOW + SENDER_US + 1, BASTION)) is None


def test_a_host_and_itself(store: Store) -> None:
    """A login from a host to itself is no session through which it came."""
    itself = login("bastion1", "alice", NOW, BASTION)
    store.has(itself)
    assert store.via(itself) is None
    store.has(login("bastion1", "bob", NOW - 2))
    assert store.via(itself) == {"host": {"name": "bastion1"}, "user": {"name": "bob"}}


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "fe80::1", "UNKNOWN", "", "10.9.9.9"])
def test_other_addresses(store: Store, address: str) -> None:
    """Loopback may be the end of any tunnel; of other addresses nothing is known."""
    store.has(login("bastion1", "alice", NOW - 2), login("relay", "bob", NOW - 2), senders={("relay", OURS)})
    assert store.via(login("db3", "root", NOW, address)) is None


def test_this_machine(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The relay's own lines come by a socket, with no address; one of its own is known all the same."""
    assert _is_ours(ip_address("127.0.0.1"))
    assert not _is_ours(ip_address("127.0.0.9"))
    assert not _is_ours(ip_address("192.0.2.1"))
    monkeypatch.setattr("consumer.enrich.jump_hosts._is_ours", lambda ip: str(ip) == "10.0.0.1")
    store.has(login("relay", "bob", NOW - 2), senders={("relay", OURS)})
    target = login("db3", "root", NOW, "10.0.0.1")
    assert store.via(target) == {"host": {"name": "relay"}, "user": {"name": "bob"}}
    # Lines of many hosts that come by a tunnel to this machine make that unknown.
    store.has(senders={("web9", OURS)})
    assert store.via(target) is None


@pytest.mark.parametrize(
    "odd",
    [{}, {"@timestamp": "never", "source": {"ip": BASTION}}, {"@timestamp": "2026-11-22T10:00:00", "source": {"ip": BASTION}},
     {"@timestamp": "2026-11-22T10:00:00+00:00", "event": {"action": "ssh_logout"}, "source": {"ip": BASTION}}],
)  # fmt: skip
def test_odd_events(store: Store, odd: dict[str, Any]) -> None:
    """An event without a time, or with one of another form, is no fault."""
    assert asyncio.run(JumpHosts(store.folder, {}).of(ecs(odd))) == NOTHING


def test_no_store(tmp_path: Path) -> None:
    """Where there is no store, that is one error."""
    with pytest.raises(StoreError):
        asyncio.run(JumpHosts(tmp_path, {}).of(of_event(TARGET, [])))


def test_several_at_once(store: Store) -> None:
    """Events share one connection, in a thread each. If ``state.db`` is replaced, the next event reads the new file."""
    store.has(login("bastion1", "alice", NOW - 2))
    event = of_event(TARGET, [])

    async def body() -> None:
        jump_hosts = JumpHosts(store.folder, {})
        answers = await asyncio.gather(*(jump_hosts.of(event) for _ in range(20)))
        assert [fields_of(found)["ssh"]["via"]["user"]["name"] for found in answers] == ["alice"] * 20
        set_aside(store.folder / "state.db", "a test", lambda _what: None)
        with pytest.raises(StoreError):
            await jump_hosts.of(event)
        renewed = Store(store.folder)
        with closing(renewed.state):
            renewed.has(login("bastion1", "bob", NOW - 2), senders={("bastion1", BASTION)})
            assert fields_of(await jump_hosts.of(event))["ssh"]["via"]["user"]["name"] == "bob"

    asyncio.run(body())


def test_senders_are_bounded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest pairs go, by age and by number; one that is seen again is one row."""
    monkeypatch.setattr(state_module, "SENDER_LIMIT", 3)
    assert SENDER_LIMIT == 10_000
    for number in range(6):
        store.has(senders={(f"h{number}", "10.0.0.6")}, seen_us=NOW + number)
    store.has(senders={("h5", "10.0.0.6")}, seen_us=NOW + 9)
    store.state.forget(NOW + 1)
    with reading(store.folder / "state.db") as connection:
        assert connection.execute("SELECT host, seen_us FROM sender ORDER BY seen_us").fetchall() == [
            ("h3", NOW + 3), ("h4", NOW + 4), ("h5", NOW + 9),
        ]  # fmt: skip


def test_the_index_is_used(store: Store) -> None:
    """Who was on a host is found without reading all sessions."""
    with reading(store.folder / "state.db") as connection:
        values = {"host": "a", "at": 1, "since": 0, "until": 1, "own": ""}
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {_USERS}", values)]
    assert [step for step in plan if "session" in step and "session_host (host=? AND closed_us" not in step] == []
