"""Lines that rsyslog sends again because it did not get our "OK" or because it has restarted sshbell."""

from collections import OrderedDict
from collections.abc import Iterable
from hashlib import blake2b

# Lines that are remembered. rsyslog sends a line again before that many others.
SEEN_LIMIT = 8192


class Redelivery:
    """
    Recognizes lines that rsyslog sends again.

    This works only for lines of our own template, which has the time of receipt in microseconds. Equal lines in another format
    are genuine repeats.

    Attributes:
        total: how many lines rsyslog has sent again.
    """

    def __init__(self) -> None:
        self.total = 0
        self._seen: OrderedDict[bytes, None] = OrderedDict()

    def has_seen(self, line: bytes) -> bool:
        """Return whether rsyslog has sent this very line before, and remember it."""
        if line[:1] != b"{" or b'"rcvd"' not in line:
            return False
        digest = blake2b(line, digest_size=8).digest()
        if digest in self._seen:
            self.total += 1
            return True
        self._seen[digest] = None
        if len(self._seen) > SEEN_LIMIT:
            self._seen.popitem(last=False)
        return False

    def state(self) -> tuple[list[bytes], int]:
        """Return the digests of the remembered lines, oldest first, and the total."""
        return list(self._seen), self.total

    def restore(self, seen: Iterable[bytes], total: int) -> None:
        """Take over the memory of an earlier process."""
        self._seen.update(dict.fromkeys(seen))
        self.total = total
