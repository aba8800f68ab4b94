"""
Chooses the framing, line by line, and remembers the last that fitted.

What is not of one of the framings, and can yet be told for certain, is put right here: a line behind what an exporter puts before
it, a message of a daemon without any header, as containers write them, and "last message repeated 2 times" of syslogd.
"""

import re
from collections.abc import Callable

from consumer.framing.headers import FACILITY, inner_stamp
from consumer.framing.json_lines import row_of_json
from consumer.framing.text import BARE, FRAMINGS
from consumer.records import Row

# A crash, or a file that was cut while it was written to, leaves a hole.
_HOLE = re.compile(r"^\0+", re.MULTILINE)
# What stands before a whole line: docker compose's and kubectl's name of a container, grep's of a file, socklog's facility.
_ENVELOPE = re.compile(rf"(?:[^\s|]+ +\| |\[pod/[^\s\]]+\] |[^\s:]+:(?:\d+:)?(?=[<A-Z\d])|{FACILITY}: )")
# docker logs --timestamps and kubectl logs --timestamps; CRI's files with the stream.
_STAMPED = re.compile(r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[^ \n]*) (?:std(?:out|err) [FP] )?(.*)")
# dropbear -E writes PID and time itself.
_OF_DROPBEAR = re.compile(r"\[([0-9]{1,10})\] ([A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d) (.*)")
# How syslogd of BSD, macOS, Solaris, sysklogd and syslog-ng fold equal lines: with a host, without one, under a tag of its own.
_REPETITION = re.compile(
    r"(?:(?P<host>\S+) )??(?:sys(?:klogd|logd|log|log-ng)(?:\[\d+\])?:? )?(?:-+ )?[Ll]ast message "
    r"(?:repeated (?P<times>\d{1,9}) times?(?: -+)?\.?"
    r"|'(?P<begin>.*)' repeated (?P<suppressed>\d{1,9}) times, suppressed by .*) *\Z"
)

# What to do with a log that is not read.
HINT = "from the journal take LC_ALL=C journalctl -o json or short-iso-precise; sshbell explain shows how a line is read"

# The group of a framing's pattern that takes the program's name: without one the line has another form.
_PROGRAM = 3
_EMPTY: Row = ("", "", "", "", "", "")


class Framer:
    """
    Reads the lines of one source.

    Args:
        is_program: tells whether a program name is one that is read here.
        daemon_of: names the daemon that has written a message without a header, "" where it is none of ours.
    """

    def __init__(self, is_program: Callable[[str], bool], daemon_of: Callable[[str], str]) -> None:
        self._is_program = is_program
        self._daemon_of = daemon_of
        self._last = ""
        self._before = _EMPTY  # the last line that was no repetition

    def rows(self, block: str) -> list[Row]:
        """
        Read a block of whole lines.

        Args:
            block: text, one character a byte, ending in a line feed.

        Returns:
            One row a line, in order. A line that no framing fits stands in its row's message, all else empty. Where a line tells
            how often the one before was repeated, its row is "message repeated 2 times: [ TEXT]" of that one's program, as
            rsyslog writes it.
        """
        if "\r" in block:  # a search for one character is much faster than one for two
            block = block.replace("\r\n", "\n")
        if "\0" in block:
            block = _HOLE.sub("", block)
        rows = self._framed(block)
        if "ast message " in block:
            self._unfold(rows)
        elif rows:
            self._before = rows[-1]
        return rows

    def begin_behind(self, line: str) -> None:
        """Tell of the line that stands before the next block, where another process has read it."""
        self._before = self._row(line)

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
        rows.pop()  # the empty match behind the last line feed
        for number, (_stamp, _host, program, _procid, text, _nothing) in enumerate(rows):
            if not program and text:
                rows[number] = self._detect(text)
                if self._last != framing:
                    # From here on another framing is the last that fitted.
                    return rows[: number + 1] + [self._row(line) for line in block.split("\n")[number + 1 : -1]]
        return rows

    def _unfold(self, rows: list[Row]) -> None:
        """Write out what syslogd has folded."""
        for number, row in enumerate(rows):
            times = _repeated(row, self._before)
            if times:
                stamp, *_ = row
                _stamp, host, program, procid, text, trusted = self._before
                rows[number] = stamp, host, program, procid, f"message repeated {times} times: [ {text}]", trusted
            else:
                self._before = row

    def _row(self, line: str) -> Row:
        """Read a line: as the last one if that fits."""
        if self._last == "json":
            row = self._of_json(line) if line[:1] == "{" else None
        else:
            pattern = FRAMINGS.get(self._last)
            found = pattern.match(line) if pattern is not None else None
            row = _row_of(found) if found is not None and found[_PROGRAM] else None
        return self._detect(line) if row is None and line else row or _EMPTY

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
        """Read a line that is of no framing."""
        found = BARE.match(line)
        if found is not None and self._is_program(found[_PROGRAM]):
            return _row_of(found)
        # Where lines have headers, one without is a part of somebody's message, and may be anybody's text.
        row = self._without_header(line) if self._last == "" else None
        if row is None and (envelope := _ENVELOPE.match(line)):
            row = self._enveloped(line[envelope.end() :], may_lack_header=self._last == "")
        return row or ("", "", "", "", line, "")

    def _without_header(self, line: str) -> Row | None:
        """Read what a daemon writes to standard error, with a time before it or none."""
        stamp, procid = "", ""
        if stamped := _STAMPED.match(line):
            stamp, line = stamped[1], stamped[2]
        if own := _OF_DROPBEAR.match(line):
            procid, stamp, line = own[1], stamp or own[2], own[3]
        program = self._daemon_of(line)
        return (stamp, "", program, procid, line, "") if program else None

    def _enveloped(self, line: str, *, may_lack_header: bool) -> Row | None:
        """Read the line within an envelope; None where it is none of ours."""
        for pattern in (*FRAMINGS.values(), BARE):
            found = pattern.match(line)
            if found is not None and self._is_program(found[_PROGRAM] or ""):
                return _row_of(found)
        return self._without_header(line) if may_lack_header else None

    def _of_json(self, line: str) -> Row | None:
        """Read a line that is a JSON object; its message may be a whole line of syslog, or a daemon's without a header."""
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


def _repeated(row: Row, before: Row) -> int:
    """Return how often the line before was repeated, as ``row`` says; 0 where it says something else."""
    _stamp, host, program, _procid, text, _trusted = row
    _stamp, host_before, program_before, _procid, text_before, _trusted = before
    if text_before.startswith("message repeated "):
        return 0  # rsyslog has folded that line itself, and does not write this one
    found = _REPETITION.match(" ".join(part for part in (host, program, text) if part))
    if found is None or not program_before:
        return 0
    if host and host_before and host != host_before and found["host"] == host:
        return 0
    if found["begin"] is not None and not text_before.startswith(found["begin"]):
        return 0
    return int(found["times"] or found["suppressed"])
