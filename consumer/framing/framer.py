"""
Chooses the framing of each line, and remembers the last one that fitted.

Some lines fit no framing, but sshbell can still read them for certain: a line after an exporter's prefix, a daemon's message
without any header, as containers write it, and syslogd's "last message repeated 2 times". This module reads them, too.
"""

import re
from collections.abc import Callable

from consumer.framing.headers import FACILITY, inner_stamp
from consumer.framing.json_lines import row_of_json
from consumer.framing.text import BARE, FRAMINGS
from consumer.records import Row

# A crash leaves a hole of NUL bytes, and so does truncating a file while a process writes to it.
_HOLE = re.compile(r"^\0+", re.MULTILINE)
# Prefixes of a whole line: a container's name from docker compose or kubectl, a file's name from grep, a facility from socklog.
_ENVELOPE = re.compile(rf"(?:[^\s|]+ +\| |\[pod/[^\s\]]+\] |[^\s:]+:(?:\d+:)?(?=[<A-Z\d])|{FACILITY}: )")
# docker logs --timestamps and kubectl logs --timestamps; CRI's files also name the stream.
_STAMPED = re.compile(r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[^ \n]*) (?:std(?:out|err) [FP] )?(.*)")
# dropbear -E writes its PID and the time itself.
_OF_DROPBEAR = re.compile(r"\[([0-9]{1,10})\] ([A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d) (.*)")
# Folded repetitions, as syslogd of BSD, macOS and Solaris, sysklogd and syslog-ng write them: with or without a host, or under
# syslogd's own tag.
_REPETITION = re.compile(
    r"(?:(?P<host>\S+) )??(?:sys(?:klogd|logd|log|log-ng)(?:\[\d+\])?:? )?(?:-+ )?[Ll]ast message "
    r"(?:repeated (?P<times>\d{1,9}) times?(?: -+)?\.?"
    r"|'(?P<begin>.*)' repeated (?P<suppressed>\d{1,9}) times, suppressed by .*) *\Z"
)

# Advice for a log that sshbell cannot read.
HINT = "for a journal, use LC_ALL=C journalctl -o json or short-iso-precise; sshbell explain shows how sshbell reads a line"

# The group of a framing's pattern for the program's name. If it is empty, the line has another form.
_PROGRAM = 3
EMPTY: Row = ("", "", "", "", "", "")
# What the reading of a line can depend on: the framing that fitted last, and the last line that was not a repetition.
FramerState = tuple[str, Row]
BEGINNING: FramerState = ("", EMPTY)


class Framer:
    """
    Reads the lines of one source.

    Args:
        is_program: returns whether sshbell reads the lines of a program of this name.
        daemon_of: returns the daemon that wrote a message without a header; "" if it is not one that sshbell reads.
    """

    def __init__(self, is_program: Callable[[str], bool], daemon_of: Callable[[str], str]) -> None:
        self._is_program = is_program
        self._daemon_of = daemon_of
        self._last, self._before = BEGINNING
        # The first line of the last block counts repetitions, so its meaning depends on the line before that block.
        self.is_continued = False

    def rows(self, block: str) -> list[Row]:
        """
        Read a block of whole lines.

        Args:
            block: text, one character a byte, ending in a line feed.

        Returns:
            One row for each line, in order. If no framing fits a line, its row has the whole line as the message, and nothing
            else. A line that counts repetitions of the one before becomes "message repeated 2 times: [ TEXT]" of that line's
            program, as rsyslog writes it.
        """
        if "\r" in block:  # a search for one character is much faster than one for two
            block = block.replace("\r\n", "\n")
        if "\0" in block:
            block = _HOLE.sub("", block)
        rows = self._framed(block)
        self.is_continued = False
        if "ast message " in block:
            self._unfold(rows)
        elif rows:
            self._before = rows[-1]
        return rows

    def begin(self, state: FramerState) -> None:
        """Go on behind other lines, which left ``state``."""
        self._last, self._before = state

    @property
    def state(self) -> FramerState:
        """What the next line can depend on."""
        return self._last, self._before

    @property
    def name(self) -> str:
        """The framing that fitted last."""
        return self._last or "none"

    def _framed(self, block: str) -> list[Row]:
        if not self._last:
            self._row(block[: block.index("\n")])
        framing = self._last
        pattern = FRAMINGS.get(framing)
        if pattern is None:
            return [self._row(line) for line in block.split("\n")[:-1]]
        rows: list[Row] = pattern.findall(block)
        rows.pop()  # the empty match after the last line feed
        for number, (_stamp, _host, program, _procid, text, _nothing) in enumerate(rows):
            if not program and text:
                rows[number] = self._detect(text)
                if self._last != framing:
                    # From here on, another framing is the last one that fitted.
                    return rows[: number + 1] + [self._row(line) for line in block.split("\n")[number + 1 : -1]]
        return rows

    def _unfold(self, rows: list[Row]) -> None:
        """Write out the repetitions that syslogd has folded."""
        for number, row in enumerate(rows):
            found = _repetition(row)
            if number == 0:
                self.is_continued = found is not None
            times = 0 if found is None else _repeated(found, row, self._before)
            if times:
                stamp, _host, _program, _procid, _text, counter = row
                _stamp, host, program, procid, text, trusted = self._before
                # Any local user can write such a count, so the kernel has to vouch for that line, too.
                trusted = counter if trusted and trusted[0] == 0 else trusted
                rows[number] = stamp, host, program, procid, f"message repeated {times} times: [ {text}]", trusted
            else:
                self._before = row

    def _row(self, line: str) -> Row:
        """Read a line: in the framing of the last one if that fits."""
        if self._last == "json":
            row = self._of_json(line) if line[:1] == "{" else None
        else:
            pattern = FRAMINGS.get(self._last)
            found = pattern.match(line) if pattern is not None else None
            row = _row_of(found) if found is not None and found[_PROGRAM] else None
        return self._detect(line) if row is None and line else row or EMPTY

    def _detect(self, line: str) -> Row:
        line = line.removeprefix(" ")
        if line[:1] == "{" and (row := self._of_json(line)) is not None:
            self._last = "json"
            return row
        for name, pattern in FRAMINGS.items():
            found = pattern.match(line)
            if found is not None and found[_PROGRAM] and not (self._last == "" and self._without_header(line)):
                self._last = name
                return _row_of(found)
        return self._unframed(line.removeprefix("\xef\xbb\xbf"))

    def _unframed(self, line: str) -> Row:
        """Read a line that fits no framing."""
        found = BARE.match(line)
        if found is not None and self._is_program(found[_PROGRAM]):
            return _row_of(found)
        # In a log whose lines have headers, a line without one is part of a message, and its text may come from anybody.
        row = self._without_header(line) if self._last == "" else None
        if row is None and (envelope := _ENVELOPE.match(line)):
            row = self._enveloped(line[envelope.end() :], may_lack_header=self._last == "")
        return row or ("", "", "", "", line, "")

    def _without_header(self, line: str) -> Row | None:
        """Read a line that a daemon wrote to standard error, with or without a time before it."""
        stamp, procid = "", ""
        if stamped := _STAMPED.match(line):
            stamp, line = stamped[1], stamped[2]
        if own := _OF_DROPBEAR.match(line):
            procid, stamp, line = own[1], stamp or own[2], own[3]
        program = self._daemon_of(line)
        return (stamp, "", program, procid, line, "") if program else None

    def _enveloped(self, line: str, *, may_lack_header: bool) -> Row | None:
        """Read the line within an envelope; None if it is not of a program that sshbell reads."""
        for pattern in (*FRAMINGS.values(), BARE):
            found = pattern.match(line)
            if found is not None and self._is_program(found[_PROGRAM] or ""):
                return _row_of(found)
        return self._without_header(line) if may_lack_header else None

    def _of_json(self, line: str) -> Row | None:
        """Read a line that is a JSON object. Its message may be a whole syslog line, or a daemon's message without a header."""
        row = row_of_json(line)
        if row is None:
            return None
        stamp, host, program, _procid, text, _trusted = row
        if program:
            return row
        text = text.removesuffix("\n").removesuffix("\r")
        inner = self._enveloped(text, may_lack_header=True)
        if inner is None:
            return stamp, host, "", "", text, ""
        own_stamp, own_host, program, procid, msg, _trusted = inner
        return inner_stamp(stamp, own_stamp), own_host or host, program, procid, msg, ""


def _row_of(match: re.Match[str]) -> Row:
    stamp, host, program, procid, text, nothing = match.groups("")
    return stamp, host, program, procid, text, nothing


def _repetition(row: Row) -> re.Match[str] | None:
    """Return the parts of a line that counts repetitions of the line before it; None for other lines."""
    _stamp, host, program, _procid, text, _trusted = row
    return _REPETITION.match(" ".join(part for part in (host, program, text) if part))


def _repeated(found: re.Match[str], row: Row, before: Row) -> int:
    """Return how many repetitions of the line before ``row`` counts; 0 if it counts those of another line."""
    _stamp, host, _program, _procid, _text, _trusted = row
    _stamp, host_before, program_before, _procid, text_before, _trusted = before
    if text_before.startswith("message repeated "):
        return 0  # rsyslog has folded that line itself, and never writes such a count
    if not program_before:
        return 0
    if host and host_before and host != host_before and found["host"] == host:
        return 0
    if found["begin"] is not None and not text_before.startswith(found["begin"]):
        return 0
    return int(found["times"] or found["suppressed"])
