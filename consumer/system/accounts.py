"""System users and groups: the running system's, with its own programs; or those of a tree that is going to be one."""

import grp
import pwd
import shutil
from collections.abc import Callable
from pathlib import Path

from consumer.errors import OutputError
from consumer.process.command import run_command
from consumer.rights import Account
from consumer.system.installed import Owned, write_file

# What Debian, Fedora and Alpine all leave to system users; from the top, as their useradd does.
_SYSTEM_IDS = range(999, 99, -1)
_HOME, _COMMENT = "/nonexistent", "sshbell"
# A directory service may be slow, and these wait for others that edit the same files.
_LIMIT_S, _OUTPUT_LIMIT_BYTES = 60.0, 1 << 16
_SHELLS = ("/usr/sbin/nologin", "/sbin/nologin", "/bin/false")


_Edit = Callable[[list[str]], list[str]]


class Accounts:
    """
    Finds, makes and removes users and groups.

    Args:
        root: "/" for the running system; else a tree, of which ``etc/passwd`` and ``etc/group`` are edited.
    """

    def __init__(self, root: Path) -> None:
        self._tree = None if root == Path("/") else root

    def user(self, name: str) -> Account | None:
        """Return the numbers of a user, or None where there is none."""
        if self._tree is not None:
            fields = self._find("passwd", name)
            return Account(int(fields[2]), int(fields[3])) if fields else None
        try:
            found = pwd.getpwnam(name)
        except KeyError:
            return None
        return Account(found.pw_uid, found.pw_gid)

    def group(self, name: str) -> int | None:
        """Return the number of a group, or None where there is none."""
        if self._tree is not None:
            fields = self._find("group", name)
            return int(fields[2]) if fields else None
        try:
            return grp.getgrnam(name).gr_gid
        except KeyError:
            return None

    def add_group(self, name: str) -> None:
        """
        Make a system group.

        Raises:
            OutputError: it could not be made.
        """
        if self._tree is None:
            _run_first(("groupadd", "--system", name), ("addgroup", "-S", name))
            return
        number = self._free_id()
        self._edit("group", lambda lines: [*lines, f"{name}:x:{number}:"])
        self._edit("gshadow", lambda lines: [*lines, f"{name}:!::"])

    def add_user(self, name: str) -> None:
        """
        Make a system user that cannot log in, of the group of the same name.

        Raises:
            OutputError: it could not be made.
        """
        root = self._tree or Path("/")
        # One that does not exist lets nobody in either.
        shell = next((path for path in _SHELLS if (root / path[1:]).exists()), _SHELLS[0])
        if self._tree is None:
            _run_first(
                ("useradd", "--system", "--gid", name, "--home-dir", _HOME, "--no-create-home", "--shell", shell, "--comment",
                 _COMMENT, name),
                ("adduser", "-S", "-D", "-H", "-h", _HOME, "-s", shell, "-G", name, "-g", _COMMENT, name),
            )  # fmt: skip
            return
        number, gid = self._free_id(), self.group(name)
        self._edit("passwd", lambda lines: [*lines, f"{name}:x:{number}:{gid}:{_COMMENT}:{_HOME}:{shell}"])
        self._edit("shadow", lambda lines: [*lines, f"{name}:!:::::::"])

    def remove_user(self, name: str) -> None:
        """
        Remove a user.

        Raises:
            OutputError: it could not be removed, such as while processes of it run.
        """
        if self._tree is None:
            _run_first(("userdel", name), ("deluser", name))
            return
        for file in ("passwd", "shadow"):
            self._edit(file, lambda lines: [line for line in lines if not line.startswith(f"{name}:")])

    def remove_group(self, name: str) -> None:
        """
        Remove a group.

        Raises:
            OutputError: it could not be removed, such as while it is some user's first group.
        """
        if self._tree is None:
            _run_first(("groupdel", name), ("delgroup", name))
            return
        for file in ("group", "gshadow"):
            self._edit(file, lambda lines: [line for line in lines if not line.startswith(f"{name}:")])

    def _lines(self, file: str) -> list[str] | None:
        try:
            # Nothing that is not UTF-8 may be lost.
            return (self._path(file)).read_text("utf-8", "surrogateescape").splitlines()
        except FileNotFoundError:
            return None

    def _path(self, file: str) -> Path:
        assert self._tree is not None
        return self._tree / "etc" / file

    def _find(self, file: str, name: str) -> list[str]:
        return next((line.split(":") for line in self._lines(file) or () if line.startswith(f"{name}:")), [])

    def _free_id(self) -> int:
        """Return a number that neither a user nor a group has."""
        used = {
            fields[2]
            for file in ("passwd", "group")
            for line in self._lines(file) or ()
            if len(fields := line.split(":")) > 2
        }  # fmt: skip
        for number in _SYSTEM_IDS:
            if str(number) not in used:
                return number
        raise OutputError(f"{self._path('passwd')}: no number from {_SYSTEM_IDS[-1]} to {_SYSTEM_IDS[0]} is free")

    def _edit(self, file: str, edited: _Edit) -> None:
        path, lines = self._path(file), self._lines(file)
        if lines is None:
            if file in {"shadow", "gshadow"}:
                return
            path.parent.mkdir(parents=True, exist_ok=True)
            lines, owned = [], Owned(0, 0, 0o644)
        else:
            owned = Owned.of(path)
        text = "".join(f"{line}\n" for line in edited(lines))
        write_file(path, text.encode("utf-8", "surrogateescape"), owned)


def _run_first(*commands: tuple[str, ...]) -> None:
    """Run the first of these that this system has: shadow's or BusyBox's."""
    for command in commands:
        if shutil.which(command[0]):
            done = run_command(command, limit_s=_LIMIT_S, output_limit=_OUTPUT_LIMIT_BYTES, with_errors=True)
            if done.fault:
                said = (done.errors or done.output).decode("utf-8", "replace").strip().replace("\n", "; ")
                raise OutputError(": ".join(filter(None, (command[0], done.fault, said))))
            return
    raise OutputError(f"neither of {' and '.join(command[0] for command in commands)} is there; make or remove it by hand")
