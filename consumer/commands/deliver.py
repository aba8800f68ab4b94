"""``sshbell deliver``."""

import click

from consumer.commands.options import CONFIG
from consumer.errors import UsageError


@click.command(short_help="Send what waits in the outbox.", hidden=True)
@click.option("--wake", type=int, metavar="FD", help="Socket from sshbell run: a byte means news, its end means stop.")
@CONFIG
def deliver(config: str | None, wake: int | None) -> None:
    """
    Send what waits in the outbox; "sshbell run" starts this, and it need not be called by hand.

    Without --wake it goes on until TERM or INT, and ends with 75 where another one runs. It logs JSON lines on standard error,
    and reads the configuration again on HUP.

    \b
        sshbell deliver
        sshbell deliver --config /etc/sshbell/sshbell.toml
    """
    import os
    import signal
    import socket
    from pathlib import Path

    from consumer.config import load
    from consumer.process import log
    from consumer.process.privileges import become, guard
    from consumer.process.threads import run_async

    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until it is listened to
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    log.configure()
    os.umask(0o077)
    found = load(config)
    if wake is not None:
        # Until it is listened to; by the end of the socket this ends all the same.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        listener = None if wake is None else socket.socket(fileno=wake)
    except OSError as error:
        raise UsageError(f"--wake {wake}: {error.strerror}") from error
    if listener is not None:
        listener.setblocking(False)  # noqa: FBT003 - socket's own signature
        listener.set_inheritable(False)
    become(found.user)
    guard(Path(found.state_dir))
    from consumer.deliver.process import serve

    run_async(serve(found, config, listener))
