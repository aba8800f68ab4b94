"""The health of sshbell itself: what ``sshbell status`` finds, and which of it is a problem."""

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from enum import IntEnum
from math import inf
from pathlib import Path

import msgspec

from consumer import __version__
from consumer.config import Config
from consumer.deliver.decide import held_until
from consumer.errors import StoreError
from consumer.process.lock import DELIVER_LOCK, RUN_LOCK, Process, holder_of
from consumer.state_dir import shard_dir, shards_in
from consumer.store.block import NOT_BLOCKED_NOTE
from consumer.store.database import DELIVERY_DB, STATE_DB, set_aside_of
from consumer.store.reader import members_of
from consumer.store.status_queries import ChannelState, StoreState, delivered, stored
from consumer.system.blocking_state import BlockingState, blocking_state
from consumer.system.rsyslog_conf import DROP_IN
from consumer.system.shards import installed_shards

# How long a message may wait. A channel sends what its max_per_hour held back within the following hour.
LATE_WARNING_US = 15 * 60 * 1_000_000
LATE_CRITICAL_US = 4 * 3600 * 1_000_000
# Shares of lines that look like authentication but that no rule reads, and of lines that fit no framing; and the number of lines
# from which on a share means something.
UNMATCHED_WARNING = 0.05
UNFRAMED_WARNING = 0.05
_SHARE_LEAST = 100

# A process that began less than this ago may still be starting. "sshbell status" waits for it, because monitoring gives a plug-in
# 10 s or more.
START_S = 5.0

# Where run and deliver log why they stop; the rsyslog drop-in names this file.
LOG = "/var/log/sshbell.err"


class Level(IntEnum):
    """The exit codes of monitoring-plugins.org, which Nagios, Icinga and others use."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3


class Problem(msgspec.Struct, frozen=True):
    """What is wrong, and how serious it is."""

    level: Level
    text: str


class ShardHealth(msgspec.Struct):
    """A shard: its process, and its store, which is None if it cannot be read."""

    run: Process
    store: StoreState | None = None


class Health(msgspec.Struct):
    """
    Everything that ``status`` shows.

    Attributes:
        run, deliver: the two processes.
        store: None if it cannot be read.
        channels: those of the configuration, and others that still have messages.
        program: which reads lines: run, or worker.
        workers: the workers that are connected to PostgreSQL, as ``PID on HOST``; None without PostgreSQL.
        blocking: None if it is off.
        held: for each channel whose ``max_per_hour`` is used up, how many messages wait, and until when all of them do.
        damaged: files that sshbell has set aside.
        shards: by number; with shards, ``run`` is the one that gathers their events, and ``store`` has the sums of all figures.
    """

    run: Process
    deliver: Process
    store: StoreState | None
    channels: dict[str, ChannelState]
    damaged: list[Path]
    problems: list[Problem]
    program: str = "run"
    workers: list[str] | None = None
    blocking: BlockingState | None = None
    held: dict[str, tuple[int, int]] = msgspec.field(default_factory=dict)
    shards: dict[int, ShardHealth] = msgspec.field(default_factory=dict)

    @property
    def level(self) -> Level:
        """The worst level of all problems."""
        levels = {problem.level for problem in self.problems}
        # UNKNOWN has the highest number, but is not the worst.
        return next((level for level in (Level.CRITICAL, Level.UNKNOWN, Level.WARNING) if level in levels), Level.OK)


def wait_for_start(config: Config) -> None:
    """Wait while processes are just starting, ``START_S`` at most: people ask for the status right after a restart."""
    if config.worker.brokers:
        return
    state_dir = Path(config.state_dir)
    locks = [RUN_LOCK, *([DELIVER_LOCK] if config.channel else [])]
    shards = installed_shards(DROP_IN)
    locks += [f"{shard_dir(Path(), number)}/{RUN_LOCK}" for number in range(shards) if shards > 1]
    deadline_s = time.monotonic() + START_S
    with suppress(OSError):
        while not all(holder_of(state_dir / name).is_running for name in locks):
            if not _has_young_parent() or time.monotonic() > deadline_s:
                return
            time.sleep(0.1)


def _has_young_parent() -> bool:
    """Return whether rsyslogd, which starts ``run``, or ``run``, which starts ``deliver``, began less than ``START_S`` ago."""
    return any(_is_parent(process) and _age_s(process) < START_S for process in Path("/proc").glob("[0-9]*"))


def _is_parent(process: Path) -> bool:
    try:
        words = [word.rpartition(b"/")[2] for word in (process / "cmdline").read_bytes().split(b"\0")]
    except OSError:
        return False  # it has ended, or belongs to somebody else
    return words[0] == b"rsyslogd" or (b"run" in words and (b"consumer" in words or b"sshbell" in words))


def _age_s(process: Path) -> float:
    try:
        ticks = int((process / "stat").read_bytes().rpartition(b")")[2].split()[19])  # proc_pid_stat(5): starttime
    except OSError:
        return inf
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")


def examine(config: Config, now_us: int, fault: str = "") -> Health:
    """
    Examine locks, databases and files. A file that cannot be read is a problem in the result, not an error.

    Args:
        config: the configuration.
        now_us: the wall clock.
        fault: of the configuration, which then has only the state directory. Nothing starts until somebody mends it, so other
            remedies are left out.
    """
    problems = [Problem(Level.CRITICAL, fault)] if fault else []
    health = _fleet(config.store, problems) if isinstance(config.store, str) else _processes(config, problems, fault)
    if any(problem.level == Level.UNKNOWN for problem in problems):
        return health
    if not health.deliver.is_running and config.channel:
        problems.append(Problem(Level.CRITICAL, f"sshbell deliver is not running and sends no messages; see {_log_of(config)}"))
    health.blocking = blocking_state(config, now_us)
    if health.blocking is not None and health.run.is_running:
        problems += [Problem(Level.WARNING, text) for text in health.blocking.problems]
    _read(health, config)
    if not config.worker.brokers:
        _read_shards(health, Path(config.state_dir))
    _find_held(health, config, now_us)
    _judge(health, now_us)
    return health


def _log_of(config: Config) -> str:
    return "the log of sshbell worker" if config.worker.brokers else LOG


def _fleet(database: str, problems: list[Problem]) -> Health:
    """Find the workers that are connected to PostgreSQL, and the ``deliver`` that sends."""
    try:
        found = members_of(database)
    except StoreError as error:
        problems.append(Problem(Level.CRITICAL, str(error)))
        unknown = Process(is_running=None, pid=0)
        return Health(unknown, unknown, None, {}, [], problems, "worker", [])
    if not found.workers:
        problems.append(Problem(Level.CRITICAL, "no sshbell worker is connected to the database, so none reads lines"))
    run, deliver = (Process(is_running=bool(each), pid=0) for each in (found.workers, found.deliver))
    return Health(run, deliver, None, {}, [], problems, "worker", found.workers)


def _processes(config: Config, problems: list[Problem], fault: str) -> Health:
    """Find the processes of this machine by their locks."""
    state_dir = Path(config.state_dir)
    found: dict[str, Process] = {}
    for name in (RUN_LOCK, DELIVER_LOCK):
        try:
            found[name] = holder_of(state_dir / name)
        except OSError as error:
            fix = f"; run this as root or {config.user or 'its owner'}" if isinstance(error, PermissionError) else ""
            problems.append(Problem(Level.UNKNOWN, f"{state_dir / name}: {error.strerror}{fix}"))
            found[name] = Process(is_running=None, pid=0)
    health = Health(found[RUN_LOCK], found[DELIVER_LOCK], None, {}, [], problems)
    if config.worker.brokers:
        health.program = "worker"
    if not health.run.is_running and not any(problem.level == Level.UNKNOWN for problem in problems):
        remedy = "" if fault else "; restart rsyslog" if state_dir.exists() else "; run first: sudo sshbell install"
        what = "gathers no events of the shards" if installed_shards(DROP_IN) > 1 else "reads no lines"
        if config.worker.brokers:
            remedy, what = "", "reads no lines"
        problems.append(Problem(Level.CRITICAL, f"sshbell {health.program} is not running and {what}{remedy}"))
    return health


def _read(health: Health, config: Config) -> None:
    """Read the databases, and find the files that sshbell has set aside."""
    state_dir, is_fleet = Path(config.state_dir), isinstance(config.store, str)
    routed_seq = 0
    known: dict[str, ChannelState] = {}
    try:
        if is_fleet or (state_dir / DELIVERY_DB).exists():
            routed_seq, known = delivered(config.store)
    except StoreError as error:
        health.problems.append(Problem(Level.CRITICAL, str(error)))
    try:
        # It is missing until run has run, which is a problem already.
        if is_fleet or health.run.is_running or (state_dir / STATE_DB).exists():
            health.store = stored(config.store, routed_seq)
            if health.blocking is not None:
                note = health.store.notes.get(NOT_BLOCKED_NOTE, "{}")
                health.blocking.not_blocked = msgspec.json.decode(note, type=dict[str, int])
    except StoreError as error:
        health.problems.append(Problem(Level.CRITICAL, str(error)))
    names = [channel.name for channel in config.channel]
    health.channels = {name: known.get(name, ChannelState()) for name in names} | {
        name: channel for name, channel in sorted(known.items()) if name not in names and (channel.pending or channel.dead)
    }
    if not is_fleet:
        health.damaged = [file for name in (STATE_DB, DELIVERY_DB) for file in set_aside_of(state_dir / name)]


def _read_shards(health: Health, state_dir: Path) -> None:
    """Read the state of each shard."""
    installed = installed_shards(DROP_IN)
    folders = shards_in(state_dir)
    for number in sorted({*folders, *(range(installed) if installed > 1 else ())}):
        folder = shard_dir(state_dir, number)
        shard = ShardHealth(holder_of(folder / RUN_LOCK))
        is_wanted = installed > 1 and number < installed
        try:
            if number in folders:
                # An event stays in the queue until it is in a snapshot of the one that gathers.
                shard.store = stored(folder, 0)
        except StoreError as error:
            health.problems.append(Problem(Level.CRITICAL, str(error)))
        if not shard.run.is_running and not is_wanted:
            continue  # it is left from an earlier installation
        health.shards[number] = shard
        if not shard.run.is_running:
            text = f"shard {number} of sshbell is not running and reads no lines; restart rsyslog"
            health.problems.append(Problem(Level.CRITICAL, text))
        health.damaged += set_aside_of(folder / STATE_DB)


def _find_held(health: Health, config: Config, now_us: int) -> None:
    for channel in config.channel:
        waiting = {budget.name: (budget, count) for budget, count in health.channels[channel.name].spent}
        until_us = held_until((budget for budget, _count in waiting.values()), channel.max_per_hour, now_us)
        if until_us:
            health.held[channel.name] = sum(waiting[name][1] for name in until_us), max(until_us.values())


def _judge(health: Health, now_us: int) -> None:
    """Add the problems."""
    waits = [(f"channel {name}", channel.oldest_us) for name, channel in health.channels.items()]
    if health.store is not None:
        _judge_figures(health, health.store)
        if health.channels:
            waits.append(("the outbox", health.store.oldest_us))
        if health.run.is_running and (reason := health.store.notes.get("refused")):
            health.problems.append(Problem(Level.WARNING, f"sshbell run has refused the changed configuration: {reason}"))
        version = health.store.notes.get("version", __version__)
        if health.run.is_running and version != __version__:
            health.problems.append(
                Problem(Level.WARNING, f"version {version} is running, but {__version__} is installed: restart {_starts(health)}")
            )
    for name, oldest_us in waits:
        late_us = 0 if oldest_us is None else now_us - oldest_us
        if late_us > LATE_WARNING_US:
            level = Level.CRITICAL if late_us > LATE_CRITICAL_US else Level.WARNING
            health.problems.append(Problem(level, f"{name}: a message has been waiting for {late_us // 60_000_000:,} min"))
    health.problems += [
        Problem(Level.WARNING, f"channel {name}: {text}")
        for name, channel in health.channels.items()
        for text in _channel_problems(channel)
    ]
    if health.damaged:
        names = ", ".join(file.name for file in health.damaged)
        health.problems.append(Problem(Level.WARNING, f"sshbell set damaged files aside: {names}; remove what you do not need"))


def _starts(health: Health) -> str:
    """Return what to restart, so that ``health.program`` starts again."""
    return "rsyslog" if health.program == "run" else "sshbell worker"


def _channel_problems(channel: ChannelState) -> Iterator[str]:
    if channel.dead:
        yield f"{channel.dead:,} given up; see sshbell outbox"
    if (channel.last_error_us or 0) > (channel.last_success_us or 0):
        yield channel.last_error or "the last message failed"


def _judge_figures(health: Health, store: StoreState) -> None:
    figures = store.figures
    share = unmatched_share(figures)
    if share is not None and share > UNMATCHED_WARNING and _ours(figures) >= _SHARE_LEAST:
        text = f"{share:.0%} of the lines of sshd and PAM look like authentication, and no rule reads them"
        remedy = "sshbell explain shows how far each is read; please report it, and which program wrote it"
        health.problems.append(Problem(Level.WARNING, f"{text}{_such_as(store, 'unmatched')}; {remedy}"))
    lines, unframed = figures.get("lines_total", 0), figures.get("unframed_total", 0)
    if lines >= _SHARE_LEAST and unframed > lines * UNFRAMED_WARNING:
        text = f"{unframed / lines:.0%} of all lines are in no known framing"
        remedy = "sshbell check tells whether rsyslogd sends them as it should"
        health.problems.append(Problem(Level.WARNING, f"{text}{_such_as(store, 'unframed')}; {remedy}"))


def _such_as(store: StoreState, name: str) -> str:
    """Return an example for a problem, if there is one."""
    example = store.notes.get(name, "")
    return f", such as {example!r}" if example else ""


def _ours(figures: dict[str, int]) -> int:
    return figures.get("understood_total", 0) + figures.get("unmatched_total", 0)


def unmatched_share(figures: dict[str, int]) -> float | None:
    """Return the share of sshd and PAM lines that look like authentication but that no rule reads; None if there were none."""
    return figures.get("unmatched_total", 0) / _ours(figures) if _ours(figures) else None
