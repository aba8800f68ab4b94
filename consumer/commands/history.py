"""``sshbell history``."""

import sys
from typing import TYPE_CHECKING

import click

from consumer.commands.options import (
    CONFIG,
    FILE,
    HOST,
    SINCE,
    UNTIL,
    USER,
    WIDE,
    ZONE,
    configuration_for_logs,
    in_color,
    number,
    width,
)
from consumer.errors import UsageError, missing_package

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import tzinfo

    from consumer.addresses import Network
    from consumer.config import Config
    from consumer.ecs import EcsEvent
    from consumer.events import Event, Login
    from consumer.places.geoip import Places
    from consumer.show.owner_names import Names
    from consumer.show.table import Table
    from consumer.store.event_rows import Session
    from consumer.store.queries import Asked


@click.command(short_help="Show who was logged in, and other events.")
@SINCE
@UNTIL
@USER
@HOST
@click.option("--address", metavar="NETWORK", help="Show only this address or network: 192.0.2.7, 2001:db8::/32.")
@click.option("--limit", type=number(1, 1_000_000_000), metavar="N", help="Show only the newest N.")
@click.option(
    "--events", "all_events", is_flag=True, help="Show events in place of sessions, with failed logins, probes and forged lines."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (Elastic Common Schema) per line.")
@click.option(
    "--csv", "as_csv", is_flag=True, help="Print CSV for a spreadsheet, with a ' before text that would act as a formula."
)
@click.option("--all-columns", is_flag=True, help="With --csv: add all other known values after the usual columns.")
@click.option("--from-archive", "archive", type=FILE, metavar="DIR", help="Read what sshbell archive has written, not the store.")
@WIDE
@ZONE
@CONFIG
def history(since: str | None, until: str | None, user: str | None, host: str | None, address: str | None, limit: int | None,
            zone: "tzinfo", config: str | None, archive: str | None, *, all_events: bool, as_json: bool, as_csv: bool,
            all_columns: bool, wide: bool) -> None:  # fmt: skip
    """
    Show who was logged in, from where, for how long; with --events, all events. The oldest comes first.

    --since and --until select all sessions that overlap the time between them, even if they began earlier. The configuration
    key "keep" sets how long sshbell keeps sessions.

    \b
        sudo sshbell history --since yesterday
        sudo sshbell history --since "2026-11-22 22:00" --until "2026-11-23 06:00"
        sudo sshbell history --user root --address 203.0.113.0/24 --limit 20
        sudo sshbell history --events --since 2026-11-22 --csv > november.csv
        sshbell history --from-archive /srv/ssh-2026 --user alice
    """
    from consumer import clock
    from consumer.errors import InputError, complain
    from consumer.places.geoip import Places
    from consumer.selection import Selection
    from consumer.show.owner_names import Names, asked_owners
    from consumer.show.table import EVENTS, SESSIONS, Table
    from consumer.store.queries import Asked
    from consumer.text import listed

    if as_csv and as_json:
        raise UsageError("--csv excludes --json")
    if all_columns and not as_csv:
        raise UsageError("--all-columns needs --csv; --json has all fields anyway")
    try:
        now_us = clock.now_us()
        selection = Selection.of(since, until, user, host, zone, now_us)
        asked = Asked(selection, _network(address), limit)
    except ValueError as error:
        raise UsageError(str(error)) from error
    if fault := selection.fault_of_future(zone, now_us):
        raise UsageError(fault)
    loaded, chosen, used = (
        _stored(config, asked, all_events=all_events)
        if archive is None
        else _archived(config, asked, archive, all_events=all_events)
    )
    names = Names(loaded, asked_owners(loaded, used))
    places = Places(loaded.geoip, lambda fault: complain(InputError(fault)))
    columns = EVENTS if all_events else SESSIONS
    table = Table(columns, zone, color=in_color(), width=width(is_wide=wide), noise=True, names=names, places=places)
    form = _rows_of(names, places, table, zone, now_us, as_json=as_json, as_csv=as_csv, all_columns=all_columns)
    shown = 0
    for shown, found in enumerate(chosen, 1):  # noqa: B007 - shown is used after the loop
        form(found)
    sys.stdout.flush()
    if not shown:
        what = "events" if all_events else "sessions"
        options = selection.options + (["--address"] if address is not None else [])
        source = "store" if archive is None else "archive"
        nothing = f"no {what} match {listed(options)}" if options else f"the {source} has no {what} yet"
        click.echo(f"sshbell: {nothing}", err=True)


def _rows_of(names: "Names", places: "Places", table: "Table", zone: "tzinfo", now_us: int, *, as_json: bool, as_csv: bool,
             all_columns: bool) -> "Callable[[Session | Event], object]":  # fmt: skip
    """Return a function that prints a session or an event."""
    from consumer.ecs import json_line
    from consumer.show.spreadsheet import Spreadsheet

    write = sys.stdout.buffer.write
    if as_json:
        return lambda found: write(json_line(places.add(names.add(_as_ecs(found)))))
    if as_csv:
        spreadsheet = Spreadsheet(zone, all_columns=all_columns)
        write(spreadsheet.head())
        return lambda found: write(spreadsheet.row(places.add(names.add(_as_ecs(found)))))
    return lambda found: sys.stdout.write(_row(found, table, now_us) + "\n")


# The configuration; the rows; and logins whose keys they show.
_Chosen = tuple["Config", "Iterable[Session | Event]", "Iterable[Login]"]


def _stored(config: str | None, asked: "Asked", *, all_events: bool) -> "_Chosen":
    import socket

    from consumer.config_file import load
    from consumer.store.queries import events, keys_used, sessions

    loaded = load(config)
    used = keys_used(loaded.store, asked, socket.gethostname(), of_events=all_events)
    return loaded, events(loaded.store, asked) if all_events else sessions(loaded.store, asked), used


def _archived(config: str | None, asked: "Asked", folder: str, *, all_events: bool) -> "_Chosen":
    from pathlib import Path

    try:
        from consumer.store.archive import archived_events, archived_sessions
    except ImportError as error:
        raise missing_package(error, "spark") from error
    read = archived_events if all_events else archived_sessions
    return configuration_for_logs(config), read(Path(folder), asked), ()


def _as_ecs(found: "Session | Event") -> "EcsEvent":
    from consumer.events_as_ecs import of_event, of_session
    from consumer.store.event_rows import Session

    return of_session(found.login, found.closed_us) if isinstance(found, Session) else of_event(found, [])


def _row(found: "Session | Event", table: "Table", now_us: int) -> str:
    from consumer.show.table import short_duration
    from consumer.store.event_rows import Session
    from consumer.store.queries import OPEN_LIMIT_US

    if not isinstance(found, Session):
        return table.row(found)
    opened_us = found.login.time_us
    if found.closed_us is None:
        lasted = "still in" if opened_us >= now_us - OPEN_LIMIT_US else "end lost"
    else:
        lasted = short_duration(found.closed_us - opened_us) if opened_us else "unknown"
    return table.session(found.login, lasted)


def _network(text: str | None) -> "Network | None":
    from ipaddress import ip_network

    from consumer.addresses import ip_of

    if text is None:
        return None
    try:
        return ip_network(ip_of(text) or text, strict=False)
    except ValueError:
        raise ValueError(
            f"--address: {text!r} is not an address or network; give 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32"
        ) from None
