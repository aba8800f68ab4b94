"""The grammars of ``grammars/``, held against ``tests/samples/*.txt``."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

import pyparsing as pp
import pytest

from consumer.matching.lowering import lower
from consumer.matching.matcher import Engine, Matcher
from consumer.messages import auth_message
from grammars import dropbear, pam, sshd
from tests.unit.sample_lines import NOT_OURS, UNMATCHED, Sample, all_samples, find

if TYPE_CHECKING:
    from collections.abc import Iterator

    from grammars.rule import Rule

ENGINES: dict[str, Matcher] = {"lowered": Matcher(engine="lowered"), "pyparsing": Matcher(engine="pyparsing")}
MODULES = {"sshd": sshd, "pam": pam, "dropbear": dropbear}
RULES = [(family, rule) for family, module in MODULES.items() for rule in module.RULES]
SAMPLES = all_samples()
EVERY_RULE = [*RULES, *(("method_info", rule) for rule in sshd.METHOD_INFO)]

every_rule = pytest.mark.parametrize(("family", "rule"), EVERY_RULE, ids=[f"{family}-{rule.name}" for family, rule in EVERY_RULE])

#: Rules in which a regular expression may try each of two free texts against each other: what is left of a line after 500
#: bytes bounds them. The value says who writes the first one.
TWO_FREE_TEXTS = {
    "accepted_certificate": "the CA operator",
    "accepted_host_key": "the client host",
    "accepted_key": "the administrator",
    "starting_session": "the user, behind the login",
    "certificate_refused": "the CA operator",
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
    fields = {name: value for name, value in found.rule.groupdict(found.match).items() if value is not None}
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
    assert kinds[UNMATCHED] >= 2
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
    names = Counter(rule.name for rule in MODULES[family].RULES)
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
    assert isinstance(rule.expression, pp.Regex) or rule.expression.exprs[-1] is last


@every_rule
def test_no_free_text_before_an_address_without_an_anchor(family: str, rule: Rule) -> None:
    r"""
    Where a peer's free text stands before the address, what separates them is fixed, and the rest of the line is too.

    Free text is what a class with a blank in it repeats (``.*``, ``[^:]*``). Greedy, and with a tail that is bound to ``\\Z``
    and holds no other free text, the last address is taken, which is the daemon's. Lazy free text takes the first, which is
    the peer's. Free text behind the address is harmless only if what stands before it cannot reach over the address: so
    it excludes a character that must come (``[^:]*`` before ``: REASON``).
    """
    for regex in regexes(rule.expression):
        fields = list(re.finditer(r"\(\?P<(\w+)>", regex.pattern))
        addresses = [field.start() for field in fields if field[1] in {"address", "port"}]
        if not addresses:
            continue
        before, behind = regex.pattern[: addresses[0]], regex.pattern[addresses[0] :]
        lazy = re.findall(r"(?<!\\)\.[*+]\?", before)
        assert not lazy or rule.name in {"pam_error", "session_crash"}, f"{family}: lazy text before the address: {regex.pattern}"
        if re.search(r"(?<!\\)\.[*+]", before):
            assert regex.pattern.endswith(r"\Z")
            rest = behind.split("required=", 1)[0]  # judged by test_injection: it is written by the key's owner
            assert not re.search(r"(?<!\\)\.[*+]", rest), f"{family}: two free texts around the address: {regex.pattern}"
        for chars in re.findall(r"\[\^([^\]\\ ]+)\]\*", before):
            if re.search(r"(?<!\\)\.[*+]", behind):
                assert chars in behind, f"{family}: {regex.pattern}"


@every_rule
def test_few_rules_have_two_greedy_free_texts(family: str, rule: Rule) -> None:
    """Two greedy free texts in one message can be read in two ways, and take quadratic time: each such rule is known here."""
    free = sum(len(re.findall(r"(?<!\\)\.\*(?!\?)", regex.pattern)) for regex in regexes(rule.expression))
    known = rule.name in TWO_FREE_TEXTS or family in {"pam", "dropbear", "method_info"}
    assert free < 2 or known or rule.name in {"authorized_principal", "wrong_host_for_key", "wrong_host_for_key_old"}, free


@pytest.mark.parametrize(("family", "rule"), RULES, ids=[f"{family}-{rule.name}" for family, rule in RULES])
def test_every_rule_can_be_lowered(family: str, rule: Rule) -> None:
    """Each rule stays within the lowered set, and no field is lost in lowering."""
    names = {element.resultsName for element in walk(rule.expression) if element.resultsName}
    for regex in regexes(rule.expression):
        names |= set(regex.re.groupindex)
    assert set(lower(rule.expression).groups) == names, family


def walk(element: pp.ParserElement) -> Iterator[pp.ParserElement]:
    """Yield an element and all it is made of."""
    yield element
    inner = getattr(element, "exprs", None) or ([element.expr] if getattr(element, "expr", None) is not None else [])
    for part in inner:
        yield from walk(part)


def regexes(element: pp.ParserElement) -> Iterator[pp.Regex]:
    """Yield the regular expressions of an element, in their order."""
    return (part for part in walk(element) if isinstance(part, pp.Regex))
