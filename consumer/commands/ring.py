"""``sshbell ring``."""

import click

from consumer.commands.options import CONFIG, complete_channel
from consumer.errors import ConfigError, UsageError


@click.command(short_help="Send a test to the channels, and say whether it arrived.")
@click.option("--channel", "names", multiple=True, metavar="NAME", shell_complete=complete_channel,
              help="Only this channel; may be given several times.")  # fmt: skip
@CONFIG
def ring(names: tuple[str, ...], config: str | None) -> None:
    """
    Send a made-up login, which says that it is a test, through outbox, templates and channels.

    Waits up to 65 s. Ends with 0 when all channels have taken it, 69 when one never will, 75 when one may later.

    \b
        sudo sshbell ring
        sudo sshbell ring --channel ops
    """
    import os
    from pathlib import Path

    from consumer.config import load
    from consumer.process.privileges import become, guard
    from consumer.process.threads import run_async

    found = load(config)
    known = [channel.name for channel in found.channel]
    if not known:
        raise ConfigError(f"{config or 'the configuration'} has no channel; there is nothing to ring")
    for name in names:
        if name not in known:
            raise UsageError(f"there is no channel {name!r}; there are: {', '.join(known)}")
    os.umask(0o077)
    become(found.user)
    guard(Path(found.state_dir))
    from consumer.deliver.ring import ring_channels

    run_async(ring_channels(found, config, [name for name in known if not names or name in names], click.echo))
