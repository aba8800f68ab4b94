"""``consumer.run.signals``: what wakes ``run``, and what HUP leaves behind."""

from __future__ import annotations

import os
import select
import signal
from typing import TYPE_CHECKING

import pytest

from consumer.run.signals import Signals

if TYPE_CHECKING:
    from collections.abc import Iterator

TAKEN = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD, signal.SIGHUP)


@pytest.fixture
def signals() -> Iterator[Signals]:
    """Take the signals of this process, and give them back."""
    before = {number: signal.getsignal(number) for number in TAKEN}
    wakeup = signal.set_wakeup_fd(-1)
    made = Signals()
    yield made
    for number, handler in before.items():
        signal.signal(number, handler)
    signal.set_wakeup_fd(wakeup)
    made._ours.close()
    made._theirs.close()


def has_come(signals: Signals) -> bool:
    """Tell whether ``fd`` is readable."""
    return bool(select.select([signals.fd], [], [], 0)[0])


@pytest.mark.parametrize("number", TAKEN)
def test_each_signal_wakes(signals: Signals, number: signal.Signals) -> None:
    """A signal does not end the process, and makes ``fd`` readable once; only HUP is an order."""
    assert not has_come(signals)
    os.kill(os.getpid(), number)
    assert has_come(signals)
    assert signals.taken() == (number == signal.SIGHUP)
    assert not has_come(signals)
    assert not signals.taken()


def test_a_flood_of_signals_hides_no_hup(signals: Signals) -> None:
    """Where more come than the socket holds, HUP is known all the same."""
    for _ in range(5000):
        os.kill(os.getpid(), signal.SIGUSR1)
    os.kill(os.getpid(), signal.SIGHUP)
    assert signals.taken()
