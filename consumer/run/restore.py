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
from consumer.events_as_msgpack import decoded_batch
from consumer.intake.journal import Journal, Kind, replayed, segments
from consumer.pipeline import Pipeline
from consumer.run.catch_up import EVERYTHING, Position
from consumer.run.retry import PatientState
from consumer.store.shard_queue import TAKEN_PART, ShardState, TakenUpTo, taken_of
from consumer.story.snapshot import SnapshotPart

# Events per commit; a login waits for at most one such commit.
BATCH_EVENTS = 100
# The parts of a snapshot that do not belong to the pipeline.
_SEGMENT, _POSITION, _SEQUENCE = "journal", "position", "sequence"
_OWN = {_SEGMENT, _POSITION, _SEQUENCE, TAKEN_PART}


class Restored(NamedTuple):
    """
    What ``run`` had after the last confirmed line.

    Attributes:
        pipeline: with its memory.
        journal: a new segment of it.
        position: the place in the log file.
        taken: up to where it has taken the events of each shard.
    """

    pipeline: Pipeline
    journal: Journal
    position: Position | None
    taken: dict[int, TakenUpTo]


def restored(
    store: PatientState,
    state_dir: Path,
    config: Config,
    routed_actions: frozenset[str],
    report: Callable[[str], None],
    place_of: PlaceOf,
) -> Restored:
    """
    Restore the memory, and store the events that had not been stored.

    Args:
        store: has the snapshot.
        state_dir: has the journal.
        config: the current one; the settings of that time are in the snapshot and in the journal.
        routed_actions: the actions that go to the outbox.
        report: gets one line about each unreadable part.
        place_of: finds the places of addresses, for the detectors.

    Raises:
        StoreError: the snapshot or the journal cannot be read now; the call may be repeated.
    """
    pipeline = Pipeline(config.sshd_programs, local_zone(), now_us(), report, config.detect, config.block, place_of)
    own: dict[str, bytes] = {}
    pipeline.restore(_without_own(store.state.snapshot(), own))
    first, position, taken = _segment(own, report), _position(own, report), _taken(own, report)
    if isinstance(store.state, ShardState):
        store.state.sequence = _number(own, _SEQUENCE, 0, report, "sshbell counts some events twice")
    if position == EVERYTHING:
        # The file may have years of lines, although sshbell was installed an hour ago.
        pipeline.known.look_no_further_back()
    folder = state_dir / "journal"
    events: list[Event] = []
    for kind, payload in replayed(folder, first, report):
        if kind is Kind.EVENTS:
            batch = decoded_batch(payload)
            taken[batch.shard] = TakenUpTo(batch.created_us, batch.seq)
        events += again(pipeline, kind, payload)
        if len(events) >= BATCH_EVENTS:
            _record(store, events, routed_actions)
    _record(store, events, routed_actions)
    newest = max((number for number, _path in segments(folder)), default=0)
    journal = store.until(partial(Journal, folder, max(newest + 1, first)))
    return Restored(pipeline, journal, position, taken)


def snapshot_parts(
    segment: int, position: Position | None, taken: Mapping[int, TakenUpTo] | None = None, sequence: int | None = None
) -> Iterator[SnapshotPart]:
    """
    Yield the parts of a snapshot besides the pipeline's.

    Args:
        segment: the first segment of the journal after it.
        position: the place in the log file.
        taken: up to where the events of each shard are taken.
        sequence: of a shard, the number of its last event.
    """
    yield _SEGMENT, [str(segment).encode()]
    if position is not None:
        yield _POSITION, [msgspec.json.encode(position)]
    if taken:
        yield TAKEN_PART, [msgspec.json.encode(taken)]
    if sequence is not None:
        yield _SEQUENCE, [str(sequence).encode()]


def _without_own(parts: Iterable[SnapshotPart], own: dict[str, bytes]) -> Iterator[SnapshotPart]:
    """Yield the pipeline's parts, and put the others into ``own``."""
    for name, pieces in parts:
        if name in _OWN:
            own[name] = b"".join(pieces)
        else:
            yield name, pieces


def _segment(own: Mapping[str, bytes], report: Callable[[str], None]) -> int:
    """Return the first segment of the journal after the snapshot; if it cannot be read, the first of all."""
    return _number(own, _SEGMENT, 1, report, "sshbell reads all of the remaining journal")


def _number(own: Mapping[str, bytes], part: str, otherwise: int, report: Callable[[str], None], effect: str) -> int:
    try:
        return int(own.get(part, str(otherwise).encode()))
    except ValueError as error:
        report(f"the memory of {part!r} cannot be read ({error}); {effect}")
        return otherwise


def _taken(own: Mapping[str, bytes], report: Callable[[str], None]) -> dict[int, TakenUpTo]:
    """Return up to where the events of each shard are taken; if it cannot be read, all that the shards still have are taken."""
    try:
        return taken_of(own.get(TAKEN_PART, b"{}"))
    except ValueError as error:
        report(f"the memory of {TAKEN_PART!r} cannot be read ({error}); sshbell takes all events that the shards still have")
        return {}


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
            # Lines that came during a snapshot may have come before.
            is_redelivered = pipeline.redelivery.has_seen
            fresh = b"".join([line for line in payload.splitlines(keepends=True) if not is_redelivered(line)])
            return pipeline.feed(fresh) if fresh else []
        case Kind.CAUGHT_UP:
            return pipeline.feed(payload)
        case Kind.EVENTS:
            return pipeline.gather(decoded_batch(payload))
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


def _record(store: PatientState, events: list[Event], routed_actions: frozenset[str]) -> None:
    if events:
        store.until(partial(store.state.record, events, routed_actions, now_us()))
        events.clear()
