"""``sshbell pam check``."""

import click

from consumer.commands.check import print_results
from consumer.commands.options import CONFIG


@click.command(short_help="Check PAM's lines, sshd's settings and the channels for codes.")
@click.option("--service", metavar="NAME", help="PAM's service: a file of /etc/pam.d; by default that of sshd.")
@click.option(
    "--sshd-config", type=click.Path(dir_okay=False), default="/etc/ssh/sshd_config", show_default=True,
    help="sshd's configuration file.",
)  # fmt: skip
@click.option("--connect", is_flag=True, help="Connect to the server of each channel for codes and log in; send nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per check, for programs.")
@CONFIG
@click.pass_context
def check(
    context: click.Context, config: str | None, service: str | None, sshd_config: str, *, connect: bool, as_json: bool,
) -> None:  # fmt: skip
    """
    Check everything that a login with a code depends on, and show how to fix the faults.

    It walks through PAM's stack as PAM does: with a right code, a wrong one, and none. It asks sshd for its settings, also in
    each Match, and looks for ways in without a code. It changes nothing, and sends nothing. Only root can check everything. The
    exit code is 78 if there is a fault.

    \b
        sudo sshbell pam check --connect
        sudo sshbell pam check --sshd-config /etc/ssh/sshd_config_2222
    """
    from consumer.system.check import run_code_checks

    print_results(context, run_code_checks(config, connect=connect, service=service, sshd_config=sshd_config), as_json=as_json)
