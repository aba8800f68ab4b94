"""
``sshbell run``: the path of a line, and the work between lines.

    Lines.read ─▶ _take: journal, "OK" ─▶ _understand: pipeline ─▶ _handle: Unstored ─▶ store ─▶ deliver

A line in the journal is safe: it survives the death of any process. ``run`` stores and syncs logins and other urgent events right
after the "OK", or together after 5 ms if they come faster. The rest follows within a second. Only the end of the input stops it.

``deliver``, ``keys`` and ``guard`` are its children (``children.py``). Only root can start ``keys``, and ``guard`` if that needs
rights. So if one of these has ended, ``run`` ends by itself at a quiet moment, and rsyslogd restarts all of them. It never ends
before its first "OK", because that crashes rsyslogd 8.2302 (its issue 5017).

With shards, several ``run`` share the lines, and one gathers their events (``role.py``, ``gather.py``).
"""

import gc
import os
import select
import time
from contextlib import nullcontext, suppress
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from consumer import __version__
from consumer.clock import SECOND_US, now_us
from consumer.config import Config
from consumer.config_file import reloaded
from consumer.errors import ConfigError, SshbellError, StoreError
from consumer.events import Event
from consumer.events_as_msgpack import encoded_batch
from consumer.intake.journal import Kind
from consumer.intake.omprog import Lines, Replies
from consumer.intake.senders import Senders
from consumer.places.place_finder import PlaceFinder
from consumer.process.log import bind_contextvars, configure, get_logger
from consumer.run.announcement import announced, forget_announcement
from consumer.run.catch_up import CatchUp
from consumer.run.gather import Gather
from consumer.run.meanwhile import Meanwhile
from consumer.run.restore import restored, snapshot_parts
from consumer.run.retry import HungUpError, Patience, PatientState
from consumer.run.role import Role
from consumer.run.schedule import Schedule
from consumer.run.start import configuration_of, started
from consumer.run.unstored import Unstored
from consumer.spans import seconds_of
from consumer.store.block import NOT_BLOCKED_NOTE
from consumer.store.shard_queue import ShardState
from consumer.store.state import UNKNOWN_NOTE, State

if TYPE_CHECKING:
    from collections.abc import Callable

log = get_logger()

# A snapshot is also due when the journal has reached this size, so a start replays no more than that.
SNAPSHOT_BYTES = 64 << 20
# The pause if there was not enough time to delete everything.
_FORGET_MORE_S = 1.0
# Confirmed lines go to the pipeline at once. If more lines are waiting already, those come first, but for no longer than this.
_TAKEN_S = 0.001
# As many bytes of confirmed lines go to the pipeline at once. After a snapshot, many may have come: others must not wait for all.
_TOGETHER_BYTES = 1 << 17
# Urgent events are stored and synced at once; in a flood, once per this time.
_URGENT_S = 0.005
# Without keys, run ends when a line comes after such a pause, but at most once per this time.
_QUIET_S, _ANEW_US = 1.0, 3600 * SECOND_US
_LEFT = "left_for_keys_us"


def run(config_path: str | None, *, is_plain: bool, is_confirmed: bool = False, role: Role = Role()) -> int:  # noqa: B008 - frozen
    """
    Run until the input ends; return the exit code.

    Args:
        config_path: as in ``consumer.config_file.load``.
        is_plain: confirm nothing; otherwise rsyslog's omprog with confirmMessages="on" is at the other end.
        is_confirmed: the process that started this one has sent the first OK.
        role: whether it is a shard.
    """
    replies = Replies(is_plain=is_plain)  # before anything can write to descriptor 1
    configure()
    if role.shard is not None:
        bind_contextvars(shard=role.shard)
    lines = Lines(0)
    try:
        # A child that ends before its first OK crashes rsyslogd 8.2302 where forceSingleInstance is on (its issue 5017).
        configured = partial(configuration_of, config_path)
        config = configured() if is_plain else Patience(lines, replies).until(configured)
        service = Service(config, config_path, lines, replies, is_plain=is_plain, role=role)
        if not is_confirmed:
            replies.ok()
        service.serve()
    except HungUpError:
        pass  # rsyslogd has gone during a wait; the journal has all confirmed lines
    except SshbellError as error:
        log.error("not_started", reason=str(error))
        return error.exit_code
    return 0


class Service:
    """
    The whole of ``run``, ready for lines.

    Raises:
        SshbellError: it cannot start, and an early retry would not help.
        HungUpError: rsyslogd has gone meanwhile.
    """

    def __init__(
        self, whole: Config, config_path: str | None, lines: Lines, replies: Replies, *, is_plain: bool, role: Role
    ) -> None:
        begun_us = now_us()
        config = role.config(whole)
        self._whole, self._config, self._config_path = whole, config, config_path
        self._is_plain, self._role = is_plain, role
        self._lines, self._replies = lines, replies
        # For "sshbell status".
        self._figures = dict.fromkeys(("snapshots_total", "damaged_total", "last_event_us"), 0)
        self._figures["started_us"] = begun_us
        self._refused = ""  # why sshbell refuses the current file of the configuration
        # Confirmed lines that the pipeline has not read yet.
        self._taken: list[bytes] = []
        self._is_failing = False  # the last snapshot could not be stored
        self._senders = Senders()

        # The order of the rest matters for the start.
        self._patience = patience = Patience(lines, replies)
        self._signals, self._log_file, self._children, self._lock = started(config, config_path, patience, role.shard)
        folder = Path(config.state_dir)
        with patience.meanwhile():
            self._places = PlaceFinder(config.geoip, self._report_places)
            self._store = PatientState(patience, partial(self._opened, folder))
            self._pipeline, self._journal, self._log_file.position, taken = self._store.until(
                partial(restored, self._store, folder, config, config.routed_actions, self._report, self._places)
            )
            self._gather = None if role.shard is not None else Gather(folder, taken)
            self._use_programs()
            self._use_detect()
            self._store.until(partial(self._store.state.set_notes, {"version": __version__}))
            self._left_us = int(self._store.until(partial(self._store.state.note, _LEFT)) or 0)
        self._unstored = Unstored(
            self._store, self._children, self._senders, config.routed_actions, is_in_order=role.shard is not None
        )
        self._is_leaving = False
        self._has_left = False
        self._children.begin()

        self._catch_up = CatchUp(self._log_file, self._pipeline, self._append, begun_us)
        now_s = time.monotonic()
        self._taken_s = self._last_line_s = now_s
        self._last_urgent_s = 0.0
        # The periodic tasks in their order, which the journal has, too; each with its period in seconds.
        self._tasks: dict[str, tuple[float, Callable[[], object]]] = {
            "tick": (1.0, self._tick),
            "urgent": (1.0, self._unstored.store_urgent),
            "sync": (1.0, self._sync),
            "flush": (1.0, self._unstored.store_all),
            "mark": (1.0, self._mark),
            "status": (5.0, self._keep_status),
            "unknown": (60.0, self._keep_unknown),
            "collect": (1.0, self._collect),
            "snapshot": (600.0, self._snapshot),
            "forget": (60.0, self._forget),
        }
        if self._gather is not None:
            self._tasks = {"gather": (1.0, self._take_gathered), "senders": (60.0, self._take_senders)} | self._tasks
        self._schedule = Schedule({name: period_s for name, (period_s, _task) in self._tasks.items()}, now_s)
        self._schedule.done(now_s, "snapshot")
        if self._catch_up.begin():
            self._store.until(self._snapshot)
        log.info("started", version=__version__, state_dir=config.state_dir)

    def _opened(self, folder: Path) -> State:
        return State(folder, self._report) if self._role.shard is None else ShardState(folder, self._role.shard, self._report)

    def _report(self, text: str) -> None:
        self._figures["damaged_total"] += 1
        log.error("store_damaged", reason=text)

    @staticmethod
    def _report_places(text: str) -> None:
        log.error("places_damaged", reason=text)

    # ---------------------------------------------------------------- the path of a line

    def serve(self) -> None:
        """Read lines until the input ends."""
        # Hardly anything here makes cycles, and each collection would visit all connections: see _collect.
        gc.freeze()
        gc.disable()
        lines, signals, schedule = self._lines.fd, self._signals.fd, self._schedule
        bell = self._gather.fd if self._gather is not None else signals
        descriptors, select_ = (lines, signals, bell), select.select
        now_s = time.monotonic()
        try:
            while not self._lines.has_ended and not self._has_left:
                wait_s = 0.0 if self._taken else max(0.0, schedule.next_s - now_s)
                ready, _, _ = select_(descriptors, (), (), wait_s)
                if lines in ready:
                    self._has_left = self._is_leaving and self._leaves()
                    if self._has_left:
                        break
                    self._take(self._lines.read())
                now_s = time.monotonic()
                if self._taken and (lines not in ready or now_s >= self._taken_s + _TAKEN_S):
                    self._understand_some()
                if signals in ready:
                    self._woken()
                if self._gather is not None and bell in ready:
                    self._gather.hear()
                    schedule.at(now_s, "gather")
                if now_s >= schedule.next_s:
                    self._tend()
                    now_s = time.monotonic()
        finally:
            if self._role.shard is None:
                self._children.let_go()
        self._end()
        # Only now, so that the one that gathers finds the last events of this shard.
        self._children.let_go()

    def _take(self, block: bytes) -> None:
        """Write the available lines to the journal, and confirm them: one in confirm mode, many in plain mode."""
        if not block:
            return
        if fresh := self._fresh(block):
            self._append(Kind.LINES, fresh)
        # Only now: rsyslogd was not silent while it waited for the journal.
        self._note(block, fresh, time.monotonic())
        self._replies.ok()

    def _fresh(self, block: bytes) -> bytes:
        """Return lines without those that rsyslogd sends again."""
        is_redelivered = self._pipeline.redelivery.has_seen
        if block.count(b"\n") == 1:
            return b"" if is_redelivered(block) else block
        return b"".join([line for line in block.splitlines(keepends=True) if not is_redelivered(line)])

    def _note(self, block: bytes, fresh: bytes, now_s: float) -> None:
        """Note that lines have come, and queue the fresh ones for the pipeline."""
        self._last_line_s = now_s
        self._catch_up.note(block, now_s)
        if fresh:
            if not self._taken:
                self._taken_s = now_s
            self._taken.append(fresh)

    def _append(self, kind: Kind, payload: bytes) -> None:
        """Write to the journal; on a full disk, rsyslogd waits."""
        try:
            self._journal.append(kind, payload)
        except StoreError:
            self._store.until(partial(self._journal.append, kind, payload))

    def _understand(self) -> None:
        """Give all confirmed lines to the pipeline."""
        while self._taken:
            self._understand_some()

    def _understand_some(self) -> None:
        """Give confirmed lines to the pipeline together: line by line would take three times as long."""
        size = count = 0
        while count < len(self._taken) and size < _TOGETHER_BYTES:
            size += len(self._taken[count])
            count += 1
        block = b"".join(self._taken[:count])
        del self._taken[:count]
        events = self._pipeline.feed(block)
        self._senders.note(block, events)
        if events:
            self._handle(events)

    def _handle(self, events: list[Event]) -> None:
        """Queue events for the store, and schedule the urgent ones for now."""
        self._figures["last_event_us"] = now_us()
        if self._unstored.add(events):
            self._schedule.at(self._last_urgent_s + _URGENT_S, "urgent", "sync")
        if self._unstored.is_full:
            self._unstored.store_all()

    def _sync(self) -> None:
        """Sync the journal, so that it survives a power cut; a little later if the last sync is still running."""
        self._last_urgent_s = time.monotonic()
        try:
            is_begun = self._journal.begin_sync()
        except StoreError:
            self._store.until(self._journal.sync)
        else:
            if not is_begun:
                self._schedule.at(self._last_urgent_s + _URGENT_S, "sync")

    # ---------------------------------------------------------------- signals, and leaving for keys

    def _woken(self) -> None:
        if self._signals.taken():
            self._understand()
            self._reload()
        self._children.tend()

    def _reload(self) -> None:
        """Read the configuration again; refuse a broken one, and keep the old one."""
        try:
            whole = reloaded(self._config_path, self._whole)
        except ConfigError as error:
            log.error("configuration_refused", reason=f"{error}; sshbell keeps the old one")
            self._refused = str(error)
            return
        self._refused = ""
        config = self._role.config(whole)
        self._whole = whole
        before, self._config = self._config, config
        if config.sshd_programs != before.sshd_programs:
            self._use_programs()
        if config.geoip != before.geoip:
            self._places.configure(config.geoip)
        if (config.detect, config.block) != (before.detect, before.block):
            self._use_detect()
        self._unstored.routed_actions = config.routed_actions
        self._children.hang_up(config)
        # The detectors of before are cycles.
        gc.unfreeze()
        gc.collect()
        gc.freeze()
        log.info("configured")

    def _use_programs(self) -> None:
        """Use the configured names of sshd from the next line on."""
        self._append(Kind.PROGRAMS, msgspec.json.encode(self._config.sshd_programs))
        self._pipeline.configure(self._config.sshd_programs)

    def _use_detect(self) -> None:
        """Use the configured settings of the detectors from the next line on."""
        settings = self._config.detect, self._config.block
        self._append(Kind.DETECT, msgspec.json.encode(settings))
        self._pipeline.configure_detect(*settings)

    def _leaves(self) -> bool:
        """
        Return whether to end now, so that rsyslogd restarts ``run`` with keys.

        A line has come after a pause. ``run`` leaves it unread: rsyslogd starts the successor after 2 s, and sends it the line
        again. Without a line, rsyslogd would start no successor, and mail would wait.
        """
        is_quiet = time.monotonic() - self._last_line_s >= _QUIET_S and not self._taken
        if not is_quiet or not self._catch_up.is_over or self._lines.has_hung_up():
            return False
        try:
            self._store.state.set_notes({_LEFT: str(now_us())})
        except StoreError:
            return False  # without the note, run might end again and again
        log.warning("leaving", reason="rsyslogd restarts keys with sshbell run")
        return True

    # ---------------------------------------------------------------- periodic tasks, and the end

    def _tend(self) -> None:
        """Run the periodic tasks that are due, after the lines that came before them."""
        self._understand()
        for name in self._schedule.due(time.monotonic()):
            _period_s, task = self._tasks[name]
            self._store.until(task)
        if self._journal.size > SNAPSHOT_BYTES or not self._store.has_snapshot:
            self._store.until(self._snapshot)

    def _tick(self) -> None:
        """Let time pass in the pipeline; tend the children; read the log file once the backlog has drained."""
        self._children.tend()
        at_us, now_s = now_us(), time.monotonic()
        # In plain mode, there may be no program that restarts run.
        is_restarted = not self._is_plain or self._role.is_gathering
        self._is_leaving = self._children.has_ended() and is_restarted and not 0 <= at_us - self._left_us < _ANEW_US
        if self._is_leaving and self._role.is_gathering:
            # No line comes for which it could wait. The first shard starts it again, and gives it its rights when it leaves, too.
            self._has_left = self._leaves()
        if token := announced(Path(self._config.state_dir)):
            self._journal.append(Kind.CANARY, token.encode())
            self._pipeline.announce_canary(token)
            forget_announcement(Path(self._config.state_dir))
        self._journal.append(Kind.TICK, str(at_us).encode())
        # After a start, thousands of logins may have waited for their session lines: to report them takes seconds.
        with self._patience.meanwhile():
            if events := self._pipeline.tick(at_us):
                self._handle(events)
        if self._catch_up.tick(now_s):
            self._take_from_file()
            self._schedule.at(now_s, "status")

    def _take_from_file(self) -> None:
        """Store the events of lines that only the log file has."""
        self._unstored.store_all()
        with self._patience.meanwhile():
            events = self._catch_up.found()
        if notice := self._catch_up.notice_of([event for event in events if event.action in self._unstored.routed_actions]):
            self._store.until(lambda: self._store.state.record(events, self._unstored.routed_actions, now_us(), notice))
            self._children.wake()
        elif events:
            self._handle(events)

    def _take_gathered(self) -> bool:
        """Take events of the shards: into the journal, then into the pipeline. Return whether there were any."""
        assert self._gather is not None
        count = 0
        for count, batch in enumerate(self._gather.batches(), 1):  # noqa: B007 - count is used after the loop
            self._append(Kind.EVENTS, encoded_batch(batch))
            if events := self._pipeline.gather(batch):
                self._handle(events)
        if count:
            self._schedule.at(time.monotonic(), "gather")
        return count > 0

    def _take_senders(self) -> None:
        assert self._gather is not None
        if pairs := self._gather.senders():
            self._store.state.record([], self._unstored.routed_actions, now_us(), senders=pairs)

    def _mark(self) -> None:
        self._catch_up.mark(time.monotonic(), now_us(), self._last_line_s, is_ready=self._lines.is_ready())

    def _keep_status(self) -> None:
        not_blocked = msgspec.json.encode(self._pipeline.refused).decode()
        self._store.state.set_notes({"refused": self._refused, NOT_BLOCKED_NOTE: not_blocked} | self._pipeline.examples)
        self._store.state.set_status(
            self._figures
            | self._catch_up.figures
            | self._pipeline.figures
            | {"pid": os.getpid(), "last_line_us": now_us() - round((time.monotonic() - self._last_line_s) * SECOND_US)}
        )

    def _keep_unknown(self) -> None:
        """Store the lines that no rule reads, for ``sshbell unknown``."""
        self._store.state.set_notes({UNKNOWN_NOTE: msgspec.json.encode(self._pipeline.unknown.shown()).decode()})

    def _snapshot(self) -> None:
        """Store a snapshot of the memory, and delete the journal that it replaces."""
        self._understand()
        self._unstored.store_all()
        self._schedule.done(time.monotonic(), "snapshot")
        if not self._store.has_snapshot:
            self._pipeline.forget_snapshot()
        with self._patience.meanwhile():
            segment = self._journal.turn()
            taken = None if self._gather is None else self._gather.taken
            sequence = self._store.state.sequence if isinstance(self._store.state, ShardState) else None
            own = snapshot_parts(segment, self._log_file.position, taken, sequence)
            # While the store cannot be written, rsyslogd has to wait; and a line for the successor stays unread.
            meanwhile = None if self._is_failing or self._has_left else Meanwhile(self._lines, self._replies, self._journal)
            self._is_failing = True
            try:
                with meanwhile or nullcontext():
                    self._store.state.keep_snapshot(chain(self._pipeline.changed(), own))
                    self._pipeline.kept()
            finally:
                if meanwhile is not None:
                    self._take_over(meanwhile)
            self._is_failing = False
            self._store.has_snapshot = True
            self._journal.drop_before(segment)
        self._figures["snapshots_total"] += 1

    def _take_over(self, meanwhile: Meanwhile) -> None:
        """Queue the lines that came during a snapshot."""
        for block, at_s in meanwhile.taken:
            self._note(block, self._fresh(block), at_s)
        if meanwhile.unconfirmed:
            self._take(meanwhile.unconfirmed)

    @staticmethod
    def _collect() -> None:
        """Collect the cycles among the objects of the last second. In a flood, to visit all objects takes 0.3 s."""
        gc.collect(0)
        gc.freeze()

    def _forget(self) -> None:
        if self._store.state.forget(now_us() - round(seconds_of(self._config.keep) * SECOND_US)):
            self._schedule.at(time.monotonic() + _FORGET_MORE_S, "forget")
        self._store.state.forget_delivered()

    def _end(self) -> None:
        """Store everything after the end of the input; ``deliver`` ends by itself."""
        self._understand()
        if self._gather is not None:
            while self._take_gathered():
                pass
        for task in (self._unstored.store_all, self._snapshot, self._keep_status, self._keep_unknown):
            try:
                task()
            except StoreError as error:
                log.error("not_stored", reason=str(error))  # the journal has it
        with suppress(StoreError):
            self._journal.close()
        self._store.state.close()
        log.info("ended")
