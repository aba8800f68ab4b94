"""``sshbell check``."""

import click

from consumer.commands.options import CONFIG, in_color

_COLORS = {"ok": "green", "warning": "yellow", "fault": "red"}


@click.command(short_help="Say whether configuration and system are as they should be.")
@click.option("--connect", is_flag=True, help="Try to reach each channel's server, and to log in; nothing is sent.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a check, for programs.")
@CONFIG
@click.pass_context
def check(context: click.Context, config: str | None, *, connect: bool, as_json: bool) -> None:
    """
    Say whether configuration and system are as they should be, and what to do where they are not.

    Looks at the configuration, the state and who may read it, secrets, channels, rsyslog's drop-in and its trusted
    properties, and sshd's log level. Changes nothing. Only root can see all of it. Ends with 78 where something is a fault.

    \b
        sudo sshbell check --connect
        sshbell check --config ./sshbell.toml
        sudo sshbell check --json | jq 'select(.state == "fault")'
    """
    import msgspec

    from consumer.errors import ConfigError
    from consumer.system.check import Checks
    from consumer.text import harmless

    has_fault = False
    for result in Checks(config, connect=connect).run():
        has_fault |= result.state == "fault"
        if as_json:
            click.echo(msgspec.json.encode(result))
            continue
        word = f"{result.state:<7}"
        click.echo(
            f"{click.style(word, fg=_COLORS[result.state]) if in_color() else word}  {result.name:<14}  {harmless(result.text)}"
        )
        if result.advice:
            click.echo(f"{'':<25}-> {harmless(result.advice)}")
    if has_fault:
        context.exit(ConfigError.exit_code)
