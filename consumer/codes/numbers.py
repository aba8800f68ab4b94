"""Random numbers: codes, and the numbers of sessions."""

import secrets

# A printed code has to hold for months, and nobody reads it from a telephone.
EMERGENCY_DIGITS = 12


def number(digits: int) -> str:
    """Return a random number with exactly this many digits; each is as likely as any other."""
    return f"{secrets.randbelow(10**digits):0{digits}}"
