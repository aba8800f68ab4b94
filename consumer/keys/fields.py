"""Keys in events: what there is to ask about the key of a login, and what its event gets to say of the answer."""

from collections.abc import Iterable

import msgspec

from consumer.actions import SESSION_ACTIONS
from consumer.addresses import is_same_host
from consumer.ecs import CertificateFields, EcsEvent, KeyFields, SshFields, known


class Question(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """
    Whose is this, for this user? As ``consumer.keys.files.Wanted``; ``address`` is whence, for ``Match``.

    One ``for_table`` gets only some of the places in which look-ups may hang.
    """

    user: str
    fingerprint: str = ""
    ca_fingerprint: str = ""
    key_type: str = ""
    address: str = ""
    for_table: bool = False


def question_of(event: EcsEvent, here: str) -> Question | None:
    """
    Return what there is to ask about an event; None where it is no login to this host with a key.

    Args:
        event: of the outbox.
        here: this host's name.
    """
    user, host, key, certificate = event.user.name, event.host.name, event.ssh.key, event.ssh.certificate
    if user is None or host is None or not (key.fingerprint or certificate.ca_fingerprint):
        return None
    if event.event.action not in SESSION_ACTIONS or not is_same_host(host, here):
        return None
    return Question(user, key.fingerprint or "", certificate.ca_fingerprint or "", key.type or "", address=event.source.ip or "")


def account_name(user: str) -> str:
    """Return what stands for a user's account: a name service may know it by its name in any case (sssd with AD)."""
    return user.casefold()


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
