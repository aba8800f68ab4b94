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
_TITLES = {"unowned": "unowned", "shared": "shared", "unseen": "unseen", "account": "no account", "stale": "stale"}


@click.group(short_help="Compare people.toml with the keys in use.")
def people() -> None:
    """
    Compare people.toml, which names the owners of keys, certificates and accounts, with the keys in use.

    \b
        sudo sshbell people check
    """


@people.command(short_help="List unowned, shared and unused keys, and unknown accounts.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per finding, for programs.")
@CONFIG
@click.pass_context
def check(context: click.Context, config: str | None, *, as_json: bool) -> None:
    """
    List the differences between people.toml and the keys in use.

    It reads the logins in the store, the keys from "sshbell keys import" and, as root, the keys of this host's accounts. Faults
    are keys that belong to nobody, and keys of several people. Warnings are keys without a login for 90 days, accounts that do
    not seem to exist, and hosts whose keys were exported more than 7 days ago. The exit code is 78 if there is a fault.

    \b
        sudo sshbell people check
        sudo sshbell people check --json | jq -r 'select(.finding=="unowned").key'
    """
    from pathlib import Path

    from consumer.clock import now_us
    from consumer.config_file import load
    from consumer.ecs import json_line
    from consumer.errors import ConfigError, InputError, StoreError, complain
    from consumer.keys.index import KeyIndex
    from consumer.people.check import findings
    from consumer.people.people import People
    from consumer.show.columns import filled, painted
    from consumer.store.queries import keys_seen
    from consumer.text import harmless

    found = load(config)
    if not Path(found.people).exists():
        raise InputError(f"{found.people} does not exist; sshbell install creates a sample")
    known = People.load(found.people)

    left_out: list[str] = []

    def note(text: str) -> None:
        left_out.append(text)
        complain(InputError(text))

    state_dir = Path(found.state_dir)
    index = KeyIndex(state_dir, note)
    allowed = _allowed(index, note)
    try:
        oldest_us, seen = keys_seen(found.store)
    except StoreError as error:
        note(f"skipping the logins: {error}")
        oldest_us, seen = None, []
    has_fault, is_well = False, True
    for one in findings(known, allowed, index.stale_hosts(), seen, oldest_us, now_us()):
        has_fault, is_well = has_fault or one.state == "fault", False
        if as_json:
            import msgspec

            sys.stdout.buffer.write(json_line(msgspec.to_builtins(one)))
            continue
        state = painted(filled(one.state, 7), _COLORS[one.state], on=in_color())
        click.echo(f"{state}  {filled(_TITLES[one.finding], 10)}  {harmless(one.text)}")
    sys.stdout.flush()
    if is_well:
        # A user can make their own home hang, so that sshbell skips its keys. Then the verdict must not cover them.
        verdict = "the rest is fine" if left_out else "everything is fine"
        click.echo(f"{verdict}; people: {len(known.persons):,}, lines with keys: {len(allowed):,}", err=True)
    if has_fault:
        context.exit(ConfigError.exit_code)


def _allowed(index: "KeyIndex", note: "Callable[[str], None]") -> "list[Allowed]":
    """Return the known lines of authorized_keys: of hosts that exported theirs and, as root, of this host."""
    import os
    import socket

    from consumer.keys.export import exported_keys
    from consumer.keys.fingerprints import Fingerprints
    from consumer.people.check import Allowed

    allowed = [Allowed(Fingerprints(sha256, ""), account, host, comment) for host, sha256, account, comment in index.all_owned()]
    if os.geteuid() != 0:
        note("skipping the keys of this host's accounts; run it as root to include them: sudo sshbell people check")
        return allowed
    here = socket.gethostname().partition(".")[0]
    own = (key for key in exported_keys(note) if not key.is_authority)
    return [*allowed, *(Allowed(Fingerprints(key.sha256, key.md5), key.account, here, key.comment) for key in own)]
