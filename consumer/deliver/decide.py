"""
Decides what a channel does next: send a message, fold several into one, or wait, and why.

It is a pure function of the time, the channel's standing and the waiting messages: no database, no clock. ``worker.py`` fetches
these, and acts on the decision.

``max_per_hour`` is a budget of tokens. A message takes one token. Tokens come back evenly, and the budget holds an hour's worth.
So a budget sends ``max_per_hour`` messages at once at most, and ``max_per_hour * (1 + t)`` in any span of t hours.

Logins and logouts have a budget for each account on each host. Everything else shares another, because strangers and local users
can cause as much of it as they like. So noise neither delays a login nor shares a digest with one.
"""

from collections.abc import Iterable
from enum import StrEnum

import msgspec

from consumer.actions import SESSION_ACTIONS, OwnAction
from consumer.ecs import EcsEvent
from consumer.store.delivery import LONGEST_WAIT_US, Budget, Pending, Standing

_HOUR_S, _HOUR_US = 3600.0, 3600e6
# The longest wait for a time of the wall clock, because the clock may be set meanwhile.
_LONGEST_PAUSE_S, _SHORTEST_PAUSE_S = 60.0, 0.001
# Characters of the names in a budget's name.
_HOST_CHARS, _ACCOUNT_CHARS = 255, 100


class Reason(StrEnum):
    """Why a channel waits."""

    NOTHING = "nothing waits"
    MESSAGES = "each message waits for its next try"
    CHANNEL = "the channel waits for its next try"
    CAP = "max_per_hour is used up"


class Waiting(msgspec.Struct, frozen=True):
    """
    The waiting messages of a channel.

    Attributes:
        first: the first message that is due; None: none is.
        budget: the budget of ``first``.
        held: spent budgets with waiting messages.
        next_us: if none is due, when the next one is, in microseconds since 1970 UTC; None: none waits, or only for a budget.
        is_crowded: several messages of this budget are due, and can be folded into one.
    """

    first: Pending | None = None
    budget: Budget = Budget()
    held: tuple[Budget, ...] = ()
    next_us: int | None = None
    is_crowded: bool = False


class Send(msgspec.Struct, frozen=True):
    """Send a message by itself. ``tokens``: how many its budget has left afterwards."""

    message: Pending
    tokens: float


class Fold(msgspec.Struct, frozen=True):
    """Send one message in place of ``first`` and the others of its budget that are due. ``tokens``: as in ``Send``."""

    first: Pending
    tokens: float


class Wait(msgspec.Struct, frozen=True):
    """Do nothing for this many seconds, or until something new comes. None: only something new can change the decision."""

    seconds: float | None
    reason: Reason


def decide(now_us: int, standing: Standing, waiting: Waiting, *, max_per_hour: int, is_holding_back: bool) -> Send | Fold | Wait:
    """
    Return what a channel does next.

    Args:
        now_us: the wall clock, in microseconds since 1970 UTC. It may have been set, forwards or backwards.
        standing: the channel's failures, as last recorded.
        waiting: the messages.
        max_per_hour: from the channel's settings.
        is_holding_back: messages of this budget had to wait for tokens, and none has been sent since.
    """
    first = waiting.first
    if first is None:
        return _wait_for_messages(now_us, waiting, max_per_hour)
    is_test = first.seq == 0
    # Somebody is waiting for the result of a test, so its first try never waits.
    if not (is_test and first.attempts == 0) and now_us < standing.retry_us < now_us + LONGEST_WAIT_US:
        return Wait(_pause_s(now_us, standing.retry_us), Reason.CHANNEL)
    tokens = tokens_of(waiting.budget, max_per_hour, now_us)
    if is_test:
        return Send(first, tokens)
    if tokens < 1:
        return Wait(until_token_s(waiting.budget, max_per_hour, now_us), Reason.CAP)
    if is_holding_back and waiting.is_crowded and first.digest is None:
        return Fold(first, tokens - 1)
    return Send(first, tokens - 1)


def _wait_for_messages(now_us: int, waiting: Waiting, max_per_hour: int) -> Wait:
    waits = [Wait(until_token_s(budget, max_per_hour, now_us), Reason.CAP) for budget in waiting.held]
    if waiting.next_us is not None:
        waits.append(Wait(_pause_s(now_us, waiting.next_us), Reason.MESSAGES))
    return min(waits, key=lambda wait: wait.seconds or 0, default=Wait(None, Reason.NOTHING))


def budget_of(event: EcsEvent) -> str:
    """Return the name of the budget that pays for the message of an event: host and account, or "" for noise."""
    host = (event.host.name or "")[:_HOST_CHARS]
    if event.event.action in SESSION_ACTIONS:
        return f"{host} {(event.user.name or '')[:_ACCOUNT_CHARS]}"
    # A notice may name logins that were found late; each process makes one at most.
    return host if event.event.action == OwnAction.NOTICE else ""


def tokens_of(budget: Budget, max_per_hour: int, now_us: int) -> float:
    """Return how many messages of a budget may be sent now, a fraction included: 0 to ``max_per_hour``."""
    most = float(max_per_hour)
    # The clock was wrong when it wrote a time so far ahead, so its age is unknown. An hour would fill the budget anyway.
    if budget.tokens is None or budget.tokens_us > now_us + _HOUR_US:
        return most
    elapsed_us = max(0, now_us - budget.tokens_us)
    return min(most, budget.tokens + elapsed_us * most / _HOUR_US)


def until_token_s(budget: Budget, max_per_hour: int, now_us: int) -> float:
    """Return how long a spent budget waits for a token. A clock that was set back adds none until it catches up."""
    missing_h = max(0.0, 1 - tokens_of(budget, max_per_hour, now_us)) / max_per_hour
    behind_s = max(0, budget.tokens_us - now_us) / 1e6
    return max(_SHORTEST_PAUSE_S, missing_h * _HOUR_S + min(_LONGEST_PAUSE_S, behind_s))


def held_until(spent: Iterable[Budget], max_per_hour: int, now_us: int) -> dict[str, int]:
    """Return, by name, the time at which each spent budget gets its next token, in microseconds since 1970 UTC."""
    return {
        budget.name: now_us + round(until_token_s(budget, max_per_hour, now_us) * 1e6)
        for budget in spent
        if tokens_of(budget, max_per_hour, now_us) < 1
    }


def _pause_s(now_us: int, until_us: int) -> float:
    return min(_LONGEST_PAUSE_S, max(_SHORTEST_PAUSE_S, (until_us - now_us) / 1e6))
