"""``sshbell replay``."""

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from consumer.commands.options import FILE, HOST, SINCE, UNTIL, USER, in_color, number, reading, width
from consumer.errors import UsageError, end_with

if TYPE_CHECKING:
    from datetime import tzinfo

    from consumer.config import Config
    from consumer.events import Event
    from consumer.logs.replay import Summary
    from consumer.matching.matcher import Matcher
    from consumer.places.geoip import Places


@click.command(short_help="Tell who logged in and from where and for how long.")
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=FILE)
@click.option("--format", "form", type=click.Choice(["table", "json", "none"]), default="table", show_default=True,
              help="A table for people, JSON lines for programs, or the summary alone.")  # fmt: skip
@SINCE
@UNTIL
@USER
@HOST
@click.option("--jobs", type=number(1, 256), metavar="N", help="Processes that read and match; by default one per core.")
@reading
@click.pass_obj
def replay(settings: "Config", files: tuple[str, ...], matcher: "Matcher", form: str, since: str | None, until: str | None,
           user: str | None, host: str | None, jobs: int | None, year: int | None, zone: "tzinfo") -> None:  # fmt: skip
    """
    Tell what happened: who logged in, from where, with which key, for how long.

    FILEs may be plain, .gz, .bz2, .xz or .zst; several are put in the order of their times. "-" is standard input.

    \b
        sshbell replay /var/log/auth.log*
        sshbell replay --since 7d --user root /var/log/secure
        sshbell replay --format json auth.log | jq 'select(.event.action == "ssh_login")'
    """
    from consumer.logs.replay import Replay
    from consumer.selection import Selection
    from consumer.show.table import Table

    try:
        selection = Selection.of(since, until, user, host, zone)
    except ValueError as error:
        raise UsageError(str(error)) from error
    paths: list[str] = []
    tell: Callable[[Event], None]
    if form == "json":
        from consumer.ecs import json_line
        from consumer.events_as_ecs import of_event

        places = _places(settings)
        out = sys.stdout.buffer

        def tell(event: "Event") -> None:
            out.write(json_line(places.add(of_event(event, paths))))

    elif form == "table":
        table = Table(zone, color=in_color(), width=width(), places=_places(settings))

        def tell(event: "Event") -> None:
            if row := table.row(event):
                click.echo(row)

    else:

        def tell(event: "Event") -> None:
            pass

    with _progress(list(files), visible=form == "none" or not sys.stdout.isatty()) as progress:
        replayed = Replay(
            matcher, zone=zone, year=year, jobs=jobs or len(os.sched_getaffinity(0)), keep_text=form == "json", tell=tell,
            progress=progress, paths=paths, takes=None if selection.is_all else selection.takes,
        )  # fmt: skip
        summary = replayed.run(list(files))
    sys.stdout.flush()
    if paths:
        click.echo(summary_text(summary), err=form == "json")
    if paths and not selection.is_all and not summary.events:
        click.echo("sshbell: nothing that happened is what --since, --until, --user and --host ask for", err=True)
    end_with(replayed.errors)


def _places(settings: "Config") -> "Places":
    from consumer.errors import InputError, complain
    from consumer.places.geoip import Places

    return Places(settings.geoip, lambda fault: complain(InputError(fault)), many=True)


class _progress:  # noqa: N801 - used as a function
    """A bar on standard error, where a person looks at it; told of bytes read so far of the current file."""

    def __init__(self, paths: list[str], *, visible: bool) -> None:
        self._bar: Any = None
        self._done = self._last = 0
        if not visible or not sys.stderr.isatty():
            return
        size = 0
        for path in paths:
            with suppress(OSError):  # whoever opens it says why
                size += Path(path).stat().st_size
        if size > 1 << 20:
            self._bar = click.progressbar(length=size, label="reading", file=sys.stderr)

    def __enter__(self) -> Callable[[int], None]:
        if self._bar is not None:
            self._bar.__enter__()
        return self._to

    def _to(self, position: int) -> None:
        if self._bar is not None:
            self._bar.update(position - self._last if position >= self._last else position)
            self._last = position

    def __exit__(self, *details: object) -> None:
        if self._bar is not None:
            self._bar.__exit__(*details)


def summary_text(summary: "Summary") -> str:
    """What a replay has met, in a few lines."""
    from consumer.framing.framer import HINT

    others = summary.lines - summary.understood - summary.unmatched - summary.unframed
    lines = [
        f"{summary.lines:,} {'line' if summary.lines == 1 else 'lines'} read"
        f", {summary.understood:,} understood, {summary.unmatched:,} unmatched"
        + (f", {summary.unframed:,} in no known framing" if summary.unframed else "")
        + (f", {others:,} of other programs or empty" if others > 0 else "")
        + (f", {summary.cut:,} cut at 64 KiB" if summary.cut else "")
    ]
    if summary.actions:
        lines.append("lines:  " + ", ".join(f"{action} {count:,}" for action, count in summary.actions.items()))
    if summary.events:
        lines.append("events: " + ", ".join(f"{action} {count:,}" for action, count in summary.events.items()))
    if summary.unverified:
        lines.append(f"unverified logins: {summary.unverified:,} (the log does not say who wrote their lines)")
    if summary.unmatched:
        lines.append("""what is unmatched: sshbell parse FILE | jq 'select(.event.action == "unmatched")'""")
    if summary.unframed:
        lines.append("what is in no known framing: sshbell explain - < FILE | grep -A 1 'none fits'")
    if summary.unframed * 2 > summary.lines:
        lines.append(f"most lines are in no framing that sshbell knows; {HINT}")
    elif summary.lines and not summary.understood and not summary.unmatched:
        lines.append(f"no line of sshd, dropbear or PAM was found; if the log has some, its framing is not read; {HINT}")
    if summary.timeless:
        lines.append(
            f"times that cannot be read: {summary.timeless:,} (what these lines tell has none); from the journal, take LC_ALL=C"
        )
    if summary.notes:
        lines.append("limits: " + ", ".join(f"{name} {count:,}" for name, count in summary.notes.items()))
    return "\n".join(lines)
