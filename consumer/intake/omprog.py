"""
rsyslog's side: lines on descriptor 0, replies on what was descriptor 1.

Confirm mode: "OK" once at the start, then one for each line; a dot restarts rsyslog's time-out and says nothing. Plain mode: no
replies. Measured on rsyslog 8.2302; the contract is in its plugins/external/INTERFACE.md.
"""

import fcntl
import os
import select

from consumer.intake.files import LINE_LIMIT

# Read at once; in confirm mode only one line is ever there.
_CHUNK_SIZE = 1 << 18


class Replies:
    """
    Answers rsyslog, on a private copy of descriptor 1.

    Descriptor 1 itself becomes standard error: a stray line on it would answer for a message that nobody has read. So this is
    made before anything else runs.
    """

    def __init__(self, *, is_plain: bool) -> None:
        self._fd: int | None = None
        if not is_plain:
            self._fd = fcntl.fcntl(1, fcntl.F_DUPFD_CLOEXEC, 3)
            os.dup2(2, 1)

    def ok(self) -> None:
        """Confirm a line, or say that we are ready."""
        self._write(b"OK\n")

    def dot(self) -> None:
        """Ask for patience."""
        self._write(b".")

    def _write(self, reply: bytes) -> None:
        if self._fd is not None:
            try:
                os.write(self._fd, reply)
            except BrokenPipeError:  # rsyslog closes both ends when it stops; its end of input is what counts
                self._fd = None


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
        Read once, and return the whole lines that are there; b"" where there are none yet, or no more.

        A line over 64 KiB is cut. What stands behind the last line feed when the input ends is torn, and dropped.
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
        """Tell whether the other end is closed; what it wrote before may still be there."""
        poll = select.poll()
        poll.register(self.fd, 0)
        return bool(poll.poll(0))

    def is_ready(self) -> bool:
        """Tell whether reading would not wait."""
        return bool(select.select([self.fd], [], [], 0)[0])
