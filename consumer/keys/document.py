"""
The format of ``sshbell keys export`` and ``import``: JSON lines.

The first line names the host, then comes one for each line of an ``authorized_keys`` file, and the last has their number. So
``import`` notices a truncated document.
"""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from tempfile import TemporaryFile
from typing import Annotated, BinaryIO, Final, Literal

import msgspec
from msgspec import Meta

from consumer.errors import DataError
from consumer.keys.authorized_keys import AuthorizedKey

FORMAT: Final = "sshbell-keys"
VERSION = 1
# Limits for one host and for one line, because the exporting host deserves less trust than the importing one.
KEYS_LIMIT = 500_000
KEY_LINE_LIMIT = 64 * 1024
DOCUMENT_LIMIT = 256 * 1024 * 1024

_BLOCK = 1 << 20


class Head(msgspec.Struct, frozen=True):
    """
    The first line.

    Attributes:
        host: as the exporting host calls itself.
        time: when it was written, by the exporting host's clock: RFC 3339.
    """

    format: Literal["sshbell-keys"]
    version: int
    host: Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]{1,255}\Z")]
    time: Annotated[str, Meta(max_length=40)]


class Tail(msgspec.Struct, frozen=True):
    """The last line: the number of keys before it."""

    keys: int


@contextmanager
def arrived(stream: BinaryIO, place: str) -> Iterator[BinaryIO]:
    """
    Yield a copy of a document once it is complete, so that a host that stops in the middle does not hold up the import.

    Raises:
        DataError: it cannot be read or kept.
    """
    left = DOCUMENT_LIMIT + 1  # one byte more lets the reader report that it is too long
    with ExitStack() as stack:
        try:
            whole = stack.enter_context(TemporaryFile())
            while left and (block := stream.read(min(_BLOCK, left))):
                whole.write(block)
                left -= len(block)
            whole.seek(0)
        except OSError as error:
            raise DataError(f"{place}: it cannot be copied: {error.strerror}") from error
        yield whole


_head = msgspec.json.Decoder(Head).decode
_row = msgspec.json.Decoder(AuthorizedKey).decode
_tail = msgspec.json.Decoder(Tail).decode
_END = b'{"keys":'
# What a decoder raises; of brackets within brackets without an end it is a RecursionError.
_NO_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def written(head: Head, keys: Iterable[AuthorizedKey]) -> Iterator[bytes]:
    """Yield the lines of a document."""
    encode = msgspec.json.Encoder().encode
    yield encode(head) + b"\n"
    count = 0
    for count, key in enumerate(keys, 1):  # noqa: B007 - what is counted
        yield encode(key) + b"\n"
    yield encode(Tail(count)) + b"\n"


class Document:
    """
    Reads a document, line by line.

    Args:
        stream: no more than one line of it is held in memory.
        place: its name, for errors.

    Raises:
        DataError: ``sshbell keys export`` did not write this.
    """

    def __init__(self, stream: BinaryIO, place: str) -> None:
        self._stream = stream
        self.place = place
        self._number = self._size = 0
        line = self._line()
        try:
            self.head = _head(line)
        except _NO_JSON as error:
            raise self._wrong(f"it does not begin as sshbell keys export does: {error}") from error
        try:
            self.time_us = int(datetime.fromisoformat(self.head.time).timestamp() * 1_000_000)
        except (ValueError, OverflowError) as error:
            raise self._wrong(f"the time {self.head.time!r} does not exist") from error
        if self.head.version != VERSION:
            raise self._wrong(f"its format is of version {self.head.version}, and this sshbell reads {VERSION}")

    def keys(self) -> Iterator[tuple[int, AuthorizedKey]]:
        """
        Yield each line's number and key.

        Raises:
            DataError: the document is invalid or truncated. Do not use the lines before either.
        """
        count = 0
        while not (line := self._line()).startswith(_END):
            count += 1
            if count > KEYS_LIMIT:
                raise self._wrong(f"more than {KEYS_LIMIT:,} keys of one host")
            try:
                yield self._number, _row(line)
            except _NO_JSON as error:
                raise self._wrong(str(error)) from error
        try:
            tail = _tail(line)
        except _NO_JSON as error:
            raise self._wrong(str(error)) from error
        if tail.keys != count:
            raise self._wrong(f"it says that it has {tail.keys:,} keys, and has {count:,}")
        if self._stream.read(1):
            raise self._wrong("something follows its last line")

    def _line(self) -> bytes:
        self._number += 1
        try:
            line = self._stream.readline(KEY_LINE_LIMIT + 1)
        except OSError as error:
            raise DataError(f"{self.place}: {error.strerror}") from error
        if len(line) > KEY_LINE_LIMIT:
            raise self._wrong(f"a line of more than {KEY_LINE_LIMIT // 1024} KiB")
        self._size += len(line)
        if self._size > DOCUMENT_LIMIT:
            raise self._wrong(f"more than {DOCUMENT_LIMIT // 1024 // 1024} MiB")
        if not line.endswith(b"\n"):
            raise self._wrong("it ends here, before its last line: was it cut on its way?")
        return line

    def _wrong(self, what: str) -> DataError:
        return DataError(f"{self.place}:{self._number}: {what}")
