"""``sshbell check``."""

from typing import TYPE_CHECKING

import click

from consumer.commands.options import CONFIG, in_color

if TYPE_CHECKING:
    from collections.abc import Iterable

    from consumer.system.check import Result

_COLORS = {"ok": "green", "warning": "yellow", "fault": "red"}
# The widths of the columns, in cells.
_STATE, _NAME = 7, 14


@click.command(short_help="Check the configuration and the system.")
@click.option("--connect", is_flag=True, help="Connect to each channel's server and log in; send nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per check, for programs.")
@CONFIG
@click.pass_context
def check(context: click.Context, config: str | None, *, connect: bool, as_json: bool) -> None:
    """
    Check the configuration and the system, and show how to fix the faults.

    It checks the configuration, the state directory and its permissions, secrets, channels, rsyslog's drop-in and trusted
    properties, sshd's log level, and one-time codes if they are in use. It changes nothing. Only root can check everything. The
    exit code is 78 if there is a fault.

    \b
        sudo sshbell check --connect
        sshbell check --config ./sshbell.toml
        sudo sshbell check --json | jq 'select(.state == "fault")'
    """
    from consumer.system.check import run_checks

    print_results(context, run_checks(config, connect=connect), as_json=as_json)


def print_results(context: click.Context, results: "Iterable[Result]", *, as_json: bool) -> None:
    """Print results as they come, and exit with the code for a fault if there is one."""
    from consumer.ecs import json_line
    from consumer.errors import ConfigError
    from consumer.show.columns import filled, painted
    from consumer.text import harmless

    has_fault = False
    for result in results:
        has_fault |= result.state == "fault"
        if as_json:
            click.echo(json_line(result), nl=False)
            continue
        state = painted(filled(result.state, _STATE), _COLORS[result.state], on=in_color())
        click.echo(f"{state}  {filled(result.name, _NAME)}  {harmless(result.text)}")
        if result.advice:
            click.echo(f"{filled('', _STATE + _NAME + 4)}-> {harmless(result.advice)}")
    if has_fault:
        context.exit(ConfigError.exit_code)
