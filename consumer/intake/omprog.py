"""
The connection to rsyslog: lines come on descriptor 0, replies go to the former descriptor 1.

Confirm mode: "OK" once at the start, then one for each line; a dot only restarts rsyslog's time-out. Plain mode: no replies.
Measured on rsyslog 8.2302; its plugins/external/INTERFACE.md defines the protocol.
"""

import array
import fcntl
import os
import select
import termios
import time
from contextlib import suppress

from consumer.intake.files import LINE_LIMIT

# Bytes of one read; in confirm mode there is never more than one line.
_CHUNK_SIZE = 1 << 18


class Replies:
    """
    Answers rsyslog on a private copy of descriptor 1.

    Descriptor 1 itself becomes a copy of standard error, because a stray line on it would confirm a message that sshbell has not
    read. So create this before anything else runs.

    Attributes:
        last_s: the time of the last reply, by the monotonic clock. rsyslogd takes a dot that it reads together with an "OK" for a
            second line, and starts sshbell anew. So no dot may come soon after an "OK".
    """

    def __init__(self, *, is_plain: bool) -> None:
        self._fd: int | None = None
        self.last_s = time.monotonic()
        if not is_plain:
            self._fd = fcntl.fcntl(1, fcntl.F_DUPFD_CLOEXEC, 3)
            os.dup2(2, 1)

    def ok(self) -> None:
        """Confirm a line, or report that sshbell is ready."""
        self._write(b"OK\n")

    def dot(self) -> None:
        """
        Ask rsyslog to wait.

        This writes nothing while rsyslog has not read the last reply: no line waits then, and a reply stays under 4096 bytes.
        """
        self.last_s = time.monotonic()
        if self._fd is not None and not _unread(self._fd):
            self._write(b".")

    def _write(self, reply: bytes) -> None:
        self.last_s = time.monotonic()
        if self._fd is not None:
            try:
                os.write(self._fd, reply)
            except BrokenPipeError:  # rsyslog closes both pipes when it stops; sshbell acts on the end of input
                self._fd = None


def _unread(pipe: int) -> int:
    """Return how many bytes its reader has left in a pipe."""
    count = array.array("i", [0])
    with suppress(OSError):  # it is no pipe, in a trial by hand
        fcntl.ioctl(pipe, termios.FIONREAD, count)
    return count[0]


class Lines:
    """Reads whole lines from a descriptor."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._tail = b""
        self._is_skipping = False
        self.has_ended = False
        self.cut_total = 0

    def read(self) -> bytes:
        """
        Read once, and return the whole lines; b"" if there are none yet, or no more.

        This cuts a line over 64 KiB, and drops an unfinished line at the end of the input.
        """
        try:
            chunk = os.read(self.fd, _CHUNK_SIZE)
        except InterruptedError:
            return b""
        except OSError:
            chunk = b""
        if not chunk:
            self.has_ended = True
            return b""
        data = self._tail + chunk if self._tail else chunk
        if self._is_skipping:
            _, found, data = data.partition(b"\n")
            self._is_skipping = not found
        end = data.rfind(b"\n") + 1
        self._tail = data[end:]
        block = data[:end]
        if len(self._tail) > LINE_LIMIT:
            self.cut_total += 1
            block += self._tail[:LINE_LIMIT] + b"\n"
            self._tail, self._is_skipping = b"", True
        if len(block) > LINE_LIMIT:
            block = b"".join(self._cut(line) for line in block.splitlines(keepends=True))
        return block

    def _cut(self, line: bytes) -> bytes:
        if len(line) <= LINE_LIMIT + 1:
            return line
        self.cut_total += 1
        return line[:LINE_LIMIT] + b"\n"

    def has_hung_up(self) -> bool:
        """Return whether the other end is closed; there may still be lines that it wrote before."""
        poll = select.poll()
        poll.register(self.fd, 0)
        return bool(poll.poll(0))

    def is_ready(self) -> bool:
        """Return whether ``read`` would return at once."""
        return bool(select.select([self.fd], [], [], 0)[0])
