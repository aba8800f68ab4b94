"""The help of the commands fits a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from click.testing import CliRunner

from consumer.cli import main

if TYPE_CHECKING:
    from collections.abc import Iterator

COLUMNS = 80


def commands(command: click.Command, *names: str) -> Iterator[tuple[str, ...]]:
    """Yield the names of a command and of all below it."""
    yield names
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from commands(found, *names, name)


def test_no_line_is_cut() -> None:
    """A terminal of 80 columns breaks no line of any help, the examples included."""
    runner = CliRunner(env={"COLUMNS": str(COLUMNS)})
    shown = {names: runner.invoke(main, [*names, "--help"]) for names in commands(main)}
    assert {("geoip", "fetch"), ("people", "check"), ("keys", "import"), ("replay",)} <= shown.keys()
    assert [names for names, done in shown.items() if done.exit_code or "Usage: " not in done.output] == []
    assert [(names, line) for names, done in shown.items() for line in done.output.splitlines() if len(line) > COLUMNS] == []
