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
        for name in (f"{path}.1", path) if path else ():
            try:
                self._files.append(os.open(name, os.O_RDONLY | os.O_CLOEXEC))
            except OSError:
                continue  # `sshbell check` says so

    def here(self) -> Position | None:
        """Return the end of the file as it is now."""
        try:
            found = Path(self._path).stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino, found.st_size

    def blocks(self, since: Position) -> Iterator[bytes]:
        """Yield blocks of whole lines behind a position, also where the file was rotated since; then close the files."""
        is_behind = False
        for fd in self._files:
            found = os.fstat(fd)
            is_it = (found.st_dev, found.st_ino) == since[:2]
            if is_it or is_behind or fd == self._files[-1]:
                start = since[2] if is_it and since[2] <= found.st_size else 0
                yield from _blocks(fd, max(start, found.st_size - _READ_LIMIT), found.st_size)
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
