"""``sshbell block``."""

from typing import TYPE_CHECKING, Any

import click

from consumer.commands.options import CONFIG, FILE, ZONE, in_color, width
from consumer.errors import RightsError, TryLaterError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import tzinfo

    from consumer.config import Config
    from consumer.store.block import BlockRow

JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line, for programs.")
RELATIVE = click.option("--relative", is_flag=True, help="Show how long ago and how long from now, not dates.")


@click.group(short_help="Show, add, remove and explain blocks of addresses and users.")
def block() -> None:
    """
    Show what sshbell blocks and why, block by hand, and lift blocks.

    A TARGET is an address, a network such as 192.0.2.0/24 or 2001:db8::/64, or a user, written user:NAME.

    \b
        sudo sshbell block list
        sudo sshbell block check 192.0.2.7
        sudo sshbell block remove 192.0.2.7
    """


def _complete(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Return the blocked targets for the shell; none if the store cannot be read."""
    from shlex import quote

    from consumer.errors import SshbellError

    try:
        rows, _ = _entries(_loaded(context.params.get("config")))
    except SshbellError:
        return []
    # The shell puts them on the command line as they are: a stranger's user name may hold a command.
    return sorted({row.target for row in rows if row.target.startswith(incomplete) and quote(row.target) == row.target})


def _loaded(path: str | None) -> "Config":
    from consumer.config_file import load

    return load(path)


def _entries(config: "Config") -> "tuple[list[BlockRow], list[BlockRow]]":
    """Return the entries that apply now, and the others."""
    from consumer.clock import now_us
    from consumer.guard.entries import entries_of

    now = now_us()
    rows = entries_of(config)
    active = [row for row in rows if row.until_us > now and row.removed_us is None]
    return active, [row for row in rows if not (row.until_us > now and row.removed_us is None)]


def _matching(rows: "Iterable[BlockRow]", patterns: tuple[str, ...]) -> "list[BlockRow]":
    """Return the entries whose target is one of these, or fits one of these patterns."""
    from fnmatch import fnmatchcase

    from consumer.block.target import target_of

    wanted = set()
    for pattern in patterns:
        try:
            wanted.add(target_of(pattern).text)
        except ValueError:
            wanted.add(pattern)
    # A name may have brackets, or be a pattern itself.
    return [row for row in rows if not patterns or row.target in wanted or any(fnmatchcase(row.target, text) for text in wanted)]


def _targets(texts: tuple[str, ...]) -> list[str]:
    """Return targets in their only form."""
    from consumer.block.target import is_too_wide, target_of

    found = []
    for text in texts:
        try:
            target = target_of(text)
        except ValueError as error:
            raise UsageError(f"{error}; a target is an address, a network, or user:NAME") from error
        if is_too_wide(target):
            raise UsageError(
                f"{target.text} holds a large part of the world; sshbell blocks no network larger than /8, or /16 in IPv6"
            )
        found.append(target.text)
    return found


@block.command("list", short_help="List the blocks, or the allow list.")
@click.argument("patterns", nargs=-1, metavar="[TARGET...]", shell_complete=_complete)
@click.option("--all", "everything", is_flag=True, help="Also list blocks that have ended or that somebody has removed.")
@click.option("--allowed", is_flag=True, help="Show the allow list, with source, reason and end.")
@click.option("--verbose", is_flag=True, help="Also list the newest failed logins of each address or user.")
@RELATIVE
@JSON
@ZONE
@CONFIG
def list_(
    patterns: tuple[str, ...], zone: "tzinfo", config: str | None, *, everything: bool, allowed: bool, verbose: bool,
    relative: bool, as_json: bool,
) -> None:  # fmt: skip
    """
    List the blocks that apply now, their ends and their reasons.

    A TARGET may contain * and ? as in a shell.

    \b
        sudo sshbell block list --relative
        sudo sshbell block list '192.0.2.*' 'user:*' --verbose
        sudo sshbell block list --all --json | jq .target
        sudo sshbell block list --allowed
    """
    from consumer.ecs import json_line
    from consumer.show.blocks import block_object, block_table, tries_before

    found = _loaded(config)
    if allowed:
        _list_allowed(found, as_json=as_json)
        return
    active, others = _entries(found)
    rows = _matching(sorted((*active, *(others if everything else ())), key=lambda row: (row.begin_us, row.id)), patterns)
    if as_json:
        for row in rows:
            tries = {"attempts": list(tries_before(found.store, row, zone))} if verbose else {}
            click.echo(json_line(block_object(row) | tries), nl=False)
        return
    if not rows:
        click.echo("nothing is blocked" if not patterns else "no block matches")
    tries_of = found.store if verbose else None
    for text in block_table(rows, zone, width(), in_color=in_color(), is_relative=relative, tries_of=tries_of):
        click.echo(text)
    _warn_of_mode(found)


def _warn_of_mode(config: "Config") -> None:
    from pathlib import Path

    from consumer.process.lock import GUARD_LOCK, holder_of

    if config.block.mode != "on":
        click.echo(f'note: mode = "{config.block.mode}" under [block]: sshbell blocks nothing', err=True)
        return
    if config.worker.brokers:
        return  # the machines that import the list block
    try:
        is_running = holder_of(Path(config.state_dir) / GUARD_LOCK).is_running
    except OSError:
        return
    if not is_running:
        click.echo("note: guard is not running: sshbell blocks nothing new, and no block ends; see: sshbell status", err=True)


def _list_allowed(config: "Config", *, as_json: bool) -> None:
    from pathlib import Path

    from consumer.ecs import json_line
    from consumer.show.blocks import allowed_line, allowed_object
    from consumer.store.block import StoredBlocks

    rows = StoredBlocks(Path(config.state_dir)).allowed()
    if not rows and not as_json:
        click.echo("the allow list is empty: guard fills it when it starts")
    for row in rows:
        click.echo(json_line(allowed_object(row)) if as_json else f"{allowed_line(row)}\n", nl=False)


@block.command(short_help="Block addresses, networks or users for some time.")
@click.argument("targets", nargs=-1, required=True, metavar="TARGET...")
@click.option("--for", "span", default="1h", show_default=True, metavar="SPAN", help="How long: 90s, 10m, 36h, 7d, 4w.")
@click.option("--reason", default="blocked by hand", metavar="TEXT", help="Why, for those who read the list.")
@click.option("--service", default="sshd", show_default=True, metavar="NAME", help="Replaces %s in the commands under [block].")
@click.option(
    "--except", "exceptions", multiple=True, metavar="ADDRESS",
    help="From where a blocked user may still log in; by default from where this user has logged in lately (known_for).",
)  # fmt: skip
@CONFIG
def add(
    targets: tuple[str, ...], span: str, reason: str, service: str, exceptions: tuple[str, ...], config: str | None
) -> None:  # fmt: skip
    """
    Block targets. Each block ends by itself.

    sshbell refuses to block the address from which you are logged in, your own user, this host, and everything on the allow list.

    \b
        sudo sshbell block add 192.0.2.7 --for 10m
        sudo sshbell block add 2001:db8:7::/48 --for 7d --reason 'ticket 4711'
        sudo sshbell block add user:alice --except 198.51.100.0/24
    """
    import re
    import uuid
    from contextlib import closing
    from pathlib import Path
    from typing import get_args

    from msgspec import Meta

    from consumer.block.access_conf import can_name
    from consumer.block.target import target_of
    from consumer.clock import SECOND_US, now_us
    from consumer.config_values import Span
    from consumer.guard.client import ask, known_addresses
    from consumer.guard.messages import Order
    from consumer.spans import seconds_of
    from consumer.store.earlier_logins import EarlierLogins

    pattern = next(meta.pattern for meta in get_args(Span) if isinstance(meta, Meta) and meta.pattern)
    if not re.search(pattern, span):
        raise UsageError(f"--for: {span!r} is not a span; write 90s, 10m, 36h, 7d or 4w")
    texts, found = _targets(targets), _loaded(config)
    known = [text for text in _targets(exceptions) if not text.startswith("user:")]
    if exceptions and (len(known) < len(exceptions) or not all(text.startswith("user:") for text in texts)):
        raise UsageError("--except takes addresses, and works with users only")
    for text in texts:
        if text.startswith("user:") and not can_name(target_of(text).user):
            raise UsageError(
                f"pam_access cannot name the user {target_of(text).user!r} alone: the name has capitals, blanks or signs"
            )
    _want_root()
    _refuse_own(Path(found.state_dir), texts)
    known_us = round(seconds_of(found.block.known_for)) * SECOND_US
    until_us = now_us() + round(seconds_of(span)) * SECOND_US
    for text in texts:
        user = target_of(text).user
        froms = []
        if user:
            with closing(EarlierLogins(Path(found.state_dir))) as earlier:
                # Without any verified login, all count: whoever types this sees them.
                froms = known or known_addresses(earlier, user, now_us(), known_us, is_verified=True)
                froms = froms or known_addresses(earlier, user, now_us(), known_us, is_verified=False)
        reply = ask(_guard(found), Order(uuid.uuid4().hex, text, until_us, reason[:500], service[:64], froms))
        if reply.allowed:
            raise UsageError(f"{text} is never blocked: {reply.allowed}")
        if not reply.is_enforcing:
            raise TryLaterError(f"{text} is on the list, but blocking is turned off: sshbell blocks nothing")
        click.echo(f"{text} is blocked for {span}" + (f", except from {', '.join(froms)}" if froms else ""))


def _want_root() -> None:
    import os

    if os.geteuid() != 0:
        raise RightsError("only root can do this; run it again with sudo")


def _guard(config: "Config") -> Any:
    """Return a connection to guard, which alone ends a block."""
    from pathlib import Path

    from consumer.guard.client import connected

    found = connected(Path(config.state_dir))
    if found is None:
        if config.worker.brokers:
            advice = "with workers, run this on the hosts that block"
        elif config.block.mode != "on":
            advice = 'set mode = "on" under [block], and restart rsyslog'
        else:
            advice = "see: sshbell status"
        raise TryLaterError(f"guard is not running, so no block would end; {advice}")
    return found


def _refuse_own(state_dir: Any, texts: list[str]) -> None:
    from consumer.block.target import target_of
    from consumer.guard.own_login import own_logins

    for own, evidence in own_logins(state_dir).items():
        for text in texts:
            if target_of(text).covers(own):
                name = own.user or own.text
                raise UsageError(f"{text} would lock you out of this host ({name}: {evidence}); sshbell does not block it")


@block.command(short_help="Lift blocks before their ends.")
@click.argument("patterns", nargs=-1, required=True, metavar="TARGET...", shell_complete=_complete)
@CONFIG
def remove(patterns: tuple[str, ...], config: str | None) -> None:
    """
    Lift blocks. The next login is possible at once. With workers, it is possible when the hosts have imported the list again.

    A TARGET may contain * and ? as in a shell. sshbell may block the targets again; to prevent that, see allow under [block] in
    sshbell.toml.

    \b
        sudo sshbell block remove 192.0.2.7 user:alice
        sudo sshbell block remove '2001:db8:*'
    """
    from pathlib import Path

    from consumer.guard.client import ask, connected
    from consumer.guard.messages import TARGETS_LIMIT, Lift
    from consumer.guard.without import done_without_guard
    from consumer.text import counted, harmless

    found = _loaded(config)
    _want_root()
    active, _ = _entries(found)
    texts = list(dict.fromkeys(row.target for row in _matching(active, patterns)))
    if not texts:
        click.echo("no block matches; see: sshbell block list")
        return
    count = 0
    for begin in range(0, len(texts), TARGETS_LIMIT):
        some = Lift(texts[begin : begin + TARGETS_LIMIT])
        guard = None if found.worker.brokers else connected(Path(found.state_dir))
        count += (ask(guard, some) if guard is not None else done_without_guard(found, config, some)).count
    click.echo(f"lifted {counted(count, 'block')}: {harmless(', '.join(texts[:10]))}{', ...' if len(texts) > 10 else ''}")
    if found.worker.brokers:
        what = "it" if len(texts) == 1 else "them"
        click.echo(f"note: each host lifts {what} when it imports the list again: see sshbell block import", err=True)


@block.command(short_help="Print the blocks for other machines.")
@click.option("--text", "as_text", is_flag=True, help="Print lines of text, without blocked users, in place of JSON.")
@CONFIG
def export(config: str | None, *, as_text: bool) -> None:
    """
    Print the blocks that have not ended, for "sshbell block import" on other machines. With workers, it prints what they have
    decided to block.

    The list also has the blocks that somebody has lifted early, so that import lifts them, too.

    \b
        sudo sshbell block export > /srv/sshbell/blocks
        sudo sshbell block export --text
    """
    from consumer.block.exchange import json_of_block, line_of_block
    from consumer.clock import now_us
    from consumer.guard.imports import blocks_to_share
    from consumer.text import counted

    users, found = 0, _loaded(config)
    if found.block.mode != "on":
        click.echo(f'note: mode = "{found.block.mode}" under [block]: sshbell blocks nothing new', err=True)
    for one in blocks_to_share(found, now_us()):
        if not as_text:
            click.echo(json_of_block(one), nl=False)
        elif text := line_of_block(one):
            click.echo(text)
        else:
            users += 1
    if users:
        click.echo(f"left out: {counted(users, 'blocked user')}, for whom text has no form", err=True)


@block.command("import", short_help="Import the blocks of another machine.")
@click.argument("file", type=FILE, default="-", metavar="[FILE]")
@CONFIG
def import_(file: str, config: str | None) -> None:
    """
    Import the blocks that "sshbell block export" has printed on another machine.

    Without a FILE, or with "-", it reads standard input. If the list has a fault, it imports nothing. It imports each block only
    once. Everything on the allow list of this machine stays unblocked, and no block lasts longer than the key "longest" allows. A
    block that you have removed on this machine stays removed. It sends no messages, because the other machine has reported the
    block.

    \b
        sudo sshbell block import /srv/sshbell/blocks
        ssh collector sudo sshbell block export | sudo sshbell block import
    """
    from consumer.block.exchange import FILE_LIMIT
    from consumer.clock import now_us
    from consumer.errors import DataError, InputError
    from consumer.guard.client import ask
    from consumer.guard.imports import import_blocks
    from consumer.text import counted

    loaded = _loaded(config)
    _want_root()
    try:
        with click.open_file(file, "rb") as stream:
            content = stream.read(FILE_LIMIT + 1)
    except OSError as error:
        raise InputError(f"{file}: {error.strerror}") from error
    try:
        found = import_blocks(loaded, content, now_us(), lambda request: ask(_guard(loaded), request))
    except ValueError as error:
        place = "standard input" if file == "-" else file
        raise DataError(f"{place}: {error}; nothing is imported") from error
    parts = [f"imported {counted(found.new, 'block')}", f"lifted {found.lifted:,}", f"{found.known:,} known already"]
    parts += [f"{found.allowed:,} left out, since the allow list has them"] if found.allowed else []
    parts += [f"{found.own:,} left out, since they would lock you out"] if found.own else []
    click.echo(", ".join(parts))
    if not found.is_enforcing:
        click.echo("note: blocking is turned off: sshbell keeps the list, and blocks nothing", err=True)


@block.command(short_help="Forget ended blocks, and write everything anew.")
@CONFIG
def purge(config: str | None) -> None:
    """
    Forget the blocks that have ended, and write the files and the nftables sets anew.

    \b
        sudo sshbell block purge
    """
    from pathlib import Path

    from consumer.guard.client import ask, connected
    from consumer.guard.messages import Purge
    from consumer.guard.without import done_without_guard
    from consumer.text import counted

    found = _loaded(config)
    _want_root()
    guard = connected(Path(found.state_dir))
    reply = ask(guard, Purge()) if guard is not None else done_without_guard(found, config, Purge())
    click.echo(f"forgot {counted(reply.count, 'block')} that had ended, and wrote the files anew")


@block.command(short_help="Exit with 1 if an address or a user is blocked.")
@click.argument("target", metavar="TARGET")
@click.option("--user", default="", metavar="NAME", help="Ask about this user from that address.")
@JSON
@CONFIG
@click.pass_context
def check(context: click.Context, target: str, user: str, config: str | None, *, as_json: bool) -> None:
    """
    Show whether an address or a user is blocked. The exit code is 1 if so, and 0 if not.

    \b
        sudo sshbell block check 192.0.2.7
        sudo sshbell block check 192.0.2.7 --user alice
        sudo sshbell block check user:alice --json
    """
    from consumer.guard import check as answer

    lines, is_blocked = answer.check(target, user, config, as_json=as_json)
    click.echo(lines, nl=False)
    context.exit(int(is_blocked))


@block.command(short_help="Show why a target is blocked; without one, the settings and commands.")
@click.argument("target", required=False, metavar="[TARGET]", shell_complete=_complete)
@ZONE
@CONFIG
def explain(target: str | None, zone: "tzinfo", config: str | None) -> None:
    """
    Show the blocks of a target, the failed logins before them, and the lines for pam_access that apply.

    Without a TARGET, show how sshbell blocks, and how it splits the commands under [block] into arguments. Nothing is run.

    \b
        sudo sshbell block explain 192.0.2.7
        sudo sshbell block explain
    """
    from pathlib import Path

    from consumer.block.target import target_of
    from consumer.show.blocks import blocking_settings, blocks_of_target
    from consumer.store.block import StoredBlocks

    found = _loaded(config)
    if target is None:
        lines = blocking_settings(found.block)
    else:
        (text,) = _targets((target,))
        allowed = StoredBlocks(Path(found.state_dir)).allowed()
        lines = blocks_of_target(found, target_of(text), allowed, *_entries(found), zone)
    for line in lines:
        click.echo(line)
