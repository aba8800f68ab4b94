"""Lines that rsyslog sends again: it does so when it did not hear our "OK", and when we were started anew."""

from collections import OrderedDict
from collections.abc import Iterable
from hashlib import blake2b

# Lines that are remembered; between two that rsyslog sends again stand fewer.
_LIMIT = 8192


class Redelivery:
    """
    Knows the last lines of our template again.

    Only that template can tell: it has the time of receipt in microseconds. Equal lines of other senders are genuine repeats.

    Attributes:
        total: how many lines have come again.
    """

    def __init__(self) -> None:
        self.total = 0
        self._seen: OrderedDict[bytes, None] = OrderedDict()

    def has_seen(self, line: bytes) -> bool:
        """Tell whether this very line has come before, and remember it."""
        if line[:1] != b"{" or b'"rcvd"' not in line:
            return False
        digest = blake2b(line, digest_size=8).digest()
        if digest in self._seen:
            self.total += 1
            return True
        self._seen[digest] = None
        if len(self._seen) > _LIMIT:
            self._seen.popitem(last=False)
        return False

    def state(self) -> tuple[list[bytes], int]:
        """Return what is remembered, the oldest first, and the total."""
        return list(self._seen), self.total

    def restore(self, seen: Iterable[bytes], total: int) -> None:
        """Take over what an earlier process remembered."""
        self._seen.update(dict.fromkeys(seen))
        self.total = total
