"""``sshbell template``: the templates in use, and what they make of a made-up event."""

from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec

from consumer.actions import EventAction
from consumer.clock import isoformat, now_us
from consumer.deliver.digest import Cause
from consumer.deliver.language import language_of
from consumer.deliver.preview import event_like
from consumer.deliver.rendering import TEMPLATES, Renderer
from consumer.ecs import json_line
from consumer.process.threads import run_async

# A digest shows the event itself, and these others.
_OTHERS = (
    f"event={EventAction.LOGOUT} user=deploy host=web1 ip=203.0.113.7",
    f"event={EventAction.ATTEMPT} user=root host=web1 ip=198.51.100.23 method=password",
    f"event={EventAction.ATTEMPT} user=admin host=db1 ip=198.51.100.23 method=password",
)
_MAX_PER_HOUR = 60


class TemplateFile(msgspec.Struct, frozen=True):
    """A template: its name, the file in use, and whether that file is the user's own."""

    name: str
    path: Path
    is_own: bool


def templates_in(own: Path) -> list[TemplateFile]:
    """Return the templates in use, in order; ``own`` is the folder with the user's own."""
    built_in = Path(__file__).with_name("templates")
    names = dict.fromkeys((*TEMPLATES, *sorted(path.name for path in built_in.glob("*.j2"))))
    return [
        TemplateFile(name, (own if is_own else built_in) / name, is_own) for name in names for is_own in [(own / name).is_file()]
    ]


def preview_of(name: str, renderer: Renderer, words: str, timezone: str, language: str) -> str:
    """
    Return what a template makes of the event that ``event_like`` makes of ``words``.

    Raises:
        ValueError: the words have an unknown key or an invalid value.
    """
    now = now_us()
    event = event_like(words, isoformat(now))
    zone = ZoneInfo(timezone) if timezone else None
    is_chat = ".chat." in name
    if name.startswith("digest."):
        bodies = [json_line(each) for each in (event, *(event_like(other, isoformat(now)) for other in _OTHERS))]
        message = run_async(
            renderer.digest(
                f"{Cause.CAP}-preview",
                [(now, body) for body in bodies],
                max_per_hour=_MAX_PER_HOUR,
                now_us=now,
                zone=zone,
                medium="chat" if is_chat else "mail",
                language=language_of(language),
            )
        )
    else:
        message = renderer.message(
            "preview", event, queued_us=now, now_us=now, zone=zone, medium="chat" if is_chat else "mail",
            language=language_of(language),
        )  # fmt: skip
    if name.startswith("subject."):
        return message.subject
    return message.html if ".html." in name else message.text
