"""The lines of ``authorized_keys``, read as sshd reads them."""

from collections.abc import Iterator
from typing import NamedTuple


class AuthorizedKey(NamedTuple):
    """
    One line that allows a key.

    Attributes:
        type: as the file spells it, ``ssh-ed25519``.
        sha256: ``SHA256:`` and 43 characters of unpadded base64, as sshd logs it.
        md5: ``MD5:`` and 16 bytes in hex with colons.
        comment: what stands behind the key, "" if nothing does; hostile text, cut to ``COMMENT_LIMIT`` characters, bytes that are
            not UTF-8 as ``\\xNN``.
        options: those that matter to whoever reads about a login, as the file writes them: ``from="192.0.2.0/24"``, ``restrict``.
        is_authority: it is a ``cert-authority`` line: no key of a person, but one whose certificates are accepted.
        line: 1 is the first.
    """

    type: str
    sha256: str
    md5: str
    comment: str
    options: list[str]
    is_authority: bool
    line: int


def parsed(text: bytes) -> Iterator[AuthorizedKey]:
    """Yield the lines that allow something; never raises."""
    raise NotImplementedError
