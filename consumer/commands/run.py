"""``sshbell run``."""

import click

from consumer.commands.options import CONFIG


@click.command(short_help="Read lines from rsyslog (omprog starts this).")
@click.option("--plain", "is_plain", is_flag=True, help="Do not confirm lines: for pipes, syslog-ng and rsyslog's plain mode.")
@click.option("--confirmed", "is_confirmed", is_flag=True, hidden=True, help="The entry point has already sent the first OK.")
@CONFIG
def run(config: str | None, *, is_plain: bool, is_confirmed: bool) -> None:
    """
    Read lines on standard input and report logins as they happen, until the input ends.

    rsyslog starts this through omprog, with confirmMessages="on". sshbell answers each line with "OK" once no crash can
    lose it. It ignores TERM and INT, and reloads its configuration on HUP. It starts "sshbell deliver", which sends the
    messages.

    \b
        tail -n 0 -F /var/log/auth.log | sshbell run --plain
    """
    from consumer.run.service import run as serve

    click.get_current_context().exit(serve(config, is_plain=is_plain, is_confirmed=is_confirmed))
