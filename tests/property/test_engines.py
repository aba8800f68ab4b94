"""
The lowered grammars and pyparsing itself read every line alike, field by field.

The same comparison runs under every other interpreter that is there, since it is Python's ``re`` that the lowered form
rests on: Debian 12's 3.11.2 has possessive quantifiers that do not work.
"""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pyparsing
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.framing.framer import Framer
from consumer.matching.matcher import Matcher
from tests.budget import examples
from tests.unit.sample_lines import all_samples

if TYPE_CHECKING:
    from consumer.matching.rules import Reading
    from consumer.records import Row

pytestmark = pytest.mark.bulk

PROJECT_DIR = Path(__file__).parents[2]
CAPTURES_DIR = PROJECT_DIR / "tests" / "samples" / "captures"
LOWERED, PYPARSING = Matcher(), Matcher(engine="pyparsing")
SAMPLES = all_samples()

#: Every capture once: in the format whose lines are told apart best, and the journal's own.
FORMATS = ("rfc3339", "short-iso-precise")
CAPTURES = sorted(
    path for path in CAPTURES_DIR.glob("*/*.log.gz") if path.name.removesuffix(".log.gz").rpartition(".")[2] in FORMATS
)


def capture_id(path: Path) -> str:
    """Name a capture in a test's id."""
    return f"{path.parent.name}/{path.name.removesuffix('.log.gz')}"


@cache
def rows_of(path: Path) -> list[Row]:
    """Return the rows of a capture, those that say the same but for numbers only once."""
    rows = Framer(LOWERED.is_program, LOWERED.daemon_of).rows(gzip.decompress(path.read_bytes()).decode("latin-1"))
    return list({(row[2], row[4]): row for row in rows}.values())


def fields(matcher: Matcher, row: Row) -> object:
    """Return all that an engine says of a row."""
    found = matcher.find(row)
    if found is None or found.rule is None or found.match is None:
        return None if found is None else (found.program, found.host, found.procid, found.text, None)
    return (*facts(found), found.rule.groupdict(found.match))


def facts(found: Reading) -> tuple[object, ...]:
    """Return what a match is, besides its fields."""
    rule = found.rule
    assert rule is not None
    return (
        rule.name,
        rule.family,
        rule.action,
        found.program,
        found.host,
        found.procid,
        found.text,
        found.trusted,
        found.is_ambiguous,
        found.core(),
    )


@pytest.mark.bulk
@pytest.mark.parametrize("path", CAPTURES, ids=capture_id)
def test_captures(path: Path) -> None:
    """Both engines read each line of each capture by the same rule, with the same fields."""
    different = [row for row in rows_of(path) if fields(LOWERED, row) != fields(PYPARSING, row)]
    assert not different, different[:3]


def test_there_are_captures() -> None:
    """The captures are there, and hold some thousand different lines, so that comparing them says something."""
    assert sum(len(rows_of(path)) for path in CAPTURES) > 3000


@pytest.mark.bulk
def test_samples() -> None:
    """Both engines read each sample by the same rule, with the same fields."""
    for sample in SAMPLES:
        (row,) = Framer(LOWERED.is_program, LOWERED.daemon_of).rows(sample.whole_line + "\n")
        assert fields(LOWERED, row) == fields(PYPARSING, row), sample


PIECES = [
    "error: ", "fatal: ", "invalid user ", "illegal user ", "authenticating user ", "user ", " [preauth]", " from ", " port ",
    " ssh2", ": ", " ",
    "192.0.2.1", "2001:db8::1", "root", "65535", "(uid=0)", " by ", "'", '"', "\t", "\n", "\\", "\xe9", "sshd", ")",
    "(", "[", "]",
]  # fmt: skip


# Hypothesis looks at each element of a new strategy, so the test makes each of them once and not for each line.
ANY_SAMPLE = st.sampled_from(SAMPLES)
A_MESSAGE = st.sampled_from([sample for sample in SAMPLES if not sample.is_whole])
A_PIECE = st.sampled_from(PIECES)
A_LENGTH = st.sampled_from([1, 1, 1, 2, 5, 12])
A_CHANGE = st.sampled_from(["delete", "double", "swap", "cut", "insert", "behead", "join"])
CHANGES = st.integers(1, 4)


@st.composite
def mutated(draw: st.DrawFn) -> tuple[str, str]:
    """Return a sample's message with a few characters deleted, doubled, swapped, cut off or put in, and its program."""
    sample = draw(A_MESSAGE)
    text = sample.line
    for _ in range(draw(CHANGES)):
        at, length = draw(st.integers(0, len(text))), draw(A_LENGTH)
        match draw(A_CHANGE):
            case "delete":
                text = text[:at] + text[at + length :]
            case "double":
                text = text[: at + length] + text[at:]
            case "swap":
                text = text[:at] + text[at + 1 : at + 2] + text[at : at + 1] + text[at + 2 :]
            case "cut":
                text = text[:at]
            case "insert":
                text = text[:at] + draw(A_PIECE) + text[at:]
            case "behead":
                text = text[min(at, 12) :]
            case "join":
                text = text[:at] + draw(ANY_SAMPLE).line[-at:]
    return sample.program, text


@examples(2500)
@given(mutated())
def test_mutated_samples(mutated_line: tuple[str, str]) -> None:
    """Both engines agree about lines that are almost a message: rule and fields, or that there is no rule."""
    program, text = mutated_line
    row: Row = ("", "bastion1", program, "42", text, "")
    assert fields(LOWERED, row) == fields(PYPARSING, row), text


# The comparison for interpreters that have none of our compiled dependencies: grammars and lowering alone, on every rule.
COMPARE = """
import json, sys
sys.path[:0] = sys.argv[1:3]
import pyparsing as pp
from consumer.matching.lowering import lower
from grammars import dropbear, pam, sftp, sshd

rules = [rule for module in (sshd, sftp, pam, dropbear) for rule in module.RULES + module.OTHER] + sshd.METHOD_INFO
lowered = [(rule, lower(rule.expression)) for rule in rules]
compared = matched = 0
different = []
for line in json.load(sys.stdin):
    for rule, low in lowered:
        match = low.pattern.match(line)
        found = None
        if match:
            found = {
                name: next((match[n] for n in numbers if match[n] is not None), None) for name, numbers in low.groups.items()
            }
            found = {name: value for name, value in found.items() if value is not None}
        compared += 1
        try:
            expected = rule.expression.parse_string(line, parse_all=True).as_dict()
            expected = {name: value for name, value in expected.items() if value is not None}
        except pp.ParseException:
            expected = None
        matched += expected is not None
        if found != expected:
            different.append([rule.name, line, found, expected])
print(json.dumps({"version": sys.version, "compared": compared, "matched": matched, "different": different[:5]}))
"""


def interpreters() -> list[str]:
    """Return every Python that is on PATH, in pyenv, or Debian's own, each once."""
    folders = [Path(folder) for folder in os.environ.get("PATH", "").split(os.pathsep) if folder]
    folders += [Path("/usr/bin"), *sorted(Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")).glob("versions/*/bin"))]
    found: dict[Path, str] = {}
    for folder in folders:
        for name in ("python3", *(f"python3.{minor}" for minor in range(11, 20))):
            path = folder / name
            if path.exists() and os.access(path, os.X_OK) and folder.name != "shims":
                found.setdefault(path.resolve(), str(path))
    return sorted(found.values())


@cache
def probe(interpreter: str) -> dict[str, str | list[int]]:
    """Ask an interpreter for its version, and whether it can import pyparsing from where ours lies."""
    code = (
        "import json, sys; sys.path.insert(0, sys.argv[1]); result = {'version': list(sys.version_info[:3])}\n"
        "try:\n import pyparsing; result['pyparsing'] = pyparsing.__version__\n"
        "except Exception as error: result['error'] = repr(error)\n"
        "print(json.dumps(result))"
    )
    site = str(Path(pyparsing.__file__).parents[1])
    done = subprocess.run(
        [interpreter, "-I", "-S", "-c", code, site], capture_output=True, text=True, check=False, timeout=60, cwd=PROJECT_DIR
    )
    if done.returncode:
        return {"error": f"exit {done.returncode}: {done.stderr.strip()[-200:]}"}
    answer: dict[str, str | list[int]] = json.loads(done.stdout)
    return answer


def lines_to_compare() -> list[str]:
    """Return the samples, and of the captures' messages a spread."""
    messages = sorted({row[4] for path in CAPTURES[::4] for row in rows_of(path)})
    return [sample.line for sample in SAMPLES] + messages[:: max(1, len(messages) // 60)]


@pytest.mark.parametrize("interpreter", interpreters())
def test_other_interpreters(interpreter: str) -> None:
    """
    Under each Python from 3.11 on, every rule reads every sample, and a spread of the captures, as pyparsing does.

    An interpreter that is too old, or cannot import pyparsing, is skipped with that reason.
    """
    known = probe(interpreter)
    version = known.get("version")
    if not isinstance(version, list):
        pytest.skip(f"{interpreter} does not run: {known['error']}")
    if tuple(version) < (3, 11):
        pytest.skip(f"{interpreter} is Python {'.'.join(map(str, version[:2]))}: sshbell needs 3.11")
    if "error" in known:
        pytest.skip(f"{interpreter} cannot import pyparsing: {known['error']}")
    site = str(Path(pyparsing.__file__).parents[1])
    done = subprocess.run(
        [interpreter, "-I", "-S", "-c", COMPARE, str(PROJECT_DIR), site],
        input=json.dumps(lines_to_compare()), capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    result = json.loads(done.stdout)
    assert result["different"] == [], result["version"]
    assert result["matched"] >= len([sample for sample in SAMPLES if sample.fields]) * 3 // 4


def test_debian_12_is_compared_where_it_is() -> None:
    """The interpreter with broken possessive quantifiers is among those that are tried, wherever it is installed."""
    wanted = Path("/usr/bin/python3")
    if not wanted.exists():
        pytest.skip("there is no /usr/bin/python3")
    ours = {Path(path).resolve() for path in [*interpreters(), sys.executable]}
    assert wanted.resolve() in ours
