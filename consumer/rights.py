"""Access to a path: owner, group and mode of the file, the directories above it, and the links on the way."""

import os
import stat
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple


class Account(NamedTuple):
    """A user's ids. Of groups only the user's primary one counts here."""

    uid: int
    gid: int


# A user who owns nothing and is in no group.
ANYBODY = Account(-1, -1)
_ROOT = Path("/")


def changeable_by(found: os.stat_result, uids: Collection[int] = (0,), gids: Collection[int] = ()) -> str:
    """
    Return how others than these users and groups can change a file or a directory, as text to follow its name; "" if they cannot.

    An access control list counts, too: if it lets somebody write, the group's bit is set.
    """
    if found.st_uid not in uids:
        return f"belongs to uid {found.st_uid}, not to root"
    mode = stat.S_IMODE(found.st_mode)
    # The sticky bit does not help: once /tmp is cleaned, anybody can create the same path again.
    if mode & stat.S_IWOTH:
        return f"is writable by everybody (mode {mode:04o})"
    if mode & stat.S_IWGRP and found.st_gid not in gids:
        return f"is writable by group {found.st_gid} (mode {mode:04o})"
    return ""


def is_private(found: os.stat_result, uid: int) -> bool:
    """Return whether a file or a directory belongs to a user, and its mode gives no rights to others."""
    return found.st_uid == uid and not found.st_mode & (stat.S_IRWXG | stat.S_IRWXO)


def is_open_to_everybody(found: os.stat_result) -> bool:
    """Return whether every user of this machine may read or write a file."""
    return bool(found.st_mode & (stat.S_IROTH | stat.S_IWOTH))


def is_guarded(path: str, uid: int, top: str = "/") -> bool:
    """
    Return whether only root and one user can change a file, as sshd's ``StrictModes`` requires.

    Args:
        path: without links. It is a str: a Path costs more than the calls here, and ``keys export`` runs this for every account.
        uid: of the user.
        top: the last directory above it to look at.
    """
    try:
        while not changeable_by(os.stat(path), (0, uid)):  # noqa: PTH116
            if path in (top, "/"):
                return True
            path = os.path.dirname(path)  # noqa: PTH120
    except (OSError, ValueError):
        pass
    return False


def untrusted(path: Path, root: Path = _ROOT, *, is_kept: bool = False) -> str | None:
    """
    Return why users other than root could change the file at ``path``, or None. The text names the first such place.

    Args:
        path: absolute; need not exist. This follows links, and checks each directory on the way.
        root: counts as "/" for paths below it; directories above it are not checked.
        is_kept: the file exists and stays for as long as it is used. So in a directory with the sticky bit, such as /tmp,
            no other user can replace it.
    """
    own = {path, path.resolve()}
    seen: set[Path] = set()
    pending = list(own)
    while pending:
        for place in _way_to(pending.pop(), root):
            if place in seen:
                continue
            seen.add(place)
            try:
                found = place.lstat()
            except FileNotFoundError:
                continue
            except OSError as error:
                return f"{place}: {error.strerror}"
            if stat.S_ISLNK(found.st_mode):
                pending.append(Path(os.path.normpath(place.parent.resolve() / place.readlink())))
                if found.st_uid != 0:
                    return f"{place} belongs to uid {found.st_uid}, not to root"
            elif is_kept and place not in own and found.st_uid == 0 and found.st_mode & stat.S_ISVTX:
                continue
            elif reason := changeable_by(found, gids=(0,)):
                return f"{place} {reason}"
    return None


def untrusted_below(folder: Path, root: Path = _ROOT, *, is_kept: bool = False) -> str | None:
    """Do the same as ``untrusted`` for a directory and everything in it, including links to other directories."""
    walked: set[Path] = set()
    pending = [folder]
    while pending:
        folder = pending.pop()
        if folder.resolve() in walked:
            continue
        walked.add(folder.resolve())
        if reason := untrusted(folder, root, is_kept=is_kept):
            return reason
        for place, folders, files in os.walk(folder):
            for path in (Path(place, name) for name in (*folders, *files)):
                try:
                    found = path.lstat()
                except OSError:
                    continue  # gone
                if stat.S_ISLNK(found.st_mode):
                    if reason := untrusted(path, root, is_kept=is_kept):
                        return reason
                    pending += [path.resolve()] if path.is_dir() else []
                elif reason := changeable_by(found, gids=(0,)):
                    return f"{path} {reason}"
    return None


def closed_to(account: Account, path: Path, root: Path = _ROOT) -> Path | None:
    """
    Return the path that keeps a user from reading a file: the file itself or a directory above it; None if the user can read it.

    Raises:
        OSError: one of them does not exist or cannot be examined.
    """
    if account.uid == 0:
        return None
    places = [*reversed(list(_way_to(path, root))), *reversed(list(_way_to(path.resolve(), root)))]
    return next((place for place in dict.fromkeys(places) if not _may_use(account, place.stat())), None)


def unreachable(path: Path, root: Path = _ROOT) -> str | None:
    """Return why an ordinary user could not read ``path``, or None; also None if it does not exist."""
    if path.exists() and (place := closed_to(ANYBODY, path, root)) is not None:
        return f"only root can access {place} (mode {stat.S_IMODE(place.stat().st_mode):04o})"
    return None


def _way_to(path: Path, root: Path) -> Iterator[Path]:
    """Yield a path and the directories above it; in a tree, only those below its root."""
    for place in (path, *path.parents):
        if place == root != _ROOT:
            break
        yield place


def _may_use(account: Account, found: os.stat_result) -> bool:
    """Return whether a user may read a file, or enter a directory: of owner, group and others, the first that fits decides."""
    wanted = stat.S_IXOTH if stat.S_ISDIR(found.st_mode) else stat.S_IROTH
    shift = 6 if found.st_uid == account.uid else 3 if found.st_gid == account.gid else 0
    return bool(found.st_mode >> shift & wanted)
