"""
Reads ``tests/samples/*.txt``.

A sample is a line after ``>`` (only the message, of the file's ``@program``) or ``>>`` (a whole line of a log file). The indented
lines below it have the expected result::

    > Failed password for root from 192.0.2.10 port 40022 ssh2
        failed failed
        method: password

The first word is the rule, the second its action; ``ambiguous`` may follow. Each field of the match has a line. A value is in
quotes if it is empty, or begins or ends with a blank or a quote. ``unmatched`` alone: the line is sshd's, dropbear's or PAM's,
but no rule reads it. ``another program's`` alone: sshbell skips the line.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from consumer.framing.framer import Framer

if TYPE_CHECKING:
    from consumer.matching.matcher import Matcher
    from consumer.matching.rules import Reading

SAMPLES_DIR = Path(__file__).parents[1] / "samples"
GRAMMARS = ("sshd", "sftp", "pam", "dropbear", "sshbell_pam")
UNMATCHED = "unmatched"
NOT_OURS = "another program's"


class Sample(NamedTuple):
    """One line and its expected result."""

    grammar: str
    number: int
    line: str
    is_whole: bool
    program: str
    rule: str
    action: str
    ambiguous: bool
    fields: dict[str, str]

    def __str__(self) -> str:
        """Give the test a readable id."""
        return f"{self.grammar}.txt:{self.number}"

    @property
    def whole_line(self) -> str:
        """The line with a header, one character for each byte."""
        return self.line if self.is_whole else f"2026-11-22T10:00:00.000000+00:00 bastion1 {self.program}[4242]: {self.line}"


def read_samples(grammar: str) -> list[Sample]:
    """Read the samples of one grammar."""
    samples: list[Sample] = []
    program = grammar
    lines = (SAMPLES_DIR / f"{grammar}.txt").read_text(encoding="latin-1").split("\n")
    for number, line in enumerate(lines, 1):
        if line.startswith("@program "):
            program = line.removeprefix("@program ")
        elif line.startswith(">"):
            is_whole = line.startswith(">>")
            samples.append(Sample(grammar, number, line[2 + is_whole :], is_whole, program, "", "", ambiguous=False, fields={}))
        elif line.startswith("    "):
            samples[-1] = _with(samples[-1], line.removeprefix("    "))
        else:
            assert line == "" or line.startswith("#"), f"{grammar}.txt:{number}: {line!r} is neither a sample nor a comment"
    return samples


def all_samples() -> list[Sample]:
    """Read all samples."""
    return [sample for grammar in GRAMMARS for sample in read_samples(grammar)]


def find(matcher: Matcher, sample: Sample) -> Reading | None:
    """Frame and match a sample like any line of a file."""
    (row,) = Framer(matcher.is_program, matcher.daemon_of).rows(sample.whole_line + "\n")
    return matcher.find(row)


def _with(sample: Sample, expectation: str) -> Sample:
    if sample.rule:
        name, _, value = expectation.partition(": ")
        is_quoted = len(value) > 1 and value[0] == value[-1] == '"'
        return sample._replace(fields={**sample.fields, name: value[1:-1] if is_quoted else value})
    if expectation in {UNMATCHED, NOT_OURS}:
        return sample._replace(rule=expectation)
    rule, action, *marks = expectation.split(" ")
    assert marks in ([], ["ambiguous"]), expectation
    return sample._replace(rule=rule, action=action, ambiguous=bool(marks))
