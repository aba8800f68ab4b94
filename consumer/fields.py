"""Fields of an event, which is an ECS object: nested, and from a process that may have been another version's."""

from typing import Any

Object = dict[str, Any]


def text_of(event: Object, *path: str) -> str | None:
    """Return the text of a field; None where there is none, it is empty or something else stands there."""
    found: Any = event
    for name in path:
        found = found.get(name) if isinstance(found, dict) else None
    return found if isinstance(found, str) and found else None


def joined(event: Object, more: Object) -> Object:
    """Return an event with further fields; what it has already stays."""
    whole = dict(event)
    for name, value in more.items():
        if name not in whole:
            whole[name] = value
        elif isinstance(whole[name], dict) and isinstance(value, dict):
            whole[name] = joined(whole[name], value)
    return whole
