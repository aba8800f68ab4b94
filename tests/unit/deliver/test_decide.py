"""``consumer.deliver.decide``: each answer by an example. What holds for all inputs is in tests/property/test_decide.py."""

from __future__ import annotations

import pytest

from consumer.actions import EventAction, OwnAction
from consumer.deliver.decide import Fold, Reason, Send, Wait, Waiting, budget_of, decide, tokens_of
from consumer.store.delivery_rows import Budget, Pending, Standing
from tests.ecs_events import ecs

SECOND = 1_000_000
HOUR = 3600 * SECOND
NOW = 1_790_000_000 * SECOND


def message(seq: int = 1, attempts: int = 0, digest: str | None = None) -> Pending:
    """Return a message that waits; with the number 0 it is a test."""
    return Pending(f"id{seq}", seq, attempts, NOW, digest, b"{}")


def decided(
    waiting: Waiting, standing: Standing | None = None, *, max_per_hour: int = 60, is_holding_back: bool = False
) -> Send | Fold | Wait:
    """Decide, as of now."""
    return decide(NOW, standing or Standing(), waiting, max_per_hour=max_per_hour, is_holding_back=is_holding_back)


def test_nothing_waits() -> None:
    """Without messages only a new one can change anything."""
    assert decided(Waiting()) == Wait(None, Reason.NOTHING)


def test_each_message_waits_for_its_next_try() -> None:
    """The wait ends with the first of these times, or within a minute, since the clock may be set meanwhile."""
    assert decided(Waiting(next_us=NOW + 5 * SECOND)) == Wait(5, Reason.MESSAGES)
    assert decided(Waiting(next_us=NOW + HOUR)) == Wait(60, Reason.MESSAGES)
    assert decided(Waiting(next_us=NOW - HOUR)) == Wait(0.001, Reason.MESSAGES)


def test_a_message_goes() -> None:
    """A message takes a token; a channel that has sent nothing yet has all of an hour."""
    assert decided(Waiting(message())) == Send(message(), 59)
    assert decided(Waiting(message(), Budget("", 1.5, NOW))) == Send(message(), 0.5)


def test_the_channel_waits_for_its_next_try() -> None:
    """While a server is down no message goes; a time too far ahead was written while the clock was wrong."""
    assert decided(Waiting(message()), Standing(3, NOW + 20 * SECOND)) == Wait(20, Reason.CHANNEL)
    assert decided(Waiting(message()), Standing(3, NOW + HOUR - 1)) == Wait(60, Reason.CHANNEL)
    for retry_us in (0, NOW, NOW + HOUR, NOW + 1000 * HOUR):
        assert decided(Waiting(message()), Standing(3, retry_us)) == Send(message(), 59)


def test_the_first_try_of_a_test_goes_at_once() -> None:
    """Somebody is waiting for its outcome: neither a server that is down nor the cap holds it up, and it takes no token."""
    down, budget = Standing(3, NOW + 20 * SECOND), Budget("", 0.25, NOW)
    assert decided(Waiting(message(0), budget), down) == Send(message(0), 0.25)
    assert decided(Waiting(message(0), budget, is_crowded=True), down, is_holding_back=True) == Send(message(0), 0.25)
    assert decided(Waiting(message(0, attempts=1), budget), down) == Wait(20, Reason.CHANNEL)


@pytest.mark.parametrize(("tokens", "seconds"), [(0, 60), (0.75, 15)])
def test_the_cap(tokens: float, seconds: float) -> None:
    """Without a token a message waits for it, whether or not it was folded."""
    budget = Budget("", tokens, NOW)
    for digest in (None, "", "held-1"):
        assert decided(Waiting(message(digest=digest), budget)) == Wait(seconds, Reason.CAP)


def test_the_cap_and_a_clock_that_was_set_back() -> None:
    """No tokens come until the clock is again where it was; the channel does not look again and again meanwhile."""
    almost = 1 - 1e-16
    assert decided(Waiting(message(), Budget("", almost, NOW))) == Wait(0.001, Reason.CAP)
    assert decided(Waiting(message(), Budget("", 0.5, NOW + 7 * SECOND))) == Wait(37, Reason.CAP)
    assert decided(Waiting(message(), Budget("", 0.5, NOW + HOUR))) == Wait(90, Reason.CAP)


def test_folding() -> None:
    """What had to wait goes as one message, one alone as it is; what was folded, or refused as such, is not folded again."""
    assert decided(Waiting(message(), is_crowded=True), is_holding_back=True) == Fold(message(), 59)
    assert decided(Waiting(message(), is_crowded=True)) == Send(message(), 59)
    assert decided(Waiting(message()), is_holding_back=True) == Send(message(), 59)
    for digest in ("", "held-1"):
        sent = message(digest=digest)
        assert decided(Waiting(sent, is_crowded=True), is_holding_back=True) == Send(sent, 59)


def test_tokens_come_back_evenly() -> None:
    """Half of an hour brings half of them, and no more than an hour's are kept."""
    budget = Budget("", 10, NOW)
    assert [tokens_of(budget, 60, NOW + hours * HOUR // 4) for hours in (0, 1, 2, 3, 4, 40)] == [10, 25, 40, 55, 60, 60]


def test_a_lower_cap_counts_at_once() -> None:
    """Tokens of a time when more were allowed do not outlive the change."""
    assert tokens_of(Budget("", 1000, NOW), 5, NOW) == 5


def test_tokens_of_a_clock_that_was_wrong() -> None:
    """A little ahead, as after a correction of the clock, they stay as they are; far ahead, they are an hour's again."""
    for ahead_us, tokens in ((1, 10), (HOUR, 10), (HOUR + 1, 60), (100_000 * HOUR, 60)):
        assert tokens_of(Budget("", 10, NOW + ahead_us), 60, NOW) == tokens


def test_what_a_cap_holds_back_wakes_the_channel() -> None:
    """Where nothing else may be tried, the wait ends with the first token of a spent budget, or the first next try."""
    held = (Budget("web1 alice", 0, NOW), Budget("", 0.75, NOW))
    assert decided(Waiting(held=held)) == Wait(15, Reason.CAP)
    assert decided(Waiting(held=held, next_us=NOW + 5 * SECOND)) == Wait(5, Reason.MESSAGES)
    assert decided(Waiting(held=held, next_us=NOW + 20 * SECOND)) == Wait(15, Reason.CAP)
    assert decided(Waiting(message(), held=held)) == Send(message(), 59)


@pytest.mark.parametrize("action", [*EventAction, *OwnAction, "ssh_new"])
def test_budgets(action: str) -> None:
    """Logins and logouts have a budget for each account and host, a notice its host's; all noise shares one."""

    def of(user: str, host: str) -> str:
        return budget_of(ecs({"event": {"action": str(action)}, "user": {"name": user}, "host": {"name": host}}))

    if action in {EventAction.LOGIN, EventAction.LOGOUT}:
        assert len({of("alice", "web1"), of("root", "web1"), of("alice", "web2"), ""}) == 4
    elif action == OwnAction.NOTICE:
        assert of("alice", "web1") == of("root", "web1") == "web1"
    else:
        assert of("alice", "web1") == of("root", "web2") == ""
