"""``sshbell replay``: turns log files into events, in the order of their times, in one process or several."""

import gc
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import tzinfo
from itertools import chain

import msgspec

from consumer.actions import EventAction
from consumer.detect.detectors import Detectors, no_place
from consumer.detect.findings import PlaceOf
from consumer.detect_settings import Detect
from consumer.errors import SshbellError
from consumer.events import PLACE_STEP, Event, Login
from consumer.framing.timestamps import Timestamps
from consumer.intake.files import LogFile
from consumer.logs.process_pool import Workers
from consumer.matching.matcher import Matcher
from consumer.pipeline import LineReader
from consumer.records import Line
from consumer.story.correlate import Correlator
from consumer.text import text_of_bytes


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


class Replay:
    """
    Replays files.

    Args:
        matcher: of the chosen engine.
        zone: for time stamps without one.
        year: of the first line of each file without years; None takes it from the files' modification times.
        jobs: the number of processes that frame and match.
        keep_text: give events their texts and ids.
        tell: gets each selected event.
        takes: returns whether an event is selected; None selects all. The detectors look at all events.
        detect: the settings of the detectors; None for no findings.
        place_of: finds the places of addresses, for the detectors.
        progress: gets the number of bytes read of the current file.
        paths: gets the names of the files in the order of reading; the places of events refer to it.
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
        place_of: PlaceOf = no_place,
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
        self._summary = Summary()
        self._detectors = None if detect is None else Detectors(detect, self._report, place_of)
        tell_all = self._report if self._detectors is None else self._decided
        self._correlator = Correlator(matcher.rules, lambda name: matcher.program(name).family, tell_all)
        self.paths = [] if paths is None else paths
        self.errors: list[SshbellError] = []

    def _decided(self, event: Event) -> None:
        self._report(event)
        if self._detectors is not None:
            self._detectors.take(event)

    def _report(self, event: Event) -> None:
        if self._takes is not None and not self._takes(event):
            return
        if isinstance(event, Login) and event.origin == "unverified":
            self._summary.unverified += 1
        self._events[event.action] += 1
        self._tell(event)

    def run(self, paths: list[str]) -> Summary:
        """Replay ``paths``. ``tell`` gets the events, ``errors`` a fault for each file that cannot be read."""
        gc.disable()  # nothing here makes cycles, and each collection would visit all connections
        try:
            for file in self._in_order_of_time(paths):
                self.paths.append(file.path)
                self._replay(file)
        finally:
            gc.enable()
        self._correlator.settle()
        by_action: Counter[str] = Counter()
        for rule, count in zip(self._matcher.rules, self._counts, strict=False):
            by_action[str(rule.action)] += count
        summary = self._summary
        summary.actions = {action: count for action, count in by_action.most_common() if count}
        summary.understood = sum(by_action.values())
        summary.unmatched, summary.unframed = self._counts[-2:]
        summary.events = {str(action): count for action, count in self._events.items() if count}
        summary.notes = dict(self._correlator.counters)
        summary.timeless = summary.notes.pop("lines_without_time_total", 0)
        return summary

    def _in_order_of_time(self, paths: list[str]) -> list[LogFile]:
        """Open the files, and sort them by the times of their first lines."""
        files: list[LogFile] = []
        for path in paths:
            try:
                files.append(LogFile(path))
            except SshbellError as error:
                self.errors.append(error)
        if len(files) > 1:
            files.sort(key=self._first_time)
        return files

    def _first_time(self, file: LogFile) -> int:
        try:
            timestamps = self._timestamps(file)
            block = file.first_block() or b"\n"
        except SshbellError:
            return 0  # reported when its turn comes
        rows = LineReader(self._matcher, timestamps, keep_text=False).framer.rows(block.decode("latin-1"))
        times = (timestamps.microseconds(stamp) for stamp, *_ in rows if stamp)
        return next((time for time in times if time is not None), 0)

    def _timestamps(self, file: LogFile) -> Timestamps:
        year = file.first_year() if self._year is None else self._year
        return Timestamps(file.modified, self._zone, year)

    def _replay(self, file: LogFile) -> None:
        try:
            if self._jobs > 1 and self._year is None and file.first_year() is None:
                self._in_processes(file)
            else:
                self._in_process(file)
        except SshbellError as error:
            self.errors.append(error)
        self._summary.cut += file.cut_total

    def _in_process(self, file: LogFile) -> None:
        reader = LineReader(self._matcher, self._timestamps(file), keep_text=self._keep_text)
        for first, block in self._numbered(file):
            self._correlator.feed(reader.lines(block, first))
        self._add(reader.counts)

    def _in_processes(self, file: LogFile) -> None:
        reader = LineReader(self._matcher, self._timestamps(file), keep_text=self._keep_text)
        blocks = self._numbered(file)
        # The first block shows the framing, so that all workers know it.
        for first, block in blocks:
            self._correlator.feed(reader.lines(block, first))
            last = _last_line(block)
            break
        else:
            return
        self._add(reader.counts)

        def work(request: tuple[int, bytes, bytes]) -> tuple[list[Line], list[int]]:
            first, block, before = request
            reader.counts = [0] * len(reader.counts)
            reader.framer.begin_behind(text_of_bytes(before))
            return reader.lines(block, first), reader.counts

        second = next(blocks, None)
        if second is None:
            return

        def requests() -> Iterator[tuple[int, bytes, bytes]]:
            before = last
            for first, block in chain([second], blocks):
                yield first, block, before
                before = _last_line(block) or before

        workers = Workers(self._jobs - 1, work)
        try:
            for lines, counts in workers.map(requests()):
                self._correlator.feed(lines)
                self._add(counts)
        finally:
            workers.close()

    def _numbered(self, file: LogFile) -> Iterator[tuple[int, bytes]]:
        """Yield the blocks of a file, each with the place of its first line."""
        place = (len(self.paths) - 1) * PLACE_STEP + 1
        try:
            for block in file.blocks():
                yield place, block
                count = block.count(b"\n")
                place += count
                self._summary.lines += count
                self._progress(file.position())
        except SshbellError as error:
            self.errors.append(error)  # the events before the fault count

    def _add(self, counts: list[int]) -> None:
        self._counts = [mine + other for mine, other in zip(self._counts, counts, strict=True)]


def _last_line(block: bytes) -> bytes:
    """Return the last line of a block that is not a count of repetitions; b"" if all of them are."""
    end = len(block) - 1
    while end > 0:
        begin = block.rfind(b"\n", 0, end) + 1
        line = block[begin:end]
        if b"ast message " not in line:
            return line
        end = begin - 1
    return b""
