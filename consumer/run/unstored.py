"""The events that ``run`` has decided and not stored yet: the journal has their lines."""

from collections.abc import Iterable

from consumer.clock import now_us
from consumer.events import Block, Event, Finding, Forged, Login, Logout
from consumer.intake.senders import Senders
from consumer.run.children import OwnChildren, ShardChildren
from consumer.run.restore import BATCH_EVENTS
from consumer.run.retry import PatientState


class Unstored:
    """
    Collects events, and stores urgent ones apart from the others.

    Args:
        store: where they go. It waits for a full disk.
        children: get blocks, and a sign when there is something to send.
        senders: has pairs of host and address to store with them.
        routed_actions: those that some route takes.
        is_in_order: a shard numbers its events in their order, so it stores all that came before an urgent one with it.
    """

    def __init__(
        self,
        store: PatientState,
        children: OwnChildren | ShardChildren,
        senders: Senders,
        routed_actions: frozenset[str],
        *,
        is_in_order: bool,
    ) -> None:
        self._store = store
        self._children = children
        self._senders = senders
        self.routed_actions = routed_actions
        self._is_in_order = is_in_order
        self._urgent: list[Event] = []
        self._others: list[Event] = []

    def add(self, events: Iterable[Event]) -> bool:
        """Add events; return whether one of them is urgent."""
        has_urgent = False
        for event in events:
            is_urgent = isinstance(event, Login | Logout | Forged | Finding | Block) or event.action in self.routed_actions
            (self._urgent if is_urgent or self._is_in_order else self._others).append(event)
            has_urgent |= is_urgent
        return has_urgent

    @property
    def is_full(self) -> bool:
        """Whether there are enough for a transaction."""
        return max(len(self._others), len(self._urgent)) >= BATCH_EVENTS

    def store_urgent(self) -> None:
        """Store the urgent events, and wake ``deliver``."""
        self._record(self._urgent)

    def store_all(self) -> None:
        """Store all events."""
        self._record(self._urgent)
        self._record(self._others)

    def _record(self, events: list[Event]) -> None:
        if events:
            state = self._store.state
            new = self._store.until(lambda: state.record(events, self.routed_actions, now_us(), senders=self._senders.new))
            self._children.order(event for event in events if isinstance(event, Block))
            events.clear()
            self._senders.new.clear()
            if new:
                self._children.wake()
