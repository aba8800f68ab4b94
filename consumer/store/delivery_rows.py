"""The rows of ``delivery.db`` as values, and what says where a message goes."""

from collections.abc import Iterable, Mapping
from typing import Annotated, NamedTuple

import msgspec

from consumer.store.outbox import Queued
from consumer.store.rows import Whole

# The columns of Pending.
PENDING_COLUMNS = "event_id, seq, attempts, max(queued_us, free_us), digest, body, budget, delivery.urgent, hold"


class Pending(NamedTuple):
    """A message that waits for a channel. ``seq`` is 0 for a test; ``digest`` names the digest that it is part of. "" means that
    the server rejected this digest, so the message goes alone. ``budget`` names the budget from which it takes a token.
    ``hold`` names the hold in which it waits; "" for none. ``is_urgent``: it goes in quiet hours, too.
    """

    event_id: str
    seq: int
    attempts: int
    queued_us: int
    digest: str | None
    body: bytes
    budget: str = ""
    is_urgent: bool = False
    hold: str = ""


class HoldPlan(NamedTuple):
    """
    The hold that a message joins.

    Attributes:
        name: of the hold.
        due_us: when its messages become one, if this message opens it; the wall clock.
        window_us: a fold: the message that opens it goes at once, and it goes on for so long after it was due. 0: no fold.
        shared: the fold to join instead if there are too many; "" for none.
    """

    name: str
    due_us: int
    window_us: int = 0
    shared: str = ""


class Way(NamedTuple):
    """How a message goes to a channel: in quiet hours, too; and the hold that it joins, or None."""

    is_urgent: bool = False
    plan: HoldPlan | None = None


class Routed(NamedTuple):
    """
    A message of the outbox, and its channels.

    Attributes:
        budget: the one that it asks for; "" is the budget of all noise.
        ways: how it goes to a channel, by name, unless it goes at once and not in quiet hours.
    """

    message: Queued
    channels: Iterable[str]
    budget: str = ""
    ways: Mapping[str, Way] = {}


class Hold(NamedTuple):
    """A hold that has messages, and when they become one. ``omitted``: messages that are only counted."""

    name: str
    due_us: int
    window_us: int = 0
    omitted: int = 0


class Standing(NamedTuple):
    """A channel's retry state: failures since the last success, and the time of the next try."""

    failures: int = 0
    retry_us: int = 0


class Budget(NamedTuple):
    """What is left of a channel's ``max_per_hour`` for an account on a host or for noise, as of ``tokens_us``. None: all."""

    name: str = ""
    tokens: Annotated[float, msgspec.Meta(ge=-1e9, le=1e9)] | None = None
    tokens_us: Whole = 0


class DeliveryRow(NamedTuple):
    """A message as ``sshbell outbox`` shows it; ``next_us`` is None if sshbell will not try it again."""

    event_id: str
    channel: str
    state: str
    attempts: int
    queued_us: Whole
    next_us: Whole | None
    reason: str | None
    body: bytes
    budget: str
    hold: str = ""
