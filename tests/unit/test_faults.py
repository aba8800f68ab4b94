"""A fault of ours in one line costs that line, is reported, and keeps nothing else from being told."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING

import pytest

from consumer.matching.memory import Memory
from consumer.pipeline import Pipeline
from consumer.story.connections import Connections

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

pytestmark = pytest.mark.plain

NOW_US = 1795400000000000
LINE = "2026-11-22T10:00:00+00:00 web1 sshd[{}]: {}\n"
LOGIN = (
    "Accepted password for {0} from 192.0.2.1 port 5{1} ssh2",
    "pam_unix(sshd:session): session opened for user {0} by (uid=0)",
)


def block_of(*users: str) -> bytes:
    """Return the lines of a login of each user."""
    return "".join(LINE.format(pid, text.format(user, pid)) for pid, user in enumerate(users, 1) for text in LOGIN).encode()


def failing(method: Callable[..., Any], word: str) -> Callable[..., Any]:
    """Return the method, with a fault that lines with a word meet."""

    def found(*args: Any, **kwargs: Any) -> Any:
        if word in repr(args):
            raise RuntimeError("no such thing")
        return method(*args, **kwargs)

    return found


def test_in_the_correlator(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lines before and behind it in the same block count."""
    monkeypatch.setattr(Connections, "of_monitor", failing(Connections.of_monitor, "mallory"))
    reports: list[str] = []
    live = Pipeline([], UTC, NOW_US, reports.append)
    events = live.feed(block_of("alice", "mallory", "bob"))
    assert [event.user for event in events] == ["alice", "bob"]
    assert len(reports) == 1
    assert "RuntimeError: no such thing" in reports[0]


def test_in_framing_or_matching(monkeypatch: pytest.MonkeyPatch) -> None:
    """The block is read line by line, and what is shown of the line obeys no terminal."""
    monkeypatch.setattr(Memory, "lines", failing(Memory.lines, "mallory"))
    reports: list[str] = []
    live = Pipeline([], UTC, NOW_US, reports.append)
    events = live.feed(block_of("alice", "mallory\x1b[2J", "bob"))
    assert [event.user for event in events] == ["alice", "bob"]
    assert len(reports) == 2
    assert all("mallory" in report and report.isprintable() for report in reports)


def test_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that cannot be let go costs the others nothing but time."""
    reports: list[str] = []
    live = Pipeline([], UTC, NOW_US, reports.append)
    live.feed(LINE.format(1, "Accepted password for alice from 192.0.2.1 port 5 ssh2").encode())
    monkeypatch.setattr(Connections, "let_pass", failing(Connections.let_pass, "5000000"))
    live.tick(NOW_US + 1)
    assert live.tick(NOW_US + 60_000_000) == []
    monkeypatch.undo()
    assert [event.user for tick in (120, 180) for event in live.tick(NOW_US + tick * 1_000_000)] == ["alice"]
    assert len(reports) == 1
