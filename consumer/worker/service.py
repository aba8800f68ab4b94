"""
``sshbell worker``: lines from Kafka, and one transaction for each batch of them.

    Consumer.consume ─▶ Partition.feed: pipeline ─▶ WorkerStore.commit ─▶ deliver

Kafka gives each partition to one worker of the group. The worker takes it from the store: the memory of the pipeline, and the
offset to go on from. Kafka's own offsets do not count. A batch that was not stored is read again, here or by the next worker.
"""

import gc
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Message, TopicPartition

from consumer import __version__
from consumer.actions import OwnAction
from consumer.clock import SECOND_US, now_us
from consumer.config import Config
from consumer.config_file import load, reloaded
from consumer.errors import ConfigError, DamagedStoreError, DataError, StoreError
from consumer.intake.senders import Senders
from consumer.notices import Notice, OwnMessage, notice_message
from consumer.places.place_finder import PlaceFinder
from consumer.process.lock import RUN_LOCK, locked
from consumer.process.log import get_logger
from consumer.process.privileges import as_sshbell
from consumer.run.children import DeliverChild
from consumer.run.schedule import Schedule
from consumer.spans import seconds_of
from consumer.store.block import NOT_BLOCKED_NOTE
from consumer.store.deliveries import delivery_of
from consumer.store.state import UNKNOWN_NOTE
from consumer.store.worker import GATHERING, LostPartitionError, worker_store
from consumer.story.event_ids import derived
from consumer.worker.gathering import GATHERED_LIMIT, Gathering
from consumer.worker.lines import committed_offset, consumer_of, is_line, oldest_offset
from consumer.worker.partitions import Partition

log = get_logger()
T = TypeVar("T")

# Lines of one transaction at most, and how long the worker waits for more of them.
BATCH_LINES, _WAIT_S = 10_000, 0.1
# Ticks that are further apart than this had a pause between them, for example because the worker was stopped.
_PAUSE_S = 2.5
# Between two tries to use the store.
_RETRY_S = 0.5
# A worker that has lost a partition by its epoch has in general lost its place in the group, too, and the library finds out and
# joins again by itself, within a heartbeat. To leave and join besides would make the group share its partitions once more.
_JOIN_S = 5.0
# Why the place in a partition is lost.
_ANOTHER_TOPIC = "the topic was deleted and created again"
# The alarm about lost lines is sent before the worker ends, but it waits no longer than this.
_ALARM_S = 10.0


class StoppedError(Exception):
    """A signal asks the worker to end while it waits for the store."""


def work(config_path: str | None, *, accepts_loss: bool) -> None:
    """
    Read lines until TERM or INT.

    Args:
        config_path: as in ``consumer.config_file.load``.
        accepts_loss: where the topic no longer has the next line, go on with the oldest one that it has.

    Raises:
        DataError: the topic no longer has the next line.
        SshbellError: it cannot start, or cannot go on.
    """
    config = load(config_path)
    if not config.worker.brokers:
        raise ConfigError("[worker] has no brokers")
    Path(config.state_dir).mkdir(mode=0o700, parents=True, exist_ok=True)
    as_sshbell(config)
    with suppress(StoppedError):  # what is not stored is read again
        worker = KafkaWorker(config, config_path, accepts_loss=accepts_loss)
        try:
            worker.serve()
        finally:
            worker.close()
    log.info("ended")


class KafkaWorker:
    """
    The whole of ``sshbell worker``.

    Args:
        config: the current configuration.
        config_path: where it is.
        accepts_loss: as in ``work``.
    """

    def __init__(self, config: Config, config_path: str | None, *, accepts_loss: bool) -> None:
        self._config, self._config_path, self._accepts_loss = config, config_path, accepts_loss
        self._is_stopping = self._has_hung_up = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        signal.signal(signal.SIGHUP, self._hang_up)
        # SQLite's file is for one process. In PostgreSQL, the epochs keep workers apart.
        advice = "several workers need a database of PostgreSQL under [worker]"
        self._lock = locked(Path(config.state_dir) / RUN_LOCK, advice) if isinstance(config.store, Path) else None
        self._topic = config.worker.topic
        self._routed_actions = config.routed_actions
        self._places = PlaceFinder(config.geoip, lambda text: log.error("places_damaged", reason=text))
        self._store = self._until(lambda: worker_store(config.store, self._topic, self._report))
        self._notes: dict[str, str] = {}
        self._until(lambda: self._store.set_notes({"version": __version__}))
        self._owned: dict[int, Partition] = {}
        # Of the worker that has partition 0.
        self._gathering: Gathering | None = None
        self._lost: list[tuple[int, str]] = []
        self._senders = Senders()
        # When to join the group again; None: there is no need.
        self._join_s: float | None = None
        self._ticked_s = self._memory_s = time.monotonic()
        self._consumer = consumer_of(config.worker)
        self._deliver = DeliverChild(config_path)
        self._tasks: dict[str, tuple[float, Callable[[], None]]] = {
            "tick": (1.0, self._tick), "notes": (5.0, self._keep_notes), "unknown": (60.0, self._keep_unknown),
            "forget": (60.0, self._forget),
        }  # fmt: skip
        self._schedule = Schedule({name: period_s for name, (period_s, _task) in self._tasks.items()}, time.monotonic())

    def _stop(self, _number: int, _frame: object) -> None:
        self._is_stopping = True

    def _hang_up(self, _number: int, _frame: object) -> None:
        self._has_hung_up = True

    @staticmethod
    def _report(text: str) -> None:
        log.error("store_damaged", reason=text)

    def close(self) -> None:
        """Leave the group, so that the others take the partitions at once; let ``deliver`` end."""
        self._consumer.close()
        self._store.close()
        self._deliver.let_go()
        if self._lock is not None:
            self._lock.close()

    # ---------------------------------------------------------------- lines

    def serve(self) -> None:
        """
        Read lines until a signal.

        Raises:
            StoppedError: the signal came while the worker waited for the store.
            DataError: as for ``work``.
        """
        # As in ``run``: hardly anything makes cycles.
        gc.freeze()
        gc.disable()
        self._join()
        log.info("started", version=__version__, topic=self._topic, group=self._config.worker.group)
        while not self._is_stopping:
            self._feed(self._consumer.consume(BATCH_LINES, _WAIT_S))
            for name in self._schedule.due(time.monotonic()):
                _period_s, task = self._tasks[name]
                task()
            self._commit()
            self._gather()
            if self._join_s is not None and time.monotonic() > self._join_s:
                self._join()
            for number, reason in self._lost:
                self._lost_lines(number, reason)
            self._lost.clear()
            if self._has_hung_up:
                self._has_hung_up = False
                self._reload()

    def _feed(self, messages: Sequence[Message]) -> None:
        lines: dict[int, list[tuple[int, bytes]]] = {}
        for message in messages:
            if is_line(message, lambda number, reason: self._lost.append((number, reason))):
                number, offset, line = message.partition(), message.offset(), message.value()
                if number is not None and offset is not None:
                    lines.setdefault(number, []).append((offset, line or b""))
        for number, found in lines.items():
            # A batch may still have lines of a partition that was lost since.
            if (owned := self._owned.get(number)) is not None:
                if owned.is_of_another_topic(found):
                    self._lost.append((number, _ANOTHER_TOPIC))
                    continue
                before = len(owned.events)
                self._senders.note(owned.feed(found), owned.events[before:])

    def _tick(self) -> None:
        """Let time pass; tend ``deliver``."""
        self._deliver.tend()
        at_us, now_s = now_us(), time.monotonic()
        # After a pause, what the library knows of the topic is old.
        is_old = now_s - self._ticked_s > _PAUSE_S
        self._ticked_s = now_s
        for owned in self._owned.values():
            owned.tick(at_us, is_behind=is_old or self._is_behind(owned))

    def _is_behind(self, owned: Partition) -> bool:
        """Return whether a partition may have lines that were not read yet."""
        known = self._consumer.get_watermark_offsets(TopicPartition(self._topic, owned.number), cached=True)
        # Before the first answer of a broker, the end is negative.
        return not known or known[1] < 0 or (owned.next_offset or 0) < known[1]

    def _commit(self, *, is_last: bool = False) -> None:
        """
        Store all progress in one transaction, and forget partitions that another worker has taken.

        To write the memory of many open connections takes longer than to read their next lines. So the worker spends at most a
        fifth of its time on it. In between, it stores only the events, and its offset stays.
        """
        begun_s = time.monotonic()
        with_memory = is_last or begun_s >= self._memory_s
        while busy := [owned for owned in self._owned.values() if owned.events or (with_memory and owned.has_progress)]:
            try:
                new = self._until(partial(self._store_progress, busy, with_memory=with_memory))
            except LostPartitionError as error:
                self._owned.pop(error.number, None)
                log.warning(
                    "partition_lost", partition=error.number, reason="another worker has taken it; this one wrote nothing"
                )
                self._join_s = time.monotonic() + _JOIN_S
                continue
            for owned in busy:
                owned.kept(with_memory=with_memory)
            self._senders.new.clear()
            if new:
                self._deliver.wake()
            if with_memory:
                now_s = time.monotonic()
                self._memory_s = now_s + 4 * (now_s - begun_s)
            # For tools that show how far a group is behind. sshbell itself never reads it.
            reached = [TopicPartition(self._topic, owned.number, owned.next_offset or 0) for owned in busy]
            with suppress(KafkaException):
                self._consumer.commit(offsets=reached, asynchronous=True)

    def _gather(self) -> None:
        """Take the events of all partitions, if this worker does that: what they cause, and the memory, in one transaction."""
        gathering = self._gathering
        rows = self._until(partial(self._store.waiting, GATHERED_LIMIT)) if gathering is not None else []
        if gathering is None or not rows:
            return
        events, numbers = gathering.take(body for _number, body in rows), [number for number, _body in rows]
        try:
            new = self._until(
                lambda: self._store.commit([gathering.progress()], events, self._routed_actions, now_us(), gathered=numbers)
            )
        except LostPartitionError:
            self._gathering = None
            log.warning("gathering_lost", reason="another worker gathers the events; sshbell wrote nothing about them")
            return
        gathering.kept()
        if new:
            self._deliver.wake()

    def _store_progress(self, busy: Sequence[Partition], *, with_memory: bool) -> int:
        events = [event for owned in busy for event in owned.events]
        progress = [owned.progress(with_memory=with_memory) for owned in busy]
        return self._store.commit(progress, events, self._routed_actions, now_us(), list(self._senders.new))

    def _until(self, action: Callable[[], T]) -> T:
        """
        Retry something that needs the store until it succeeds.

        Raises:
            DamagedStoreError: waiting cannot repair it.
            StoppedError: a signal asks the worker to end.
        """
        complaint = ""
        while True:
            try:
                return action()
            except DamagedStoreError:
                raise
            except StoreError as error:
                if str(error) != complaint:
                    complaint = str(error)
                    log.error("waiting", reason=complaint)
                if self._is_stopping:
                    raise StoppedError from error
                time.sleep(_RETRY_S)

    # ---------------------------------------------------------------- partitions

    def _assigned(self, consumer: Consumer, partitions: Sequence[TopicPartition]) -> None:
        """Take the partitions that Kafka gives to this worker. Where no line was ever read, begin with the oldest one."""
        gc.collect()
        self._join_s = None
        # A partition that moves on may move again soon, so its offset is stored with its first lines.
        self._memory_s = time.monotonic()
        for each in partitions:
            taken = self._until(partial(self._store.take, each.partition))
            if taken.next_offset is None and (offset := self._until(partial(committed_offset, consumer, each))) is not None:
                taken = taken._replace(next_offset=offset)
                log.error("memory_lost", partition=each.partition, offset=offset, reason="the store was damaged or replaced")
                message = _alarm(self._topic, each.partition, offset, Notice.KAFKA_STORE_LOST)
                self._until(partial(self._store.queue_notice, message, now_us()))
            owned = Partition(each.partition, taken, self._config, self._report, self._places)
            self._owned[each.partition] = owned
            if each.partition == 0:
                known = self._until(partial(self._store.take, GATHERING))
                self._gathering = Gathering(known, self._config, self._report, self._places)
            log.info("partition_taken", partition=each.partition, epoch=taken.epoch, offset=taken.next_offset)
        consumer.assign([self._begin(self._owned[each.partition]) for each in partitions])

    def _begin(self, owned: Partition) -> TopicPartition:
        """
        Return where to begin to read a partition: at its next line, or at the oldest one.

        If it still has the line before the next one, at that one: to see whether it is the same line as then.
        """
        place = TopicPartition(self._topic, owned.number, OFFSET_BEGINNING if owned.next_offset is None else owned.next_offset)
        if owned.last and owned.next_offset and self._until(partial(oldest_offset, self._consumer, place)) < owned.next_offset:
            place.offset = owned.next_offset - 1
        return place

    def _revoked(self, consumer: Consumer, partitions: Sequence[TopicPartition]) -> None:
        """Store what was read of the partitions, so that their next owner need not read it again, and forget them."""
        self._commit(is_last=True)
        self._keep_unknown()
        self._left(consumer, partitions)

    def _left(self, consumer: Consumer, partitions: Sequence[TopicPartition]) -> None:
        """Forget partitions. All that was read is stored, or will be read again by their next owner."""
        self._join_s = None
        for each in partitions:
            self._owned.pop(each.partition, None)
            if each.partition == 0:
                self._gathering = None
        log.info("partitions_left", partitions=[each.partition for each in partitions])
        consumer.unassign()

    def _join(self) -> None:
        """Join the group, or leave it and join it again."""
        self._join_s = None
        self._consumer.unsubscribe()
        self._consumer.subscribe([self._topic], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._left)

    def _lost_lines(self, number: int, reason: str) -> None:
        """
        Tell people that the topic no longer has the next line of a partition. Go on only if the user wants it.

        Raises:
            DataError: the user does not.
        """
        owned = self._owned.get(number)
        if owned is None:
            return
        offset = owned.next_offset or 0
        skipped, stopped = Notice.KAFKA_SKIPPED, Notice.KAFKA_STOPPED
        if reason is _ANOTHER_TOPIC:
            skipped, stopped = Notice.KAFKA_ANOTHER_SKIPPED, Notice.KAFKA_ANOTHER
        message = _alarm(self._topic, number, offset, skipped if self._accepts_loss else stopped)
        log.error("lines_lost", partition=number, offset=owned.next_offset, reason=reason)
        self._until(lambda: self._store.queue_notice(message, now_us()))
        self._deliver.wake()
        if not self._accepts_loss:
            self._wait_for(message[0])
            raise DataError(
                f"the next line of partition {number} of {self._topic} is lost at offset {offset}: {reason}; to go on with the"
                " oldest line that is left, run: sshbell worker --accept-loss"
            )
        owned.forget_place()
        # The library seeks only where it can fetch, so all partitions begin again where they are.
        self._consumer.assign([self._begin(each) for each in self._owned.values()])

    def _wait_for(self, event_id: str) -> None:
        """Wait until ``deliver`` has sent a message, or for a while."""
        end_s = time.monotonic() + _ALARM_S
        has_channels = bool(self._config.channel)
        while has_channels and time.monotonic() < end_s:
            with suppress(StoreError):
                delivery = delivery_of(self._config.store, None)
                try:
                    states = {state for state, _attempts, _reason in delivery.outcome(event_id).values()}
                finally:
                    delivery.close()
                if states and "pending" not in states:
                    return
            time.sleep(_RETRY_S)

    # ---------------------------------------------------------------- the rest

    def _forget(self) -> None:
        """Delete old rows."""
        try:
            if self._store.forget(now_us() - round(seconds_of(self._config.keep) * SECOND_US)):
                self._schedule.at(time.monotonic() + 1.0, "forget")
        except StoreError as error:
            log.error("not_forgotten", reason=str(error))

    def _keep_notes(self) -> None:
        """Store texts for ``sshbell status``; what other workers have stored stays, unless this one knows something newer."""
        texts = {name: text for owned in self._owned.values() for name, text in owned.examples.items()}
        if self._gathering is not None:
            texts[NOT_BLOCKED_NOTE] = msgspec.json.encode(self._gathering.refused).decode()
        if new := {name: text for name, text in texts.items() if self._notes.get(name) != text}:
            with suppress(StoreError):  # the next commit waits for the store, and complains
                self._store.set_notes(new)
                self._notes |= new

    def _keep_unknown(self) -> None:
        """Store the lines that no rule reads, for ``sshbell unknown``: of each partition, which has them in its memory, too."""
        texts = {
            f"{self._topic}/{number}/{UNKNOWN_NOTE}": msgspec.json.encode(owned.unknown).decode()
            for number, owned in self._owned.items()
        }
        if texts:
            with suppress(StoreError):
                self._store.set_notes(texts)

    def _reload(self) -> None:
        """Read the configuration again; refuse a broken one, and keep the old one."""
        try:
            config = reloaded(self._config_path, self._config)
            if config.worker != self._config.worker:
                raise ConfigError("the settings under [worker] take effect only at the next start of sshbell worker")  # noqa: TRY301
        except ConfigError as error:
            log.error("configuration_refused", reason=f"{error}; sshbell keeps the old one")
            return
        if config.geoip != self._config.geoip:
            self._places.configure(config.geoip)
        self._config, self._routed_actions = config, config.routed_actions
        for owned in self._owned.values():
            owned.configure(config)
        if self._gathering is not None:
            self._gathering.configure(config)
        self._deliver.hang_up()
        log.info("configured")


def _alarm(topic: str, number: int, offset: int, notice: Notice) -> OwnMessage:
    """Return a message about a partition. The same message has the same id each time."""
    event_id = derived(f"{topic}/{number}/{offset}/{notice.name}", OwnAction.NOTICE)
    return notice_message(notice, event_id, {"topic": topic, "partition": str(number), "offset": str(offset)})
