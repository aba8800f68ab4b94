"""``sshbell deliver``."""

import click

from consumer.commands.options import CONFIG
from consumer.errors import UsageError


@click.command(short_help="Send the messages of the outbox.", hidden=True)
@click.option(
    "--wake",
    type=int,
    metavar="FD",
    help="Socket from sshbell run: a byte announces new messages; deliver stops when run closes it.",
)
@CONFIG
def deliver(config: str | None, wake: int | None) -> None:
    """
    Send the messages of the outbox. "sshbell run" starts this; you do not need to start it yourself.

    Without --wake it runs until TERM or INT, and exits with 75 if another deliver is running. It logs JSON lines to standard
    error, and reloads the configuration on HUP.

    \b
        sshbell deliver
        sshbell deliver --config /etc/sshbell/sshbell.toml
    """
    import signal
    import socket

    from consumer.config_file import load
    from consumer.process import log
    from consumer.process.privileges import as_sshbell
    from consumer.process.threads import run_async

    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until serve handles it
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    log.configure()
    found = load(config)
    if wake is not None:
        # Until serve handles them; if the socket closes, deliver ends all the same.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        listener = None if wake is None else socket.socket(fileno=wake)
    except OSError as error:
        raise UsageError(f"--wake {wake}: {error.strerror}") from error
    if listener is not None:
        listener.setblocking(False)  # noqa: FBT003 - socket's own signature
        listener.set_inheritable(False)
    as_sshbell(found)
    from consumer.deliver.process import serve

    run_async(serve(found, config, listener))
