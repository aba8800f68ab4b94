"""``sshbell people``."""

import sys
from typing import TYPE_CHECKING

import click

from consumer.commands.options import CONFIG, in_color

if TYPE_CHECKING:
    from collections.abc import Callable

    from consumer.keys.index import KeyIndex
    from consumer.people.check import Allowed

_COLORS = {"warning": "yellow", "fault": "red"}
_TITLES = {"nobodys": "nobody's", "shared": "shared", "unseen": "unseen", "account": "no account", "stale": "stale"}


@click.group(short_help="Compare people.toml with the keys that are in use.")
def people() -> None:
    """
    Compare people.toml, which says who keys, certificates and accounts belong to, with what is in use.

    \b
        sudo sshbell people check
    """


@people.command(short_help="Say which keys are nobody's, shared or unused, and which accounts are not there.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a finding, for programs.")
@CONFIG
@click.pass_context
def check(context: click.Context, config: str | None, *, as_json: bool) -> None:
    """
    Say where people.toml and the keys that are in use do not agree.

    Looks at the logins of the store, at the keys that "sshbell keys import" has brought and, as root, at those of this host's
    accounts. Faults are keys that nobody has, and keys of several people; warnings are keys without a login for 90 days,
    accounts that are not known to exist, and hosts whose keys were exported more than 7 days ago. Ends with 78 where something
    is a fault.

    \b
        sudo sshbell people check
        sudo sshbell people check --json | jq -r 'select(.finding == "nobodys").key'
    """
    from pathlib import Path

    from consumer.clock import now_us
    from consumer.config import load
    from consumer.ecs import json_line
    from consumer.errors import ConfigError, InputError, StoreError, complain
    from consumer.keys.index import KeyIndex
    from consumer.people.check import findings
    from consumer.people.people import People
    from consumer.store.queries import keys_seen
    from consumer.text import harmless

    found = load(config)
    if not Path(found.people).exists():
        raise InputError(f"{found.people} is not there; sshbell install puts a sample there")
    known = People.load(found.people)

    left_out: list[str] = []

    def note(text: str) -> None:
        left_out.append(text)
        complain(InputError(text))

    state_dir = Path(found.state_dir)
    index = KeyIndex(state_dir, note)
    allowed = _allowed(index, note)
    try:
        oldest_us, seen = keys_seen(state_dir)
    except StoreError as error:
        note(f"logins are left out: {error}")
        oldest_us, seen = None, []
    has_fault, is_well = False, True
    for one in findings(known, allowed, index.stale_hosts(), seen, oldest_us, now_us()):
        has_fault, is_well = has_fault or one.state == "fault", False
        if as_json:
            import msgspec

            sys.stdout.buffer.write(json_line(msgspec.to_builtins(one)))
            continue
        state = f"{one.state:<7}"
        state = click.style(state, fg=_COLORS[one.state]) if in_color() else state
        click.echo(f"{state}  {_TITLES[one.finding]:<10}  {harmless(one.text)}")
    sys.stdout.flush()
    if is_well:
        # Whoever makes their own home hang, so that its keys are left out, must not have it called well.
        verdict = "the rest is well" if left_out else "all is well"
        click.echo(f"{verdict}; people: {len(known.persons):,}, lines with keys: {len(allowed):,}", err=True)
    if has_fault:
        context.exit(ConfigError.exit_code)


def _allowed(index: "KeyIndex", note: "Callable[[str], None]") -> "list[Allowed]":
    """Return the keys that are known to be good for an account: of hosts that exported theirs and, as root, of this one."""
    import os
    import socket

    from consumer.keys.export import exported_keys
    from consumer.keys.fingerprints import Fingerprints
    from consumer.people.check import Allowed

    allowed = [Allowed(Fingerprints(sha256, ""), key.account, host, key.comment) for host, sha256, key in index.all_keys()]
    if os.geteuid() != 0:
        note("the keys of this host's accounts are left out; call it as root to see them: sudo sshbell people check")
        return allowed
    here = socket.gethostname().partition(".")[0]
    own = (key for key in exported_keys(note) if not key.authority)
    return [*allowed, *(Allowed(Fingerprints(key.sha256, key.md5), key.account, here, key.comment) for key in own)]
