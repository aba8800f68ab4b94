"""Finds from where the person who typed a command is logged in, so that nobody locks the door behind themselves."""

import os
import pwd
from collections.abc import Iterator
from pathlib import Path

from consumer.block.target import Target, network_target, user_target
from consumer.clock import now_us
from consumer.errors import StoreError
from consumer.store.queries import open_now, sessions

# From a shell within a shell within sudo up to sshd.
_ANCESTORS_LIMIT = 64
_NOBODY = 4294967295  # /proc/self/loginuid of a process that no login has started


def own_logins(state_dir: Path) -> dict[Target, str]:
    """
    Return the addresses from which this person is logged in, and the names of the accounts, each with the evidence in words.

    The evidence is SSH_CONNECTION of this process and those that started it (sudo clears it for its command), and the open
    sessions in the log of the user as whom the person logged in, which the kernel knows.

    Args:
        state_dir: has the open sessions, if they can be read.
    """
    found = dict.fromkeys(_connections(), "SSH_CONNECTION names it")
    user = _login_user()
    if user:
        found[user_target(user)] = "you are logged in as this user"
        try:
            logins = [session.login for session in sessions(state_dir, open_now(user, None, now_us()))]
        except StoreError:
            logins = []
        for login in logins:
            for address in _targets(login.address or ""):
                found.setdefault(address, f"{user} has a session from there")
    return found


def _connections() -> Iterator[Target]:
    pid = os.getpid()
    for _ in range(_ANCESTORS_LIMIT):
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes() if pid != os.getpid() else b""
            parent = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()[1]
        except (OSError, IndexError):
            return
        texts = [part.partition(b"=")[2] for part in environment.split(b"\0") if part.startswith(b"SSH_CONNECTION=")]
        if pid == os.getpid():
            texts = [os.environb.get(b"SSH_CONNECTION", b"")]
        for text in texts:
            yield from _targets(text.decode("ascii", "replace").partition(" ")[0])
        pid = int(parent)
        if pid == 0:
            return


def _login_user() -> str:
    try:
        uid = int(Path("/proc/self/loginuid").read_text("ascii"))
        return "" if uid == _NOBODY else pwd.getpwuid(uid).pw_name
    except (OSError, ValueError, KeyError):
        return ""


def _targets(text: str) -> Iterator[Target]:
    try:
        yield network_target(text)
    except ValueError:
        return
