"""
Restores the memory of the previous ``run``: from its last snapshot, and by feeding the journal since then to the same pipeline.

The pipeline is deterministic, and rows of the store are keyed by event id. So an event that was stored before is not stored
twice, and one that was not is stored now.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

import msgspec

from consumer.clock import local_zone, now_us
from consumer.config import Blocking, Config
from consumer.detect.findings import PlaceOf
from consumer.detect_settings import Detect
from consumer.events import Event
from consumer.intake.journal import Journal, Kind, replayed, segments
from consumer.pipeline import Pipeline
from consumer.run.catch_up import EVERYTHING, Position
from consumer.run.retry import PatientState
from consumer.story.snapshot import SnapshotPart

# Events per commit; a login waits for at most one such commit.
BATCH_EVENTS = 100
# The parts of a snapshot that do not belong to the pipeline.
_SEGMENT, _POSITION = "journal", "position"


class Restored(NamedTuple):
    """The pipeline as it was after the last confirmed line, a new segment of the journal, and the place in the log file."""

    pipeline: Pipeline
    journal: Journal
    position: Position | None


def restored(
    store: PatientState, state_dir: Path, config: Config, told: frozenset[str], report: Callable[[str], None], place_of: PlaceOf
) -> Restored:
    """
    Restore the memory, and store the events that had not been stored.

    Args:
        store: has the snapshot.
        state_dir: has the journal.
        config: the current one; the settings of that time are in the snapshot and in the journal.
        told: the actions that go to the outbox.
        report: gets one line about each unreadable part.
        place_of: finds the places of addresses, for the detectors.

    Raises:
        StoreError: the snapshot or the journal cannot be read now; the call may be repeated.
    """
    pipeline = Pipeline(config.sshd_programs, local_zone(), now_us(), report, config.detect, config.block, place_of)
    own: dict[str, bytes] = {}
    pipeline.restore(_without_own(store.state.snapshot(), own))
    first, position = _segment(own, report), _position(own, report)
    if position == EVERYTHING:
        # The file may have years of lines, although sshbell was installed an hour ago.
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


def snapshot_parts(segment: int, position: Position | None) -> Iterator[SnapshotPart]:
    """Yield the parts of a snapshot besides the pipeline's: the first segment of the journal after it, and the position."""
    yield _SEGMENT, [str(segment).encode()]
    if position is not None:
        yield _POSITION, [msgspec.json.encode(position)]


def _without_own(parts: Iterable[SnapshotPart], own: dict[str, bytes]) -> Iterator[SnapshotPart]:
    """Yield the pipeline's parts, and put the others into ``own``."""
    for name, pieces in parts:
        if name in {_SEGMENT, _POSITION}:
            own[name] = b"".join(pieces)
        else:
            yield name, pieces


def _segment(own: Mapping[str, bytes], report: Callable[[str], None]) -> int:
    """Return the first segment of the journal after the snapshot; if it cannot be read, the first of all."""
    try:
        return int(own.get(_SEGMENT, b"1"))
    except ValueError as error:
        report(f"the memory of {_SEGMENT!r} cannot be read ({error}); sshbell reads all of the remaining journal")
        return 1


def _position(own: Mapping[str, bytes], report: Callable[[str], None]) -> Position | None:
    """Return the place in the log file; if it cannot be read, ``EVERYTHING``, to compare the files from their beginning."""
    if _POSITION not in own:
        return None
    try:
        position: Position = msgspec.json.decode(own[_POSITION], type=Position)
    except msgspec.DecodeError as error:
        report(f"the memory of {_POSITION!r} cannot be read ({error}); sshbell compares the log file from its beginning")
        return EVERYTHING
    return position


def again(pipeline: Pipeline, kind: Kind, payload: bytes) -> list[Event]:
    """Repeat the call that a record of the journal stands for; return its events."""
    match kind:
        case Kind.LINES:
            for line in payload.splitlines(keepends=True):
                pipeline.redelivery.has_seen(line)
            return pipeline.feed(payload)
        case Kind.CAUGHT_UP:
            return pipeline.feed(payload)
        case Kind.TICK:
            return pipeline.tick(int(payload))
        case Kind.PROGRAMS:
            pipeline.configure(msgspec.json.decode(payload))
        case Kind.DETECT:
            with suppress(msgspec.ValidationError):  # a newer version has written it; the current settings stay
                pipeline.configure_detect(*msgspec.json.decode(payload, type=tuple[Detect, Blocking]))
        case Kind.CANARY:
            pipeline.announce_canary(payload.decode("ascii", "replace"))
        case Kind.HOLDING:
            pipeline.hold(is_holding=payload == b"1")
    return []


def _record(store: PatientState, events: list[Event], told: frozenset[str]) -> None:
    if events:
        store.until(partial(store.state.record, events, told, now_us()))
        events.clear()
