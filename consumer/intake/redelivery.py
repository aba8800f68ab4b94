"""Lines that rsyslog sends again because it did not get our "OK" or because it has restarted sshbell."""

from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b

from consumer.recent import Recent

# Lines of a generation, of which there are three. So at least the last 16,384 lines are remembered. rsyslog sends a line again
# before that many others.
SEEN_LIMIT = 8192
_GENERATIONS = 3


class Redelivery:
    """
    Recognizes lines that rsyslog sends again.

    This works only for lines of our own template, which has the time of receipt in microseconds. Equal lines in another format
    are genuine repeats.

    Args:
        turned: sshbell calls this when it begins to forget lines, each time after ``SEEN_LIMIT`` more.

    Attributes:
        total: how many lines rsyslog has sent again.
    """

    def __init__(self, turned: Callable[[], None] = lambda: None) -> None:
        self.total = 0
        self._turned = turned
        self._seen = Recent(_GENERATIONS)

    def has_seen(self, line: bytes) -> bool:
        """Return whether rsyslog has sent this very line before, and remember it."""
        if line[:1] != b"{" or b'"rcvd"' not in line:
            return False
        digest = blake2b(line, digest_size=8).digest()
        if self._seen.get(digest) is not None:
            self.total += 1
            return True
        self._put(digest)
        return False

    def _put(self, digest: bytes) -> None:
        self._seen.put(digest)
        if len(self._seen) >= SEEN_LIMIT:
            self._seen.turn()
            self._turned()

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

    def take_over(self, seen: Iterable[bytes], total: int) -> None:
        """Take over the total of an earlier process, and the lines of one that had no chunks."""
        self.total = total
        for digest in seen:
            self._put(digest)
