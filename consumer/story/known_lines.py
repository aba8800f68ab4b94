"""What has been read of late, to be compared with a log file at the next start."""

from array import array
from collections import Counter
from collections.abc import Callable, Iterable
from hashlib import blake2b

from consumer.records import HOST, PROCID, PROGRAM, REPEATS, TEXT, TIME, Line
from consumer.story.connections import SECOND

# Lines that are remembered to be compared with the log file at the next start.
KNOWN_LIMIT = 262_144


_KNOWN_KEPT = 65_536


class KnownLines:
    """
    What has been read of late, line by line, to be compared with a log file: as digests of what every framing shows.

    A ring; the time of the oldest one tells from when on it is whole.
    """

    def __init__(self, family_of: Callable[[str], str]) -> None:
        self._family_of = family_of
        self._digests = array("Q")
        self._seconds = array("q")
        self._is_partial = False  # older ones were forgotten
        self.total = 0

    def add(self, lines: Iterable[Line]) -> None:
        """Remember lines."""
        for line in lines:
            digest, second = self._digest(line), (line[TIME] or 0) // SECOND
            if self.total < KNOWN_LIMIT:
                self._digests.append(digest)
                self._seconds.append(second)
            else:
                place = self.total % KNOWN_LIMIT
                self._digests[place], self._seconds[place] = digest, second
            self.total += 1

    def _digest(self, line: Line) -> int:
        parts = (line[HOST], self._family_of(line[PROGRAM]), line[PROCID], str((line[TIME] or 0) // SECOND), line[TEXT])
        return int.from_bytes(blake2b("\0".join(parts).encode("latin-1", "replace"), digest_size=8).digest(), "little")

    def comparison(self) -> Callable[[Line], bool]:
        """Return what tells of each line of a file whether it is none of those that are remembered; too old to tell is not."""
        left = Counter(self._digests)
        oldest = min(self._seconds) if self._is_partial or self.total > KNOWN_LIMIT else 0

        def is_missing(line: Line) -> bool:
            digest = self._digest(line)
            left[digest] -= 1
            return left[digest] < 0 and line[REPEATS] == 1 and (line[TIME] or 0) // SECOND >= oldest

        return is_missing

    def state(self) -> tuple[bytes, bytes, bool]:
        """Return the latest of what is remembered."""
        first = max(0, self.total - _KNOWN_KEPT)
        places = [number % KNOWN_LIMIT for number in range(first, self.total)]
        digests, seconds = (
            array("Q", (self._digests[place] for place in places)),
            array("q", (self._seconds[place] for place in places)),
        )
        return digests.tobytes(), seconds.tobytes(), self._is_partial or first > 0

    def restore(self, digests: bytes, seconds: bytes, *, is_partial: bool) -> None:
        """Take over what an earlier process remembered."""
        self._is_partial = is_partial
        self._digests, self._seconds = array("Q", digests), array("q", seconds)
        self.total = len(self._digests)
