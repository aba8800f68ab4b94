"""
Chooses the framing, line by line, and remembers the last that fitted.

rsyslog moves parts of a header about when it does not know their form. What can be told for certain is put back here, for all
framings at once: the facility of a BusyBox line, a year behind the time, a host that is an IPv6 address or has odd characters.
"""

import re
from collections.abc import Callable
from ipaddress import IPv6Address

from consumer.framing.json_lines import row_of_json
from consumer.framing.text import BARE, FRAMINGS
from consumer.records import Row

_FACILITY = re.compile(r"<?(?:kern|user|mail|daemon|auth|syslog|lpr|news|uucp|cron|authpriv|ftp|local[0-7])\.[a-z]+>?\Z")
_YEAR = re.compile(r"(?:19|20)\d\d\Z")
_HEX = re.compile(r"[0-9A-Fa-f]{0,4}\Z")
# rsyslog takes these for a host name; any other character makes it a tag.
_ODD_NAME = re.compile(r".*[^A-Za-z0-9._/()-]")
_TAG_IN_TEXT = re.compile(r"([^ :\[]+)(?:\[([0-9]{1,10})\])?: ?(.*)", re.DOTALL)
_IPV6_IN_TEXT = re.compile(r"([0-9A-Fa-f:.]+) ")
# A crash, or a file that was cut while it was written to, leaves a hole.
_HOLE = re.compile(r"^\0+", re.MULTILINE)

# The group of a framing's pattern that takes the program's name: without one the line has another form.
_PROGRAM = 3
_EMPTY: Row = ("", "", "", "", "", "")


class Framer:
    """
    Reads the lines of one source.

    Args:
        is_program: tells whether a program name is one that is read here; header parts are put back only for those.
    """

    def __init__(self, is_program: Callable[[str], bool]) -> None:
        self._is_program = is_program
        self._last = ""
        self._seen = False

    def rows(self, block: str) -> list[Row]:
        """
        Read a block of whole lines.

        Args:
            block: text, one character a byte, ending in a line feed.

        Returns:
            One row a line, in order. A line that no framing fits stands in its row's message, all else empty.
        """
        if "\r\n" in block:
            block = block.replace("\r\n", "\n")
        if "\0" in block:
            block = _HOLE.sub("", block)
        if not self._seen:
            self._detect(block[: block.index("\n")])
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

    @property
    def name(self) -> str:
        """The framing that fitted last."""
        return self._last or "none"

    def _row(self, line: str) -> Row:
        """Read a line: as the last one if that fits."""
        if self._last == "json":
            row = row_of_json(line) if line[:1] == "{" else None
        else:
            pattern = FRAMINGS.get(self._last)
            found = pattern.match(line) if pattern is not None else None
            row = _row_of(found) if found is not None and found[_PROGRAM] else None
        return self._detect(line) if row is None and line else row or _EMPTY

    def _detect(self, line: str) -> Row:
        line = line.removeprefix(" ")
        if line[:1] == "{" and (row := row_of_json(line)) is not None:
            self._last, self._seen = "json", True
            return row
        for name, pattern in FRAMINGS.items():
            found = pattern.match(line)
            if found is not None and found[_PROGRAM]:
                self._last, self._seen = name, True
                return _row_of(found)
        found = BARE.match(line)
        if found is not None and self._is_program(found[_PROGRAM]):
            return _row_of(found)
        return "", "", "", "", line.removeprefix("\xef\xbb\xbf"), ""


def _row_of(match: re.Match[str]) -> Row:
    stamp, host, program, procid, text, nothing = match.groups("")
    return stamp, host, program, procid, text, nothing


def mended(row: Row, is_program: Callable[[str], bool]) -> Row:
    """Put back the header parts that rsyslog has moved, where they are beyond doubt; else return ``row`` as it is."""
    stamp, host, program, procid, text, trusted = row
    if procid or not text:
        return row
    if program[:1] in "0123456789abcdefABCDEF:" and _HEX.match(program) and (rest := _IPV6_IN_TEXT.match(text)):
        address = f"{program}:{rest[1]}"
        try:
            IPv6Address(address)
        except ValueError:
            return row
        host, text = address, text[rest.end() :]
    elif host.startswith("<") and _FACILITY.match(host):
        host = program
    elif _FACILITY.match(program):
        pass
    elif _YEAR.match(host) or _ODD_NAME.match(program):
        host = program
    else:
        return row
    tag = _TAG_IN_TEXT.match(text)
    if tag is None or not is_program(tag[1]):
        return row
    return stamp, host, tag[1], tag[2] or "", tag[3], trusted
