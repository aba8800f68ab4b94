"""``sshbell status``."""

import os
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

from consumer.commands.options import CONFIG, ZONE, in_color

if TYPE_CHECKING:
    from datetime import tzinfo

    from consumer.process.lock import Process
    from consumer.store.status_queries import ChannelState, StoreState
    from consumer.system.blocking_state import BlockingState
    from consumer.system.status import Health

    # Returns a time as text, with how long ago that was.
    _Moment = Callable[[int | None], str]

_TIMES = ("started_us", "last_line_us", "last_event_us")
# Why findings have blocked nobody, by ``Refusal``.
_NOT_BLOCKED = {
    "no_target": "without an address to block",
    "unverified": "from lines that any local user could have written",
    "loopback": "from this host itself",
    "allowed": "on the allow list",
    "live_session": "from an address with a session",
    "known": "from the address of a recent login",
    "blocked": "from an address that was blocked already",
}
_COLORS = {"OK": "green", "WARNING": "yellow", "CRITICAL": "red", "UNKNOWN": "magenta"}


@click.command(short_help="Show whether sshbell is healthy; also for monitoring.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@ZONE
@CONFIG
def status(*, as_json: bool, zone: "tzinfo", config: str | None) -> None:
    """
    Show whether sshbell is running, parsing its input and delivering its messages.

    The exit code is that of a Nagios plug-in: 0 ok, 1 warning, 2 critical, 3 unknown (you may not read the
    configuration or the state directory). It stays the same if the reader of a pipe stops early. The first line gives the worst
    problem, and the lines after it the others.

    \b
    critical    run or deliver is not running, the store is unreadable,
                the configuration has a fault, a message has been
                waiting for more than 4 hours
    warning     a message has been waiting for more than 15 minutes,
                or sshbell gave up on it; a channel's last message
                failed; blocking does not work as configured;
                sshbell has no rule for more than 5 % of the
                lines; it set a damaged file aside; the running
                version is not the installed one

    \b
        sudo sshbell status
        sudo sshbell status --json | jq .backlog
        sudo sshbell status | head -n 1
    """
    from consumer import clock
    from consumer.config import Config
    from consumer.config_file import load, state_dir_of
    from consumer.ecs import json_line
    from consumer.errors import ConfigError, ConfigRightsError
    from consumer.process.lock import Process
    from consumer.show.columns import painted
    from consumer.system.status import Health, Level, Problem, examine, wait_for_start
    from consumer.text import counted, harmless

    now_us = clock.now_us()
    try:
        loaded = load(config)
        wait_for_start(loaded)
        health = examine(loaded, now_us)
    except ConfigError as error:
        if isinstance(error, ConfigRightsError):
            unknown = Process(is_running=None, pid=0)
            health = Health(unknown, unknown, None, {}, [], [Problem(Level.UNKNOWN, str(error))])
        else:
            # The running sshbell still uses the old configuration. Of the new one, this needs only the state directory.
            health = examine(Config(state_dir=state_dir_of(config)), now_us, str(error))
    problems = sorted(health.problems, key=lambda problem: -problem.level)
    first = f"sshbell {health.level.name}: {problems[0].text if problems else 'it is running, and no message waits too long'}"
    if len(problems) > 1:
        first += f" (and {counted(len(problems) - 1, 'more problem')})"
    if as_json:
        _write(json_line(_object(health)))
    else:
        on = in_color()
        rows = [painted(harmless(first), _COLORS[health.level.name], bold=True, on=on)]
        shown = [("problem", problem.text, _COLORS[problem.level.name]) for problem in problems[1:]]
        rows += [
            f"{painted(f'{name:<12}', bold=True, on=on)}{painted(harmless(text), color, on=on)}"
            for name, text, color in (*shown, *_rows(health, zone, now_us))
        ]
        _write("".join(f"{row}\n" for row in rows))
    click.get_current_context().exit(health.level)


def _write(text: str | bytes) -> None:
    """Write the output. If the reader closes it early, as head -n 1 does, the exit code still counts."""
    try:
        click.echo(text, nl=False)
        sys.stdout.flush()
    except BrokenPipeError:
        # Discard the rest of the buffer, which would raise an error at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _rows(health: "Health", zone: "tzinfo", now_us: int) -> Iterator[tuple[str, str, str]]:
    """Yield name, text and colour of each row for people."""
    from consumer.show.table import short_duration

    def moment(time_us: int | None) -> str:
        if not time_us:
            return "never"
        ago = short_duration(max(0, now_us - time_us) // 1_000_000 * 1_000_000)
        return f"{_clock_text(time_us, zone)} ({ago} ago)"

    yield from _process_rows(health, moment)
    if health.store is not None:
        yield from _store_rows(health.store, moment)
    yield "backlog", _backlog(health, moment), ""
    for name, channel in health.channels.items():
        held = ""
        if name in health.held:
            count, until_us = health.held[name]
            held = f" ({count:,} held back by max_per_hour until {_clock_text(until_us, zone)})"
        yield _channel_row(name, channel, held, moment)
    for file in health.damaged:
        yield "damaged", str(file), "yellow"


def _clock_text(time_us: int, zone: "tzinfo") -> str:
    from datetime import datetime

    return f"{datetime.fromtimestamp(time_us // 1_000_000, zone):%Y-%m-%d %H:%M:%S}"


def _process_rows(health: "Health", moment: "_Moment") -> Iterator[tuple[str, str, str]]:
    from consumer import __version__
    from consumer.text import listed

    started_us = None if health.store is None else health.store.figures.get("started_us")
    since = f", since {moment(started_us)}" if started_us else ""
    workers = "" if not health.workers else f", connected to the database: {listed(health.workers)}"
    yield health.program, _process(health.run) + workers + since, _process_color(health.run)
    for number, shard in health.shards.items():
        figures = {} if shard.store is None else shard.store.figures
        lines, last = f"{figures.get('lines_total', 0):,} lines", moment(figures.get("last_line_us"))
        yield "shard", f"{number}: {_process(shard.run)}, {lines}, last {last}", _process_color(shard.run)
    yield "deliver", _process(health.deliver), _process_color(health.deliver)
    if health.blocking is not None:
        yield "blocking", _blocking(health.blocking), "" if not health.blocking.problems else "yellow"
        if health.blocking.not_blocked:
            yield "not blocked", _not_blocked(health.blocking.not_blocked), ""
    running = health.store.notes.get("version") if health.store is not None else None
    is_current = running == __version__
    version = __version__ if is_current else f"last started: {running or 'none'}, installed: {__version__}"
    yield "version", version, "" if is_current else "yellow"


def _store_rows(store: "StoreState", moment: "_Moment") -> Iterator[tuple[str, str, str]]:
    from consumer.system.status import unmatched_share
    from consumer.text import counted

    figures = store.figures
    yield "last line", moment(figures.get("last_line_us")), ""
    yield "last event", moment(figures.get("last_event_us")), ""
    share = unmatched_share(figures)
    words = {
        "lines": "read", "understood": "understood", "unmatched": "unmatched" + ("" if share is None else f" ({share:.1%})"),
        "unframed": "in no known framing", "redelivered": "delivered again", "caught_up": "found by catch_up",
    }  # fmt: skip
    yield "lines", ", ".join(f"{figures.get(f'{name}_total', 0):,} {text}" for name, text in words.items()), ""
    damaged = counted(figures.get("damaged_total", 0), "damaged file")
    yield "store", f"{counted(figures.get('snapshots_total', 0), 'snapshot')}, {damaged} found", ""


def _channel_row(name: str, channel: "ChannelState", held: str, moment: "_Moment") -> tuple[str, str, str]:
    error = f"{moment(channel.last_error_us)}: {channel.last_error}" if channel.last_error_us else "never"
    text = (
        f"{name}: {channel.pending:,} pending{held}, {channel.dead:,} given up,"
        f" last success {moment(channel.last_success_us)}, last error {error}"
    )
    is_failing = (channel.last_error_us or 0) > (channel.last_success_us or 0)
    return "channel", text, "yellow" if channel.dead or is_failing or held else ""


def _process_color(process: "Process") -> str:
    return {True: "green", False: "red", None: ""}[process.is_running]


def _process(process: "Process") -> str:
    if process.is_running is None:
        return "unknown"
    if not process.is_running:
        return "not running"
    return f"running (pid {process.pid})" if process.pid else "running"


def _blocking(found: "BlockingState") -> str:
    from consumer.text import counted

    if found.mode != "on":
        return "dry-run: sshbell only reports what it would block"
    if found.guard is None:
        return f"{counted(found.blocked, 'target')} on the list for other machines: sshbell block export"
    return f"{counted(found.blocked, 'target')} blocked, guard is {_process(found.guard)}"


def _not_blocked(counts: dict[str, int]) -> str:
    from consumer.text import counted

    reasons = ", ".join(f"{count:,} {_NOT_BLOCKED.get(reason, reason)}" for reason, count in counts.items())
    return f"{counted(sum(counts.values()), 'finding')} since the start: {reasons}"


def _process_object(process: "Process | None") -> dict[str, Any]:
    return {"running": None, "pid": None} if process is None else {"running": process.is_running, "pid": process.pid or None}


def _oldest_us(health: "Health") -> int | None:
    times = [health.store.oldest_us if health.store is not None else None]
    times += [channel.oldest_us for channel in health.channels.values()]
    return min((time_us for time_us in times if time_us is not None), default=None)


def _backlog(health: "Health", moment: "_Moment") -> str:
    unrouted = health.store.unrouted if health.store is not None else 0
    oldest_us = _oldest_us(health)
    pending = sum(channel.pending for channel in health.channels.values())
    return f"{unrouted:,} not routed, {pending:,} pending" + ("" if oldest_us is None else f", oldest from {moment(oldest_us)}")


def _object(health: "Health") -> dict[str, Any]:
    """Return everything for programs; times are in RFC 3339, as in events."""
    from consumer import __version__
    from consumer.clock import isoformat
    from consumer.system.status import unmatched_share

    def moment(time_us: int | None) -> str | None:
        return isoformat(time_us) if time_us else None

    figures = health.store.figures if health.store is not None else {}
    return {
        "status": health.level.name.lower(),
        "problems": [{"level": problem.level.name.lower(), "text": problem.text} for problem in health.problems],
        "run": _process_object(health.run),
        "deliver": _process_object(health.deliver),
        "workers": health.workers,
        "shards": [
            {
                "shard": number, **_process_object(shard.run),
                "lines": None if shard.store is None else shard.store.figures.get("lines_total", 0),
                "last_line": None if shard.store is None else moment(shard.store.figures.get("last_line_us")),
            }
            for number, shard in health.shards.items()
        ],
        "blocking": None
        if health.blocking is None
        else {
            "mode": health.blocking.mode, "guard": _process_object(health.blocking.guard), "blocked": health.blocking.blocked,
            "not_blocked": health.blocking.not_blocked,
        },
        "version": {
            "running": health.store.notes.get("version") if health.store is not None else None, "installed": __version__,
        },
        **{name.removesuffix("_us"): moment(figures.get(name)) for name in _TIMES},
        "lines": {name: value for name, value in sorted(figures.items()) if name.endswith("_total")}
        | {"unmatched_share": unmatched_share(figures)},
        "backlog": {
            "unrouted": health.store.unrouted if health.store is not None else None,
            "pending": sum(channel.pending for channel in health.channels.values()),
            "oldest": moment(_oldest_us(health)),
        },
        "channels": [
            {
                "name": name, "pending": channel.pending, "dead": channel.dead, "oldest": moment(channel.oldest_us),
                "held": health.held[name][0] if name in health.held else 0,
                "held_until": moment(health.held[name][1]) if name in health.held else None,
                "last_success": moment(channel.last_success_us), "last_error": moment(channel.last_error_us),
                "last_error_reason": channel.last_error,
            }
            for name, channel in health.channels.items()
        ],
        "damaged": [str(file) for file in health.damaged],
    }  # fmt: skip
