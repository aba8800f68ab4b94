"""``sshbell ring``."""

import click

from consumer.commands.options import CONFIG, complete_channel
from consumer.errors import ConfigError, UsageError


@click.command(short_help="Send a test message, and show whether each channel accepts it.")
@click.option("--channel", "names", multiple=True, metavar="NAME", shell_complete=complete_channel,
              help="Test only this channel; you can give several.")  # fmt: skip
@CONFIG
def ring(names: tuple[str, ...], config: str | None) -> None:
    """
    Send a made-up login, marked as a test, as sshbell sends real ones.

    It waits up to 65 s for the result. The exit code is 0 if all channels accept it, 69 if one rejects it for good, and 75
    if one may accept it later.

    \b
        sudo sshbell ring
        sudo sshbell ring --channel ops
    """
    from consumer.config_file import load
    from consumer.process.privileges import as_sshbell
    from consumer.process.threads import run_async

    found = load(config)
    known = [channel.name for channel in found.channel]
    if not known:
        raise ConfigError(f"{config or 'the configuration'} has no channel; add a [[channel]] first")
    for name in names:
        if name not in known:
            raise UsageError(f"there is no channel {name!r}; there are: {', '.join(known)}")
    as_sshbell(found)
    from consumer.deliver.ring import ring_channels

    run_async(ring_channels(found, config, [name for name in known if not names or name in names], click.echo))
