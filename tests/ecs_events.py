"""Events in ECS for tests, which write and compare them as JSON."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from consumer.ecs import EcsEvent, Fields, json_line


def ecs(fields: dict[str, Any]) -> EcsEvent:
    """Return the event of a JSON object."""
    return msgspec.convert(fields, EcsEvent)


def fields_of(found: Fields) -> dict[str, Any]:
    """Return the fields that JSON has for an event, or for a group of its fields."""
    written: dict[str, Any] = json.loads(json_line(found))
    return written
