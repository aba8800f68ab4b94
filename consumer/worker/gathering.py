"""
What takes the events of all partitions: the detectors that look at more than the lines of one host, and the decisions to block.

Each partition puts its events into the store, in the transaction that stores them. The worker that has partition 0 takes them
from there. It stores its memory and its findings in the transaction that deletes what it has taken. So each event counts once,
whichever worker dies in between. Its memory has an epoch, as that of a partition has: a worker that has lost partition 0 writes
nothing.
"""

from collections.abc import Callable, Iterable

from consumer.clock import local_zone, now_us
from consumer.config import Config
from consumer.detect.findings import PlaceOf
from consumer.events import Block, Event, Finding
from consumer.events_as_msgpack import EventBatch
from consumer.pipeline import Pipeline
from consumer.run.role import Role
from consumer.store.worker import GATHERING, PartitionProgress, Taken

# Events that one transaction takes at most.
GATHERED_LIMIT = 5_000


class Gathering:
    """
    The memory of the detectors for all partitions.

    Args:
        taken: its state in the store.
        config: the current configuration.
        report: gets one line about each unreadable part of the state, and about faults of sshbell.
        place_of: finds the places of addresses.
    """

    def __init__(self, taken: Taken, config: Config, report: Callable[[str], None], place_of: PlaceOf) -> None:
        self._epoch = taken.epoch
        self._pipeline = Pipeline((), local_zone(), now_us(), report, place_of=place_of, has_file=False)
        self._pipeline.restore(taken.parts)
        self.configure(config)

    def configure(self, config: Config) -> None:
        """Use other settings from the next event on."""
        found = Role(is_gathering=True).config(config)
        self._pipeline.configure_detect(found.detect, found.block)

    def take(self, bodies: Iterable[bytes]) -> list[Event]:
        """Take events; return the findings and blocks that they cause."""
        events = self._pipeline.gather(EventBatch(GATHERING, 0, 0, list(bodies)))
        return [event for event in events if isinstance(event, Finding | Block)]

    @property
    def refused(self) -> dict[str, int]:
        """See ``Pipeline.refused``."""
        return self._pipeline.refused

    def progress(self) -> PartitionProgress:
        """Return what to store: see ``Partition.progress``."""
        return PartitionProgress(GATHERING, self._epoch, 0, self._pipeline.changed())

    def kept(self) -> None:
        """Record that the store has all of it."""
        self._pipeline.kept()
