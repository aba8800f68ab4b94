"""
``sshbell replay``: turns log files into events, in the order of their times, in one process or several.

All processes read blocks of lines, and this one correlates them. So the connections of all hosts are in one memory with one
limit, and all events pass through ``_report`` in order. To correlate some of the hosts in each worker would not be faster with
two cores: each worker has to frame all lines, and to pass on the events costs as much as to pass on the lines. A single host
would gain nothing.
"""

import gc
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import tzinfo

import msgspec

from consumer.actions import EventAction
from consumer.clock import SECOND_US
from consumer.config import Blocking
from consumer.detect.detectors import Detectors, no_place
from consumer.detect.findings import PlaceOf
from consumer.detect_settings import Detect
from consumer.errors import SshbellError
from consumer.events import PLACE_STEP, Event, Login
from consumer.intake.files import LogFile
from consumer.logs.blocks import LogBlockReader, LogState, ReadAnswer, ReadRequest, first_time, first_year_of, state_behind
from consumer.logs.process_pool import ProcessPool
from consumer.matching.matcher import Matcher
from consumer.story.correlate import Correlator
from consumer.story.event_ids import IdentitiesByHost


class Summary(msgspec.Struct):
    """The counts of a replay."""

    lines: int = 0
    understood: int = 0
    unmatched: int = 0
    unframed: int = 0
    cut: int = 0
    timeless: int = 0  # lines with an unreadable time; their events have none
    unverified: int = 0  # logins whose lines any process could have written
    actions: dict[str, int] = {}
    events: dict[str, int] = {}
    notes: dict[str, int] = {}  # losses caused by limits
    refused: dict[str, int] = {}  # why findings have blocked nobody


class Replay:
    """
    Replays files.

    Args:
        matcher: of the chosen engine.
        zone: for time stamps without one.
        year: of the first line of each file without years; None takes it from the files' modification times.
        jobs: the number of processes.
        keep_text: give events their texts and ids.
        tell: gets each selected event.
        takes: returns whether an event is selected; None selects all. The detectors look at all events.
        detect: the settings of the detectors; None for no findings.
        block: the settings of blocking, to see what it would have blocked.
        place_of: finds the places of addresses, for the detectors.
        watch: gets all events of the correlator, whether selected or not, and no findings.
        progress: gets the number of bytes read of the current file.
        paths: gets the names of the files in the order of reading; the places of events refer to it.

    Attributes:
        summary: the counts; complete at the end.
        errors: a fault for each file that could not be read, or not to its end.
    """

    def __init__(
        self,
        matcher: Matcher,
        *,
        zone: tzinfo,
        tell: Callable[[Event], None],
        year: int | None = None,
        jobs: int = 1,
        keep_text: bool = True,
        progress: Callable[[int], None] = lambda _size: None,
        paths: list[str] | None = None,
        takes: Callable[[Event], bool] | None = None,
        detect: Detect | None = None,
        block: Blocking = Blocking(),  # noqa: B008 - it is frozen
        place_of: PlaceOf = no_place,
        watch: Callable[[Event], None] | None = None,
    ) -> None:
        self._matcher = matcher
        self._zone = zone
        self._year = year
        self._jobs = jobs
        self._keep_text = keep_text
        self._progress = progress
        self._tell = tell
        self._takes = takes
        self._events: dict[EventAction, int] = dict.fromkeys(EventAction, 0)
        self._counts = [0] * (len(matcher.rules) + 2)
        self.summary = Summary()
        self._reader = LogBlockReader(matcher, zone, keep_text=keep_text)
        self._states: dict[int, LogState] = {}  # by number of the file: behind its last block that the correlator has
        self._detectors = None if detect is None else Detectors(detect, self._report, block, place_of)
        self._watch = watch
        tell_all = self._report if self._detectors is None and watch is None else self._decided
        self._correlator = Correlator(
            matcher.rules, lambda name: matcher.program(name).family, tell_all, IdentitiesByHost()
        )  # fmt: skip
        self.paths = [] if paths is None else paths
        self.errors: list[SshbellError] = []

    def _decided(self, event: Event) -> None:
        self._report(event)
        if self._detectors is not None:
            self._detectors.take(event)
        if self._watch is not None:
            self._watch(event)

    def _report(self, event: Event) -> None:
        """Take an event. All events of all hosts pass here in order, so a stage that needs them all belongs in front of this."""
        if self._takes is not None and not self._takes(event):
            return
        if isinstance(event, Login) and event.origin == "unverified":
            self.summary.unverified += 1
        self._events[event.action] += 1
        self._tell(event)

    def run(self, paths: list[str]) -> Summary:
        """Replay ``paths``. ``tell`` gets the events, ``errors`` a fault for each file that cannot be read."""
        for _ in self.steps(paths):
            pass
        return self.summary

    def steps(self, paths: list[str]) -> Iterator[None]:
        """Replay ``paths`` as ``run`` does. Pause behind each block, so that the caller can pass on its events."""
        gc.disable()  # nothing here makes cycles, and each collection would visit all connections
        pool = ProcessPool(self._jobs - 1, self._reader.read)
        try:
            for request, answer in pool.map(self._requests(self._in_order_of_time(paths))):
                self._take(request, answer)
                yield
        finally:
            pool.close()
            gc.enable()
        self._settle()
        yield

    def _settle(self) -> None:
        self._correlator.settle()
        by_action: Counter[str] = Counter()
        for rule, count in zip(self._matcher.rules, self._counts, strict=False):
            by_action[str(rule.action)] += count
        summary = self.summary
        summary.actions = {action: count for action, count in by_action.most_common() if count}
        summary.understood = sum(by_action.values())
        summary.unmatched, summary.unframed = self._counts[-2:]
        summary.events = {str(action): count for action, count in self._events.items() if count}
        summary.notes = dict(self._correlator.counters)
        summary.refused = {} if self._detectors is None else self._detectors.refused
        summary.timeless = summary.notes.pop("lines_without_time_total", 0)

    def _in_order_of_time(self, paths: list[str]) -> list[LogFile]:
        """Open the files, and sort them by the times of their first lines."""
        files: list[LogFile] = []
        for path in paths:
            try:
                files.append(LogFile(path))
            except SshbellError as error:
                self.errors.append(error)
        if len(files) > 1:
            files.sort(key=lambda file: first_time(file, self._matcher, self._zone, self._year))
        return files

    def _requests(self, files: list[LogFile]) -> Iterator[ReadRequest]:
        """Yield the blocks of all files, each with the latest state of its file that is known by then."""
        for number, file in enumerate(files):
            self.paths.append(file.path)
            place = number * PLACE_STEP + 1
            try:
                first_year, modified_us = first_year_of(file, self._year), int(file.modified.timestamp() * SECOND_US)
                for block in file.blocks():
                    if number not in self._states:
                        self._states[number] = self._reader.beginning(block, first_year)
                    yield modified_us, place, block, self._states[number]
                    count = block.count(b"\n")
                    place += count
                    self.summary.lines += count
                    self._progress(file.position())
            except SshbellError as error:
                self.errors.append(error)  # the events before the fault count
            self.summary.cut += file.cut_total

    def _take(self, request: ReadRequest, answer: ReadAnswer) -> None:
        """Correlate the lines of a block. sshbell calls this for all blocks in order, and in one process."""
        modified_us, place, block, _assumed = request
        number = place // PLACE_STEP
        actual = self._states[number]
        state = state_behind(request, answer, actual)
        if state is None:
            answer = self._reader.read((modified_us, place, block, actual))
            *_, state = answer
        lines, counts, *_ = answer
        self._states[number] = state
        self._counts = [mine + other for mine, other in zip(self._counts, counts, strict=True)]
        self._correlator.feed(lines)
