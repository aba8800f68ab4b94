"""``sshbell history``."""

import sys
from typing import TYPE_CHECKING

import click

from consumer.commands.options import CONFIG, HOST, SINCE, UNTIL, USER, WIDE, ZONE, in_color, number, width
from consumer.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import tzinfo

    from consumer.addresses import Network
    from consumer.ecs import EcsEvent
    from consumer.events import Event
    from consumer.show.table import Table
    from consumer.store.queries import Session


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
@WIDE
@ZONE
@CONFIG
def history(since: str | None, until: str | None, user: str | None, host: str | None, address: str | None, limit: int | None,
            zone: "tzinfo", config: str | None, *, all_events: bool, as_json: bool, as_csv: bool, all_columns: bool,
            wide: bool) -> None:  # fmt: skip
    """
    Show who was logged in, from where, for how long; with --events, all events. The oldest comes first.

    --since and --until select all sessions that overlap the time between them, even if they began earlier. The configuration
    key "keep" sets how long sshbell keeps sessions.

    \b
        sudo sshbell history --since yesterday
        sudo sshbell history --since "2026-11-22 22:00" --until "2026-11-23 06:00"
        sudo sshbell history --user root --address 203.0.113.0/24 --limit 20
        sudo sshbell history --events --since 2026-11-22 --csv > november.csv
    """
    import socket
    from pathlib import Path

    from consumer import clock
    from consumer.config_file import load
    from consumer.ecs import json_line
    from consumer.errors import InputError, complain
    from consumer.places.geoip import Places
    from consumer.selection import Selection
    from consumer.show.owner_names import Names, asked_owners
    from consumer.show.spreadsheet import Spreadsheet
    from consumer.show.table import EVENTS, SESSIONS, Table
    from consumer.store.queries import Asked, events, keys_used, sessions
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
    loaded = load(config)
    state_dir = Path(loaded.state_dir)
    names = Names(loaded, asked_owners(loaded, keys_used(state_dir, asked, socket.gethostname(), of_events=all_events)))
    places = Places(loaded.geoip, lambda fault: complain(InputError(fault)))
    columns = EVENTS if all_events else SESSIONS
    table = Table(columns, zone, color=in_color(), width=width(is_wide=wide), noise=True, names=names, places=places)

    chosen: Iterable[Session | Event] = events(state_dir, asked) if all_events else sessions(state_dir, asked)
    write = sys.stdout.buffer.write
    spreadsheet = Spreadsheet(zone, all_columns=all_columns)
    if as_csv:
        write(spreadsheet.head())
    shown = 0
    for shown, found in enumerate(chosen, 1):  # noqa: B007 - shown is used after the loop
        if as_json:
            write(json_line(places.add(names.added(_as_ecs(found)))))
        elif as_csv:
            write(spreadsheet.row(places.add(names.added(_as_ecs(found)))))
        else:
            sys.stdout.write(_row(found, table, now_us) + "\n")
    sys.stdout.flush()
    if not shown:
        what = "events" if all_events else "sessions"
        options = selection.options + (["--address"] if address is not None else [])
        nothing = f"no {what} match {listed(options)}" if options else f"the store has no {what} yet"
        click.echo(f"sshbell: {nothing}", err=True)


def _as_ecs(found: "Session | Event") -> "EcsEvent":
    from consumer.events_as_ecs import of_event, of_session
    from consumer.store.queries import Session

    return of_session(found.login, found.closed_us) if isinstance(found, Session) else of_event(found, [])


def _row(found: "Session | Event", table: "Table", now_us: int) -> str:
    from consumer.show.table import short_duration
    from consumer.store.queries import OPEN_LIMIT_US, Session

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
