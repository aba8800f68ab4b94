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
# With a memory for each host: seconds of a generation by the times of its lines, and the deciding lines of all hosts. Lines of
# one second come within minutes of each other, even where a file ends.
_GENERATION_S = 300
HOST_LINES_LIMIT = 500_000


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
        digest = _digest(kind, host, family, procid, time_us, text)
        last = self._seen.get(digest)
        ordinal = 0 if last is None else last + 1
        self._put(digest, ordinal)
        return _id(digest, ordinal)


class _HostLines:
    """The deciding lines of a host in two generations, with their numbers; and the second in which the newer one began."""

    __slots__ = ("begin_s", "new", "old")

    def __init__(self, begin_s: int) -> None:
        self.begin_s = begin_s
        self.new: dict[bytes, int] = {}
        self.old: dict[bytes, int] = {}


class IdentitiesByHost(Identities):
    """
    Assigns ids as ``Identities`` does, but remembers the lines of each host by themselves; no snapshot has them.

    Log files come one after the other. With one memory for all hosts, the files of the others would push out the last lines of a
    file before its next file comes, and ids would depend on which hosts one reads together.
    """

    def __init__(self) -> None:
        super().__init__()
        self._hosts: dict[str, _HostLines] = {}  # the one that was used last is the last
        self._total = 0

    def of_line(self, kind: str, host: str, family: str, procid: str, time_us: int, text: str) -> str:
        """Return the id of an event that is decided by one line."""
        now_s = time_us // _SECOND
        lines = self._hosts.pop(host, None)
        if lines is None:
            lines = _HostLines(now_s)
        self._hosts[host] = lines
        if now_s >= lines.begin_s + _GENERATION_S or len(lines.new) >= _LIMIT:
            self._total -= len(lines.old)
            lines.old, lines.new, lines.begin_s = lines.new, {}, now_s
        digest = _digest(kind, host, family, procid, time_us, text)
        last = lines.new.get(digest)
        if last is None:
            last = lines.old.get(digest)
            self._total += 1
        ordinal = 0 if last is None else last + 1
        lines.new[digest] = ordinal
        while self._total > HOST_LINES_LIMIT and len(self._hosts) > 1:
            longest_ago = self._hosts.pop(next(iter(self._hosts)))
            self._total -= len(longest_ago.new) + len(longest_ago.old)
        return _id(digest, ordinal)


def _digest(kind: str, host: str, family: str, procid: str, time_us: int, text: str) -> bytes:
    parts = (kind, host, family, procid, str(time_us // _SECOND), text)
    return blake2b("\0".join(parts).encode("latin-1", "replace"), digest_size=16).digest()


def _id(digest: bytes, ordinal: int) -> str:
    return digest.hex() if ordinal == 0 else derived(digest.hex(), str(ordinal))


def derived(login_id: str, kind: str) -> str:
    """Return the id of another event of the same session."""
    return blake2b(f"{login_id}\0{kind}".encode(), digest_size=16).hexdigest()
