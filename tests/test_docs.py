"""What the command can do stands in README.md or docs/: nothing is found out by reading the source alone."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest
from msgspec.structs import fields

from consumer.cli import COMMANDS, main
from consumer.config import Choice, Config, EmailSettings, OAuth2, Route, Secret
from consumer.events import Attempt, Forged, Login, Logout, Probe
from consumer.framing.text import FRAMINGS
from grammars import dropbear, pam, sshd

PROJECT_DIR = Path(__file__).parents[1]
GRAMMARS = {"sshd": sshd, "pam": pam, "dropbear": dropbear}


def documents() -> str:
    """Return the text of all pages that a user reads."""
    pages = [PROJECT_DIR / "README.md", *sorted((PROJECT_DIR / "docs").rglob("*.md"))]
    return "\n".join(page.read_text(encoding="utf-8") for page in pages if page.exists())


def missing(names: set[str], *, before: str = "[^A-Za-z0-9_-]", behind: str = "[^A-Za-z0-9_-]") -> list[str]:
    """Return those of ``names`` that stand on no page as words of their own."""
    text = f"\n{documents()}\n"
    return sorted(name for name in names if not re.search(f"{before}{re.escape(name)}{behind}", text))


def test_readme_is_there() -> None:
    """The project has a page to begin with."""
    assert (PROJECT_DIR / "README.md").is_file()


def command_named(name: str) -> click.Command:
    """Return a command."""
    command = main.get_command(click.Context(main), name)
    assert command is not None
    return command


def test_commands() -> None:
    """Each command is shown as it is called: ``sshbell replay``."""
    assert missing({f"sshbell {name}" for name in COMMANDS}) == []


@pytest.mark.parametrize("command", COMMANDS)
def test_options(command: str) -> None:
    """Each option of each command is named."""
    options = {
        name
        for parameter in command_named(command).params
        if isinstance(parameter, click.Option) and not parameter.hidden
        for name in parameter.opts
        if name.startswith("--")
    }
    assert missing(options) == []


@pytest.mark.parametrize("grammar", sorted(GRAMMARS))
def test_actions_of_lines(grammar: str) -> None:
    """Each ``event.action`` that ``parse`` may give is named, as code."""
    actions = {rule.action for rule in GRAMMARS[grammar].RULES} | {"unmatched"}
    assert missing(actions, before="`", behind="`") == []


def test_actions_of_events() -> None:
    """Each ``event.action`` that ``replay`` may give is named, as code."""
    actions = {str(kind.action) for kind in (Login, Logout, Attempt, Probe, Forged)}
    assert missing(actions, before="`", behind="`") == []


def test_framings() -> None:
    """Each framing is named as ``explain`` names it, as code."""
    assert missing({*FRAMINGS, "json"}, before="`", behind="`") == []


def test_configuration_keys() -> None:
    """Each key of the configuration file is named, as code."""
    keys = {field.encode_name for kind in (Config, EmailSettings, Route, Choice, OAuth2, Secret) for field in fields(kind)}
    assert missing({f"`{key}" for key in keys - {"channel", "route", *Secret.__struct_fields__}}, before="") == []
    shown = {"`[[channel]]`", "`[[route]]`"} | {f"{{ {key} = " for key in Secret.__struct_fields__}
    assert missing(shown, before="", behind="") == []


def test_exit_codes() -> None:
    """The exit codes that scripts may meet are named."""
    assert missing({"64", "65", "66", "69", "70", "74", "75", "77", "78"}, before=r"\n\| ", behind=r" \| ") == []


def constants(pattern: str) -> set[str]:
    """Return what matches in the source of the package."""
    source = "\n".join(path.read_text(encoding="utf-8") for path in (PROJECT_DIR / "consumer").rglob("*.py"))
    return set(re.findall(pattern, source, re.MULTILINE))


def test_counters() -> None:
    """Each counter that ``status`` or ``replay`` shows is named, as code."""
    names = constants(r'"([a-z]+(?:_[a-z]+)*_total)"') - {"leaped_total"}  # of a host's clock; it is not shown
    assert missing(names, before="`", behind="`") == []


def test_bounds() -> None:
    """Each bound that has a public name is named, as code."""
    assert missing(constants(r"^([A-Z][A-Z_]*_LIMIT(?:_[A-Z]+)?)\b.* = "), before="`", behind="`") == []
