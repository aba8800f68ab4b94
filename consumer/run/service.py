"""
``sshbell run``: processes, signals, descriptors and the clock around the pipeline.

One line goes the way: read ─▶ journal ─▶ pipeline ─▶ "OK" ─▶ store. The journal makes it safe: no death of a process costs it.
Logins and what else is to be told are stored and synced right after the "OK", or together after 5 ms where they come faster; all
else follows within a second. End of input is the only order to stop.

``deliver`` and ``keys`` are its children (consumer/run/children.py). Once ``keys`` is gone, which only root can start, ``run``
ends by itself at a quiet moment, so that rsyslog starts all of them anew. It never ends before its first "OK": that crashes
rsyslogd 8.2302 (its issue 5017).
"""

import gc
import os
import pwd
import select
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import structlog

from consumer import __version__
from consumer.clock import SECOND_US, isoformat, local_zone, now_us
from consumer.config import KEYS_SOCKET, Config, load, seconds_of
from consumer.errors import ConfigError, DamagedStoreError, SshbellError, StoreError
from consumer.events import Event, Forged, Login, Logout
from consumer.intake.journal import Journal, Kind, replayed, segments
from consumer.intake.omprog import Lines, Replies
from consumer.intake.senders import Senders
from consumer.pipeline import Pipeline
from consumer.process.lock import Lock
from consumer.process.log import configure
from consumer.process.privileges import account_of, become
from consumer.run.catch_up import CAUGHT_UP_LIMIT, CatchUp, notice_of
from consumer.run.children import Deliver, Keys
from consumer.run.retry import HungUpError, Patience
from consumer.store.state import State

log = structlog.get_logger()
Result = TypeVar("Result")

# How often what is not urgent is done.
_TICK_S = _SYNC_S = _FLUSH_S = 1.0
_STATUS_S = 5.0
_FORGET_S = 60.0
# A snapshot is taken when the journal has grown so far, or after this time; what is replayed at a start is no more than that.
SNAPSHOT_BYTES = 64 << 20
_SNAPSHOT_S = 600.0
# A login waits for one such commit at most.
_BATCH_LIMIT = 100
# What was confirmed is understood at once, unless the next line is there already; and then no later than this after the first.
_TAKEN_S = 0.001
# What is urgent is stored and synced at once; where many such lines come, as often as this.
_URGENT_S = 0.005
# A position in the log file is noted when nothing came for so long, or when lines are as young as this.
_IDLE_S = 1.0
# rsyslogd's backlog has drained when for so long no line came that it had received before we began: longer than it pauses after
# a death. While what it had on disk comes in beside what is new, young lines alone say nothing.
_DRAINED_S = 5.0
_RECEIVED = b'"rcvd":"'
# Until then stories wait for lines that were lost; but no longer than this, where a backlog does not end.
_HOLD_S = 600.0
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
        service.start()
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
    """Everything that ``run`` holds."""

    def __init__(self, config: Config, config_path: str | None, lines: Lines, replies: Replies, *, is_plain: bool) -> None:
        self._config = config
        self._is_plain = is_plain
        self._is_leaving = False
        self._config_path = config_path
        self._lines = lines
        self._replies = replies
        self._patience = Patience(lines, replies)
        self._dir = Path(config.state_dir)
        self._pipeline = self._new_pipeline()
        self._taken: list[bytes] = []  # confirmed, and not understood yet
        self._taken_s = 0.0
        self._urgent: list[Event] = []
        self._unsaved: list[Event] = []
        self._senders = Senders()
        self._is_reloading = False
        self._refused = ""  # why the configuration that is there is not the one that counts
        self._last_line_s = self._last_old_s = time.monotonic()
        self._begun_us = now_us()
        self._begun = isoformat(self._begun_us)[:26].encode()  # to the microsecond, as our template writes it
        self._totals = {"snapshots_total": 0, "damaged_total": 0, "caught_up_total": 0, "started_us": now_us()}
        self._last_event_us = self._last_line_us = 0

    def _new_pipeline(self) -> Pipeline:
        return Pipeline(self._config.sshd_programs, local_zone(), now_us(), self._report)

    # ---------------------------------------------------------------- start

    def start(self) -> None:
        """
        Start keys, give up privileges, take the lock, bring back what an earlier process knew, start deliver.

        Raises:
            SshbellError: it cannot start, and trying again soon would not help.
        """
        self._watch_signals()
        self._held_until(self._make_state_dir)
        self._file = CatchUp(self._config.catch_up)
        self._is_caught_up = not self._config.catch_up
        os.umask(0o077)
        self._keys = Keys(self._uid())
        become(self._config.user)
        self._lock()
        self._keys.listen(self._dir / KEYS_SOCKET)
        with self._patience.meanwhile():
            self._state: State = self._held_until(lambda: State(self._dir, self._report))
            self._held_until(self._restore)
            self._held_until(lambda: self._state.set_notes({"version": __version__}))
            self._left_us = int(self._held_until(lambda: self._state.note(_LEFT)) or 0)
        self._deliver = Deliver(self._config_path)
        self._told = self._told_actions()
        self._next_s = dict.fromkeys(("tick", "tell", "sync", "flush", "mark", "status", "forget"), 0.0)
        self._next_s["snapshot"] = time.monotonic() + _SNAPSHOT_S
        self._last_old_s = self._started_s = time.monotonic()
        self._due_s = self._last_urgent_s = 0.0
        if self._file.position is None and not self._is_caught_up:
            # From here on; kept at once, or a death would make it later.
            self._file.begin_here()
            self._is_caught_up = True
            self._totals["compared_us"] = now_us()
            self._held_until(self._snapshot)
        self._tasks: tuple[tuple[str, float, Callable[[], None]], ...] = (
            ("tick", _TICK_S, self._tick),
            ("tell", _FLUSH_S, self._tell),
            ("sync", _SYNC_S, self._sync),
            ("flush", _FLUSH_S, self._flush),
            ("mark", _TICK_S, self._mark),
            ("status", _STATUS_S, self._keep_status),
            ("snapshot", _SNAPSHOT_S, self._snapshot),
            ("forget", _FORGET_S, self._forget),
        )
        gc.freeze()
        gc.disable()  # hardly anything here makes cycles, and each collection would walk through all connections
        log.info("started", version=__version__, state_dir=str(self._dir))

    def _watch_signals(self) -> None:
        """Systemd sends TERM and HUP to every process of rsyslog's unit; only the end of the input ends us."""
        self._wake, theirs = socket.socketpair()
        self._wake.settimeout(0)
        theirs.settimeout(0)
        signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
        self._theirs = theirs
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD):
            signal.signal(number, lambda _number, _frame: None)
        signal.signal(signal.SIGHUP, self._hang_up)

    def _hang_up(self, _number: int, _frame: Any) -> None:
        self._is_reloading = True

    def _uid(self) -> int:
        """Return who we are going to be."""
        if os.geteuid() == 0 and self._config.user:
            return account_of(self._config.user).pw_uid
        return os.geteuid()

    def _make_state_dir(self) -> None:
        try:
            self._dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            # One with something in it may be anybody's, if state_dir is a slip.
            if os.geteuid() == 0 and self._config.user and not any(self._dir.iterdir()):
                account = pwd.getpwnam(self._config.user)
                os.chown(self._dir, account.pw_uid, account.pw_gid)
        except KeyError:
            pass  # become() says so
        except OSError as error:
            raise StoreError(f"{self._dir}: {error.strerror}; make it, owned by {self._config.user or 'us'}") from error

    def _lock(self) -> None:
        """Wait until no other instance runs: an orphan of a killed rsyslogd ends by itself."""
        path = self._dir / "run.lock"

        def taken() -> Lock:
            # Opened anew for each try: the file may be another one by then.
            lock = Lock(path)
            try:
                if not lock.take():
                    raise StoreError(f"another instance holds {path}")  # noqa: TRY301
            except StoreError:
                lock.close()
                raise
            return lock

        self._own_lock = self._held_until(taken)

    def _held_until(self, action: Callable[[], Result]) -> Result:
        """Do something that needs the disk, whatever may be wrong with that for now; a damaged store is set aside."""
        while True:
            try:
                return self._patience.until(action)
            except DamagedStoreError as error:
                self._held_until(partial(self._state.renew, str(error)))
                self._pipeline.forget_snapshot()
                self._next_s["snapshot"] = 0

    def _report(self, text: str) -> None:
        self._totals["damaged_total"] += 1
        log.error("damaged", what=text)

    def _restore(self) -> None:
        """Bring back the memory: the snapshot, and what the journal has behind it, through the same pipeline."""
        parts = self._state.snapshot()
        first = int(parts.pop("journal", b"1"))
        position = parts.pop("position", None)
        if position is not None:
            self._file.position = tuple(msgspec.json.decode(position))
        self._pipeline = self._new_pipeline()
        self._pipeline.restore(parts)
        self._unsaved.clear()
        folder = self._dir / "journal"
        self._told = self._told_actions()
        for kind, payload in replayed(folder, first, self._report):
            self._unsaved += self._again(kind, payload)
            if len(self._unsaved) >= _BATCH_LIMIT:
                self._flush()
        newest = max((number for number, _path in segments(folder)), default=0)
        self._journal: Journal = self._held_until(lambda: Journal(folder, max(newest + 1, first)))
        self._pipeline.configure(self._config.sshd_programs)
        self._journal_append(Kind.PROGRAMS, msgspec.json.encode(self._config.sshd_programs))
        self._hold(is_holding=not self._is_caught_up and self._file.position is not None)
        self._flush()

    def _hold(self, *, is_holding: bool) -> None:
        """Wait for lines that the log file may have, or do so no more; what is begun as one story is not told as two."""
        self._is_holding = is_holding
        self._journal_append(Kind.HOLDING, b"1" if is_holding else b"0")
        self._pipeline.hold(is_holding=is_holding)

    def _again(self, kind: Kind, payload: bytes) -> list[Event]:
        """Do again what a record of the journal says was done."""
        match kind:
            case Kind.LINES:
                for line in payload.splitlines(keepends=True):
                    self._pipeline.is_redelivered(line)
                return self._pipeline.feed(payload)
            case Kind.CAUGHT_UP:
                return self._pipeline.feed(payload)
            case Kind.TICK:
                return self._pipeline.tick(int(payload))
            case Kind.PROGRAMS:
                self._pipeline.configure(msgspec.json.decode(payload))
            case Kind.HOLDING:
                self._pipeline.hold(is_holding=payload == b"1")
        return []

    def _told_actions(self) -> frozenset[str]:
        return frozenset(action for route in self._config.route for action in route.events)

    # ---------------------------------------------------------------- running

    def serve(self) -> None:
        """Take lines until the input ends."""
        lines, wake = self._lines.fd, self._wake.fileno()
        descriptors, select_ = (lines, wake), select.select
        now_s = time.monotonic()
        try:
            while not self._lines.has_ended:
                wait_s = 0.0 if self._taken else max(0.0, self._due_s - now_s)
                ready, _, _ = select_(descriptors, (), (), wait_s)
                if lines in ready:
                    if self._is_leaving and self._leaves():
                        break
                    self._take(self._lines.read())
                now_s = time.monotonic()
                if self._taken and (lines not in ready or now_s >= self._taken_s + _TAKEN_S):
                    self._understand()
                if wake in ready:
                    self._woken()
                if now_s >= self._due_s:
                    self._tend()
                    now_s = time.monotonic()
        finally:
            self._deliver.let_go()
            self._keys.let_go()
        self._end()

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
            self._state.set_notes({_LEFT: str(now_us())})
        except StoreError:
            return False  # we might end again and again
        log.warning("ending, so that rsyslog starts keys anew")
        return True

    def _take(self, block: bytes) -> None:
        """Make the lines safe that are there, and confirm them: one in confirm mode, many in plain mode."""
        if not block:
            return
        self._last_line_s = time.monotonic()
        if not self._is_caught_up and self._is_old(block):
            self._last_old_s = self._last_line_s
        is_redelivered = self._pipeline.is_redelivered
        if block.count(b"\n") == 1:
            fresh = b"" if is_redelivered(block) else block
        else:
            fresh = b"".join([line for line in block.splitlines(keepends=True) if not is_redelivered(line)])
        if fresh:
            self._journal_append(Kind.LINES, fresh)
            if not self._taken:
                self._taken_s = self._last_line_s
            self._taken.append(fresh)
        self._replies.ok()

    def _understand(self) -> None:
        """Handle what was taken, at once: line by line it would cost three times as much."""
        block = b"".join(self._taken)
        self._taken.clear()
        events = self._pipeline.feed(block)
        self._senders.note(block, events)
        if events:
            self._handle(events)

    def _handle(self, events: list[Event]) -> None:
        self._last_event_us = now_us()
        for event in events:
            is_urgent = isinstance(event, Login | Logout | Forged) or event.__struct_config__.tag in self._told
            (self._urgent if is_urgent else self._unsaved).append(event)
        if self._urgent:
            self._next_s["tell"] = self._next_s["sync"] = self._due_s = self._last_urgent_s + _URGENT_S
        if len(self._unsaved) >= _BATCH_LIMIT:
            self._flush()

    def _journal_append(self, kind: Kind, payload: bytes) -> None:
        try:
            self._journal.append(kind, payload)
        except StoreError:
            self._held_until(lambda: self._journal.append(kind, payload))

    def _tell(self) -> None:
        """Bring what is urgent into the store, and wake deliver; it waits for nothing else."""
        self._record(self._urgent)

    def _flush(self) -> None:
        """Bring what happened into the store."""
        self._record(self._urgent)
        self._record(self._unsaved)

    def _record(self, events: list[Event]) -> None:
        if events:
            new = self._held_until(lambda: self._state.record(events, self._told, now_us(), senders=self._senders.new))
            events.clear()
            self._senders.new.clear()
            if new and hasattr(self, "_deliver"):
                self._deliver.wake()

    def _sync(self) -> None:
        self._last_urgent_s = time.monotonic()
        try:
            is_begun = self._journal.begin_sync()
        except StoreError:
            self._held_until(self._journal.sync)
        else:
            if not is_begun:
                self._next_s["sync"] = self._last_urgent_s + _URGENT_S

    def _woken(self) -> None:
        with suppress(BlockingIOError):
            self._wake.recv(4096)
        if self._is_reloading:
            self._is_reloading = False
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
        if config.sshd_programs != self._config.sshd_programs:
            self._journal_append(Kind.PROGRAMS, msgspec.json.encode(config.sshd_programs))
            self._pipeline.configure(config.sshd_programs)
        self._config = config
        self._told = self._told_actions()
        self._deliver.hang_up()
        log.info("configuration read again")

    def _tend(self) -> None:
        """Do what time asks for, in the order in which the journal has it."""
        if self._taken:
            self._understand()
        now_s = time.monotonic()
        for name, period_s, task in self._tasks:
            if now_s >= self._next_s[name]:
                self._next_s[name] = now_s + period_s
                self._held_until(task)
        self._due_s = min(self._next_s.values())
        if self._journal.size > SNAPSHOT_BYTES:
            self._held_until(self._snapshot)

    def _tick(self) -> None:
        self._deliver.tend()
        # In plain mode nobody may be there who starts us anew.
        self._is_leaving = self._keys.has_ended() and not self._is_plain and not 0 <= now_us() - self._left_us < _ANEW_US
        at_us = now_us()
        self._journal.append(Kind.TICK, str(at_us).encode())
        if events := self._pipeline.tick(at_us):
            self._handle(events)
        if not self._is_caught_up and time.monotonic() - self._last_old_s >= _DRAINED_S:
            self._is_caught_up = True
            self._take_from_file()
            self._hold(is_holding=False)
            self._next_s["status"] = 0
        elif self._is_holding and time.monotonic() - self._started_s >= _HOLD_S:
            self._hold(is_holding=False)

    def _is_old(self, block: bytes) -> bool:
        """Tell whether rsyslogd had the last of these lines before we began; of other senders, whether it says so itself."""
        at = block.rfind(_RECEIVED)
        if at < 0:
            return self._pipeline.last_us < self._begun_us
        at += len(_RECEIVED)
        return block[at : at + len(self._begun)] < self._begun

    def _is_drained(self) -> bool:
        return (
            time.monotonic() - self._last_line_s >= _IDLE_S or now_us() - self._pipeline.last_us < 2 * _IDLE_S * SECOND_US
        ) and not self._lines.is_ready()

    # ---------------------------------------------------------------- the log file

    def _mark(self) -> None:
        """Note how far the log file has been heard of."""
        if self._is_caught_up and self._config.catch_up:
            self._file.mark(time.monotonic(), is_drained=self._is_drained())

    def _take_from_file(self) -> None:
        """Compare the log file with what came in, and take what never did."""
        self._totals["compared_us"] = now_us()
        missing = self._pipeline.missing(self._file.blocks(), local_zone())
        if not missing:
            return
        self._flush()
        events: list[Event] = []
        for line in missing:
            self._journal_append(Kind.CAUGHT_UP, line)
            events += self._pipeline.feed(line)
        self._totals["caught_up_total"] += len(missing)
        log.warning("lines that only the log file had", lines=len(missing), events=len(events))
        told = [event for event in events if event.__struct_config__.tag in self._told]
        if len(told) > CAUGHT_UP_LIMIT:
            notice = notice_of(told, self._config.catch_up, now_us())
            self._held_until(lambda: self._state.record(events, self._told, now_us(), notice))
            self._deliver.wake()
        else:
            self._handle(events)

    # ---------------------------------------------------------------- now and then, and the end

    def _keep_status(self) -> None:
        self._state.set_notes({"refused": self._refused} | self._pipeline.examples)
        counts = self._pipeline.counts
        understood = sum(counts[:-2])
        self._state.set_status(
            self._totals
            | {
                "pid": os.getpid(),
                "last_line_us": now_us() - round((time.monotonic() - self._last_line_s) * SECOND_US),
                "last_event_us": self._last_event_us,
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
        self._next_s["snapshot"] = time.monotonic() + _SNAPSHOT_S
        segment = self._journal.turn()
        parts = self._pipeline.changed() | {"journal": str(segment).encode()}
        if self._file.position is not None:
            parts["position"] = msgspec.json.encode(self._file.position)
        self._state.keep_snapshot(parts)
        self._journal.drop_before(segment)
        self._totals["snapshots_total"] += 1
        gc.collect()

    def _forget(self) -> None:
        if self._state.forget(now_us() - round(seconds_of(self._config.keep) * SECOND_US)):
            self._next_s["forget"] = time.monotonic() + _TICK_S  # there is more
        self._state.forget_delivered()

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
        self._state.close()
        log.info("ended")
