"""``sshbell audit``."""

import click

from consumer.commands.options import CONFIG, in_color, width

_COLORS = {"ok": "green", "warning": "yellow", "fault": "red"}
# The widths of the columns, in cells; the longest names are words of sshd_config.
_STATE, _NAME = 7, 21
# Cells of the last column in a narrow terminal.
_LEAST = 30
# Accounts named in a row.
_SHOWN = 5


@click.command(short_help="Show how to harden sshd, and whom each line would lock out.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per row, for programs.")
@CONFIG
@click.pass_context
def audit(context: click.Context, config: str | None, *, as_json: bool) -> None:
    """
    Compare sshd's settings, PAM and the users' keys with the usual hardening advice.

    Each row that is not ok gives the reason, the exact line to write, and how many logins of the last 30 days that
    line would have prevented, with their accounts. sshbell asks sshd itself (sshd -T, also for each Match), and changes
    nothing. Without root it reads what it can, and names what it cannot read. The exit code is 78 if there is a fault.

    \b
        sudo sshbell audit
        sudo sshbell audit --json | jq 'select(.state != "ok")'
        sudo sshbell audit --json | jq -r '.mend[].line'
    """
    from consumer.clock import now_us
    from consumer.config_file import load
    from consumer.ecs import json_line
    from consumer.errors import ConfigError
    from consumer.show.columns import filled, painted
    from consumer.system.audit import AuditPlaces, audit_rows
    from consumer.text import harmless

    has_fault = is_uncounted = False
    indent = filled("", _STATE + _NAME + 4)
    for row in audit_rows(load(config), now_us(), AuditPlaces()):
        has_fault |= row.state == "fault"
        if as_json:
            click.echo(json_line(row), nl=False)
            continue
        state = painted(filled(row.state, _STATE), _COLORS[row.state], on=in_color())
        first, *rest = _wrapped(harmless(row.text))
        click.echo(f"{state}  {filled(row.name, _NAME)}  {first}")
        rest += _wrapped(harmless(row.why)) if row.why else []
        for mend in row.mend:
            # A line to copy is never wrapped.
            rest.append(f"-> {painted(harmless(mend.line), bold=True, on=in_color())}")
            rest += [f"   {text}" for text in _wrapped(harmless(mend.place))]
        is_uncounted |= row.name == "logins"
        if row.mend and not is_uncounted:
            rest += [f"   {text}" for text in _wrapped(harmless(_cost(row.logins, row.accounts)))]
        for text in rest:
            click.echo(indent + text)
    if has_fault:
        context.exit(ConfigError.exit_code)


def _wrapped(text: str) -> list[str]:
    """Return the lines of a text for the last column: as wide as the terminal, or one line for a file or a pipe."""
    from textwrap import wrap

    cells = width()
    return wrap(text, max(_LEAST, cells - _STATE - _NAME - 7), break_long_words=False) if cells is not None else [text]


def _cost(logins: int | None, accounts: list[str]) -> str:
    """Return how many logins a line would have prevented."""
    from consumer.text import counted, quoted

    if logins is None:
        return "the log does not show whom this would affect"
    if logins == 0:
        return "it would have prevented no login of the last 30 days"
    more = len(accounts) - _SHOWN
    shown = ", ".join(map(quoted, accounts[:_SHOWN])) + (f" and {more:,} more" if more > 0 else "")
    return f"it would have prevented {counted(logins, 'login')} of the last 30 days: {shown}"
