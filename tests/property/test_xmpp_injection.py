"""No text of a log becomes an element, an attribute, a stanza of its own or the end of the stream, whatever it is."""

from __future__ import annotations

import asyncio
import xml.etree.ElementTree as ET
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from slixmpp.xmlstream.tostring import tostring

from consumer.channel_settings import XmppSettings
from consumer.config_values import Secret
from consumer.deliver.channels.xmpp import Xmpp, body_of, stanza_of
from consumer.deliver.rendering import Renderer
from consumer.ecs import event_of, json_line
from consumer.events_as_ecs import of_event
from tests.property.test_mail_injection import EVIL, LANGUAGE, events, texts

if TYPE_CHECKING:
    from consumer.deliver.language import Language

OPEN = "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>"
RENDERER = Renderer(Path("/nonexistent"), pytest.fail)
CHANNEL = Xmpp(XmppSettings(name="ops", jid="bell@example.org", password=Secret(env="BELL"), to=["ops@example.org"]))
XML = [
    "</body>", "</message><presence/>", "<!--", "<?x?>", "&y;", "&#0;", "</stream:stream>", "<![CDATA[", "\ufffe", "\ud800",
    "<!DOCTYPE x [<!ENTITY y 'z'>]>", "<html xmlns='http://jabber.org/protocol/xhtml-im'/>", "<subject>x</subject>", "]]>",
    "&amp;", "/me ", "'\"", "\r", "\U0010ffff", "&" * 3000, "ü" * 6000, "😀" * 3000,
]  # fmt: skip
evil = st.lists(st.sampled_from(EVIL + XML) | st.text(max_size=20), max_size=6).map("".join)
# Text that is not even UTF-8, from a template of the user.
anything = (evil | st.text(st.characters(codec=None), max_size=50)).filter(bool)


def arrived(text: str, kind: str = "chat") -> str:
    """Return the text of a message as it arrives, and check that there is nothing but the message."""
    stanza = stanza_of("alice@example.org", kind, "1.ops", body_of(text))  # type: ignore[arg-type]
    raw = tostring(stanza.xml, xmlns="jabber:client").encode()
    assert len(raw) < 10_000
    stream = ET.fromstring(OPEN.encode() + raw + b"</stream:stream>")  # noqa: S314 - we wrote it
    (message,) = stream
    assert stream.text is message.tail is None
    assert message.tag == "{jabber:client}message"
    assert message.attrib == {"to": "alice@example.org", "type": kind, "id": "1.ops"}
    body, origin, unstyled = message
    assert (body.tag, origin.tag, unstyled.tag) == (
        "{jabber:client}body", "{urn:xmpp:sid:0}origin-id", "{urn:xmpp:styling:0}unstyled",
    )  # fmt: skip
    assert (body.attrib, origin.attrib, unstyled.attrib) == ({}, {"id": "1.ops"}, {})
    assert not [*body, *origin, *unstyled]
    assert body.tail is origin.tail is unstyled.tail is origin.text is unstyled.text is None
    return body.text or ""


@given(anything, st.sampled_from(["chat", "groupchat"]))
@example("".join(XML), "chat")
@example("".join(EVIL), "chat")
@example("&" * 100_000, "groupchat")
def test_any_text(text: str, kind: str) -> None:
    """Whatever a text is, it arrives as the text of one message, without what XML or a program cannot show."""
    found = arrived(text, kind)
    assert found == body_of(text)
    assert all(char in "\n\t" or not (ord(char) < 0x20 or 0x7F <= ord(char) < 0xA0) for char in found)
    usable = text.replace("\r\n", "\n").replace("\r", "\n")
    if all(char in "\n\t" or 0x20 <= ord(char) < 0x7F for char in usable) and len(usable) < 1500:
        assert found == usable
    assert found.endswith("\n… sshbell has cut this message.") or len(found) >= len(usable)


@LANGUAGE
@given(text=texts)
@example(text="".join(EVIL))
def test_events(language: Language, text: str) -> None:
    """A message about any event holds its texts as texts."""
    for event in events(text):
        found = event_of(json_line(of_event(event, [])))
        made = RENDERER.message(event.id, found, queued_us=0, now_us=1, medium="chat", language=language)
        assert made.html == ""
        shown = arrived(made.text)
        assert shown.replace("\n", "").isprintable()
        assert shown.startswith(made.title)
        assert not shown.startswith("/me ")


@given(st.lists(texts, min_size=1, max_size=5))
@example(EVIL)
def test_digests(found: list[str]) -> None:
    """So does a digest of many."""
    folded = [(0, json_line(of_event(event, []))) for text in found for event in events(text)]
    made = asyncio.run(RENDERER.digest("held-1", folded, max_per_hour=60, now_us=1, medium="chat"))
    assert arrived(made.text).replace("\n", "").isprintable()


@given(anything)
@example("".join(EVIL))
@example("\x1b[2J" * 200)
def test_reasons(text: str) -> None:
    """What a server says is one line for a terminal, of bounded length."""
    reason = CHANNEL._shown(text)
    assert reason.isprintable()
    assert len(reason) <= 300


@pytest.mark.parametrize("text", XML[:10])
def test_examples_are_hostile(text: str) -> None:
    """Without the channel's care, these texts would end the stream, or would not arrive as they are."""
    raw = f"{OPEN}<message><body>{text}</body></message></stream:stream>".encode("utf-8", "surrogatepass")
    found = None
    with suppress(ET.ParseError):
        found = ET.fromstring(raw).findtext("*/{*}body")  # noqa: S314 - we wrote it
    assert found != text
    assert arrived(text)
