"""A host with its own users. Root starts ``sshbell run`` on it, which becomes one of them."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from consumer.config import KEYS_SOCKET
from consumer.keys.client import KeyOwners
from tests.ecs_events import ecs, fields_of
from tests.integration import system_user
from tests.integration.site import Run, Site
from tests.integration.sshd import key
from tests.waiting import wait_for

if TYPE_CHECKING:
    import pwd
    from collections.abc import Sequence

    from consumer.ecs import EcsEvent

# The time that a busy machine may need beyond a limit. What these tests look for takes as long as the machine runs.
PATIENCE_S = 60.0


class Host(Site):
    """
    A site whose ``run`` becomes a user. It has more users, who own keys.

    Attributes:
        bell: the user that ``run`` becomes.
        owners: asks ``keys`` as ``deliver`` does.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, has_state_dir=False)
        self.python, self.env = system_user.command()
        self.bell = self.stack.enter_context(system_user.user(folder / "bell"))
        self.owners = KeyOwners(self.state_dir)
        self.configure(user=self.bell.pw_name)

    def start(self, *arguments: str, prefix: Sequence[str] = ()) -> Run:
        """Start ``run``, and wait until it and its ``keys`` are ready."""
        run = self.start_run(*arguments, prefix=prefix)
        wait_for((self.state_dir / KEYS_SOCKET).exists, "keys may listen")
        keys = keys_of(run.pid)
        wait_for(lambda: status(keys)["NoNewPrivs"] == "1", "keys has begun")
        return run

    def user(self, comment: str = "") -> tuple[pwd.struct_passwd, str]:
        """Create a user with a key; return the account and the key's fingerprint."""
        home = self.folder / f"home-{len(list(self.folder.iterdir()))}"
        account = self.stack.enter_context(system_user.user(home))
        made = self.folder / f"{home.name}.key"
        fingerprint = key(made)
        kind, body, _ = (made.with_suffix(".key.pub")).read_text().split()
        allow(account, f'from="127.0.0.1,192.0.2.0/24" {kind} {body} {comment}\n')
        return account, fingerprint

    def public_key(self, account: pwd.struct_passwd) -> str:
        """Return the key of one of its users, without options and comment."""
        return " ".join((self.folder / f"{Path(account.pw_dir).name}.key.pub").read_text().split()[:2])

    def asked(self, user: str, fingerprint: str) -> tuple[dict[str, Any], float]:
        """Ask as ``deliver`` does; return the fields under ``ssh``, and the time that it took, in seconds."""
        began_s = time.monotonic()
        return fields_of(asyncio.run(self.owners.of(login(user, fingerprint))).ssh), time.monotonic() - began_s

    async def asked_at_once(self, logins: list[tuple[pwd.struct_passwd, str]]) -> list[dict[str, Any]]:
        """Ask about many logins at the same time."""
        found = await asyncio.gather(*[self.owners.of(login(account.pw_name, fingerprint)) for account, fingerprint in logins])
        return [fields_of(one.ssh) for one in found]


def login(user: str, fingerprint: str) -> EcsEvent:
    """Return the event of a login to this host."""
    fields = {
        "event": {"action": "ssh_login"}, "host": {"name": socket.gethostname()}, "user": {"name": user},
        "source": {"ip": "127.0.0.1"}, "ssh": {"key": {"type": "ED25519", "fingerprint": fingerprint}},
    }  # fmt: skip
    return ecs(fields)


def allow(account: pwd.struct_passwd, text: str) -> None:
    """Write the ``authorized_keys`` of a new user."""
    folder = Path(account.pw_dir) / ".ssh"
    folder.mkdir(mode=0o700)
    (folder / "authorized_keys").write_text(text)
    (folder / "authorized_keys").chmod(0o600)
    for path in (folder, folder / "authorized_keys"):
        os.chown(path, account.pw_uid, account.pw_gid)


def as_user(account: pwd.struct_passwd) -> list[str]:
    """Return the prefix that runs a command as a user."""
    return ["setpriv", f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]


def children_of(pid: int) -> list[int]:
    """Return the children of a process."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def child_with(pid: int, word: bytes) -> int:
    """Wait until a process has a child with a word in its command line; return the child."""

    def found() -> list[int]:
        return [each for each in children_of(pid) if word in Path(f"/proc/{each}/cmdline").read_bytes().split(b"\0")]

    wait_for(lambda: len(found()) == 1, f"{word.decode()} runs")
    return found()[0]


def keys_of(pid: int) -> int:
    """Return the pid of a ``run``'s ``keys``."""
    return child_with(pid, b"consumer.keys.process")


def deliver_of(pid: int) -> int:
    """Return the pid of a ``run``'s ``deliver``."""
    return child_with(pid, b"deliver")


def is_alive(pid: int) -> bool:
    """Return whether a process is running."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def status(pid: int) -> dict[str, str]:
    """Return the kernel's status of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: " ".join(value.split()) for name, _, value in (line.partition(":") for line in lines)}
