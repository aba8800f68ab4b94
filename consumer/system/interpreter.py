"""Who can change what root is going to run: each file, each directory above it, and each link on the way."""

import os
import stat
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

_OTHERS = stat.S_IWGRP | stat.S_IWOTH
# What the interpreter says of itself when nothing of the environment is believed.
_ASKED = """
import os, sys, consumer, grammars
found = [*sys.path, *consumer.__path__, *grammars.__path__, os.path.join(sys.prefix, "pyvenv.cfg")]
print(*dict.fromkeys(found), sep="\\0", end="")
"""


def untrusted(path: Path, root: Path = Path("/")) -> str | None:
    """
    Return why others than root could change what stands under ``path``, or None: one place is enough, and is named.

    Args:
        path: absolute; need not exist. Links are followed, and each directory on the way is looked at.
        root: what counts as "/" for paths below it; what is above it is not looked at.
    """
    seen: set[Path] = set()
    pending = [path, path.resolve()]
    while pending:
        path = pending.pop()
        steps = [path, *path.parents]
        if root != Path("/") and path.is_relative_to(root):
            steps = steps[: steps.index(root)]
        for place in steps:
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
            elif reason := _reason(found):
                return f"{place} {reason}"
    return None


def untrusted_below(folder: Path, root: Path = Path("/")) -> str | None:
    """Like ``untrusted``, for a directory and everything in it, links to other directories included."""
    walked: set[Path] = set()
    pending = [folder]
    while pending:
        folder = pending.pop()
        if folder.resolve() in walked:
            continue
        walked.add(folder.resolve())
        if reason := untrusted(folder, root):
            return reason
        for place, folders, files in os.walk(folder):
            for path in (Path(place, name) for name in (*folders, *files)):
                try:
                    found = path.lstat()
                except OSError:
                    continue  # gone
                if stat.S_ISLNK(found.st_mode):
                    if reason := untrusted(path, root):
                        return reason
                    pending += [path.resolve()] if path.is_dir() else []
                elif reason := _reason(found):
                    return f"{path} {reason}"
    return None


def _reason(found: os.stat_result) -> str:
    if found.st_uid != 0:
        return f"belongs to uid {found.st_uid}, not to root"
    # The sticky bit does not help: whoever empties /tmp lets anybody make the same path anew.
    if found.st_mode & stat.S_IWOTH:
        return f"can be written by everybody (mode {stat.S_IMODE(found.st_mode):04o})"
    if found.st_mode & stat.S_IWGRP and found.st_gid != 0:
        return f"can be written by group {found.st_gid} (mode {stat.S_IMODE(found.st_mode):04o})"
    return ""


def code_of(interpreter: Path) -> list[Path] | None:
    """Return from where an interpreter takes sshbell and all that it needs; None where it does not find it by itself."""
    done = subprocess.run(  # noqa: S603 - the interpreter that runs us, or the one that stands in the entry point
        [interpreter, "-I", "-c", _ASKED], stdin=subprocess.DEVNULL, capture_output=True, check=False, cwd="/"
    )
    if done.returncode != 0:
        return None
    return [Path(text) for text in os.fsdecode(done.stdout).split("\0") if text]


def untrusted_code(interpreter: Path, code: Iterable[Path], root: Path = Path("/")) -> str | None:
    """Return why others than root could change what an interpreter runs, or None."""
    if reason := untrusted(interpreter, root):
        return reason
    done: list[Path] = []
    for folder in sorted(set(code), key=lambda path: len(path.parts)):
        if any(folder.is_relative_to(parent) for parent in done):
            continue
        done.append(folder)
        if reason := untrusted_below(folder, root) if folder.is_dir() else untrusted(folder, root):
            return reason
    return None


def unreachable(path: Path, root: Path = Path("/")) -> str | None:
    """Return why a user who is nobody in particular could not read ``path``, or None."""
    path = path.resolve()
    steps = [path, *path.parents] if path.exists() else []
    for place in steps[: steps.index(root)] if root in steps else steps:
        mode = place.stat().st_mode
        if not mode & (stat.S_IXOTH if place.is_dir() else stat.S_IROTH):
            return f"{place} is closed to others than root (mode {stat.S_IMODE(mode):04o})"
    return None


def this_interpreter() -> Path:
    """Return the interpreter that runs us, by the name that makes it find its environment."""
    return Path(os.path.abspath(sys.executable))  # noqa: PTH100 - resolve() would leave the environment
