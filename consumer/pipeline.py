"""
The path of a line through sshbell. The boxes are folders of ``consumer``; below each is what it passes to the next.

    rsyslogd ─▶ intake ─▶ framing ─▶ matching ─▶ story ─▶ detect ─▶ store ─▶ deliver ─▶ people
    or a file   bytes     Row        Line        Event    Finding   outbox   Message

    intake      reads whole lines, and writes each to the journal before it confirms the line
    framing     finds time, host, program, PID and message in a line of any format
    matching    finds the rule of ``grammars`` that reads the message, and takes its values
    story       joins the lines of one connection: a login, a logout, a try, a probe, a forged line
    detect      finds what several events show together, such as guessing; a finding is an event, too
    store       keeps all events in ``state.db``, and those to report in its outbox, as ``EcsEvent``
    deliver     routes an event, lets ``enrich`` add further facts, renders it and sends it through a channel

``LineReader`` combines framing and matching. Of other lines they remember only the one before, so they can run in several
processes. ``Pipeline`` combines framing to detect for lines as they come in, with the memory that a restart needs;
``run/service.py`` puts it between intake and store.
"""

from collections.abc import Callable, Iterable, Iterator
from datetime import tzinfo

import msgspec

from consumer.clock import utc
from consumer.config import Blocking
from consumer.detect.detectors import Detectors, no_place
from consumer.detect.findings import PlaceOf
from consumer.detect_settings import Detect
from consumer.events import Canary, Event
from consumer.events_as_msgpack import EventBatch, decoded
from consumer.framing.framer import Framer
from consumer.framing.timestamps import Timestamps
from consumer.intake.redelivery import Redelivery
from consumer.matching.matcher import Matcher
from consumer.matching.memory import Memory
from consumer.matching.unknown_lines import LineCounts, UnknownLines
from consumer.records import PLACE, RULE, TIME, Line, Row
from consumer.story.canaries import Canaries
from consumer.story.correlate import Correlator
from consumer.story.known_lines import KnownLines
from consumer.story.snapshot import DAMAGE, SnapshotPart, Snapshots
from consumer.text import harmless, readable, text_of_bytes

# After a pause of the machine or a restart, a late tick counts as no more time than this.
_TICK_LIMIT_US = 5_000_000
# Later than every line.
NEVER_US = 1 << 62
# Bytes of a line that the report of a fault shows.
_SHOWN = 200
# The names of the parts of a snapshot that this module writes: one, and one for each chunk of the lines that rsyslogd has sent.
_STATE, _SEEN = "pipeline", "seen"


class LineReader:
    """Frames and matches the blocks of one source."""

    def __init__(self, matcher: Matcher, timestamps: Timestamps, *, keep_text: bool) -> None:
        self.framer = Framer(matcher.is_program, matcher.daemon_of)
        self._memory = Memory(matcher)
        self._timestamps = timestamps
        self._keep_text = keep_text
        # Lines by rule; then lines of our programs that no rule reads, and lines that fit no framing.
        self.counts = [0] * (len(matcher.rules) + 2)

    def lines(self, block: bytes, first: int) -> list[Line]:
        """
        Read a block; texts that are too long are cut: see ``bounded``.

        Args:
            block: whole lines, each with its line feed.
            first: the place of its first line.
        """
        return self.lines_of(self.framer.rows(text_of_bytes(block)), first)

    def lines_of(self, rows: list[Row], first: int) -> list[Line]:
        """Read the rows of a block. The framer takes each block once: it remembers the line before."""
        return self._memory.lines(rows, self._timestamps, first, self.counts, keep_text=self._keep_text)


class _PipelineState(msgspec.Struct, array_like=True, frozen=True):
    """
    The part of a snapshot that holds what no stage keeps in a part of its own: clock, counters, settings, and small memories.

    It is an array, so new fields go to the end, with a default: a restart after an upgrade reads the snapshot of the old version.
    ``seen`` is empty in all snapshots but old ones, from before the lines that rsyslogd has sent had parts of their own.
    """

    seen: list[bytes]
    tick_us: int
    again_total: int
    counts: list[int]
    digests: bytes
    seconds: bytes
    is_partial: bool
    is_holding: bool = False
    detect: Detect = Detect()
    unknown: dict[str, LineCounts] = {}
    canaries: dict[str, int] = {}
    block: Blocking = Blocking()


class Pipeline:
    """
    Turns lines into events as they come in.

    It is deterministic: the same calls give the same events, so replaying a journal of the calls repairs any damage of a crash.

    Args:
        programs: further names of sshd.
        zone: for time stamps without one.
        now_us: the wall clock, microseconds since 1970 UTC.
        report: gets one line about each part of an earlier process's memory that cannot be read, and about faults of sshbell.
        detect: the settings of the detectors.
        block: the settings of blocking.
        place_of: finds the places of addresses, for the detectors.
        has_file: whether there is a log file to compare the lines with. Without one, ``known`` stays empty. Lines then may also
            come again very late, and get the ids that they had.

    Attributes:
        redelivery: the lines that rsyslogd has sent.
        unknown: the lines of each host, and the patterns of those that no rule reads.
        known: the lines to compare with the log file.
        last_us: the time of the last line.
        earliest_us: the earliest time of all lines since somebody has set it to ``NEVER_US``.
    """

    def __init__(
        self,
        programs: Iterable[str],
        zone: tzinfo,
        now_us: int,
        report: Callable[[str], None],
        detect: Detect = Detect(),  # noqa: B008 - it is frozen
        block: Blocking = Blocking(),  # noqa: B008 - so is this
        place_of: PlaceOf = no_place,
        *,
        has_file: bool = True,
    ) -> None:
        self._timestamps = Timestamps(utc(now_us), zone)
        self._tick_us = now_us
        self._events: list[Event] = []
        self.unknown = UnknownLines()
        self._canaries = Canaries()
        self._configure(programs)
        self._correlator = Correlator(self._matcher.rules, self._family_of, self._decided)
        self._has_file = has_file
        # A line that comes again after it was forgotten must not be numbered as an equal one. So its id is forgotten earlier.
        self.redelivery = Redelivery() if has_file else Redelivery(self._correlator.identities.turn)
        self._detectors = Detectors(detect, self._events.append, block, place_of, report)
        self.known = KnownLines(self._family_of, self._matcher.rules)
        self._snapshots = Snapshots(self._correlator, self._matcher.rules, report)
        self._report = report
        self.last_us = 0
        self.earliest_us = NEVER_US

    def _family_of(self, program: str) -> str:
        return self._matcher.program(program).family

    def _configure(self, programs: Iterable[str]) -> None:
        self._programs = tuple(programs)
        self._matcher = Matcher(self._programs)
        self._matcher.unknown = self.unknown
        self._reader = LineReader(self._matcher, self._timestamps, keep_text=True)

    def configure(self, programs: Iterable[str]) -> None:
        """Use other names of sshd from the next line on."""
        counts, examples = self._reader.counts, self._matcher.examples
        self._configure(programs)
        self._reader.counts, self._matcher.examples = counts, examples

    def configure_detect(self, settings: Detect, block: Blocking) -> None:
        """Use other settings of the detectors from the next event on; see ``Detectors.configure``."""
        self._detectors.configure(settings, block)

    @property
    def refused(self) -> dict[str, int]:
        """Why findings have blocked nobody, and how often."""
        return self._detectors.refused

    def _decided(self, event: Event) -> None:
        """Take an event of the correlator, and let the detectors look at it, unless it is a canary."""
        event = self._canaries.marked(event, self._tick_us)
        self._events.append(event)
        if isinstance(event, Canary):
            return
        try:
            self._detectors.take(event)
        except Exception as error:  # noqa: BLE001 - see _fault; the correlator must not notice
            self._fault(error, b"")

    def announce_canary(self, token: str) -> None:
        """Expect the failed login of ``sshbell canary``: see ``Canaries``."""
        self._canaries.announce(token, self._tick_us)

    @property
    def counts(self) -> list[int]:
        """The number of lines that each rule has read; then of lines that no rule reads, and of lines in no known framing."""
        return self._reader.counts

    @property
    def figures(self) -> dict[str, int]:
        """The numbers of lines for ``sshbell status``."""
        understood = sum(self.counts[:-2])
        unmatched, unframed = self.counts[-2:]
        return {
            "lines_total": understood + unmatched + unframed, "understood_total": understood, "unmatched_total": unmatched,
            "unframed_total": unframed, "redelivered_total": self.redelivery.total,
        }  # fmt: skip

    @property
    def examples(self) -> dict[str, str]:
        """The last lines that were ``unmatched`` and ``unframed``, as people read them; shortened."""
        return {name: readable(text) for name, text in self._matcher.examples.items()}

    def feed(self, block: bytes) -> list[Event]:
        """Process whole lines, each with its line feed; return the events that they decide."""
        try:
            lines = self._reader.lines(block, 0)
        except Exception as error:  # noqa: BLE001 - see _fault
            if block.count(b"\n") > 1:
                return [event for line in block.splitlines(keepends=True) for event in self.feed(line)]
            self._fault(error, block)
            lines = []
        if lines:
            if self._has_file:
                self.known.add(lines)
            self.unknown.add_lines(lines)
            self.last_us = lines[-1][TIME] or self.last_us
            self.earliest_us = min(self.earliest_us, *[line[TIME] or NEVER_US for line in lines])
            rest = iter([line if line[TIME] is not None else self._received(line) for line in lines])
            while True:
                try:
                    self._correlator.feed(rest)
                except Exception as error:  # noqa: BLE001 - see _fault
                    self._fault(error, block)
                else:
                    break
        try:
            self._detectors.add_lines(lines, self.unknown.taken())
        except Exception as error:  # noqa: BLE001 - see _fault
            self._fault(error, block)
        return self._taken()

    def gather(self, batch: EventBatch) -> list[Event]:
        """Take events that another pipeline has decided; return them, each with the findings and blocks that it causes."""
        for body in batch.bodies:
            try:
                event = decoded(body)
            except (ValueError, RecursionError) as error:
                self._report(f"an event of shard {batch.shard} cannot be read ({error}); sshbell goes on without it")
            else:
                self._decided(event)
        return self._taken()

    def _received(self, line: Line) -> Line:
        """Give a line without a time that can be read the time of its receipt."""
        return Line((line[RULE], self._tick_us, *line[PLACE:]))

    def _fault(self, error: Exception, block: bytes) -> None:
        """
        Report that a line has triggered an error in sshbell itself. Go on with the other lines.

        The line is in the journal, so each start would trigger the error again: one line could block sshbell for ever.
        """
        shown = harmless(readable(text_of_bytes(block[:_SHOWN])))
        self._report(
            f"a fault of sshbell, {type(error).__name__}: {error}; among the lines from {shown!r} on; sshbell reads the others"
        )

    def missing(self, blocks: Iterable[bytes], zone: tzinfo) -> Iterator[bytes]:
        """Yield the meaningful lines of a log file that rsyslog never sent: see ``Comparison``. You may feed them at once."""
        # With a matcher of its own: most of these lines have been counted.
        reader = LineReader(Matcher(self._programs), Timestamps(utc(self._tick_us), zone), keep_text=True)
        comparison = self.known.comparison(self._matcher.rules)
        for block in blocks:
            rows = reader.framer.rows(text_of_bytes(block))
            yield from comparison.missing(block, rows, reader.lines_of(rows, 0))

    def hold(self, *, is_holding: bool) -> None:
        """Wait for lost lines that catch_up may still find, or stop waiting: see ``Correlator.hold``."""
        self._correlator.hold(is_holding=is_holding)

    def set_clock(self, now_us: int) -> None:
        """Take note of the time, but let none pass: lines of the time since the last tick are still to come."""
        self._tick_us = now_us
        self._timestamps.set_reference(utc(now_us))

    def tick(self, now_us: int) -> list[Event]:
        """Let time pass; return the events that this decides."""
        elapsed_us = min(max(0, now_us - self._tick_us), _TICK_LIMIT_US)
        self.set_clock(now_us)
        try:
            self._correlator.tick(elapsed_us)
            self._detectors.tick(now_us, elapsed_us, is_holding=self._correlator.held.is_holding)
        except Exception as error:  # noqa: BLE001 - see _fault
            self._fault(error, b"")
        return self._taken()

    def _taken(self) -> list[Event]:
        events, self._events[:] = list(self._events), []
        return events

    def changed(self) -> Iterator[SnapshotPart]:
        """Yield the parts of the memory that differ from the last snapshot: see ``Snapshots.changed``."""
        yield from self._snapshots.changed()
        yield from self._detectors.changed()
        for chunk, body in self.redelivery.changed():
            yield f"{_SEEN}\t{chunk}", (body,) if body else ()
        is_holding = self._correlator.held.is_holding
        state = _PipelineState(
            [], self._tick_us, self.redelivery.total, self._reader.counts, *self.known.state(), is_holding,
            self._detectors.settings, self.unknown.state(), dict(self._canaries.state()), self._detectors.block,
        )  # fmt: skip
        yield _STATE, [msgspec.msgpack.encode(state)]

    def kept(self) -> None:
        """Record that the store has the parts that ``changed`` yielded last, and that no line has come since."""
        self._snapshots.kept()
        self._detectors.kept()
        self.redelivery.kept()

    def forget_snapshot(self) -> None:
        """Count every part as changed, because the stored snapshot is lost."""
        self._snapshots.forget()
        self._detectors.forget_snapshot()
        self.redelivery.forget_snapshot()

    def restore(self, parts: Iterable[SnapshotPart]) -> None:
        """Take over the memory of an earlier process; report an unreadable part, and go on without it."""
        is_damaged = False
        for name, pieces in parts:
            kind, _, rest = name.partition("\t")
            if kind not in {_STATE, _SEEN}:
                if not self._detectors.restore(name, pieces):
                    self._snapshots.restore(name, pieces)
                continue
            try:
                if kind == _SEEN:
                    self.redelivery.restore(rest, b"".join(pieces))
                    continue
                self._restore_state(msgspec.msgpack.decode(b"".join(pieces), type=_PipelineState))
            except DAMAGE as error:
                is_damaged = True
                self._report(f"the memory of {name!r} cannot be read ({error}); sshbell may read lines of the log file again")
        self._snapshots.begin()
        if is_damaged:
            # Lines that come again make the same events, so the store has them.
            self._snapshots.forget_identities()

    def _restore_state(self, state: _PipelineState) -> None:
        self.known.restore(state.digests, state.seconds, is_partial=state.is_partial)
        self.redelivery.take_over(state.seen, state.again_total)
        self._tick_us = state.tick_us
        if len(state.counts) == len(self._reader.counts):
            self._reader.counts = state.counts
        self.unknown.restore(state.unknown)
        self._canaries.restore(state.canaries)
        self.hold(is_holding=state.is_holding)
        self.configure_detect(state.detect, state.block)
