"""``sshbell template``: the templates in use, and what they make of an event."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from consumer.cli import main
from consumer.deliver.rendering import TEMPLATES

BUILT_IN = Path(__file__).parents[3] / "consumer/deliver/templates"


def asked(folder: Path, *arguments: str) -> Result:
    """Run the command with the templates of a folder."""
    config = folder / "sshbell.toml"
    config.touch()
    return CliRunner().invoke(main, ["template", *arguments, "--config", str(config)])


def own(folder: Path, name: str, text: str) -> Path:
    """Write a template of the user's own, and return its path."""
    path = folder / "templates" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_list(tmp_path: Path) -> None:
    """Each built-in template is listed; one's own is, with its path."""
    path = own(tmp_path, "message.chat.j2", "ring")
    rows = asked(tmp_path, "list").output.splitlines()
    assert {row.split()[0] for row in rows[1:]} == {each.name for each in BUILT_IN.iterdir()}
    assert [row for row in rows if str(path) in row] == [f"{'message.chat.j2':<20}  {path}"]
    found = [json.loads(line) for line in asked(tmp_path, "list", "--json").output.splitlines()]
    assert [each["template"] for each in found if each["own"]] == ["message.chat.j2"]


def test_show(tmp_path: Path) -> None:
    """The file in use is printed as it is."""
    assert asked(tmp_path, "show", "message.html.j2").output == (BUILT_IN / "message.html.j2").read_text(encoding="utf-8")
    own(tmp_path, "message.html.j2", "mine\n")
    assert asked(tmp_path, "show", "message.html.j2").output == "mine\n"


@pytest.mark.parametrize("name", TEMPLATES)
def test_preview(tmp_path: Path, name: str) -> None:
    """Each template shows the event that is asked for."""
    done = asked(tmp_path, "preview", name, "--like", "user=carol host=db7 ip=203.0.113.9")
    assert done.exit_code == 0, done.output
    assert "carol" in done.output
    assert "db7" in done.output
    assert ("<h1" in done.output) == (".html." in name)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("event=guessing ip=203.0.113.9", "Somebody from 203.0.113.9 guesses passwords: 12 failed logins match the rule 12/10m."),
        ("event=ssh_block ip=203.0.113.9 host=web1", "sshbell on web1 blocks 203.0.113.9."),
        ("event=many_addresses user=carol", "Somebody guesses the password of carol from 50 addresses."),
        ("event=host_silent host=web1", "web1 has sent no line for 8 h, more than 3 times"),
    ],
)  # fmt: skip
def test_preview_of_a_finding(tmp_path: Path, words: str, sentence: str) -> None:
    """A made-up finding has figures, and no method of a login."""
    done = asked(tmp_path, "preview", "message.txt.j2", "--like", words)
    assert sentence in " ".join(done.output.split())
    assert "Method:" not in done.output


def test_own_preview(tmp_path: Path) -> None:
    """One's own template is tried; a broken one shows its fault and the text that sshbell would send instead."""
    own(tmp_path, "message.chat.j2", "ring {{ user }}")
    assert asked(tmp_path, "preview", "message.chat.j2").output == "ring deploy\n"
    own(tmp_path, "message.chat.j2", "ring {{ user")
    done = asked(tmp_path, "preview", "message.chat.j2")
    assert done.exit_code == 65
    assert "deploy logged in to web1" in done.output
    assert "message.chat.j2 line 1: TemplateSyntaxError" in done.output


def test_preview_in_german(tmp_path: Path) -> None:
    """Another language is a matter of one option."""
    done = asked(tmp_path, "preview", "subject.txt.j2", "--language", "de")
    assert done.output == "Anmeldung: deploy auf web1 von 203.0.113.7\n"
    done = asked(tmp_path, "preview", "subject.txt.j2", "--language", "fr")
    assert done.exit_code == 64
    assert "'fr' is not one of 'en', 'de'" in done.output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("show", "massage.txt.j2"), "there is no template 'massage.txt.j2'; the templates are subject.txt.j2,"),
        (("show", "../sshbell.toml"), "there is no template '../sshbell.toml'"),
        (("preview", "style.html.j2"), "style.html.j2 is a part of other templates"),
        (("preview", "subject.txt.j2", "--like", "usr=root"), "--like: 'usr=root' is not one of"),
        (("preview", "subject.txt.j2", "--timezone", "Mars/Olympus"), "--timezone: 'Mars/Olympus' is unknown here"),
    ],
)
def test_wrong_words(tmp_path: Path, arguments: tuple[str, ...], says: str) -> None:
    """Each is an error of one line."""
    done = asked(tmp_path, *arguments)
    assert done.exit_code == 64
    assert says in done.output
    assert done.output.count("\n") == 1
