"""The rules as the grammars define them, for either engine: lowered at their first use, or run by pyparsing."""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec
import pyparsing as pp

from consumer.matching.grammar_rules import Grammar, LoweredFile, LoweredGrammar, LoweredRule, grammars_digest
from consumer.matching.lowering import leading_pieces, lower
from consumer.matching.rules import CORE, SYNONYMS, Engine, Matching, RuleMatch
from grammars import dropbear, pam, sftp, sshbell_pam, sshd
from grammars.rule import Rule

if TYPE_CHECKING:
    from types import ModuleType

_MODULES: "dict[str, ModuleType]" = {
    "sshd": sshd, "sftp": sftp, "dropbear": dropbear, "pam": pam, "sshbell_pam": sshbell_pam,
}  # fmt: skip


class WrittenRule:
    """A rule of a grammar."""

    def __init__(self, rule: Rule, engine: Engine) -> None:
        self.name = rule.name
        self.action = rule.action
        self._expression = rule.expression
        self._engine = engine

    def leading(self) -> list[list[str | re.Pattern[str]]]:
        """Return the possible beginnings of its texts."""
        return leading_pieces(self._expression)

    def matching(self) -> Matching:
        """Return its match function."""
        if self._engine == "pyparsing":
            return Matching(_PyparsingMatch.of(self._expression), None, 0)
        lowered = lower(self._expression)
        return Matching(lowered.pattern.match, lowered.groups, lowered.absent)


class _PyparsingMatch:
    """A result of pyparsing, with the groups of CORE like ``re.Match``, numbered from 0."""

    def __init__(self, fields: dict[str, str | None]) -> None:
        self.fields = fields
        self._core = tuple(
            next((fields[field] for field in SYNONYMS.get(name, (name,)) if field in fields), None) for name in CORE
        )

    @classmethod
    def of(cls, expression: pp.ParserElement) -> Callable[[str], RuleMatch | None]:
        def match(text: str) -> RuleMatch | None:
            try:
                return cls(expression.parse_string(text, parse_all=True).as_dict())
            except pp.ParseException:
                return None

        return match

    def group(self, *groups: int) -> tuple[str | None, ...]:
        return tuple(self._core[group] for group in groups)

    def __getitem__(self, group: int, /) -> str | None:
        return self._core[group]


def written_grammars(engine: Engine) -> dict[str, Grammar]:
    """Return all grammars by the names of their modules."""
    return {
        name: Grammar(
            _programs(module),
            [WrittenRule(rule, engine) for rule in module.RULES],
            [WrittenRule(rule, engine) for rule in module.OTHER],
        )
        for name, module in _MODULES.items()
    }


def _programs(module: "ModuleType") -> tuple[str, ...]:
    return getattr(module, "PROGRAMS", ())  # any program may call PAM


def written_method_info() -> list[str]:
    """Return the patterns of the text after ``ssh2: ``."""
    return [str(rule.expression.pattern) for rule in sshd.METHOD_INFO]  # type: ignore[attr-defined]


def written_code_facts() -> str:
    """Return the pattern of the facts in a line about a one-time code."""
    return str(sshbell_pam.FACTS.expression.pattern)  # type: ignore[attr-defined]


def contents_of_file() -> bytes:
    """Lower all rules, and return the contents of the file: see ``grammar_rules``."""
    lowered = {
        name: LoweredGrammar(_programs(module), list(map(_lowered, module.RULES)), list(map(_lowered, module.OTHER)))
        for name, module in _MODULES.items()
    }
    return msgspec.json.encode(LoweredFile(grammars_digest(), lowered, written_method_info(), written_code_facts()))


def _lowered(rule: Rule) -> LoweredRule:
    pattern, groups, absent = lower(rule.expression)
    ways: list[list[str | tuple[str]]] = [
        [piece if isinstance(piece, str) else (piece.pattern,) for piece in way] for way in leading_pieces(rule.expression)
    ]
    return LoweredRule(rule.name, rule.action, ways, pattern.pattern, groups, absent)
