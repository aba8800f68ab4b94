"""``sshbell canary``."""

import click

from consumer.commands.options import CONFIG, number

_PORT = 22


@click.command(short_help="Test the whole way from sshd to the store; for cron.")
@click.option("--port", type=number(1, 65535), metavar="PORT", help="Port of sshd on 127.0.0.1; by default from sshd's settings.")
@click.option(
    "--timeout", "limit_s", type=number(1, 3600), default=30, show_default=True, metavar="SECONDS", help="How long to wait."
)
@CONFIG
def canary(port: int | None, limit_s: int, config: str | None) -> None:
    """
    Make one failed login through sshd on this host, and wait until the store has it.

    If sshd's log, rsyslog or sshbell loses lines, the login does not arrive. sshbell marks it as ssh_canary: it does
    not count as a failed login, and goes to a channel only if a route names ssh_canary. Nobody else can mark a login like
    this: the user name contains a token that works once, and only from this host.

    The exit code is 0 if the login has arrived, 69 if it has not or if sshd or "sshbell run" does not answer, and 75 if
    another canary is on its way.

    \b
        sudo sshbell canary
        sudo sshbell canary --timeout 10 || echo "logins go unseen" | mail root
    """
    from consumer.config_file import load
    from consumer.keys.sshd_config import SshdConfig
    from consumer.process.privileges import as_sshbell
    from consumer.run.canary import sent_canary

    found = load(config)
    if port is None:
        # Before root gives up its rights: only root can ask sshd.
        try:
            written = SshdConfig().values().get("port", [])
        except PermissionError:
            written = []
        port = next((int(text) for text in written if text.isdecimal() and 0 < int(text) < 65536), _PORT)
    as_sshbell(found)
    click.echo(f"the canary's attempt reached the store after {sent_canary(found, port, limit_s):.1f} s")
