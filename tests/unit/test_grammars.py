"""The grammars of ``grammars/``, held against ``tests/samples/*.txt``."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any

import pyparsing as pp
import pytest

from consumer.matching.lowering import lower
from consumer.matching.matcher import Matcher
from consumer.matching.messages import auth_message
from grammars import dropbear, pam, sftp, sshbell_pam, sshd
from tests.unit.sample_lines import NOT_OURS, UNMATCHED, Sample, all_samples, find

if TYPE_CHECKING:
    from collections.abc import Iterator

    from consumer.matching.rules import Engine
    from grammars.rule import Rule

ENGINES: dict[str, Matcher] = {"lowered": Matcher(engine="lowered"), "pyparsing": Matcher(engine="pyparsing")}
MODULES = {"sshd": sshd, "sftp": sftp, "pam": pam, "dropbear": dropbear, "sshbell_pam": sshbell_pam}
RULES = [(family, rule) for family, module in MODULES.items() for rule in module.RULES + module.OTHER]
SAMPLES = all_samples()
EVERY_RULE = [*RULES, *(("method_info", rule) for rule in sshd.METHOD_INFO), ("facts", sshbell_pam.FACTS)]

LAZY = re.compile(r"(?<!\\)\.[*+]\?")
GREEDY = re.compile(r"(?<!\\)\.[*+](?!\?)")
FREE = re.compile(r"(?<!\\)\.[*+]")
# "[^:]*": free text, blanks included, that one character ends.
BOUNDED = re.compile(r"\[\^([^\]\\ ])\]\*")

every_rule = pytest.mark.parametrize(("family", "rule"), EVERY_RULE, ids=[f"{family}-{rule.name}" for family, rule in EVERY_RULE])

#: Rules that the scan for free text before an address lets pass, with the reason.
EXEMPT = {
    "pam_error": "the lazy text is PAM's own; the user's name behind it is greedy",
    "session_crash": "the lazy text is sshd's own",
    "auth_failure_odd": "always marked as ambiguous",
    "exit": "the text behind the address is dropbear's own",
    "wrong_host_for_key": "the text behind the address is the key owner's: see test_injection",
    "wrong_host_for_key_old": "the same",
    "user_not_allowed": "the user is an account, and the text behind the address is sshd's own",
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("sample", SAMPLES, ids=str)
def test_sample_is_read_as_expected(sample: Sample, engine: Engine) -> None:
    """A sample is read by the rule that is written below it, with all of its fields and no others, by both engines."""
    found = find(ENGINES[engine], sample)
    if sample.rule == NOT_OURS:
        assert found is None
        return
    assert found is not None, "the line is taken for another program's"
    if found.rule is None or found.match is None:
        assert sample.rule == UNMATCHED
        return
    fields = found.rule.groupdict(found.match)
    read = (found.rule.name, found.rule.action, auth_message(found).ambiguous, fields)
    assert read == (sample.rule, sample.action, sample.ambiguous, sample.fields)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("sample", SAMPLES, ids=str)
def test_both_engines_hand_on_the_same(sample: Sample, engine: Engine) -> None:
    """What the correlator is given of a sample, and the typed message, do not depend on the engine."""
    expected, found = find(ENGINES["lowered"], sample), find(ENGINES[engine], sample)
    assert (found is None) == (expected is None)
    if found is not None and expected is not None:
        assert found.core() == expected.core()
        assert auth_message(found) == auth_message(expected)


def test_every_rule_has_a_sample() -> None:
    """Each rule of each grammar reads at least one sample: a pattern starts as a sample line."""
    read = {(found.rule.index) for sample in SAMPLES if (found := find(ENGINES["lowered"], sample)) and found.rule}
    missing = [f"{rule.family or 'pam'}: {rule.name}" for rule in ENGINES["lowered"].rules if rule.index not in read]
    assert not missing


@pytest.mark.parametrize("grammar", MODULES)
def test_every_grammar_has_lines_that_must_not_match(grammar: str) -> None:
    """Rejections are tested as carefully as matches: lines of our programs that no rule reads, and lines of other programs."""
    kinds = Counter(sample.rule for sample in SAMPLES if sample.grammar == grammar)
    # None of sftp-server's lines tells who comes in, so each is a side line at least.
    assert kinds[UNMATCHED] >= 2 or grammar == "sftp"
    assert kinds[NOT_OURS] >= 1


def test_every_sample_has_an_expectation() -> None:
    """No sample line is there just to look at."""
    assert [str(sample) for sample in SAMPLES if not sample.rule] == []


@every_rule
def test_every_rule_is_named(family: str, rule: Rule) -> None:
    """A rule's expression carries the rule's name, so that errors and ``explain`` can say it."""
    assert rule.name, family
    assert re.fullmatch(r"[a-z][a-z0-9_]*", rule.name)
    assert re.fullmatch(r"[a-z][a-z_]*", rule.action)
    assert rule.expression.name == rule.name


@pytest.mark.parametrize("family", MODULES)
def test_rule_names_are_unique(family: str) -> None:
    """Within one grammar a name means one rule."""
    names = Counter(rule.name for rule in MODULES[family].RULES + MODULES[family].OTHER)
    assert [name for name, count in names.items() if count > 1] == []


@every_rule
def test_every_field_is_named(family: str, rule: Rule) -> None:
    """No part of a line is found by number: each capturing group of each regular expression has a name."""
    unnamed = [regex.pattern for regex in regexes(rule.expression) if regex.re.groups != len(regex.re.groupindex)]
    assert not unnamed, family


@every_rule
def test_no_rule_skips_or_changes_text(family: str, rule: Rule) -> None:
    """Spaces are data: no element skips white space, tabs stay tabs, and there are no parse actions to lose in lowering."""
    elements = list(walk(rule.expression))
    assert [element for element in elements if element.skipWhitespace] == [], family
    assert [element for element in elements if element.parseAction] == []
    assert rule.expression.keepTabs


@every_rule
def test_every_rule_reads_the_whole_line(family: str, rule: Rule) -> None:
    r"""The last part of a rule ends in ``\\Z``: a text that merely begins like a message is not that message."""
    *_, last = list(regexes(rule.expression))
    assert last.pattern.endswith(r"\Z"), family
    assert isinstance(rule.expression, pp.Regex) or list(walk(rule.expression))[-1] is last


@every_rule
def test_no_free_text_before_an_address_without_an_anchor(family: str, rule: Rule) -> None:
    r"""
    Where a peer's free text stands before the address, what separates them is fixed, and the rest of the line is too.

    Free text is what a class with a blank in it repeats (``.*``, ``[^:]*``). Greedy, and with a tail that is bound to ``\\Z``
    and holds no other free text, the last address is taken, which is the daemon's. Lazy free text takes the first, which is
    the peer's. Free text behind the address is harmless only if what stands before it cannot reach over the address: so
    it excludes a character that must come (``[^:]*`` before ``: REASON``).
    """
    faults = []
    for regex in regexes(rule.expression):
        field = re.search(r"\(\?P<(?:address|port)>", regex.pattern)
        if field is None:
            continue
        before, behind = regex.pattern[: field.start()], regex.pattern[field.start() :]
        if LAZY.search(before):
            faults.append("lazy text before the address")
        if GREEDY.search(before) and not regex.pattern.endswith(r"\Z"):
            faults.append("greedy text before the address, and no anchor behind it")
        if GREEDY.search(before) and FREE.search(behind):
            faults.append("free text on both sides of the address")
        if FREE.search(behind):
            faults += [
                f"nothing keeps {text[0]} before the address" for text in BOUNDED.finditer(before) if text[1] not in behind
            ]
    assert not faults or rule.name in EXEMPT, f"{family}: {faults}: {rule.expression}"


@pytest.mark.parametrize(("family", "rule"), RULES, ids=[f"{family}-{rule.name}" for family, rule in RULES])
def test_every_rule_can_be_lowered(family: str, rule: Rule) -> None:
    """Each rule stays within the lowered set, and no field is lost in lowering."""
    names = {element.resultsName for element in walk(rule.expression) if element.resultsName}
    for regex in regexes(rule.expression):
        names |= set(regex.re.groupindex)
    assert set(lower(rule.expression).groups) == names, family


def walk(element: Any) -> Iterator[Any]:
    """Yield an element and all it is made of."""
    yield element
    inner = getattr(element, "exprs", None) or ([element.expr] if getattr(element, "expr", None) is not None else [])
    for part in inner:
        yield from walk(part)


def regexes(element: pp.ParserElement) -> Iterator[Any]:
    """Yield the regular expressions of an element, in their order."""
    return (part for part in walk(element) if isinstance(part, pp.Regex))
