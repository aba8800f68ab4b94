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
        sudo sshbell import webhookpam /etc/webhookpam.ini
    """


@import_.command(name="pam_abl", short_help="Translate a configuration of pam_abl.")
@click.argument("file", type=FILE)
def pam_abl(file: str) -> None:
    """
    Translate FILE, a configuration of pam_abl, and list what changes.

    FILE may also be a file in /etc/pam.d that uses pam_abl.so. The output is the
    table [detect.guessing]: add it to sshbell.toml, above the first [[channel]].

    \b
        sshbell import pam_abl /etc/security/pam_abl.conf
        sshbell import pam_abl /etc/pam.d/common-auth
    """
    from consumer.system.import_pam_abl import translated

    click.echo(translated(Path(file)).toml, nl=False)


@import_.command(name="webhookpam", short_help="Translate a configuration of webhookpam.")
@click.argument("file", type=FILE)
@click.option(
    "--secrets",
    default="/etc/sshbell",
    metavar="DIR",
    help="Directory for the files with the URLs; by default /etc/sshbell.",
)
def webhookpam(file: str, secrets: str) -> None:
    """
    Translate FILE, the ini file of webhookpam, and list what changes.

    The output is a [[channel]] and the table [codes]: add both to sshbell.toml. The URL of the webhook, and that of a proxy with
    a password, go to files in DIR, which the output names. It never shows them.

    \b
        sudo sshbell import webhookpam /etc/webhookpam.ini
        sshbell import webhookpam --secrets . config.ini
    """
    from consumer.system.import_webhookpam import translated_webhookpam, write_secrets

    found = translated_webhookpam(Path(file), Path(secrets).absolute())
    write_secrets(found)
    click.echo(found.toml, nl=False)
