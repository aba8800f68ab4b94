"""``sshbell install``."""

from pathlib import Path

import click

from consumer.commands.options import number
from consumer.state_dir import SHARD_LIMIT


@click.command(short_help="Install sshbell under rsyslog.")
@click.option(
    "--root",
    type=click.Path(path_type=Path),
    default=Path("/"),
    metavar="DIR",
    help="Install into this tree, for example an image; by default into this system.",
)
@click.option(
    "--shards", type=number(1, SHARD_LIMIT), metavar="N",
    help="Share the lines among N processes, by host; by default as many as now. See docs/fleet.md.",
)  # fmt: skip
def install(root: Path, shards: int | None) -> None:
    """
    Install everything that rsyslog needs to start sshbell.

    It creates the drop-in for rsyslog, a sample configuration if there is none, the directories, the user and group
    sshbell, and the program that rsyslogd starts. It asks no questions. It keeps existing files, and lists all changes;
    a second run changes nothing. At the end it lists the next steps.

    \b
        sudo /opt/sshbell/bin/sshbell install
        sudo sshbell install --root /mnt/image
        sudo sshbell install --shards 4
    """
    from consumer.system.install import install as put_in_place

    print_steps(put_in_place(root, print_row, shards))


def print_row(word: str, what: str) -> None:
    """Print one row: an action, and the file, user or group that it changed."""
    from consumer.text import harmless

    click.echo(f"{word:<9}{harmless(what)}")


def print_steps(steps: list[str]) -> None:
    """Print the next steps."""
    from consumer.text import harmless

    click.echo("\nNext steps:")
    for place, step in enumerate(steps, 1):
        click.echo(f"  {place}. {harmless(step)}")
