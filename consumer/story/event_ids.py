"""
``event.id``: an event keeps its id if sshbell replays its line, gets it twice, or reads it from a file instead of omprog.

The id depends only on those parts of the deciding line that every framing has. It leaves out microseconds and the sender's uid.
"""

from collections.abc import Iterable, Iterator
from hashlib import blake2b

from consumer.recent import Recent

# Deciding lines of a generation, of which there are two, to number equal ones. At any rate that sshd reaches, this covers a few
# seconds.
_LIMIT = 8192
_GENERATIONS = 2
_SECOND = 1_000_000


class Identities:
    """Assigns ids. Numbers equal lines of one second in the order in which sshbell reports them."""

    def __init__(self) -> None:
        self._seen = Recent(_GENERATIONS)

    def changed(self) -> Iterator[tuple[str, bytes]]:
        """Yield the chunks of the memory that differ from the last snapshot: see ``Recent.changed``."""
        return self._seen.changed()

    def kept(self) -> None:
        """Record that the store has these chunks."""
        self._seen.kept()

    def forget_snapshot(self) -> None:
        """Count all chunks as changed."""
        self._seen.forget_snapshot()

    def restore(self, name: str, body: bytes) -> None:
        """Take over a chunk from an earlier process: see ``Recent.restore``."""
        self._seen.restore(name, body)

    def take_over(self, state: Iterable[tuple[bytes, int]]) -> None:
        """Take over the digests and numbers of an earlier process that had no chunks, oldest first."""
        for digest, ordinal in state:
            self._put(bytes(digest), int(ordinal))

    def forget(self) -> None:
        """Forget all lines, so that numbering starts again."""
        self._seen.forget()

    def turn(self) -> None:
        """Begin a new generation."""
        self._seen.turn()

    def _put(self, digest: bytes, ordinal: int) -> None:
        self._seen.put(digest, ordinal)
        if len(self._seen) >= _LIMIT:
            self._seen.turn()

    def of_line(self, kind: str, host: str, family: str, procid: str, time_us: int, text: str) -> str:
        """Return the id of an event that is decided by one line."""
        parts = (kind, host, family, procid, str(time_us // _SECOND), text)
        digest = blake2b("\0".join(parts).encode("latin-1", "replace"), digest_size=16).digest()
        last = self._seen.get(digest)
        ordinal = 0 if last is None else last + 1
        self._put(digest, ordinal)
        return digest.hex() if ordinal == 0 else derived(digest.hex(), str(ordinal))


def derived(login_id: str, kind: str) -> str:
    """Return the id of another event of the same session."""
    return blake2b(f"{login_id}\0{kind}".encode(), digest_size=16).hexdigest()
