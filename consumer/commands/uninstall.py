"""``sshbell uninstall``."""

from pathlib import Path

import click

from consumer.commands.install import say, tell


@click.command(short_help="Undo what install did.")
@click.option(
    "--root",
    type=click.Path(path_type=Path),
    default=Path("/"),
    metavar="DIR",
    help="The tree that was installed into; by default this system.",
)
def uninstall(root: Path) -> None:
    """
    Undo what "sshbell install" did, and nothing else.

    A file that was changed since is kept, and a directory with something in it; so are user and group as long as something
    of theirs is. It is said what is kept; once that is removed by hand, a second call removes the rest.

    \b
        sudo sshbell uninstall
        sudo sshbell uninstall --root /mnt/image
    """
    from consumer.system.install import uninstall as take_away

    tell(take_away(root, say))
