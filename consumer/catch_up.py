"""
Lines that only the log file has: what rsyslogd's own memory lost when it was killed.

The file is opened before privileges are given up. A position in it up to which everything has come in is kept; at the next start
what stands behind it is compared with what came in.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from consumer.intake.files import BLOCK_SIZE

# A start reads no more of the file than this, from its end.
_READ_LIMIT = 1 << 28

# Device and inode, and a number of bytes.
Position = tuple[int, int, int]


class CatchUp:
    """
    The log file, and the one before it.

    Args:
        path: the file's name; "" for none.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._files: list[int] = []
        # As we start: what comes later, this rsyslogd brings us itself.
        self._sizes: dict[int, int] = {}
        for name in (f"{path}.1", path) if path else ():
            try:
                fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                continue  # `sshbell check` says so
            self._files.append(fd)
            self._sizes[fd] = os.fstat(fd).st_size

    def here(self) -> Position | None:
        """Return the end of the file as it is now."""
        try:
            found = Path(self._path).stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino, found.st_size

    def blocks(self, since: Position) -> Iterator[bytes]:
        """
        Yield blocks of whole lines behind a position, up to where the file was when it was opened; then close the files.

        It may have been rotated since.
        """
        is_behind = False
        for fd in self._files:
            found = os.fstat(fd)
            is_it = (found.st_dev, found.st_ino) == since[:2]
            if is_it or is_behind or fd == self._files[-1]:
                size = min(found.st_size, self._sizes[fd])
                start = since[2] if is_it and since[2] <= found.st_size else 0
                yield from _blocks(fd, max(start, size - _READ_LIMIT), size)
            is_behind = is_behind or is_it
        self.close()

    def close(self) -> None:
        """Close the files."""
        for fd in self._files:
            os.close(fd)
        self._files = []


def _blocks(fd: int, start: int, end: int) -> Iterator[bytes]:
    tail = b""
    while start < end:
        chunk = os.pread(fd, min(BLOCK_SIZE, end - start), start)
        if not chunk:
            break
        start += len(chunk)
        data = tail + chunk
        cut = data.rfind(b"\n") + 1
        if cut:
            yield data[:cut]
        tail = data[cut:]
        if len(tail) > BLOCK_SIZE:
            tail = b""
