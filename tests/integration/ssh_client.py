"""An ssh client at a terminal of its own: a test reads its prompts and types."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import time
from typing import TYPE_CHECKING

from tests.waiting import DEADLINE_S

if TYPE_CHECKING:
    from collections.abc import Sequence


class SshClient:
    """
    A running command at a terminal.

    Attributes:
        said: everything that it has shown so far.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self.said = ""
        self._seen = 0
        self._status: int | None = None
        self.pid, self._terminal = pty.fork()
        if self.pid == 0:
            os.execvp(command[0], list(command))  # noqa: S606 - no shell is wanted

    def until(self, pattern: str, limit_s: float = DEADLINE_S) -> re.Match[str] | None:
        """Read until it shows a pattern that it had not shown at the last call; None if it ends before that."""
        end_s = time.monotonic() + limit_s
        while not (found := re.compile(pattern).search(self.said, self._seen)):
            assert select.select([self._terminal], [], [], end_s - time.monotonic())[0], self.said
            try:
                block = os.read(self._terminal, 65536)
            except OSError:  # EIO: it has ended
                block = b""
            if not block:
                return None
            self.said += block.decode(errors="replace").replace("\r\n", "\n")
        self._seen = found.end()
        return found

    def type(self, text: str) -> None:
        """Type a line."""
        os.write(self._terminal, text.encode() + b"\n")

    def end(self) -> int:
        """Read to the end; return its exit code."""
        if self._status is None:
            self.until(r"(?!)")
            self._status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
            os.close(self._terminal)
        return self._status

    def hang_up(self) -> None:
        """End it, as if its machine had died."""
        if self._status is None:
            os.kill(self.pid, signal.SIGKILL)
            self.end()
