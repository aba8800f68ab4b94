"""``consumer.mailbox``: what is a mail address is one question, and has one answer, with what to write where it is none."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from consumer.channel_settings import EmailSettings
from consumer.config_file import parse
from consumer.errors import ConfigError
from consumer.mailbox import mailbox_of
from consumer.people.people import People
from tests.mailboxes import REFUSED, TAKEN

if TYPE_CHECKING:
    from pathlib import Path

CHANNEL = '[[channel]]\nname = "ops"\ntype = "email"\nto = [{0}]\nfrom = {0}\n'
PERSON = '[[person]]\nname = "a"\ncontacts = {{ email = [{0}] }}\n'


@pytest.mark.parametrize(("text", "found"), TAKEN.items())
def test_taken(text: str, found: tuple[str, str]) -> None:
    """Name and address are what SMTP and a header need."""
    mailbox = mailbox_of(text)
    assert (mailbox.name, mailbox.smtp) == found
    assert (mailbox.header.display_name, mailbox.header.addr_spec) == found
    assert mailbox_of(mailbox.smtp) == mailbox._replace(name="")


@pytest.mark.parametrize(("text", "says"), REFUSED.items())
def test_refused(text: str, says: str) -> None:
    """The text says what to write."""
    with pytest.raises(ValueError, match="is not a mail address; ") as raised:
        mailbox_of(text)
    assert says in str(raised.value)
    assert str(raised.value).isprintable()


def toml(text: str) -> str:
    """Write a text as TOML has it."""
    return json.dumps(text, ensure_ascii=True)


@pytest.mark.parametrize("text", TAKEN)
def test_taken_everywhere(tmp_path: Path, text: str) -> None:
    """In the configuration and in people.toml as well."""
    (channel,) = parse(CHANNEL.format(toml(text)).encode(), "here").channel
    assert isinstance(channel, EmailSettings)
    assert (channel.to, channel.sender) == ([text], text)
    path = tmp_path / "people.toml"
    path.write_text(PERSON.format(toml(text)))
    assert People.load(path).persons[0].contacts.email == (text,)


@pytest.mark.parametrize("text", [text for text in REFUSED if text])
def test_refused_everywhere(tmp_path: Path, text: str) -> None:
    """In the configuration and in people.toml as well, in the same words."""
    path = tmp_path / "people.toml"
    path.write_text(PERSON.format(toml(text)))
    with pytest.raises(ConfigError) as of_people:
        People.load(path)
    with pytest.raises(ConfigError) as of_config:
        parse(CHANNEL.format(toml(text)).encode(), "here")
    said = f"{text!r} is not a mail address; "
    assert said in str(of_people.value)
    assert str(of_config.value).count(said) == 2
    assert REFUSED[text] in str(of_people.value)
    assert REFUSED[text] in str(of_config.value)
