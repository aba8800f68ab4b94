"""``consumer.detect.host_lines``: silent hosts, new wordings and wrong clocks, at ticks of our own clock."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from consumer.detect.host_lines import WATCHED_HOST_LIMIT, HostLines
from consumer.detect_settings import Detect
from tests.lines import line_of

if TYPE_CHECKING:
    from consumer.events import Finding

S, H = 1_000_000, 3600 * 1_000_000
DAY = 24 * H
BEGIN_US = 1_800_000_000 * S
OFF = Detect(host_silent=0, host_changed_wording=0, clock_skew="0s")


class Watched:
    """Hosts whose lines come at moments of our clock."""

    def __init__(self, settings: Detect | None = None) -> None:
        self.detector = HostLines(Detect() if settings is None else settings)
        self.now_us = BEGIN_US
        self.found: list[Finding] = []

    def tick(self, elapsed_us: int = S, *, is_holding: bool = False) -> list[Finding]:
        """Let time pass."""
        self.now_us += elapsed_us
        new = list(self.detector.tick(self.now_us, elapsed_us, is_holding=is_holding))
        self.found += new
        return new

    def line(self, host: str = "web1", *, count: int = 1, unread: int = 0, off_us: int = 0, uid: int | None = None) -> None:
        """Let lines of a host come, and one tick pass."""
        trusted = None if uid is None else (uid, "")
        lines = [line_of(self.now_us + off_us, host=host, trusted=trusted)] * (count - unread)
        self.detector.add(lines, {host: unread} if unread else {})
        self.tick()

    def actions(self) -> list[str]:
        """Return what has been found."""
        return [str(finding.action) for finding in self.found]

    def days(self, count: int, every_us: int = H) -> None:
        """Let a host send a line regularly for some days."""
        for _ in range(count * DAY // every_us):
            self.line()
            self.tick(every_us - S)

    def restarted(self) -> Watched:
        """Return the same after a restart."""
        after = Watched()
        for name, body in self.detector.changed():
            after.detector.restore(name, body)
        after.now_us = self.now_us
        return after


def test_silence() -> None:
    """A pause of more than three times the longest one is found once; the host may fall silent again later."""
    watched = Watched()
    watched.days(9, every_us=3 * H)
    watched.tick(6 * H)
    assert watched.actions() == []
    (finding,) = watched.tick(60 * S)
    assert (finding.action, finding.hosts, finding.rule) == ("host_silent", ("web1",), "host_silent = 3")
    assert finding.labels == {"silent_s": "32459", "factor": "3"}
    assert watched.tick(DAY) == []
    assert watched.restarted().tick(DAY) == []
    watched.line()
    watched.tick(DAY)
    # The silence itself was a pause of the host, and counts for the next two weeks.
    assert watched.actions() == ["host_silent"]


def test_no_silence() -> None:
    """New hosts, hosts with few pauses, and the time in which run did not run make no finding."""
    watched = Watched()
    watched.days(5)
    watched.tick(3 * DAY)
    assert watched.actions() == []
    watched = Watched()
    watched.days(9, every_us=60 * S)
    watched.tick(5 * H)
    assert watched.actions() == []
    # A week in which run did not run: the clock of the machine moves, but run was not awake.
    watched.now_us += 7 * DAY
    watched.tick(60 * S)
    assert watched.actions() == []
    watched.tick(2 * H)
    assert watched.actions() == ["host_silent"]


def test_new_wording() -> None:
    """The share of lines that no rule reads jumps against the host's own past; another host is no matter."""
    watched = Watched()
    for _ in range(32):
        watched.line(count=50, unread=1)
        watched.line("web2", count=50, unread=30)
    assert watched.actions() == []
    for _ in range(12):
        watched.line(count=50, unread=20)
    assert watched.actions() == ["host_changed_wording"]
    assert watched.found[0].labels == {"share": "40 %", "usual": "2 %"}
    # It becomes usual; after it was mended, the next one is found.
    for _ in range(2000):
        watched.line(count=50)
    for _ in range(12):
        watched.line(count=50, unread=40)
    assert watched.actions() == ["host_changed_wording"] * 2


def test_no_new_wording() -> None:
    """A few odd lines, a new host and a user's own lines are none."""
    watched = Watched()
    for _ in range(40):
        watched.line(count=50)
    watched.line(count=250, unread=19)
    for _ in range(20):
        watched.line("new", count=50, unread=50)
    assert watched.actions() == []


@pytest.mark.parametrize(("off_us", "direction"), [(5 * 60 * S, "ahead"), (-5 * 60 * S, "behind"), (H, "ahead"), (-H, "behind")])
def test_wrong_clock(off_us: int, direction: str) -> None:
    """It is found once, ahead at once, behind after half an hour without a line in time."""
    watched = Watched()
    for _ in range(60):
        watched.line(off_us=off_us)
        watched.tick(60 * S)
    (finding,) = watched.found
    assert (finding.action, finding.hosts) == ("clock_skew", ("web1",))
    assert finding.labels["direction"] == direction
    assert abs(int(finding.labels["skew_s"]) - abs(off_us) // S) <= 1


def test_right_clock() -> None:
    """Late lines among others, a backlog, lines of users and a single odd line are no wrong clock."""
    watched = Watched()
    for number in range(90):
        watched.line(off_us=-H if number % 9 else 0)
        watched.line(off_us=2 * H, uid=1001)
        watched.line(off_us=H if number % 3 else 0)
        watched.tick(60 * S)
    for _ in range(90):
        watched.detector.add([line_of(watched.now_us - H)], {})
        watched.tick(60 * S, is_holding=True)
    assert watched.actions() == []


def test_switched_off() -> None:
    """Zero turns each of them off."""
    watched = Watched(OFF)
    watched.days(9)
    for _ in range(40):
        watched.line(count=50, off_us=H)
    for _ in range(12):
        watched.line(count=50, unread=50)
    watched.tick(9 * DAY)
    assert watched.actions() == []


def test_it_does_not_matter_how_lines_come_together() -> None:
    """The journal may cut blocks in other places: only ticks judge."""
    whole, cut = Watched(), Watched()
    for number in range(60):
        lines = [line_of(whole.now_us + (H if number % 2 else 0), host=f"web{number % 3}") for _ in range(50)]
        unread = {"web1": 20 if number > 30 else 0, "web0": 3}
        whole.detector.add(lines, unread)
        for one in lines:
            cut.detector.add([one], {})
        for host, count in unread.items():
            cut.detector.add([], {host: count})
        assert whole.tick() == cut.tick()
    assert dict(whole.detector.changed()) == dict(cut.detector.changed())


def test_limit_and_restart() -> None:
    """A relay's client that makes up hosts costs bounded memory; what is known outlives a restart."""
    watched = Watched()
    for number in range(WATCHED_HOST_LIMIT + 500):
        watched.detector.add([line_of(watched.now_us, host=f"host{number}")], {})
    watched.tick()
    assert len(watched.detector._hosts) == WATCHED_HOST_LIMIT
    watched.line(count=30, unread=5)
    assert dict(watched.restarted().detector.changed()) == dict(watched.detector.changed())
