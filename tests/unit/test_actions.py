"""``consumer.actions``: one row for each thing that a line can say, and for each that can happen."""

from __future__ import annotations

from typing import get_args

import pyparsing as pp
import pytest

from consumer.actions import EXPENDABLE_ACTIONS, SESSION_ACTIONS, SEVERITIES, EventAction, LineAction
from consumer.events import Event, Finding
from consumer.matching.matcher import Matcher
from consumer.matching.rules import HINTS, ONLY_COUNTS, CompiledRule
from consumer.matching.written_rules import WrittenRule
from consumer.story.correlate import Correlator
from grammars.rule import END, rule

MATCHER = Matcher()


def test_each_action_has_a_rule() -> None:
    """No row stands for what no grammar says; that each action of a grammar has a row is seen when the matcher starts."""
    assert {rule.action for rule in MATCHER.rules} | {LineAction.UNMATCHED} == set(LineAction)


def test_an_action_without_a_row() -> None:
    """A grammar that says something new is refused, and the error names it."""
    with pytest.raises(ValueError, match="'seen_elsewhere' is not a valid LineAction"):
        CompiledRule(WrittenRule(rule("new", "seen_elsewhere", pp.Regex(END)), "lowered"), 0, "sshd", is_pam=False)


def test_the_correlator_handles_what_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each correlated action has a handler, or the correlator does not start."""
    Correlator(MATCHER.rules, str, print)
    notice = next(rule for rule in MATCHER.rules if rule.action is LineAction.NOTICE and not rule.is_pam)
    monkeypatch.setattr(LineAction.NOTICE, "is_correlated", True)
    with pytest.raises(KeyError, match="notice"):
        Correlator([notice], str, print)


def test_uses() -> None:
    """PAM's word about a failed try is a hint; what is not correlated is only counted; sshd's own word is never a hint."""
    hints = {rule.action for rule in MATCHER.rules if rule.use is HINTS}
    assert hints == {LineAction.PAM_FAILURE, LineAction.INVALID_USER, LineAction.USER_DENIED}
    assert all(rule.is_pam for rule in MATCHER.rules if rule.use is HINTS)
    assert {rule.action.is_correlated for rule in MATCHER.rules if rule.use is ONLY_COUNTS} == {False}


def test_each_event_has_a_row() -> None:
    """An event knows its own action, and each action is of one kind of event."""
    findings = [action for action in EventAction if action.is_finding]
    assert sorted([*(kind.action for kind in get_args(Event) if kind is not Finding), *findings]) == sorted(EventAction)
    assert {action.severity for action in findings} <= SEVERITIES.keys()
    assert {action.kind for action in findings} == {"alert"}
    assert {*SESSION_ACTIONS, *EXPENDABLE_ACTIONS} == set(EventAction)
    assert set(SESSION_ACTIONS) == {"ssh_login", "ssh_logout"}
