"""
What three detectors know of each host: how often it sends lines, which of them sshbell understands, and what its clock shows.

They look at lines, and at ticks of our own clock, not at events: a host that is silent makes no events. All judgements fall at
ticks, which are in the journal. So they do not depend on how many lines came together. ``sshbell replay`` of a file has no ticks,
and so none of these findings.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import ClassVar

import msgspec

from consumer.actions import EventAction
from consumer.detect.bounded_table import BoundedTable
from consumer.detect.clock_skew import skew_of
from consumer.detect.entries import WatchedHost
from consumer.detect.findings import Kinds
from consumer.detect.host_changed_wording import wording_of
from consumer.detect.host_silent import RhythmState, silence_of
from consumer.detect_settings import Detect
from consumer.events import Event, Finding
from consumer.records import HOST, TIME, TRUSTED, Line
from consumer.spans import seconds_of
from consumer.story.event_ids import derived

# Hosts that are watched. Beyond it, the host without lines for the longest time is forgotten.
WATCHED_HOST_LIMIT = 10_000
# How often sshbell looks for silent hosts, in microseconds of the time that ``run`` is awake.
_LOOK_US = 60 * 1_000_000


class HostLines:
    """
    Watches hosts; a ``Detector`` that takes lines and ticks in place of events.

    Args:
        settings: the table ``[detect]``.
    """

    takes: ClassVar[Kinds] = ()

    def __init__(self, settings: Detect) -> None:
        self._settings = settings
        self._skew_us = round(seconds_of(settings.clock_skew) * 1_000_000)
        self._hosts = BoundedTable(str, WatchedHost, WATCHED_HOST_LIMIT)
        # How long ``run`` has been awake: a time in which it did not run is no silence of the hosts.
        self._awake_us = self._looked_us = 0
        # Since the last tick: number of lines and latest time, and number of lines that no rule reads.
        self._heard: dict[str, list[int]] = {}
        self._unread: dict[str, int] = {}

    def add(self, lines: Iterable[Line], unread: Mapping[str, int]) -> None:
        """Take lines that rules have read, and the numbers of those that no rule reads."""
        heard = self._heard
        for line in lines:
            trusted = line[TRUSTED]
            if trusted is not None and trusted[0] != 0:
                continue  # any local user can write such lines
            known = heard.get(line[HOST])
            if known is None:
                heard[line[HOST]] = [1, line[TIME] or 0]
            else:
                known[0] += 1
                known[1] = max(known[1], line[TIME] or 0)
        for host, count in unread.items():
            self._unread[host] = self._unread.get(host, 0) + count

    def take(self, event: Event) -> Iterable[Finding]:  # noqa: ARG002 - see Detector
        """Return nothing: events show too little of a host."""
        return ()

    def tick(self, now_us: int, elapsed_us: int, *, is_holding: bool) -> Iterator[Finding]:
        """
        Let time pass, and yield what the lines since the last tick show.

        Args:
            now_us: the wall clock.
            elapsed_us: since the last tick, without the time in which ``run`` did not run.
            is_holding: a backlog comes, whose lines are old.
        """
        self._awake_us += elapsed_us
        for host in self._heard | dict.fromkeys(self._unread, ()):
            yield from self._judged(host, now_us, is_holding=is_holding)
        self._heard.clear()
        self._unread.clear()
        if self._settings.host_silent and self._awake_us - self._looked_us >= _LOOK_US:
            self._looked_us = self._awake_us
            yield from self._silent(now_us)

    def _judged(self, host: str, now_us: int, *, is_holding: bool) -> Iterator[Finding]:
        """Yield what the lines of one host show, and remember them."""
        count, latest_us = self._heard.get(host, (0, 0))
        unread = self._unread.get(host, 0)
        state = self._hosts.get(host) or WatchedHost(RhythmState(self._awake_us))
        rhythm = state.rhythm.heard(self._awake_us)
        wording, share = wording_of(state.wording, count + unread, unread, self._settings.host_changed_wording)
        clock, skew_us = state.clock, None
        if latest_us and not is_holding:
            clock, skew_us = skew_of(state.clock, latest_us - now_us, self._awake_us, self._skew_us)
        self._hosts.put(host, WatchedHost(rhythm, wording, clock))
        if share is not None:
            percent = self._settings.host_changed_wording
            labels = {"share": f"{share[0]} %", "usual": f"{share[1]} %"}
            yield _finding(EventAction.HOST_CHANGED_WORDING, host, now_us, f"host_changed_wording = {percent}", labels)
        if skew_us is not None:
            labels = {"direction": "ahead" if skew_us > 0 else "behind", "skew_s": str(abs(skew_us) // 1_000_000)}
            yield _finding(EventAction.CLOCK_SKEW, host, now_us, f'clock_skew = "{self._settings.clock_skew}"', labels)

    def _silent(self, now_us: int) -> Iterator[Finding]:
        """Yield the hosts that have become silent."""
        factor = self._settings.host_silent
        for host, state in list(self._hosts.items()):
            silent_us = silence_of(state.rhythm, self._awake_us, factor)
            if silent_us is not None:
                self._hosts.put(host, WatchedHost(state.rhythm.found(), state.wording, state.clock))
                labels = {"silent_s": str(silent_us // 1_000_000), "factor": str(factor)}
                yield _finding(EventAction.HOST_SILENT, host, now_us, f"host_silent = {factor}", labels)

    def changed(self) -> Iterator[tuple[str, bytes]]:
        """Yield the parts of the memory that have changed: see ``Detector``."""
        yield "awake", msgspec.msgpack.encode((self._awake_us, self._looked_us, self._heard, self._unread))
        yield from self._hosts.changed("hosts.")

    def kept(self) -> None:
        """Record that the parts are safe."""
        self._hosts.kept()

    def forget_snapshot(self) -> None:
        """Count every part as changed."""
        self._hosts.forget_snapshot()

    def restore(self, name: str, body: bytes) -> None:
        """
        Take over a part from an earlier process.

        Raises:
            msgspec.MsgspecError: it cannot be read.
        """
        if name == "awake":
            self._awake_us, self._looked_us, self._heard, self._unread = msgspec.msgpack.decode(
                body, type=tuple[int, int, dict[str, list[int]], dict[str, int]]
            )
        elif body:
            self._hosts.restore(body)


def _finding(action: EventAction, host: str, now_us: int, rule: str, labels: dict[str, str]) -> Finding:
    """Return a finding about a host at a moment of our own clock."""
    line = Line((0, now_us, 0, 1, "", None, False, "", host, "", None, None, None, None, None, None, None))
    event_id = derived(host, f"{action}\0{now_us}")
    return Finding(
        event_id, line, None, None, None, action, action.severity, rule, "unverified", 1, now_us, now_us,
        (), (), (host,), (), labels,
    )  # fmt: skip
