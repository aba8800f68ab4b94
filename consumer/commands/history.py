"""``sshbell history``."""

import sys
from typing import TYPE_CHECKING, Any

import click

from consumer.commands.options import CONFIG, HOST, SINCE, UNTIL, USER, ZONE, in_color, number, width
from consumer.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import tzinfo

    from consumer.addresses import Network
    from consumer.ecs import EcsEvent
    from consumer.events import Event
    from consumer.show.table import Table
    from consumer.store.queries import Session

# Of CSV: where the value stands in the JSON object.
_COLUMNS = (
    "timestamp", "event.action", "event.outcome", "event.start", "event.end", "event.duration", "user.name", "source.address",
    "source.port", "source.geo.name", "source.geo.city_name", "source.geo.country_iso_code", "source.as.number",
    "source.as.organization.name", "host.name", "ssh.method", "ssh.submethod", "ssh.key.type", "ssh.key.fingerprint",
    "ssh.certificate.id", "ssh.count", "ssh.reason", "ssh.claim", "ssh.origin", "ssh.ambiguous", "event.id", "user.full_name",
    "ssh.key.owner", "ssh.key.options", "ssh.certificate.ca_owner",
)  # fmt: skip
# A spreadsheet takes a cell that begins so for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@click.command(short_help="Show who was in, and what else happened.")
@SINCE
@UNTIL
@USER
@HOST
@click.option("--address", metavar="NETWORK", help="Only from this address or network: 192.0.2.7, 2001:db8::/32.")
@click.option("--limit", type=number(1, 1_000_000_000), metavar="N", help="Only the newest N.")
@click.option("--events", "all_events", is_flag=True, help="Tries, probes and forged lines as well, each event by itself.")
@click.option("--json", "form", flag_value="json", help="One JSON object (Elastic Common Schema) a line.")
@click.option("--csv", "form", flag_value="csv", help="For a spreadsheet; a text that it would take for a formula begins with '.")
@ZONE
@CONFIG
def history(since: str | None, until: str | None, user: str | None, host: str | None, address: str | None, limit: int | None,
            *, all_events: bool, form: str | None, zone: "tzinfo", config: str | None) -> None:  # fmt: skip
    """
    Show who was in, from where, for how long; with --events all that happened. The oldest comes first.

    What is shown is what the store keeps: see the key "keep" of the configuration.

    \b
        sudo sshbell history --since 7d
        sudo sshbell history --user root --address 203.0.113.0/24 --limit 20
        sudo sshbell history --events --since 2026-11-22 --csv > november.csv
    """
    import socket
    from pathlib import Path

    from consumer import clock
    from consumer.config import load
    from consumer.ecs import json_line
    from consumer.errors import InputError, complain
    from consumer.places.geoip import Places
    from consumer.selection import Selection
    from consumer.show.owner_names import Names
    from consumer.show.table import Table
    from consumer.store.queries import Asked, events, keys_used, sessions

    try:
        asked = Asked(Selection.of(since, until, user, host, zone), _network(address), limit)
    except ValueError as error:
        raise UsageError(str(error)) from error
    loaded = load(config)
    state_dir = Path(loaded.state_dir)
    names = Names(loaded, keys_used(state_dir, asked, socket.gethostname(), of_events=all_events))
    places = Places(loaded.geoip, lambda fault: complain(InputError(fault)))
    now_us = clock.now_us()
    table = Table(zone, color=in_color(), width=width(), noise=True, names=names, places=places)

    chosen: Iterable[Session | Event] = events(state_dir, asked) if all_events else sessions(state_dir, asked)
    write = sys.stdout.buffer.write
    if form == "csv":
        write(_csv(_COLUMNS))
    shown = 0
    for shown, found in enumerate(chosen, 1):  # noqa: B007 - what is counted
        match form:
            case "json":
                write(json_line(places.add(names.added(_as_ecs(found)))))
            case "csv":
                write(_csv(_cells(places.add(names.added(_as_ecs(found))))))
            case _:
                sys.stdout.write(_row(found, table, now_us) + "\n")
    sys.stdout.flush()
    if not shown:
        click.echo("sshbell: the store has nothing of what is asked for", err=True)


def _as_ecs(found: "Session | Event") -> "EcsEvent":
    from consumer.events_as_ecs import of_event, of_session
    from consumer.store.queries import Session

    return of_session(found.login, found.closed_us) if isinstance(found, Session) else of_event(found, [])


def _row(found: "Session | Event", table: "Table", now_us: int) -> str:
    from consumer.show.table import duration_text
    from consumer.store.queries import OPEN_LIMIT_US, Session

    if not isinstance(found, Session):
        return table.row(found)
    opened_us = found.login.time_us
    if found.closed_us is None:
        lasted = "still in" if opened_us >= now_us - OPEN_LIMIT_US else "no end logged"
    else:
        lasted = duration_text(found.closed_us - opened_us) if opened_us else "unknown"
    return table.session(found.login, lasted)


def _network(text: str | None) -> "Network | None":
    from ipaddress import ip_network

    from consumer.addresses import ip_of

    if text is None:
        return None
    try:
        return ip_network(ip_of(text) or text, strict=False)
    except ValueError:
        raise ValueError(f"--address: {text!r} is no address or network; give 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32") from None


def _cells(found: "EcsEvent") -> list[str]:
    """Return the values of all columns; "" for what is not known."""
    from msgspec import to_builtins

    fields = to_builtins(found)
    cells = []
    for column in _COLUMNS:
        value: Any = fields
        for name in ("@timestamp" if column == "timestamp" else column).split("."):
            value = value.get(name) if isinstance(value, dict) else None
        value = "; ".join(map(str, value)) if isinstance(value, tuple) else value
        cells.append("" if value is None else str(value).lower() if isinstance(value, bool) else str(value))
    return cells


def _csv(cells: "Iterable[str]") -> bytes:
    """Return a row of CSV that neither a spreadsheet nor a terminal obeys."""
    import csv
    import io

    from consumer.text import harmless

    out = io.StringIO()
    safe = [f"'{cell}" if cell.startswith(_FORMULA) else cell for cell in cells]
    csv.writer(out, lineterminator="\n").writerow([harmless(cell) for cell in safe])
    return out.getvalue().encode()
