"""Keys in events: the question about the key of a login, and the fields for the answer."""

from collections.abc import Iterable

import msgspec

from consumer.actions import SESSION_ACTIONS
from consumer.addresses import is_same_host
from consumer.ecs import CertificateFields, EcsEvent, KeyFields, SshFields, known


class Question(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """
    Who owns this key, for this user? "" stands for an unknown part.

    Attributes:
        fingerprint: with ``SHA256:`` or ``MD5:``, or bare MD5 as up to OpenSSH 6.7; for a certificate, of its own key.
        ca_fingerprint: of the authority's key; not "" if the login used a certificate.
        key_type: as sshd logs it, ``ED25519``; only ``AuthorizedKeysCommand`` may need it.
        address: of the client; ``Match`` needs it.
        for_table: it may use only some of the slots for look-ups, which a hanging look-up occupies.
    """

    user: str
    fingerprint: str = ""
    ca_fingerprint: str = ""
    key_type: str = ""
    address: str = ""
    for_table: bool = False


def question_of(event: EcsEvent, here: str) -> Question | None:
    """
    Return the question about an event; None if it is not a login to this host with a key.

    Args:
        event: from the outbox.
        here: this host's name.
    """
    user, host, key, certificate = event.user.name, event.host.name, event.ssh.key, event.ssh.certificate
    if user is None or host is None or not (key.fingerprint or certificate.ca_fingerprint):
        return None
    if event.event.action not in SESSION_ACTIONS or not is_same_host(host, here):
        return None
    return Question(user, key.fingerprint or "", certificate.ca_fingerprint or "", key.type or "", address=event.source.ip or "")


def account_name(user: str) -> str:
    """Return the same text for all spellings of an account: a name service may accept any case (sssd with AD)."""
    return user.casefold()


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
