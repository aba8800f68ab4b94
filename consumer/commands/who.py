"""``sshbell who``."""

import sys
from typing import TYPE_CHECKING

import click

from consumer.commands.options import CONFIG, HOST, USER, WIDE, ZONE, in_color, width

if TYPE_CHECKING:
    from datetime import tzinfo


@click.command(short_help="Show who is logged in now.")
@USER
@HOST
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (Elastic Common Schema) per line.")
@WIDE
@ZONE
@CONFIG
def who(user: str | None, host: str | None, *, as_json: bool, wide: bool, zone: "tzinfo", config: str | None) -> None:
    """
    Show who is logged in now: since when, from where, with which key, on which host.

    sshbell relies on the log. If the log never shows the end of a session, sshbell leaves the session out after 30 days, and
    prints the number of such sessions.

    \b
        sudo sshbell who
        sudo sshbell who --host bastion1 --user alice
        sudo sshbell who --json | jq -r .source.ip
    """
    import socket

    from consumer import clock
    from consumer.config_file import load
    from consumer.ecs import json_line
    from consumer.errors import InputError, complain
    from consumer.events_as_ecs import of_session
    from consumer.places.geoip import Places
    from consumer.show.owner_names import Names, asked_owners
    from consumer.show.table import OPEN_SESSIONS, Table
    from consumer.store.queries import endless_total, keys_used, open_now, sessions

    loaded = load(config)
    now_us = clock.now_us()
    asked = open_now(user, host, now_us)
    names = Names(loaded, asked_owners(loaded, keys_used(loaded.store, asked, socket.gethostname(), of_events=False)))
    places = Places(loaded.geoip, lambda fault: complain(InputError(fault)))
    table = Table(OPEN_SESSIONS, zone, color=in_color(), width=width(is_wide=wide), names=names, places=places)
    shown = 0
    for session in sessions(loaded.store, asked):
        shown += 1
        if as_json:
            sys.stdout.buffer.write(json_line(places.add(names.add(of_session(session.login, None)))))
        else:
            click.echo(table.session(session.login))
    sys.stdout.flush()
    if not shown and not as_json:
        click.echo("nobody is logged in", err=True)
    if left_out := endless_total(loaded.store, user, host, now_us):
        click.echo(f"left out: {left_out:,} from more than 30 days ago, whose end the log does not show", err=as_json)
