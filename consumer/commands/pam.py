"""``sshbell pam``."""

from typing import TYPE_CHECKING

import click

from consumer.commands.options import CONFIG, number
from consumer.commands.pam_check import check
from consumer.commands.pam_try import try_
from consumer.errors import InputError, RightsError, UsageError

if TYPE_CHECKING:
    from consumer.store.codes import CodeStore


@click.group(short_help="Ask for one-time codes at login.")
def pam() -> None:
    """
    Ask for a one-time code at login. PAM runs challenge and verify; docs/codes.md has the lines.

    \b
        sudo sshbell pam check --connect
        sudo sshbell pam try alice
        sudo sshbell pam codes new alice
        sudo sshbell pam codes list
    """


pam.add_command(check)
pam.add_command(try_)


@pam.command(short_help="For PAM: send a code, and print the prompt.")
@CONFIG
@click.pass_context
def challenge(context: click.Context, config: str | None) -> None:
    """
    Send a code to the user who logs in, and print the prompt. PAM runs this, with its variables in the environment.

    SSHBELL is /opt/sshbell/bin/sshbell, or wherever the command is.

    \b
        auth requisite pam_exec.so stdout quiet SSHBELL pam challenge
    """
    from consumer.codes import run
    from consumer.state_dir import DEFAULT_PATH

    context.exit(run.challenge(config or DEFAULT_PATH))


@pam.command(short_help="For PAM: check the code that the user typed.")
@CONFIG
@click.pass_context
def verify(context: click.Context, config: str | None) -> None:
    """
    Check the code on standard input. PAM runs this after challenge. The exit code is 0 if the code is right.

    SSHBELL is /opt/sshbell/bin/sshbell, or wherever the command is.

    \b
        auth requisite pam_exec.so expose_authtok quiet SSHBELL pam verify
    """
    from consumer.codes import run
    from consumer.state_dir import DEFAULT_PATH

    context.exit(run.verify(config or DEFAULT_PATH))


@pam.group(short_help="Make, list and revoke emergency codes.")
def codes() -> None:
    """
    Make, list and revoke emergency codes: printed codes that a user can type in place of one that sshbell sends. Each works
    once.

    \b
        sudo sshbell pam codes new alice
        sudo sshbell pam codes list
        sudo sshbell pam codes revoke alice
    """


@codes.command(short_help="Make emergency codes for a user.")
@click.argument("user", metavar="USER")
@click.option("--count", type=number(1, 100), default=10, show_default=True, metavar="N", help="How many codes.")
@CONFIG
def new(user: str, count: int, config: str | None) -> None:
    """
    Print new emergency codes for a user. They replace the user's old ones.

    \b
        sudo sshbell pam codes new alice
    """
    import pwd

    from consumer.clock import now_us
    from consumer.codes import numbers
    from consumer.codes.digests import emergency_digest
    from consumer.text import counted

    try:
        # An account may have several names; a login has this one.
        user = pwd.getpwnam(user).pw_name
    except KeyError:
        raise UsageError(f"there is no user {user!r}") from None
    store = _store(config)
    made = sorted({numbers.number(numbers.EMERGENCY_DIGITS) for _ in range(count)})
    with store.transaction():
        gone = store.replace_emergency(user, [emergency_digest(store.key, user, one.encode()) for one in made], now_us())
    for one in made:
        click.echo("-".join(one[begin : begin + 4] for begin in range(0, numbers.EMERGENCY_DIGITS, 4)))
    old = f"; the old ones, {gone} of them unused, no longer count" if gone else ""
    click.echo(
        f"{counted(len(made), 'emergency code')} for {user}; each counts once, and sshbell cannot show them again{old}", err=True
    )


@codes.command("list", short_help="Show who has emergency codes.")
@CONFIG
def list_(config: str | None) -> None:
    """
    Show who has emergency codes, and how many of them are unused.

    \b
        sudo sshbell pam codes list
    """
    from consumer.clock import local_zone, utc
    from consumer.text import counted, harmless

    store = _store(config)
    with store.transaction():
        found = store.emergency_users()
    for one in found:
        made = utc(one.made_us).astimezone(local_zone())
        click.echo(harmless(f"{one.user}: {counted(one.unused, 'unused code')}, {one.used} used, made on {made:%Y-%m-%d}"))
    if not found:
        click.echo("nobody has emergency codes; make some with: sshbell pam codes new USER")


@codes.command(short_help="Revoke the emergency codes of a user.")
@click.argument("user", metavar="USER")
@CONFIG
def revoke(user: str, config: str | None) -> None:
    """
    Revoke all emergency codes of a user.

    \b
        sudo sshbell pam codes revoke alice
    """
    from consumer.clock import now_us
    from consumer.text import counted, harmless

    store = _store(config)
    with store.transaction():
        gone = store.replace_emergency(user, [], now_us())
    if not gone:
        raise InputError(f"{user} has no unused emergency codes; sshbell pam codes list shows who has some")
    click.echo(harmless(f"revoked {counted(gone, 'unused emergency code')} of {user}"))


def _store(config: str | None) -> "CodeStore":
    """Return the store; only root may use it."""
    import os

    from consumer.config_file import load
    from consumer.state_dir import codes_dir_of
    from consumer.store.codes import CodeStore

    if os.geteuid() != 0:
        raise RightsError("only root can do this; run it again with sudo")
    os.umask(0o077)
    return CodeStore(codes_dir_of(load(config).state_dir))
