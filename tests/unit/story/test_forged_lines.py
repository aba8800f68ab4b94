"""Forged lines are folded: whoever writes thousands of them makes a few events, and those say how many there were."""

from __future__ import annotations

from collections import Counter
from datetime import UTC

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumer.events import Event, Forged, Login
from consumer.pipeline import Pipeline
from consumer.story.forged_lines import FOLD_US, FORGED_LIMIT
from tests.integration.lines import ours

SECOND = 1_000_000
NOW_US = 1_795_400_000 * SECOND
MALLORY, EVE = 1012, 1013
FAILED = "Failed password for root from 203.0.113.66 port 40022 ssh2"
CLAIMED = "Accepted publickey for root from 203.0.113.66 port 40022 ssh2: RSA SHA256:abc"


def pipeline() -> Pipeline:
    """Return a fresh one, to which every report is a fault."""
    return Pipeline([], UTC, NOW_US, pytest.fail)


def at(second: int) -> str:
    """Return a time of the host's log."""
    return f"2026-11-22T{10 + second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}.123456+00:00"


def forged(second: int = 0, *, uid: int = MALLORY, text: str = CLAIMED, host: str = "web1") -> bytes:
    """Return a line that a user's process wrote."""
    return ours(text, uid=uid, ts=at(second), host=host)


def genuine(second: int, pid: int = 7) -> bytes:
    """Return a line of root's sshd, which moves the clock of its host; by itself it makes no event."""
    return ours("Connection from 192.0.2.7 port 4711 on 192.0.2.1 port 22", uid=0, ts=at(second), pid=pid)


def told(events: list[Event]) -> list[tuple[int | None, str, int]]:
    """Return writer, claim and count of each event about forged lines."""
    return [(event.uid, event.claim, event.count) for event in events if isinstance(event, Forged)]


def test_a_flood_makes_two_events() -> None:
    """The first line is reported at once. All others become one event, which says how many they were, and when."""
    live = pipeline()
    assert told(live.feed(genuine(0) + forged(1))) == [(MALLORY, "accepted", 1)]
    assert live.feed(b"".join(forged(2 + number // 100) for number in range(1400))) == []
    (event,) = live.feed(genuine(75))
    assert isinstance(event, Forged)
    assert (event.uid, event.claim, event.count, event.user) == (MALLORY, "accepted", 1400, "root")
    assert (event.last_us - event.time_us) / SECOND == 13
    assert event.line[5] == (MALLORY, "/usr/sbin/sshd")


def test_each_minute_has_its_event() -> None:
    """As long as lines keep coming, one event a minute counts them; after a minute without any, the next is a first one again."""
    live = pipeline()
    events = [event for second in range(600) for event in live.feed(genuine(second) + forged(second))]
    counts = [count for _uid, _claim, count in told(events)]
    assert 8 <= len(counts) <= 12
    assert sum(counts) >= 600 - 70
    live.feed(genuine(700))
    live.feed(genuine(800))
    assert told(live.feed(forged(801))) == [(MALLORY, "accepted", 1)]


def test_kinds_are_apart() -> None:
    """Another writer's line, another claim and another host's line are first ones of their own."""
    live = pipeline()
    first = [forged(), forged(uid=EVE), forged(text=FAILED), forged(host="web2")]
    assert told(live.feed(b"".join(first))) == [
        (MALLORY, "accepted", 1), (EVE, "accepted", 1), (MALLORY, "failed", 1), (MALLORY, "accepted", 1),
    ]  # fmt: skip
    assert live.feed(b"".join(first) * 3) == []


def test_a_crowd_of_writers() -> None:
    """A user who has thousands of uids, as in a container, does not get an event for each: the rest is counted together."""
    live = pipeline()
    events = live.feed(genuine(0) + b"".join(forged(1, uid=100_000 + number) for number in range(2000)))
    assert len(told(events)) == FORGED_LIMIT + 1
    assert told(live.feed(genuine(80))) == [(None, "", 2000 - FORGED_LIMIT - 1)]


def test_time_passes_by_ticks() -> None:
    """Where the host has nothing else to say, the clock's ticks close the minute."""
    live = pipeline()
    live.tick(NOW_US)
    live.feed(forged() + forged() + forged())
    events = [event for second in range(1, 90) for event in live.tick(NOW_US + second * SECOND)]
    assert told(events) == [(MALLORY, "accepted", 2)]


def test_a_clock_that_leaps_back() -> None:
    """What was counted is told although the host's clock is before the first of the lines."""
    live = pipeline()
    live.feed(genuine(4 * 3600) + forged() + forged())
    events = [event for second in range(3) for event in live.feed(genuine(second, pid=8 + second))]
    assert told(events) == [(MALLORY, "accepted", 1)]


def test_a_login_has_its_event_beside_a_flood() -> None:
    """Nothing of a login waits for what was folded."""
    live = pipeline()
    live.feed(genuine(0) + b"".join(forged(1) for _ in range(1000)))
    login = ours("Accepted password for alice from 192.0.2.7 port 4711 ssh2", ts=at(2))
    opened = ours("pam_unix(sshd:session): session opened for user alice(uid=1001) by (uid=0)", ts=at(2), number=1)
    (event,) = live.feed(login + opened)
    assert isinstance(event, Login)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["forged", "genuine", "tick"]), st.integers(0, 40), st.sampled_from([MALLORY, EVE, 0]),
        st.sampled_from([CLAIMED, FAILED]), st.sampled_from(["web1", "web2"]),
    ),
    max_size=60,
)  # fmt: skip


def played(steps: list[tuple[str, int, int, str, str]], every: int | None) -> tuple[list[Event], int]:
    """Play steps; carry the memory over to a fresh pipeline after each ``every`` of them. Return events and forged lines."""
    live = pipeline()
    parts: dict[str, list[bytes]] = {}
    events: list[Event] = []
    second = lines = 0
    for number, (what, pause, uid, text, host) in enumerate(steps):
        second += pause
        if what == "tick":
            events += live.tick(NOW_US + second * SECOND)
        elif what == "genuine" or uid == 0:
            events += live.feed(genuine(second, pid=number))
        else:
            events += live.feed(forged(second, uid=uid, text=text, host=host))
            lines += 1
        if every is not None and number % every == 0:
            parts |= {part: list(pieces) for part, pieces in live.changed()}
            live = pipeline()
            live.restore(parts.items())
    live._correlator.settle()
    return events + live._taken(), lines


@settings(deadline=None)
@given(STEPS, st.sampled_from([1, 2, 7]))
def test_all_are_counted(steps: list[tuple[str, int, int, str, str]], every: int) -> None:
    """Each forged line is counted once, with ids that are its own; restarts at any moment change neither events nor ids."""
    events, lines = played(steps, None)
    assert sum(event.count for event in events if isinstance(event, Forged)) == lines
    assert max(Counter(event.id for event in events).values(), default=1) == 1

    def shown(found: list[Event]) -> list[tuple[str, int, int]]:
        return [(event.id, event.count, event.last_us) for event in found if isinstance(event, Forged)]

    again, _lines = played(steps, every)
    assert shown(again) == shown(events)


def test_a_minute() -> None:
    """The documentation says so."""
    assert FOLD_US == 60 * SECOND
