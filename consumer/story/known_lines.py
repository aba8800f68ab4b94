"""Remembers the lines read recently. sshbell compares them with a log file at the next start."""

import re
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b

from consumer.actions import LineAction
from consumer.matching.rules import CompiledRule
from consumer.records import HOST, PLACE, PROCID, PROGRAM, REPEATS, RULE, TEXT, TIME, TRUSTED, USER, Line, Row
from consumer.story.connection import SECOND
from consumer.text import text_of_bytes

# The most lines remembered, and how many of them the saved state keeps.
KNOWN_LIMIT, _KNOWN_KEPT = 262_144, 65_536
# Seconds since 1970.
_EVER, _NEVER = 0, 1 << 62
# The filter of rsyslog.d/30-sshbell.conf: a name without a slash, or an absolute path.
_PASSED = re.compile(r"[^/]+\Z|/.*/[^/]+\Z")


class KnownLines:
    """
    The lines read recently, for comparison with a log file. Each is a digest of those parts that every framing has.

    "Accepted" of a login, unless another user has written it, also leaves a digest of host, PID and user. This is a ring buffer.
    It is complete from the time of its oldest line on.

    Args:
        family_of: returns the family of a program.
        rules: those of the matcher that reads the lines.
    """

    def __init__(self, family_of: Callable[[str], str], rules: Sequence[CompiledRule]) -> None:
        self._family_of = family_of
        self._accepting = frozenset(number for number, rule in enumerate(rules) if rule.action is LineAction.ACCEPTED)
        self._digests = array("Q")
        self._seconds = array("q")
        self._is_partial = False
        self.total = 0

    def add(self, lines: Iterable[Line]) -> None:
        """Remember lines."""
        for line in lines:
            second = (line[TIME] or 0) // SECOND
            self._remember(self._digest(line), second)
            trusted = line[TRUSTED]
            if line[RULE] in self._accepting and (trusted is None or trusted[0] == 0):
                self._remember(_login_of(line), second)

    def _remember(self, digest: int, second: int) -> None:
        if self.total < KNOWN_LIMIT:
            self._digests.append(digest)
            self._seconds.append(second)
        else:
            place = self.total % KNOWN_LIMIT
            self._digests[place], self._seconds[place] = digest, second
        self.total += 1

    def look_no_further_back(self) -> None:
        """Treat no line of a file as missing if it is older than every remembered line."""
        self._is_partial = True

    def _digest(self, line: Line) -> int:
        return _digest_of(line[HOST], self._family_of(line[PROGRAM]), line[PROCID], str((line[TIME] or 0) // SECOND), line[TEXT])

    def comparison(self, rules: Sequence[CompiledRule]) -> "Comparison":
        """Return a comparison of a log file with the remembered lines; ``rules`` belong to the matcher that reads the file."""
        left = Counter(self._digests)
        is_partial = self._is_partial or self.total > KNOWN_LIMIT
        oldest = min(self._seconds, default=_NEVER) if is_partial else _EVER

        def is_missing(line: Line) -> bool:
            digest = self._digest(line)
            left[digest] -= 1
            return left[digest] < 0 and line[REPEATS] == 1 and (line[TIME] or 0) // SECOND >= oldest

        def has_accepted(line: Line) -> bool:
            return _login_of(line) in left

        return Comparison(is_missing, has_accepted, rules)

    def state(self) -> tuple[bytes, bytes, bool]:
        """Return the latest digests, their seconds, and whether older lines were left out."""
        first = max(0, self.total - _KNOWN_KEPT)
        places = [number % KNOWN_LIMIT for number in range(first, self.total)]
        digests, seconds = (
            array("Q", (self._digests[place] for place in places)),
            array("q", (self._seconds[place] for place in places)),
        )
        return digests.tobytes(), seconds.tobytes(), self._is_partial or first > 0

    def restore(self, digests: bytes, seconds: bytes, *, is_partial: bool) -> None:
        """
        Restore the state of an earlier process.

        Raises:
            ValueError: the state is damaged.
        """
        found, times = array("Q", digests), array("q", seconds)
        if len(found) != len(times):
            raise ValueError("as many lines as times are wanted")
        self._is_partial = is_partial
        self._digests, self._seconds = found, times
        self.total = len(found)


def _login_of(line: Line) -> int:
    """Return the digest of host, PID and user."""
    return _digest_of("login", line[HOST], line[PROCID], line[USER] or "")


def _digest_of(*parts: str) -> int:
    return int.from_bytes(blake2b("\0".join(parts).encode("latin-1", "replace"), digest_size=8).digest(), "little")


class Comparison:
    """
    Finds the relevant lines of a log file that never reached sshbell.

    Only lines whose program name passes sshbell's drop-in count. The drop-in blocks all others, and anybody can write them. If
    "Accepted" of a login has arrived, its session line adds nothing. It may even come so late, after the end of the session, that
    sshbell would report a second login.

    Args:
        is_missing: gets each line in turn, and returns whether sshbell does not remember it. A line that is too old to decide is
            not missing.
        has_accepted: returns whether sshbell remembers "Accepted" of the login that a session line belongs to.
        rules: the rules of the matcher that read the file.
    """

    def __init__(
        self, is_missing: Callable[[Line], bool], has_accepted: Callable[[Line], bool], rules: Sequence[CompiledRule]
    ) -> None:
        self._is_missing = is_missing
        self._has_accepted = has_accepted
        self._rules = rules

    def missing(self, block: bytes, rows: Sequence[Row], lines: Iterable[Line]) -> list[bytes]:
        """Return the missing lines of a block. ``rows`` and ``lines`` are the block after parsing, from place 0 on."""
        raw = block.split(b"\n")
        found: list[bytes] = []
        for line in lines:
            _stamp, _host, program, *_ = rows[line[PLACE]]
            text = text_of_bytes(raw[line[PLACE]])
            # The name must follow the host directly: framing would also accept a facility between them.
            begin = text.find(f" {line[HOST]} ") + len(line[HOST]) + 2
            if not _PASSED.match(program) or not text.startswith(program, begin):
                continue
            is_opened = self._rules[line[RULE]].action is LineAction.SESSION_OPENED
            if self._is_missing(line) and not (is_opened and self._has_accepted(line)):
                found.append(raw[line[PLACE]] + b"\n")
        return found
