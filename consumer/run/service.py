"""
``sshbell run``: the way of a line, and what happens between lines.

    Lines.read ─▶ _take: journal, "OK" ─▶ _understand: pipeline ─▶ _handle ─▶ _tell, _flush: store ─▶ deliver

The journal makes a line safe: no process's death costs it. Logins and all else that is urgent are stored and synced right after
the "OK", or together after 5 ms where they come faster. The rest follows within a second. End of input is the only order to stop.

``deliver`` and ``keys`` are its children (``children.py``). Only root can start ``keys``, so once it is gone, ``run`` ends by
itself at a quiet moment, and rsyslog starts all of them anew. It never ends before its first "OK": that crashes rsyslogd 8.2302
(its issue 5017).
"""

import gc
import os
import select
import time
from contextlib import suppress
from functools import partial
from itertools import chain
from pathlib import Path

import msgspec
import structlog

from consumer import __version__
from consumer.clock import SECOND_US, local_zone, now_us
from consumer.config import Config, load, seconds_of
from consumer.errors import ConfigError, SshbellError, StoreError
from consumer.events import Event, Forged, Login, Logout
from consumer.intake.journal import Kind
from consumer.intake.omprog import Lines, Replies
from consumer.intake.senders import Senders
from consumer.process.log import configure
from consumer.process.privileges import account_of
from consumer.run.catch_up import CAUGHT_UP_LIMIT, Backlog, notice_of
from consumer.run.children import DeliverChild
from consumer.run.restore import BATCH_EVENTS, parts_of, restored
from consumer.run.retry import HungUpError, Patience, Store
from consumer.run.schedule import Schedule
from consumer.run.start import started

log = structlog.get_logger()

# How often what is not urgent is done, in seconds; in this order, which is the journal's.
_PERIODS_S = {
    "tick": 1.0, "tell": 1.0, "sync": 1.0, "flush": 1.0, "mark": 1.0, "status": 5.0, "snapshot": 600.0, "forget": 60.0,
}  # fmt: skip
# A snapshot is also taken when the journal has grown so far; no more than that is replayed at a start.
SNAPSHOT_BYTES = 64 << 20
# Where more is to be forgotten than there was time for.
_FORGET_MORE_S = 1.0
# What was confirmed is understood at once, unless the next line is there already; and then no later than this after the first.
_TAKEN_S = 0.001
# What is urgent is stored and synced at once; where many such lines come, as often as this.
_URGENT_S = 0.005
# A position in the log file is noted when nothing came for so long, or when lines are as young as this.
_IDLE_S = 1.0
# Without keys we end where a line comes after so long a pause, and not before this has gone by since we last did.
_QUIET_S, _ANEW_US = 1.0, 3600 * SECOND_US
_LEFT = "left_for_keys_us"


def run(config_path: str | None, *, is_plain: bool, is_confirmed: bool = False) -> int:
    """
    Run until the input ends; return the exit code.

    Args:
        config_path: as in ``consumer.config.load``.
        is_plain: nothing is confirmed; otherwise rsyslog's omprog with confirmMessages="on" is at the other end.
        is_confirmed: who started us has said the first OK.
    """
    replies = Replies(is_plain=is_plain)  # before anything can write to descriptor 1
    configure()
    lines = Lines(0)
    try:
        # A child that ends before its first OK crashes rsyslogd 8.2302 where forceSingleInstance is on (its issue 5017).
        config = load(config_path) if is_plain else Patience(lines, replies).until(partial(_configuration, config_path))
        service = Service(config, config_path, lines, replies, is_plain=is_plain)
        if not is_confirmed:
            replies.ok()
        service.serve()
    except HungUpError:
        pass  # rsyslog has gone while something was awaited; the journal has all that was confirmed
    except SshbellError as error:
        log.error("cannot start", reason=str(error))
        return error.exit_code
    return 0


def _configuration(path: str | None) -> Config:
    """
    Read the configuration, and see that it can be used.

    Raises:
        ConfigError: it cannot.
    """
    config = load(path)
    if config.user and os.geteuid() == 0:
        account_of(config.user)
    return config


class Service:
    """
    Everything that ``run`` holds, ready to take lines.

    Raises:
        SshbellError: it cannot start, and trying again soon would not help.
        HungUpError: rsyslog has gone meanwhile.
    """

    def __init__(self, config: Config, config_path: str | None, lines: Lines, replies: Replies, *, is_plain: bool) -> None:
        begun_us = now_us()
        self._config, self._config_path, self._is_plain = config, config_path, is_plain
        self._lines, self._replies = lines, replies
        # For "sshbell status".
        self._figures = dict.fromkeys(("snapshots_total", "damaged_total", "caught_up_total", "last_event_us"), 0)
        self._figures["started_us"] = begun_us
        self._refused = ""  # why the configuration that is there is not the one that counts
        self._told = _told_by(config)
        # Lines that are confirmed, and not understood yet; events that are not stored yet.
        self._taken: list[bytes] = []
        self._urgent: list[Event] = []
        self._unsaved: list[Event] = []
        self._senders = Senders()

        # The rest in the order of a start.
        self._patience = patience = Patience(lines, replies)
        self._signals, self._log_file, self._keys, self._lock = started(config, patience)
        folder = Path(config.state_dir)
        with patience.meanwhile():
            self._store = Store(patience, folder, self._report)
            self._pipeline, self._journal, self._log_file.position = self._store.until(
                partial(restored, self._store, folder, config, self._told, self._report)
            )
            self._use_programs()
            self._is_caught_up, self._is_holding = not config.catch_up, False
            self._hold(is_holding=not self._is_caught_up and self._log_file.position is not None)
            self._store.until(partial(self._store.state.set_notes, {"version": __version__}))
            self._left_us = int(self._store.until(partial(self._store.state.note, _LEFT)) or 0)
        self._is_leaving = False
        self._deliver = DeliverChild(config_path)

        now_s = time.monotonic()
        self._backlog = Backlog(begun_us, now_s)
        self._taken_s = self._last_line_s = now_s
        self._last_urgent_s = 0.0
        self._tasks = {
            "tick": self._tick, "tell": self._tell, "sync": self._sync, "flush": self._flush, "mark": self._mark,
            "status": self._keep_status, "snapshot": self._snapshot, "forget": self._forget,
        }  # fmt: skip
        self._schedule = Schedule(_PERIODS_S, now_s)
        self._schedule.done(now_s, "snapshot")
        if self._log_file.position is None and not self._is_caught_up:
            self._begin_here()
        log.info("started", version=__version__, state_dir=config.state_dir)

    def _report(self, text: str) -> None:
        self._figures["damaged_total"] += 1
        log.error("damaged", what=text)

    # ---------------------------------------------------------------- the way of a line

    def serve(self) -> None:
        """Take lines until the input ends."""
        # Hardly anything here makes cycles, and each collection would walk through all connections.
        gc.freeze()
        gc.disable()
        lines, signals, schedule = self._lines.fd, self._signals.fd, self._schedule
        descriptors, select_ = (lines, signals), select.select
        now_s = time.monotonic()
        try:
            while not self._lines.has_ended:
                wait_s = 0.0 if self._taken else max(0.0, schedule.next_s - now_s)
                ready, _, _ = select_(descriptors, (), (), wait_s)
                if lines in ready:
                    if self._is_leaving and self._leaves():
                        break
                    self._take(self._lines.read())
                now_s = time.monotonic()
                if self._taken and (lines not in ready or now_s >= self._taken_s + _TAKEN_S):
                    self._understand()
                if signals in ready:
                    self._woken()
                if now_s >= schedule.next_s:
                    self._tend()
                    now_s = time.monotonic()
        finally:
            self._deliver.let_go()
            self._keys.let_go()
        self._end()

    def _take(self, block: bytes) -> None:
        """Make the lines safe that are there, and confirm them: one in confirm mode, many in plain mode."""
        if not block:
            return
        self._last_line_s = time.monotonic()
        if not self._is_caught_up:
            self._backlog.note(block, self._pipeline.last_us, self._last_line_s)
        is_redelivered = self._pipeline.is_redelivered
        if block.count(b"\n") == 1:
            fresh = b"" if is_redelivered(block) else block
        else:
            fresh = b"".join([line for line in block.splitlines(keepends=True) if not is_redelivered(line)])
        if fresh:
            self._append(Kind.LINES, fresh)
            if not self._taken:
                self._taken_s = self._last_line_s
            self._taken.append(fresh)
        self._replies.ok()

    def _append(self, kind: Kind, payload: bytes) -> None:
        """Write to the journal; on a full disk rsyslog waits."""
        try:
            self._journal.append(kind, payload)
        except StoreError:
            self._store.until(partial(self._journal.append, kind, payload))

    def _understand(self) -> None:
        """Read all that was taken at once: line by line it would cost three times as much."""
        block = b"".join(self._taken)
        self._taken.clear()
        events = self._pipeline.feed(block)
        self._senders.note(block, events)
        if events:
            self._handle(events)

    def _handle(self, events: list[Event]) -> None:
        """Queue events for the store, and have the urgent ones stored now."""
        self._figures["last_event_us"] = now_us()
        for event in events:
            is_urgent = isinstance(event, Login | Logout | Forged) or event.action in self._told
            (self._urgent if is_urgent else self._unsaved).append(event)
        if self._urgent:
            self._schedule.at(self._last_urgent_s + _URGENT_S, "tell", "sync")
        if len(self._unsaved) >= BATCH_EVENTS:
            self._flush()

    def _tell(self) -> None:
        """Store urgent events, and wake deliver."""
        self._record(self._urgent)

    def _flush(self) -> None:
        """Store all events that wait for it."""
        self._record(self._urgent)
        self._record(self._unsaved)

    def _record(self, events: list[Event]) -> None:
        if events:
            state = self._store.state
            new = self._store.until(lambda: state.record(events, self._told, now_us(), senders=self._senders.new))
            events.clear()
            self._senders.new.clear()
            if new:
                self._deliver.wake()

    def _sync(self) -> None:
        """Sync the journal, so that it outlives a power cut; a little later where the last sync still runs."""
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
            if self._taken:
                self._understand()
            self._reload()
        self._deliver.tend()

    def _reload(self) -> None:
        """Read the configuration again; a broken one changes nothing."""
        try:
            config = load(self._config_path)
            if (config.state_dir, config.user) != (self._config.state_dir, self._config.user):
                raise ConfigError("state_dir and user take effect at the next start only")  # noqa: TRY301
        except ConfigError as error:
            log.error("configuration refused; the old one stays", reason=str(error))
            self._refused = str(error)
            return
        self._refused = ""
        before, self._config = self._config, config
        if config.sshd_programs != before.sshd_programs:
            self._use_programs()
        self._told = _told_by(config)
        self._deliver.hang_up()
        log.info("configuration read again")

    def _use_programs(self) -> None:
        """Take the configured names of sshd, from the next line on."""
        self._append(Kind.PROGRAMS, msgspec.json.encode(self._config.sshd_programs))
        self._pipeline.configure(self._config.sshd_programs)

    def _leaves(self) -> bool:
        """
        Tell whether to end now, so that rsyslog starts keys, and all of us, anew.

        A line has come after a pause, and is not read: rsyslog sends it again to our successor, which it starts after 2 s.
        Without a line it would start nobody, and mail would wait.
        """
        is_quiet = time.monotonic() - self._last_line_s >= _QUIET_S and not self._taken
        if not is_quiet or not self._is_caught_up or self._lines.has_hung_up():
            return False
        try:
            self._store.state.set_notes({_LEFT: str(now_us())})
        except StoreError:
            return False  # we might end again and again
        log.warning("ending, so that rsyslog starts keys anew")
        return True

    # ---------------------------------------------------------------- now and then, and the end

    def _tend(self) -> None:
        """Do the periodic tasks that are due, after the lines that came before them."""
        if self._taken:
            self._understand()
        for name in self._schedule.due(time.monotonic()):
            self._store.until(self._tasks[name])
        if self._journal.size > SNAPSHOT_BYTES or not self._store.has_snapshot:
            self._store.until(self._snapshot)

    def _tick(self) -> None:
        """Let time pass in the pipeline; look after the children, and after the log file once the backlog has drained."""
        self._deliver.tend()
        at_us, now_s = now_us(), time.monotonic()
        # In plain mode nobody may be there who starts us anew.
        self._is_leaving = self._keys.has_ended() and not self._is_plain and not 0 <= at_us - self._left_us < _ANEW_US
        self._journal.append(Kind.TICK, str(at_us).encode())
        if events := self._pipeline.tick(at_us):
            self._handle(events)
        if not self._is_caught_up and self._backlog.has_drained(now_s):
            self._is_caught_up = True
            self._take_from_file()
            self._hold(is_holding=False)
            self._schedule.at(now_s, "status")
        elif self._is_holding and self._backlog.is_endless(now_s):
            self._hold(is_holding=False)

    def _keep_status(self) -> None:
        self._store.state.set_notes({"refused": self._refused} | self._pipeline.examples)
        counts = self._pipeline.counts
        understood = sum(counts[:-2])
        self._store.state.set_status(
            self._figures
            | {
                "pid": os.getpid(),
                "last_line_us": now_us() - round((time.monotonic() - self._last_line_s) * SECOND_US),
                "lines_total": understood + counts[-2] + counts[-1],
                "understood_total": understood,
                "unmatched_total": counts[-2],
                "unframed_total": counts[-1],
                "redelivered_total": self._pipeline.redelivered_total,
            }
        )

    def _snapshot(self) -> None:
        """Keep the memory, and drop the journal that it stands for."""
        self._flush()
        self._schedule.done(time.monotonic(), "snapshot")
        if not self._store.has_snapshot:
            self._pipeline.forget_snapshot()
        with self._patience.meanwhile():
            segment = self._journal.turn()
            own = parts_of(segment, self._log_file.position)
            self._store.state.keep_snapshot(chain(self._pipeline.changed(), own))
            self._pipeline.kept()
            self._store.has_snapshot = True
            self._journal.drop_before(segment)
            gc.collect()
        self._figures["snapshots_total"] += 1

    def _forget(self) -> None:
        if self._store.state.forget(now_us() - round(seconds_of(self._config.keep) * SECOND_US)):
            self._schedule.at(time.monotonic() + _FORGET_MORE_S, "forget")
        self._store.state.forget_delivered()

    def _end(self) -> None:
        """The input has ended: keep all, leave deliver to itself."""
        if self._taken:
            self._understand()
        for task in (self._flush, self._snapshot, self._keep_status):
            try:
                task()
            except StoreError as error:
                log.error("not kept", reason=str(error))  # the journal has it
        with suppress(StoreError):
            self._journal.close()
        self._store.state.close()
        log.info("ended")

    # ---------------------------------------------------------------- the log file

    def _begin_here(self) -> None:
        """Begin at the end of the log file. That is kept at once: after a death the end would be a later one."""
        self._log_file.begin_here()
        self._is_caught_up = True
        self._figures["compared_us"] = now_us()
        self._store.until(self._snapshot)

    def _hold(self, *, is_holding: bool) -> None:
        """Let stories wait for lines that the log file may have, or no longer: one story must not become two."""
        self._is_holding = is_holding
        self._append(Kind.HOLDING, b"1" if is_holding else b"0")
        self._pipeline.hold(is_holding=is_holding)

    def _mark(self) -> None:
        """Note the place in the log file up to which all lines have come in."""
        if self._is_caught_up and self._config.catch_up:
            self._log_file.mark(time.monotonic(), is_drained=self._is_drained())

    def _is_drained(self) -> bool:
        return (
            time.monotonic() - self._last_line_s >= _IDLE_S or now_us() - self._pipeline.last_us < 2 * _IDLE_S * SECOND_US
        ) and not self._lines.is_ready()

    def _take_from_file(self) -> None:
        """Take the lines of the log file that never came in."""
        self._figures["compared_us"] = now_us()
        self._flush()
        events: list[Event] = []
        lines = 0
        with self._patience.meanwhile():
            for line in self._pipeline.missing(self._log_file.blocks(), local_zone()):
                self._append(Kind.CAUGHT_UP, line)
                events += self._pipeline.feed(line)
                lines += 1
        if not lines:
            return
        self._figures["caught_up_total"] += lines
        log.warning("lines that only the log file had", lines=lines, events=len(events))
        told = [event for event in events if event.action in self._told]
        if len(told) > CAUGHT_UP_LIMIT:
            notice = notice_of(told, self._config.catch_up, now_us())
            self._store.until(lambda: self._store.state.record(events, self._told, now_us(), notice))
            self._deliver.wake()
        else:
            self._handle(events)


def _told_by(config: Config) -> frozenset[str]:
    """Return the actions that the routes take."""
    return frozenset(action for route in config.route for action in route.events)
