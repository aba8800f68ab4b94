"""No text of a log becomes a header, an address, HTML, a line of its own or a template, whatever it is."""

from __future__ import annotations

import asyncio
import html.parser
import random
import re
from email import message_from_bytes
from email.policy import EmailPolicy
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from consumer.actions import EventAction
from consumer.channel_settings import EmailSettings
from consumer.config_values import LANGUAGES
from consumer.deliver.channels import Message
from consumer.deliver.channels.email import Email, _bytes_of
from consumer.deliver.digest import Cause
from consumer.deliver.event_kinds import KINDS
from consumer.deliver.language import language_of
from consumer.deliver.rendering import Renderer
from consumer.ecs import (
    NOTHING,
    AsFields,
    CertificateFields,
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
from consumer.events import Attempt, Forged, Login, Logout, Probe
from consumer.events_as_ecs import of_event
from tests.ecs_events import ecs
from tests.lines import line_of

if TYPE_CHECKING:
    from email.message import EmailMessage

    from consumer.deliver.language import Language

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
        Attempt("4" * 32, line, name, raw, "22", raw, user_is_valid=False, count=3, reason=raw),
        Probe("5" * 32, line, name, raw, "22", raw),
    ]


@lru_cache(maxsize=1000)
def header(name: str, value: str) -> Any:
    """Return a header as the email package reads it."""
    return EmailPolicy().header_fetch_parse(name, value)


class OfServers(EmailPolicy):
    """The package's policy ``SMTP``, which reads a header once. The package itself reads "Content-Type" forty times a mail."""

    def header_fetch_parse(self, name: str, value: str) -> Any:
        """Return a header."""
        return header(name, value)


def parsed(message: Message) -> EmailMessage:
    """Return a message as it arrives."""
    raw = _bytes_of(CHANNEL._mail(message), "ascii")
    assert raw.isascii()
    assert all(len(part) <= 998 for part in raw.split(b"\r\n"))
    assert b"\n" not in raw.replace(b"\r\n", b"")
    assert b"\r" not in raw.replace(b"\r\n", b"")
    assert b"\0" not in raw
    return message_from_bytes(raw, policy=cast("EmailPolicy[EmailMessage]", OfServers(linesep="\r\n")))


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
    "html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "strong", "code", "span", "br", "table", "tr", "th", "td",
    "a",
}  # fmt: skip
KNOWN_ATTRIBUTES = {
    "lang", "charset", "style", "class", "name", "content", "href", "role", "width", "cellpadding", "cellspacing", "border",
    "align", "valign",
}  # fmt: skip
MAP = "https://map.example.org/?lat={latitude}&lon={longitude}&ip={ip}"


# A name of others in a sentence of ours: one word, or in quotes that it cannot end, without a blank.
WORD = r"[\w.@+-]{1,64}"
NAME = rf"(?:{WORD}|“[\w.@+/\\:$·-]{{1,32}}…?”)"
# What an administrator has chosen, in people.toml and by a database of places; it may hide what is not the way itself.
CHOSEN = r"[^\n]{1,64}(?: \([A-Za-z, ]+\))?"
CLAIM = rf"(?:a|an|the) [a-z ]+(?: of {NAME})?"


def sentences(chosen: str) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Return what a first sentence and a subject can be; ``chosen`` can stand for a person and a place."""
    who, way = rf"(?:{NAME}|{chosen})", rf"(?: through {NAME}| from (?:{NAME}|[0-9a-f:.]+|{chosen}))?"
    return re.compile(
        rf"{who} logged in(?: to {NAME})?(?: as {NAME})?(?: with the (?:key|certificate) {WORD})?{way}\."
        rf"|{who} logged out(?: of {NAME})?(?: after [0-9a-z ]+)?\."
        rf"|Somebody tried 3 times to log in(?: to {NAME})?(?: as {NAME})?{way}, and failed\."
        rf"|Somebody connected(?: to {NAME})?{way} without trying to log in\."
        rf"|A process (?:of {NAME} \(uid 1012\)|with uid 1012)(?: on {NAME})? forged a log line: it claims {CLAIM}, but [a-z ]+\."
    ), re.compile(
        rf"{who} logged in(?: to {NAME})?(?: as {NAME})?{way}"
        rf"|{who} logged out(?: of {NAME})?(?: after [0-9a-z ]+)?"
        rf"|Failed login(?: to {NAME})?(?: as {NAME})?{way} \(3 times\)"
        rf"|Connection(?: to {NAME})?{way} without a login"
        rf"|FORGED line claims {CLAIM}(?: on {NAME})?"
    )  # fmt: skip


# A name in a German sentence, and a claim.
GERMAN_NAME = rf"(?:{WORD}|„[\w.@+/\\:$·-]{{1,32}}…?“)"
GERMAN_CLAIM = rf"(?:fehlgeschlagene )?(?:Anmeldung|Ereignis|(?:Beginn|Ende) einer Sitzung)(?: von {GERMAN_NAME})?"
GERMAN_HOST = rf"(?:{GERMAN_NAME}|dem Host)"


def german_sentences(chosen: str) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Return the same in German."""
    name = GERMAN_NAME
    who, way = rf"(?:{name}|{chosen})", rf"(?: über {name}| (?:von|aus) (?:{name}|[0-9a-f:.]+|{chosen}))?"
    parts = rf"(?: auf {name})?(?: als {name})?"
    return re.compile(
        rf"{who} hat sich{parts}(?: mit dem (?:Schlüssel|Zertifikat) {WORD})?{way} angemeldet\."
        rf"|{who} hat sich(?: von {name})?(?: nach [0-9a-z ]+)? abgemeldet\."
        rf"|Jemand hat 3-mal vergeblich versucht, sich{parts}{way} anzumelden\."
        rf"|Jemand hat sich(?: mit {name})?{way} verbunden, ohne eine Anmeldung zu versuchen\."
        rf"|Ein Prozess (?:von {name} \(UID 1012\)|mit UID 1012)(?: auf {name})? hat eine Logzeile gefälscht\. "
        rf"Sie meldet: {GERMAN_CLAIM}\. Tatsächlich [a-z, ]+\."
    ), re.compile(
        rf"Anmeldung: {who}{parts}{way}"
        rf"|{who} hat sich(?: von {name})?(?: nach [0-9a-z ]+)? abgemeldet"
        rf"|Fehlgeschlagene Anmeldung{parts}{way} \(3-mal\)"
        rf"|Verbindung(?: mit {name})?{way} ohne Anmeldung"
        rf"|GEFÄLSCHTE Zeile meldet: {GERMAN_CLAIM}(?: auf {name})?"
    )  # fmt: skip


GERMAN_PARAGRAPH = re.compile(
    rf"Das Log zeigt nicht, welcher Prozess diese Zeile geschrieben hat: Jeder Benutzer auf {GERMAN_HOST} könnte es gewesen "
    r"sein\. Dort zeigt `sshbell check`, wie Sie das ändern\."
    r"|Die Logzeile ist mehrdeutig\. Verlassen Sie sich auf keine Angabe, die der Client wählen konnte\."
    r"|Die Zeile im Wortlaut:"
    rf"|Wenn das kein Test von Ihnen war, versucht vielleicht jemand mit Zugang zu {GERMAN_HOST}, Sie in die Irre zu führen\. "
    r"Sehen Sie nach, was UID 1012 dort ausführt: `ps -fu 1012`"
    rf"|Wenn das weder Sie noch jemand waren, den Sie kennen, handeln Sie jetzt auf {GERMAN_HOST}: "
    r"(?:1\. Sperren Sie das Konto: `usermod --expiredate 1 KONTO` 2\. Beenden Sie seine Prozesse: `pkill -KILL -u KONTO` 3"
    r"|1\. Beenden Sie die Sitzung\. Dieser Befehl zeigt sie: `pgrep -a sshd` 2)\. "
    r"(?:Entfernen Sie den Schlüssel|Widerrufen Sie das Zertifikat|Ändern Sie das Passwort"
    r"|Ändern Sie Passwort und Schlüssel des Kontos)\. "
    rf"Wenn die Verwaltung von {GERMAN_HOST} nicht bei Ihnen liegt, verständigen Sie jemanden, der zuständig ist\."
    r"|sshbell, Ereignis [0-9A-Za-z_-]+"
)
PARAGRAPH = re.compile(
    rf"The log does not show which process wrote this: any user of (?:{NAME}|the host) could have\. "
    r"Run `sshbell check` there to see how to change that\."
    r"|The log line can be read in several ways\. Do not rely on what the client could choose\."
    r"|The line, as it was written:"
    rf"|If this was not a test of yours, somebody with access to (?:{NAME}|the host) may be trying to mislead you\. "
    r"See what uid 1012 runs there: `ps -fu 1012`"
    rf"|If this was not you or somebody you know, act on (?:{NAME}|the host) now: "
    r"(?:1\. Lock the account: `usermod --expiredate 1 ACCOUNT` 2\. End its processes: `pkill -KILL -u ACCOUNT` 3"
    r"|1\. End the session\. This lists it: `pgrep -a sshd` 2)\. "
    r"(?:Remove the key|Revoke the certificate|Change the password|Change its password and keys)\. "
    rf"If you do not administer (?:{NAME}|the host), call somebody who does\."
    r"|sshbell, event [0-9A-Za-z_-]+"
)
ENTRY = re.compile(rf"  00:00:00  (?:{NAME}|unknown|a|an|the)(?: |$)")
GERMAN_ENTRY = re.compile(rf"  00:00:00  (?:{GERMAN_NAME}|unbekannte|{GERMAN_CLAIM})")
DETAIL = re.compile(r"[A-Z][A-Za-z.ü -]{0,15}: +")
LABELS = {
    "Time", "Written by", "Claimed user", "User", "Caution", "Person", "Account of", "Host", "Claimed from", "From",
    "Reverse name", "Place", "Map", "Network", "Anonymous", "Through", "Method", "Key", "Key of", "Key options",
    "Certificate", "Signed by", "Principal", "Session", "Since", "Duration", "Tries", "Reason", "Origin",
}  # fmt: skip


GERMAN_LABELS = {language_of("de").gettext(label) for label in LABELS}


def check_sentences(message: Message, chosen: str = "") -> None:
    """Check that each sentence of a message is one of ours, and that a text of others begins no line at the margin."""
    is_german = message.language == "de"
    form, paragraph, labels = (german_sentences, GERMAN_PARAGRAPH, GERMAN_LABELS) if is_german else (sentences, PARAGRAPH, LABELS)
    title_form, subject_form = form(chosen or (GERMAN_NAME if is_german else NAME))
    assert subject_form.fullmatch(message.subject) or len(message.subject) == 200, message.subject
    title, *blocks = message.text.rstrip("\n").split("\n\n")
    assert title_form.fullmatch(title.replace("\n", " ")), title
    for block in blocks:
        rows = block.split("\n")
        if DETAIL.match(block):
            width = max(14, *(row.index(":") + 2 for row in rows if row[:1] != " "))
            assert width <= 14 or is_german
            found = [row.partition(":")[0] for row in rows if not row.startswith(" " * width)]
            assert set(found) <= labels
            own = [row for row in rows if row[:1] != " " and not row.startswith(("Map:", "Karte:"))]
            assert all(row[width - 1] == " " and row[width] != " " for row in own)
        elif not all(row.startswith("    ") for row in rows):
            assert paragraph.fullmatch(block.replace("\n", " ")), block
    for row in message.text.split("\n"):
        assert row == row.rstrip(" ")
        assert len(row) <= 72 or row.startswith(("Map:", "Karte:"))


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
    assert attributes <= KNOWN_ATTRIBUTES
    assert found.styles == STYLES
    assert all(link is not None and link.startswith("https://map.example.org/?lat=") for link in found.links)


LANGUAGE = pytest.mark.parametrize("language", [language_of(code) for code in LANGUAGES], ids=LANGUAGES)


@LANGUAGE
@given(text=texts)
@example(text="".join(EVIL))
def test_events(language: Language, text: str) -> None:
    """A message about any event holds its texts as texts."""
    for event in events(text):
        body = json_line(of_event(event, []))
        assert event_of(body) == of_event(event, [])
        message = RENDERER.message(event.id, event_of(body), queued_us=0, now_us=1, language=language)
        check_sentences(message)
        check(parsed(message), references=isinstance(event, Logout) and bool(event.login.id))


@LANGUAGE
@given(found=st.lists(texts, min_size=1, max_size=5))
@example(found=EVIL)
@example(found=["0" * 58])  # a name that fills its row
def test_digests(language: Language, found: list[str]) -> None:
    """So does a digest of many."""
    folded = [(0, json_line(of_event(event, []))) for text in found for event in events(text)]
    message = asyncio.run(RENDERER.digest("held-1", folded, max_per_hour=60, now_us=1, language=language))
    check(parsed(message), references=False)
    headings = {
        f"{language.gettext(KINDS[action].heading)} ({len(found) * (3 if action == 'ssh_attempt' else 1)})"
        for action in EventAction
        if action in {event.action for event in events("x")}
    }
    entry = ENTRY if language.code == "en" else GERMAN_ENTRY
    _, _, *blocks = message.text.rstrip("\n").split("\n\n")
    for block in blocks[: len(headings)]:
        heading, *rows = block.split("\n")
        assert heading in headings
        assert all(entry.match(row) or row.startswith(" " * 12) for row in rows)
    assert blocks[len(headings) :] in (["sshbell"], [blocks[-2], "sshbell"])
    assert all(len(row) <= 72 and row == row.rstrip(" ") for row in message.text.split("\n"))


@LANGUAGE
@given(found=st.lists(texts, min_size=1, max_size=3), cause=st.sampled_from(list(Cause)))
@example(found=EVIL, cause=Cause.DAILY)
@example(found=EVIL, cause=Cause.FOLD)
def test_digests_of_each_cause(language: Language, found: list[str], cause: Cause) -> None:
    """So does a report by person and host, with what sshbell says of itself."""
    folded = [(0, json_line(of_event(event, []))) for text in found for event in events(text)]
    message = asyncio.run(
        RENDERER.digest(
            f"{cause}-1", folded, max_per_hour=60, now_us=1, omitted=3, health=tuple(found),
            named=lambda _event: ecs({"sshbell": {"new": ["key", found[0]]}}), language=language,
        )
    )  # fmt: skip
    check(parsed(message), references=False)
    assert all(len(row) <= 72 and row == row.rstrip(" ") for row in message.text.split("\n"))
    text = " ".join(message.text.split())
    counted = {"en": "sshbell has counted 3 of them", "de": "3 davon hat sshbell nur gezählt"}[language.code]
    by_person = {"en": "By person and host", "de": "Nach Person und Host"}[language.code]
    assert counted in text
    assert (by_person in text) == cause.is_scheduled


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


@LANGUAGE
@given(text=texts, number=st.floats() | st.floats(-180, 180))
@example(text="".join(EVIL), number=45.0)
@example(text="x" * 60, number=0.0)
@example(text="alice", number=-0.0)
def test_enriched_events(language: Language, text: str, number: float) -> None:
    """Comments of keys, reverse names, places and people are texts, too, in each kind of message; so is a link to a map."""
    name = text.encode("utf-8", "replace").decode()
    for event in events(text):
        whole = joined(event_of(json_line(of_event(event, []))), enriched(name, number))
        message = RENDERER.message(event.id, whole, queued_us=0, now_us=1, map_url=MAP, language=language)
        check_sentences(message, CHOSEN)
        check(parsed(message), references=isinstance(event, Logout) and bool(event.login.id))


@LANGUAGE
@given(text=texts, parts=st.sets(st.sampled_from(["key", "via"])))
@example(text="".join(EVIL), parts={"key"})
@example(text=" ", parts=set())
@example(text="carol@laptop", parts={"key"})
@example(text="carol from Lyon, France", parts={"via"})
def test_what_users_write(language: Language, text: str, parts: set[str]) -> None:
    """No comment of a key, id of a certificate, reverse name or name of an account or host is a part of our sentences."""
    name = text.encode("utf-8", "replace").decode()
    ssh = {"key": {"owner": [name]}, "via": {"host": {"name": name}, "user": {"name": name}}}
    written = {
        "source": {"domain": name, "anonymous": [name], "geo": {"name": name}},
        "ssh": {"claimed_by_user": name} | {part: ssh[part] for part in parts},
    }
    for event in events(text):
        whole = joined(event_of(json_line(of_event(event, []))), ecs(written))
        message = RENDERER.message(event.id, whole, queued_us=0, now_us=1, language=language)
        check_sentences(message)
        check(parsed(message), references=isinstance(event, Logout) and bool(event.login.id))
        found = msgspec.structs.replace(whole, ssh=msgspec.structs.replace(whole.ssh, certificate=CertificateFields()))
        check_sentences(RENDERER.message(event.id, found, queued_us=0, now_us=1, language=language))


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
    """What is written arrives, each line of it."""
    # No text of the renderer holds a zero.
    first, second = (text.replace("\0", "").encode("utf-8", "replace").decode() for text in (first, second))
    mail = parsed(Message("a" * 32, "subject", first + second, second + first))
    for subtype, text in (("plain", first + second), ("html", second + first)):
        part = mail.get_body((subtype,))
        assert part is not None
        assert part.get_content().replace("\r\n", "\n") == b"\n".join([*(text.encode().splitlines() or [b""]), b""]).decode()
        assert (part.get_content_type(), part.get_content_charset()) == (f"text/{subtype}", "utf-8")


def test_boundaries() -> None:
    """Who has read many mails cannot end a part of the next one: what parts them is of this mail alone, and cannot be guessed."""
    found = set()
    for _ in range(3):
        random.seed(7)
        found.add(parsed(Message("a" * 32, "subject", "text", "<p>text</p>")).get_boundary())
    assert len(found) == 3
