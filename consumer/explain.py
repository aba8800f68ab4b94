"""``sshbell explain``: how a line was framed, which rule took which part, what it became."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, tzinfo

import msgspec
import pyparsing as pp

from consumer.framing.framer import Framer
from consumer.framing.timestamps import Timestamps, isoformat
from consumer.intake.files import STDIN, LogFile
from consumer.matching.matcher import Found, Matcher
from consumer.parse import records, said
from consumer.records import SyslogRecord, readable, text_of_bytes
from grammars import dropbear, pam, sshd
from grammars.rule import Rule


def explain_lines(line: str, matcher: Matcher, zone: tzinfo, year: int | None) -> Iterator[str]:
    """Yield one explanation a line; ``-`` reads lines from standard input."""
    blocks = LogFile(STDIN).blocks() if line == STDIN else iter([line.encode("utf-8", "surrogateescape").rstrip(b"\n") + b"\n"])
    framer = Framer(matcher.is_program)
    timestamps = Timestamps(datetime.now(UTC), zone, year)
    for block in blocks:
        for record, found in records(text_of_bytes(block), framer, matcher, timestamps):
            yield _explained(record, found, framer.name if record.stamp else "no time", matcher)


def _explained(record: SyslogRecord, found: Found | None, framing: str, matcher: Matcher) -> str:
    time_us, stamp, host, program, procid, text, trusted, _raw = record
    if found is None and not program:
        # A message without a header is what people paste.
        found = matcher.find((stamp, host, sshd.PROGRAMS[0], procid, text, ""))
        framing = "none; read as the message of an sshd line"
        if found is None or found.rule is None:
            return f"framing   none fits\n{_indented('line', readable(text))}"
    lines = [
        f"framing   {framing}",
        f"time      {isoformat(time_us) if time_us is not None else f'none ({readable(stamp)!r})'}",
        f"host      {readable(host) or '-'}",
        f"program   {readable(program) or '-'}   pid {procid or '-'}",
        _indented("message", readable(text)),
    ]
    if trusted:
        lines.append(f"trusted   uid {trusted[0]}   exe {trusted[1] or '-'}")
    if found is None:
        return "\n".join([*lines, "result    another program's line: nothing is made of it"])
    if found.repeats != 1:
        lines.append(f"repeated  {found.repeats} times")
    if found.text != text:
        lines.append(_indented("matched", readable(found.text)))
    if found.rule is None:
        return "\n".join([*lines, *_nearest(found)])
    lines.append(f"rule      {found.rule.name}   action {found.rule.action}")
    if found.match is not None:
        for name, value in found.rule.groupdict(found.match).items():
            if value is not None:
                lines.append(f"  {name:<20}{readable(value)!r}")
    pretty = msgspec.json.format(msgspec.json.encode(said(record, found, matcher, 1, "")), indent=2).decode()
    return "\n".join([*lines, "became", pretty])


def _indented(name: str, text: str) -> str:
    return f"{name:<10}{text}"


def _nearest(found: Found) -> list[str]:
    """Show how far the best rule got, with a marker under the place."""
    best, reached = None, -1
    grammar = {sshd.FAMILY: sshd.RULES + pam.RULES, dropbear.FAMILY: dropbear.RULES + pam.RULES}.get(
        found.program.family, pam.RULES
    )
    for rule in grammar:
        place = _reach(rule, found.text)
        if place > reached:
            best, reached = rule, place
    lines = ["result    unmatched: no rule reads this message"]
    if best is None or reached <= 0:
        return [*lines, "          no rule begins like it"]
    return [
        *lines,
        f"nearest   {best.name}, to character {reached}; it then expects {_expected(best, found.text)}",
        f"          {readable(found.text[:reached])}{readable(found.text[reached:])}",
        f"          {' ' * len(readable(found.text[:reached]))}^",
    ]


def _reach(rule: Rule, text: str) -> int:
    try:
        rule.expression.parse_string(text, parse_all=True)
    except pp.ParseException as error:
        return error.loc
    return len(text)


def _expected(rule: Rule, text: str) -> str:
    try:
        rule.expression.parse_string(text, parse_all=True)
    except pp.ParseException as error:
        return re.sub(r"\(\?P<(\w+)>[^()]*\)", r"<\1>", error.msg.removeprefix("Expected "))
    return "the end"
