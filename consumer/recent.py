"""
Remembers recent digests, each with a number, in generations. The oldest generation is forgotten as a whole.

A snapshot writes what is new since the last one, in chunks: so it costs as much as the lines since then, and not as the memory.
"""

from collections.abc import Iterator

import msgspec

# Entries of a chunk.
_CHUNK = 256
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[tuple[bytes, int]]).decode


class Recent:
    """
    Digests by generation.

    Args:
        generations: how many are remembered, with the current one.
    """

    def __init__(self, generations: int) -> None:
        self._limit = generations
        self._begin(0)

    def _begin(self, number: int) -> None:
        self._number = number
        self._entries: dict[int, dict[bytes, int]] = {number: {}}
        # How many chunks of a generation a snapshot may have.
        self._chunks: dict[int, int] = {}
        # The entries of the current generation in order, and how many of them the store has.
        self._log: list[tuple[bytes, int]] = []
        self._kept = 0
        # Chunks of earlier generations that the store does not have yet, or has to delete.
        self._pending: dict[str, bytes] = {}

    def __len__(self) -> int:
        """Return the number of entries of the current generation."""
        return len(self._log)

    def get(self, digest: bytes) -> int | None:
        """Return the last number of a digest; None if it is not remembered."""
        for number in range(self._number, self._number - self._limit, -1):
            entries = self._entries.get(number)
            if entries is None:
                return None
            found = entries.get(digest)
            if found is not None:
                return found
        return None

    def put(self, digest: bytes, number: int = 0) -> None:
        """Remember a digest in the current generation."""
        self._entries[self._number][digest] = number
        self._log.append((digest, number))

    def turn(self) -> None:
        """Begin a new generation, and forget the oldest one if there are too many."""
        self._pending.update(self._tail())
        self._chunks[self._number] = self._chunk_count()
        self._log, self._kept = [], 0
        self._number += 1
        self._entries[self._number] = {}
        for gone in [number for number in self._entries if number <= self._number - self._limit]:
            del self._entries[gone]
            for chunk in range(self._chunks.pop(gone, 0)):
                self._pending[_name(gone, chunk)] = b""

    def forget(self) -> None:
        """Forget everything."""
        while any(self._entries.values()):
            self.turn()

    def _chunk_count(self) -> int:
        return -(-len(self._log) // _CHUNK)

    def _tail(self) -> Iterator[tuple[str, bytes]]:
        """Yield the chunks of the current generation that the store does not have yet."""
        if self._kept == len(self._log):
            return
        for chunk in range(self._kept // _CHUNK, self._chunk_count()):
            yield _name(self._number, chunk), _encode(self._log[chunk * _CHUNK : (chunk + 1) * _CHUNK])

    def changed(self) -> Iterator[tuple[str, bytes]]:
        """Yield name and content of each chunk that differs from the last snapshot; b"" if it is gone."""
        yield from self._pending.items()
        yield from self._tail()

    def kept(self) -> None:
        """Record that the store has the chunks that ``changed`` yielded last."""
        self._pending.clear()
        self._kept = len(self._log)

    def forget_snapshot(self) -> None:
        """Count all chunks as changed."""
        self._kept = 0
        for number, entries in self._entries.items():
            if number != self._number:
                items = list(entries.items())
                self._chunks[number] = -(-len(items) // _CHUNK)
                for chunk in range(self._chunks[number]):
                    self._pending[_name(number, chunk)] = _encode(items[chunk * _CHUNK : (chunk + 1) * _CHUNK])

    def restore(self, name: str, body: bytes) -> None:
        """
        Take over a chunk from an earlier process. Pass them in the order of their names.

        Raises:
            ValueError: the name is none of a chunk.
            msgspec.MsgspecError: the body cannot be read.
        """
        number, chunk = (int(part) for part in name.split("."))
        found = _decode(body)
        if number > self._number or not self._log:
            self._chunks[self._number] = self._chunk_count()
            self._number, self._log = max(number, self._number), []
        self._entries.setdefault(number, {}).update(found)
        self._chunks[number] = chunk + 1
        if number == self._number:
            self._log += found
            self._kept = len(self._log)


def _name(number: int, chunk: int) -> str:
    """Return the name of a chunk. The order of the names as texts is that of the chunks."""
    return f"{number:012}.{chunk:04}"
