"""Options that several commands share."""

import os
import sys
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from datetime import tzinfo

    from consumer.config import Config

# Completes names of files. A command reports an unreadable file when its turn comes.
FILE = click.Path(readable=False)


def number(least: int, most: int) -> click.IntRange:
    """Return the type of a number within bounds."""
    found = click.IntRange(least, most)
    found.name = f"number from {least} to {most}"  # for messages
    return found


def _zone(_context: click.Context, _parameter: click.Parameter, name: str | None) -> "tzinfo":
    from consumer.clock import local_zone, zone_of

    if name is None:
        return local_zone()
    try:
        return zone_of(name)
    except ValueError as error:
        raise click.BadParameter(f"{error}; give a name such as Europe/Paris, UTC, or an offset such as +02:00") from error


ZONE = click.option(
    "--tz",
    "zone",
    callback=_zone,
    metavar="ZONE",
    help="Zone of the times shown, and of log times without a zone; by default this machine's.",
)
CONFIG = click.option(
    "--config", type=click.Path(dir_okay=False), help="Configuration file; by default /etc/sshbell/sshbell.toml."
)


def complete_channel(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Return the channels of the configuration for the shell; none if it cannot be read."""
    from consumer.config_file import load
    from consumer.errors import SshbellError

    try:
        channels = load(context.params.get("config")).channel
    except SshbellError:
        return []
    return [channel.name for channel in channels if channel.name.startswith(incomplete)]


SINCE = click.option(
    "--since",
    metavar="TIME",
    help='Start of the time span: yesterday, monday, 07:46, "2 hours ago", 7d, 2026-11-22 or "2026-11-22 10:00".',
)
UNTIL = click.option("--until", metavar="TIME", help="End of the time span, in the same forms.")
WIDE = click.option("--wide", is_flag=True, help="Cut nothing: whole fingerprints, and addresses with ports.")
USER = click.option("--user", metavar="NAME", help="Show only this user.")
HOST = click.option("--host", metavar="NAME", help="Show only this host.")

YEAR = click.option(
    "--year", type=number(1970, 9999), metavar="YEAR", help="Year of each file's first line, for lines without a year."
)


def reading(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of all commands that read lines. The command gets a matcher, and the configuration as ``obj``."""

    @YEAR
    @ZONE
    @click.option(
        "--engine",
        type=click.Choice(["lowered", "pyparsing"]),
        default="lowered",
        show_default=True,
        help="Run the grammars as compiled patterns (lowered), or with pyparsing, slowly.",
    )
    @CONFIG
    @wraps(command)
    def with_matcher(*args: Any, engine: str, config: str | None, **kwargs: Any) -> None:
        from consumer.matching.matcher import Matcher

        found = click.get_current_context().obj = configuration_for_logs(config)
        command(*args, matcher=Matcher(found.sshd_programs, "pyparsing" if engine == "pyparsing" else "lowered"), **kwargs)

    return with_matcher


def configuration_for_logs(path: str | None) -> "Config":
    """
    Read the configuration, for a command that reads log files.

    They may be open to everybody, so it goes on without a configuration that the user may not read.
    """
    from consumer.config import Config
    from consumer.config_file import load
    from consumer.errors import ConfigRightsError, complain

    try:
        return load(path)
    except ConfigRightsError as error:
        if path is not None:
            raise
        complain(ConfigRightsError(f"{error}; sshbell reads the log without its sshd_programs, geoip and people"))
        # The default people.toml is as private, and would only cause a second complaint.
        return Config(people=os.devnull)


def in_color() -> bool:
    """Return whether the table on standard output may have colour: no-color.org."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def width(*, is_wide: bool = False) -> int | None:
    """Return the terminal's width; None to cut nothing: with --wide, or if standard output is not a terminal."""
    from shutil import get_terminal_size

    return get_terminal_size().columns if sys.stdout.isatty() and not is_wide else None
