"""The queue of a shard: each event gets its number once, and leaves once it is safe elsewhere."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import msgspec
import pytest

from consumer.events_as_msgpack import decoded
from consumer.state_dir import shard_dir
from consumer.store.database import set_aside
from consumer.store.shard_queue import TAKEN_PART, QueuedEvents, ShardQueue, ShardState, TakenUpTo, taken_of
from consumer.store.state import State
from tests.store_events import events_of, session_lines, try_line

if TYPE_CHECKING:
    from pathlib import Path

EVENTS = events_of(*session_lines(1), try_line(2), try_line(3), *session_lines(4))
TOLD = frozenset({"ssh_login"})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the directory of shard 2."""
    path = shard_dir(tmp_path, 2)
    path.mkdir()
    return path


def opened(folder: Path, sequence: int = 0) -> ShardState:
    """Open the queue as a start does, with the number that the snapshot has."""
    state = ShardState(folder, 2, pytest.fail)
    state.sequence = sequence
    return state


def ids(queued: QueuedEvents | None) -> list[str]:
    """Return the ids of queued events."""
    return [] if queued is None else [decoded(body).id for body in queued.bodies]


def test_order_and_places(folder: Path) -> None:
    """Events come in their order, some at a time, each after the place of the one before."""
    with closing(opened(folder)) as state, closing(ShardQueue(folder)) as queue:
        assert state.record(EVENTS[:2], TOLD, 1, senders=[("web1", "192.0.2.9")]) == 2
        assert state.record(EVENTS[2:], TOLD, 1) == len(EVENTS) - 2
        first = queue.since(TakenUpTo(), 3)
        assert first is not None
        assert first.upto.seq == 3
        rest = queue.since(first.upto, 100)
        assert rest is not None
        assert ids(first) + ids(rest) == [event.id for event in EVENTS]
        assert queue.since(rest.upto, 100) is None
        assert queue.senders() == [("web1", "192.0.2.9")]
        assert queue.senders() == []


def test_a_journal_that_is_read_again(folder: Path) -> None:
    """After a crash, the events of the journal get their numbers again, and those that are queued are not queued twice."""
    with closing(opened(folder)) as state:
        state.record(EVENTS[:4], TOLD, 1)
    # The snapshot was taken after the first event; two more were decided, but not stored.
    with closing(opened(folder, 1)) as state, closing(ShardQueue(folder)) as queue:
        assert state.record(EVENTS[1:], TOLD, 2) == len(EVENTS) - 4
        assert state.sequence == len(EVENTS)
        assert ids(queue.since(TakenUpTo(), 100)) == [event.id for event in EVENTS]


def test_taken_events_leave(tmp_path: Path, folder: Path) -> None:
    """Only the snapshot of the ``run`` that gathers lets events leave, and their numbers are not used again."""
    with closing(opened(folder)) as state, closing(ShardQueue(folder)) as queue:
        state.record(EVENTS, TOLD, 1)
        state.forget_delivered()  # nobody gathers yet
        found = queue.since(TakenUpTo(), 3)
        assert found is not None
        with closing(State(tmp_path, pytest.fail)) as gathering:
            for upto, left in ((TakenUpTo(found.upto.created_us - 1, 3), len(EVENTS)), (found.upto, len(EVENTS) - 3)):
                gathering.keep_snapshot([(TAKEN_PART, [msgspec.json.encode({2: upto, 5: TakenUpTo(1, 99)})])])
                state.forget_delivered()
                assert len(ids(queue.since(TakenUpTo(), 100))) == left
    with closing(opened(folder)) as state:
        assert state.record(EVENTS, TOLD, 1) == 0


def test_a_new_file(folder: Path) -> None:
    """A shard whose file was damaged begins a new one, which is read from its beginning."""
    with closing(opened(folder)) as state:
        state.record(EVENTS, TOLD, 1)
    with closing(ShardQueue(folder)) as queue:
        first = queue.since(TakenUpTo(), 100)
        assert first is not None
        set_aside(folder / "state.db", "a test", lambda _text: None)
        assert queue.since(first.upto, 100) is None
        with closing(opened(folder)) as state:
            # Both would have been created in the same second.
            state._connection.execute("UPDATE status SET value = value + 1 WHERE name = 'created_us'")
            state.record(EVENTS[:2], TOLD, 1)
            assert ids(queue.since(first.upto, 100)) == [event.id for event in EVENTS[:2]]


def test_no_file(tmp_path: Path) -> None:
    """A shard that has not run has no events."""
    with closing(ShardQueue(tmp_path)) as queue:
        assert queue.since(TakenUpTo(), 100) is None
        assert queue.senders() == []


@pytest.mark.parametrize("body", [b"", b"x", b"[]", b'{"a": [1, 2]}', b'{"1": [1, "x"]}'])
def test_a_part_that_cannot_be_read(body: bytes) -> None:
    """Such a part raises a ValueError, and no other error."""
    with pytest.raises(ValueError, match=r".*"):
        taken_of(body)
