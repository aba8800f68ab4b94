"""Fingerprints of keys, in all spellings of people and of sshd's versions."""

import re
from typing import NamedTuple


class Fingerprints(NamedTuple):
    """A key: ``SHA256:`` and 43 characters, ``MD5:`` and hex with colons; "" if one is unknown."""

    sha256: str
    md5: str

    def __str__(self) -> str:
        return self.sha256 or self.md5


def canonical(fingerprint: str) -> str:
    """Return a fingerprint in the form of ``Fingerprints``; "" if the text is not one."""
    text = fingerprint.strip()
    if re.fullmatch(r"SHA256:[A-Za-z0-9+/]{43}=?", text):
        return text.rstrip("=")
    bare = text[4:] if text[:4].upper() == "MD5:" else text
    return f"MD5:{bare.lower()}" if re.fullmatch(r"[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){15}", bare) else ""
