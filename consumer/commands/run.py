"""``sshbell run``."""

import click

from consumer.commands.options import CONFIG


@click.command(short_help="Take lines from rsyslog (omprog starts this).")
@click.option("--plain", "is_plain", is_flag=True, help="Confirm nothing: for pipes, syslog-ng and rsyslog's plain mode.")
@click.option("--confirmed", "is_confirmed", is_flag=True, hidden=True, help="The first OK is said: by the entry point.")
@CONFIG
def run(config: str | None, *, is_plain: bool, is_confirmed: bool) -> None:
    """
    Take lines on standard input, and tell of logins as they happen, until the input ends.

    rsyslog starts this through omprog, with confirmMessages="on": each line is answered with "OK" once no death of a process can
    lose it. TERM and INT are ignored; HUP makes it read its configuration again. It starts "sshbell deliver", which sends.

    \b
        tail -n 0 -F /var/log/auth.log | sshbell run --plain
    """
    from consumer.run.service import run as serve

    click.get_current_context().exit(serve(config, is_plain=is_plain, is_confirmed=is_confirmed))
