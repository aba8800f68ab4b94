"""What the command can do stands in README.md or docs/: nothing is found out by reading the source alone."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click
import pytest
from msgspec.structs import fields

from consumer.actions import EventAction, OwnAction
from consumer.channel_settings import CHANNEL_TYPES, OAuth2
from consumer.cli import COMMANDS, main
from consumer.codes_settings import CodeRule, Codes
from consumer.config import Allow, Blocking, Choice, Config, Route, WorkerSettings
from consumer.config_file import load, parse
from consumer.config_values import Secret
from consumer.deliver.digest import Held, HeldGroup, HeldLine
from consumer.deliver.facts import Facts, facts_of
from consumer.deliver.sentences import Sentences, sentences_of
from consumer.detect_settings import (
    Detect,
    FirstSeenSettings,
    GuessingSettings,
    ManyAccountsSettings,
    ManyAddressesSettings,
    SuccessAfterFailuresSettings,
)
from consumer.framing.text import FRAMINGS
from consumer.people.people import People
from grammars import dropbear, pam, sshbell_pam, sshd
from tests.documents import PAGES, PROJECT_DIR, blocks, without_blocks
from tests.ecs_events import ecs

if TYPE_CHECKING:
    from pathlib import Path

DETECT_TABLES = (
    GuessingSettings, ManyAddressesSettings, ManyAccountsSettings, SuccessAfterFailuresSettings, FirstSeenSettings,
)  # fmt: skip
GRAMMARS = {"sshd": sshd, "pam": pam, "dropbear": dropbear, "sshbell_pam": sshbell_pam}


def documents() -> str:
    """Return the text of all pages that a user reads."""
    return "\n".join(page.read_text(encoding="utf-8") for page in PAGES)


def missing(names: set[str], *, before: str = "[^A-Za-z0-9_-]", behind: str = "[^A-Za-z0-9_-]") -> list[str]:
    """Return those of ``names`` that stand on no page as words of their own."""
    text = f"\n{documents()}\n"
    return sorted(name for name in names if not re.search(f"{before}{re.escape(name)}{behind}", text))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_code_is_fenced(page: Path) -> None:
    """Each block of code names its language, so that ``tests/integration/test_documents.py`` finds the commands and runs them."""
    assert not re.search(r"\n\n    \S", without_blocks(page))
    assert {
        block.where: block.language
        for block in blocks(page)
        if block.language not in {"sh", "toml", "cron", "rsyslog", "pam", "hosts", "sql", "python", "sshconfig"}
    } == {}


def test_configuration_examples(tmp_path: Path) -> None:
    """Each example of a configuration is one: those of keys, channels, routes and people together are read without a fault."""
    examples = [block.text for page in PAGES for block in blocks(page, "toml")]
    # A file has one table [codes], so an example with it is read alone.
    alone = [text for text in examples if "[codes]" in text]
    assert len(alone) >= 3
    for text in alone:
        found = parse(text.encode(), "example")
        assert {*found.codes.channels} <= {channel.name for channel in found.channel}
    examples = [text for text in examples if text not in alone]
    people, config = tmp_path / "people.toml", tmp_path / "sshbell.toml"
    people.write_text("\n".join(text for text in examples if text.startswith("[[person]]")), encoding="utf-8")
    keys = [text for text in examples if not text.startswith("[")]
    tables = [
        text
        for text in examples
        if text.startswith(("[[channel]]", "[[route]]", "[detect", "[block]", "[[block.allow]]", "[worker]"))
    ]
    assert len(examples) == len(keys) + len(tables) + 1
    config.write_text(f'people = "{people}"\n' + "\n".join(keys + tables), encoding="utf-8")
    loaded = load(str(config))
    names = [channel.name for channel in loaded.channel]
    assert names == ["ops", "jabber", "slack", "provider", "chat", "alerts", "events", "betrieb"]
    assert loaded.geoip == "web"
    assert len(loaded.route) == sum(text.count("[[route]]") for text in tables)
    person = People.load(people).holders_of("alice", "web1")
    assert [each.name for each in person] == ["Alice Example"]


def test_one_name_of_the_password_file() -> None:
    """README, docs and the sample call the file with the mail password the same."""
    sample = (PROJECT_DIR / "consumer/sshbell.toml").read_text(encoding="utf-8")
    for text in (documents(), sample):
        assert set(re.findall(r"/etc/sshbell/[\w.-]*passw[\w.-]*", text)) == {"/etc/sshbell/mail.password"}


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
    assert missing(set(map(str, EventAction)), before="`", behind="`") == []


def test_framings() -> None:
    """Each framing is named as ``explain`` names it, as code."""
    assert missing({*FRAMINGS, "json"}, before="`", behind="`") == []


def test_configuration_keys() -> None:
    """Each key of the configuration file is named, as code."""
    keys = {
        field.encode_name
        for kind in (
            Config,
            Detect,
            *DETECT_TABLES,
            Blocking,
            Allow,
            Codes,
            CodeRule,
            WorkerSettings,
            *CHANNEL_TYPES.values(),
            Route,
            Choice,
            OAuth2,
            Secret,
        )
        for field in fields(kind)
    }
    assert (
        missing(
            {
                f"`{key}"
                for key in keys
                - {"channel", "route", "detect", "guessing", "block", "codes", "rule", "worker", *Secret.__struct_fields__}
            },
            before="",
        )
        == []
    )
    shown = {
        "`[[channel]]`",
        "`[[route]]`",
        "`[worker]`",
        "`[detect]`",
        "`[detect.guessing]`",
        "`[codes]`",
        "`[[codes.rule]]`",
    } | {f"{{ {key} = " for key in Secret.__struct_fields__}
    assert missing(shown, before="", behind="") == []
    assert missing({f'`"{name}"`' for name in CHANNEL_TYPES}, before="", behind="") == []


def section(heading: str) -> str:
    """Return a section of docs/configuration.md, without those below it."""
    text = (PROJECT_DIR / "docs" / "configuration.md").read_text(encoding="utf-8")
    return text.partition(f"\n{heading}\n")[2].partition("\n#")[0]


def test_facts() -> None:
    """Each name that a template knows is listed, and none that it does not know."""
    names = {*Facts.__struct_fields__, *Sentences.__struct_fields__, "lines", "late", "subject"}
    message, _, digest = section("### Templates").partition("A template of a digest knows")
    first_cells = [row.split("|")[1] for row in message.splitlines() if row.startswith("| `")]
    assert sorted(re.findall("`([^`]+)`", " ".join(first_cells))) == sorted(names)
    first_cells = [row.split("|")[1] for row in digest.splitlines() if row.startswith("| `")]
    assert sorted(re.findall("`held.([^`]+)`", " ".join(first_cells))) == sorted(Held.__struct_fields__)


def test_parts_of_a_digest() -> None:
    """So is each part of a group and of a line of a digest."""
    (row,) = [row for row in section("### Templates").splitlines() if row.startswith("| `held.groups`")]
    assert set(re.findall("`([a-z_]+)`", row)) == {*HeldGroup.__struct_fields__, *HeldLine.__struct_fields__}


@pytest.mark.parametrize("action", [*EventAction, OwnAction.TEST])
def test_subjects(action: str) -> None:
    """The subject that the page shows for a kind of event is the one that is sent."""
    event = {
        "event": {"action": str(action), "duration": 7_500_000_000_000 if action == EventAction.LOGOUT else None},
        "host": {"name": "web1"},
        "user": {"name": "root" if action in {"ssh_attempt", "ssh_forged"} else "deploy", "full_name": "Carol"},
        "source": {
            "address": "203.0.113.7" if action == EventAction.SSHD_PENALTY else None,
            "geo": {"city_name": "Lyon", "country_name": "France"},
        },
        "ssh": {"claim": "accepted", "count": 50 if action in tuple(EventAction) and EventAction(action).is_finding else None},
        "rule": {"name": "account_expired"},
        "labels": {
            "addresses": "50", "from": "address", "new": "country", "logins": "141", "days": "90", "km": "9050", "minutes": "40",
            "other": "203.0.113.7", "what": "account_expired",
        },
        "sshbell": {"block": {"target": "192.0.2.7"}},
    }  # fmt: skip
    shown = re.findall("`([^`]+)`", next(row for row in section("## Mail").splitlines() if row.startswith(f"| `{action}`")))[1]
    assert shown == ("Test: " if action == OwnAction.TEST else sentences_of(facts_of(ecs(event), None)).headline)


def test_picture_of_a_mail() -> None:
    """The page shows a mail, and the picture is small enough for a page."""
    picture = PROJECT_DIR / "docs" / "mail.png"
    assert "](mail.png)" in section("## Mail")
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size < 200_000


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
