"""No text of a log becomes a header, an address, HTML, a line of its own or a template, whatever it is."""

from __future__ import annotations

import asyncio
import html.parser
from email import message_from_bytes
from email.message import MIMEPart
from email.policy import SMTP
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from consumer.config import EmailSettings
from consumer.deliver.channels import Message
from consumer.deliver.channels.email import Email, _policy
from consumer.deliver.rendering import Renderer
from consumer.ecs import (
    NOTHING,
    AsFields,
    EcsEvent,
    GeoFields,
    KeyFields,
    SourceFields,
    SshFields,
    UserFields,
    event_of,
    joined,
    json_line,
)
from consumer.enrich.enricher import Enricher, Part
from consumer.events import Forged, Login, Logout
from consumer.events_as_ecs import of_event
from tests.ecs_events import ecs
from tests.lines import line_of

if TYPE_CHECKING:
    from email.message import EmailMessage

EVIL = [
    "\r\nBcc: evil@example.net", "\nSubject: x\n\nbody", "\r", "\0", "\u202e\u2066", "\u2028", "\x85", "\x1b[2J", "\x0b\x0c",
    "{{ 7123*9341 }}", "{% for x in y %}", "{#",
    "<script>alert(1)</script>", "&lt;", "\"'><img src=x>", "=?utf-8?q?=0D=0A?=", "\r\n.\r\n",
    "From x", "a@b, c@d", "\\",
    "\ud7ff\U000e0041", "😀" * 80, "x" * 2000, "%s%n", "None",
]  # fmt: skip
texts = st.lists(st.sampled_from(EVIL) | st.text(max_size=20), max_size=6).map("".join)
HEADERS = ["Subject", "From", "To", "Date", "Message-ID", "Auto-Submitted", "MIME-Version", "Content-Type"]
CHANNEL = Email(EmailSettings(name="ops", to=["ops@example.org"], sender="bell@example.org", security="none"))
RENDERER = Renderer(Path("/nonexistent"), pytest.fail)


def latin(text: str) -> str:
    """Return text as a line of a log holds it: one character a byte."""
    return text.encode("utf-8", "replace").decode("latin-1")


def events(text: str) -> list[Any]:
    """Return events that hold a text wherever a log can put one."""
    raw = latin(text)
    line = line_of(text=raw, program=raw, host=raw)
    name = text.encode("utf-8", "replace").decode()
    info = f"ED25519-CERT SHA256:abc ID {raw} (serial 7) CA RSA SHA256:d"
    login = Login("1" * 32, line, name, raw, "4711", raw, info, None, raw)
    return [
        login,
        Logout("2" * 32, line, name, raw, "4711", Login(raw, line, name, raw, "4711", raw), 5),
        Forged("3" * 32, line, name, raw, "22", 1012, raw),
    ]


def parsed(message: Message) -> EmailMessage:
    """Return a message as it arrives."""
    raw = CHANNEL._mail(message).as_bytes(policy=_policy("ascii"))
    assert raw.isascii()
    assert all(len(part) <= 998 for part in raw.split(b"\r\n"))
    assert b"\n" not in raw.replace(b"\r\n", b"")
    assert b"\r" not in raw.replace(b"\r\n", b"")
    assert b"\0" not in raw
    return message_from_bytes(raw, policy=SMTP)


class Tags(html.parser.HTMLParser):
    """Collects what a program that shows HTML would obey."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, tuple[str, ...]]] = []
        self.links: list[str | None] = []
        self.styles: list[str] = []
        self._is_style = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag and its attributes."""
        self.found.append((tag, tuple(name for name, _ in attrs)))
        self.links += [value for name, value in attrs if name in {"href", "src"}]
        self._is_style = tag == "style"

    def handle_data(self, data: str) -> None:
        """Note what a style says."""
        if self._is_style:
            self.styles.append(data)

    def handle_endtag(self, _tag: str) -> None:
        """A style ends."""
        self._is_style = False


def tags(text: str) -> Tags:
    """Return what there is."""
    parser = Tags()
    parser.feed(text)
    parser.close()
    return parser


STYLES = tags((Path(__file__).parents[2] / "consumer/deliver/templates/style.html.j2").read_text()).styles


KNOWN_TAGS = {
    "html", "head", "meta", "title", "style", "body", "p", "strong", "code", "table", "tr", "th", "td", "ul", "li", "a",
}  # fmt: skip
MAP = "https://map.example.org/?lat={latitude}&lon={longitude}&ip={ip}"


def check(mail: EmailMessage, *, references: bool) -> None:
    """Check that a message has our headers, our recipients and our structure, and nothing else."""
    names = [name for name in mail.keys() if name not in {"References", "In-Reply-To", "X-Sshbell-Late"}]  # noqa: SIM118 - no dict
    assert names == HEADERS
    assert ("References" in mail) == references
    assert [str(address) for address in mail["To"].addresses] == ["ops@example.org"]
    assert [str(address) for address in mail["From"].addresses] == ["bell@example.org"]
    assert str(mail["Subject"]).isprintable()
    parts = [part.get_content_type() for part in mail.walk()]
    assert parts == ["multipart/alternative", "text/plain", "text/html"]
    plain, shown = mail.get_body(("plain",)), mail.get_body(("html",))
    assert plain is not None
    assert shown is not None
    for text in (plain.get_content(), shown.get_content()):
        assert text.replace("\n", "").replace("\r", "").isprintable()
        assert str(7123 * 9341) not in text, "a text was a template"
    found = tags(shown.get_content().replace("\r", ""))
    assert {tag for tag, _ in found.found} <= KNOWN_TAGS
    attributes = {name for _, names in found.found for name in names}
    assert attributes <= {"lang", "charset", "style", "class", "name", "content", "href"}
    assert found.styles == STYLES
    assert all(link is not None and link.startswith("https://map.example.org/?lat=") for link in found.links)


@given(texts)
@example("".join(EVIL))
def test_events(text: str) -> None:
    """A message about any event holds its texts as texts."""
    for event in events(text):
        body = json_line(of_event(event, []))
        assert event_of(body) == of_event(event, [])
        message = RENDERER.message(event.id, event_of(body), queued_us=0, now_us=1)
        rows = message.text.split("\n")
        assert len(rows) <= 30, "a text has made lines of its own"
        check(parsed(message), references=isinstance(event, Logout) and bool(event.login.id))


@given(st.lists(texts, min_size=1, max_size=5))
@example(EVIL)
def test_digests(found: list[str]) -> None:
    """So does a digest of many."""
    folded = [(0, json_line(of_event(event, []))) for text in found for event in events(text)]
    message = asyncio.run(RENDERER.digest("held-1", folded, max_per_hour=60, now_us=1))
    check(parsed(message), references=False)


def enriched(text: str, number: float) -> EcsEvent:
    """Return what enrichment adds to an event, with a text of others wherever one can stand."""
    fields = {
        "user": {"full_name": text},
        "source": {
            "ip": "9.9.9.9", "domain": text, "anonymous": [text, text], "as": {"number": 64500, "organization": {"name": text}},
            "geo": {
                "name": text, "city_name": text, "region_name": text, "country_name": text, "country_iso_code": text,
                "continent_code": text, "timezone": text, "location": {"lat": number, "lon": number},
            },
        },
        "ssh": {
            "key": {"owner": [text, text, ""], "options": [text, text]}, "certificate": {"ca_owner": text},
            "via": {"host": {"name": text}, "user": {"name": text}},
        },
    }  # fmt: skip
    return ecs(fields)


@given(texts, st.floats() | st.floats(-180, 180))
@example("".join(EVIL), 45.0)
@example("x" * 60, 0.0)
@example("alice", -0.0)
def test_enriched_events(text: str, number: float) -> None:
    """Comments of keys, reverse names, places and people are texts, too, in each kind of message; so is a link to a map."""
    name = text.encode("utf-8", "replace").decode()
    renderer = Renderer(Path("/nonexistent"), pytest.fail)
    renderer.map_url = MAP
    for event in events(text):
        whole = joined(event_of(json_line(of_event(event, []))), enriched(name, number))
        message = renderer.message(event.id, whole, queued_us=0, now_us=1)
        assert len(message.text.split("\n")) <= 45, "a text has made lines of its own"
        check(parsed(message), references=isinstance(event, Logout) and bool(event.login.id))


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | texts, lambda inner: st.lists(inner, max_size=2)))
def test_odd_enrichment(odd: Any) -> None:
    """Whatever a part answers, in place of a text, a list or a group of fields, the message is made."""
    answers = [
        odd, EcsEvent(user=odd), EcsEvent(user=UserFields(full_name=odd)), EcsEvent(source=SourceFields(anonymous=odd)),
        EcsEvent(source=SourceFields(geo=GeoFields(location=odd), as_=AsFields(number=odd))), EcsEvent(ssh=odd),
        EcsEvent(ssh=SshFields(key=KeyFields(owner=odd, options=odd), via=odd)),
    ]  # fmt: skip
    event = ecs({"event": {"id": "1", "action": "ssh_login"}, "user": {"name": "alice"}, "source": {"ip": "9.9.9.9"}})

    def part(answer: Any) -> Part:
        async def of(_event: EcsEvent) -> EcsEvent:
            return answer  # type: ignore[no-any-return]

        return Part("odd", 60.0, of)

    async def told() -> EcsEvent:
        return await Enricher(map(part, answers)).enrich(event)

    check(parsed(RENDERER.message("1", asyncio.run(told()), queued_us=0, now_us=1)), references=False)


@given(texts)
@example("".join(EVIL))
def test_ids(text: str) -> None:
    """Whatever an id is, it is one id in its header."""
    name = text.encode("utf-8", "replace").decode()
    mail = parsed(RENDERER.message(name, NOTHING, queued_us=0, now_us=1))
    assert mail["Message-ID"].count("@") == 1
    assert mail["Message-ID"].endswith(".ops@sshbell>")


@given(texts, texts)
def test_headers_of_any_message(subject: str, late: str) -> None:
    """Even a message that was not made by our renderer cannot bring a header of its own: it is refused."""
    subject, late = (text.encode("utf-8", "replace").decode() for text in (subject, late))
    try:
        mail = CHANNEL._mail(Message("a" * 32, subject, "text", "<p>text</p>", late=late))
    except ValueError:
        return
    assert "Bcc" not in mail
    assert [str(address) for address in mail["To"].addresses] == ["ops@example.org"]


@given(st.sampled_from(["\r\n", "=", " ", "\t", "\x85", ".", "é" * 400, "x" * 998]) | texts, texts)
@example("", "")
@example("\r\r\n\n \t\n", "a = b\n" * 50)
def test_contents(first: str, second: str) -> None:
    """What is written arrives as the standard library's own ``set_content`` would have sent it."""
    # No text of the renderer holds a zero.
    first, second = (text.replace("\0", "").encode("utf-8", "replace").decode() for text in (first, second))
    mail = parsed(Message("a" * 32, "subject", first + second, second + first))
    for subtype, text in (("plain", first + second), ("html", second + first)):
        part = mail.get_body((subtype,))
        assert part is not None
        model = MIMEPart(policy=SMTP)
        model.set_content(text, subtype=subtype)
        arrived, wanted = (each.get_content().replace("\r\n", "\n") for each in (part, model))
        assert arrived == wanted
        assert (part.get_content_type(), part.get_content_charset()) == (f"text/{subtype}", "utf-8")


@pytest.mark.parametrize("place", ["text", "html"])
def test_boundary_in_a_text(place: str) -> None:
    """Who has read a mail cannot end a part of the next one: what parts them never stands in them."""
    boundary = parsed(Message("a" * 32, "subject", "text", "<p>text</p>")).get_boundary()
    contents = {"text": "text", "html": "<p>text</p>"} | {place: f"before\n--{boundary}--\nafter\n"}
    mail = parsed(Message("a" * 32, "subject", contents["text"], contents["html"]))
    assert mail.get_boundary() != boundary
    text, html_text = (part.get_content().replace("\r\n", "\n").rstrip("\n") for part in mail.iter_parts())
    assert {"text": text, "html": html_text} == {name: content.rstrip("\n") for name, content in contents.items()}
