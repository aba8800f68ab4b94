"""The partitions that a worker has: for each a pipeline, and what it has shown that is not stored yet."""

from collections.abc import Callable, Iterable
from hashlib import blake2b
from itertools import chain

from consumer.clock import local_zone, now_us
from consumer.config import Config
from consumer.detect.findings import PlaceOf
from consumer.events import Event
from consumer.matching.unknown_lines import UnknownState
from consumer.pipeline import Pipeline
from consumer.run.role import Role
from consumer.store.worker import PartitionProgress, Taken

# The part of the memory with the digest of the line before ``next_offset``, by which a worker knows the topic again.
_LAST = "kafka"


class Partition:
    """
    A partition that this worker has.

    Args:
        number: of the partition.
        taken: its state in the store.
        config: the current configuration.
        report: gets one line about each unreadable part of the state, and about faults of sshbell.
        place_of: finds the places of addresses, for the detectors.

    Attributes:
        next_offset: of the next line to read; None: no line was ever read, so any line is next.
        last: the digest of the line before; b"" if it is not known.
        events: not stored yet.
        has_progress: lines were read, or events decided, that are not in the stored memory.
    """

    def __init__(self, number: int, taken: Taken, config: Config, report: Callable[[str], None], place_of: PlaceOf) -> None:
        self.number = number
        self.next_offset = taken.next_offset
        self.events = list[Event]()
        self.has_progress = False
        self._epoch = taken.epoch
        self._times: dict[str, int] = {}
        self._pipeline = Pipeline(config.sshd_programs, local_zone(), now_us(), report, place_of=place_of, has_file=False)
        self.last = b"".join(piece for name, pieces in taken.parts if name == _LAST for piece in pieces)
        self._pipeline.restore((name, pieces) for name, pieces in taken.parts if name != _LAST)
        # The parts have the settings of that time.
        self.configure(config)

    def configure(self, config: Config) -> None:
        """Use other settings from the next line on."""
        self._pipeline.configure(config.sshd_programs)
        # What looks at the events of all hosts is in ``Gathering``.
        found = Role(shard=self.number).config(config)
        self._pipeline.configure_detect(found.detect, found.block)

    def feed(self, lines: Iterable[tuple[int, bytes]]) -> bytes:
        """
        Read lines, each with its offset. Leave out those that were read before.

        Returns:
            The lines that were read, each with its line feed.
        """
        fresh, last = [], None
        for offset, line in lines:
            # After the worker has lost the partition and taken it again, lines of before may still come.
            if self.next_offset is not None and offset < self.next_offset:
                continue
            self.next_offset, last = offset + 1, line
            self.has_progress = True
            # A line feed within a line would make two of it. rsyslog writes none.
            whole = line.rstrip(b"\n").replace(b"\n", b" ") + b"\n"
            if not self._pipeline.redelivery.has_seen(whole):
                fresh.append(whole)
        if last is not None:
            self.last = digest_of(last)
        block = b"".join(fresh)
        if block:
            self.events += self._pipeline.feed(block)
            self._times["last_line_us"] = now_us()
            if self.events:
                self._times["last_event_us"] = now_us()
        return block

    def is_of_another_topic(self, lines: Iterable[tuple[int, bytes]]) -> bool:
        """Return whether the line before the next one is not the line that was read there."""
        known = self.last and self.next_offset
        return bool(known) and any(offset + 1 == self.next_offset and digest_of(line) != self.last for offset, line in lines)

    def forget_place(self) -> None:
        """Read the partition from its oldest line on."""
        self.next_offset, self.last = None, b""

    def tick(self, at_us: int, *, is_behind: bool) -> None:
        """Let time pass, unless older lines are still to come: for those, it has not passed yet."""
        if is_behind:
            self._pipeline.set_clock(at_us)
        elif events := self._pipeline.tick(at_us):
            self.events += events
            self.has_progress = True

    def progress(self, *, with_memory: bool) -> PartitionProgress:
        """Return what to store besides the events. The parts are read once; see ``Pipeline.changed``."""
        if not with_memory:
            return PartitionProgress(self.number, self._epoch)
        parts = chain(self._pipeline.changed(), [(_LAST, [self.last])])
        return PartitionProgress(self.number, self._epoch, self.next_offset, parts, self._pipeline.figures | self._times)

    @property
    def examples(self) -> dict[str, str]:
        """See ``Pipeline.examples``."""
        return self._pipeline.examples

    @property
    def unknown(self) -> UnknownState:
        """The lines of each host that no rule reads, as ``sshbell unknown`` shows them."""
        return self._pipeline.unknown.shown()

    def kept(self, *, with_memory: bool) -> None:
        """Record that the store has all of it."""
        self.events.clear()
        if with_memory:
            self._pipeline.kept()
            self.has_progress = False


def digest_of(line: bytes) -> bytes:
    """Return a digest of a line."""
    return blake2b(line, digest_size=16).digest()
