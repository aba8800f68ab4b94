"""What the memory of texts relies on, what it remembers, and when it does without."""

from __future__ import annotations

from datetime import UTC, datetime
from re import _parser  # type: ignore[attr-defined]
from typing import TYPE_CHECKING, Any

import pytest

from consumer.framing.timestamps import Timestamps
from consumer.matching.matcher import Matcher
from consumer.matching.memory import _LIMIT, _LINES_JUDGED, _LINES_WITHOUT, _TEXTS_LIMIT, Memory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from consumer.records import Line, Row

MATCHER = Matcher()
NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)
DIGITS = frozenset("0123456789")
FAILED = "Failed password for root from 192.0.2.10 port 40022 ssh2"


def row(text: str, program: str = "sshd", procid: str = "812") -> Row:
    """Return a row of sshd."""
    return "2026-11-22T09:47:07+00:00", "web1", program, procid, text, ""


def read(memory: Memory, *rows: Row) -> tuple[list[Line], list[int], int]:
    """Return the lines of rows, the counts of rules, and how many rows were new to the memory."""
    counts = [0] * (len(MATCHER.rules) + 2)
    before = memory._new
    lines = memory.lines(list(rows), Timestamps(NOW, UTC), 1, counts, keep_text=True)
    return lines, counts, memory._new - before


def test_a_text_is_new_only_once() -> None:
    """Another port and another process make no difference, and each line has its own."""
    memory = Memory(MATCHER)
    assert read(memory, row(FAILED))[2] == 1
    (line,), _counts, new = read(memory, row(FAILED.replace("40022", "1"), procid="9"))
    assert new == 0
    (plain,) = MATCHER.lines(
        [row(FAILED.replace("40022", "1"), procid="9")], Timestamps(NOW, UTC), 1, [0] * (len(MATCHER.rules) + 2), keep_text=True
    )
    assert line == plain


@pytest.mark.parametrize(
    "text",
    [
        "error: Could not load host key: /etc/ssh/ssh_host_dsa_key",
        "Authentication of root was somehow refused",
        f"message repeated 3 times: [ {FAILED}]",
        "pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost=192.0.2.10 ",
        "Received disconnect from 192.0.2.10 port 4711:11: Bye Bye [preauth]",
    ],
)
def test_other_texts_are_remembered_too(text: str) -> None:
    """Texts that no rule reads, folded ones, side lines, and ports before a colon."""
    memory = Memory(MATCHER)
    first, again = read(memory, row(text)), read(memory, row(text))
    assert (first[0], first[1]) == (again[0], again[1])
    assert (first[2], again[2]) == (1, 0)


@pytest.mark.parametrize(
    "one",
    [
        row("Invalid user " + "x" * _LIMIT + " from 192.0.2.10 port 40022"),
        row(f"{FAILED} @[_PID=812 _UID=0 _GID=0 _COMM=sshd]"),
        row("Failed password for invalid user a port 22 from 192.0.2.10 port 40022 ssh2"),
        row("Failed password for root from 192.0.2.10 port 400220 ssh2"),
        row("[812]: " + FAILED, procid=""),
    ],
    ids=["long", "annotated", "port in a name", "no port", "PID in the text"],
)
def test_what_is_not_remembered(one: Row) -> None:
    """Texts whose meaning may depend on more than themselves."""
    memory = Memory(MATCHER)
    read(memory, one)
    assert read(memory, one)[2] == 1


def test_the_memory_is_bounded() -> None:
    """A flood of new texts takes no more memory than the limit."""
    memory = Memory(MATCHER)
    memory._judged = -2 * _TEXTS_LIMIT  # not yet
    for number in range(_TEXTS_LIMIT + 10):
        read(memory, row(f"Invalid user u{number} from 192.0.2.10"))
    assert sum(map(len, memory._texts.values())) == memory._total == 10


def test_much_that_is_new_switches_the_memory_off_for_a_while() -> None:
    """Remembering costs more than it saves, until the log has another shape."""
    memory = Memory(MATCHER)
    fresh = [row(f"Invalid user u{number} from 192.0.2.10") for number in range(_LINES_JUDGED)]
    assert len(read(memory, *fresh)[0]) == len(fresh)
    assert read(memory, row("Invalid user v from 192.0.2.10"))[2] == 0, "it is off"
    read(memory, *[row(FAILED)] * _LINES_WITHOUT)
    assert read(memory, row("Invalid user w from 192.0.2.10"))[2] == 1, "it is on again"


def test_pyparsing_itself_reads_every_line() -> None:
    """The other engine is there to compare with, so it remembers nothing."""
    memory = Memory(Matcher(engine="pyparsing"))
    assert len(read(memory, row(FAILED), row(FAILED))[0]) == 2
    assert memory._total == 0


# ---------------------------------------------------------------- no rule tells one port from another


def telling(items: Any, previous: str) -> Iterator[str]:
    """
    Yield the parts of a parsed pattern that can tell one run of up to five digits behind a blank from another.

    A digit, or a class with some digits only, cannot if a fixed character but a blank stands directly before it. A bounded
    repetition cannot if the bound is five or above the limit, or if nothing in it is a digit.
    """
    for code, argument in items:
        name, own = str(code), ""
        if name == "LITERAL":
            own = chr(argument)
        some = _digits(name, argument)
        if some and some != DIGITS and previous in {"", " "}:
            yield f"{previous}{sorted(some)}"
        if name in {"MAX_REPEAT", "MIN_REPEAT"}:
            least, most, part = argument
            if most not in {1, 5} and most < _LIMIT and any(_digits(str(inner), value) for inner, value in part):
                yield f"at most {most} times {part}"
            if 1 < least < _LIMIT + 5:
                yield f"at least {least} times"
        for part, is_next in _parts(name, argument):
            yield from telling(part, previous if is_next else "")
        previous = own


def _parts(name: str, argument: Any) -> Iterator[tuple[Any, bool]]:
    """Yield the parts of a part, and whether they begin where it begins."""
    match name:
        case "MAX_REPEAT" | "MIN_REPEAT":
            yield argument[2], argument[1] == 1
        case "SUBPATTERN":
            yield argument[3], True
        case "BRANCH":
            yield from ((part, True) for part in argument[1])
        case "ASSERT" | "ASSERT_NOT":
            yield argument[1], argument[0] > 0
        case _:
            assert name in {"LITERAL", "NOT_LITERAL", "IN", "ANY", "AT"}, name


def _digits(name: str, argument: Any) -> frozenset[str]:
    """Return the digits that a part without parts matches, or does not match."""
    match name:
        case "LITERAL" | "NOT_LITERAL":
            return DIGITS & {chr(argument)}
        case "IN":
            return DIGITS & _characters(argument)
        case "ANY":
            return DIGITS
        case _:
            return frozenset()


def _characters(argument: Any) -> frozenset[str]:
    found: set[int] = set()
    for code, value in argument:
        match str(code):
            case "LITERAL":
                found.add(value)
            case "RANGE":
                found.update(range(value[0], value[1] + 1))
            case "NEGATE":
                pass  # all digits but some are some digits, too
            case other:
                raise AssertionError(other)
    return frozenset(map(chr, found))


def test_no_rule_tells_one_port_from_another() -> None:
    """A pattern treats all digits of a port alike, and no length below the limit differently from another."""
    found = {}
    for rule in MATCHER.rules:
        pattern = rule.ready().match.__self__.pattern  # type: ignore[attr-defined]
        if parts := sorted(set(telling(_parser.parse(pattern), ""))):
            found[rule.name] = parts
    assert found == {}


def test_no_other_value_includes_the_port() -> None:
    """So only the port of a remembered text has to be replaced."""
    for rule in MATCHER.rules:
        pattern = rule.ready().match.__self__.pattern  # type: ignore[attr-defined]
        assert not list(_nested(_parser.parse(pattern), set((rule.fields or {}).get("port", ())), is_within=False)), rule.name


def _nested(items: Any, ports: set[int], *, is_within: bool) -> Iterator[int]:
    """Yield the groups of ports that are within another group with a name."""
    for code, argument in items:
        group = argument[0] if str(code) == "SUBPATTERN" else None
        if group in ports and is_within:
            yield group
        for part, _is_next in _parts(str(code), argument):
            yield from _nested(part, ports, is_within=is_within or (group is not None and group not in ports))
