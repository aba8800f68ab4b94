"""``sshbell install``."""

from pathlib import Path

import click


@click.command(short_help="Put everything in place under rsyslog.")
@click.option(
    "--root",
    type=click.Path(path_type=Path),
    default=Path("/"),
    metavar="DIR",
    help="The tree to install into, such as that of an image; by default this system.",
)
def install(root: Path) -> None:
    """
    Put in place what rsyslog needs to start sshbell.

    The drop-in for rsyslog, a sample configuration where there is none, the directories, the user and group sshbell, and the
    program that rsyslogd starts. Nothing is asked. What is there already is kept, or it is said what was changed; a
    second call changes nothing. Ends with what is left to do by hand.

    \b
        sudo /opt/sshbell/bin/sshbell install
        sudo sshbell install --root /mnt/image
    """
    from consumer.system.install import install as put_in_place

    tell(put_in_place(root, say))


def say(word: str, what: str) -> None:
    """Write a line of what is done."""
    from consumer.text import harmless

    click.echo(f"{word:<9}{harmless(what)}")


def tell(steps: list[str]) -> None:
    """Write what is left to do."""
    from consumer.text import harmless

    click.echo("\nWhat is left to do:")
    for number, step in enumerate(steps, 1):
        click.echo(f"  {number}. {harmless(step)}")
