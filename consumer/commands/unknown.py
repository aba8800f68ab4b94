"""``sshbell unknown``."""

from typing import TYPE_CHECKING

import click

from consumer.commands.options import FILE, HOST, in_color, reading

if TYPE_CHECKING:
    from datetime import tzinfo

    from consumer.matching.matcher import Matcher
    from consumer.matching.unknown_lines import LineCounts


@click.command(short_help="Show the lines that sshbell has no rule for.")
@click.argument("files", nargs=-1, type=FILE, metavar="[FILE]...")
@HOST
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per host, for programs.")
@reading
@click.pass_context
def unknown(
    context: click.Context, files: tuple[str, ...], host: str | None, *, as_json: bool, matcher: "Matcher", zone: "tzinfo",
    year: int | None,
) -> None:  # fmt: skip
    """
    Show how many lines of sshd, dropbear and PAM sshbell does not understand, by host, and their patterns.

    A pattern shows neither names nor addresses, so you can send it to the authors of sshbell. Without FILE, the command
    shows the lines that "sshbell run" or the workers have read; this needs root or sshbell's user. "-" is standard input.

    \b
        sudo sshbell unknown
        sshbell unknown /var/log/auth.log*
        sshbell unknown --json auth.log | jq -r '.patterns[].text'
    """
    from consumer.ecs import json_line
    from consumer.errors import SshbellError, end_with
    from consumer.logs.unknown import unknown_of_file, unknown_of_store
    from consumer.matching.unknown_lines import UnknownLines
    from consumer.show.columns import painted
    from consumer.text import counted, harmless

    errors: list[SshbellError] = []
    if files:
        found = UnknownLines()
        for path in files:
            try:
                unknown_of_file(found, path, matcher, zone, year)
            except SshbellError as error:
                errors.append(error)
        hosts = found.shown()
    else:
        hosts = unknown_of_store(context.obj.store)
    for name, lines in sorted(hosts.items(), key=lambda one: (-_share(one[1]), one[0])):
        if host not in (None, name):
            continue
        if as_json:
            click.echo(json_line(_object(name, lines)), nl=False)
            continue
        text = f"{counted(lines.total, 'line')}, {lines.unmatched:,} not understood ({_share(lines):.1%}), {lines.release}"
        click.echo(f"{painted(harmless(name), bold=True, on=in_color())}: {text}")
        for pattern in lines.patterns:
            click.echo(f"{pattern.count:>9,}  {harmless(pattern.text)}")
    end_with(errors)


def _share(lines: "LineCounts") -> float:
    return lines.unmatched / lines.total if lines.total else 0.0


def _object(name: str, lines: "LineCounts") -> dict[str, object]:
    return {
        "host": name, "release": lines.release, "lines": lines.total, "unmatched": lines.unmatched, "share": _share(lines),
        "patterns": [{"text": pattern.text, "count": pattern.count} for pattern in lines.patterns],
    }  # fmt: skip
