"""
A rule that can be matched, and the line that was read by one: what the matcher, the messages and the correlator share.

A rule is either lowered to a regular expression or run by pyparsing as it is written; a match looks the same to both.
"""

import re
from collections.abc import Callable
from functools import cached_property
from typing import Any, Literal, NamedTuple, Protocol

import pyparsing as pp

from consumer.actions import LineAction
from consumer.matching.lowering import leading_pieces, lower
from consumer.records import Trusted
from grammars.rule import Rule

Engine = Literal["lowered", "pyparsing"]

# What the correlator is given of a match, whatever the rule: in this order, None where the rule has no such field.
CORE = ("user", "invalid", "address", "port", "method", "extra", "preauth")
Core = tuple[str | None, str | None, str | None, str | None, str | None, str | None, str | None]
_SYNONYMS = {
    "user": ("user", "user_old", "user_cut", "ruser"),
    # The first of these that a rule has.
    "extra": ("method_info", "child_pid", "connection_pid", "user_uid", "session_kind", "more", "reason", "key_fingerprint"),
}

# log.c, do_log(): sshd cuts a line at 500 bytes, so a longer one is not sshd's, and one of just this length has lost its end.
SSHD_LIMIT = 500
# A name has 200 bytes at most in the lines of a connection's end: a shorter line has not been cut, whatever followed it.
WHOLE_BELOW = 300
_RELAYED = frozenset(
    {
        LineAction.CONNECTION_CLOSED,
        LineAction.DISCONNECTED,
        LineAction.MAX_ATTEMPTS,
        LineAction.TIMEOUT,
        LineAction.PROTOCOL_ERROR,
    }
)

# What becomes of a line that a rule has read.
TELLS, TELLS_OF_PAM, HINTS, ONLY_COUNTS = "tells", "tells of PAM", "hints", "only counts"


class RuleMatch(Protocol):
    """The part of ``re.Match`` that is used of both engines' results."""

    def group(self, *groups: int) -> Any:
        """Return the texts of some groups."""

    def __getitem__(self, group: int, /) -> Any:
        """Return the text of one group."""


class CompiledRule:
    """
    One rule, ready to be matched by either engine.

    Attributes:
        is_hint: it is PAM's word about a failed try, which counts only where sshd itself is not heard.
        use: what becomes of a line that it reads.

    Raises:
        ValueError: the rule's action has no row in ``LineAction``.
    """

    def __init__(self, rule: Rule, index: int, family: str, *, is_pam: bool, engine: Engine) -> None:
        self.name = rule.name
        self.family = family
        self.action = LineAction(rule.action)
        self.index = index
        self.is_pam = is_pam
        self.is_hint = is_pam and self.action.outcome == "failure"
        self.use = ONLY_COUNTS if not self.action.is_correlated else HINTS if self.is_hint else TELLS_OF_PAM if is_pam else TELLS
        self._expression = rule.expression
        self._engine = engine

    @cached_property
    def leading(self) -> list[list[str | re.Pattern[str]]]:
        """What a text must begin with; found when a line of the family is read for the first time."""
        return leading_pieces(self._expression)

    def ready(self) -> "CompiledRule":
        """Lower the rule, when it is needed for the first time: a log meets a third of all rules."""
        if not hasattr(self, "match"):
            if self._engine == "lowered":
                lowered = lower(self._expression)
                self.match: Callable[..., Any] = lowered.pattern.match
                self.fields = lowered.groups
                self.core = self._core_groups(lowered.groups, lowered.absent)
            else:
                self.match = _PyparsingMatch.of(self._expression)
                self.fields = {}
                self.core = tuple(range(len(CORE)))
        return self

    @staticmethod
    def _core_groups(groups: dict[str, tuple[int, ...]], absent: int) -> tuple[int, ...]:
        numbers = []
        for name in CORE:
            found = [groups[field] for field in _SYNONYMS.get(name, (name,)) if field in groups]
            numbers.append(found[0][0] if found else absent)
        return tuple(numbers)

    def groupdict(self, match: RuleMatch) -> dict[str, str]:
        """Return the fields that ``match`` has, by their names in the grammar; of alternatives that share a name, one matches."""
        if isinstance(match, _PyparsingMatch):
            return {name: text for name, text in match.fields.items() if text is not None}
        return {name: text for name, numbers in self.fields.items() for number in numbers if (text := match[number]) is not None}

    def can_start(self, key: str) -> bool:
        """Tell whether a text that begins with ``key`` can match."""
        return any(_starts(way, key) for way in self.leading)


def _starts(way: list[str | re.Pattern[str]], key: str) -> bool:
    position = 0
    for piece in way:
        if isinstance(piece, str):
            if len(key) - position <= len(piece):
                return piece.startswith(key[position:])
            if not key.startswith(piece, position):
                return False
            position += len(piece)
        else:
            run = piece.match(key, position)
            if run is None:
                return position == len(key)
            position = run.end()
    return True


class _PyparsingMatch:
    """A result of pyparsing that gives CORE as ``re.Match`` would, by numbers from 0."""

    def __init__(self, fields: dict[str, str | None]) -> None:
        self.fields = fields
        self._core = tuple(
            next((fields[field] for field in _SYNONYMS.get(name, (name,)) if field in fields), None) for name in CORE
        )

    @classmethod
    def of(cls, expression: pp.ParserElement) -> Callable[[str], RuleMatch | None]:
        def match(text: str) -> RuleMatch | None:
            try:
                return cls(expression.parse_string(text, parse_all=True).as_dict())
            except pp.ParseException:
                return None

        return match

    def group(self, *groups: int) -> tuple[str | None, ...]:
        return tuple(self._core[group] for group in groups)

    def __getitem__(self, group: int, /) -> str | None:
        return self._core[group]


class Program(NamedTuple):
    """What a tag says about who wrote the line."""

    name: str  # "sshd-session"
    family: str  # "sshd": all programs that log one connection; "" for a program of which only PAM's lines are read
    module: str | None = None  # "pam_unix" where the tag is "sshd(pam_unix)"


class Reading(NamedTuple):
    """One line that was read: who wrote it, which text was matched, and by which rule."""

    program: Program
    host: str
    procid: str
    text: str
    repeats: int  # "message repeated 3 times" stands for three
    rule: CompiledRule | None  # None: a line of sshd, dropbear or PAM that no rule reads
    match: RuleMatch | None
    trusted: Trusted | None = None
    stamp: str = ""  # the time, where the header parts were put back as well
    is_annotated: bool = False  # an annotation stood behind the text; a name at its end may have been a part of it
    is_torn: bool = False  # what looks like an annotation stands in it, which may be a peer's or a forger's

    @property
    def is_ambiguous(self) -> bool:
        """
        The line may have another end, and what looks like an address may be a part of one, or of the user's name.

        It has sshd's greatest length; or it ends a connection, and is so long, with a name of many escapes, that blanks may
        have been cut off behind it, which journald does.
        """
        if self.is_torn:
            return True
        if self.rule is None or self.rule.is_pam:
            return False
        is_relayed = self.rule.action in _RELAYED and "\\" in self.text
        return len(self.text) >= SSHD_LIMIT or (is_relayed and len(self.text) >= WHOLE_BELOW)

    def core(self) -> Core:
        """Return what the correlator needs of the match."""
        if self.rule is None or self.match is None:
            return None, None, None, None, None, None, None
        user, invalid, address, port, method, extra, preauth = self.match.group(*self.rule.core)
        if self.is_ambiguous:
            address = port = None
        return user, invalid, address, port, method, extra, preauth
