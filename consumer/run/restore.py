"""
The memory of the ``run`` before: its last snapshot, and the journal since then through the same pipeline.

The pipeline is deterministic, and rows of the store are keyed by event id: what had been stored stays single, and what had not is
stored now.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import msgspec

from consumer.clock import local_zone, now_us
from consumer.config import Config
from consumer.events import Event
from consumer.intake.journal import Journal, Kind, replayed, segments
from consumer.pipeline import Pipeline
from consumer.run.catch_up import EVERYTHING, Position
from consumer.run.retry import Store
from consumer.story.snapshot import SnapshotPart

# Events that are stored together; a login waits for one such commit at most.
BATCH_EVENTS = 100
# Parts of a snapshot that are no pipeline's.
_SEGMENT, _POSITION = "journal", "position"


class Restored(NamedTuple):
    """The pipeline as it was after the last confirmed line, a new segment of the journal, and the place in the log file."""

    pipeline: Pipeline
    journal: Journal
    position: Position | None


def restored(store: Store, state_dir: Path, config: Config, told: frozenset[str], report: Callable[[str], None]) -> Restored:
    """
    Bring back the memory, and store what had not been stored.

    Args:
        store: of the snapshot.
        state_dir: of the journal.
        config: of now; what steered the pipeline then is in the snapshot and in the journal.
        told: actions that go to the outbox.
        report: gets one line about each part that cannot be read.

    Raises:
        StoreError: the snapshot or the journal cannot be read now; all of this may be done again.
    """
    pipeline = Pipeline(config.sshd_programs, local_zone(), now_us(), report)
    own: dict[str, bytes] = {}
    pipeline.restore(_without_own(store.state.snapshot(), own))
    first, position = _segment(own, report), _position(own, report)
    if position == EVERYTHING:
        # The file has years of lines, and sshbell may be here for an hour.
        pipeline.known.look_no_further_back()
    folder = state_dir / "journal"
    events: list[Event] = []
    for kind, payload in replayed(folder, first, report):
        events += again(pipeline, kind, payload)
        if len(events) >= BATCH_EVENTS:
            _record(store, events, told)
    _record(store, events, told)
    newest = max((number for number, _path in segments(folder)), default=0)
    journal = store.until(partial(Journal, folder, max(newest + 1, first)))
    return Restored(pipeline, journal, position)


def parts_of(segment: int, position: Position | None) -> Iterator[SnapshotPart]:
    """Yield the parts of a snapshot that are no pipeline's: from which segment of the journal on it goes on, and the position."""
    yield _SEGMENT, [str(segment).encode()]
    if position is not None:
        yield _POSITION, [msgspec.json.encode(position)]


def _without_own(parts: Iterable[SnapshotPart], own: dict[str, bytes]) -> Iterator[SnapshotPart]:
    """Yield the parts that are the pipeline's, and put ours into ``own``."""
    for name, pieces in parts:
        if name in {_SEGMENT, _POSITION}:
            own[name] = b"".join(pieces)
        else:
            yield name, pieces


def _segment(own: Mapping[str, bytes], report: Callable[[str], None]) -> int:
    """Return the first segment that the snapshot does not stand for; where that cannot be read, all that are left are read."""
    try:
        return int(own.get(_SEGMENT, b"1"))
    except ValueError as error:
        report(f"the memory of {_SEGMENT!r} cannot be read ({error}); sshbell reads all that is left of the journal")
        return 1


def _position(own: Mapping[str, bytes], report: Callable[[str], None]) -> Position | None:
    """Return the place in the log file; where that cannot be read, the files are compared from their beginning on."""
    if _POSITION not in own:
        return None
    try:
        position: Position = msgspec.json.decode(own[_POSITION], type=Position)
    except msgspec.DecodeError as error:
        report(f"the memory of {_POSITION!r} cannot be read ({error}); sshbell compares the log file from its beginning on")
        return EVERYTHING
    return position


def again(pipeline: Pipeline, kind: Kind, payload: bytes) -> list[Event]:
    """Repeat what a record of the journal stands for; return the events that it brings."""
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
