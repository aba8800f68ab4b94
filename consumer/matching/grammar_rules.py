"""
The rules of all grammars, as the matcher takes them.

The grammars are the definition. But to import pyparsing and to build and lower all expressions takes about as long as the rest
of a start. So the build of a wheel lowers all rules, and writes them to a file in the package. sshbell takes the rules from that
file if it comes from the very grammars beside it. Otherwise, as in an editable installation, it lowers each rule at its first
use.
"""

import re
from collections.abc import Sequence
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import msgspec

from consumer.matching.rules import Engine, Matching, RuleSource

# setup.py writes it. It is in the package, so only a user who can change the program can change it.
RULES_FILE = Path(__file__).with_name("lowered_rules.json")
_SOURCES = tuple(Path(__file__).with_name(name) for name in ("grammar_rules.py", "lowering.py", "written_rules.py"))
_GRAMMARS = Path(__file__).parents[2] / "grammars"


class Grammar(NamedTuple):
    """One grammar: the names of its programs, its rules, and those for lines that no rule reads."""

    programs: tuple[str, ...]
    rules: Sequence[RuleSource]
    other: Sequence[RuleSource]


class LoweredRule(msgspec.Struct, frozen=True):
    """A rule in the file: see ``lowering``. In ``ways``, a run of characters is a pattern in a list of its own."""

    name: str
    action: str
    ways: list[list[str | tuple[str]]]
    pattern: str
    groups: dict[str, tuple[int, ...]]
    absent: int

    def leading(self) -> list[list[str | re.Pattern[str]]]:
        """Return the possible beginnings of its texts."""
        return [[piece if isinstance(piece, str) else re.compile(*piece) for piece in way] for way in self.ways]

    def matching(self) -> Matching:
        """Return its match function."""
        return Matching(re.compile(self.pattern).match, self.groups, self.absent)


class LoweredGrammar(msgspec.Struct, frozen=True):
    """A ``Grammar`` in the file."""

    programs: tuple[str, ...]
    rules: list[LoweredRule]
    other: list[LoweredRule]


class LoweredFile(msgspec.Struct, frozen=True):
    """The file: grammars by the names of their modules, and the patterns of ``method_info`` and ``code``."""

    digest: str
    grammars: dict[str, LoweredGrammar]
    method_info: list[str]
    code_facts: str


def grammars(engine: Engine) -> dict[str, Grammar]:
    """Return all grammars by the names of their modules."""
    file = lowered_file() if engine == "lowered" else None
    if file is None:
        from consumer.matching import written_rules  # noqa: PLC0415 - imports pyparsing

        return written_rules.written_grammars(engine)
    return {name: Grammar(found.programs, found.rules, found.other) for name, found in file.grammars.items()}


@cache
def method_info_patterns() -> list[re.Pattern[str]]:
    """Return the patterns of the text after ``ssh2: ``. Each rule of it is one regular expression, so it needs no lowering."""
    file = lowered_file()
    if file is None:
        from consumer.matching import written_rules  # noqa: PLC0415 - imports pyparsing

        return [re.compile(pattern) for pattern in written_rules.written_method_info()]
    return [re.compile(pattern) for pattern in file.method_info]


@cache
def code_facts_pattern() -> re.Pattern[str]:
    """Return the pattern of the facts in a line about a one-time code."""
    file = lowered_file()
    if file is None:
        from consumer.matching import written_rules  # noqa: PLC0415 - imports pyparsing

        return re.compile(written_rules.written_code_facts())
    return re.compile(file.code_facts)


@cache
def lowered_file() -> LoweredFile | None:
    """Read the file. None if it is missing or comes from other grammars."""
    try:
        found = msgspec.json.decode(RULES_FILE.read_bytes(), type=LoweredFile)
        return found if found.digest == grammars_digest() else None
    except (OSError, msgspec.DecodeError):
        return None


def grammars_digest() -> str:
    """Return a digest of the sources that decide the contents of the file."""
    found = blake2b(digest_size=16)
    for path in (*sorted(_GRAMMARS.glob("*.py")), *_SOURCES):
        text = path.read_bytes()
        found.update(f"{path.name} {len(text)}\n".encode() + text)
    return found.hexdigest()
