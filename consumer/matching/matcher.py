"""
Find the rule that reads a line.

A matcher takes the rows of a framing and gives, for each line of sshd, dropbear or PAM, what the correlator needs of it. This
is on the way of every line, so nothing is packed: a row and a match are plain tuples. ``parse`` and ``explain`` use ``find``,
which gives everything that a line says.
"""

import re
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

from consumer.framing.framer import mended
from consumer.framing.timestamps import Timestamps
from consumer.matching.rules import (
    HINTS,
    ONLY_COUNTS,
    SSHD_LIMIT,
    TELLS,
    WHOLE_BELOW,
    CompiledRule,
    Engine,
    Program,
    Reading,
    RuleMatch,
)
from consumer.records import Line, Row
from grammars import dropbear, pam, sshd

# pam_syslog() does not cut; names of some hundred bytes are the longest it is given.
PAM_LIMIT = 2000

# Text that stands between the tag and the message on some systems: Solaris' msgid(3C), a kernel time stamp, a second blank.
_NOISE = re.compile(r" *(?:\[ID [0-9]+ [a-z0-9]+\.[a-z]+\] |kernel: ?\[ *[0-9]+\.[0-9]+\]:? )?")
_REPEATED = re.compile(r"message repeated ([0-9]{1,9}) times: \[ (.*)\]\Z")
_OLD_PAM = re.compile(r"\((pam_[a-z0-9_]+)\) ")
_PID_IN_TEXT = re.compile(r"\[([0-9]{1,10})\]: ")
_TAG_WITH_MODULE = re.compile(r"([^()]+)\((pam_[a-z0-9_]+)\)\Z")
_PAM_LINE = re.compile(r"(?:pam_[a-z0-9_]+\(|\(pam_[a-z0-9_]+\) |PAM [0-9]+ more |PAM service\()")
# rsyslog's imuxsock, SysSock.Annotate: the end of the text. _COMM, _EXE and _CMDLINE are missing when the sender is gone.
_ANNOTATED = " @[_PID="
# sshd's lines have room for no more; another's does not matter.
_ANNOTATIONS_LIMIT = 32
# rsyslog cuts a message at 8 kB; a longer one is not matched anyway.
_ANNOTATED_LIMIT = 8192
_ANNOTATION = re.compile(r" @\[_PID=[0-9]{1,10} _UID=([0-9]{1,10}) _GID=[0-9]{1,10}")

# Names that rsyslog makes of a header it does not know: a facility, a part of an IPv6 address, a host with odd characters.
_MOVED = re.compile(r"[0-9A-Fa-f]{0,4}\Z|[a-z0-7]+\.[a-z]+\Z|.*[^A-Za-z0-9._/()-]")

# The candidates of a line are remembered by its first characters; PAM's common prefix says nothing, so more are needed there.
_KEY_LENGTH = 12
_PAM_KEY_LENGTH = 34
_CACHE_LIMIT = 4096

# A rule as ``Matcher.lines`` wants it: how to match, its index, the groups of CORE, the use; and the program's name, one text
# for all lines that are held.
Candidate = tuple[Callable[[str], Any], int, tuple[int, ...], str, str]


class Matcher:
    """
    All rules of all grammars.

    Args:
        programs: further names of sshd's binary, as they stand in the tag.
        engine: ``lowered``, or ``pyparsing`` to run the grammars as they are written (for comparison; about 40 times slower).
    """

    def __init__(self, programs: Iterable[str] = (), engine: Engine = "lowered") -> None:
        own = [(rule, sshd.FAMILY, False) for rule in sshd.RULES]
        dropbears = [(rule, dropbear.FAMILY, False) for rule in dropbear.RULES]
        pams = [(rule, "", True) for rule in pam.RULES]
        compiled = [
            CompiledRule(rule, index, family, is_pam=is_pam, engine=engine)
            for index, (rule, family, is_pam) in enumerate(own + dropbears + pams)
        ]
        self.rules = compiled
        after_own, after_dropbear = len(own), len(own) + len(dropbears)
        self._by_family = {
            sshd.FAMILY: compiled[:after_own] + compiled[after_dropbear:],
            dropbear.FAMILY: compiled[after_own:],
            "": compiled[after_dropbear:],
        }
        self._candidates: dict[str, dict[str, list[CompiledRule]]] = {family: {} for family in self._by_family}
        self._names = dict.fromkeys((*sshd.PROGRAMS, *programs), sshd.FAMILY) | dict.fromkeys(dropbear.PROGRAMS, dropbear.FAMILY)
        self._by_first: dict[tuple[str, str], list[CompiledRule]] = {}
        self._programs: dict[str, Program] = {}
        # For ``lines``: by program name and key. Names with a path or a module take the longer way.
        self._plain: dict[str, dict[str, list[Candidate]]] = {name: {} for name in self._names}

    def program(self, name: str) -> Program:
        """Return who writes under the tag ``name``: also a path, and the old ``sshd(pam_unix)``."""
        found = self._programs.get(name)
        if found is None:
            if len(self._programs) >= _CACHE_LIMIT:
                self._programs.clear()
            tagged = _TAG_WITH_MODULE.match(name)
            base = (tagged[1] if tagged else name).rpartition("/")[2]
            found = self._programs[name] = Program(base, self._names.get(base, ""), tagged[2] if tagged else None)
        return found

    def is_program(self, name: str) -> bool:
        """Tell whether lines under the tag ``name`` are sshd's or dropbear's."""
        return self.program(name).family != ""

    def candidates(self, family: str, text: str) -> list[CompiledRule]:
        """Return the rules that can read a text that begins like ``text``, in the order of the grammar."""
        key = text[:_PAM_KEY_LENGTH] if text[:1] == "p" else text[:_KEY_LENGTH]
        cache = self._candidates[family]
        found = cache.get(key)
        if found is None:
            if len(cache) >= _CACHE_LIMIT:
                cache.clear()
            found = cache[key] = [rule.ready() for rule in self._beginning(family, key[:1]) if rule.can_start(key)]
        return found

    def _beginning(self, family: str, first: str) -> list[CompiledRule]:
        """Return the rules of a family that can read a text with this first character."""
        found = self._by_first.get((family, first))
        if found is None:
            rules = [rule for rule in self._by_family[family] if rule.can_start(first)]
            found = self._by_first[family, first] = rules  # at most 256 characters, and none
        return found

    def find(self, row: Row) -> Reading | None:
        """
        Read one line. None: it is another program's.

        The order of what is undone here: the annotation of imuxsock, noise before the message, a repetition, old PAM forms.
        """
        _stamp, host, name, procid, text, trusted = row
        program = self.program(name)
        if not program.family and program.module is None and not _PAM_LINE.match(text):
            _stamp, host, name, procid, text, trusted = mended(row, self.is_program)
            program = self.program(name)
            if not program.family:
                return None
        if not trusted and text[-1:] == "]" and _ANNOTATED in text:
            # Where the record has the kernel's word in a field of its own, rsyslog adds none to the text.
            return self._find_annotated(program, host, procid, text)
        known = trusted if isinstance(trusted, tuple) else None
        return self._read(program, host, procid, text)._replace(trusted=known)

    def _read(self, program: Program, host: str, procid: str, text: str) -> Reading:
        """Read a text without an annotation."""
        if program.module is not None:
            text = f"{program.module}({program.name}): {text}"
        count = 1
        rule, match = self._match(program.family, text)
        if rule is None:
            if repeated := _REPEATED.match(text):
                count, text = int(repeated[1]), repeated[2]
            procid, plain = _plain(procid, text, program)
            rule, match = self._match(program.family, plain)
            if rule is not None:
                text = plain
        return Reading(program, host, procid, text, count, rule, match)

    def _find_annotated(self, program: Program, host: str, procid: str, text: str) -> Reading:
        """
        Read a text with what looks like imuxsock's annotation at its end.

        A peer can write one into a name, and a forger into the command line that rsyslog shows behind its own: so each that
        begins in the text may be rsyslog's, and what stands before it the message. An annotation may convict but not acquit,
        since where rsyslog adds none a sender can write it: a user's id counts, root's proves nothing.
        """
        # rsyslog folds equal lines with their annotations: "[ TEXT @[...]]".
        end = "]" if text.startswith("message repeated ") and text.endswith("]]") else ""
        whole = self._read(program, host, procid, text)
        if len(text) > _ANNOTATED_LIMIT:
            return whole
        begun = list(islice(_ANNOTATION.finditer(text), _ANNOTATIONS_LIMIT))
        uids = [int(match[1]) for match in begun]
        for number in range(len(begun) - 1, -1, -1):
            found = self._read(program, host, procid, text[: begun[number].start()] + end)
            if found.rule is not None:
                break
        else:
            return whole if whole.rule is not None or not begun else found
        uid = max(uids[number:])
        # sshd's own word: "[preauth]" is the monitor's, but "Accepted" never ends so; and what it cut has lost its true end.
        is_whole = whole.rule is not None and text.endswith(" [preauth]") and not text.startswith("Accepted ")
        if is_whole or len(text) == SSHD_LIMIT:
            return (whole if whole.rule is not None else found)._replace(is_torn=uid != 0)
        if uid:
            return found._replace(trusted=(uid, ""), is_annotated=True)
        return found._replace(is_torn=any(uids[:number]), is_annotated=True)

    def lines(self, rows: list[Row], timestamps: Timestamps, first: int, counts: list[int], *, keep_text: bool) -> list[Line]:  # noqa: C901 - on the way of every line, so it calls nothing that it can do itself
        """
        Read rows for the correlator.

        Args:
            rows: of a framing.
            timestamps: of the same source.
            first: the place of the first row.
            counts: one number a rule, and two more: lines of ours that no rule reads, and lines that no framing fits.
            keep_text: give the text of each line along, of which identities are made.
        """
        lines: list[Line] = []
        append = lines.append
        microseconds = timestamps.microseconds
        plain_get = self._plain.get
        witness = ""  # the host of the last line that was not PAM's
        place = first - 1
        for row in rows:
            place += 1
            stamp, host, name, procid, text, trusted = row
            candidates = plain_get(name)
            # A rule that ends in free text would take imuxsock's annotation, which ends in "]", for a part of it.
            if candidates is not None and len(text) < WHOLE_BELOW and not (text[-1:] == "]" and _ANNOTATED in text):
                key = text[:_PAM_KEY_LENGTH] if text[:1] == "p" else text[:_KEY_LENGTH]
                for match_text, index, core, use, program in candidates.get(key) or self._plain_candidates(name, text):
                    match = match_text(text)
                    if match is not None:
                        counts[index] += 1
                        if use is TELLS:
                            if host == witness:
                                host = witness  # one text for all lines that are held
                            elif not trusted:
                                witness = host
                        elif use is ONLY_COUNTS or (use is HINTS and host == witness):
                            break  # PAM's view of a try counts only where sshd itself has not been heard
                        text = text if keep_text else ""
                        own = (index, microseconds(stamp), place, 1, text, trusted or None, False, program, host, procid)
                        append(own + match.group(*core))
                        break
                else:
                    line = self._line(row, timestamps, place, counts, keep_text=keep_text)
                    if line is not None:
                        append(line)
                continue
            line = self._line(row, timestamps, place, counts, keep_text=keep_text)
            if line is not None:
                append(line)
        return lines

    def _plain_candidates(self, name: str, text: str) -> list[Candidate]:
        """Return the candidates for a line of a program under its own name, and remember them by how the line begins."""
        cache = self._plain[name]
        if len(cache) >= _CACHE_LIMIT:
            cache.clear()
        key = text[:_PAM_KEY_LENGTH] if text[:1] == "p" else text[:_KEY_LENGTH]
        found = cache[key] = [
            (rule.match, rule.index, rule.core, rule.use, name) for rule in self.candidates(self._names[name], text)
        ]
        return found

    def _line(self, row: Row, timestamps: Timestamps, place: int, counts: list[int], *, keep_text: bool) -> Line | None:
        """Read one row for the correlator; None where that has no use for it."""
        stamp, host, name, _procid, text, _trusted = row
        if text[:4] != "pam_" and not self.is_program(name) and not _worth_a_look(name, host, text):
            # Most lines of a mixed log end here: what another program has to say.
            counts[-1] += not name and text != ""
            return None
        found = self.find(row)
        if found is None:
            counts[-1] += not name and text != ""
            return None
        if found.rule is None:
            counts[-2] += 1
            return None
        counts[found.rule.index] += 1
        if found.rule.use is ONLY_COUNTS or not found.program.family:
            return None
        time_us, kept = timestamps.microseconds(stamp), found.text if keep_text else ""
        return (
            found.rule.index, time_us, place, found.repeats, kept, found.trusted, found.is_ambiguous, found.program.name,
            found.host, found.procid, *found.core(),
        )  # fmt: skip

    def _match(self, family: str, text: str) -> tuple[CompiledRule | None, RuleMatch | None]:
        if len(text) > PAM_LIMIT:
            return None, None
        for rule in self.candidates(family, text):
            if len(text) > SSHD_LIMIT and not rule.is_pam:
                continue
            match = rule.match(text)
            if match is not None:
                return rule, match
        return None, None


def _plain(procid: str, text: str, program: Program) -> tuple[str, str]:
    """Return the PID and the message without what some systems put before it."""
    text = text[_NOISE.match(text).end() :]  # type: ignore[union-attr]  # it matches anything
    if old := _OLD_PAM.match(text):
        text = f"{old[1]}({program.name}): {text[old.end() :]}"
    if not procid and (in_text := _PID_IN_TEXT.match(text)):
        return in_text[1], text[in_text.end() :]
    return procid, text


def _worth_a_look(name: str, host: str, text: str) -> bool:
    """Tell whether a line of no known program may yet be one of ours: PAM's, or one whose header was moved about."""
    return name[-1:] == ")" or text[:4] in {"PAM ", "(pam"} or host[:1] in {"<", "1", "2"} or _MOVED.match(name) is not None
