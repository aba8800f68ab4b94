"""
The file in which ``sshbell canary`` announces a token to ``run``.

Only sshbell's own user and root can write the state directory, so nobody else can announce one. ``run`` deletes the file as soon
as the token is in the journal. That is the answer for which ``canary`` waits.
"""

import os
from contextlib import suppress
from pathlib import Path

_NAME = "canary"
_SIZE_LIMIT = 64


def announce(state_dir: Path, token: str) -> Path:
    """
    Write a token, and return the file.

    Raises:
        OSError: it cannot be written.
    """
    path, new = state_dir / _NAME, state_dir / f"{_NAME}.new"
    new.unlink(missing_ok=True)
    new.write_text(token, encoding="ascii")
    return new.replace(path)


def announced(state_dir: Path) -> str:
    """Return the announced token; "" if there is none. It never waits, whatever the file is."""
    with suppress(OSError, ValueError):
        descriptor = os.open(state_dir / _NAME, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:  # noqa: PTH123 - of a descriptor
            return file.read(_SIZE_LIMIT).decode("ascii")
    return ""


def forget_announcement(state_dir: Path) -> None:
    """Delete the file."""
    with suppress(OSError):
        (state_dir / _NAME).unlink()
