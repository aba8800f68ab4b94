"""Fields of an event, which is an ECS object: nested, and from a process that may have been another version's."""

from collections.abc import Iterable
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


def of_owners(lines: Iterable[tuple[str, list[str], bool]]) -> Object:
    """
    Return what stands under ``ssh``: whose key it was, or whose authority signed its certificate, and what restricts it.

    Args:
        lines: those that allow the key, or its authority's certificates: comment, options, and whether it is an authority's.
    """
    owners: dict[str, None] = {}
    authorities: dict[str, None] = {}
    restrictions: dict[str, None] = {}
    for comment, options, is_authority in lines:
        if comment:
            (authorities if is_authority else owners)[comment] = None
        restrictions |= dict.fromkeys(filter(None, options))
    found: Object = {}
    if owners:
        found["key"] = {"owner": list(owners)}
    if restrictions:
        found.setdefault("key", {})["options"] = list(restrictions)
    if authorities:
        found["certificate"] = {"ca_owner": ", ".join(authorities)}
    return found


def is_same_host(one: str, other: str) -> bool:
    """Tell whether two names may be of one host: they are equal, or one of them is the other's first label."""
    one, other = one.casefold(), other.casefold()
    return one == other or one == other.partition(".")[0] or other == one.partition(".")[0]
