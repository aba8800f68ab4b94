"""``consumer.matching.grammar_rules``: the rules of the file are those of the grammars, and no other file is used."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING
from unittest.mock import patch

import msgspec
import pytest

from consumer.framing.framer import Framer
from consumer.matching import grammar_rules, written_rules
from consumer.matching.grammar_rules import Grammar, LoweredFile
from consumer.matching.matcher import Matcher
from consumer.matching.rules import DROPBEAR, SFTP, SSHD, RuleSource
from grammars import dropbear, sftp, sshd
from tests.unit.sample_lines import all_samples

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

CONTENTS = written_rules.contents_of_file()


@pytest.fixture
def file(tmp_path: Path) -> Any:
    """Return the path of a rules file that belongs to these grammars."""
    path = tmp_path / "lowered_rules.json"
    path.write_bytes(CONTENTS)
    with patch.object(grammar_rules, "RULES_FILE", path):
        grammar_rules.lowered_file.cache_clear()
        yield path
    grammar_rules.lowered_file.cache_clear()


def facts(rule: RuleSource) -> tuple[Any, ...]:
    """Return everything that the matcher takes from a rule."""
    matching = rule.matching()
    ways = [[piece if isinstance(piece, str) else ("run", piece.pattern) for piece in way] for way in rule.leading()]
    return rule.name, rule.action, ways, matching.match.__self__.pattern, matching.groups, matching.absent  # type: ignore[attr-defined]


def all_facts(grammars: dict[str, Grammar]) -> dict[str, Any]:
    """Return everything that the matcher takes from all grammars."""
    return {
        name: (grammar.programs, [facts(rule) for rule in grammar.rules], [facts(rule) for rule in grammar.other])
        for name, grammar in grammars.items()
    }


def test_rules_of_the_file_are_those_of_the_grammars(file: Path) -> None:
    """Name, action, beginnings, pattern and groups of every rule, in the same order."""
    assert grammar_rules.lowered_file() is not None, file
    found = all_facts(grammar_rules.grammars("lowered"))
    assert found == all_facts(written_rules.written_grammars("lowered"))
    assert sum(len(rules) for _programs, rules, _other in found.values()) > 250
    assert grammar_rules.method_info_patterns.__wrapped__() == [rule.expression.re for rule in sshd.METHOD_INFO]  # type: ignore[attr-defined]


def test_a_matcher_from_the_file_reads_every_sample_alike(file: Path) -> None:
    """Rule and fields of every sample line."""
    assert grammar_rules.lowered_file() is not None, file
    ahead = Matcher()
    with patch.object(grammar_rules, "RULES_FILE", file.with_name("none")):
        grammar_rules.lowered_file.cache_clear()
        fresh = Matcher()
    grammar_rules.lowered_file.cache_clear()
    for sample in all_samples():
        (row,) = Framer(fresh.is_program, fresh.daemon_of).rows(f"{sample.whole_line}\n")
        one, other = ahead.find(row), fresh.find(row)
        assert (one is None) == (other is None)
        if one is not None and other is not None and one.rule is not None and other.rule is not None:
            assert one.rule.name == other.rule.name
            assert one.rule.groupdict(one.match) == other.rule.groupdict(other.match)
            assert one.core() == other.core()


@pytest.mark.parametrize(
    "contents",
    [
        b"",
        CONTENTS[:-5],
        b"[]",
        b"\xff",
        CONTENTS.replace(b'"absent":', b'"absence":', 1),
        msgspec.json.encode(msgspec.structs.replace(msgspec.json.decode(CONTENTS, type=LoweredFile), digest="0" * 32)),
    ],
    ids=["empty", "cut", "other type", "no text", "missing field", "of other grammars"],
)
def test_any_other_file_is_not_used(file: Path, contents: bytes) -> None:
    """Sshbell lowers the rules itself instead."""
    file.write_bytes(contents)
    assert grammar_rules.lowered_file() is None
    assert all_facts(grammar_rules.grammars("lowered")) == all_facts(written_rules.written_grammars("lowered"))


def test_pyparsing_never_runs_from_the_file(file: Path) -> None:
    """``--engine pyparsing`` runs the grammars themselves."""
    assert grammar_rules.lowered_file() is not None, file
    assert all(
        rule.matching().groups is None for grammar in grammar_rules.grammars("pyparsing").values() for rule in grammar.rules
    )


@pytest.mark.parametrize("changed", ["sshd.py", "rule.py", "new.py"])
def test_a_changed_grammar_outdates_the_file(changed: str, file: Path, tmp_path: Path) -> None:
    """Also where only a part that several grammars share has changed, and where a module is new."""
    folder = tmp_path / "grammars"
    shutil.copytree(grammar_rules._GRAMMARS, folder)
    with patch.object(grammar_rules, "_GRAMMARS", folder):
        assert grammar_rules.lowered_file() is not None, file
        with (folder / changed).open("a") as added:
            added.write("# changed\n")
        grammar_rules.lowered_file.cache_clear()
        assert grammar_rules.lowered_file() is None


def test_a_changed_lowering_outdates_the_file(file: Path, tmp_path: Path) -> None:
    """The file has what this very version of the lowering makes."""
    other = tmp_path / "lowering.py"
    other.write_text("# changed\n")
    with patch.object(grammar_rules, "_SOURCES", (*grammar_rules._SOURCES[:-1], other)):
        assert grammar_rules.lowered_file() is None, file


def test_families_are_those_of_the_grammars() -> None:
    """The matcher names them without importing the grammars."""
    assert (sshd.FAMILY, sftp.FAMILY, dropbear.FAMILY) == (SSHD, SFTP, DROPBEAR)
