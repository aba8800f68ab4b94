"""
Finds the rule that reads a line.

A matcher takes the rows of a framing. For each line of sshd, dropbear or PAM it returns the fields that the correlator needs.
Every line passes through here, so rows and matches are plain tuples, which are fast. ``parse`` and ``explain`` use ``find``,
which returns all fields of a line.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from consumer.framing.headers import mended
from consumer.framing.timestamps import Timestamps
from consumer.matching.grammar_rules import grammars
from consumer.matching.rules import (
    DROPBEAR,
    HINTS,
    ONLY_COUNTS,
    SFTP,
    SSHBELL_PAM,
    SSHD,
    SSHD_LIMIT,
    TELLS,
    WHOLE_BELOW,
    CompiledRule,
    Engine,
    Program,
    Reading,
    RuleMatch,
    RuleSource,
)
from consumer.records import HOST, RULE, TEXT_LIMIT, TRUSTED, Line, Row, Trusted, bounded, is_long

if TYPE_CHECKING:
    from consumer.matching.unknown_lines import UnknownLines

# pam_syslog() does not cut lines. The longest names that it gets have a few hundred bytes.
PAM_LIMIT = 2000

# Text that some systems put between the tag and the message: Solaris' msgid(3C), a kernel timestamp, a second blank.
_NOISE = re.compile(r" *(?:\[ID [0-9]+ [a-z0-9]+\.[a-z]+\] |kernel: ?\[ *[0-9]+\.[0-9]+\]:? )?")
_REPEATED = re.compile(r" *message repeated ([0-9]{1,9}) times: \[ (.*)\]\Z")
_OLD_PAM = re.compile(r"\((pam_[a-z0-9_]+)\) ")
_PID_IN_TEXT = re.compile(r"\[([0-9]{1,10})\]: ")
# dropbear -E writes the PID and the time itself, even if its standard error goes to a journal that adds its own.
_OWN_HEADER = re.compile(r"\[([0-9]{1,10})\] [A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d ")
_TAG_WITH_MODULE = re.compile(r"([^()]+)\((pam_[a-z0-9_]+)\)\Z")
# journalctl -o with-unit writes the unit instead of the tag. In the scope of a session, all programs but sshd are the user's.
_UNIT = re.compile(r"(sshd?|dropbear)(?:@.*)?\.(?:service|socket)\Z")
_SCOPE = re.compile(r"session-[^.]*\.scope\Z")
_PAM_OF_SSHD = re.compile(r"pam_[a-z0-9_]+\(sshd?[:)]")
_PAM_LINE = re.compile(r"(?:pam_[a-z0-9_]+\(|\(pam_[a-z0-9_]+\) |PAM [0-9]+ more |PAM service\()")
# rsyslog's imuxsock appends this to the text (SysSock.Annotate). _COMM, _EXE and _CMDLINE are missing if the sender has ended.
ANNOTATED = " @[_PID="
# A line of sshd has room for 21, and rsyslog adds one. Lines of other programs do not matter.
_ANNOTATIONS_LIMIT = 22
# rsyslog cuts messages at 8 kB; no rule matches a longer one anyway.
_ANNOTATED_LIMIT = 8192
_ANNOTATION = re.compile(r" @\[_PID=[0-9]{1,10} _UID=([0-9]{1,10}) _GID=[0-9]{1,10}")

# A whole word at the beginning of a message.
_WORD = re.compile(r"[^ :]+(?=[ :])")
# A line of sshd or dropbear within another program's message: a forgery, or a header that no framing knows.
_OURS_WITHIN = re.compile(r"(?:\A|[^A-Za-z0-9_.-])(?:sshd(?:-session|-auth)?|dropbear)\[[0-9]{1,10}\]: ")
# sshbell keeps this many characters of a line as an example.
_SHOWN = 200
# The log files of a container runtime (CRI) name the stream, and mark whether the line is complete.
_STREAMS = frozenset({"stdout", "stderr"})

# The candidates for a line are cached by its first characters. PAM lines have a common prefix, so their key has to be longer.
_KEY_LENGTH = 12
_PAM_KEY_LENGTH = 34
_CACHE_LIMIT = 4096

# Lines of our programs that no rule reads, and lines that fit no framing; ``Matcher.examples`` has the last of each.
UNMATCHED, UNFRAMED = "unmatched", "unframed"

# A rule, as ``Matcher.lines`` uses it: its match function, its index, the groups of CORE, and its use. The last one is the name
# of the program, so that all lines in memory share one string.
Candidate = tuple[Callable[[str], Any], int, tuple[int, ...], str, str]


class Matcher:
    """
    All rules of all grammars.

    Args:
        programs: more names of the sshd binary, as syslog tags.
        engine: ``lowered``; or ``pyparsing``, which runs the grammars as written, for comparison; it is about 40 times slower.
    """

    def __init__(self, programs: Iterable[str] = (), engine: Engine = "lowered") -> None:
        self._engine = engine
        self.rules: list[CompiledRule] = []
        found = grammars(engine)
        sshd, sftp, dropbear, pam, codes = (found[name] for name in (SSHD, SFTP, DROPBEAR, "pam", "sshbell_pam"))
        own, dropbears = self._compiled(sshd.rules, SSHD), self._compiled(dropbear.rules, DROPBEAR)
        sftps, pams = self._compiled(sftp.rules, SFTP), self._compiled(pam.rules, "", is_pam=True)
        self._by_family = {
            SSHD: own + sftps + pams,  # sshd's monitor writes the lines of a process in a chroot
            DROPBEAR: dropbears + pams,
            SFTP: sftps,
            "": pams,
        }
        self._by_family[SSHD] += self._compiled(codes.rules, SSHBELL_PAM)
        other_pam = self._compiled(pam.other, "", is_pam=True)
        self._others = {
            SSHD: other_pam + self._compiled(sshd.other, SSHD),
            DROPBEAR: other_pam + self._compiled(dropbear.other, DROPBEAR),
            SFTP: self._compiled(sftp.other, SFTP),
            "": other_pam,
        }
        self._candidates: dict[str, dict[str, list[CompiledRule]]] = {family: {} for family in self._by_family}
        self._names = {
            **dict.fromkeys(sftp.programs, SFTP),
            **dict.fromkeys(dropbear.programs, DROPBEAR),
            **dict.fromkeys((*sshd.programs, *codes.programs, *programs), SSHD),
        }
        self._by_first: dict[tuple[str, str], list[CompiledRule]] = {}
        # The last line that no rule reads, and the last line in no known framing.
        self.examples: dict[str, str] = {}
        # Counts the lines that no rule reads by host, if somebody wants to know.
        self.unknown: UnknownLines | None = None
        # The shortest program names: the tag of each sshd or dropbear program contains one of them.
        tags = self._names.keys() - set(codes.programs)  # sshbell's own tag never has an unusual form
        self._in_tags = [own for own in tags if not any(other != own and other in own for other in tags)]
        self._programs: dict[str, Program] = {}
        # For ``lines``, by program name and key. Names with a path or a module take the slower way.
        self._plain: dict[str, dict[str, list[Candidate]]] = {name: {} for name in self._names}
        self._first_words: frozenset[str] = frozenset()

    @property
    def is_lowered(self) -> bool:
        """Whether regular expressions match, not pyparsing."""
        return self._engine == "lowered"

    def _compiled(self, rules: Sequence[RuleSource], family: str, *, is_pam: bool = False) -> list[CompiledRule]:
        """Add the rules of a grammar to ``rules``, and return them as compiled rules."""
        first = len(self.rules)
        self.rules += [CompiledRule(rule, index, family, is_pam=is_pam) for index, rule in enumerate(rules, first)]
        return self.rules[first:]

    def program(self, name: str) -> Program:
        """Return the program behind the tag ``name``, which may be a path or the old form ``sshd(pam_unix)``."""
        found = self._programs.get(name)
        if found is None:
            if len(self._programs) >= _CACHE_LIMIT:
                self._programs.clear()
            tagged = _TAG_WITH_MODULE.match(name)
            base = (tagged[1] if tagged else name).rpartition("/")[2]
            unit = _UNIT.match(base)
            family = self._names.get(base, "") if unit is None else DROPBEAR if unit[1] == "dropbear" else SSHD
            found = self._programs[name] = Program(base, family, tagged[2] if tagged else None)
        return found

    def is_program(self, name: str) -> bool:
        """Return whether ``name`` is the tag of sshd or dropbear."""
        return self.program(name).family != ""

    def daemon_of(self, text: str) -> str:
        """Return the daemon whose message ``text`` is, judging by the message alone; "" if it is from neither."""
        for family in (SSHD, DROPBEAR):
            rule, _ = self._match(family, text)
            if rule is not None and not rule.is_pam:
                return family
        return ""

    def candidates(self, family: str, text: str) -> list[CompiledRule]:
        """Return the rules that can read a text with the beginning of ``text``, in the order of the grammar."""
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
            found = self._by_first[family, first] = rules  # at most 257 keys: 256 characters, and ""
        return found

    def find(self, row: Row) -> Reading | None:
        """
        Read one line; None if it is from another program.

        sshbell undoes in this order: imuxsock's annotation, noise before the message, a repetition, old PAM forms.
        """
        known = self._sender(row)
        if known is None:
            return None
        program, row = known
        _stamp, _host, _name, _procid, text, trusted = row
        # If the record has the sender's ids in a separate field, rsyslog adds no annotation to the text.
        is_annotated = not trusted and text[-1:] == "]" and ANNOTATED in text
        reading = self._find_annotated(program, row) if is_annotated else self._read(program, row, text)
        return reading if reading.rule is not None else self._as_other(reading)

    def _sender(self, row: Row) -> tuple[Program, Row] | None:
        """Return the program that wrote a line, and the row with a repaired header; None if it is another program."""
        _stamp, _host, name, _procid, text, _trusted = row
        program = self.program(name)
        if program.family or program.module is not None:
            return program, row
        if _SCOPE.match(name) and (_PAM_OF_SSHD.match(text) or self.daemon_of(text) == SSHD):
            return self.program(SSHD), row
        if _PAM_LINE.match(text):
            return program, row
        row = mended(row, self.is_program)
        row = self._without_header(row) or row
        _stamp, _host, name, _procid, _text, _trusted = row
        program = self.program(name)
        return (program, row) if program.family else None

    def _as_other(self, reading: Reading) -> Reading:
        """Read an unmatched line as a side line, unless it looks like authentication, or was cut and may have looked like it."""
        text = reading.text
        # sshbell reads all lines of its own commands.
        others = self._others[reading.program.family] if reading.program.name != SSHBELL_PAM else []
        # The search for words of authentication takes longer than a rule.
        for rule in others if len(text) < SSHD_LIMIT else ():
            match = rule.ready().match(text)
            if match is not None:
                return reading._replace(rule=rule, match=match)
        return reading

    def _without_header(self, row: Row) -> Row | None:
        """Read a message that has only a time before it, so that its first words are in the fields of host and program."""
        stamp, host, program, procid, text, trusted = row
        if not stamp or not program or procid or not self._begins_message(program, host):
            return None
        for between in (" ", ": "):
            message = text if host in _STREAMS else f"{host} {program}{between}{text}".removeprefix(" ")
            daemon = self.daemon_of(message)
            if daemon:
                return stamp, "", daemon, "", message, trusted
        return None

    def _begins_message(self, program: str, host: str) -> bool:
        words = self._first_words or self._collect_first_words()
        return host in words or program in words or (host in _STREAMS and program in {"F", "P"})

    def _collect_first_words(self) -> frozenset[str]:
        """Return the first words of the messages of sshd and dropbear, and keep them."""
        rules = [rule for family in (SSHD, DROPBEAR) for rule in self._by_family[family] if rule.family == family]
        leading = [way[0] for rule in rules for way in rule.leading() if way and isinstance(way[0], str)]
        self._first_words = frozenset(word[0] for text in leading if (word := _WORD.match(text)))
        return self._first_words

    def _read(self, program: Program, row: Row, text: str) -> Reading:
        """Read ``text``, the message of ``row`` without its annotation."""
        stamp, host, _name, procid, _text, trusted = row
        if program.module is not None:
            text = f"{program.module}({program.name}): {text}"
        count, whole = 1, text
        rule, match = self._match(program.family, text)
        if rule is None:
            if repeated := _REPEATED.match(text):
                count, text = int(repeated[1]), repeated[2]
            procid, text = _plain(procid, text, program)
            if text != whole:
                rule, match = self._match(program.family, text)
            if rule is None and len(text) < WHOLE_BELOW:
                # Some collectors add a full stop or blanks. A line that sshd has cut is longer, and its end comes from a peer.
                trimmed = text.rstrip(" .\t")
                if trimmed != text:
                    rule, match = self._match(program.family, trimmed)
                text = text if rule is None else trimmed
        return Reading(program, host, procid, text, count, rule, match, trusted if isinstance(trusted, tuple) else None, stamp)

    def _find_annotated(self, program: Program, row: Row) -> Reading:
        """
        Read a message that seems to end in an annotation of imuxsock.

        A peer can write an annotation into a name. A forger can write one into its command line, which rsyslog quotes in its
        own annotation. So any annotation in the text may be the one that rsyslog added, with the message before it.

        If rsyslog adds no annotation, the sender can. So a user's id in it proves a forgery, but the id of root proves nothing.
        """
        _stamp, _host, _name, _procid, text, _trusted = row
        # rsyslog folds equal lines together with their annotations: "[ TEXT @[...]]".
        is_folded = text.startswith("message repeated ")
        end = "]" if is_folded and text.endswith("]]") else ""
        whole = self._read(program, row, text)
        if len(text) > _ANNOTATED_LIMIT:
            return whole
        begun = list(islice(_ANNOTATION.finditer(text), _ANNOTATIONS_LIMIT))
        uids = [int(match[1]) for match in begun]
        for number in range(len(begun) - 1, -1, -1):
            found = self._read(program, row, text[: begun[number].start()] + end)
            if found.rule is not None:
                break
        else:
            return whole if whole.rule is not None or not begun or (is_folded and not end) else found
        uid = max(uids[number:])
        # The monitor of sshd adds "[preauth]", but never to "Accepted". A line that sshd has cut has lost its true end.
        own = whole.text  # rsyslog may have folded it
        is_whole = whole.rule is not None and own.endswith(" [preauth]") and not own.startswith("Accepted ")
        if is_whole or len(own) == SSHD_LIMIT:
            return (whole if whole.rule is not None else found)._replace(is_torn=uid != 0)
        if uid:
            return found._replace(trusted=(uid, ""), is_annotated=True)
        return found._replace(is_torn=any(uids[:number]), is_annotated=True)

    def lines(self, rows: list[Row], timestamps: Timestamps, first: int, counts: list[int], *, keep_text: bool) -> list[Line]:  # noqa: C901, PLR0912 - every line passes through here, so it avoids calls
        """
        Read rows for the correlator.

        Args:
            rows: from a framing.
            timestamps: of the same source.
            first: the place of the first row.
            counts: one number for each rule, and two more: lines of sshd, dropbear or PAM that no rule reads, and lines that no
                framing fits.
            keep_text: include the text of each line, from which event ids are made.
        """
        lines: list[Line] = []
        plain = self._plain
        witness = ""  # the host of the last line that was not from PAM
        place = first - 1
        for row in rows:
            place += 1
            stamp, host, name, procid, text, trusted = row
            candidates = plain.get(name)
            # A rule that ends in free text would read imuxsock's annotation, which ends in "]", as part of that text.
            if (
                candidates is not None
                and len(text) < WHOLE_BELOW
                and not (text[-1:] == "]" and ANNOTATED in text)
                and not (trusted and len(trusted[1]) > TEXT_LIMIT)
            ):
                key = text[:_PAM_KEY_LENGTH] if text[:1] == "p" else text[:_KEY_LENGTH]
                for match_text, index, core, use, program in candidates.get(key) or self._plain_candidates(name, text):
                    match = match_text(text)
                    if match is not None:
                        counts[index] += 1
                        if use is TELLS:
                            if host == witness:
                                host = witness  # all lines in memory share one string
                            elif not trusted:
                                witness = host
                        elif use is ONLY_COUNTS or (use is HINTS and host == witness and not trusted):
                            break  # a failed try that PAM reports counts only if there are no lines from sshd
                        text = text if keep_text else ""
                        time_us = timestamps.microseconds(stamp)
                        own = (index, time_us, place, 1, text, trusted or None, False, program, host, procid)
                        lines.append(own + match.group(*core))
                        break
                else:
                    candidates = None  # no rule reads it as it stands
                if candidates is not None:
                    continue
            line = self.line(row, timestamps, place, counts, keep_text=keep_text)
            if line is not None:
                use = self.rules[line[RULE]].use
                if use is TELLS and line[TRUSTED] is None:
                    witness = line[HOST]
                if not (use is HINTS and line[HOST] == witness and line[TRUSTED] is None):
                    lines.append(line)
        return lines

    def plain(self, name: str, text: str) -> tuple[Candidate, Any] | None:
        """Return the rule that reads a text as it stands, with its match; None if there is none, or ``find`` has to decide."""
        candidates = self._plain.get(name)
        if candidates is not None and len(text) < WHOLE_BELOW and not (text[-1:] == "]" and ANNOTATED in text):
            key = text[:_PAM_KEY_LENGTH] if text[:1] == "p" else text[:_KEY_LENGTH]
            for candidate in candidates.get(key) or self._plain_candidates(name, text):
                match = candidate[0](text)
                if match is not None:
                    return candidate, match
        return None

    def _plain_candidates(self, name: str, text: str) -> list[Candidate]:
        """Return the candidates for a line with a plain program name, and cache them by the beginning of the line."""
        cache = self._plain[name]
        if len(cache) >= _CACHE_LIMIT:
            cache.clear()
        key = text[:_PAM_KEY_LENGTH] if text[:1] == "p" else text[:_KEY_LENGTH]
        found = cache[key] = [
            (rule.match, rule.index, rule.core, rule.use, name) for rule in self.candidates(self._names[name], text)
        ]
        return found

    def line(self, row: Row, timestamps: Timestamps, place: int, counts: list[int], *, keep_text: bool) -> Line | None:
        """Read one row for the correlator; None if the correlator does not need it. Long texts are cut: see ``bounded``."""
        found = self.look(row)
        if found is None:
            if is_unframed(row):
                self.count_unread(UNFRAMED, row[1], row[4], None, counts)
            return None
        if found.rule is None:
            self.count_unread(UNMATCHED, found.host, row[4], found.trusted, counts)
            return None
        counts[found.rule.index] += 1
        if found.rule.use is ONLY_COUNTS or not found.program.family:
            return None
        time_us, kept = timestamps.microseconds(found.stamp), found.text if keep_text else ""
        line = Line((
            found.rule.index, time_us, place, found.repeats, kept, found.trusted, found.is_ambiguous, found.program.name,
            found.host, found.procid, *found.core(),
        ))  # fmt: skip
        return bounded(line) if is_long(row) else line

    def look(self, row: Row) -> Reading | None:
        """Read one line as ``find`` does, but return at once if it can only be from another program."""
        _stamp, host, name, _procid, text, _trusted = row
        # Most lines of a mixed log are from other programs, and end here.
        return self.find(row) if text[:4] == "pam_" or self.is_program(name) or self._is_worth_a_look(name, host, text) else None

    def count_unread(self, kind: str, host: str, text: str, trusted: Trusted | None, counts: list[int]) -> None:
        """Count a line that is ``UNMATCHED`` or ``UNFRAMED``, and keep its text as an example."""
        # Any local user can write unmatched lines. They reveal no gap in the grammars, and "status" must not quote them.
        if trusted is None or trusted[0] == 0:
            counts[-2 if kind is UNMATCHED else -1] += 1
            self.examples[kind] = text[:_SHOWN]
            if self.unknown is not None and kind is UNMATCHED:
                self.unknown.add(host, text)

    def _is_worth_a_look(self, name: str, host: str, text: str) -> bool:
        """Return whether a line with an unknown tag may be from PAM, or from sshd or dropbear with an unusual header."""
        for own in self._in_tags:
            if own in text:
                return True
        return text[:4] in {"PAM ", "(pam"} or name[-1:] == ")" or name[-6:] == ".scope" or self._begins_message(name, host)

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


def is_unframed(row: Row) -> bool:
    """Return whether no known framing fits a line, so that it may be from sshd, dropbear or PAM after all."""
    _stamp, _host, program, _procid, text, _trusted = row
    return text != "" and (not program or _OURS_WITHIN.search(text) is not None)


def _plain(procid: str, text: str, program: Program) -> tuple[str, str]:
    """Return the PID, and the message without the prefixes of some systems."""
    text = text[_NOISE.match(text).end() :]  # type: ignore[union-attr]  # it matches anything
    if old := _OLD_PAM.match(text):
        text = f"{old[1]}({program.name}): {text[old.end() :]}"
    if program.family == DROPBEAR and (own := _OWN_HEADER.match(text)):
        return own[1], text[own.end() :]
    if not procid and (in_text := _PID_IN_TEXT.match(text)):
        return in_text[1], text[in_text.end() :]
    return procid, text
