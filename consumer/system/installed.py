"""What ``sshbell install`` does, written down before it is done: ``sshbell uninstall`` undoes that, and nothing else."""

import os
import stat
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import msgspec

from consumer.errors import DataError
from consumer.rights import changeable_by

# In a directory that root alone can write: what it names is removed by root.
MANIFEST = Path("/etc/sshbell/installed.json")


class Owned(NamedTuple):
    """Whose a file or a directory is, and who may do what with it."""

    uid: int
    gid: int
    mode: int

    @classmethod
    def of(cls, path: Path) -> "Owned":
        """Read it."""
        found = path.lstat()
        return cls(found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode))

    def __str__(self) -> str:
        return f"{self.uid}:{self.gid} {self.mode:04o}"


class MadeFile(msgspec.Struct, frozen=True, tag="file", forbid_unknown_fields=True):
    """A file that was not there; ``sha256`` is of what was written."""

    path: str
    sha256: str


class MadeDirectory(msgspec.Struct, frozen=True, tag="directory", forbid_unknown_fields=True):
    """A directory that was not there."""

    path: str


class MadeUser(msgspec.Struct, frozen=True, tag="user", forbid_unknown_fields=True):
    """A user that was not there."""

    name: str


class MadeGroup(msgspec.Struct, frozen=True, tag="group", forbid_unknown_fields=True):
    """A group that was not there."""

    name: str


class Changed(msgspec.Struct, frozen=True, tag="owner", forbid_unknown_fields=True):
    """Owner and mode of something that was there."""

    path: str
    was: Owned
    now: Owned


Entry = MadeFile | MadeDirectory | MadeUser | MadeGroup | Changed


class _Content(msgspec.Struct, forbid_unknown_fields=True):
    version: int = 1
    entries: list[Entry] = []


class Manifest:
    """
    The entries in the order in which things were done.

    Args:
        path: where they are written down.

    Raises:
        DataError: what stands there cannot be trusted or read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.entries: list[Entry] = []
        try:
            found = path.lstat()
        except FileNotFoundError:
            return
        if changeable_by(found) or not stat.S_ISREG(found.st_mode):
            raise DataError(f"{path}: others than root could have written it; look at it, and remove it or give it to root")
        try:
            self.entries = msgspec.json.decode(path.read_bytes(), type=_Content).entries
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise DataError(f"{path}: {error}; remove it, and what sshbell had put in place by hand") from error

    def add(self, entry: Entry) -> None:
        """Write down what is going to be done; an entry about the same thing gives way."""
        same = [one for one in self.entries if type(one) is type(entry) and _name(one) == _name(entry)]
        if entry in same:
            return
        for one in same:
            self.entries[self.entries.index(one)] = entry
        if not same:
            self.entries.append(entry)
        self.save()

    def find(self, kind: type[Entry], name: Path | str) -> Entry | None:
        """Return the entry about a path or a name."""
        return next((one for one in self.entries if type(one) is kind and _name(one) == str(name)), None)

    def save(self) -> None:
        """Write it down; where nothing is left, nothing is kept. Without its directory it cannot be, yet."""
        if not self.entries:
            self._path.unlink(missing_ok=True)
        elif self._path.parent.is_dir():
            content = msgspec.json.format(msgspec.json.encode(_Content(entries=self.entries)))
            write_file(self._path, content + b"\n", Owned(0, 0, 0o644))


def _name(entry: Entry) -> str:
    return entry.name if isinstance(entry, MadeUser | MadeGroup) else entry.path


def digest(data: bytes) -> str:
    """Return what ``MadeFile.sha256`` holds of ``data``."""
    return sha256(data).hexdigest()


def write_file(path: Path, data: bytes, owned: Owned) -> None:
    """Write a whole file or none; whoever could read the old one never sees the new one with other rights than it shall have."""
    # A name that no program takes for its configuration.
    partial = path.with_name(f".{path.name}.sshbell-tmp")
    partial.unlink(missing_ok=True)
    try:
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as out:
            os.fchown(out.fileno(), owned.uid, owned.gid)
            os.fchmod(out.fileno(), owned.mode)
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
