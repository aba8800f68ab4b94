"""``sshbell explain``: the framing of a line, the parts that a rule reads in it, and the resulting event."""

from collections.abc import Iterator
from datetime import tzinfo
from os.path import commonprefix
from re import _compiler, _parser  # type: ignore[attr-defined]

import msgspec
import pyparsing as pp

from consumer.clock import isoformat, now_us, utc
from consumer.framing.framer import Framer
from consumer.framing.timestamps import Timestamps
from consumer.intake.files import STDIN, LogFile
from consumer.logs.parse import event_of_line, records
from consumer.matching.matcher import Matcher
from consumer.matching.rules import Reading
from consumer.records import SyslogRecord
from consumer.text import readable, text_of_bytes
from grammars import dropbear, pam, sftp, sshbell_pam, sshd
from grammars.rule import Rule

_WHOLE_LINE = (
    "a whole line, within quotes: sshbell explain 'Nov 22 10:00:00 web1 sshd[1]: Connection closed by 192.0.2.7 port 4711'"
)


def explain_lines(line: str, matcher: Matcher, zone: tzinfo, year: int | None) -> Iterator[str]:
    """Yield an explanation for each line; ``-`` reads lines from standard input."""
    blocks = LogFile(STDIN).blocks() if line == STDIN else iter([line.encode("utf-8", "surrogateescape").rstrip(b"\n") + b"\n"])
    framer = Framer(matcher.is_program, matcher.daemon_of)
    timestamps = Timestamps(utc(now_us()), zone, year)
    number = 0
    for block in blocks:
        for record, reading in records(text_of_bytes(block), framer, matcher, timestamps):
            number += 1
            yield _explained(record, reading, framer.name if record.stamp else "no time", matcher, number)
    if not number:
        yield "no line on standard input"


def _explained(record: SyslogRecord, reading: Reading | None, framing: str, matcher: Matcher, number: int) -> str:
    if reading is None and not record.program:
        # People often paste a message without its header.
        daemon = matcher.daemon_of(record.msg)
        reading = matcher.find((record.stamp, record.host, daemon, record.procid, record.msg, "")) if daemon else None
        framing = f"none; read as a message of {daemon}"
        if reading is None:
            text = _indented("line", readable(record.msg))
            return f"framing   none fits, and no rule reads it as a message of sshd\n{text}\n{_indented('try', _WHOLE_LINE)}"
    time = isoformat(record.time_us) if record.time_us is not None else f"none ({readable(record.stamp)!r})"
    lines = [
        f"framing   {framing}",
        f"time      {time}",
        f"host      {readable(record.host) or '-'}",
        f"program   {readable(record.program) or '-'}   pid {record.procid or '-'}",
        _indented("message", readable(record.msg)),
    ]
    if record.trusted:
        lines.append(f"trusted   uid {record.trusted[0]}   exe {record.trusted[1] or '-'}")
    if reading is None:
        return "\n".join([*lines, "result    another program's line: sshbell skips it"])
    if reading.repeats != 1:
        lines.append(f"repeated  {reading.repeats} times")
    if reading.text != record.msg:
        lines.append(_indented("matched", readable(reading.text)))
    return "\n".join([*lines, *(_nearest(reading) if reading.rule is None else _became(record, reading, matcher, number))])


def _became(record: SyslogRecord, reading: Reading, matcher: Matcher, number: int) -> list[str]:
    """Show the part of the line that each field has taken, and the event."""
    lines = []
    if reading.rule is not None and reading.match is not None:
        fields = reading.rule.groupdict(reading.match)
        lines.append(f"rule      {reading.rule.name}   action {reading.rule.action}")
        lines += [f"  {name:<20}'{readable(value)}'" for name, value in fields.items()]
    pretty = msgspec.json.format(msgspec.json.encode(event_of_line(record, reading, matcher, number, "")), indent=2).decode()
    return [*lines, "became", pretty]


def _indented(name: str, text: str) -> str:
    return f"{name:<10}{text}"


def _nearest(reading: Reading) -> list[str]:
    """Show how far the best rule can read, with a mark under the place where it stops."""
    grammars = {
        sshd.FAMILY: sshd.RULES + sftp.RULES + pam.RULES + sshbell_pam.RULES,
        dropbear.FAMILY: dropbear.RULES + pam.RULES,
        sftp.FAMILY: sftp.RULES,
    }
    grammar = grammars.get(reading.program.family, pam.RULES)
    reached, best = max(((_reach(rule, reading.text), rule) for rule in grammar), key=lambda pair: pair[0])
    lines = ["result    unmatched: no rule reads this message"]
    if reached <= 0:
        return [*lines, "          it does not begin like any rule"]
    before, after = readable(reading.text[:reached]), readable(reading.text[reached:])
    return [*lines, f"nearest   {best.name}, up to the mark", f"          {before}{after}", f"          {' ' * len(before)}^"]


def _reach(rule: Rule, text: str) -> int:
    """Return how many characters of ``text`` a rule reads before the first unexpected one."""
    position = 0
    parts = rule.expression.exprs if isinstance(rule.expression, pp.And) else [rule.expression]
    for part in parts:
        if isinstance(part, pp.Regex):
            position = _reach_in(str(part.pattern), text, position)
        else:
            try:
                position = part.try_parse(text, position)
            except pp.ParseException:
                literal = part.match if isinstance(part, pp.Literal) else ""
                return position + len(commonprefix([literal, text[position:]]))  # noqa: RUF071 - of texts, not paths
    return position


def _reach_in(source: str, text: str, position: int) -> int:
    """Return the end of the longest match of a beginning of the pattern; trailing text that could be anything does not count."""
    items = _parser.parse(source)
    ends = [position]
    for count in range(1, len(items) + 1):
        found = _compiler.compile(items[:count]).match(text, position)
        if found is None:
            break
        ends.append(found.end())
    # A free text matches the whole rest unless something has to follow it.
    return min(ends[-2:]) if len(ends) > 1 and ends[-1] == len(text) else ends[-1]
