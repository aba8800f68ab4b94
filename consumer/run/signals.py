"""Makes signals readable for ``select``. systemd sends TERM and HUP to every process of rsyslog's unit; neither ends ``run``."""

import signal
import socket
from contextlib import suppress
from types import FrameType


class Signals:
    """
    Receives the signals of this process from now on.

    Attributes:
        fd: readable after a signal, including SIGCHLD.
    """

    def __init__(self) -> None:
        self._ours, self._theirs = socket.socketpair()
        self._ours.settimeout(0)
        self._theirs.settimeout(0)
        self.fd = self._ours.fileno()
        # Bytes in the socket may be lost in a flood of signals.
        self._has_hung_up = False
        signal.set_wakeup_fd(self._theirs.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD):
            signal.signal(number, lambda _number, _frame: None)
        signal.signal(signal.SIGHUP, self._hang_up)

    def _hang_up(self, _number: int, _frame: FrameType | None) -> None:
        self._has_hung_up = True

    def taken(self) -> bool:
        """Empty ``fd``; return whether HUP has come since the last call."""
        with suppress(BlockingIOError):
            self._ours.recv(4096)
        has_hung_up, self._has_hung_up = self._has_hung_up, False
        return has_hung_up
