"""``sshbell channels``."""

from typing import TYPE_CHECKING, Any

import click

from consumer.commands.options import CONFIG, ZONE, in_color, width

if TYPE_CHECKING:
    from datetime import tzinfo

    from consumer.config import Config
    from consumer.store.status_queries import ChannelState

_COLORS = {"ok": "green", "failing": "red", "waiting": "yellow", "removed": "yellow", "unused": ""}
# A terminal with fewer cells left for the last error shows each on its own line, in full.
_ERROR_LEAST = 40


@click.command(short_help="Show the state of each channel.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line, for programs.")
@ZONE
@CONFIG
def channels(config: str | None, zone: "tzinfo", *, as_json: bool) -> None:
    """
    Show each channel: its state, the last success, the backlog, and the last error.

    \b
    ok        its last message arrived
    failing   its last try failed; sshbell tries again
    waiting   messages wait, but no try has failed
    unused    it has never had a message
    removed   the configuration no longer has it, but its messages wait

    To connect to each channel without sending anything, run: sshbell check --connect

    \b
        sudo sshbell channels
        sudo sshbell channels --json | jq 'select(.state != "ok")'
    """
    from consumer.clock import now_us
    from consumer.config_file import load
    from consumer.system.status import examine

    found = load(config)
    health = examine(found, now_us())
    if as_json:
        from consumer.ecs import json_line

        for name, channel in health.channels.items():
            click.echo(json_line(_object(name, channel, found)), nl=False)
        return
    if not health.channels:
        click.echo("the configuration has no channel")
    for text in _rows(health.channels, found, zone):
        click.echo(text)


def _type_of(name: str, config: "Config") -> str | None:
    return next((str(one.__struct_config__.tag) for one in config.channel if one.name == name), None)


def _state(name: str, channel: "ChannelState", config: "Config") -> str:
    if _type_of(name, config) is None:
        return "removed"
    if (channel.last_error_us or 0) > (channel.last_success_us or 0):
        return "failing"
    if channel.pending:
        return "waiting"
    return "ok" if channel.last_success_us else "unused"


def _object(name: str, channel: "ChannelState", config: "Config") -> dict[str, Any]:
    from consumer.clock import isoformat

    def moment(time_us: int | None) -> str | None:
        return isoformat(time_us) if time_us else None

    return {
        "name": name, "type": _type_of(name, config), "state": _state(name, channel, config), "pending": channel.pending,
        "held": channel.held, "dead": channel.dead, "oldest": moment(channel.oldest_us),
        "last_success": moment(channel.last_success_us), "last_error": moment(channel.last_error_us),
        "last_error_reason": channel.last_error,
    }  # fmt: skip


def _rows(states: "dict[str, ChannelState]", config: "Config", zone: "tzinfo") -> list[str]:
    """Return the lines of the table, the head first."""
    from datetime import datetime

    from consumer.show.columns import LAST, Column, cells_of, painted, row_of, unbounded, widths_of
    from consumer.text import harmless

    def moment(time_us: int | None) -> str:
        return f"{datetime.fromtimestamp(time_us // 1_000_000, zone):%Y-%m-%d %H:%M:%S}" if time_us else "never"

    columns = (
        Column("name", "channel", 8, 12), Column("type", "type", 7, 8), Column("state", "state", 7, 7),
        Column("success", "last success", 16, 19), Column("pending", "pending", 7, 7), Column("held", "held", 6, 6),
        Column("dead", "given up", 8, 8),
    )  # fmt: skip
    growth = (("success", 19), ("name", 12), (LAST, _ERROR_LEAST), ("name", 24))
    cells = width()
    widths = unbounded(columns) if cells is None else widths_of(columns, 0, growth, ("held", "type"), cells)
    is_below = cells is not None and widths.last < _ERROR_LEAST
    on = in_color()
    texts = [painted(row_of(widths, [one.head for one in widths.columns], "" if is_below else "last error"), bold=True, on=on)]
    for name, channel in states.items():
        state = _state(name, channel, config)
        values = {
            "name": name, "type": _type_of(name, config) or "-", "state": state, "success": moment(channel.last_success_us),
            "pending": f"{channel.pending:>7,}", "held": f"{channel.held:>6,}", "dead": f"{channel.dead:>8,}",
        }  # fmt: skip
        error = f"{moment(channel.last_error_us)}: {channel.last_error}" if channel.last_error_us else ""
        error = harmless(error)
        below = bool(error) and (is_below or (cells is not None and cells_of(error) > widths.last))
        shown = [harmless(values[one.key]) for one in widths.columns]
        texts.append(painted(row_of(widths, shown, "" if below else error), _COLORS[state], on=on))
        if below:
            texts.append(f"    {error}")
    return texts
