"""``consumer.run.retry``: what cannot be done yet is tried again, and rsyslog is asked for patience."""

from __future__ import annotations

import os
import time
from contextlib import closing
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from consumer.errors import ConfigError, DamagedStoreError, RightsError, StoreError
from consumer.intake import omprog
from consumer.intake.omprog import Lines, Replies
from consumer.run import retry
from consumer.run.retry import HungUpError, Patience, PatientState
from consumer.store.database import set_aside_of
from consumer.store.state import State
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class Pipes:
    """Both pipes to rsyslog, with a clock that a test moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.input, self.rsyslog = os.pipe()
        self.output, theirs = os.pipe()
        os.set_blocking(self.output, False)
        self.now_s = 0.0
        for module in (retry, omprog):
            monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: self.now_s, sleep=self.sleep))
        self.replies = replies = Replies(is_plain=True)
        replies._fd = theirs  # in place of descriptor 1, which is pytest's
        self._theirs = theirs
        self.patience = Patience(Lines(self.input), replies)
        self.naps = 0
        self.is_reading = True
        self._read = b""

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.naps += 1
        self.now_s = round(self.now_s + seconds, 6)
        if self.is_reading:
            self._read += self._rest()

    def said(self) -> bytes:
        """Return what rsyslog has got since the last call."""
        said, self._read = self._read + self._rest(), b""
        return said

    def _rest(self) -> bytes:
        try:
            return os.read(self.output, 1000)
        except BlockingIOError:
            return b""

    def hang_up(self) -> None:
        """Close rsyslog's end of the input."""
        if self.rsyslog >= 0:
            os.close(self.rsyslog)
        self.rsyslog = -1

    def close(self) -> None:
        """Close all."""
        self.hang_up()
        for fd in (self.input, self.output, self._theirs):
            os.close(fd)


@pytest.fixture
def pipes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipes]:
    """Return pipes."""
    with closing(Pipes(monkeypatch)) as made:
        yield made


def failing(*errors: Exception) -> Callable[[], str]:
    """Return what fails so, and works then."""
    left = list(errors)

    def action() -> str:
        if left:
            raise left.pop(0)
        return "done"

    return action


def test_what_works_is_done_once(pipes: Pipes) -> None:
    """Without a fault there is no dot and no pause."""
    assert pipes.patience.until(failing()) == "done"
    assert (pipes.said(), pipes.naps) == (b"", 0)


def test_dots_while_it_waits(pipes: Pipes) -> None:
    """A dot each two seconds begins rsyslog's time-out anew."""
    assert pipes.patience.until(failing(*[StoreError("full")] * 50, *[ConfigError("slip")] * 50)) == "done"
    assert pipes.naps == 100
    assert pipes.said() == b"." * 9


def test_no_dot_soon_after_an_ok(pipes: Pipes) -> None:
    """Rsyslogd would take both for one reply of two lines, and start sshbell anew."""
    pipes.now_s = 100.0
    pipes.replies.ok()
    assert pipes.patience.until(failing(*[StoreError("full")] * 10)) == "done"
    assert pipes.said() == b"OK\n"
    assert pipes.patience.until(failing(*[StoreError("full")] * 3)) == "done"
    assert pipes.said() == b"."


def test_one_dot_while_no_line_waits(pipes: Pipes) -> None:
    """Rsyslogd reads replies only while it waits for one. Dots of hours would be a reply that is too long, and fill the pipe."""
    pipes.is_reading = False
    assert pipes.patience.until(failing(*[StoreError("full")] * 1_000)) == "done"
    assert pipes.said() == b"."
    pipes.is_reading = True
    assert pipes.patience.until(failing(*[StoreError("full")] * 50)) == "done"
    assert pipes.said() == b"." * 5


def test_a_short_block_sends_nothing(pipes: Pipes) -> None:
    """However long the last reply is ago; a block of two seconds sends a dot."""
    pipes.now_s = 100.0
    for _ in range(50):
        with pipes.patience.meanwhile():
            time.sleep(0.01)
            pipes.now_s += 1.0
    assert pipes.said() == b""
    with pipes.patience.meanwhile():
        time.sleep(0.05)
        pipes.now_s += 2.0
        wait_for(lambda: pipes.said() == b".", "a dot comes")


def test_rsyslog_hangs_up(pipes: Pipes) -> None:
    """Once rsyslog has closed the input, waiting is over."""
    pipes.hang_up()
    with pytest.raises(HungUpError):
        pipes.patience.until(failing(StoreError("full")))
    assert pipes.naps == 0


@pytest.mark.parametrize("error", [DamagedStoreError("malformed"), RightsError("no"), ZeroDivisionError()])
def test_what_waiting_does_not_mend(pipes: Pipes, error: Exception) -> None:
    """A damaged file, and errors of anything but disk and configuration, are raised at once."""
    with pytest.raises(type(error)):
        pipes.patience.until(failing(error))
    assert pipes.naps == 0


def test_a_damaged_store_is_replaced(pipes: Pipes, tmp_path: Path) -> None:
    """It is set aside and reported, the action is done with a new one, and a whole snapshot is wanted, until one is kept."""
    said: list[str] = []
    store = PatientState(pipes.patience, lambda: State(tmp_path, said.append))
    with closing(store.state):
        before = store.has_snapshot
        assert store.until(failing(StoreError("full"), DamagedStoreError("malformed"), StoreError("full"))) == "done"
        assert (before, store.has_snapshot) == (True, False)
        assert list(store.state.snapshot()) == []
    assert pipes.naps == 2
    assert len(said) == len(set_aside_of(tmp_path / "state.db")) == 1


def test_a_store_that_cannot_be_replaced_yet(pipes: Pipes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The new file is waited for, too: the full disk that keeps it from being made is a reason to wait, and not the end."""
    store = PatientState(pipes.patience, lambda: State(tmp_path, lambda _text: None))
    renew = store.state.renew
    results = failing(StoreError("full"), StoreError("full"))

    def renewed(reason: str) -> None:
        results()
        renew(reason)

    monkeypatch.setattr(store.state, "renew", renewed)
    with closing(store.state):
        assert store.until(failing(DamagedStoreError("malformed"))) == "done"
    assert pipes.naps == 2
    assert not store.has_snapshot
