"""
Decides what a channel does next: send a message, fold several into one, or wait, and why.

It is a pure function of the time, the channel's standing and the waiting messages: no database, no clock. ``worker.py`` fetches
these, and acts on the decision.

``max_per_hour`` is a bucket of tokens. A message takes one token. Tokens come back evenly, and the bucket holds those of one
hour. So a channel sends at most ``max_per_hour`` messages at once, and ``max_per_hour * (1 + t)`` in any span of t hours.
"""

from enum import StrEnum

import msgspec

from consumer.store.delivery import LONGEST_WAIT_US, Pending, Standing

_HOUR_S, _HOUR_US = 3600.0, 3600e6
# The longest wait for a time of the wall clock, because the clock may be set meanwhile.
_LONGEST_PAUSE_S, _SHORTEST_PAUSE_S = 60.0, 0.001


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
        next_us: if none is due, when the next one is, in microseconds since 1970 UTC; None: no message waits.
        is_crowded: several messages are due, and can be folded into one.
    """

    first: Pending | None = None
    next_us: int | None = None
    is_crowded: bool = False


class Send(msgspec.Struct, frozen=True):
    """Send a message by itself. ``tokens``: how many are left for others afterwards."""

    message: Pending
    tokens: float


class Fold(msgspec.Struct, frozen=True):
    """Send one message in place of ``first`` and the others that are due. ``tokens``: as in ``Send``."""

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
        standing: the channel's failures and tokens, as last recorded.
        waiting: the messages.
        max_per_hour: from the channel's settings.
        is_holding_back: messages had to wait for tokens, and none has been sent since.
    """
    first = waiting.first
    if first is None:
        return _wait_for_messages(now_us, waiting.next_us)
    is_test = first.seq == 0
    # Somebody is waiting for the result of a test, so its first try never waits.
    if not (is_test and first.attempts == 0) and now_us < standing.retry_us < now_us + LONGEST_WAIT_US:
        return Wait(_pause_s(now_us, standing.retry_us), Reason.CHANNEL)
    tokens = tokens_of(standing, max_per_hour, now_us)
    if is_test:
        return Send(first, tokens)
    if tokens < 1:
        return Wait(_until_token_s(now_us, standing, (1 - tokens) / max_per_hour), Reason.CAP)
    if is_holding_back and waiting.is_crowded and first.digest is None:
        return Fold(first, tokens - 1)
    return Send(first, tokens - 1)


def _wait_for_messages(now_us: int, next_us: int | None) -> Wait:
    return Wait(None, Reason.NOTHING) if next_us is None else Wait(_pause_s(now_us, next_us), Reason.MESSAGES)


def tokens_of(standing: Standing, max_per_hour: int, now_us: int) -> float:
    """Return how many messages a channel may send now, a fraction included: 0 to ``max_per_hour``."""
    most = float(max_per_hour)
    # The clock was wrong when it wrote a time so far ahead, so its age is unknown. An hour would fill the bucket anyway.
    if standing.tokens is None or standing.tokens_us > now_us + _HOUR_US:
        return most
    elapsed_us = max(0, now_us - standing.tokens_us)
    return min(most, standing.tokens + elapsed_us * most / _HOUR_US)


def _until_token_s(now_us: int, standing: Standing, missing_h: float) -> float:
    """Return how long to wait for the tokens of ``missing_h`` hours. A clock that was set back adds none until it catches up."""
    behind_s = max(0, standing.tokens_us - now_us) / 1e6
    return max(_SHORTEST_PAUSE_S, missing_h * _HOUR_S + min(_LONGEST_PAUSE_S, behind_s))


def _pause_s(now_us: int, until_us: int) -> float:
    return min(_LONGEST_PAUSE_S, max(_SHORTEST_PAUSE_S, (until_us - now_us) / 1e6))
