"""
Decides the next step of a channel: send a message, fold several into one, or wait for a stated reason.

The decision depends only on the time, the channel's standing and the waiting messages. This module uses no database and no
clock: ``worker.py`` fetches these values, and acts on the decision.

``max_per_hour`` is the size of a budget of tokens. A message takes one token. Tokens come back evenly, up to the size of the
budget. So a budget allows at most ``max_per_hour`` messages at once, and ``max_per_hour * (1 + t)`` in any span of t hours.

Logins and logouts have a budget for each account on each host. All other events are noise and share a separate budget, because
strangers and local users can cause any number of them. So noise neither delays a login nor shares a digest with one.
"""

from collections.abc import Iterable
from enum import StrEnum

import msgspec

from consumer.actions import SESSION_ACTIONS, OwnAction
from consumer.ecs import EcsEvent
from consumer.store.delivery import LONGEST_WAIT_US, Budget, Pending, Standing

_HOUR_S, _HOUR_US = 3600.0, 3600e6
# The longest wait for a time of the wall clock, because somebody may set the clock during the wait.
_LONGEST_PAUSE_S, _SHORTEST_PAUSE_S = 60.0, 0.001
# Limits for the host and the account in the name of a budget, in characters.
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
        first: the first message that is due; None if none is.
        budget: the budget of ``first``.
        held: the spent budgets that have waiting messages.
        next_us: if no message is due, the time of the next one, in microseconds since 1970 UTC; None if no message waits for a
            time.
        is_crowded: several messages of this budget are due, and sshbell can fold them into one.
    """

    first: Pending | None = None
    budget: Budget = Budget()
    held: tuple[Budget, ...] = ()
    next_us: int | None = None
    is_crowded: bool = False


class Send(msgspec.Struct, frozen=True):
    """Send a single message. Its budget has ``tokens`` left afterwards."""

    message: Pending
    tokens: float


class Fold(msgspec.Struct, frozen=True):
    """Send one message in place of all due messages of a budget; ``first`` is the first of them. ``tokens``: as in ``Send``."""

    first: Pending
    tokens: float


class Wait(msgspec.Struct, frozen=True):
    """Wait this many seconds, or until something new arrives; None if only something new can change the decision."""

    seconds: float | None
    reason: Reason


def decide(now_us: int, standing: Standing, waiting: Waiting, *, max_per_hour: int, is_holding_back: bool) -> Send | Fold | Wait:
    """
    Return the next step of a channel.

    Args:
        now_us: the wall clock, in microseconds since 1970 UTC. It may have jumped forwards or backwards.
        standing: the last recorded failures of the channel.
        waiting: the waiting messages.
        max_per_hour: from the channel's settings.
        is_holding_back: messages of this budget had to wait for tokens, and sshbell has not sent any since.
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
    # A notice may name logins that sshbell found late. Each process writes one notice at most.
    return host if event.event.action == OwnAction.NOTICE else ""


def tokens_of(budget: Budget, max_per_hour: int, now_us: int) -> float:
    """Return the tokens of a budget, with fractions: 0 to ``max_per_hour``."""
    most = float(max_per_hour)
    # Such a late time comes from a wrong clock, so its age is unknown. An hour would fill the budget anyway.
    if budget.tokens is None or budget.tokens_us > now_us + _HOUR_US:
        return most
    elapsed_us = max(0, now_us - budget.tokens_us)
    return min(most, budget.tokens + elapsed_us * most / _HOUR_US)


def until_token_s(budget: Budget, max_per_hour: int, now_us: int) -> float:
    """Return the seconds until a spent budget gets a token. A clock that goes back adds none until it catches up."""
    missing_h = max(0.0, 1 - tokens_of(budget, max_per_hour, now_us)) / max_per_hour
    behind_s = max(0, budget.tokens_us - now_us) / 1e6
    return max(_SHORTEST_PAUSE_S, missing_h * _HOUR_S + min(_LONGEST_PAUSE_S, behind_s))


def held_until(spent: Iterable[Budget], max_per_hour: int, now_us: int) -> dict[str, int]:
    """Return the time of the next token of each spent budget, by its name, in microseconds since 1970 UTC."""
    return {
        budget.name: now_us + round(until_token_s(budget, max_per_hour, now_us) * 1e6)
        for budget in spent
        if tokens_of(budget, max_per_hour, now_us) < 1
    }


def _pause_s(now_us: int, until_us: int) -> float:
    return min(_LONGEST_PAUSE_S, max(_SHORTEST_PAUSE_S, (until_us - now_us) / 1e6))
