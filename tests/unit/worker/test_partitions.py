"""``consumer.worker.partitions``: which lines of a partition count, and what they make."""

from __future__ import annotations

import pytest

from consumer.config import Blocking, Config
from consumer.detect.detectors import Detectors, no_place
from consumer.events import Block, Finding
from consumer.intake import redelivery
from consumer.run.role import Role
from consumer.store.worker import GATHERED, Taken
from consumer.story.event_ids import derived
from consumer.worker.partitions import Partition
from tests.integration.lines import ACCEPTED, CLOSED, OPENED, ours

NOW_US = 1_795_000_000_000_000


def partition(taken: Taken = Taken(1, None, [])) -> Partition:  # noqa: B008 - it is a tuple
    """Return a partition."""
    return Partition(0, taken, Config(geoip=[]), pytest.fail, no_place)


def session(at: int, pid: int = 7) -> list[bytes]:
    """Return the lines of a session."""
    return [ours(text, at, number, pid) for number, text in enumerate((ACCEPTED, OPENED, CLOSED))]


def test_lines_that_were_read_are_left_out() -> None:
    """After a partition was lost and taken again, old lines may still come. Their offsets tell."""
    owned = partition(Taken(2, 2, []))
    lines = session(0)
    assert owned.feed(list(enumerate(lines))) == lines[2]
    assert owned.next_offset == 3
    assert owned.feed([(1, lines[1]), (2, lines[2])]) == b""
    assert owned.next_offset == 3


def test_a_line_feed_within_a_line() -> None:
    """Who writes to the topic cannot make two lines of one."""
    owned = partition()
    (line,) = owned.feed([(0, ours("x").rstrip(b"\n") + b"\n2026-11-22T10:00:00+00:00 web1 sshd[1]: y\n\n")]).splitlines()
    assert line.endswith(b"sshd[1]: y")


def test_no_time_passes_while_lines_are_to_come() -> None:
    """A login without a session line waits for it as long as older lines are still to be read."""
    owned = partition()
    owned.feed([(0, ours(ACCEPTED))])
    owned.tick(NOW_US, is_behind=True)
    for second in range(1, 30):
        owned.tick(NOW_US + second * 1_000_000, is_behind=True)
    assert not owned.events
    for second in range(30, 60):
        owned.tick(NOW_US + second * 1_000_000, is_behind=False)
    assert [str(event.action) for event in owned.events] == ["ssh_login"]


@pytest.mark.parametrize("others", [0, 100, *(number * 8192 // 2 for number in range(1, 9))])
def test_a_line_that_comes_again(others: int) -> None:
    """However late a line comes again, its login has the same id, or none: not that of a second equal line."""
    assert redelivery.SEEN_LIMIT == 8192
    owned = partition()
    lines = session(0)
    filler = [ours("Server listening on 0.0.0.0 port 22.", 1, number, 1) for number in range(others)]
    stream = lines + filler + lines + session(2, 8)
    for first in range(0, len(stream), 1000):
        owned.feed(list(enumerate(stream[first : first + 1000], first)))
    ids = [event.id for event in owned.events if event.action == "ssh_login"]
    assert len(set(ids)) == 2
    assert derived(ids[0], "1") not in ids


def test_the_next_owner_goes_on() -> None:
    """Memory and offset are enough for another worker: a session that began before ends there."""
    owned = partition()
    lines = session(0)
    owned.feed(list(enumerate(lines[:2])))
    (login,) = owned.events
    progress = owned.progress(with_memory=True)
    parts = [(name, list(pieces)) for name, pieces in progress.parts]
    owned.kept(with_memory=True)
    assert not owned.has_progress
    successor = partition(Taken(2, progress.next_offset, sorted(part for part in parts if part[1])))
    successor.feed([(2, lines[2])])
    (logout,) = successor.events
    assert logout.id == derived(login.id, "ssh_logout")


def test_all_kinds_of_events_wait_that_a_detector_takes() -> None:
    """The worker that gathers gets each event that a detector of all hosts looks at, except what detectors make themselves."""
    found = Role(is_gathering=True).config(Config(block=Blocking(mode="on")))
    taken = {
        kind
        for detector in Detectors(found.detect, pytest.fail, found.block, lambda _address: None)._by_name.values()
        for kind in detector.takes
    }
    assert taken - set(GATHERED) <= {Finding, Block}
    # No event waits in vain.
    assert set(GATHERED) <= taken
