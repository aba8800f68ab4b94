"""
Turns events into messages: subject, text and HTML, by Jinja2 templates.

Text from the network is made harmless before a template gets it, and is never used as a template.
"""

import re
import textwrap
from collections.abc import Callable, Iterable
from datetime import tzinfo
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
from jinja2 import ChainableUndefined, FileSystemLoader, TemplateError, TemplateNotFound
from jinja2.sandbox import SandboxedEnvironment

from consumer.codes.messages import CodeRequest
from consumer.deliver.channels import Detail, Medium, Message
from consumer.deliver.code_sentences import code_details, code_sentences, code_values
from consumer.deliver.digest import Cause, Digest
from consumer.deliver.facts import details_of, duration_text, facts_of
from consumer.deliver.language import ENGLISH, Language, language_of
from consumer.deliver.sentences import sentences_of
from consumer.deliver.steps import in_steps
from consumer.ecs import EcsEvent, NoEventError, event_of, joined
from consumer.text import harmless

TEMPLATES = (
    "subject.txt.j2", "message.txt.j2", "message.html.j2", "message.chat.j2", "digest.txt.j2", "digest.html.j2", "digest.chat.j2",
)  # fmt: skip

# A message says that it is late if it is rendered later than this after the event was queued.
LATE_US = 2 * 60 * 1_000_000
_TEXT_LIMIT, _SUBJECT_LIMIT = 500, 200
# For the output of a template; the largest of a built-in one is about 60 kB.
_BODY_LIMIT = 1 << 20
# For a line of text, in characters.
_WIDTH = 72

_PLAIN_ID = re.compile(r"[A-Za-z0-9_-]{1,100}\Z")


class Renderer:
    """
    Renders messages.

    Args:
        own: the folder with the user's own templates, which replace the built-in ones; it need not exist.
        report: gets one line, once for each cause, about a broken template that the built-in one replaces.
    """

    def __init__(self, own: Path, report: Callable[[str], None]) -> None:
        self._report = report
        self._reported: set[str] = set()
        self._own_path = own
        # The templates in each language: the user's own and the built-in ones.
        self._templates: dict[str, tuple[SandboxedEnvironment, SandboxedEnvironment]] = {}
        self.prepare([ENGLISH.code])

    def prepare(self, codes: Iterable[str]) -> None:
        """Load languages by their codes, and compile their templates: now, not when somebody logs in."""
        for code in codes:
            self._templates_in(language_of(code))

    def _templates_in(self, language: Language) -> tuple[SandboxedEnvironment, SandboxedEnvironment]:
        found = self._templates.get(language.code)
        if found is None:
            built_in = _environment(Path(__file__).with_name("templates"), language)
            for name in TEMPLATES:
                built_in.get_template(name)
            found = self._templates[language.code] = _environment(self._own_path, language), built_in
        return found

    def message(
        self, event_id: str, event: EcsEvent, *, queued_us: int, now_us: int, zone: tzinfo | None = None, map_url: str = "",
        medium: Medium = "mail", language: Language = ENGLISH,
    ) -> Message:  # fmt: skip
        """Return the message of one event. ``zone`` is the reader's, None for this host's; ``map_url`` is "" for no link."""
        fields = _harmless(msgspec.to_builtins(event))
        facts = facts_of(msgspec.convert(fields, EcsEvent), zone, map_url, language)
        values = msgspec.structs.asdict(facts) | msgspec.structs.asdict(sentences_of(facts))
        # Templates know the fields of the event by their names in ECS, such as "@timestamp".
        values |= {
            "event": fields,
            # As mappings, because the sandbox checks each use of an attribute, and these are used often.
            "lines": [detail._asdict() for detail in details_of(facts)],
            "late": _late(queued_us, now_us, language),
            "language": language.code,
        }
        values["subject"] = self._subject(values, language)
        return Message(
            id=plain_id(event_id),
            subject=values["subject"],
            text=self._text("message", medium, values, language),
            html=self._rendered("message.html.j2", values, language) if medium == "mail" else "",
            title=values["title"],
            details=tuple(Detail(**line) for line in values["lines"]),
            closing=(*values["notes"], *values["advice"]),
            event=fields,
            thread=plain_id(facts.login_id) if facts.login_id else "",
            late=values["late"],
            language=language.code,
        )

    async def digest(
        self, digest_id: str, folded: Iterable[tuple[int, bytes]], *, max_per_hour: int, now_us: int, zone: tzinfo | None = None,
        medium: Medium = "mail", omitted: int = 0, named: Callable[[EcsEvent], EcsEvent] | None = None,
        health: tuple[str, ...] = (), language: Language = ENGLISH,
    ) -> Message:  # fmt: skip
        """
        Return one message for many events.

        Args:
            digest_id: begins with the cause of the digest.
            folded: each event as the time when it was queued, and its JSON.
            max_per_hour: of the channel.
            now_us: the wall clock.
            zone: the reader's; None for this host's.
            medium: of the channel.
            omitted: events that are only counted.
            named: returns the name of an event's person, to add to it.
            health: sentences about sshbell itself.
            language: the reader's.
        """
        cause = Cause(digest_id.partition("-")[0])
        made = Digest(cause, omitted, tuple(_harmless(text) for text in health), language)
        first_us = now_us
        async for queued_us, body in in_steps(folded):
            first_us = min(first_us, queued_us)
            try:
                event = event_of(body)
                if named is not None:
                    event = joined(event, named(event))
                made.add(facts_of(msgspec.convert(_harmless(msgspec.to_builtins(event)), EcsEvent), zone, language=language))
            except NoEventError:
                made.add_unreadable()
        values: dict[str, Any] = {
            "held": made.held(max_per_hour), "late": _late(first_us, now_us, language), "language": language.code,
        }  # fmt: skip
        values["subject"] = self._subject(values, language)
        return Message(
            id=plain_id(digest_id),
            subject=values["subject"],
            text=self._text("digest", medium, values, language),
            html=self._rendered("digest.html.j2", values, language) if medium == "mail" else "",
            title=values["subject"],
            late=values["late"],
            language=language.code,
        )

    def code(
        self, message_id: str, event: EcsEvent, request: CodeRequest, *, zone: tzinfo | None = None, map_url: str = "",
        medium: Medium = "mail", language: Language = ENGLISH,
    ) -> Message:  # fmt: skip
        """
        Return the message with a one-time code, or the report that somebody asks for many codes.

        Args:
            message_id: of our own making.
            event: the login for which the code is, with what sshbell knows of it.
            request: the code.
            zone: the reader's; None for this host's.
            map_url: "" for no link.
            medium: of the channel.
            language: the reader's.
        """
        fields = _harmless(msgspec.to_builtins(event))
        facts = facts_of(msgspec.convert(fields, EcsEvent), zone, map_url, language)
        destination = _harmless(request.destination)
        values = msgspec.structs.asdict(facts) | msgspec.structs.asdict(code_sentences(facts, request))
        details = code_details(facts, request, destination)
        values |= {"event": fields, "lines": [detail._asdict() for detail in details], "late": "", "language": language.code}
        if not request.code:
            values["severity"] = "high"  # for the colour
        values["subject"] = self._subject(values, language)
        name = "message.txt.j2" if medium == "mail" else "message.chat.j2"
        text = self._with_code(name, values, language, request.code)
        return Message(
            id=plain_id(message_id),
            subject=values["subject"],
            text=text if medium == "mail" else text.strip(),
            html=self._with_code("message.html.j2", values, language, request.code) if medium == "mail" else "",
            title=values["title"],
            details=details,
            closing=(*values["notes"], *values["advice"]),
            event=fields,
            language=language.code,
            code=code_values(facts, request, destination),
        )

    def _with_code(self, name: str, values: dict[str, Any], language: Language, code: str) -> str:
        """Render a template. One of the user's that leaves out the title would leave out the code, so it does not count."""
        found = self._rendered(name, values, language)
        if code in found:
            return found
        self._complain(name, LookupError("it shows no title, and so no code"))
        return self._templates_in(language)[1].get_template(name).render(values)[:_BODY_LIMIT]

    def _text(self, name: str, medium: Medium, values: dict[str, Any], language: Language) -> str:
        if medium == "mail":
            return self._rendered(f"{name}.txt.j2", values, language)
        return self._rendered(f"{name}.chat.j2", values, language).strip()

    def _subject(self, values: dict[str, Any], language: Language) -> str:
        """Return one line, even if the template renders several."""
        return _cut(harmless(" ".join(self._rendered("subject.txt.j2", values, language).split())), _SUBJECT_LIMIT)

    def _rendered(self, name: str, values: dict[str, Any], language: Language) -> str:
        own, built_in = self._templates_in(language)
        try:
            return own.get_template(name).render(values)[:_BODY_LIMIT]
        except TemplateNotFound as error:
            if error.name != name:
                self._complain(name, error)
        except Exception as error:  # noqa: BLE001 - a template can raise anything, and sshbell must still report the login
            self._complain(name, error)
        return built_in.get_template(name).render(values)[:_BODY_LIMIT]

    def _complain(self, name: str, error: Exception) -> None:
        line = getattr(error, "lineno", None) if isinstance(error, TemplateError) else None
        place = f"{self._own_path / name}{'' if line is None else f' line {line}'}"
        fault = harmless(f"{place}: {type(error).__name__}: {error}; sshbell uses the built-in template")
        if fault not in self._reported and len(self._reported) < 100:
            self._reported.add(fault)
            self._report(fault)


def plain_id(text: str) -> str:
    """Return an id unchanged, or its hash if it has characters that sshbell's own ids do not have."""
    return text if _PLAIN_ID.match(text) else sha256(text.encode("utf-8", "replace")).hexdigest()[:32]


def _environment(folder: Path, language: Language) -> SandboxedEnvironment:
    environment: Any = SandboxedEnvironment(
        extensions=["jinja2.ext.i18n"],
        loader=FileSystemLoader(folder),
        autoescape=lambda name: name is not None and ".html" in name,
        undefined=ChainableUndefined,
        finalize=lambda value: "" if value is None else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # Values are put in by name, and escaped like any others.
    environment.install_gettext_translations(language.translations, newstyle=True)
    environment.filters |= {"fold": fold, "number": language.number}
    made: SandboxedEnvironment = environment
    return made


def fold(text: str, width: int = _WIDTH, indent: int = 0) -> str:
    """
    Return a text in lines of at most ``width`` characters, all but the first indented by ``indent`` blanks.

    Text in backticks stays on one line if it fits. Of a text without line feeds, such as every text of an event, only the first
    line begins at the margin.
    """
    if len(text) <= width - indent and text == text.strip(" "):
        return text
    # No text contains a no-break space, because that is not printable.
    kept = re.sub(r"`[^`]*`", lambda found: found[0].replace(" ", "\xa0"), text)
    lines = textwrap.wrap(kept, width - indent, break_on_hyphens=False)
    first, *others = [line.replace("\xa0", " ").rstrip(" ") for line in lines] or [""]
    return f"\n{' ' * indent}".join([first, *(line.lstrip(" ") for line in others)])


def _harmless(value: Any) -> Any:
    match value:
        case str():
            return _cut(harmless(value), _TEXT_LIMIT)
        case dict():
            return {_cut(harmless(key), _TEXT_LIMIT): _harmless(inner) for key, inner in value.items()}
        case list() | tuple():
            return [_harmless(inner) for inner in value]
    return value


def _late(queued_us: int, now_us: int, language: Language) -> str:
    return duration_text((now_us - queued_us) / 1e6, language) if now_us - queued_us > LATE_US else ""


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
