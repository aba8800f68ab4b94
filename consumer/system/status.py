"""How sshbell itself is: what ``sshbell status`` finds, and what of it is a problem."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from enum import IntEnum
from pathlib import Path

import msgspec

from consumer import __version__
from consumer.config import Config
from consumer.deliver.decide import held_until
from consumer.errors import StoreError
from consumer.store.database import set_aside_of
from consumer.store.queries import ChannelState, StoreState, delivered, stored

# How long a message may wait. What a channel's max_per_hour holds back is told within the hour after.
LATE_WARNING_US = 15 * 60 * 1_000_000
LATE_CRITICAL_US = 4 * 3600 * 1_000_000
# Shares of lines that nobody understands, and from how many on a share says something.
UNMATCHED_WARNING = 0.05
UNFRAMED_WARNING = 0.05
_SHARE_LEAST = 100

# How long "sshbell status" waits for a process that is just starting: monitoring gives a plug-in 10 s or more.
START_S = 5.0

# Where both say why they do not run; the drop-in for rsyslog names it.
LOG = "/var/log/sshbell.err"


class Level(IntEnum):
    """The exit codes of monitoring-plugins.org, which Nagios, Icinga and others know."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3


class Problem(msgspec.Struct, frozen=True):
    """What is wrong, and how much it matters."""

    level: Level
    text: str


class Process(msgspec.Struct, frozen=True):
    """``run`` or ``deliver``; None, and a pid of 0, where that is not known."""

    is_running: bool | None
    pid: int


class Health(msgspec.Struct):
    """
    All that is known.

    Attributes:
        run, deliver: the two processes.
        store: None where it cannot be read.
        channels: those of the configuration, and others that still have messages.
        held: how many messages of a channel its ``max_per_hour`` holds back, and until when all of them.
        damaged: files that were set aside.
    """

    run: Process
    deliver: Process
    store: StoreState | None
    channels: dict[str, ChannelState]
    damaged: list[Path]
    problems: list[Problem]
    held: dict[str, tuple[int, int]] = msgspec.field(default_factory=dict)

    @property
    def level(self) -> Level:
        """The worst of all problems."""
        levels = {problem.level for problem in self.problems}
        # Unknown is the highest number, not the worst.
        return next((level for level in (Level.CRITICAL, Level.UNKNOWN, Level.WARNING) if level in levels), Level.OK)


def process(lock: Path) -> Process:
    """
    Tell whether somebody holds a lock, without more than a moment's hold of it.

    A shared one is enough to know, so that two who look do not see each other; whoever starts in this moment tries again.

    Raises:
        OSError: nobody knows.
    """
    try:
        descriptor = os.open(lock, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return Process(is_running=False, pid=0)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.read(descriptor, 20).strip()
        return Process(is_running=True, pid=int(text) if text.isdigit() else 0)
    finally:
        os.close(descriptor)
    return Process(is_running=False, pid=0)


def wait_for_start(config: Config) -> None:
    """Wait for processes that are just starting, ``START_S`` at most: people ask for the status right after a restart."""
    state_dir = Path(config.state_dir)
    names = ("run", "deliver") if config.channel else ("run",)
    deadline_s = time.monotonic() + START_S
    with suppress(OSError):
        while not all(process(state_dir / f"{name}.lock").is_running for name in names) and time.monotonic() < deadline_s:
            time.sleep(0.1)


def examine(config: Config, now_us: int) -> Health:
    """Look at locks, databases and files; what cannot be seen is a problem and not an error."""
    state_dir = Path(config.state_dir)
    problems: list[Problem] = []
    found: dict[str, Process] = {}
    for name in ("run", "deliver"):
        try:
            found[name] = process(state_dir / f"{name}.lock")
        except OSError as error:
            fix = f"; be root or {config.user or 'its owner'}" if isinstance(error, PermissionError) else ""
            problems.append(Problem(Level.UNKNOWN, f"{state_dir / name}.lock: {error.strerror}{fix}"))
            found[name] = Process(is_running=None, pid=0)
    health = Health(found["run"], found["deliver"], None, {}, [], problems)
    if problems:
        return health
    if not found["run"].is_running:
        problems.append(Problem(Level.CRITICAL, "sshbell run is not running: nobody reads the log; restart rsyslog"))
    if not found["deliver"].is_running and config.channel:
        problems.append(Problem(Level.CRITICAL, f"sshbell deliver is not running: no message goes out; see {LOG}"))
    _read(health, config, state_dir)
    _find_held(health, config, now_us)
    _judge(health, now_us)
    return health


def _read(health: Health, config: Config, state_dir: Path) -> None:
    """Read the databases, and find what was set aside."""
    routed_seq = 0
    known: dict[str, ChannelState] = {}
    try:
        if (state_dir / "delivery.db").exists():
            routed_seq, known = delivered(state_dir)
    except StoreError as error:
        health.problems.append(Problem(Level.CRITICAL, str(error)))
    try:
        health.store = stored(state_dir, routed_seq)
    except StoreError as error:
        health.problems.append(Problem(Level.CRITICAL, str(error)))
    names = [channel.name for channel in config.channel]
    health.channels = {name: known.get(name, ChannelState()) for name in names} | {
        name: channel for name, channel in sorted(known.items()) if name not in names and (channel.pending or channel.dead)
    }
    health.damaged = [file for name in ("state.db", "delivery.db") for file in set_aside_of(state_dir / name)]


def _find_held(health: Health, config: Config, now_us: int) -> None:
    for channel in config.channel:
        waiting = {budget.name: (budget, count) for budget, count in health.channels[channel.name].spent}
        until_us = held_until((budget for budget, _count in waiting.values()), channel.max_per_hour, now_us)
        if until_us:
            health.held[channel.name] = sum(waiting[name][1] for name in until_us), max(until_us.values())


def _judge(health: Health, now_us: int) -> None:
    """Name what is a problem."""
    waits = [(f"channel {name}", channel.oldest_us) for name, channel in health.channels.items()]
    if health.store is not None:
        _judge_figures(health, health.store.figures)
        if health.channels:
            waits.append(("the outbox", health.store.oldest_us))
        if health.run.is_running and (reason := health.store.notes.get("refused")):
            health.problems.append(Problem(Level.WARNING, f"the configuration was refused when it was read again: {reason}"))
        version = health.store.notes.get("version", __version__)
        if health.run.is_running and version != __version__:
            health.problems.append(
                Problem(Level.WARNING, f"version {version} runs and {__version__} is installed: restart rsyslog")
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
        health.problems.append(Problem(Level.WARNING, f"damaged and set aside: {names}; remove what you do not need"))


def _channel_problems(channel: ChannelState) -> Iterator[str]:
    if channel.dead:
        yield f"{channel.dead:,} given up; see sshbell outbox"
    if (channel.last_error_us or 0) > (channel.last_success_us or 0):
        yield channel.last_error or "the last message failed"


def _judge_figures(health: Health, figures: dict[str, int]) -> None:
    share = unmatched_share(figures)
    if share is not None and share > UNMATCHED_WARNING and _ours(figures) >= _SHARE_LEAST:
        health.problems.append(Problem(Level.WARNING, f"{share:.0%} of the lines of sshd and PAM are unmatched"))
    lines, unframed = figures.get("lines_total", 0), figures.get("unframed_total", 0)
    if lines >= _SHARE_LEAST and unframed > lines * UNFRAMED_WARNING:
        health.problems.append(Problem(Level.WARNING, f"{unframed / lines:.0%} of all lines are in no known framing"))


def _ours(figures: dict[str, int]) -> int:
    return figures.get("understood_total", 0) + figures.get("unmatched_total", 0)


def unmatched_share(figures: dict[str, int]) -> float | None:
    """Return which share of the lines of sshd and PAM no rule reads; None where there were none."""
    return figures.get("unmatched_total", 0) / _ours(figures) if _ours(figures) else None
