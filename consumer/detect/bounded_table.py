"""
The memory of a detector: a table with a limit, which forgets the entries that nobody has changed for the longest time.

The entries are in buckets, by a checksum of their keys. A snapshot writes only the buckets that have changed since the last one.
"""

from collections.abc import Iterator
from typing import Any, Generic, TypeVar
from zlib import crc32

import msgspec

K = TypeVar("K", str, bytes)
V = TypeVar("V")

# Entries of a full bucket. A new entry may look at as many that are gone, and a snapshot encodes as many at a time.
_BUCKET_ENTRIES = 1024
_encode = msgspec.msgpack.Encoder().encode


class BoundedTable(Generic[K, V]):
    """
    Entries by key.

    An entry that is ``put`` becomes the newest of its bucket. Beyond the limit, the oldest of the bucket that grows goes: it is
    among the oldest of all. Change a value in place only if
    ``renewed`` has returned it. Otherwise ``put`` the new one, or a snapshot lacks it.

    Args:
        key: ``str`` or ``bytes``.
        value: the type of the values, which msgpack has to be able to encode.
        limit: the number of entries.
        limit_bytes: of all values together, if these are bytes; 0 for no such limit.
    """

    def __init__(self, key: type[K], value: type[V], limit: int, limit_bytes: int = 0) -> None:
        self._limit = limit
        self._limit_bytes = limit_bytes
        self._bytes = 0
        self._buckets: list[dict[K, V]] = [{} for _ in range(max(1, limit // _BUCKET_ENTRIES))]
        self._count = len(self._buckets)
        self._changed: set[int] = set()
        self._total = 0
        # The last key that a caller has asked for, with the number of its bucket. Most ask for a key, and then put it.
        self._last_key: K | None = None
        self._last_number = 0
        self._decode = msgspec.msgpack.Decoder(dict[key, value]).decode  # type: ignore[valid-type]
        self.evicted_total = 0

    def __len__(self) -> int:
        return self._total

    def _number(self, key: K) -> int:
        if key is not self._last_key:
            self._last_number = _checksum(key) % self._count
            self._last_key = key
        return self._last_number

    def get(self, key: K) -> V | None:
        """Return the value of a key; None if there is none. This does not make the entry newer."""
        return self._buckets[self._number(key)].get(key)

    def renewed(self, key: K) -> V | None:
        """Return the value of a key, now the newest, which the caller may change in place; None if there is none."""
        number = self._number(key)
        bucket = self._buckets[number]
        value = bucket.get(key)
        if value is not None:
            del bucket[key]
            bucket[key] = value
            self._changed.add(number)
        return value

    def put(self, key: K, value: V, *, is_newest: bool = True) -> V | None:
        """
        Set the value of a key, as the newest or in its place; forget the oldest entry if there are too many.

        Returns:
            The value before; None if there was none.
        """
        number = self._number(key)
        bucket = self._buckets[number]
        before = bucket.get(key)
        if before is not None:
            if is_newest:
                del bucket[key]
        else:
            self._total += 1
            if self._total > self._limit:
                self._forget_oldest(number)
        bucket[key] = value
        self._changed.add(number)
        if self._limit_bytes and isinstance(value, bytes):
            self._bytes += len(value) - (len(before) if isinstance(before, bytes) else 0)
            while self._bytes > self._limit_bytes and self._total > 1:
                self._forget_oldest(number)
        return before

    def pop(self, key: K) -> V | None:
        """Remove a key, and return its value; None if there is none."""
        number = self._number(key)
        value = self._buckets[number].pop(key, None)
        if value is not None:
            self._total -= 1
            self._changed.add(number)
            if self._limit_bytes and isinstance(value, bytes):
                self._bytes -= len(value)
        return value

    def items(self) -> Iterator[tuple[K, V]]:
        """Yield all entries, bucket by bucket."""
        for bucket in self._buckets:
            yield from bucket.items()

    def _forget_oldest(self, number: int) -> None:
        """Forget the oldest entry of a bucket; if it is empty, of the next one that is not."""
        while not self._buckets[number]:
            number = (number + 1) % self._count
        bucket = self._buckets[number]
        gone = bucket.pop(next(iter(bucket)))
        if self._limit_bytes and isinstance(gone, bytes):
            self._bytes -= len(gone)
        self._changed.add(number)
        self._total -= 1
        self.evicted_total += 1

    def changed(self, prefix: str = "") -> Iterator[tuple[str, bytes]]:
        """Yield name and content of each bucket that has changed since ``kept``; b"" if it is empty. See ``Detector``."""
        for number in sorted(self._changed):
            bucket = self._buckets[number]
            yield f"{prefix}{number}", _encode(bucket) if bucket else b""

    def kept(self) -> None:
        """Record that the buckets which ``changed`` yielded last are safe."""
        self._changed.clear()

    def forget_snapshot(self) -> None:
        """Count all buckets as changed."""
        self._changed.update(range(self._count))

    def restore(self, body: bytes) -> None:
        """
        Take over the entries of a bucket, whatever its number: the limit may have changed.

        Raises:
            msgspec.MsgspecError: it cannot be read.
        """
        for key, value in self._decode(body).items():
            self.put(key, value)


def _checksum(key: str | bytes) -> int:
    if not isinstance(key, str):
        return crc32(key)
    try:
        return crc32(key.encode())
    except UnicodeEncodeError:  # a rare name that is not UTF-8; to look for one each time takes longer
        return crc32(key.encode("utf-8", "surrogateescape"))


class BoundedTables:
    """
    The tables of one detector as parts of a snapshot: see ``Detector``. Each part has the name of its table in front.

    Args:
        tables: by name.
    """

    def __init__(self, **tables: BoundedTable[Any, Any]) -> None:
        self._tables = tables

    def changed(self) -> Iterator[tuple[str, bytes]]:
        """Yield the buckets that have changed."""
        for name, table in self._tables.items():
            yield from table.changed(f"{name}.")

    def kept(self) -> None:
        """Record that the buckets are safe."""
        for table in self._tables.values():
            table.kept()

    def forget_snapshot(self) -> None:
        """Count all buckets as changed."""
        for table in self._tables.values():
            table.forget_snapshot()

    def restore(self, name: str, body: bytes) -> None:
        """Take over a bucket; KeyError and MsgspecError as in ``Detector``."""
        self._tables[name.partition(".")[0]].restore(body)
