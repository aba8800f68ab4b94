"""``consumer.jid``: what is an address of XMPP is one question, with one answer in the configuration and in ``people.toml``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from slixmpp import JID

from consumer.channel_settings import XmppSettings
from consumer.config_file import parse
from consumer.errors import ConfigError
from consumer.jid import jid_of
from consumer.people.people import People

if TYPE_CHECKING:
    from pathlib import Path

CHANNEL = '[[channel]]\nname = "chat"\ntype = "xmpp"\njid = "bell@example.org"\npassword = { env = "BELL" }\n'
TAKEN = [
    "alice@example.org", " alice@example.org ", "alice.b+c@example.org", "jürgen@bücher.example", "ops@conference.example.org",
    "root@localhost", "Alice@Example.Org", "a!#$%()*,-.;=?[]^_`{|}~b@example.org",
]  # fmt: skip
REFUSED = {
    "": "write one as alice@example.org",
    "alice": "write one as alice@example.org",
    "@example.org": "write one as alice@example.org",
    "alice@": "write one as alice@example.org",
    "alice@b@example.org": "write one as alice@example.org",
    "Alice <alice@example.org>": "write one as alice@example.org",
    "alice b@example.org": "write one as alice@example.org",
    "xmpp:alice@example.org": "write one as alice@example.org",
    "alice@example.org:5222": "write one as alice@example.org",
    "alice@example.org\n": "write one as alice@example.org",
    "al\x7fice@example.org": "write one as alice@example.org",
    "al\u202eice@example.org": "write one as alice@example.org",
    "alice@example.org/phone": "leave out the / and the rest",
    "alice@example..org": "'example..org' is not a host name",
    "alice@.org": "'.org' is not a host name",
    f"{'ü' * 600}@example.org": "1 to 1023 bytes",
}


@pytest.mark.parametrize("text", TAKEN)
def test_taken_everywhere(tmp_path: Path, text: str) -> None:
    """In the configuration and in ``people.toml``; slixmpp sends to it."""
    assert JID(jid_of(text)).bare.casefold() == text.strip().casefold()
    lists = f"to = [{json.dumps(text)}]\nrooms = [{json.dumps(text)}]\n"
    (channel,) = parse((CHANNEL + lists).encode(), "here").channel
    assert isinstance(channel, XmppSettings)
    assert channel.recipients == (text, text)
    path = tmp_path / "people.toml"
    path.write_text(f'[[person]]\nname = "a"\ncontacts = {{ xmpp = [{json.dumps(text)}] }}\n')
    assert People.load(path).persons[0].contacts.xmpp == (text,)


@pytest.mark.parametrize(("text", "says"), REFUSED.items())
def test_refused_everywhere(tmp_path: Path, text: str, says: str) -> None:
    """The text says what to write, in the same words everywhere."""
    with pytest.raises(ValueError, match="is not an XMPP address; ") as raised:
        jid_of(text)
    assert says in str(raised.value)
    assert str(raised.value).isprintable()
    for key in ("to", "rooms"):
        with pytest.raises(ConfigError) as of_config:
            parse(f"{CHANNEL}{key} = [{json.dumps(text)}]\n".encode(), "here")
        assert of_config.value.args == (f"here:6: channel 'chat': {text!r} {raised.value}",)
    with pytest.raises(ConfigError) as of_jid:
        parse(CHANNEL.replace('"bell@example.org"', json.dumps(text)).encode() + b'to = ["a@b"]', "here")
    assert of_jid.value.args == (f"here:4: channel 'chat': {text!r} {raised.value}",)
    if text:
        path = tmp_path / "people.toml"
        path.write_text(f'[[person]]\nname = "a"\ncontacts = {{ xmpp = [{json.dumps(text)}] }}\n')
        with pytest.raises(ConfigError) as of_people:
            People.load(path)
        assert of_people.value.args == (f"{path}:3: person 'a': contacts.xmpp: {text!r} {raised.value}",)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "to and rooms are empty; name at least one person or room"),
        ("to = []\nrooms = []", "to and rooms are empty; name at least one person or room"),
        ('to = ["a@b"]\nnick = ""', "nick has to be a name that people can read"),
        ('rooms = ["a@b"]\nnick = "a\\u0007"', "nick has to be a name that people can read"),
        ('to = ["a@b"]\nroom_password = { env = "X" }', "room_password needs rooms"),
        ('rooms = ["a@b"]\nroom_password = { }', "room_password needs exactly one of file, env and command"),
        ('to = ["a@b"]\nsecurity = "none"', 'security has to be "starttls" or "tls", not \'none\''),
        (
            'to = ["a@b"]\nallow_plaintext = true',
            "there is no key 'allow_plaintext' here; it belongs under [[channel]] with type = \"email\"",
        ),
        ('to = ["a@b"]\nroom = ["x@y"]', "there is no key 'room'; did you mean 'rooms'?"),
    ],
)
def test_faults_of_a_channel(text: str, says: str) -> None:
    """What makes no sense is refused, and the message gives the remedy."""
    with pytest.raises(ConfigError) as raised:
        parse((CHANNEL + text).encode(), "here")
    assert says in str(raised.value)
    assert len(raised.value.args) == 1


def test_password_is_needed() -> None:
    """A channel without a password is refused: no server sends messages for somebody unknown."""
    with pytest.raises(ConfigError, match="password is missing; it has to be the place of the secret"):
        parse(CHANNEL.partition("password")[0].encode() + b'to = ["a@b"]', "here")
