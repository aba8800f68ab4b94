"""``sshbell import``."""

from pathlib import Path

import click

from consumer.commands.options import FILE


@click.group(name="import", short_help="Translate another program's configuration.", no_args_is_help=True)
def import_() -> None:
    """
    Translate another program's configuration, and list what changes.

    \b
        sshbell import pam_abl /etc/security/pam_abl.conf
    """


@import_.command(name="pam_abl", short_help="Translate a configuration of pam_abl.")
@click.argument("file", type=FILE)
def pam_abl(file: str) -> None:
    """
    Translate FILE, a configuration of pam_abl, and list what changes.

    FILE may also be one of /etc/pam.d that uses pam_abl.so. The output is the
    table [detect.guessing]: add it to sshbell.toml, above the first [[channel]].

    \b
        sshbell import pam_abl /etc/security/pam_abl.conf
        sshbell import pam_abl /etc/pam.d/common-auth
    """
    from consumer.system.import_pam_abl import translated

    click.echo(translated(Path(file)).toml, nl=False)
