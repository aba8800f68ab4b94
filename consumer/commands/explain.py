"""``sshbell explain``."""

import re
from typing import TYPE_CHECKING

import click

from consumer.commands.options import FILE, reading, width
from consumer.errors import UsageError
from consumer.text import harmless

if TYPE_CHECKING:
    from datetime import tzinfo

    from consumer.config import Config
    from consumer.matching.matcher import Matcher

# Of an event; no line consists of such digits alone.
_ID = re.compile(r"[0-9a-f]{6,32}")


@click.command(
    short_help="Show how sshbell reads a line, or what a finding rests on.", context_settings={"ignore_unknown_options": True}
)
@click.argument("words", nargs=-1, required=True, metavar="LINE|ID")
@click.option("--log", "logs", multiple=True, type=FILE, help="With an ID: show its lines from this file. Repeatable.")
@reading
@click.pass_obj
def explain(
    settings: "Config", words: tuple[str, ...], logs: tuple[str, ...], matcher: "Matcher", year: int | None, zone: "tzinfo"
) -> None:
    """
    Show how sshbell reads a LINE: its format, the rule that reads each part, and the result.

    If no rule reads the whole line, sshbell shows how far the best one gets. "-" is standard input.

    With the ID of an event, or its first digits, sshbell shows the event, and of a finding also the detector, the rule and the
    events it rests on. Messages and "sshbell history --events --json" have the ID. The store keeps no lines: --log names files
    that still have them.

    \b
        sshbell explain \\
            'sshd[812]: Failed password for root from 192.0.2.7 port 4711 ssh2'
        grep -a 'sshd' /var/log/auth.log | tail -n 1 | sshbell explain -
        sudo sshbell explain 3f09a2c1 --log /var/log/auth.log
    """
    from consumer.logs.explain import explain_lines

    if len(words) == 1 and _ID.fullmatch(words[0]):
        from consumer.errors import end_with
        from consumer.logs.explain_finding import LoggedLines, explained

        lines = LoggedLines(matcher, logs, zone, year)
        for text in explained(settings.store, words[0], zone, width(), lines):
            click.echo(text)
        end_with(lines.errors)
        return
    if logs:
        raise UsageError("--log needs the ID of an event")
    if len(words) > 1:
        raise UsageError("LINE has to be one argument: put it in single quotes, or pipe it into: sshbell explain -")
    for text in explain_lines(words[0], matcher, zone, year):
        click.echo("\n".join(harmless(part) for part in text.split("\n")))
