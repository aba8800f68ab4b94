"""``consumer.deliver.routing``: which channels an event goes to."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from consumer.actions import EventAction
from consumer.config import Choice, Route
from consumer.deliver.routing import Lead, Router
from consumer.ecs import NOTHING, EcsEvent
from consumer.keys.fingerprints import Fingerprints
from consumer.people.people import People, Person
from tests.ecs_events import ecs


def event(action: str = "ssh_login", **more: Any) -> EcsEvent:
    """Return an event as it stands in the outbox."""
    known = {"user": "alice", "ip": "192.0.2.7", "method": "publickey", "submethod": None} | more
    fields = {
        "event": {"action": action},
        "user": {} if known["user"] is None else {"name": known["user"]},
        "source": {} if known["ip"] is None else {"ip": known["ip"]},
        "ssh": {name: known[name] for name in ("method", "submethod") if known[name] is not None},
    }
    return ecs(fields)


def takes(found: EcsEvent, *, include: Choice | None = None, exclude: Choice | None = None) -> bool:
    """Tell whether one route takes an event."""
    route = Route(channels=["ops"], include=include or Choice(), exclude=exclude or Choice())
    return Router(["ops", "other"], [route]).leads(found) == [Lead("ops", route=1)]


def test_actions() -> None:
    """A route takes the events that it names; by default logins and forgeries."""
    assert takes(event())
    assert takes(event("ssh_forged"))
    assert not takes(event("ssh_logout"))
    assert not takes(NOTHING)


def test_each_channel_once() -> None:
    """An event that several routes take goes to each of their channels once, in the configuration's order."""
    routes = [Route(channels=["b", "a"]), Route(channels=["a"], events=(EventAction.LOGIN, EventAction.LOGOUT))]
    router = Router(["a", "b", "c"], routes)
    assert [lead.channel for lead in router.leads(event())] == ["a", "b"]
    assert [lead.channel for lead in router.leads(event("ssh_logout"))] == ["a"]


@pytest.mark.parametrize("action", ["sshbell_test", "sshbell_notice"])
def test_own_messages(action: str) -> None:
    """What sshbell says of itself goes to all channels, routes or not."""
    assert Router(["a", "b"], []).leads(event(action)) == [Lead("a"), Lead("b")]


@pytest.mark.parametrize(
    ("patterns", "user", "fits"),
    [
        (["alice"], "alice", True),
        (["alice"], "Alice", False),
        (["alice"], "alice2", False),
        (["backup-*", "ansible"], "backup-db", True),
        (["a?"], "a\n", True),
        (["*"], "", True),
        (["*"], None, False),
        (["[ab]*"], "bob", True),
        (["alice"], "alice\nmallory", False),
    ],
)
def test_user(patterns: list[str], user: str | None, fits: bool) -> None:  # noqa: FBT001 - a column
    """Users are chosen as a shell chooses files, over the whole name; a name that is not known fits nothing."""
    assert takes(event(user=user), include=Choice(user=patterns)) is fits
    assert takes(event(user=user), exclude=Choice(user=patterns)) is not fits


@pytest.mark.parametrize(
    ("network", "ip", "fits"),
    [
        ("192.0.2.0/24", "192.0.2.7", True),
        ("192.0.2.0/24", "192.0.3.7", False),
        ("192.0.2.0/24", "::ffff:192.0.2.7", True),
        ("::ffff:192.0.2.0/120", "192.0.2.7", True),
        ("::/0", "192.0.2.7", False),
        ("0.0.0.0/0", "2001:db8::1", False),
        ("2001:db8::/32", "2001:db8::1", True),
        ("fe80::/10", "fe80::1%eth0", True),
        ("192.0.2.7", "192.0.2.7", True),
        ("0.0.0.0/0", "UNKNOWN", False),
        ("0.0.0.0/0", None, False),
    ],
)
def test_address(network: str, ip: str | None, fits: bool) -> None:  # noqa: FBT001 - a column
    """Addresses are chosen by network; IPv4-mapped ones are IPv4, and an address that is not known fits nothing."""
    assert takes(event(ip=ip), include=Choice(address=[network])) is fits
    assert takes(event(ip=ip), exclude=Choice(address=[network])) is not fits


def test_method() -> None:
    """A method may be named with what is behind it, or without."""
    pam = event(method="keyboard-interactive", submethod="pam")
    assert takes(pam, include=Choice(method=["keyboard-interactive"]))
    assert takes(pam, include=Choice(method=["keyboard-interactive/pam"]))
    assert not takes(pam, include=Choice(method=["password", "keyboard-interactive/bsdauth"]))
    assert not takes(event(method=None), include=Choice(method=["publickey"]))


def test_all_lists_must_fit() -> None:
    """Include takes, and exclude leaves out, what fits each list that is not empty."""
    backup = Choice(user=["backup"], address=["192.0.2.0/24"])
    assert takes(event(user="backup"), include=backup)
    assert not takes(event(user="alice"), include=backup)
    assert not takes(event(user="backup"), exclude=backup)
    # The same user from elsewhere is news.
    assert takes(event(user="backup", ip="203.0.113.9"), exclude=backup)
    assert takes(event(user="backup", ip=None), exclude=backup)


PEOPLE = People([
    Person("Alice Example", (Fingerprints("SHA256:" + "a" * 43, ""),), accounts=("alice", "root@web*"), groups=("admins", "dba")),
    Person("Bob Example", accounts=("bob", "root@web*"), groups=("interns",)),
])  # fmt: skip
FULL = ecs({
    "event": {"action": "ssh_login"}, "user": {"name": "alice"}, "host": {"name": "Web1.example.org"},
    "source": {"ip": "192.0.2.7", "geo": {"country_iso_code": "FR"}, "as": {"number": 3215}},
    "ssh": {
        "origin": "verified", "session": {"kind": "forced-command"},
        "key": {"fingerprint": "SHA256:" + "a" * 43, "owner": ["alice@laptop (as of 2026-01-02)"]},
    },
    "sshbell": {"new": ["address", "key"]},
})  # fmt: skip


@pytest.mark.parametrize(
    ("key", "fitting", "others"),
    [
        ("host", ["web*"], ["web1", "db*"]),
        ("person", ["Alice *"], ["alice", "Bob Example"]),
        ("group", ["dba"], ["interns", "DBA"]),
        ("country", ["DE", "FR"], ["DE"]),
        ("asn", [1, 3215], [321]),
        ("key", ["SHA256:" + "a" * 43 + "="], ["SHA256:" + "b" * 43]),
        ("key", ["Alice Example"], ["Bob*"]),
        ("key", ["*@laptop"], ["laptop"]),
        ("session", ["command"], ["interactive", "subsystem"]),
        ("origin", ["verified"], ["unverified", "forged"]),
        ("new", ["key"], ["host", "country", "network"]),
    ],
)
def test_lists(key: str, fitting: list[object], others: list[object]) -> None:
    """Each list takes what fits one of its entries, and an unknown value fits none."""

    def is_taken(found: EcsEvent, values: list[object]) -> bool:
        return bool(
            Router(["ops"], [Route(channels=["ops"], include=msgspec.convert({key: values}, Choice))], PEOPLE).leads(found)
        )

    assert is_taken(FULL, fitting)
    assert not is_taken(FULL, others)
    assert not is_taken(ecs({"event": {"action": "ssh_login"}}), [*fitting, *others])


def test_a_shared_account_is_of_all_its_people() -> None:
    """If sshbell cannot tell who it was, the routes of each person take it; a forged line is about nobody."""
    for person in ("Alice Example", "Bob Example"):
        router = Router(["ops"], [Route(channels=["ops"], include=Choice(person=[person]))], PEOPLE)
        shared = {"event": {"action": "ssh_login"}, "user": {"name": "root"}, "host": {"name": "web1"}}
        assert router.leads(ecs(shared))
        assert not router.leads(ecs(shared | {"event": {"action": "ssh_forged"}}))


def test_stop_ends_the_list() -> None:
    """No later route gets the event, for any channel, and the results say why."""
    routes = [
        Route(channels=["a"], include=Choice(user=["bob"])),
        Route(channels=["b"], exclude=Choice(method=["publickey"])),
        Route(channels=["a"], stop=True, include=Choice(user=["alice"])),
        Route(channels=["b"]),
    ]
    router = Router(["a", "b"], routes)
    assert [lead.channel for lead in router.leads(event())] == ["a"]
    assert [result.reason for result in router.results(event())] == [
        "include: user does not fit", "exclude: everything fits", "", "route 3 has stop = true",
    ]  # fmt: skip
    assert [lead.channel for lead in router.leads(event(user="carol", method="password"))] == ["b"]
    (*_, last) = router.results(event("ssh_logout"))
    assert last.reason == "ssh_logout is not in events"
    two = Router(["a"], [Route(channels=["a"], include=Choice(host=["x"], country=["FR"], user=["alice"]))])
    assert [result.reason for result in two.results(event())] == ["include: host and country do not fit"]


def test_the_soonest_way_counts() -> None:
    """Of several routes to a channel, one that reports at once beats a digest, and one that reports each event beats a fold."""
    daily, fold = Route(channels=["a"], digest="daily 08:00"), Route(channels=["a"], fold=["user"], window="1h")
    at_once, urgent = Route(channels=["a"]), Route(channels=["a"], urgent=True, include=Choice(user=["root"]))

    def lead(*routes: Route, user: str = "alice") -> Lead:
        (found,) = Router(["a"], routes).leads(event(user=user))
        return found

    assert lead(daily) == Lead("a", digest="daily 08:00", route=1)
    assert lead(daily, fold) == Lead("a", fold=("user",), window="1h", route=2)
    assert lead(daily, fold, at_once) == Lead("a", route=3)
    assert lead(urgent, daily) == Lead("a", digest="daily 08:00", route=2)
    assert lead(urgent, daily, user="root") == Lead("a", is_urgent=True, route=1)


def test_keys_in_use() -> None:
    """Only what a route asks for is looked up."""
    assert Router(["a"], [Route(channels=["a"])]).keys == frozenset()
    routes = [Route(channels=["a"], include=Choice(new=["key"])), Route(channels=["a"], exclude=Choice(asn=[1]))]
    assert Router(["a"], routes).keys == {"new", "asn"}
