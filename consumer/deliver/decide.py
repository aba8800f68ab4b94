"""
What a channel does next: send a message, fold several into one, or wait, and why.

A pure function of the time, the channel's standing and what waits: no database, no clock. ``worker.py`` fetches these, and does
what it says.

``max_per_hour`` is a bucket of tokens. A message takes one token; they come back evenly, and the bucket holds as many as an hour
brings. So a channel sends ``max_per_hour`` messages at once at most, and in any span of t hours ``max_per_hour * (1 + t)``.
"""

from enum import StrEnum

import msgspec

from consumer.store.delivery import LONGEST_WAIT_US, Pending, Standing

_HOUR_S, _HOUR_US = 3600.0, 3600e6
# No wait for a time of the wall clock is longer: the clock may be set meanwhile.
_LONGEST_PAUSE_S, _SHORTEST_PAUSE_S = 60.0, 0.001


class Reason(StrEnum):
    """Why a channel waits."""

    NOTHING = "nothing waits"
    MESSAGES = "each message waits for its next try"
    CHANNEL = "the channel waits for its next try"
    CAP = "max_per_hour is used up"


class Waiting(msgspec.Struct, frozen=True):
    """
    What waits for a channel.

    Attributes:
        first: the first message that may be tried now; None: none may.
        next_us: where none may: when the next one may, in microseconds since 1970 UTC; None: nothing waits.
        is_crowded: several messages may be tried now, and can be folded into one.
    """

    first: Pending | None = None
    next_us: int | None = None
    is_crowded: bool = False


class Send(msgspec.Struct, frozen=True):
    """Send a message by itself. ``tokens``: what is left for others once it is sent."""

    message: Pending
    tokens: float


class Fold(msgspec.Struct, frozen=True):
    """Send one message in place of ``first`` and the others that may be tried now. ``tokens``: as in ``Send``."""

    first: Pending
    tokens: float


class Wait(msgspec.Struct, frozen=True):
    """Do nothing for so many seconds, or until something new comes. None: only that can change anything."""

    seconds: float | None
    reason: Reason


def decide(now_us: int, standing: Standing, waiting: Waiting, *, max_per_hour: int, is_holding_back: bool) -> Send | Fold | Wait:
    """
    Return what a channel does next.

    Args:
        now_us: the wall clock, in microseconds since 1970 UTC. It may have been set, forwards or backwards.
        standing: failures and tokens of the channel, as last written down.
        waiting: the messages.
        max_per_hour: of the channel's settings.
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
    # A clock that was wrong wrote a time so far ahead, so its age is unknown; an hour fills the bucket anyway.
    if standing.tokens is None or standing.tokens_us > now_us + _HOUR_US:
        return most
    elapsed_us = max(0, now_us - standing.tokens_us)
    return min(most, standing.tokens + elapsed_us * most / _HOUR_US)


def _until_token_s(now_us: int, standing: Standing, missing_h: float) -> float:
    """Return how long to wait for what so many hours bring. A clock that was set back brings nothing before it has caught up."""
    behind_s = max(0, standing.tokens_us - now_us) / 1e6
    return max(_SHORTEST_PAUSE_S, missing_h * _HOUR_S + min(_LONGEST_PAUSE_S, behind_s))


def _pause_s(now_us: int, until_us: int) -> float:
    return min(_LONGEST_PAUSE_S, max(_SHORTEST_PAUSE_S, (until_us - now_us) / 1e6))
