"""The record of ``sshbell install``, which writes down each step before taking it. ``sshbell uninstall`` undoes only these."""

import os
import stat
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import msgspec

from consumer.errors import DataError
from consumer.rights import changeable_by

# In a directory that only root can write: uninstall runs as root and removes the paths that this file names.
MANIFEST = Path("/etc/sshbell/installed.json")


class Owned(NamedTuple):
    """Owner, group and mode of a file or a directory."""

    uid: int
    gid: int
    mode: int

    @classmethod
    def of(cls, path: Path) -> "Owned":
        """Read them from a path."""
        found = path.lstat()
        return cls(found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode))

    def __str__(self) -> str:
        return f"{self.uid}:{self.gid} {self.mode:04o}"


class MadeFile(msgspec.Struct, frozen=True, tag="file", forbid_unknown_fields=True):
    """A file that install created; ``sha256`` is the hash of the data it wrote."""

    path: str
    sha256: str


class MadeDirectory(msgspec.Struct, frozen=True, tag="directory", forbid_unknown_fields=True):
    """A directory that install created."""

    path: str


class MadeUser(msgspec.Struct, frozen=True, tag="user", forbid_unknown_fields=True):
    """A user that install created."""

    name: str


class MadeGroup(msgspec.Struct, frozen=True, tag="group", forbid_unknown_fields=True):
    """A group that install created."""

    name: str


class Changed(msgspec.Struct, frozen=True, tag="owner", forbid_unknown_fields=True):
    """An existing path whose owner and mode install changed."""

    path: str
    was: Owned
    now: Owned


Entry = MadeFile | MadeDirectory | MadeUser | MadeGroup | Changed


class _Content(msgspec.Struct, forbid_unknown_fields=True):
    version: int = 1
    entries: list[Entry] = []


class Manifest:
    """
    The entries, in the order of the steps.

    Args:
        path: of the record.

    Raises:
        DataError: the record cannot be trusted or read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.entries: list[Entry] = []
        try:
            found = path.lstat()
        except FileNotFoundError:
            return
        if changeable_by(found) or not stat.S_ISREG(found.st_mode):
            raise DataError(f"{path}: users other than root could have written it; read it, then remove it or give it to root")
        try:
            self.entries = msgspec.json.decode(path.read_bytes(), type=_Content).entries
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise DataError(f"{path}: {error}; remove by hand this file and the files that sshbell installed") from error

    def add(self, entry: Entry) -> None:
        """Record a step before taking it. The entry replaces one about the same path or name."""
        same = [one for one in self.entries if type(one) is type(entry) and _name(one) == _name(entry)]
        if entry in same:
            return
        for one in same:
            self.entries[self.entries.index(one)] = entry
        if not same:
            self.entries.append(entry)
        self.save()

    def find(self, kind: type[Entry], name: Path | str) -> Entry | None:
        """Return the entry about a path or a name, or None."""
        return next((one for one in self.entries if type(one) is kind and _name(one) == str(name)), None)

    def save(self) -> None:
        """Write the record, or delete it when it is empty. Do nothing while its directory does not exist."""
        if not self.entries:
            self._path.unlink(missing_ok=True)
        elif self._path.parent.is_dir():
            content = msgspec.json.format(msgspec.json.encode(_Content(entries=self.entries)))
            write_file(self._path, content + b"\n", Owned(0, 0, 0o644))


def _name(entry: Entry) -> str:
    return entry.name if isinstance(entry, MadeUser | MadeGroup) else entry.path


def digest(data: bytes) -> str:
    """Return ``MadeFile.sha256`` for ``data``."""
    return sha256(data).hexdigest()


def write_file(path: Path, data: bytes, owned: Owned) -> None:
    """Write a whole file or nothing. Nobody ever sees the new file with rights other than ``owned``."""
    # No program takes a file of this name for its configuration.
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
