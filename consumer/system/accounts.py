"""System users and groups, on the running system or in a tree that will become one. The system's own tools create them."""

import grp
import os
import pwd
import shutil
from pathlib import Path

from consumer.errors import OutputError
from consumer.process.command import run_command, system_path
from consumer.rights import Account

_HOME, _COMMENT = "/nonexistent", "sshbell"
_SHELLS = ("/usr/sbin/nologin", "/sbin/nologin", "/bin/false")
# A directory service may be slow, and these programs wait for other programs that edit the same files.
_LIMIT_S, _OUTPUT_LIMIT_BYTES = 60.0, 1 << 16


class Accounts:
    """
    Finds, creates and removes users and groups.

    On the running system, the programs of shadow or BusyBox do this; in a tree, only those of shadow can (``--prefix``). They
    leave their usual backup files (``passwd-``, ``group-``, ``shadow-``, ``gshadow-``). They choose ids that no user and no group
    of the tree has, within the limits of its ``login.defs``. (Measured with shadow 4.13, Debian 12.)

    Args:
        root: "/" for the running system, else the tree.
    """

    def __init__(self, root: Path) -> None:
        self._tree = None if root == Path("/") else root

    def check_tree(self, user: str) -> None:
        """
        Make sure that a user can be created in the tree, before install changes anything.

        Raises:
            OutputError: it cannot; the text names the remedy.
        """
        if self._tree is None:
            return
        passwd = self._tree / "etc/passwd"
        if not passwd.is_file():
            raise OutputError(f"{passwd} is missing, so sshbell cannot add {user}: install the system into {self._tree} first")
        for name in ("groupadd", "useradd"):
            if shutil.which(name, path=system_path()) is None:
                raise OutputError(
                    f"{name} is not installed, and BusyBox cannot create a user in a tree: install shadow (Debian's package "
                    f"passwd, Fedora's shadow-utils, Alpine's shadow), or create user and group {user} in {self._tree} by hand; "
                    "then run sshbell install again"
                )

    def user(self, name: str) -> Account | None:
        """Return the ids of a user, or None if it does not exist."""
        if self._tree is not None:
            fields = self._find("passwd", name)
            return Account(int(fields[2]), int(fields[3])) if fields else None
        try:
            found = pwd.getpwnam(name)
        except KeyError:
            return None
        return Account(found.pw_uid, found.pw_gid)

    def group(self, name: str) -> int | None:
        """Return the id of a group, or None if it does not exist."""
        if self._tree is not None:
            fields = self._find("group", name)
            return int(fields[2]) if fields else None
        try:
            return grp.getgrnam(name).gr_gid
        except KeyError:
            return None

    def add_group(self, name: str) -> None:
        """
        Create a system group.

        Raises:
            OutputError: that failed.
        """
        self._run(("groupadd", "--system", name), ("addgroup", "-S", name))

    def add_user(self, name: str) -> None:
        """
        Create a system user that cannot log in, in the group of the same name.

        Raises:
            OutputError: that failed.
        """
        root = self._tree or Path("/")
        # A shell that does not exist blocks logins, too.
        shell = next((path for path in _SHELLS if (root / path[1:]).exists()), _SHELLS[0])
        self._run(
            ("useradd", "--system", "--gid", name, "--home-dir", _HOME, "--no-create-home", "--shell", shell,
             "--comment", _COMMENT, name),
            ("adduser", "-S", "-D", "-H", "-h", _HOME, "-s", shell, "-G", name, "-g", _COMMENT, name),
        )  # fmt: skip

    def remove_user(self, name: str) -> None:
        """
        Remove a user.

        Raises:
            OutputError: that failed, for example because the user has running processes.
        """
        self._run(("userdel", name), ("deluser", name))

    def remove_group(self, name: str) -> None:
        """
        Remove a group.

        Raises:
            OutputError: that failed, for example because it is some user's primary group.
        """
        self._run(("groupdel", name), ("delgroup", name))

    def _find(self, file: str, name: str) -> list[str]:
        """Return the fields of a user or a group of the tree; an empty list if it does not exist."""
        assert self._tree is not None
        try:
            text = (self._tree / "etc" / file).read_text("utf-8", "surrogateescape")
        except FileNotFoundError:
            return []
        return next((line.split(":") for line in text.splitlines() if line.startswith(f"{name}:")), [])

    def _run(self, shadow: tuple[str, ...], busybox: tuple[str, ...]) -> None:
        """Run the first of these commands that is installed."""
        commands = [shadow, busybox] if self._tree is None else [(shadow[0], "--prefix", str(self._tree), *shadow[1:])]
        for command in commands:
            if shutil.which(command[0], path=system_path()):
                done = run_command(
                    command, limit_s=_LIMIT_S, output_limit=_OUTPUT_LIMIT_BYTES, with_errors=True,
                    env=os.environ | {"PATH": system_path()},
                )  # fmt: skip
                if done.fault:
                    text = (done.errors or done.output).decode("utf-8", "replace").strip().replace("\n", "; ")
                    raise OutputError(": ".join(filter(None, (command[0], done.fault, text))))
                return
        names = " and ".join(command[0] for command in commands)
        raise OutputError(f"{names}: none of these programs is installed; create or remove {shadow[-1]} by hand")
