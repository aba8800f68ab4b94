"""No text of a log becomes a command, a mention, Markdown, a link's name or a part of the structure in any chat service."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from consumer.deliver.channels import Detail, Message, payloads
from consumer.deliver.channels.syslog import _frame
from consumer.deliver.language import ENGLISH
from consumer.ecs import event_of, joined, json_line
from consumer.events_as_ecs import of_event
from tests.budget import examples
from tests.property.test_mail_injection import (
    CHOSEN,
    EVIL,
    GERMAN_NAME,
    LANGUAGE,
    NAME,
    RENDERER,
    enriched,
    events,
    german_sentences,
    sentences,
)  # fmt: skip
from tests.service_limits import JUDGES, texts_in, units

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from consumer.deliver.language import Language

SERVICES: dict[str, Callable[[Message], Any]] = {
    "slack": payloads.slack,
    "teams": payloads.teams,
    "discord": payloads.discord,
    "telegram": lambda message: payloads.telegram(message, "@ops"),
    "ntfy": lambda message: payloads.ntfy(message, "logins"),
}
CHAT_EVIL = [
    "<!channel>", "<!here|x>", "<@U024BE7LH>", "<#C1>", "<https://evil.example|your bank>", "@everyone", "@here", "<@&1>",
    "[x](https://evil.example)", "**b** __u__ ~~s~~ ||spoiler|| `code` ```", "*b* _i_ ~s~", "# h\n> q\n- l", ":boom:",
    "<at>Bob</at>", "{{DATE(2026-11-22T10:00:00Z,SHORT)}}", "{{{{{{TIME(", "${x}", "&lt;!channel&gt;", "&", '"}],"x":[{"', "\\",
    "\\*",
    "{{ 7 * 9 }}", "🔔" * 300, "@", "\n\n", "https://evil.example/",
]  # fmt: skip
hostile = st.lists(st.sampled_from(CHAT_EVIL + EVIL) | st.text(max_size=20), max_size=8).map("".join)


def messages(text: str, language: Language = ENGLISH) -> Iterator[Message]:
    """Yield messages about events that hold a text wherever a log or a database can put one."""
    name = text.encode("utf-8", "replace").decode()
    for event in events(text):
        plain = event_of(json_line(of_event(event, [])))
        for whole in (plain, joined(plain, enriched(name, 45.0))):
            yield RENDERER.message(event.id, whole, queued_us=0, now_us=1, medium="chat", language=language)


def judge(service: str, message: Message) -> None:
    """Check that a service takes a message and obeys nothing in it."""
    body = json.loads(msgspec.json.encode(SERVICES[service](message)))
    assert JUDGES[service](body) == ""


@pytest.mark.parametrize("service", SERVICES)
@LANGUAGE
@examples(40)
@given(text=hostile)
@example(text="".join(CHAT_EVIL))
@example(text="".join(EVIL))
@example(text="&" * 3000)
@example(text="*" * 3000)
@example(text="😀" * 3000)
def test_events(language: Language, service: str, text: str) -> None:
    """In a message about any event, whatever a log contains."""
    for message in messages(text, language):
        judge(service, message)


@pytest.mark.parametrize("service", SERVICES)
@examples(30)
@given(found=st.lists(hostile, min_size=1, max_size=5))
@example(found=["".join(CHAT_EVIL)] * 60)
@example(found=[f"{number}&<*" * 30 for number in range(60)])
def test_digests(service: str, found: list[str]) -> None:
    """In a digest of many."""
    folded = [(0, json_line(of_event(event, []))) for text in found for event in events(text)]
    message = asyncio.run(RENDERER.digest("held-1", folded, max_per_hour=60, now_us=1, medium="chat"))
    assert message.text.count("\n") < 80
    judge(service, message)


@pytest.mark.parametrize("service", SERVICES)
@examples(40)
@given(
    text=st.text(max_size=200),
    lines=st.lists(st.tuples(st.sampled_from(["user", "key of"]), hostile.filter(str.strip)), max_size=60),
    length=st.integers(0, 9000),
)
@example(text="", lines=[("user", "&")] * 60, length=9000)
@example(text="x\n", lines=[("user", "*" * 2000)] * 200, length=0)
@example(text="\n\n\n", lines=[], length=0)
def test_any_template(service: str, text: str, lines: list[tuple[str, str]], length: int) -> None:
    """Whatever a template of the user's renders, the service takes it, and what is cut is marked."""
    details = tuple(Detail(name, value.replace("\n", " "), name.capitalize()) for name, value in lines)
    # The renderer lets no text through that is empty or no Unicode.
    text = (text + "<*&@😀\n" * (length // 6)).encode("utf-8", "replace").decode().strip() or "x"
    message = Message("1" * 32, "subject", text, title="title", details=details, closing=("notes",) * 5, late="2 h")
    judge(service, message)
    whole = "".join(texts_in(json.loads(msgspec.json.encode(SERVICES[service](message)))))
    if units(text) > 10_000 and not details:
        assert "(cut)" in whole.replace("\\", "")


@LANGUAGE
@given(text=hostile)
@example(text="".join(CHAT_EVIL))
def test_first_two_lines(language: Language, text: str) -> None:
    """The first line is the first sentence of a mail; the second one has the way in and the advice, in our words alone."""
    name = text.encode("utf-8", "replace").decode()
    for event in events(text):
        plain = event_of(json_line(of_event(event, [])))
        form, ours = (sentences, NAME) if language is ENGLISH else (german_sentences, GERMAN_NAME)
        for whole, chosen in ((plain, ours), (joined(plain, enriched(name, 45.0)), CHOSEN)):
            message = RENDERER.message(event.id, whole, queued_us=0, now_us=1, medium="chat", language=language)
            title_form, _ = form(chosen)
            first, *others = message.text.partition("\n\n")[0].split("\n")
            assert title_form.fullmatch(first), first
            assert len(others) <= 1
            assert len("".join(others)) < 700


@pytest.mark.parametrize("message", [None, Message("held-1", "s", "two\nlines")])
@given(text=hostile)
@example(text="".join(CHAT_EVIL))
def test_skeletons(message: Message | None, text: str) -> None:
    """No text changes the structure of the user's own JSON, becomes a key, or is itself a template."""
    body = {
        "text": "{{ text }}", "a": {"b": ["x {{ subject }} y", 5, True, {"{{ text }}": "{{ title }}"}]}, "event": "{{ event }}",
        "user": "{{ event.user.name }}", "port": "{{ event.source.port }}", "none": "{{ nothing.at.all }}", "plain": "}}",
        "odd": "{{ 7 * 9 }}{{ text }}", "every": "{% for line in details %}{{ line.name }}{% endfor %}",
    }  # fmt: skip
    skeleton = payloads.Skeleton(body)
    for found in [message] if message is not None else messages(text):
        made = json.loads(msgspec.json.encode(skeleton.of(found), enc_hook=str))
        assert list(made) == list(body)
        assert made["text"] == found.text
        assert made["a"] == {"b": [f"x {found.subject} y", 5, True, {"{{ text }}": found.title}]}
        assert made["event"] == json.loads(msgspec.json.encode(found.event))
        assert made["none"] is None
        assert made["plain"] == "}}"
        assert made["odd"] == f"63{found.text}"
        assert made["user"] == found.event.get("user", {}).get("name")


@given(hostile)
@example("".join(CHAT_EVIL))
def test_lines(text: str) -> None:
    """A line of JSON is one line; a syslog message has one header, of visible ASCII, with seven fields of ours."""
    for message in messages(text):
        line = payloads.ecs_line(message)
        assert line.count(b"\n") == 1
        assert json.loads(line)["event"]["id"] == message.event["event"]["id"]
        frame = _frame(message)
        assert b"\n" not in frame
        head, _, rest = frame.partition(b" - ")
        assert head.isascii()
        assert len(head.split(b" ")) == 6
        assert head.split(b" ")[3] == b"sshbell"
        assert json.loads(rest) == json.loads(line)
