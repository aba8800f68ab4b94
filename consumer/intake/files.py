"""
Log files as blocks of whole lines: plain, ``.gz``, ``.bz2``, ``.xz``, ``.zst``, or standard input.

The first bytes of a file decide its type, not its name. sshbell cuts and counts lines over ``LINE_LIMIT``, so no input takes
more memory than that.
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
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, Self

import zstandard

from consumer.clock import now_us, utc
from consumer.errors import DataError, InputError

STDIN = "-"
# The longest line that is read whole: rsyslog's own limit is 8 kB by default, and JSON may write one byte as six.
LINE_LIMIT = 65536
# Read at once: small enough that a block stays in the processor's cache.
BLOCK_SIZE = 65536

# Of the memory that an archive may want, so that it can be unpacked: xz -9 and zstd -19 want less, zstd --long wants more.
WINDOW_LIMIT_BYTES = 64 << 20
# What the unpacker of xz has beside that.
_XZ_BYTES = 1 << 20

_MAGIC: list[tuple[bytes, Callable[[BinaryIO], Any]]] = [
    (b"\x1f\x8b", lambda raw: gzip.GzipFile(fileobj=raw)),
    (b"BZh", bz2.BZ2File),
    (b"\xfd7zXZ\x00", lambda raw: _Xz(raw)),  # noqa: PLW0108 - defined below
    (b"\x28\xb5\x2f\xfd", lambda raw: _Zstandard(raw)),  # noqa: PLW0108 - defined below
]
_MONTH_STAMP = re.compile(rb"^(?:<\d{1,3}>)?(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) {1,2}\d", re.MULTILINE)
_MONTHS = {name: n for n, name in enumerate(b"Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(), 1)}
_HALF_A_YEAR = 6
_BOM = b"\xef\xbb\xbf"
# Bytes that decide the type of a file.
_HEAD_SIZE = 6


class _Raw(io.FileIO):
    """A file whose first read returns enough bytes to decide its type, even if a pipe delivers them one by one."""

    _has_begun = False

    def readinto(self, buffer: Any, /) -> int | None:
        """Read into ``buffer``."""
        count = super().readinto(buffer)
        if not self._has_begun:
            self._has_begun = True
            while count and count < _HEAD_SIZE and (more := super().readinto(memoryview(buffer)[count:])):
                count += more
        return count


class _Xz:
    """Streams of xz as one. Python's own reader gives an archive as much memory as it says that it wants."""

    def __init__(self, raw: BinaryIO) -> None:
        self._raw = raw
        self._stream = _xz_stream()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_details: object) -> None:
        pass

    def read(self, size: int) -> bytes:
        """Return at most ``size`` bytes; b"" at the end."""
        part = b""
        while not part:
            packed = b""
            if self._stream.eof:
                # Zeros may stand between two streams, and behind the last.
                packed = self._stream.unused_data.lstrip(b"\0")
                while not packed and (more := self._raw.read(BLOCK_SIZE)):
                    packed = more.lstrip(b"\0")
                if not packed:
                    return b""
                self._stream = _xz_stream()
            elif self._stream.needs_input and not (packed := self._raw.read(BLOCK_SIZE)):
                raise EOFError("it ends within a stream")
            part = self._stream.decompress(packed, size)
        return part


def _xz_stream() -> lzma.LZMADecompressor:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=WINDOW_LIMIT_BYTES + _XZ_BYTES)


class _Zstandard:
    """Frames of zstd as a stream. zstandard's own reader does not report a truncated last frame."""

    # A few bytes can unpack to 128 KiB, so this unpacks little at a time.
    _STEP = 256

    def __init__(self, raw: BinaryIO) -> None:
        self._raw = raw
        self._frame = _zstd_frame()
        self._is_within = False
        self._rest = b""  # packed bytes after the end of a frame
        self._unpacked, self._at = b"", 0  # unpacked bytes beyond the last read, and how many of them are consumed

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_details: object) -> None:
        pass

    def read(self, size: int) -> bytes:
        """Return at most ``size`` bytes; b"" at the end."""
        if self._at < len(self._unpacked):
            self._at += size
            return self._unpacked[self._at - size : self._at]
        parts, length = [], 0
        while length < size and (packed := self._rest or self._raw.read(self._STEP)):
            part = self._frame.decompress(packed)
            self._is_within, self._rest = not self._frame.eof, self._frame.unused_data
            if self._frame.eof:
                self._frame = _zstd_frame()
            parts.append(part)
            length += len(part)
        if not length and self._is_within:
            raise EOFError("it ends within a frame")
        self._unpacked, self._at = b"".join(parts), size
        return self._unpacked[:size]


def _zstd_frame() -> "zstandard.ZstdDecompressionObj":
    return zstandard.ZstdDecompressor(max_window_size=WINDOW_LIMIT_BYTES).decompressobj()


class LogFile:
    """
    One input.

    Attributes:
        path: as given; ``-`` is standard input.
        can_be_read_twice: it is a regular file, not a pipe.
        size: bytes on disk, for a progress bar; 0 if unknown.
        modified: when it was last written to; now for standard input.
        cut_total: lines that were longer than ``LINE_LIMIT``.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.size = 0
        self.can_be_read_twice = False
        self.modified = utc(now_us())
        self.cut_total = 0
        self._raw: BinaryIO | None = None
        self._begun: Iterator[bytes] | None = None
        if path == STDIN:
            return
        try:
            found = Path(path).stat()
        except OSError as error:
            raise InputError(f"{path}: {_reason(error)}") from error
        if stat.S_ISDIR(found.st_mode):
            raise InputError(f"{path}: is a directory; name the log files in it" if path else "the name of a FILE is empty")
        if stat.S_ISREG(found.st_mode):
            self.can_be_read_twice = True
            self.size = found.st_size
            self.modified = datetime.fromtimestamp(found.st_mtime, UTC)

    def first_block(self) -> bytes:
        """
        Return the first block that ``blocks`` will yield; b"" for an empty file.

        Raises:
            InputError, DataError: as ``blocks`` does.
        """
        blocks = self._read()
        block = next(blocks, b"")
        if not self.can_be_read_twice:
            self._begun = chain([block] if block else [], blocks)
        return block

    def blocks(self) -> Iterator[bytes]:
        """
        Yield blocks of whole lines, each ending in a line feed, in order.

        Raises:
            InputError: it cannot be opened or read.
            DataError: an archive is damaged or truncated.
        """
        begun, self._begun = self._begun, None
        return begun or self._read()

    def _read(self) -> Iterator[bytes]:
        self.cut_total = 0
        try:
            with self._opened() as source:
                yield from self._blocks(source)
        except (EOFError, zlib.error, lzma.LZMAError, zstandard.ZstdError, gzip.BadGzipFile) as error:
            if "emory" in str(error):  # neither library has a type of its own for it
                size = f"{WINDOW_LIMIT_BYTES >> 20} MiB"
                advice = f"unpack it yourself, with xz -dc {self.path} or zstd -dc --long=31 {self.path}"
                raise DataError(f"{self.path}: the archive wants more than {size} of memory; {advice}") from error
            raise DataError(
                f"{self.path}: the archive is damaged or truncated ({error}); sshbell has read what comes before"
            ) from error
        except OSError as error:
            if error.errno is None:  # bz2 raises this for damaged data
                raise DataError(
                    f"{self.path}: the archive is damaged or truncated ({error}); sshbell has read what comes before"
                ) from error
            raise InputError(f"{self.path}: {_reason(error)}") from error

    def position(self) -> int:
        """Return the number of bytes read from the file."""
        try:
            return self._raw.tell() if self._raw is not None and not self._raw.closed else 0
        except OSError:
            return 0

    @contextmanager
    def _opened(self) -> Iterator[Any]:
        """Open the file; unpack it if it is an archive."""
        # Descriptor 0 itself: sys.stdin is None if it is closed.
        with io.BufferedReader(_Raw(0 if self.path == STDIN else self.path, closefd=self.path != STDIN)) as raw:
            self._raw = raw
            head = raw.peek(_HEAD_SIZE)[:_HEAD_SIZE]
            for magic, unpack in _MAGIC:
                if head.startswith(magic):
                    with unpack(raw) as archive:
                        yield archive
                    return
            yield raw

    def _blocks(self, source: Any) -> Iterator[bytes]:
        read = getattr(source, "read1", source.read)
        tail = b""
        is_first, is_skipping = True, False
        while chunk := read(BLOCK_SIZE):
            data = tail + (chunk.removeprefix(_BOM) if is_first else chunk)
            is_first = False
            if is_skipping:
                _, found, data = data.partition(b"\n")
                is_skipping = not found
                if not data:
                    continue
            # Only the first line can be longer than a block.
            first, end = data.find(b"\n"), data.rfind(b"\n") + 1
            if first > LINE_LIMIT or (first < 0 and len(data) > LINE_LIMIT):
                self.cut_total += 1
                yield data[:LINE_LIMIT] + b"\n"
                is_skipping = first < 0
                data = data[first + 1 :] if first >= 0 else b""
                end = data.rfind(b"\n") + 1
            if end:
                yield data[:end]
            tail = data[end:]
        if tail:
            yield tail + b"\n"

    def first_year(self) -> int | None:
        """
        Return the year of the first line, for a file without years that spans several; None if its last change gives the year.

        Months sampled all over the file show how often the year turned; the last line was written before the file was closed.
        """
        if not self.size or self.path == STDIN:
            return None
        try:
            return self._first_year()
        except OSError as error:
            raise InputError(f"{self.path}: {_reason(error)}") from error

    def _first_year(self) -> int | None:
        months: list[int] = []
        with self._opened() as source:
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
