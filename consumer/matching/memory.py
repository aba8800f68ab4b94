"""
Remembers what texts say.

Most lines of a server under attack repeat an earlier text, from another port. ``Memory`` finds such a text without its port. Only
a new text goes through the matcher, which alone decides what it says.

A remembered text means the same with every port, because

* the port is the one that the rule has read, and no other value includes it;
* no rule can tell one port from another, or one length below ``_LIMIT`` from another (``tests/unit/matching/test_memory.py``
  checks all rules);
* the matcher takes nothing else from the row: texts whose header it repairs, or whose sender it finds in them, are not
  remembered.
"""

from typing import Any, Final

from consumer.framing.timestamps import Timestamps
from consumer.matching.matcher import ANNOTATED, UNFRAMED, UNMATCHED, Matcher, is_unframed
from consumer.matching.rules import HINTS, ONLY_COUNTS, TELLS, CompiledRule, Reading
from consumer.records import HOST, RULE, TEXT_LIMIT, TRUSTED, Line, Row

# Longer texts are rare. The limit is below every length that makes a difference: 200 bytes, in rules for names that sshd has cut,
# less the digits of a port.
_LIMIT = 190
# Texts in memory, each of about half a kilobyte. An attacker repeats the same few for a while.
_TEXTS_LIMIT = 8192
# If more than three tenths of so many lines are new, remembering costs more than it saves. sshbell then does without it for a
# while.
_LINES_JUDGED = 2048
_NEW_OF_TEN = 3
_LINES_WITHOUT = 64 * _LINES_JUDGED

_PORT = " port "
# The line of another program that says nothing to sshbell.
_NOTHING: Final = "nothing"


# What a text says, whenever and from whatever host, process and port. In this order:
#     use      of the rule; or UNMATCHED, UNFRAMED, _NOTHING
#     rule, program, repeats
#     before   the rule has read this, and then the part of the text; None: it has read the text
#     part
#     user, invalid, address, port, method, extra, preauth: see CORE; the port is None if it is not a part of what is remembered
_Meaning = tuple[
    str, int, str, int, str | None, slice,
    str | None, str | None, str | None, str | None, str | None, str | None, str | None,
]  # fmt: skip
_WHOLE: Final = slice(None)


class Memory:
    """Reads the rows of one source as ``Matcher.lines`` does, with a memory."""

    def __init__(self, matcher: Matcher) -> None:
        self._matcher = matcher
        self._texts: dict[str, dict[str, _Meaning]] = {}  # by program; then by text without its port
        self._total = 0
        self._judged = self._new = 0
        self._lines_without = 0

    def lines(self, rows: list[Row], timestamps: Timestamps, first: int, counts: list[int], *, keep_text: bool) -> list[Line]:  # noqa: C901, PLR0912, PLR0915 - every line passes through here, so it avoids calls
        """Read rows for the correlator: see ``Matcher.lines``."""
        if self._lines_without > 0 or not self._matcher.is_lowered:
            self._lines_without -= len(rows)
            return self._matcher.lines(rows, timestamps, first, counts, keep_text=keep_text)
        lines: list[Line] = []
        all_texts = self._texts
        rules = self._matcher.rules
        witness = ""  # see Matcher.lines
        place = first - 1
        for row in rows:
            place += 1
            stamp, host, name, procid, text, trusted = row
            key, port = text, None
            front, found, behind = text.partition(_PORT)
            if found:
                word, blank, rest = behind.partition(" ")
                if word.isdecimal():
                    key, port = f"{front}\n{blank}{rest}", word
                else:
                    word, colon, more = word.partition(":")
                    if word.isdecimal():
                        key, port = f"{front}\n{colon}{more}{blank}{rest}", word
            meaning = None
            if procid and (port is None or len(port) < 6) and not (trusted and len(trusted[1]) > TEXT_LIMIT):
                texts = all_texts.get(name)
                meaning = None if texts is None else texts.get(key)
                if meaning is None:
                    meaning = self._learned(row, key, port)
            else:
                self._new += 1
            if meaning is None:
                line = self._matcher.line(row, timestamps, place, counts, keep_text=keep_text)
                if line is not None:
                    use = rules[line[RULE]].use
                    if use is TELLS and line[TRUSTED] is None:
                        witness = line[HOST]
                    if not (use is HINTS and line[HOST] == witness and line[TRUSTED] is None):
                        lines.append(line)
                continue
            sender: Any = trusted or None
            use, rule, program, repeats, before, part, user, invalid, address, other_port, method, extra, preauth = meaning
            if use is TELLS:
                if host == witness:
                    host = witness
                elif not trusted:
                    witness = host
            elif use is HINTS:
                if host == witness and not trusted:
                    counts[rule] += 1
                    continue
            elif use is ONLY_COUNTS:
                counts[rule] += 1
                continue
            elif use is _NOTHING:
                continue
            elif use is UNMATCHED or use is UNFRAMED:
                self._matcher.count_unread(use, host, text, sender if use is UNMATCHED else None, counts)
                continue
            counts[rule] += 1
            kept = "" if not keep_text else text if before is None else before + text[part]
            remembered: Any = (
                rule, timestamps.microseconds(stamp), place, repeats, kept, sender, False, program, host, procid,
                user, invalid, address, port or other_port, method, extra, preauth,
            )  # fmt: skip
            lines.append(remembered)
        self._judge(len(rows))
        return lines

    def _judge(self, count: int) -> None:
        """Stop remembering for a while if much is new."""
        self._judged += count
        if self._judged >= _LINES_JUDGED:
            if self._new * 10 > self._judged * _NEW_OF_TEN:
                self._lines_without = _LINES_WITHOUT
            self._judged = self._new = 0

    def _learned(self, row: Row, key: str, port: str | None) -> _Meaning | None:
        """Ask the matcher what a new text says, and remember it; None if that cannot be remembered."""
        self._new += 1
        _stamp, _host, name, _procid, text, _trusted = row
        if not name or len(text) > _LIMIT or ANNOTATED in text:
            return None
        meaning = self._plain(name, text, port)
        if meaning is None:
            reading = self._matcher.look(row)
            if reading is None:
                meaning = _only(UNFRAMED if is_unframed(row) else _NOTHING)
            elif reading.rule is None:
                meaning = _only(UNMATCHED)
            elif reading.rule.use is ONLY_COUNTS or not reading.program.family:
                meaning = _only(ONLY_COUNTS, reading.rule.index)
            else:
                meaning = _meaning_of(reading, reading.rule, row, port)
        if meaning is not None:
            if self._total >= _TEXTS_LIMIT:
                self._texts.clear()
                self._total = 0
            self._texts.setdefault(name, {})[key] = meaning
            self._total += 1
        return meaning

    def _plain(self, name: str, text: str, port: str | None) -> _Meaning | None:
        """Return what a text says that a rule reads as it stands; None for others, and if the text alone does not decide it."""
        found = self._matcher.plain(name, text)
        if found is None:
            return None
        (_match, rule, core, use, program), match = found
        if use is ONLY_COUNTS:
            return _only(use, rule)
        user, invalid, address, own_port, method, extra, preauth = match.group(*core)
        if port is not None:
            if own_port is None or match.start(core[3]) != text.index(_PORT) + len(_PORT):
                return None
            own_port = None
        return use, rule, program, 1, None, _WHOLE, user, invalid, address, own_port, method, extra, preauth


def _only(use: str, rule: int = 0) -> _Meaning:
    """Return what a text says that the correlator does not get."""
    return use, rule, "", 1, None, _WHOLE, None, None, None, None, None, None, None


def _meaning_of(reading: Reading, rule: CompiledRule, row: Row, port: str | None) -> _Meaning | None:
    """Return what a line for the correlator says; None if the text alone does not decide it."""
    stamp, host, _name, procid, text, _trusted = row
    if (reading.stamp, reading.host, reading.procid) != (stamp, host, procid) or reading.is_ambiguous or reading.is_annotated:
        return None
    own = reading.text
    before, shared = "", own
    if reading.program.module is not None:
        # The tag names the module, and the matcher has put it before the message.
        before, _, shared = own.partition(": ")
        before += ": "
    if text.count(shared) != 1:
        return None
    begin, end = text.index(shared), text.index(shared) + len(shared) - len(text)
    match: Any = reading.match
    user, invalid, address, own_port, method, extra, preauth = reading.core()
    if port is not None:
        group = rule.core[3]
        if own_port != port or begin - len(before) + match.start(group) != text.index(_PORT) + len(_PORT):
            return None
        own_port = None
    return (
        rule.use, rule.index, reading.program.name, reading.repeats, None if own == text else before, slice(begin, end or None),
        user, invalid, address, own_port, method, extra, preauth,
    )  # fmt: skip
