"""``sshbell worker``."""

import click

from consumer.commands.options import CONFIG


@click.command(short_help="Read lines from Kafka, as one of several workers.")
@click.option(
    "--accept-loss", "accepts_loss", is_flag=True,
    help="Where Kafka has deleted lines before sshbell read them, continue with the oldest one left.",
)  # fmt: skip
@CONFIG
def worker(config: str | None, *, accepts_loss: bool) -> None:
    """
    Read lines from a topic of Kafka and report logins as they happen, until TERM or INT.

    The workers of a group share the topic. Each stores what it has read, and how far, in one transaction. If one dies, the others
    continue where it stopped. It starts "sshbell deliver", which sends the messages, and reloads its configuration on HUP.

    It needs: pip install 'sshbell[kafka]'. docs/fleet.md has the settings of rsyslog, Kafka and PostgreSQL.

    \b
        sshbell worker
        sshbell worker --config /etc/sshbell/sshbell.toml
    """
    from importlib.util import find_spec

    from consumer.errors import UnavailableError
    from consumer.process import log

    for name in ("confluent_kafka", "psycopg"):
        if find_spec(name) is None:
            raise UnavailableError(f"{name} is missing; run: /opt/sshbell/bin/pip install 'sshbell[kafka]'")
    log.configure()
    from consumer.worker.service import work

    work(config, accepts_loss=accepts_loss)
