"""Events in their outer form, for tests: written and compared as the JSON that people know."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from consumer.ecs import EcsEvent, Fields, json_line


def ecs(fields: dict[str, Any]) -> EcsEvent:
    """Return the event that a JSON object says."""
    return msgspec.convert(fields, EcsEvent)


def fields_of(found: Fields) -> dict[str, Any]:
    """Return what is written of an event, or of a group of its fields."""
    written: dict[str, Any] = json.loads(json_line(found))
    return written
