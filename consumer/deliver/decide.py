"""
Decides the next step of a channel: send a message, fold several into one, or wait for a stated reason.

The decision depends only on the time, the channel's standing and the waiting messages. This module uses no database and no
clock: ``worker.py`` fetches these values, and acts on the decision.

``max_per_hour`` is the size of a budget of tokens. A message takes one token. Tokens come back evenly, up to the size of the
budget. So a budget allows at most ``max_per_hour`` messages at once, and ``max_per_hour * (1 + t)`` in any span of t hours.

Logins and logouts have a budget for each account on each host. All other events are noise and share a separate budget, because
strangers and local users can cause any number of them. So noise neither delays a login nor shares a digest with one.

A *hold* collects messages until a time and reports them as one:

* A fold begins with a message that goes at once; further messages of its kind join the fold. It reports them at the end of a
  window, and goes on until a window brings nothing. sshbell always folds failed logins, by host and block of addresses.
* A scheduled digest has all messages of a route, also those about noise: its administrator wants them together.
* The quiet hours hold messages about logins, and apart from them those about noise.

Folds take a token of the budget; the others do not, because the clock limits them.
"""

import json
from collections.abc import Iterable
from datetime import tzinfo
from enum import StrEnum
from ipaddress import ip_network

import msgspec

from consumer.actions import SESSION_ACTIONS, EventAction, OwnAction
from consumer.addresses import ip_of
from consumer.deliver.hours import next_us, quiet_until_us
from consumer.deliver.routing import Lead
from consumer.ecs import EcsEvent
from consumer.spans import micros_of
from consumer.store.delivery import LONGEST_WAIT_US
from consumer.store.delivery_holds import LONGEST_HOLD_US
from consumer.store.delivery_rows import Budget, Hold, HoldPlan, Pending, Standing

_HOUR_S, _HOUR_US = 3600.0, 3600e6
# The longest wait for a time of the wall clock, because somebody may set the clock during the wait.
_LONGEST_PAUSE_S, _SHORTEST_PAUSE_S = 60.0, 0.001
# Limits for the host and the account in the name of a budget, in characters.
_HOST_CHARS, _ACCOUNT_CHARS = 255, 100
# The block of an address, in bits: what one provider or customer usually has.
_BLOCK_BITS = {4: 24, 6: 48}
# Events that sshbell always folds: each stranger can cause any number of them.
_FOLDED = frozenset({EventAction.ATTEMPT, EventAction.PROBE, EventAction.TROUBLE})


class Reason(StrEnum):
    """Why a channel waits."""

    NOTHING = "nothing waits"
    MESSAGES = "each message waits for its next try"
    CHANNEL = "the channel waits for its next try"
    CAP = "max_per_hour is used up"
    HOLD = "a fold or a digest is not complete yet"
    QUIET = "these are quiet hours"


class Waiting(msgspec.Struct, frozen=True):
    """
    The waiting messages of a channel.

    Attributes:
        first: the first message that is due; None if none is.
        budget: the budget of ``first``.
        held: the spent budgets that have waiting messages.
        next_us: if no message is due, the time of the next one, in microseconds since 1970 UTC; None if no message waits for a
            time.
        is_crowded: several messages of this budget, or of ``hold``, are due, and sshbell can fold them into one.
        hold: the hold of ``first``; None if it is in none.
    """

    first: Pending | None = None
    budget: Budget = Budget()
    held: tuple[Budget, ...] = ()
    next_us: int | None = None
    is_crowded: bool = False
    hold: Hold | None = None


class Send(msgspec.Struct, frozen=True):
    """Send a single message. Its budget has ``tokens`` left afterwards."""

    message: Pending
    tokens: float


class Fold(msgspec.Struct, frozen=True):
    """
    Send one message in place of all due messages of a budget, or of the hold of ``first``. ``first`` is the first of them.
    ``tokens``: as in ``Send``.
    """

    first: Pending
    tokens: float


class Wait(msgspec.Struct, frozen=True):
    """Wait this many seconds, or until something new arrives; None if only something new can change the decision."""

    seconds: float | None
    reason: Reason


def decide(
    now_us: int, standing: Standing, waiting: Waiting, *, max_per_hour: int, is_holding_back: bool,
    quiet_end_us: int | None = None,
) -> Send | Fold | Wait:  # fmt: skip
    """
    Return the next step of a channel.

    Args:
        now_us: the wall clock, in microseconds since 1970 UTC. It may have jumped forwards or backwards.
        standing: the last recorded failures of the channel.
        waiting: the waiting messages.
        max_per_hour: from the channel's settings.
        is_holding_back: messages of this budget had to wait for tokens, and sshbell has not sent any since.
        quiet_end_us: when the quiet hours end; None if these are none.
    """
    first, hold = waiting.first, waiting.hold
    if first is None:
        return _wait_for_messages(now_us, waiting, max_per_hour, quiet_end_us)
    is_test = first.seq == 0
    # Somebody is waiting for the result of a test, so its first try never waits.
    if not (is_test and first.attempts == 0) and now_us < standing.retry_us < now_us + LONGEST_WAIT_US:
        return Wait(_pause_s(now_us, standing.retry_us), Reason.CHANNEL)
    if not is_test and (wait := _wait_for_its_time(now_us, first, hold, quiet_end_us)) is not None:
        return wait
    tokens = tokens_of(waiting.budget, max_per_hour, now_us)
    is_free = is_test or (hold is not None and not hold.window_us)
    if tokens < 1 and not is_free:
        return Wait(until_token_s(waiting.budget, max_per_hour, now_us), Reason.CAP)
    left = tokens if is_free else tokens - 1
    if not is_test and (hold is not None or is_holding_back) and waiting.is_crowded and first.digest is None:
        return Fold(first, left)
    return Send(first, left)


def _wait_for_its_time(now_us: int, first: Pending, hold: Hold | None, quiet_end_us: int | None) -> Wait | None:
    if quiet_end_us is not None and not first.is_urgent:
        return Wait(_pause_s(now_us, quiet_end_us), Reason.QUIET)
    if hold is not None and not is_due(hold, now_us):
        return Wait(_pause_s(now_us, hold.due_us), Reason.HOLD)
    return None


def is_due(hold: Hold, now_us: int) -> bool:
    """Return whether the messages of a hold become one now. A time that is too far ahead comes from a wrong clock."""
    return not now_us < hold.due_us <= now_us + LONGEST_HOLD_US


def _wait_for_messages(now_us: int, waiting: Waiting, max_per_hour: int, quiet_end_us: int | None) -> Wait:
    waits = [Wait(until_token_s(budget, max_per_hour, now_us), Reason.CAP) for budget in waiting.held]
    if waiting.next_us is not None:
        waits.append(Wait(_pause_s(now_us, waiting.next_us), Reason.MESSAGES))
    if quiet_end_us is not None:
        waits.append(Wait(_pause_s(now_us, quiet_end_us), Reason.QUIET))
    return min(waits, key=lambda wait: wait.seconds or 0, default=Wait(None, Reason.NOTHING))


def budget_of(event: EcsEvent) -> str:
    """Return the name of the budget that pays for the message of an event: host and account, or "" for noise."""
    host = (event.host.name or "")[:_HOST_CHARS]
    if event.event.action in SESSION_ACTIONS:
        return f"{host} {(event.user.name or '')[:_ACCOUNT_CHARS]}"
    # A notice may name logins that sshbell found late. Each process writes one notice at most.
    return host if event.event.action == OwnAction.NOTICE else ""


def plan_of(event: EcsEvent, lead: Lead, now_us: int, quiet: str, zone: tzinfo | None) -> HoldPlan | None:
    """
    Return the hold that an event joins on its way to a channel; None if it goes at once.

    Args:
        event: as in the outbox.
        lead: the way to the channel.
        now_us: the wall clock.
        quiet: the quiet hours of the channel; "" for none.
        zone: of its reader; None for this host's.
    """
    is_noise = budget_of(event) == ""
    if lead.digest:
        due_us = next_us(lead.digest, now_us, zone)
        return HoldPlan(lead.digest, quiet_until_us(quiet, due_us, zone) or due_us)
    quiet_end_us = None if lead.is_urgent else quiet_until_us(quiet, now_us, zone)
    if quiet_end_us is not None:
        return HoldPlan("quiet noise" if is_noise else "quiet", quiet_end_us)
    window_us = micros_of(lead.window)
    prefix = "fold urgent" if lead.is_urgent else "fold"
    action, host = event.event.action or "", (event.host.name or "")[:_HOST_CHARS]
    if action in _FOLDED:
        shared = f"{prefix} {json.dumps([action, host])}"
        return HoldPlan(f"{shared} {_block(event)}", now_us + window_us, window_us, shared)
    if action in SESSION_ACTIONS and lead.fold:
        known = {
            "event": action, "user": (event.user.name or "")[:_ACCOUNT_CHARS], "host": host,
            "address": (event.source.ip or event.source.address or "")[:_HOST_CHARS], "route": lead.route,
        }  # fmt: skip
        # Lines that a local user may have made up must not fold a genuine login, nor may a login of others fold one of root.
        always = [event.ssh.origin or "", event.user.name == "root" or event.user.id == "0"]
        name = json.dumps([*always, *(known[field] for field in sorted(set(lead.fold)))])
        return HoldPlan(f"{prefix} {name}", now_us + window_us, window_us)
    return None


def _block(event: EcsEvent) -> str:
    """Return the block of addresses from which an event comes; "" if its address is unknown."""
    ip = ip_of(event.source.ip)
    return "" if ip is None else str(ip_network((ip, _BLOCK_BITS[ip.version]), strict=False))


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
