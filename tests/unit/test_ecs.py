"""``consumer.ecs``: the outer form of what was found."""

import json

import pytest

from consumer.ecs import json_line, of_event
from consumer.events import Login, Logout
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
    line = json_line({"user": {"name": text}})
    assert line.endswith(b"\n")
    assert line.decode()[:-1].isprintable()
    assert json.loads(line) == {"user": {"name": text}}


def test_logout_names_its_login() -> None:
    """A logout carries the id of its login, so that messages about a session can be put together."""
    line = line_of()
    login = Login("a1", line, "alice", "192.0.2.7", "4711")
    logout = Logout("b2", line, "alice", "192.0.2.7", "4711", login, 2)
    assert of_event(logout, [])["ssh"]["login_id"] == "a1"
    assert "login_id" not in of_event(login, [])["ssh"]
    nameless = Logout("", line, "alice", "192.0.2.7", "4711", Login("", line, "alice", None, None), 2)
    assert "login_id" not in of_event(nameless, [])["ssh"]
