"""
Restores the memory of the previous ``run``: from its last snapshot, and by feeding the journal since then to the same pipeline.

The pipeline is deterministic, and rows of the store are keyed by event id. So an event that was stored before is not stored
twice, and one that was not is stored now.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import msgspec

from consumer.clock import local_zone, now_us
from consumer.config import Config
from consumer.events import Event
from consumer.intake.journal import Journal, Kind, replayed, segments
from consumer.pipeline import Pipeline
from consumer.run.catch_up import Position
from consumer.run.retry import Store

# Events per commit; a login waits for at most one such commit.
BATCH_EVENTS = 100


class Restored(NamedTuple):
    """The pipeline as it was after the last confirmed line, a new segment of the journal, and the place in the log file."""

    pipeline: Pipeline
    journal: Journal
    position: Position | None


def restored(store: Store, state_dir: Path, config: Config, told: frozenset[str], report: Callable[[str], None]) -> Restored:
    """
    Restore the memory, and store the events that had not been stored.

    Args:
        store: has the snapshot.
        state_dir: has the journal.
        config: the current one; the settings of that time are in the snapshot and in the journal.
        told: the actions that go to the outbox.
        report: gets one line about each unreadable part.

    Raises:
        StoreError: the journal cannot be read now; the call may be repeated.
    """
    parts = store.until(store.state.snapshot)
    first = int(parts.pop("journal", b"1"))
    position = parts.pop("position", None)
    pipeline = Pipeline(config.sshd_programs, local_zone(), now_us(), report)
    pipeline.restore(parts)
    folder = state_dir / "journal"
    events: list[Event] = []
    for kind, payload in replayed(folder, first, report):
        events += again(pipeline, kind, payload)
        if len(events) >= BATCH_EVENTS:
            _record(store, events, told)
    _record(store, events, told)
    newest = max((number for number, _path in segments(folder)), default=0)
    journal = store.until(partial(Journal, folder, max(newest + 1, first)))
    return Restored(pipeline, journal, None if position is None else tuple(msgspec.json.decode(position)))


def again(pipeline: Pipeline, kind: Kind, payload: bytes) -> list[Event]:
    """Repeat the call that a record of the journal stands for; return its events."""
    match kind:
        case Kind.LINES:
            for line in payload.splitlines(keepends=True):
                pipeline.is_redelivered(line)
            return pipeline.feed(payload)
        case Kind.CAUGHT_UP:
            return pipeline.feed(payload)
        case Kind.TICK:
            return pipeline.tick(int(payload))
        case Kind.PROGRAMS:
            pipeline.configure(msgspec.json.decode(payload))
        case Kind.HOLDING:
            pipeline.hold(is_holding=payload == b"1")
    return []


def _record(store: Store, events: list[Event], told: frozenset[str]) -> None:
    if events:
        store.until(partial(store.state.record, events, told, now_us()))
        events.clear()
