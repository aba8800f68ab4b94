"""Whose key it was: the lines of ``authorized_keys`` that allow it, in every place where sshd looks."""

import pwd
from collections.abc import Iterator
from typing import NamedTuple

from consumer.enrich.authorized_keys import AuthorizedKey
from consumer.enrich.sshd_config import SshdSettings


class Wanted(NamedTuple):
    """What sshd has logged of a login: fingerprints with ``SHA256:`` or ``MD5:`` before them, or bare MD5; "" for what is not there."""

    user: str
    fingerprint: str = ""
    certificate_id: str = ""
    certificate_serial: int | None = None
    ca_fingerprint: str = ""


class KeyOwner(NamedTuple):
    """A line that allows a key, or an authority: see ``AuthorizedKey``. ``file`` is "" where a command has printed it."""

    comment: str
    options: list[str]
    file: str
    line: int
    is_authority: bool


def owners_of(wanted: Wanted, account: pwd.struct_passwd, settings: SshdSettings) -> list[KeyOwner]:
    """
    Return the lines that allow a key, or, where a certificate was used, its authority; never raises, and never blocks on a pipe.

    The files are read as the current process: become the user before.
    """
    raise NotImplementedError


def owners_by_command(wanted: Wanted, account: pwd.struct_passwd, settings: SshdSettings) -> list[KeyOwner]:
    """
    Return what ``AuthorizedKeysCommand`` says of a key; never raises, and returns within ``COMMAND_LIMIT_S``.

    It runs as the current process: become ``settings.authorized_keys_command_user`` before; as anybody else it is not run.
    """
    raise NotImplementedError


def keys_of(account: pwd.struct_passwd, settings: SshdSettings) -> Iterator[tuple[KeyOwner, AuthorizedKey]]:
    """Yield all lines of a user's files and of ``TrustedUserCAKeys``, read as the current process; never raises."""
    raise NotImplementedError
