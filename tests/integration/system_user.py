"""A system user that exists only during a test, and a Python that it can read. Only root can create one."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from consumer.rights import unreachable
from tests import needs
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

PROJECT_DIR = Path(__file__).parents[2]
_numbers = count(1)


def command() -> tuple[list[str], dict[str, str]]:
    """Return a Python that every user can run, and the environment in which it finds this copy of sshbell."""
    env = os.environ | {"TZ": "UTC", "PYTHONPATH": str(PROJECT_DIR)}
    for reason in filter(None, map(unreachable, (PROJECT_DIR / "consumer/__init__.py", Path(pytest.__file__)))):
        pytest.skip(reason)
    if unreachable(Path(sys.executable)) is None:
        return [sys.executable], env
    # This one is in /root; use the system's own if that is the same version.
    own = shutil.which("python3", path="/usr/bin")
    version = "import sys; print(*sys.version_info[:2])"
    said = [
        subprocess.run([each, "-c", version], capture_output=True, check=True).stdout for each in (own, sys.executable) if each
    ]
    if len(set(said)) != 1 or len(said) != 2:
        pytest.skip(f"only root can run {sys.executable}, and /usr/bin/python3 is another version")
    return [str(own)], env | {"PYTHONPATH": f"{PROJECT_DIR}:{Path(pytest.__file__).parents[1]}"}


@contextmanager
def folder() -> Iterator[Path]:
    """Create a directory that every user can read; pytest's own are open only to root."""
    with tempfile.TemporaryDirectory(prefix="sshbell-") as made:
        Path(made).chmod(0o755)
        yield Path(made)


@contextmanager
def user(home: Path) -> Iterator[pwd.struct_passwd]:
    """Create a user with an empty home; delete both at the end."""
    needs.root("make users")
    name = f"bell-{os.getpid():x}-{next(_numbers)}"
    options = ["--system", "--user-group", "--no-create-home", "--home-dir", str(home), "--shell", "/usr/sbin/nologin"]
    subprocess.run(["useradd", *options, name], check=True)  # noqa: S607
    account = pwd.getpwnam(name)
    try:
        home.mkdir(mode=0o700)
        os.chown(home, account.pw_uid, account.pw_gid)
        yield account
    finally:
        # This user's processes have got a signal, and end a moment later; userdel refuses until then.
        wait_for(lambda: not is_at_work(account), f"{name} has no more processes")
        subprocess.run(["userdel", name], check=True)  # noqa: S607


def is_at_work(account: pwd.struct_passwd) -> bool:
    """Return whether a user has processes."""
    for file in Path("/proc").glob("[0-9]*/status"):
        with suppress(OSError):
            if f"\nUid:\t{account.pw_uid}\t" in file.read_text():
                return True
    return False
