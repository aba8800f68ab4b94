"""``consumer.deliver.language``: each text of a message has a translation, with the same values, and is written in it."""

from __future__ import annotations

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

import pytest
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po

from consumer.actions import EventAction, OwnAction
from consumer.config_values import LANGUAGES, LanguageCode
from consumer.deliver.channels import Detail, Message
from consumer.deliver.channels.payloads import discord, slack, teams
from consumer.deliver.digest import Cause
from consumer.deliver.facts import details_of, duration_text, facts_of
from consumer.deliver.health import health_of
from consumer.deliver.language import CATALOGUES, ENGLISH, language_of
from consumer.deliver.rendering import TEMPLATES, Renderer
from consumer.deliver.sentences import sentences_of
from consumer.deliver.template_preview import preview_of
from consumer.ecs import json_line
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
