"""What an event gets to say of who has its key."""

from collections.abc import Iterable

from consumer.ecs import CertificateFields, EcsEvent, KeyFields, SshFields, known


def of_owners(lines: Iterable[tuple[str, list[str], bool]]) -> EcsEvent:
    """
    Return whose key it was, or whose authority signed its certificate, and what restricts it.

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
    return EcsEvent(
        ssh=known(
            SshFields(
                key=known(KeyFields(owner=tuple(owners), options=tuple(restrictions))),
                certificate=known(CertificateFields(ca_owner=", ".join(authorities) or None)),
            )
        )
    )
