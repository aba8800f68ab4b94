"""What a login shows about who logs in: the key, the certificate, and whether somebody could have guessed the secret."""

from functools import lru_cache
from typing import NamedTuple

from consumer.detect.findings import is_verified
from consumer.events import Login
from consumer.matching.messages import method_info

# Nobody guesses these. With several factors, one of them is enough.
_NOT_GUESSED = frozenset({"publickey", "hostbased", "gssapi-with-mic", "gssapi-keyex"})
# Texts of keys that are remembered with what they say. Each account has one or two.
_TEXTS = 4096


class Credential(NamedTuple):
    """The fingerprint of a key, and the id of a certificate with that of its authority; "" if there is none."""

    key: str
    certificate: str


@lru_cache(_TEXTS)
def credential_of(info: str | None) -> Credential:
    """Return the credential in the text of a login: ``Login.info``."""
    found = method_info(info) if info is not None else {}
    certificate = found.get("certificate_id", "")
    return Credential(found.get("key_fingerprint", ""), f"{certificate}\0{found['ca_fingerprint']}" if certificate else "")


def learner_of(login: Login) -> str:
    """
    Return the key under which detectors remember what is usual for the account of a login.

    A sender of syslog can forge a login that is not verified. So such a login makes nothing usual for verified ones.
    """
    return login.user or "" if is_verified(login) else f"{login.user}\0{login.origin}"


def methods_of(login: Login) -> tuple[str, ...]:
    """Return the names of the methods of all factors, without submethods; "" for an unknown one."""
    return tuple([_name(method) for method in login.factors]) if login.factors else (_name(login.method or ""),)


def is_by_key(login: Login) -> bool:
    """Return whether a login needed more than a secret that somebody can guess."""
    if not login.factors:
        return _name(login.method or "") in _NOT_GUESSED
    return not _NOT_GUESSED.isdisjoint(methods_of(login))


def _name(method: str) -> str:
    return method.partition("/")[0] if "/" in method else method
