"""
Compiled rules, and the lines that they have read. The matcher, the messages and the correlator share these types.

sshbell either lowers a rule to a regular expression, or lets pyparsing run it as written. The matches look the same.
"""

import re
from collections.abc import Callable
from typing import Any, Final, Literal, NamedTuple, Protocol

from consumer.actions import LineAction
from consumer.records import EXTRA, USER, Trusted

Engine = Literal["lowered", "pyparsing"]

# The families of programs: FAMILY of their grammars.
SSHD: Final = "sshd"
SFTP: Final = "sftp"
DROPBEAR: Final = "dropbear"
# The program that asks for one-time codes. Its lines belong to connections of sshd, so it is of that family.
SSHBELL_PAM: Final = "sshbell-pam"

# The fields of a match that the correlator gets, in this order, for every rule. A field that the rule does not have is None.
CORE = ("user", "invalid", "address", "port", "method", "extra", "preauth")
Core = tuple[str | None, str | None, str | None, str | None, str | None, str | None, str | None]
SYNONYMS = {
    "user": ("user", "user_old", "user_cut", "ruser"),
    # The service of a PAM line: sshd, but any tag may stand before it.
    "method": ("method", "service"),
    # The rule's first field from this list.
    "extra": (
        "method_info", "code", "child_pid", "connection_pid", "user_uid", "session_kind", "more", "reason", "key_fingerprint",
    ),
}  # fmt: skip

# log.c, do_log(): sshd cuts lines at 500 bytes. So a longer line is not from sshd, and one of this length has lost its end.
SSHD_LIMIT = 500
# In the lines about the end of a connection, a name has 200 bytes at most. So a shorter line has not been cut.
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

# How the correlator uses a line that a rule has read.
TELLS: Final = "tells"
TELLS_OF_PAM: Final = "tells of PAM"
HINTS: Final = "hints"
ONLY_COUNTS: Final = "only counts"


class RuleMatch(Protocol):
    """The part of ``re.Match`` that the results of both engines have."""

    def group(self, *groups: int) -> Any:
        """Return the texts of these groups."""

    def __getitem__(self, group: int, /) -> Any:
        """Return the text of one group."""


class Matching(NamedTuple):
    """How a rule reads a text. ``groups`` are None for a match with its own ``fields``, whose groups are those of CORE."""

    match: Callable[[str], Any]  # returns a RuleMatch; None if the rule does not read the text
    groups: dict[str, tuple[int, ...]] | None  # field name -> group numbers; several if alternatives share a name
    absent: int  # a group that never matches: stands for the fields that this rule does not have


class RuleSource(Protocol):
    """Where a compiled rule comes from: see ``grammar_rules``."""

    @property
    def name(self) -> str:
        """The name of the rule."""

    @property
    def action(self) -> str:
        """Its ``event.action``."""

    def leading(self) -> list[list[str | re.Pattern[str]]]:
        """Return the possible beginnings of its texts."""

    def matching(self) -> Matching:
        """Return its match function."""


class CompiledRule:
    """
    One rule, for either engine.

    Attributes:
        is_of_sshd: it reads lines of sshd, sftp-server or dropbear, not of PAM or ``sshbell-pam``.
        is_hint: it reads PAM's report of a failed try, which counts only if there are no lines from sshd.
        use: how the correlator uses the lines that it reads.

    Raises:
        ValueError: the rule's action has no row in ``LineAction``.
    """

    def __init__(self, source: RuleSource, index: int, family: str, *, is_pam: bool) -> None:
        self.name = source.name
        self.family = family
        self.action = LineAction(source.action)
        self.index = index
        self.is_pam = is_pam
        self.is_hint = is_pam and self.action.outcome == "failure"
        # PAM's lines of a failed try count only where sshd's own are missing, and these are not sshd's own.
        self.is_of_sshd = not is_pam and family != SSHBELL_PAM
        use = TELLS if self.is_of_sshd else HINTS if self.is_hint else TELLS_OF_PAM
        self.use = use if self.action.is_correlated else ONLY_COUNTS
        self._source = source
        self._leading: list[list[str | re.Pattern[str]]] | None = None

    def leading(self) -> list[list[str | re.Pattern[str]]]:
        """Return the possible beginnings of its texts; computed when sshbell reads the first line of the family."""
        if self._leading is None:
            self._leading = self._source.leading()
        return self._leading

    def ready(self) -> "CompiledRule":
        """Return this rule; lower it at its first use, because a log needs only a third of all rules."""
        if not hasattr(self, "match"):
            matching = self._source.matching()
            self.match: Callable[..., Any] = matching.match
            self.fields = matching.groups
            self.core = tuple(range(len(CORE))) if self.fields is None else self._core_groups(self.fields, matching.absent)
        return self

    @staticmethod
    def _core_groups(groups: dict[str, tuple[int, ...]], absent: int) -> tuple[int, ...]:
        numbers = []
        for name in CORE:
            found = [groups[field] for field in SYNONYMS.get(name, (name,)) if field in groups]
            numbers.append(found[0][0] if found else absent)
        return tuple(numbers)

    def groupdict(self, match: Any) -> dict[str, str]:
        """Return the fields of ``match`` by their names in the grammar. Of alternatives with the same name, one matches."""
        if self.fields is None:
            return {name: text for name, text in match.fields.items() if text is not None}
        return {name: text for name, numbers in self.fields.items() for number in numbers if (text := match[number]) is not None}

    def can_start(self, key: str) -> bool:
        """Return whether a text that begins with ``key`` can match."""
        return any(_starts(way, key) for way in self.leading())


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


class Program(NamedTuple):
    """The program that wrote a line, according to its tag."""

    name: str  # "sshd-session"
    family: str  # "sshd": all programs that log one connection; "": sshbell reads only PAM's lines of this program
    module: str | None = None  # "pam_unix" if the tag is "sshd(pam_unix)"


class Reading(NamedTuple):
    """One line: the program that wrote it, the text, and the rule that read it."""

    program: Program
    host: str
    procid: str
    text: str
    repeats: int  # 3 for "message repeated 3 times"
    rule: CompiledRule | None  # None: no rule reads this line of sshd, dropbear or PAM
    match: RuleMatch | None
    trusted: Trusted | None = None
    stamp: str = ""  # the time, after a repair of the header
    is_annotated: bool = False  # an annotation followed the text, and may have begun within a name at its end
    is_torn: bool = False  # the text contains an apparent annotation, perhaps from a peer or a forger

    @property
    def is_ambiguous(self) -> bool:
        """
        Whether the line may have lost its end, so that an apparent address may be part of an address or of the user name.

        That is so if the line has the greatest length that sshd writes. It is also so for a long line about the end of a
        connection with escapes in the name: sshd may have cut it, and journald may have removed the blanks at its end.
        """
        if self.is_torn:
            return True
        if self.rule is None or self.rule.is_pam:
            return False
        if self._names_a_key:
            return False
        is_relayed = self.rule.action in _RELAYED and "\\" in self.text
        return len(self.text) >= SSHD_LIMIT or (is_relayed and len(self.text) >= WHOLE_BELOW)

    @property
    def _names_a_key(self) -> bool:
        """
        Whether this is a login with a key or certificate.

        A colon precedes the text about the key, and no account's name has one. So the address stands before that text, and only
        the text can have lost its end or contain an apparent annotation, such as in a certificate's long id.
        """
        if self.rule is None or self.match is None or self.rule.action is not LineAction.ACCEPTED:
            return False
        return self.match.group(self.rule.core[EXTRA - USER]) is not None

    def core(self) -> Core:
        """Return the fields of the match that the correlator needs."""
        if self.rule is None or self.match is None:
            return None, None, None, None, None, None, None
        user, invalid, address, port, method, extra, preauth = self.match.group(*self.rule.core)
        if self.is_ambiguous and not self._names_a_key:
            address = port = None
        return user, invalid, address, port, method, extra, preauth
