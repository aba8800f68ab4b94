"""
``event.id``: the same thing has the same id, whether it was replayed, delivered twice, or read from a file instead of omprog.

It is made of what every framing shows of the deciding line, so neither microseconds nor the sender's uid are part of it.
"""

from collections import OrderedDict
from collections.abc import Iterable
from hashlib import blake2b

# Deciding lines that are remembered to number equal ones: those of a few seconds, at any rate that sshd reaches.
_LIMIT = 8192
_SECOND = 1_000_000


class Identities:
    """Gives ids, and numbers equal lines of one second in the order in which they are told."""

    def __init__(self) -> None:
        self._seen: OrderedDict[bytes, int] = OrderedDict()

    def state(self) -> list[tuple[bytes, int]]:
        """Return what is remembered, oldest first."""
        return list(self._seen.items())

    def restore(self, state: Iterable[tuple[bytes, int]]) -> None:
        """Take over what an earlier process remembered."""
        self._seen.update((bytes(digest), int(ordinal)) for digest, ordinal in state)

    def forget(self) -> None:
        """Remember no line: the next of each second is the first."""
        self._seen.clear()

    def of_line(self, kind: str, host: str, family: str, procid: str, time_us: int, text: str) -> str:
        """Return the id of an event that one line decides."""
        parts = (kind, host, family, procid, str(time_us // _SECOND), text)
        digest = blake2b("\0".join(parts).encode("latin-1", "replace"), digest_size=16).digest()
        ordinal = self._seen.pop(digest, -1) + 1
        self._seen[digest] = ordinal
        if len(self._seen) > _LIMIT:
            self._seen.popitem(last=False)
        return digest.hex() if ordinal == 0 else derived(digest.hex(), str(ordinal))


def derived(login_id: str, kind: str) -> str:
    """Return the id of a further event of the same session."""
    return blake2b(f"{login_id}\0{kind}".encode(), digest_size=16).hexdigest()
