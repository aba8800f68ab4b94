"""
A TOML file with the line number of each key, so that a fault can name the line.

A file cannot end the process that reads it: input on which Python's own parser or later code would fail is a fault, too.

``tomllib`` reads the file, but does not give line numbers. So this module scans the valid text a second time for them, only if
there is a fault to show. Grammar: toml.io, 1.0.
"""

import json
import re
import tomllib
from collections.abc import Iterable
from functools import cached_property
from typing import Any

from consumer.errors import ConfigError

# The keys and, in lists, numbers that lead to a value: ("channel", 0, "to", 1).
KeyPath = tuple[str | int, ...]

_TOKEN = re.compile(
    r"""
    (?P<nothing> [ \t\r]+ | \#[^\n]* )
    | (?P<newline> \n )
    | (?P<text> \"{3} (?: \\. | [^\\] )*? \"{3} \"{0,2} | '{3} .*? '{3} '{0,2} | " (?: \\. | [^"\\\n] )* " | ' [^'\n]* ' )
    | (?P<mark> [][{},=.] )
    | (?P<bare> [^][{},=.\s"'\#]+ )
    """,
    re.VERBOSE | re.DOTALL,
)
_WHERE = re.compile(r" \((?:at line (\d+), column (\d+)|at end of document)\)")
# Brackets within brackets, and keys in one a.b.c: our files need three.
NESTING_LIMIT = 16
# Python converts no number of more than 4,300 digits; TOML asks for 64 bits.
_DIGITS_LIMIT = 4000
_NUMBERS = range(-(1 << 63), 1 << 63)
# Explanations of tomllib's messages for people who have not read the grammar.
_HINTS = {
    "Invalid value": "put text in straight quotes",
    "Expected newline or end of document after a statement": "put text, such as a time, in straight quotes",
    "Illegal character '\\n'": "the closing quote is missing",
    "Unclosed array": "a comma or the closing bracket is missing",
    "Cannot overwrite a value": "the file has this key already",
}


class TomlDocument:
    """
    A file and its faults.

    Attributes:
        tables: its content, as ``tomllib`` returns it.

    Args:
        text: the content of the file.
        place: its name, for faults.

    Raises:
        ConfigError: it is not valid TOML, is nested beyond ``NESTING_LIMIT``, or holds a number of more than 64 bits.
    """

    def __init__(self, text: bytes, place: str) -> None:
        self._place = place
        self._faults: list[tuple[int, str]] = []
        try:
            self._text = text.decode()
            if monster := _bound_exceeded(self._text):
                raise ConfigError(f"{place}:{monster}")
            self.tables: dict[str, Any] = tomllib.loads(self._text)
        except UnicodeDecodeError as error:
            line = text.count(b"\n", 0, error.start) + 1
            raise ConfigError(f"{place}:{line}: byte {error.start + 1} of the file is not UTF-8") from error
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"{place}:{_in_words(str(error), text)}") from error
        self._refuse()

    def _refuse(self) -> None:
        """
        Note each text with a NUL, which would end a path or a name early.

        Raises:
            ConfigError: a number is so large that not even an error could show it.
        """
        pending: list[tuple[KeyPath, Any]] = [((), self.tables)]
        while pending:
            path, value = pending.pop()
            # Not value itself: there is no bound on what it says.
            name = ".".join(str(key) for key in path if isinstance(key, str))
            if isinstance(value, dict | list):
                pending += (((*path, key), one) for key, one in (value.items() if isinstance(value, dict) else enumerate(value)))
            elif isinstance(value, int) and value not in _NUMBERS:
                raise ConfigError(f"{self._place}:{self._lines[path]}: {name}: the number has more than 64 bits")
            elif isinstance(value, str) and "\0" in value:
                self.fault(path, f"{name} has a NUL character (\\u0000), which no setting can hold")

    def fault(self, path: KeyPath, text: str) -> None:
        """Record a fault of a value. If the file does not have the value, the fault counts for the closest table around it."""
        while path and path not in self._lines:
            path = path[:-1]
        self._faults.append((self._lines.get(path, 0), text))

    @property
    def count(self) -> int:
        """The number of recorded faults."""
        return len(self._faults)

    def end(self) -> None:
        """
        Raise the recorded faults, if there are any.

        Raises:
            ConfigError: each argument is a fault, in the order of the file.
        """
        if self._faults:
            faults = sorted(self._faults, key=lambda fault: fault[0])
            raise ConfigError(*(f"{self._place}:{line}: {text}" if line else f"{self._place}: {text}" for line, text in faults))

    @cached_property
    def _lines(self) -> dict[KeyPath, int]:
        return _Lines(self._text).found


def _bound_exceeded(text: str) -> str:
    """Return the line and the bound that the text exceeds, where tomllib would raise an error of another kind; "" if none."""
    line, depth, keys, at = 1, 0, 0, 0
    while found := _TOKEN.match(text, at):
        at, word = found.end(), found[0]
        if found.lastgroup == "mark":
            depth += (word in "[{") - (word in "]}")
            keys = keys + 1 if word == "." else 0
            if max(depth, keys) > NESTING_LIMIT:
                return f"{line}: nested more than {NESTING_LIMIT} levels deep"
        elif found.lastgroup == "bare" and len(word) > _DIGITS_LIMIT and word.lstrip("+-").replace("_", "").isdecimal():
            return f"{line}: a number of more than {_DIGITS_LIMIT:,} digits"
        line += word.count("\n")
    return ""


def _in_words(complaint: str, text: bytes) -> str:
    """Return the line number and tomllib's message, with a hint."""
    where = _WHERE.search(complaint)
    line = where[1] if where and where[1] else str(text.rstrip().count(b"\n") + 1)
    message = _WHERE.sub("", complaint)
    column = f" (column {where[2]})" if where and where[2] else ""
    hint = next((f"; {hint}" for start, hint in _HINTS.items() if message.startswith(start)), "")
    return f"{line}: {message}{column}{hint}"


class _Lines:
    """Finds the line on which each key, table and element of a list begins; the text must be valid."""

    def __init__(self, text: str) -> None:
        self.found: dict[KeyPath, int] = {}
        self._text = text
        self._at = 0
        self._line = 1
        # The number of tables in each list of tables.
        self._counts: dict[KeyPath, int] = {}
        table: KeyPath = ()
        while word := self._next():
            if word == "[":
                table = self._header()
            else:
                self._pair(word, table)

    def _next(self) -> str:
        """Return the next word, skipping blanks, comments and line ends; "" at the end."""
        while found := _TOKEN.match(self._text, self._at):
            self._at = found.end()
            self._line += found[0].count("\n")
            if found.lastgroup not in ("nothing", "newline"):
                return found[0]
        return ""

    def _keys(self, word: str, end: str) -> list[str]:
        """Read the rest of ``a."b".c`` up to a mark."""
        keys = []
        while word and word != end:
            if word != ".":
                keys.append(_key(word))
            word = self._next()
        return keys

    def _header(self) -> KeyPath:
        """Read ``[a.b]`` or ``[[a.b]]``; return the path of the table."""
        line, word = self._line, self._next()
        is_list = word == "["
        keys = self._keys(self._next() if is_list else word, "]")
        path: KeyPath = ()
        for number, key in enumerate(keys, 1):
            path = (*path, key)
            self.found.setdefault(path, line)
            if is_list and number == len(keys):
                self._counts[path] = self._counts.get(path, 0) + 1
            if path in self._counts:
                path = (*path, self._counts[path] - 1)
        self.found.setdefault(path, line)
        if is_list:
            self._next()
        return path

    def _pair(self, word: str, table: KeyPath) -> None:
        """Read ``a.b = value``."""
        line, path = self._line - word.count("\n"), table
        for key in self._keys(word, "="):
            path = (*path, key)
            self.found.setdefault(path, line)
        self._value(self._next(), path)

    def _value(self, word: str, path: KeyPath) -> None:
        if word == "[":
            number = 0
            while (word := self._next()) not in ("]", ""):
                if word == ",":
                    number += 1
                    continue
                self.found[*path, number] = self._line - word.count("\n")
                self._value(word, (*path, number))
        elif word == "{":
            while (word := self._next()) not in ("}", ""):
                if word != ",":
                    self._pair(word, path)
        else:
            # A number or a time may have points and a blank in it.
            line = self._line
            while word and word[0] not in "\"'" and self._is_more(line):
                self._next()

    def _is_more(self, line: int) -> bool:
        """Return whether the next word is on the same line, and belongs to the same number or time."""
        at, here = self._at, self._line
        word = self._next()
        is_same = self._line == here == line
        self._at, self._line = at, here
        return is_same and word not in ("", ",", "]", "}")


def _key(word: str) -> str:
    return str(tomllib.loads(f"x = {word}")["x"]) if word[0] in "\"'" else word


def toml_text(text: str) -> str:
    """Return a text as TOML, whose escapes are those of JSON."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def commented(notes: Iterable[str]) -> list[str]:
    """Return sentences about what an imported configuration changes, as lines of comments. TOML allows no control characters."""
    return ["# What changes:", *("# " + "".join(char if char.isprintable() else "?" for char in note) for note in notes)]
