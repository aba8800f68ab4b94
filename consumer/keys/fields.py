"""What an event says of who has its key."""

from collections.abc import Iterable

from consumer.fields import Object


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
