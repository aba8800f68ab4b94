"""``consumer.ecs``: the outer form of what was found."""

import json

import pytest

from consumer.ecs import json_line

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
