"""``sshbell replay``."""

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from consumer.commands.options import FILE, HOST, SINCE, UNTIL, USER, WIDE, in_color, number, reading, width
from consumer.errors import UsageError, end_with

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import tzinfo

    from consumer.config import Config
    from consumer.detect.findings import PlaceOf
    from consumer.events import Event
    from consumer.logs.replay import Summary
    from consumer.matching.matcher import Matcher
    from consumer.places.geoip import Places
    from consumer.show.owner_names import Names


@click.command(short_help="Show who logged in, from where and for how long.")
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=FILE)
@click.option("--format", "form", type=click.Choice(["table", "json", "none"]), default="table", show_default=True,
              help="Print a table for people, JSON lines for programs, or only the summary.")  # fmt: skip
@SINCE
@UNTIL
@USER
@HOST
@click.option("--with", "other", type=FILE, metavar="NEW.toml",
              help="Show only the findings that this configuration would gain and lose against the current one.")  # fmt: skip
@click.option("--no-owners", is_flag=True, help="Do not look up people and key owners; this is faster.")
@WIDE
@click.option("--jobs", type=number(1, 256), metavar="N", help="Number of processes; by default one per core.")
@reading
@click.pass_obj
def replay(settings: "Config", files: tuple[str, ...], matcher: "Matcher", form: str, since: str | None, until: str | None,
           user: str | None, host: str | None, jobs: int | None, year: int | None, zone: "tzinfo", other: str | None, *,
           no_owners: bool, wide: bool) -> None:  # fmt: skip
    """
    Show who logged in, from where, with which key and for how long, from log files.

    FILEs may be plain, .gz, .bz2, .xz or .zst; sshbell sorts several by time. "-" is standard input.

    \b
        sshbell replay /var/log/auth.log*
        sshbell replay --since 7d --user root /var/log/secure
        sshbell replay --format json auth.log |
            jq 'select(.event.action == "ssh_login")'
        sshbell replay --with new.toml /var/log/auth.log*
    """
    from consumer.clock import now_us
    from consumer.logs.replay import Replay
    from consumer.selection import Selection
    from consumer.text import listed

    try:
        selection = Selection.of(since, until, user, host, zone, now_us())
    except ValueError as error:
        raise UsageError(str(error)) from error
    paths: list[str] = []
    places = None if form == "none" else _places(settings)
    tell = _show(settings, form, paths, zone, places, no_owners=no_owners, wide=wide)
    takes, place_of = None if selection.is_all else selection.takes, _place_of(settings, places)
    comparison = None
    if other is not None:
        from consumer.config_file import load
        from consumer.logs.compare_findings import FindingComparison

        comparison = FindingComparison(settings, load(other), tell, takes, place_of)
    with _progress(list(files), visible=form == "none" or not sys.stdout.isatty()) as progress:
        replayed = Replay(
            matcher, zone=zone, year=year, jobs=jobs or len(os.sched_getaffinity(0)), keep_text=form == "json",
            tell=tell if comparison is None else lambda _event: None, progress=progress, paths=paths, takes=takes,
            detect=settings.detect if comparison is None else None, block=settings.block, place_of=place_of,
            watch=None if comparison is None else comparison.take,
        )  # fmt: skip
        summary = replayed.run(list(files))
    sys.stdout.flush()
    if summary.lines or (paths and not replayed.errors):
        click.echo(summary_text(summary), err=form == "json")
    if comparison is not None:
        click.echo("\n".join(("findings with the new configuration:", *comparison.summary())), err=form == "json")
    if paths and not selection.is_all and not summary.events:
        # A log may come from a host whose clock is ahead, so this is no error.
        future = selection.fault_of_future(zone, now_us())
        click.echo(f"sshbell: {future or f'no events match {listed(selection.options)}'}", err=True)
    end_with(replayed.errors)


def _show(settings: "Config", form: str, paths: list[str], zone: "tzinfo", places: "Places | None", *, no_owners: bool,
          wide: bool) -> "Callable[..., None]":  # fmt: skip
    """Return a function that prints an event; after a sign, if it gets one, such as ``+``."""
    if form == "none" or places is None:
        return lambda _event, _sign="": None
    names = None if no_owners else _names(settings)
    if form == "json":
        import msgspec

        from consumer.ecs import json_line
        from consumer.events_as_ecs import of_event
        from consumer.logs.compare_findings import CHANGES

        out = sys.stdout.buffer

        def show_json(event: Any, sign: str = "") -> None:
            if sign:
                event = msgspec.structs.replace(event, labels=event.labels | {"change": CHANGES[sign]})
            found = of_event(event, paths)
            out.write(json_line(places.add(found if names is None else names.add(found))))

        return show_json
    from consumer.show.table import EVENTS, Table

    table = Table(EVENTS, zone, color=in_color(), width=width(is_wide=wide), names=names, places=places)
    write = sys.stdout.write

    def show_row(event: "Event", sign: str = "") -> None:
        if row := table.row(event):
            head, line, rest = row.rpartition("\n") if sign else ("", "", row)
            write(f"{f'  {head}' if head else ''}{line}{f'{sign} ' if sign else ''}{rest}\n")

    return show_row


def _places(settings: "Config") -> "Places":
    from consumer.errors import InputError, complain
    from consumer.places.geoip import Places

    return Places(settings.geoip, lambda fault: complain(InputError(fault)), many=True)


def _place_of(settings: "Config", places: "Places | None") -> "PlaceOf":
    """Return how the detectors find places: in the open databases, if the output needs them, too."""
    from consumer.detect.detectors import no_place
    from consumer.errors import InputError, complain
    from consumer.places.place_finder import PlaceFinder, place_in

    if places is not None:
        return partial(place_in, places) if places.databases else no_place
    finder = PlaceFinder(settings.geoip, lambda fault: complain(InputError(fault)))
    return finder if finder.has_databases else no_place


def _names(settings: "Config") -> "Names":
    from consumer.errors import InputError, complain
    from consumer.keys.local_owners import LocalOwners
    from consumer.show.owner_names import Names

    return Names(settings, LocalOwners(lambda fault: complain(InputError(fault))))


class _progress:  # noqa: N801 - used as a function
    """A progress bar on standard error, if that is a terminal; it gets the number of bytes read of the current file."""

    def __init__(self, paths: list[str], *, visible: bool) -> None:
        self._bar: Any = None
        self._done = self._last = 0
        if not visible or not sys.stderr.isatty():
            return
        size = 0
        for path in paths:
            with suppress(OSError):  # opening the file reports the reason
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
    """Return the counts of a replay as a few lines of text."""
    from consumer.text import counted

    others = summary.lines - summary.understood - summary.unmatched - summary.unframed
    lines = [
        f"{counted(summary.lines, 'line')} read"
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
        lines.append(f"unverified logins: {summary.unverified:,} (the log does not show which process wrote their lines)")
    if summary.refused:
        why = " (unverified: the log does not show which process wrote the lines)" if "unverified" in summary.refused else ""
        lines.append("not blocked: " + ", ".join(f"{reason} {count:,}" for reason, count in summary.refused.items()) + why)
    lines.extend(_advice(summary, others))
    if summary.notes:
        lines.append("limits: " + ", ".join(f"{name} {count:,}" for name, count in summary.notes.items()))
    return "\n".join(lines)


def _advice(summary: "Summary", others: int) -> "Iterator[str]":
    """Yield advice about lines that sshbell could not use; ``others`` counts those of other programs."""
    from consumer.framing.framer import HINT

    if not summary.lines:
        yield "the input is empty; older lines are in rotated files: sshbell replay /var/log/auth.log*"
        yield "if sshd logs to the journal: LC_ALL=C journalctl -u ssh -o json | sshbell replay -"
    if summary.unmatched:
        yield """to see unmatched lines: sshbell parse FILE | jq 'select(.event.action == "unmatched")'"""
    if summary.unframed:
        yield "to see lines in no known framing: sshbell explain - < FILE | grep -A 1 'none fits'"
    if summary.unframed * 2 > summary.lines:
        yield f"sshbell does not know the framing of most lines; {HINT}"
    elif summary.lines and not summary.understood and not summary.unmatched:
        yield f"no lines of sshd, dropbear or PAM; if there are some, sshbell cannot read their framing; {HINT}"
    if summary.timeless:
        yield (
            f"lines without a usable time: {summary.timeless:,} (their events have none); for a journal, use LC_ALL=C journalctl"
        )
    if others * 2 > summary.lines and summary.understood:
        yield "most lines are of other programs; if your sshd logs under another name, add that to sshd_programs"
