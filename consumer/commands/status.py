"""``sshbell status``."""

import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from consumer.commands.options import CONFIG, ZONE

if TYPE_CHECKING:
    from datetime import tzinfo

    from consumer.system.status import Health, Process

_TIMES = ("started_us", "last_line_us", "last_event_us")


@click.command(short_help="Show how sshbell itself is; for monitoring, too.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@ZONE
@CONFIG
def status(*, as_json: bool, zone: "tzinfo", config: str | None) -> None:
    """
    Show whether sshbell runs, what it has read, and whether its messages go out.

    The exit code is that of a Nagios plug-in: 0 ok, 1 warning, 2 critical, 3 unknown (configuration
    or state directory may not be read), also where nobody reads all of the text. The first line says why.

    \b
    critical    run or deliver does not run, the store cannot be read, a wrong configuration,
                a message has been waiting for more than 4 hours
    warning     a message has been waiting for more than 15 minutes or was given up, a channel's
                last message failed, more than 5 % of the lines are not understood, a damaged
                file was set aside, another version is installed than runs

    \b
        sudo sshbell status
        sudo sshbell status --json | jq .backlog
        sudo sshbell status | head -n 1
    """
    from consumer import clock
    from consumer.config import Config, load, state_dir_of
    from consumer.ecs import json_line
    from consumer.errors import ConfigError, ConfigRightsError
    from consumer.system.status import Health, Level, Problem, Process, examine, wait_for_start
    from consumer.text import harmless

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
            # What runs has the configuration from before; of the new one, where the state is has to do.
            health = examine(Config(state_dir=state_dir_of(config)), now_us)
            health.problems.insert(0, Problem(Level.CRITICAL, str(error)))
    said = "; ".join(problem.text for problem in sorted(health.problems, key=lambda problem: -problem.level))
    rows = [f"sshbell {health.level.name}: {said or 'it runs, and nothing waits too long'}"]
    rows += [f"{name:<12}{text}" for name, text in _rows(health, zone, now_us)]
    _write(json_line(_object(health)) if as_json else "".join(f"{harmless(row)}\n" for row in rows))
    click.get_current_context().exit(health.level)


def _write(text: str | bytes) -> None:
    """Write all of it; where the reader leaves, such as head -n 1, the exit code still counts."""
    try:
        click.echo(text, nl=False)
        sys.stdout.flush()
    except BrokenPipeError:
        # What is still buffered goes nowhere, and is no error at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _rows(health: "Health", zone: "tzinfo", now_us: int) -> Iterator[tuple[str, str]]:
    """Yield name and text of each line for people."""
    from datetime import datetime

    from consumer import __version__
    from consumer.show.table import duration_text
    from consumer.system.status import unmatched_share

    def moment(time_us: int | None) -> str:
        if not time_us:
            return "never"
        ago = duration_text(max(0, now_us - time_us) // 1_000_000 * 1_000_000)
        return f"{datetime.fromtimestamp(time_us // 1_000_000, zone):%Y-%m-%d %H:%M:%S} ({ago} ago)"

    figures = health.store.figures if health.store is not None else {}
    yield "run", _process(health.run) + (f", since {moment(figures['started_us'])}" if figures.get("started_us") else "")
    yield "deliver", _process(health.deliver)
    running = health.store.notes.get("version") if health.store is not None else None
    yield "version", f"{running or 'none'} ran last, {__version__} is installed" if running != __version__ else __version__
    if health.store is not None:
        yield "last line", moment(figures.get("last_line_us"))
        yield "last event", moment(figures.get("last_event_us"))
        share = unmatched_share(figures)
        yield "lines", ", ".join(
            f"{figures.get(f'{name}_total', 0):,} {text}"
            for name, text in (
                ("lines", "read"), ("understood", "understood"),
                ("unmatched", "unmatched" + ("" if share is None else f" ({share:.1%})")), ("unframed", "in no known framing"),
                ("redelivered", "delivered again"), ("caught_up", "found by catch_up"),
            )
        )  # fmt: skip
        yield "store", f"{figures.get('snapshots_total', 0):,} snapshots, {figures.get('damaged_total', 0):,} damaged files met"
    yield "backlog", _backlog(health, moment)
    for name, channel in health.channels.items():
        error = f"{moment(channel.last_error_us)}: {channel.last_error}" if channel.last_error_us else "never"
        held = ""
        if name in health.held:
            count, until_us = health.held[name]
            until = datetime.fromtimestamp(until_us // 1_000_000, zone)
            held = f" ({count:,} held back by max_per_hour until {until:%Y-%m-%d %H:%M:%S})"
        yield (
            "channel",
            (
                f"{name}: {channel.pending:,} pending{held}, {channel.dead:,} given up,"
                f" last success {moment(channel.last_success_us)}, last error {error}"
            ),
        )
    for file in health.damaged:
        yield "damaged", str(file)


def _process(process: "Process") -> str:
    if process.is_running is None:
        return "unknown"
    return f"runs (pid {process.pid or 'unknown'})" if process.is_running else "does not run"


def _process_object(process: "Process | None") -> dict[str, Any]:
    return {"running": None, "pid": None} if process is None else {"running": process.is_running, "pid": process.pid or None}


def _oldest_us(health: "Health") -> int | None:
    times = [health.store.oldest_us if health.store is not None else None]
    times += [channel.oldest_us for channel in health.channels.values()]
    return min((time_us for time_us in times if time_us is not None), default=None)


def _backlog(health: "Health", moment: Any) -> str:
    unrouted = health.store.unrouted if health.store is not None else 0
    oldest_us = _oldest_us(health)
    pending = sum(channel.pending for channel in health.channels.values())
    return f"{unrouted:,} not routed, {pending:,} pending" + ("" if oldest_us is None else f", the oldest of {moment(oldest_us)}")


def _object(health: "Health") -> dict[str, Any]:
    """Return all of it for programs; times are RFC 3339, as in events."""
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
