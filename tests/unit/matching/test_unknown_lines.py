"""The patterns of lines that no rule reads: they show no names, stand for many lines, and stay within their limits."""

from __future__ import annotations

import msgspec
import pytest

from consumer.matching import unknown_lines
from consumer.matching.unknown_lines import (
    UNKNOWN_HOST_LIMIT,
    UNKNOWN_PATTERN_LIMIT,
    LineCounts,
    UnknownLines,
    UnknownState,
    pattern_of,
)
from tests.lines import line_of


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("error: Frobnicating of user alice failed at 192.0.2.1 port 22: code 17",
         "error: Frobnicating of user <name> failed at <address> port <number>: code <number>"),
        ("Login for invalid user bob from 2001:db8::1%eth0 (SHA256:AbC+/1)",
         "Login for invalid user <name> from <address> (<key>)"),
        ('Refused "x y from 10.0.0.1" by \'the rule\' in /etc/ssh/x.conf', "Refused <text> by <text> in <path>"),
        ("auth failed; rhost=evil.example user=root tty=", "auth failed; rhost=<*> user=<*> tty="),
        ("key 0b:16:21:2c:37:42:4d:58 of x@y.z at 0x7ffe", "key <key> of <*> at <number>"),
        ("a\x1b[2Jb \u0441\u0435\u0442\u044c", "<*> <*>"), ("", "(an empty line)"), ("  ", "(an empty line)"),
        ("w " * 40, "w " * 24 + "…"), ("x" * 999, "<*> …"),
    ],
)  # fmt: skip
def test_pattern(text: str, pattern: str) -> None:
    """Names, numbers, addresses, keys, paths and quoted texts are replaced; it is short, and a terminal obeys none of it."""
    assert pattern_of(text) == pattern


def test_like_lines_are_one_pattern() -> None:
    """Words that differ between similar lines are replaced, too; other lines are patterns of their own."""
    found = UnknownLines()
    for word in ("alice", "carol"):
        found.add("web1", f"Warning: policy {word} said no to it")
    found.add("web1", "Another thing entirely")
    assert found.shown()["web1"] == LineCounts(
        {}, 3, [unknown_lines.UnknownPattern("Warning: policy <*> said no to it", 2),
                unknown_lines.UnknownPattern("Another thing entirely", 1)],
    )  # fmt: skip


def test_limits() -> None:
    """A peer who makes up words displaces rare patterns, not the one that keeps coming; and hosts have a limit, too."""
    found = UnknownLines()
    for number in range(2_000):
        letters = "".join(chr(97 + int(digit)) for digit in str(number))
        found.add("web1", f"{letters} of a stranger")
        found.add("web1", "error: the new wording of sshd")
    lines = found.shown()["web1"]
    assert len(lines.patterns) == UNKNOWN_PATTERN_LIMIT
    assert lines.patterns[0].text == "error: the new wording of sshd"
    assert lines.unmatched == 4_000
    for number in range(UNKNOWN_HOST_LIMIT + 9):
        found.add(f"host{number}", "x")
        found.add_read(f"host{number}", "sshd")
    assert len(found.state()) == UNKNOWN_HOST_LIMIT


@pytest.mark.parametrize(
    ("programs", "release"),
    [
        (["sshd"], "OpenSSH up to 9.7"), (["sshd", "sshd-session"], "OpenSSH 9.8 or later"), (["dropbear"], "dropbear"),
        (["sshd", "sshd-session", "sshd-auth"], "OpenSSH 10.0 or later"), ([], "unknown"), (["su"], "unknown"),
    ],
)  # fmt: skip
def test_release(programs: list[str], release: str) -> None:
    """The names of a host's programs show the release."""
    found = UnknownLines()
    for name in programs:
        found.add_lines([line_of(host="web1", program=name)])
    found.add("web1", "x")
    assert found.shown()["web1"].release == release
    assert found.shown()["web1"].total == len(programs) + 1


def test_restart() -> None:
    """The counts outlive a restart, as msgpack and as the JSON of the note."""
    found = UnknownLines()
    found.add("web1", "x of y")
    found.add_read("web1", "sshd")
    for codec in (msgspec.msgpack, msgspec.json):
        again = UnknownLines()
        again.restore(codec.decode(codec.encode(found.state()), type=UnknownState))
        again.add("web1", "x of y")
        assert again.shown()["web1"] == LineCounts({"sshd": 1}, 2, [unknown_lines.UnknownPattern("x of y", 2)])
