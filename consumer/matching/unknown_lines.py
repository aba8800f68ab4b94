"""
Counts the lines that no rule reads, by host, and learns their patterns.

A pattern is a line whose names, numbers, addresses and texts are replaced. It shows no names, and stands for many lines.
Two lines of the same length that agree in most words are one pattern; where they differ, it has ``<*>``. This is the idea of
Drain (He et al., 2017), with a table in place of its tree. It depends on nothing but the lines and their order.

The tables have limits, because a peer can choose words of a line. In a full table the rarest pattern makes room, and the new one
takes over its count (Metwally et al., 2005: space saving). So a pattern that keeps coming stays.
"""

import re
from collections import Counter
from collections.abc import Iterable

import msgspec

from consumer.records import HOST, PROGRAM, Line
from consumer.text import harmless, readable

# Hosts and patterns of each that are kept. A host that sends unknown lines has a handful of patterns.
UNKNOWN_HOST_LIMIT, UNKNOWN_PATTERN_LIMIT = 200, 20
# The first characters and words of a line that its pattern shows.
_TEXT_LIMIT, _WORD_LIMIT = 300, 24
# Two lines are one pattern if so many of ten words agree.
_ALIKE_OF_TEN = 6
_ANY = "<*>"
# Names of programs that are kept for each host; they come from the host's own log.
_PROGRAM_LIMIT = 8
# Pairs of host and program that wait to be added to their hosts.
_READ_LIMIT = 1_000

_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")
_AROUND = re.compile(r"([(\[<{]*)(.*?)([)\]>},:;.!?]*)", re.DOTALL)
_NUMBER = re.compile(r"[+-]?[0-9]+(?:\.[0-9]+)?|0x[0-9a-fA-F]+")
_ADDRESS = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}|(?=[0-9A-Fa-f]*:[0-9A-Fa-f:.]*:)[0-9A-Fa-f:.]+(?:%\w+)?")
_KEY = re.compile(r"(?:SHA256|MD5):.+|(?:[0-9a-fA-F]{2}:){7,}[0-9a-fA-F]{2}")
_WORD = re.compile(r"[A-Za-z_][A-Za-z_'/-]{0,31}")
# A name may follow these words. It may be any word, so whatever follows is replaced unless it is a word of sshd's own.
_BEFORE_A_NAME = frozenset({
    "user", "users", "for", "from", "name", "host", "group", "groups", "by", "as", "principal", "account", "owner",
})  # fmt: skip
_OWN_WORDS = frozenset({
    "invalid", "illegal", "user", "unknown", "authenticating", "the", "a", "an", "authentication", "port", "key", "host",
    "session", "connection", "client", "server", "remote", "is", "not", "in", "with", "and", "this", "that", "be", "process",
    "file", "child",
})  # fmt: skip


class UnknownPattern(msgspec.Struct, array_like=True):
    """A pattern of lines, and how many lines fitted it; a pattern that took another one's place counts at most so many."""

    text: str
    count: int


class LineCounts(msgspec.Struct):
    """
    The lines of one host.

    Attributes:
        programs: the names of the programs that wrote lines, which rules read; with the number of lines.
        unmatched: the number of lines that no rule reads.
        patterns: of these lines, the most frequent first.
    """

    programs: dict[str, int] = {}
    unmatched: int = 0
    patterns: list[UnknownPattern] = []

    @property
    def total(self) -> int:
        """The number of all lines."""
        return sum(self.programs.values()) + self.unmatched

    @property
    def release(self) -> str:
        """The release of the daemon, as far as the names of its programs show it."""
        if "sshd-auth" in self.programs:
            return "OpenSSH 10.0 or later"
        if "sshd-session" in self.programs:
            return "OpenSSH 9.8 or later"
        names = set(self.programs)
        return "OpenSSH up to 9.7" if "sshd" in names else "dropbear" if "dropbear" in names else "unknown"


UnknownState = dict[str, LineCounts]


class UnknownLines:
    """The lines of all hosts, by the host's name in its lines."""

    def __init__(self) -> None:
        self._hosts: UnknownState = {}
        # Lines that rules have read, by host and program, which are not in ``_hosts`` yet: every line passes here.
        self._read: dict[tuple[str, str], int] = {}
        # Lines that no rule reads since ``taken``, by host.
        self._fresh: dict[str, int] = {}

    def add(self, host: str, text: str) -> None:
        """Count a line that no rule reads."""
        lines = self._of(host)
        if lines is None:
            return
        lines.unmatched += 1
        self._fresh[host] = self._fresh.get(host, 0) + 1
        _learn(lines.patterns, pattern_of(text))

    def add_read(self, host: str, program: str) -> None:
        """Count a line that a rule reads."""
        key = (host, program)
        self._read[key] = self._read.get(key, 0) + 1

    def add_lines(self, lines: list[Line]) -> None:
        """Count lines that rules have read."""
        read = self._read
        for line in lines:
            key = (line[HOST], line[PROGRAM])
            read[key] = read.get(key, 0) + 1
        if len(read) > _READ_LIMIT:
            self._settle()

    def taken(self) -> dict[str, int]:
        """Return how many lines no rule has read since the last call, by host."""
        fresh, self._fresh = self._fresh, {}
        return fresh

    def state(self) -> UnknownState:
        """Return all counts."""
        self._settle()
        return self._hosts

    def _settle(self) -> None:
        """Add the counts of lines that rules have read to the hosts."""
        for (host, program), count in self._read.items():
            lines = self._of(host)
            if lines is not None and (program in lines.programs or len(lines.programs) < _PROGRAM_LIMIT):
                lines.programs[program] = lines.programs.get(program, 0) + count
        self._read.clear()

    def restore(self, hosts: UnknownState) -> None:
        """Take over the counts of an earlier process."""
        self._hosts = hosts

    def shown(self) -> UnknownState:
        """Return the counts as people read them, and the most frequent patterns first."""
        return {
            readable(host): LineCounts(
                {readable(name): count for name, count in lines.programs.items()},
                lines.unmatched,
                sorted(lines.patterns, key=lambda pattern: (-pattern.count, pattern.text)),
            )
            for host, lines in self.state().items()
        }

    def _of(self, host: str) -> LineCounts | None:
        """Return the lines of a host; None if there are too many hosts, as a relay's client could make them up."""
        lines = self._hosts.get(host)
        if lines is None and len(self._hosts) < UNKNOWN_HOST_LIMIT:
            lines = self._hosts[host] = LineCounts({}, 0, [])
        return lines


def added_up(parts: Iterable[UnknownState]) -> UnknownState:
    """Return the counts of several processes as one. The lines of a host may have gone to more than one of them."""
    found: UnknownState = {}
    for host, lines in (pair for part in parts for pair in part.items()):
        known = found.setdefault(host, LineCounts())
        known.unmatched += lines.unmatched
        for program, count in lines.programs.items():
            known.programs[program] = known.programs.get(program, 0) + count
        counts = Counter({pattern.text: pattern.count for pattern in known.patterns})
        counts.update({pattern.text: pattern.count for pattern in lines.patterns})
        known.patterns = [UnknownPattern(*pair) for pair in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))]
    return found


def pattern_of(text: str) -> str:
    """Return a line with its names, numbers, addresses and quoted texts replaced."""
    is_cut = len(text) > _TEXT_LIMIT
    if not text.strip():
        return "(an empty line)"
    words = _QUOTED.sub("<text>", text[:_TEXT_LIMIT]).split()
    shown: list[str] = []
    before = ""
    for word in words[:_WORD_LIMIT]:
        masked = word if word == "<text>" else _masked(word, before)
        before = word.lower()
        shown.append(masked)
    if is_cut or len(words) > _WORD_LIMIT:
        shown.append("…")
    return " ".join(shown)


def _masked(word: str, before: str) -> str:
    """Return a word as a pattern has it; ``before`` is the word before it."""
    name, equals, value = word.partition("=")
    if equals and _WORD.fullmatch(name):
        return f"{name}={_ANY if value else ''}"
    found = _AROUND.fullmatch(word)
    opening, core, closing = found.groups() if found is not None else ("", word, "")
    if not core:
        return harmless(word)
    if _KEY.fullmatch(core):
        core = "<key>"
    elif _ADDRESS.fullmatch(core):
        core = "<address>"
    elif _NUMBER.fullmatch(core):
        core = "<number>"
    elif core.startswith("/"):
        core = "<path>"
    elif before in _BEFORE_A_NAME and core.lower() not in _OWN_WORDS:
        core = "<name>"
    elif not _WORD.fullmatch(core):
        core = _ANY
    return f"{opening}{core}{closing}"


def _learn(patterns: list[UnknownPattern], text: str) -> None:
    """Count a pattern: as one that it resembles, as a new one, or in place of the rarest."""
    words = text.split(" ")
    best, best_alike = None, 0
    for pattern in patterns:
        if pattern.text == text:
            pattern.count += 1
            return
        others = pattern.text.split(" ")
        if len(others) == len(words) and others[0] == words[0]:
            alike = sum(one == other for one, other in zip(words, others, strict=True))
            if alike > best_alike:
                best, best_alike = pattern, alike
    if best is not None and best_alike * 10 >= len(words) * _ALIKE_OF_TEN:
        best.text = " ".join(_both(words, best.text.split(" ")))
        best.count += 1
    elif len(patterns) < UNKNOWN_PATTERN_LIMIT:
        patterns.append(UnknownPattern(text, 1))
    else:
        rarest = min(patterns, key=lambda pattern: pattern.count)
        rarest.text = text
        rarest.count += 1


def _both(words: list[str], others: Iterable[str]) -> list[str]:
    return [one if one == other else _ANY for one, other in zip(words, others, strict=True)]
