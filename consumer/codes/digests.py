"""Keyed digests of codes: without the key, nobody can find a code by trying all of them."""

import hmac


def code_digest(key: bytes, session: str, user: str, code: bytes) -> bytes:
    """Return the digest of a code, which counts for one session of one user."""
    return _digest(key, b"code", session, user, code)


def emergency_digest(key: bytes, user: str, code: bytes) -> bytes:
    """Return the digest of an emergency code of a user."""
    return _digest(key, b"emergency", "", user, code)


def is_equal(one: bytes, other: bytes) -> bool:
    """Compare digests in constant time."""
    return hmac.compare_digest(one, other)


def _digest(key: bytes, purpose: bytes, session: str, user: str, code: bytes) -> bytes:
    # A name of a user cannot contain NUL.
    return hmac.digest(key, b"\0".join((purpose, session.encode(), user.encode(), code)), "sha256")
