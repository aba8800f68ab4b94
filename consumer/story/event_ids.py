"""
``event.id``: an event keeps its id if sshbell replays its line, gets it twice, or reads it from a file instead of omprog.

The id depends only on those parts of the deciding line that every framing has. It leaves out microseconds and the sender's uid.
"""

from collections import OrderedDict
from collections.abc import Iterable
from hashlib import blake2b

# Deciding lines remembered to number equal ones. At any rate that sshd reaches, this covers a few seconds.
_LIMIT = 8192
_SECOND = 1_000_000


class Identities:
    """Assigns ids. Numbers equal lines of one second in the order in which sshbell reports them."""

    def __init__(self) -> None:
        self._seen: OrderedDict[bytes, int] = OrderedDict()

    def state(self) -> list[tuple[bytes, int]]:
        """Return the remembered lines as digests and numbers, oldest first."""
        return list(self._seen.items())

    def restore(self, state: Iterable[tuple[bytes, int]]) -> None:
        """Restore the state of an earlier process."""
        self._seen.update((bytes(digest), int(ordinal)) for digest, ordinal in state)

    def forget(self) -> None:
        """Forget all lines, so that numbering starts again."""
        self._seen.clear()

    def of_line(self, kind: str, host: str, family: str, procid: str, time_us: int, text: str) -> str:
        """Return the id of an event that is decided by one line."""
        parts = (kind, host, family, procid, str(time_us // _SECOND), text)
        digest = blake2b("\0".join(parts).encode("latin-1", "replace"), digest_size=16).digest()
        ordinal = self._seen.pop(digest, -1) + 1
        self._seen[digest] = ordinal
        if len(self._seen) > _LIMIT:
            self._seen.popitem(last=False)
        return digest.hex() if ordinal == 0 else derived(digest.hex(), str(ordinal))


def derived(login_id: str, kind: str) -> str:
    """Return the id of another event of the same session."""
    return blake2b(f"{login_id}\0{kind}".encode(), digest_size=16).hexdigest()
