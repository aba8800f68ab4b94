"""``sshbell run``."""

import click

from consumer.commands.options import CONFIG, number
from consumer.state_dir import SHARD_LIMIT


@click.command(short_help="Read lines from rsyslog (omprog starts this).")
@click.option("--plain", "is_plain", is_flag=True, help="Do not confirm lines: for pipes, syslog-ng and rsyslog's plain mode.")
@click.option("--confirmed", "is_confirmed", is_flag=True, hidden=True, help="The entry point has already sent the first OK.")
@click.option(
    "--shard", type=number(0, SHARD_LIMIT - 1), metavar="K",
    help="Be shard K of several: rsyslogd sends each of them the lines of other hosts. See sshbell install --shards.",
)  # fmt: skip
@click.option("--gather", "is_gathering", is_flag=True, hidden=True, help="Gather the events of all shards.")
@CONFIG
def run(config: str | None, shard: int | None, *, is_plain: bool, is_confirmed: bool, is_gathering: bool) -> None:
    """
    Read lines on standard input and report logins as they happen, until the input ends.

    rsyslog starts this through omprog, with confirmMessages="on". sshbell answers each line with "OK" once no crash can
    lose it. It ignores TERM and INT, and reloads its configuration on HUP. It starts "sshbell deliver", which sends the
    messages.

    \b
        tail -n 0 -F /var/log/auth.log | sshbell run --plain
    """
    from consumer.run.role import Role
    from consumer.run.service import run as serve

    role = Role(shard, is_gathering)
    click.get_current_context().exit(serve(config, is_plain=is_plain, is_confirmed=is_confirmed, role=role))
