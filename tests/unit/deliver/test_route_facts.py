"""``consumer.deliver.route_facts``: what is new about a login, from a real ``state.db``."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import msgspec
import pytest

from consumer.clock import isoformat
from consumer.config import Config
from consumer.deliver.route_facts import ACCOUNTS_LIMIT, LEARNING_DAYS, RouteFacts
from consumer.ecs import EcsEvent, HostFields, SourceFields, UserFields, event_of, json_line
from consumer.events import LoginCode
from consumer.events_as_ecs import of_event
from consumer.people.people import People, Person
from consumer.store import earlier_logins
from consumer.store.earlier_logins import EarlierLogin, EarlierLogins
from consumer.store.keys import KeyRow, replace_keys
from consumer.store.state import State
from tests.databases import LYON, ORANGE, made
from tests.store_events import DAY_US, KEY, START_US, events_of, session_lines

if TYPE_CHECKING:
    from pathlib import Path

TOLD = frozenset({"ssh_login", "ssh_logout"})
ALICE = Person("Alice", accounts=("alice", "root@web*"))
OTHER_KEY = "RSA SHA256:" + "b" * 43


class Story:
    """A store with the logins that a test puts there, in any order."""

    def __init__(self, folder: Path, people: People | None = None, *, geoip: tuple[str, ...] = (), keep: str = "90d") -> None:
        self.folder = folder
        self._pid = 100
        with closing(State(folder, pytest.fail)):
            self.set_created(START_US - 30 * DAY_US)
        config = Config(state_dir=str(folder), geoip=list(geoip), keep=keep)
        self.facts = RouteFacts(config, people or People(), frozenset({"new"}), pytest.fail)

    def set_created(self, at_us: int) -> None:
        """Pretend that the store is older."""
        with closing(sqlite3.connect(self.folder / "state.db")) as connection, connection:
            connection.execute("UPDATE status SET value = ? WHERE name = 'created_us'", (at_us,))

    def login(
        self, day: float, user: str = "alice", address: str = "192.0.2.7", host: str = "web1", info: str = f": {KEY}"
    ) -> EcsEvent:
        """Store a login on a day, and return its event as in the outbox."""
        self._pid += 1
        at_us = START_US + int(day * DAY_US)
        lines = session_lines(self._pid, user, at_us=at_us, lasts_s=None, address=address, host=host, info=info)
        events = events_of(*lines)
        with closing(State(self.folder, pytest.fail)) as state:
            state.record(events, TOLD, at_us)
        return event_of(json_line(of_event(events[0], [])))

    def new(self, event: EcsEvent) -> tuple[str, ...]:
        """Return what is new about an event."""
        return self.facts.added(event).sshbell.new


@pytest.fixture
def story(tmp_path: Path) -> Story:
    """Return an empty one."""
    return Story(tmp_path)


def test_what_is_new(story: Story) -> None:
    """The first login of an account is new in all respects, an equal one in none, others where they differ."""
    assert story.new(story.login(0)) == ("address", "key", "host")
    assert story.new(story.login(1)) == ()
    assert story.new(story.login(2, address="192.0.2.8")) == ("address",)
    assert story.new(story.login(3, info=f": {OTHER_KEY}")) == ("key",)
    assert story.new(story.login(4, host="web2")) == ("host",)
    assert story.new(story.login(5, info="")) == ()
    assert story.new(story.login(6, user="bob", info="")) == ("address", "host")


def test_the_answer_does_not_depend_on_when_it_is_asked(story: Story) -> None:
    """Later logins, and the login itself, change nothing; nor does the order in which the store got them."""
    second, first = story.login(2), story.login(1)
    assert (story.new(first), story.new(second)) == (("address", "key", "host"), ())
    story.login(3)
    assert (story.new(first), story.new(second)) == (("address", "key", "host"), ())


def test_a_logout_is_as_new_as_its_login(story: Story) -> None:
    """The end of a session is judged at its start."""
    lines = session_lines(9, at_us=START_US, lasts_s=600)
    login, logout = events_of(*lines)
    with closing(State(story.folder, pytest.fail)) as state:
        state.record([login, logout], TOLD, START_US)
    story.login(0.001)
    assert story.new(of_event(logout, [])) == story.new(of_event(login, [])) == ("address", "key", "host")


def test_it_learns_first(story: Story) -> None:
    """In the first days of a store nothing is new; without a store, nothing is."""
    event = story.login(0)
    for days, new in ((LEARNING_DAYS - 0.01, ()), (LEARNING_DAYS, ("address", "key", "host"))):
        story.set_created(START_US - int(days * DAY_US))
        assert story.new(event) == new
    (story.folder / "state.db").unlink()
    assert story.new(event) == ()


def test_what_keep_does_not_cover_is_new_again(tmp_path: Path) -> None:
    """It does not depend on when sshbell deletes old rows."""
    story = Story(tmp_path, keep="20d")
    story.login(0)
    assert story.new(story.login(20)) == ()
    assert story.new(story.login(40.01)) == ("address", "key", "host")


def test_a_person_has_several_accounts(tmp_path: Path) -> None:
    """Alice's address is known under each of her accounts; that of others on a shared account is not hers."""
    bob = Person("Bob", keys=(), certificates=(), accounts=("bob",))
    story = Story(tmp_path, People([ALICE, bob]))
    story.login(0)
    assert story.new(story.login(1, user="root")) == ()
    # Nobody in people.toml is root@db1, so only the name of the account counts.
    assert story.new(story.login(2, user="root", host="db1")) == ("host",)
    assert story.new(story.login(3, user="bob")) == ("address", "key", "host")


def test_places(tmp_path: Path) -> None:
    """A new address may be in a known country and network; a known one is never looked up."""
    for name, record in (("city", LYON), ("asn", ORANGE)):
        made(tmp_path / f"{name}.mmdb", record)
    story = Story(tmp_path, geoip=(f"{tmp_path}/*.mmdb",))
    assert story.new(story.login(0, address="193.252.1.1")) == ("address", "network", "country", "key", "host")
    assert story.new(story.login(1, address="193.252.1.2")) == ("address",)
    # Nothing is known of an address beyond the databases, so its country is not new either.
    assert story.new(story.login(2, address="10.0.0.1")) == ("address",)
    story.facts.close()


def test_what_nobody_did_is_not_new(story: Story) -> None:
    """A try, a login without a user or a time: an unknown value is not new."""
    event = story.login(0)
    tried = msgspec.structs.replace(event, event=msgspec.structs.replace(event.event, action="ssh_attempt"))
    assert story.new(tried) == ()
    assert story.new(msgspec.structs.replace(event, timestamp=None)) == ()
    assert story.new(msgspec.structs.replace(event, user=msgspec.structs.replace(event.user, name=None))) == ()


def test_a_forged_login_makes_nothing_known(story: Story) -> None:
    """A local user forges a login before the real one, so that nothing of that is new."""
    story.login(0)
    event = story.login(1)
    verified = msgspec.structs.replace(event, ssh=msgspec.structs.replace(event.ssh, origin="verified"))
    assert story.new(verified) == ("address", "key", "host")
    with closing(sqlite3.connect(story.folder / "state.db")) as connection, connection:
        connection.execute("UPDATE session SET origin = 'verified'")
    assert story.new(verified) == ()


def test_what_is_new_for_a_code(tmp_path: Path) -> None:
    """Only what sshbell knows for certain is not new: a verified login from this address, or from its network or country."""
    for name, record in (("city", LYON), ("asn", ORANGE)):
        made(tmp_path / f"{name}.mmdb", record)
    story = Story(tmp_path, geoip=(f"{tmp_path}/*.mmdb",))
    story.login(0, address="193.252.1.1")
    story.login(0, user="bob", address="10.0.0.1")
    every = ("address", "network", "country")

    def new(day: float = 1, user: str = "alice", address: str = "193.252.1.1") -> list[str]:
        source = SourceFields(ip=address if address != "host.example.org" else None, address=address or None)
        event = EcsEvent(
            timestamp=isoformat(START_US + int(day * DAY_US)), host=HostFields(name="web1"), user=UserFields(name=user or None),
            source=source,
        )  # fmt: skip
        event = story.facts.with_places(event)
        found = [respect for respect in every if story.facts.is_new(event, [respect])]
        assert story.facts.is_new(event, every) == bool(found)
        return found

    # A local user can have forged the lines.
    assert new() == [*every]
    with closing(sqlite3.connect(tmp_path / "state.db")) as connection, connection:
        connection.execute("UPDATE session SET origin = 'verified'")
    assert new() == []
    assert new(address="193.252.1.2") == ["address"]
    # Somebody with the password broke the channel once, and "safe" let in: that makes no address known.
    for code, found in ((LoginCode("let_in"), [*every]), (LoginCode("accepted", "ops", "482913", 3), [])):
        with closing(sqlite3.connect(tmp_path / "state.db")) as connection, connection:
            connection.execute("UPDATE session SET code = ?", (msgspec.json.encode(code).decode(),))
        assert new() == found
    assert new(user="bob", address="10.0.0.1") == []
    # No database knows these.
    for address in ("10.0.0.2", "", "host.example.org"):
        assert new(user="bob", address=address) == [*every]
    assert new(user="carol") == [*every]
    assert new(user="") == [*every]
    assert new(day=-1) == [*every]
    assert new(day=100) == [*every]  # beyond keep
    story.set_created(
        START_US
    )  # in the first days, nothing is new for routes; for a code, the known is known, and else all is new
    assert new() == []
    assert new(address="193.252.1.2") == ["address"]
    story.facts.close()
    (tmp_path / "state.db").unlink()
    assert new() == [*every]


def test_bounds(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal logins cost one step, and different ones no more than the limit."""
    for number in range(30):
        story.login(number / 100, address=f"192.0.2.{number % 3}")
    with closing(EarlierLogins(story.folder)) as earlier:
        monkeypatch.setattr(earlier_logins, "COMBINATION_LIMIT", 3)
        assert [login.address for login in earlier.of("alice", 0, 1 << 62)] == ["192.0.2.0", "192.0.2.1", "192.0.2.2"]
        monkeypatch.setattr(earlier_logins, "COMBINATION_LIMIT", 2)
        assert len(earlier.of("alice", 0, 1 << 62)) == 2
        plans = [
            row[3]
            for statement in earlier_logins._STEPS
            for row in earlier._state.rows(
                f"EXPLAIN QUERY PLAN {statement}",
                {"user": "", "info": "", "address": "", "host": "", "since": 0, "before": 0},
            )
        ]
    assert sum("COVERING INDEX session_user" in plan for plan in plans) == 4
    assert not any("SCAN session" in plan for plan in plans)
    many = Person("M", accounts=tuple(f"u{number}" for number in range(100)))
    asked: list[str] = []
    facts = RouteFacts(Config(state_dir=str(story.folder), geoip=[]), People([many]), frozenset({"new"}), pytest.fail)
    assert facts._earlier is not None

    def of(user: str, *_bounds: int, **_which: bool) -> list[EarlierLogin]:
        asked.append(user)
        return []

    monkeypatch.setattr(facts._earlier, "of", of)
    facts.added(story.login(9, user="u50"))
    assert len(asked) == ACCOUNTS_LIMIT
    assert asked[0] == "u50"


def test_only_what_the_routes_use_is_looked_up(tmp_path: Path) -> None:
    """Places for countries and networks, imported keys for owners; an event that needs nothing stays as it is."""
    for name, record in (("city", LYON), ("asn", ORANGE)):
        made(tmp_path / f"{name}.mmdb", record)
    event = of_event(events_of(*session_lines(9, address="193.252.1.1"))[0], [])
    owner = KeyRow(KEY.partition(" ")[2], "alice", 1, "", "alice@laptop", [], is_authority=False)
    replace_keys(tmp_path, "web1", [owner], START_US, START_US, pytest.fail)
    config = Config(state_dir=str(tmp_path), geoip=[f"{tmp_path}/*.mmdb"])

    def added(*keys: str) -> EcsEvent:
        with closing(RouteFacts(config, People(), frozenset(keys), pytest.fail)) as facts:
            return facts.added(event)

    assert added("user", "method", "person") is event
    assert added("country").source.geo.country_iso_code == "FR"
    assert added("asn").source.as_.number == 3215
    assert added("asn").ssh.key.owner == ()
    (comment,) = added("key").ssh.key.owner
    assert comment.startswith("alice@laptop")
    assert added("key").source == event.source


def test_a_finding_is_new_for_the_person(tmp_path: Path) -> None:
    """What is new for an account may be known from another account of its person; then no route with ``new`` reports it."""
    story = Story(tmp_path, People([Person("Alice", accounts=("alice", "root"))]))
    story.login(0, "alice", "192.0.2.7")
    story.login(0, "bob", "192.0.2.8")
    for address, new in (("192.0.2.7", ()), ("192.0.2.8", ("address",))):
        login = story.login(5, "root", address)
        finding = msgspec.structs.replace(login, event=msgspec.structs.replace(login.event, kind="alert", action="first_seen"))
        assert story.facts.added(finding).sshbell.new == new
