"""``sshbell explain``."""

from typing import TYPE_CHECKING

import click

from consumer.commands.options import reading
from consumer.errors import UsageError
from consumer.text import harmless

if TYPE_CHECKING:
    from datetime import tzinfo

    from consumer.matching.matcher import Matcher


@click.command(short_help="Show how sshbell reads a line, and why.", context_settings={"ignore_unknown_options": True})
@click.argument("words", nargs=-1, required=True, metavar="LINE")
@reading
def explain(words: tuple[str, ...], matcher: "Matcher", year: int | None, zone: "tzinfo") -> None:
    """
    Show how sshbell reads a LINE: its format, the rule that reads each part, and the result.

    If no rule reads the whole line, sshbell shows how far the best one gets. "-" is standard input.

    \b
        sshbell explain \\
            'sshd[812]: Failed password for root from 192.0.2.7 port 4711 ssh2'
        grep -a 'sshd' /var/log/auth.log | tail -n 1 | sshbell explain -
    """
    from consumer.logs.explain import explain_lines

    if len(words) > 1:
        raise UsageError("LINE has to be one argument: put it in single quotes, or pipe it into: sshbell explain -")
    for text in explain_lines(words[0], matcher, zone, year):
        click.echo("\n".join(harmless(part) for part in text.split("\n")))
