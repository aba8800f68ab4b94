"""The events of the log have names that a program can look for; sentences are in their reasons."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

CONSUMER = Path(__file__).parents[3] / "consumer"
LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}


def logged(source: str) -> Iterator[str]:
    """Yield the event of each call of a logger; a text that is no constant as its code."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id="log" | "_log"), attr=level), args=[event, *_]) if level in LEVELS:
                yield str(event.value) if isinstance(event, ast.Constant) else ast.unparse(event)


def test_events_have_names() -> None:
    """Each is one word in small letters."""
    events = [event for path in CONSUMER.rglob("*.py") for event in logged(path.read_text("utf-8"))]
    assert {"started", "sent", "keys_ended"} <= set(events)
    assert [event for event in events if not event.isidentifier() or event != event.lower()] == []


def test_a_sentence_is_found() -> None:
    """Sentences, constant or not, are no names."""
    assert list(logged('log.error("cannot start")\n_log.info(f"sent {x}")\nlogging.info("x y")')) == [
        "cannot start",
        "f'sent {x}'",
    ]
