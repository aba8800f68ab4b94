"""``consumer.deliver.language``: each text of a message has a translation, with the same values, and is written in it."""

from __future__ import annotations

import ast
import asyncio
import re
import subprocess
import sys
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from string import Formatter
from typing import TYPE_CHECKING, Any, get_args
from zoneinfo import ZoneInfo

import msgspec
import pytest
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po

from consumer.actions import EventAction, OwnAction
from consumer.config_values import LANGUAGES, LanguageCode
from consumer.deliver import language
from consumer.deliver.channels import Detail, Message
from consumer.deliver.channels.payloads import discord, slack, teams
from consumer.deliver.digest import Cause
from consumer.deliver.facts import details_of, duration_text, facts_of
from consumer.deliver.health import health_of
from consumer.deliver.language import CATALOGUES, ENGLISH, Language, language_of
from consumer.deliver.rendering import TEMPLATES, Renderer
from consumer.deliver.sentences import sentences_of
from consumer.deliver.template_preview import preview_of
from consumer.ecs import EcsEvent, FoundFields, HostFields, NoticeFields, event_of, json_line
from consumer.notices import Notice, notice_message
from tests.ecs_events import ecs

if TYPE_CHECKING:
    from babel.messages.catalog import Catalog

    from consumer.deliver.channels import Medium

PROJECT_DIR = Path(__file__).parents[3]
OTHERS = [code for code in LANGUAGES if code != ENGLISH.code]
GERMAN = language_of("de")
# What stands in a text for a value, and what a reader copies.
_VALUE, _COMMAND = re.compile(r"%\(\w+\)s"), re.compile(r"`[^`]*`")


def catalogue(code: str) -> Catalog:
    """Return the catalogue of a language."""
    with (CATALOGUES / code / "LC_MESSAGES" / "sshbell.po").open("rb") as file:
        return read_po(file, code, abort_invalid=True)


def forms_of(text: Any) -> tuple[str, ...]:
    """Return the forms of a text, of which one with a plural has several."""
    return tuple(text) if isinstance(text, tuple | list) else (text,)


def ids_in_source() -> set[Any]:
    """Return each text in the source, as Babel finds them with the settings of ``make texts``."""
    project = tomllib.loads((PROJECT_DIR / "pyproject.toml").read_text(encoding="utf-8"))
    methods = [(each["pattern"], each["method"]) for each in project["tool"]["babel"]["mappings"]]
    keywords: dict[str, Any] = {"_": None, "gettext": None, "ngettext": (1, 2), "N_": None, "NN_": (1, 2)}
    found = extract_from_dir(PROJECT_DIR, methods, keywords=keywords)
    return {text for _, _, text, _, _ in found}


def test_languages() -> None:
    """Each language of the settings has a catalogue, and each catalogue is one of the settings' languages."""
    assert get_args(get_args(LanguageCode)[0]) == LANGUAGES
    assert sorted(path.name for path in CATALOGUES.iterdir()) == sorted(OTHERS)


@pytest.mark.parametrize("code", OTHERS)
def test_the_catalogue_is_complete(code: str) -> None:
    """It has a text for each in the source, with every plural form, and no other; none of them is a guess."""
    found = catalogue(code)
    texts = {message.id: message for message in found if message.id}
    assert set(texts) == ids_in_source()
    assert not found.obsolete
    for message in texts.values():
        assert not message.fuzzy, message.id
        forms = forms_of(message.string)
        assert len(forms) == (found.num_plurals if message.pluralizable else 1)
        assert all(forms), message.id


@pytest.mark.parametrize("code", OTHERS)
def test_translations_have_the_same_values(code: str) -> None:
    """A translation has exactly the values of its text, the blank before it if it is a part, and its commands."""
    for message in catalogue(code):
        original = forms_of(message.id)[-1]
        for text in forms_of(message.string) if original else ():
            assert sorted(_VALUE.findall(text)) == sorted(_VALUE.findall(original))
            assert "%" not in _VALUE.sub("", text)
            assert text.startswith(" ") == original.startswith(" ")
            assert _COMMAND.findall(text) == [command.replace("ACCOUNT", "KONTO") for command in _COMMAND.findall(original)]
            assert "\n" not in text


def test_texts_take_values_by_name() -> None:
    """No text in the source has a form in which a value could be taken for a name of one."""
    for text in ids_in_source():
        for form in forms_of(text):
            assert "%" not in _VALUE.sub("", form), form
            assert [field for _, field, _, _ in Formatter().parse(form) if field is not None] == [], form


@pytest.mark.parametrize("code", OTHERS)
def test_labels_are_words(code: str) -> None:
    """A label has nothing that a chat service would obey, and leaves room for the values beside it."""
    every: dict[str, Any] = {
        "event": {"action": "ssh_login"}, "user": {"name": "a", "full_name": "A"},
        "source": {"ip": "9.9.9.9", "address": "9.9.9.9"},
    }  # fmt: skip
    for detail in details_of(facts_of(ecs(every), None, language=language_of(code))):
        assert re.fullmatch(r"[^\W\d_][\w .-]{0,15}", detail.label)
        assert detail.name.isascii()


EVENT: dict[str, Any] = {
    "@timestamp": "2026-11-22T10:00:00Z", "event": {"duration": 7_500_000_000_000, "original": "x"}, "host": {"name": "web1"},
    "user": {"name": "deploy", "full_name": "Carol"},
    "source": {
        "ip": "9.9.9.9", "address": "9.9.9.9", "port": 4711,
        "geo": {"city_name": "Lyon", "country_name": "France", "country_iso_code": "FR"},
    },
    "ssh": {"method": "publickey", "origin": "verified", "claim": "accepted", "claimed_by_uid": 1000},
    "message": "All is well.",
}  # fmt: skip


def german(action: str, **more: Any) -> Any:
    """Return the sentences about an event in German."""
    event = EVENT | {"event": EVENT["event"] | {"action": action}, "ssh": EVENT["ssh"] | more}
    return sentences_of(facts_of(ecs(event), None, language=GERMAN))


NOBODY = "Tatsächlich hat sich niemand angemeldet."


@pytest.mark.parametrize(
    ("action", "more", "title", "subject"),
    [
        (
            "ssh_login", {}, "Carol hat sich auf web1 als deploy aus Lyon, Frankreich angemeldet.",
            "Anmeldung: Carol auf web1 als deploy aus Lyon, Frankreich",
        ),
        ("ssh_logout", {}, "Carol hat sich von web1 nach 2 h 5 min abgemeldet.", ...),
        (
            "ssh_attempt", {}, "Jemand hat vergeblich versucht, sich auf web1 als deploy aus Lyon, Frankreich anzumelden.",
            "Fehlgeschlagene Anmeldung auf web1 als deploy aus Lyon, Frankreich",
        ),
        (
            "ssh_attempt", {"count": 1399},
            "Jemand hat 1.399-mal vergeblich versucht, sich auf web1 als deploy aus Lyon, Frankreich anzumelden.",
            "Fehlgeschlagene Anmeldung auf web1 als deploy aus Lyon, Frankreich (1.399-mal)",
        ),
        (
            "ssh_probe", {}, "Jemand hat sich mit web1 aus Lyon, Frankreich verbunden, ohne eine Anmeldung zu versuchen.",
            "Verbindung mit web1 aus Lyon, Frankreich ohne Anmeldung",
        ),
        (
            "ssh_forged", {},
            f"Ein Prozess mit UID 1000 auf web1 hat eine Logzeile gefälscht. Sie meldet: Anmeldung von deploy. {NOBODY}",
            "GEFÄLSCHTE Zeile meldet: Anmeldung von deploy auf web1",
        ),
        (
            "ssh_forged", {"count": 3},
            f"Ein Prozess mit UID 1000 auf web1 hat 3 Logzeilen gefälscht. Die erste meldet: Anmeldung von deploy. {NOBODY}",
            "GEFÄLSCHTE Zeile meldet: Anmeldung von deploy auf web1, und 2 weitere",
        ),
        ("sshbell_notice", {}, "sshbell auf web1 meldet: All is well.", "sshbell auf web1: All is well."),
        ("ssh_new", {}, "sshbell auf web1 meldet ein Ereignis, das diese Version nicht kennt: ssh_new.", ...),
    ],
)  # fmt: skip
def test_german(action: str, more: dict[str, Any], title: str, subject: Any) -> None:
    """German sentences stand in German order, with numbers and countries as Germans write them."""
    found = german(action, **more)
    assert found.title == title
    assert found.headline == (title.removesuffix(".") if subject is ... else subject)


def test_german_times() -> None:
    """Times have the German form, in the reader's zone and in UTC; a duration has units of the SI, also after a preposition."""
    berlin = ZoneInfo("Europe/Berlin")
    facts = facts_of(ecs(EVENT | {"event": {"action": "ssh_login"}}), berlin, language=GERMAN)
    assert facts.when == "22.11.2026, 11:00:00 CET (10:00:00 UTC)"
    assert facts.local == "22.11.2026, 11:00:00 CET"
    late = facts_of(ecs({"@timestamp": "2026-11-22T23:30:00Z"}), berlin, language=GERMAN)
    assert late.when == "23.11.2026, 00:30:00 CET (22.11.2026, 23:30:00 UTC)"
    assert duration_text(3 * 86400 + 7200, GERMAN) == "3 d 2 h"
    assert GERMAN.day(datetime(2026, 11, 22, tzinfo=UTC)) == "22.11.2026"


@pytest.mark.parametrize("code", LANGUAGES)
@pytest.mark.parametrize("name", TEMPLATES)
def test_each_template(code: str, name: str, tmp_path: Path) -> None:
    """Each template of each language renders, and no English is left in a German message."""
    renderer = Renderer(tmp_path, pytest.fail)
    for action in (*EventAction, OwnAction.TEST, OwnAction.NOTICE):
        text = preview_of(name, renderer, f"event={action} user=deploy host=web1 ip=9.9.9.9 method=password", "UTC", code)
        assert text
        assert "%(" not in text
        # "host", "method" and the like are also words of German labels; these are of English sentences alone.
        words = set(re.findall(r"[a-z]+", re.sub(r"<style>.*</style>|<[^>]*>", " ", text, flags=re.DOTALL).lower()))
        english = {"logged", "failed", "from", "the", "and", "late", "time", "messages", "forged", "tried", "reports", "login"}
        assert code == "en" or not words & english


@pytest.mark.parametrize("code", LANGUAGES)
@pytest.mark.parametrize("cause", Cause)
@pytest.mark.parametrize("medium", ["mail", "chat"])
def test_each_digest(code: str, cause: Cause, medium: Medium, tmp_path: Path) -> None:
    """A digest for each reason has its texts in the language, and its numbers add up in it."""
    bodies = [
        json_line(ecs(EVENT | {"event": {"action": action}, "sshbell": {"new": ["country"]}}))
        for action in ("ssh_login", "ssh_login", "ssh_attempt", "ssh_forged", "ssh_new")
    ]
    found = asyncio.run(
        Renderer(tmp_path, pytest.fail).digest(
            f"{cause}-1", [(0, body) for body in [*bodies, b"broken"]], max_per_hour=60, now_us=3600 * 1_000_000, medium=medium,
            omitted=12_345, language=language_of(code),
        )
    )  # fmt: skip
    assert found.language == code
    assert {"en": "12,351", "de": "12.351"}[code] in found.subject or cause.is_scheduled
    assert {"en": "2 logins, 1 failed login", "de": "2 Anmeldungen, 1 fehlgeschlagene Anmeldung"}[code] in found.subject
    assert {"en": "and 12,345 more", "de": "und 12.345 weitere"}[code] in found.subject
    assert "%(" not in found.text + found.html
    assert not re.search({"en": r"\b(?:und|Anmeldung)\b", "de": r"\b(?:and|from|login)\b"}[code], found.text)
    if medium == "mail":
        assert f'<html lang="{code}">' in found.html


def test_services_in_german() -> None:
    """What the channels add themselves, such as that a text was cut, is in the reader's language, too."""
    details = tuple(Detail("user", "x" * 900, "Benutzer") for _ in range(40))
    message = Message("1" * 32, "s", "Titel\nText", title="Titel", details=details, late="2 h", language="de")
    for service in (slack, teams, discord):
        text = str(service(message))
        assert "Benutzer" in text
        assert "(cut)" not in text
        assert "This message" not in text
    assert "weitere Angaben" in str(discord(message))
    assert "gekürzt" in str(discord(message))


def test_health(tmp_path: Path) -> None:
    """A host without a database has a fault to report in place of figures, in any language."""
    assert len(health_of(tmp_path, GERMAN)) == 1


@pytest.mark.parametrize(("language", "is_loaded"), [("en", False), ("de", True)])
def test_only_what_is_needed_is_loaded(tmp_path: Path, language: str, is_loaded: bool) -> None:  # noqa: FBT001
    """A host whose messages are in English loads neither Babel nor a catalogue."""
    code = f"""
import sys
from pathlib import Path
from consumer.deliver.language import language_of
from consumer.deliver.rendering import Renderer
from consumer.deliver.worker import Worker
from consumer.ecs import EcsEvent
renderer = Renderer(Path({str(tmp_path)!r}), print)
renderer.message("1", EcsEvent(), queued_us=0, now_us=0, language=language_of({language!r}))
print("babel" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"{is_loaded}\n"


def modules_with_reasons() -> list[Path]:
    """Return the modules whose texts are reasons for faults of channels."""
    channels = (PROJECT_DIR / "consumer/deliver/channels").glob("*.py")
    return [*sorted(channels), *(PROJECT_DIR / path for path in sorted(language.REASON_MODULES))]


def unmarked_texts(module: Path) -> list[str]:
    """Return the texts of several words in a module that are neither docstrings nor passed to a function of gettext."""
    tree = ast.parse(module.read_text(encoding="utf-8"))
    passed: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            passed.add(node.value)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in {
            "N_",
            "NN_",
            "_",
            "gettext",
            "ngettext",
        }:
            passed.update(ast.walk(node))
    constants = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in passed
    ]
    return [text for text in constants if re.search(r"[a-z]{2,} [a-z]{2,}", text)]


@pytest.mark.parametrize("module", modules_with_reasons(), ids=lambda path: path.stem)
def test_each_reason_is_marked(module: Path) -> None:
    """A text of several words in a module that writes reasons is in the catalogue, so that no digest shows it in English."""
    assert unmarked_texts(module) == []


def texts_of_reasons() -> list[str]:
    """Return each text in the modules with reasons that stands for itself."""
    found = []
    for module in modules_with_reasons():
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "N_":
                (text,) = node.args
                assert isinstance(text, ast.Constant)
                found.append(text.value)
    return sorted({str(text) for text in found})


@pytest.mark.parametrize("text", texts_of_reasons())
def test_reasons_are_translated(text: str) -> None:
    """A digest shows each reason in the reader's language, with its values, wherever it stands in the text of the store."""
    names = re.findall(r"%\((\w+)\)s", text)
    values = dict(zip(names, ("x.example:25", "250"), strict=False))
    made, wanted = text % values, GERMAN.gettext(text, **values)
    assert made != wanted
    assert GERMAN.reason(made) == wanted
    assert ENGLISH.reason(made) == made
    # After a place, and before advice. A text that begins with a value takes the place for a part of it.
    if not text.startswith("%"):
        assert GERMAN.reason(f"mail.example.org:25: {made}; x") == f"mail.example.org:25: {wanted}; x"


def test_reasons_of_others_stay() -> None:
    """What a server says stays as it is, also if it looks like a text of ours or like a place for a value."""
    said = "mail.example.org:25: MAIL was answered 550 %(who)s % %s not there"
    assert GERMAN.reason(said) == "Antwort auf mail.example.org:25: MAIL: 550 %(who)s % %s not there"


def test_notices() -> None:
    """A notice is in the reader's language, with the events that it reports together; one of another version stays English."""
    event_id, action, body = notice_message(
        Notice.LINES_LOST, "1", {"file": "/var/log/auth.log", "events": "21"},
        [
            FoundFields(timestamp="2026-11-22T10:00:00Z", action="ssh_login", user="root", ip="203.0.113.7"),
            FoundFields(timestamp="2026-11-22T10:00:01Z", action="ssh_attempt", user="a from b", count=3),
        ],
    )  # fmt: skip
    assert (event_id, action) == ("1", OwnAction.NOTICE)
    event = msgspec.structs.replace(event_of(body), host=HostFields(name="web1"))

    def told(event: EcsEvent, reader: Language) -> tuple[str, list[str]]:
        facts = facts_of(event, UTC, language=reader)
        return sentences_of(facts).title, [detail.value for detail in details_of(facts) if detail.name == "found"]

    assert told(event, ENGLISH) == (
        "sshbell on web1 reports: only /var/log/auth.log had 21 events; rsyslogd had lost their lines.",
        [
            "2026-11-22 10:00:00 UTC: Login of root from 203.0.113.7",
            '2026-11-22 10:00:01 UTC: Failed login of "a from b" (3 times)',
        ],
    )
    assert told(event, GERMAN) == (
        "sshbell auf web1 meldet: nur /var/log/auth.log enthielt 21 Ereignisse; rsyslogd hatte ihre Zeilen verloren.",
        [
            "22.11.2026, 10:00:00 UTC: Anmeldung, root von 203.0.113.7",
            '22.11.2026, 10:00:01 UTC: Fehlgeschlagene Anmeldung, "a from b" (3-mal)',
        ],
    )
    for labels in (None, {"notice": "of_tomorrow"}, {"notice": "lines_lost"}):
        other = msgspec.structs.replace(event, labels=labels, sshbell=NoticeFields(found=("a login",)))
        message = "sshbell auf web1 meldet: only /var/log/auth.log had 21 events; rsyslogd had lost their lines."
        assert told(other, GERMAN) == (message, ["a login"])


def test_each_notice_is_german() -> None:
    """Each notice of this version has a German text."""
    for notice in Notice:
        assert GERMAN.translations.gettext(notice.value) != notice.value
