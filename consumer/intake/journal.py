"""
The intake journal: sshbell writes every line here before it confirms it to rsyslog.

A journal is a folder of segments, ``00000001.journal`` and so on. Each has a header line and records::

    length of the payload (4 bytes, little endian), CRC-32 of kind and payload (4), kind (1), payload

A snapshot replaces all segments before a number; sshbell deletes them once the snapshot is safe. A crash can tear only the last
record of a segment. sshbell never confirmed that one and skips it. From a damaged record on, sshbell sets the segment aside.
"""

import os
import re
import struct
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from enum import IntEnum
from pathlib import Path
from zlib import crc32

from consumer.errors import StoreError

_HEADER = b"sshbell journal 1\n"
_RECORD = struct.Struct("<IIB")
_NAME = re.compile(r"(\d{8})\.journal\Z")
# More than the largest block that is read at once.
PAYLOAD_LIMIT = 1 << 24


class Kind(IntEnum):
    """The content of a record."""

    LINES = 1  # whole lines from rsyslog, each with its line feed
    TICK = 2  # the wall clock, as decimal microseconds
    PROGRAMS = 3  # the names under which sshd logs, as JSON: a changed configuration
    CAUGHT_UP = 4  # whole lines that catch_up found only in the log file
    HOLDING = 5  # whether catch_up may still find lost lines, as 0 or 1
    DETECT = 6  # the settings of the detectors and of blocking, as JSON: a changed configuration
    CANARY = 7  # the token that sshbell canary has announced
    EVENTS = 8  # events of a shard, as events_as_msgpack writes a batch


class Journal:
    """
    Appends records to the newest segment.

    Raises:
        StoreError: a write failed. The journal is as it was before, and the call may be repeated.
    """

    def __init__(self, folder: Path, segment: int) -> None:
        self._folder = folder
        self.segment = segment
        self.size = 0
        self._is_synced = True
        self._pool = ThreadPoolExecutor(1, "sync")
        self._syncing: Future[None] | None = None
        self._fd = self._opened(segment)

    def _opened(self, segment: int) -> int:
        path = self._path(segment)
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                if os.write(fd, _HEADER) != len(_HEADER):
                    raise OSError(28, os.strerror(28))  # noqa: TRY301 - ENOSPC, as the next write would raise
            except OSError:
                os.close(fd)
                raise
        except OSError as error:
            raise StoreError(f"{path}: {error.strerror}") from error
        self.size = len(_HEADER)
        return fd

    def _path(self, segment: int) -> Path:
        return self._folder / f"{segment:08}.journal"

    def append(self, kind: Kind, payload: bytes) -> None:
        """Write one record, with one system call."""
        tail = bytes((kind,)) + payload
        record = _RECORD.pack(len(payload), crc32(tail), kind) + payload
        try:
            written = os.write(self._fd, record)
        except OSError as error:
            raise StoreError(f"{self._path(self.segment)}: {error.strerror}") from error
        if written != len(record):
            os.ftruncate(self._fd, self.size)
            os.lseek(self._fd, self.size, os.SEEK_SET)
            raise StoreError(f"{self._path(self.segment)}: {os.strerror(28)}")
        self.size += written
        self._is_synced = False

    def begin_sync(self) -> bool:
        """
        Start a sync to disk without waiting for it; return False if the one before has not ended.

        Raises:
            StoreError: the one before has failed.
        """
        if self._syncing is not None and not self._syncing.done():
            return False
        self._end_sync()
        if not self._is_synced:
            self._is_synced = True  # until more is written
            self._syncing = self._pool.submit(os.fdatasync, self._fd)
        return True

    def _end_sync(self) -> None:
        """Wait for the sync that was started, if any."""
        syncing, self._syncing = self._syncing, None
        try:
            if syncing is not None:
                syncing.result()
        except OSError as error:
            self._is_synced = False
            raise StoreError(f"{self._path(self.segment)}: {error.strerror}") from error

    def sync(self) -> None:
        """Sync to disk, so that the records survive a power cut."""
        self._end_sync()
        if self._is_synced:
            return
        try:
            os.fdatasync(self._fd)
        except OSError as error:
            raise StoreError(f"{self._path(self.segment)}: {error.strerror}") from error
        self._is_synced = True

    def turn(self) -> int:
        """Start the next segment, unless this one is empty: sshbell retries a failed snapshot. Return its number."""
        self.sync()
        if self.size == len(_HEADER):
            return self.segment
        size, old = self.size, self._fd
        try:
            self._fd = self._opened(self.segment + 1)
        except StoreError:
            self.size = size
            raise
        os.close(old)
        self.segment += 1
        return self.segment

    def drop_before(self, segment: int) -> None:
        """Delete the segments before a number; a snapshot replaces them."""
        for number, path in segments(self._folder):
            if number < segment:
                path.unlink(missing_ok=True)

    def close(self) -> None:
        """Sync and close."""
        try:
            self.sync()
        finally:
            self._pool.shutdown()
            os.close(self._fd)


def segments(folder: Path) -> list[tuple[int, Path]]:
    """Return the existing segments, in order."""
    if not folder.is_dir():
        return []
    return sorted((int(found[1]), path) for path in folder.iterdir() if (found := _NAME.match(path.name)))


def replayed(folder: Path, first: int, report: Callable[[str], None]) -> Iterator[tuple[Kind, bytes]]:
    """
    Yield the records of all segments from ``first`` on.

    Args:
        folder: of the journal.
        first: the segment that began when the snapshot was taken.
        report: gets one line about each damaged segment; a torn record at the end of one is normal after a crash.

    Raises:
        StoreError: a segment cannot be read.
    """
    for number, path in segments(folder):
        if number < first:
            continue
        try:
            data = path.read_bytes()
        except OSError as error:
            raise StoreError(f"{path}: {error.strerror}") from error
        position = len(_HEADER)
        if not data.startswith(_HEADER):
            if not _HEADER.startswith(data):
                _set_aside(path, data, 0, report)
            continue
        while position + _RECORD.size <= len(data):
            length, checksum, kind = _RECORD.unpack_from(data, position)
            end = position + _RECORD.size + length
            if length > PAYLOAD_LIMIT or end > len(data):
                break
            if crc32(data[position + _RECORD.size - 1 : end]) != checksum or kind not in Kind.__members__.values():
                break
            yield Kind(kind), data[position + _RECORD.size : end]
            position = end
        if position < len(data) and _is_damaged(data, position):
            _set_aside(path, data, position, report)


def _is_damaged(data: bytes, position: int) -> bool:
    """Return whether a record is damaged rather than torn by a crash: a torn one is the last, and ends early."""
    if len(data) - position < _RECORD.size:
        return False
    length: int = _RECORD.unpack_from(data, position)[0]
    return length <= PAYLOAD_LIMIT and position + _RECORD.size + length <= len(data)


def _set_aside(path: Path, data: bytes, position: int, report: Callable[[str], None]) -> None:
    aside = path.with_name(f"{path.name}.damaged")
    try:
        aside.write_bytes(data[position:])
    except OSError as error:
        raise StoreError(f"{aside}: {error.strerror}") from error
    report(f"{path} is damaged from byte {position} on; sshbell moved the rest to {aside}")
