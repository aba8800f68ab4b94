"""The fields of an event about the owner of its key."""

from collections.abc import Iterable

from consumer.ecs import CertificateFields, EcsEvent, KeyFields, SshFields, known


def of_owners(lines: Iterable[tuple[str, list[str], bool]]) -> EcsEvent:
    """
    Return the owners of a key, or of the authority that signed its certificate, and the restrictions.

    Args:
        lines: the lines that allow the key or its authority: comment, options, and whether it is a line for an authority.
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
