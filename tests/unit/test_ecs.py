"""``consumer.ecs`` and ``consumer.events_as_ecs``: the outer form of what was found."""

import json
from typing import Any

import pytest

from consumer.ecs import (
    NOTHING,
    EcsEvent,
    KeyFields,
    NoEventError,
    SshFields,
    UserFields,
    ViaFields,
    event_of,
    joined,
    json_line,
    known,
)
from consumer.events import Login, Logout
from consumer.events_as_ecs import of_event
from tests.ecs_events import ecs, fields_of
from tests.lines import line_of

HARMFUL = [
    "\x1b",
    "\x7f",
    "\x80",
    "\x9b",
    "\u200b",
    "\u200e",
    "\u2028",
    "\u202e",
    "\u2066",
    "\u2069",
    "\ufeff",
    "\u061c",
    "\u2061",
    "\U000e0001",
]


@pytest.mark.parametrize("char", HARMFUL)
def test_json_holds_nothing_that_a_terminal_obeys(char: str) -> None:
    """What a terminal obeys is escaped, and is itself again when the JSON is read."""
    text = f"a{char}b\u20acc"
    line = json_line(ecs({"user": {"name": text}}))
    assert line.endswith(b"\n")
    assert line.decode()[:-1].isprintable()
    assert json.loads(line) == {"user": {"name": text}}


def test_logout_names_its_login() -> None:
    """A logout carries the id of its login, so that messages about a session can be put together."""
    line = line_of()
    login = Login("a1", line, "alice", "192.0.2.7", "4711")
    logout = Logout("b2", line, "alice", "192.0.2.7", "4711", login, 2)
    assert of_event(logout, []).ssh.login_id == "a1"
    assert of_event(login, []).ssh.login_id is None
    nameless = Logout("", line, "alice", "192.0.2.7", "4711", Login("", line, "alice", None, None), 2)
    assert of_event(nameless, []).ssh.login_id is None


def test_factors() -> None:
    """A login with several factors names all, without submethods; ``ssh.method`` is the last. So does its logout."""
    line = line_of()
    login = Login("a1", line, "alice", None, None, "keyboard-interactive/pam", factors=("publickey", "keyboard-interactive/pam"))
    for event in (login, Logout("b2", line, "alice", None, None, login, 2)):
        ssh = of_event(event, []).ssh
        assert (ssh.method, ssh.submethod, ssh.factors) == (
            "keyboard-interactive", "pam", ("publickey", "keyboard-interactive"),
        )  # fmt: skip
    assert "factors" not in fields_of(of_event(Login("a1", line, "alice", None, None, "password"), []))["ssh"]


WHOLE: dict[str, Any] = {
    "@timestamp": "2026-11-22T10:00:01.500000Z",
    "event": {"kind": "event", "category": ["session"], "type": ["start"], "action": "ssh_login", "id": "a1", "duration": 5},
    "host": {"name": "web1"}, "user": {"name": "", "full_name": "Alice"},
    "source": {"ip": "9.9.9.9", "geo": {"location": {"lat": 45.0, "lon": 0.0}}, "as": {"organization": {"name": "Net"}}},
    "ssh": {"key": {"owner": ["a", "b"]}, "certificate": {"serial": 2**64 - 1}, "via": {"user": {"name": "bob"}}},
    "pam": {"by": {"id": "0"}}, "labels": {"code": "7"}, "sshbell": {"found": ["x"]},
}  # fmt: skip


def test_round_trip() -> None:
    """What is written is read again as it was, and nothing else is written: no null, no empty group."""
    event = event_of(json.dumps(WHOLE).encode())
    assert fields_of(event) == WHOLE
    assert event_of(json_line(event)) == event
    assert fields_of(NOTHING) == {}


def test_fields_of_another_version() -> None:
    """A row may come from a version that knew more."""
    more = WHOLE | {"url": {"full": "x"}, "host": {"name": "web1", "os": {"name": "Debian"}}}
    assert fields_of(event_of(json.dumps(more).encode())) == WHOLE


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"7", b"null", b"\xff", b"[" * 100_000, b'{"event":"x"}', b'{"user":{"name":7}}', b'{"host":null}'],
)
def test_no_event(body: bytes) -> None:
    """What is no event is one error, whatever it is."""
    with pytest.raises(NoEventError):
        event_of(body)


def test_joined() -> None:
    """What others know is added, group by group, and replaces nothing; what is known of nothing changes nothing."""
    event = ecs(WHOLE)
    assert joined(event, NOTHING) is event
    assert joined(NOTHING, event) == event
    more = ecs({
        "user": {"name": "eve", "id": "7"}, "source": {"geo": {"location": {"lat": 1.0, "lon": 1.0}, "city_name": "Lyon"}},
        "ssh": {"key": {"owner": ["c"], "options": ["restrict"]}}, "process": {"pid": 5}, "labels": {"code": "8"},
    })  # fmt: skip
    found = fields_of(joined(event, more))
    assert found["user"] == {"name": "", "id": "7", "full_name": "Alice"}
    assert found["source"]["geo"] == {"location": {"lat": 45.0, "lon": 0.0}, "city_name": "Lyon"}
    assert found["ssh"]["key"] == {"owner": ["a", "b"], "options": ["restrict"]}
    assert (found["process"], found["labels"]) == ({"pid": 5}, {"code": "7"})
    assert {name: found[name] for name in ("event", "host", "pam", "sshbell")} == {
        name: WHOLE[name] for name in ("event", "host", "pam", "sshbell")
    }


def test_empty_groups_are_not_written() -> None:
    """A group of which nothing is known is not written where it was built as ``known`` builds it."""
    event = EcsEvent(user=known(UserFields()), ssh=known(SshFields(key=known(KeyFields()), via=known(ViaFields()))))
    assert json_line(event) == b"{}\n"
