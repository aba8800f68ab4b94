"""
Log files as blocks of whole lines: plain, ``.gz``, ``.bz2``, ``.xz``, ``.zst``, or standard input.

What a file is, its first bytes say, not its name. Lines over ``LINE_LIMIT`` are cut and counted, so no input can take more
memory than that.
"""

import bz2
import errno
import gzip
import io
import itertools
import lzma
import os
import re
import stat
import sys
import zlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import zstandard

from consumer.errors import DataError, InputError
from consumer.framing.framer import LINE_LIMIT

STDIN = "-"
# Read at once: small enough that a block stays in the processor's cache.
BLOCK_SIZE = 65536

_MAGIC: list[tuple[bytes, Callable[[BinaryIO], Any]]] = [
    (b"\x1f\x8b", lambda raw: gzip.GzipFile(fileobj=raw)),
    (b"BZh", bz2.BZ2File),
    (b"\xfd7zXZ\x00", lzma.LZMAFile),
    (b"\x28\xb5\x2f\xfd", lambda raw: zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True)),
]
_MONTH_STAMP = re.compile(rb"^(?:<\d{1,3}>)?(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) {1,2}\d", re.MULTILINE)
_MONTHS = {name: n for n, name in enumerate(b"Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(), 1)}
_HALF_A_YEAR = 6
_BOM = b"\xef\xbb\xbf"


class LogFile:
    """
    One input.

    Attributes:
        path: as it was given; ``-`` is standard input.
        size: bytes on disk, for a progress bar; 0 where it is not known.
        modified: when it was last written to; now for standard input.
        cut_total: lines that were longer than ``LINE_LIMIT``.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.size = 0
        self.modified = datetime.now(UTC)
        self.cut_total = 0
        self._raw: BinaryIO | None = None
        if path == STDIN:
            return
        try:
            found = Path(path).stat()
        except OSError as error:
            raise InputError(f"{path}: {_reason(error)}") from error
        if stat.S_ISDIR(found.st_mode):
            raise InputError(f"{path}: is a directory; name the log files in it")
        self.size = found.st_size if stat.S_ISREG(found.st_mode) else 0
        if stat.S_ISREG(found.st_mode):
            self.modified = datetime.fromtimestamp(found.st_mtime, UTC)

    def blocks(self) -> Iterator[bytes]:
        """
        Yield blocks of whole lines, each ending in a line feed, in order.

        Raises:
            InputError: it cannot be opened or read.
            DataError: an archive is damaged or truncated.
        """
        try:
            with self._open() as source:
                yield from self._blocks(source)
        except (EOFError, zlib.error, lzma.LZMAError, zstandard.ZstdError, gzip.BadGzipFile) as error:
            raise DataError(f"{self.path}: the archive is damaged or truncated ({error}); what could be read was") from error
        except OSError as error:
            if error.errno is None:  # bz2 says so of damaged data
                raise DataError(f"{self.path}: the archive is damaged or truncated ({error}); what could be read was") from error
            raise InputError(f"{self.path}: {_reason(error)}") from error

    def position(self) -> int:
        """Return how many bytes of the file have been read."""
        try:
            return self._raw.tell() if self._raw is not None and not self._raw.closed else 0
        except OSError:
            return 0

    def _open(self) -> Any:
        raw = io.BufferedReader(io.FileIO(sys.stdin.fileno() if self.path == STDIN else self.path, closefd=self.path != STDIN))
        self._raw = raw
        head = raw.peek(6)[:6]
        for magic, unpack in _MAGIC:
            if head.startswith(magic):
                return unpack(raw)
        return raw

    def _blocks(self, source: BinaryIO) -> Iterator[bytes]:
        read = getattr(source, "read1", source.read)
        tail = b""
        first = True
        while chunk := read(BLOCK_SIZE):
            if first:
                first = False
                chunk = chunk.removeprefix(_BOM)
            end = chunk.rfind(b"\n") + 1
            if not end:
                tail += chunk
                if len(tail) > LINE_LIMIT:
                    yield self._cut(tail, read)
                    tail = b""
                continue
            if len(tail) + chunk.index(b"\n") > LINE_LIMIT:
                line, _, chunk = chunk.partition(b"\n")
                yield self._head(tail + line)
                end -= len(line) + 1
                tail = b""
            block, tail = tail + chunk[:end], chunk[end:]
            if block:
                yield block
        if tail:
            yield tail + b"\n"

    def _head(self, line: bytes) -> bytes:
        self.cut_total += 1
        return line[:LINE_LIMIT] + b"\n"

    def _cut(self, line: bytes, read: Callable[[int], bytes]) -> bytes:
        """Read on to the end of an overlong line; what follows it in the last chunk is given back with it."""
        head = self._head(line)
        while chunk := read(BLOCK_SIZE):
            _, found, rest = chunk.partition(b"\n")
            if found:
                # Whole lines only: the rest of this chunk may end in the middle of one.
                while not rest.endswith(b"\n") and (more := read(1)):
                    rest += more
                    if len(rest) > 2 * LINE_LIMIT:
                        break
                return head + rest + (b"" if rest.endswith(b"\n") or not rest else b"\n")
        return head

    def first_year(self) -> int | None:
        """
        Return the year of the first line of a file without years that spans more than one; None where one look suffices.

        The months of lines all over the file tell how often the year turned; the last one was written before the
        file was closed.
        """
        if not self.size or self.path == STDIN:
            return None
        months: list[int] = []
        with self._open() as source:
            if not isinstance(source, io.BufferedReader):
                return None  # an archive would have to be unpacked twice
            for offset in range(0, self.size, max(BLOCK_SIZE, self.size // 1000)):
                source.seek(offset)
                found = _MONTH_STAMP.search(source.read(4096)) if offset == 0 else _MONTH_STAMP.search(source.read(4096), 1)
                if found:
                    months.append(_MONTHS[found[1]])
            source.seek(max(0, self.size - 4096))
            months += [_MONTHS[name] for name in _MONTH_STAMP.findall(source.read(4096))[-1:]]
        turns = 0
        for earlier, later in itertools.pairwise(months):
            turns += (earlier - later >= _HALF_A_YEAR) - (later - earlier >= _HALF_A_YEAR)
        if turns < 1 or (turns == 1 and months[-1] < months[0]):
            return None
        return self.modified.year - turns - (months[-1] > self.modified.month)


def _reason(error: OSError) -> str:
    text = os.strerror(error.errno) if error.errno else str(error)
    return f"{text}; run it as root, or as a member of the group that owns the log" if error.errno == errno.EACCES else text
