"""``sshbell uninstall``."""

from pathlib import Path

import click

from consumer.commands.install import print_row, print_steps


@click.command(short_help="Undo install.")
@click.option(
    "--root",
    type=click.Path(path_type=Path),
    default=Path("/"),
    metavar="DIR",
    help="Uninstall from this tree; by default from this system.",
)
def uninstall(root: Path) -> None:
    """
    Undo the changes of "sshbell install", and nothing else.

    It keeps files that somebody has changed, and directories that are not empty. While they exist, it also keeps the user
    and the group that own them. It lists the kept files; once you have removed them, a second run removes the rest.

    \b
        sudo sshbell uninstall
        sudo sshbell uninstall --root /mnt/image
    """
    from consumer.system.install import uninstall as take_away

    print_steps(take_away(root, print_row))
