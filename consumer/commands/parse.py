"""``sshbell parse``."""

import sys
from typing import TYPE_CHECKING

import click

from consumer.commands.options import FILE, reading
from consumer.errors import SshbellError, end_with

if TYPE_CHECKING:
    from datetime import tzinfo

    from consumer.matching.matcher import Matcher


@click.command(short_help="Turn each line into JSON.")
@click.argument("files", nargs=-1, metavar="[FILE...]", type=FILE)
@reading
def parse(files: tuple[str, ...], matcher: "Matcher", year: int | None, zone: "tzinfo") -> None:
    """
    Turn each line of sshd, PAM or dropbear into one JSON object (Elastic Common Schema).

    It skips the lines of other programs. Without a FILE, or with "-", it reads standard input.

    \b
        sshbell parse /var/log/auth.log | jq 'select(.event.action == "accepted")'
        tail -F /var/log/secure | sshbell parse
    """
    from consumer.logs.parse import parse_file

    write = sys.stdout.buffer
    errors: list[SshbellError] = []
    for path in files or ("-",):
        try:
            for line in parse_file(path, matcher, zone, year, lambda text: click.echo(f"sshbell: {text}", err=True)):
                write.write(line)
                if path == "-":
                    write.flush()
        except SshbellError as error:
            errors.append(error)
    write.flush()
    end_with(errors)
