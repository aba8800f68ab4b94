"""Makes codes, and keyed digests of them: without the key, nobody can find a code by trying all digests."""

import hmac
import secrets

# A printed code has to hold for months, and nobody reads it from a telephone.
EMERGENCY_DIGITS = 12


def number(digits: int) -> str:
    """Return a random number with exactly so many digits; each is as likely as any other."""
    return f"{secrets.randbelow(10**digits):0{digits}}"


def code_digest(key: bytes, session: str, user: str, code: bytes) -> bytes:
    """Return the digest of a code, which counts for one session of one user."""
    return _digest(key, b"code", session, user, code)


def emergency_digest(key: bytes, user: str, code: bytes) -> bytes:
    """Return the digest of an emergency code of a user."""
    return _digest(key, b"emergency", "", user, code)


def is_equal(one: bytes, other: bytes) -> bool:
    """Compare digests in a time that says nothing about them."""
    return hmac.compare_digest(one, other)


def _digest(key: bytes, purpose: bytes, session: str, user: str, code: bytes) -> bytes:
    # A name of a user cannot contain NUL.
    return hmac.digest(key, b"\0".join((purpose, session.encode(), user.encode(), code)), "sha256")
