"""The real pam_access, asked by pamtester about a file."""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from tests import needs

if TYPE_CHECKING:
    from collections.abc import Iterator

_numbers = count(1)
# docs/blocking.md has these lines.
OPEN = "[success=ok perm_denied=bad default=ignore] pam_access.so nodefgroup accessfile={file}"
CLOSED = "required pam_access.so nodefgroup accessfile={file}"


class PamService:
    """
    A PAM service that asks pam_access about a file, in ``auth`` and in ``account``, and lets everybody else in.

    Args:
        file: the file.
        line: the line of the service, without its type.
    """

    def __init__(self, file: Path, line: str) -> None:
        self.name = f"sshbell-{os.getpid()}-{next(_numbers)}"
        self.path = Path("/etc/pam.d") / self.name
        control = line.format(file=file)
        self.path.write_text("".join(f"{kind} {control}\n{kind} required pam_permit.so\n" for kind in ("auth", "account")))

    def lets_in(self, user: str, address: str, operation: str = "authenticate") -> bool:
        """Return whether a user may log in from an address."""
        command = [needs.program("pamtester", "pamtester"), "-I", f"rhost={address}", self.name, user, operation]
        done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        said = done.stdout + done.stderr
        assert (": Permission denied" in said or ": Critical error" in said) is (done.returncode != 0), said
        return done.returncode == 0


@contextmanager
def pam_service(file: Path, line: str = CLOSED) -> Iterator[PamService]:
    """Create a PAM service, and delete it at the end."""
    needs.root("add a PAM service")
    service = PamService(file, line)
    try:
        yield service
    finally:
        service.path.unlink()
