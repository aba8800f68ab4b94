"""
The log files of an archive, by host.

A directory of logs has a directory for each host, as rsyslog's ``dynaFile`` writes them. All files below that one are the host's.
Files directly in the directory of logs, or named on their own, are those of a collector: each may have the lines of many hosts.
"""

import heapq
from collections.abc import Iterable
from pathlib import Path

import msgspec

from consumer.archive import remote_files
from consumer.errors import InputError

# Text of logs packs to about a tenth.
_PACKED = frozenset({".gz", ".bz2", ".xz", ".zst"})
_UNPACKED_TIMES = 10


class Sources(msgspec.Struct):
    """
    Files to read.

    Attributes:
        hosts: the files of each directory of a host.
        mixed: the files of collectors.
        sizes: about how many bytes of text each file has.
    """

    hosts: dict[str, list[str]] = msgspec.field(default_factory=dict)
    mixed: list[str] = msgspec.field(default_factory=list)
    sizes: dict[str, int] = msgspec.field(default_factory=dict)

    def add(self, root: str, below: str, size: int) -> None:
        """Add a file of a directory of logs; ``below`` is "" if ``root`` itself is the file."""
        host, _, name = below.partition("/")
        path = f"{root}/{below}" if below else root
        (self.hosts.setdefault(f"{root}/{host}", []) if name else self.mixed).append(path)
        self.sizes[path] = size * (_UNPACKED_TIMES if Path(path).suffix in _PACKED else 1)


def sources_of(paths: Iterable[str]) -> Sources:
    """
    Find the files of directories of logs, and of files. A path may be on another file system: ``s3://logs/2026``.

    Raises:
        InputError: a path does not exist, or cannot be listed.
    """
    found = Sources()
    for path in paths:
        root = path.rstrip("/") or "/"
        try:
            files = remote_files.files_below(root) if remote_files.is_remote(root) else _listed(root)
            for below, size in sorted(files):
                found.add(root, below, size)
        except OSError as error:
            raise InputError(f"{path}: {error.strerror or error}") from error
    return found


def _listed(root: str) -> list[tuple[str, int]]:
    """Return the files below a directory with their sizes; "" is the name of ``root`` if that is a file."""
    path = Path(root)
    files = path.rglob("*") if path.is_dir() else [path]
    return [
        (str(file.relative_to(path)) if file != path else "", file.stat().st_size)
        for file in files
        if file.is_file() or file == path
    ]


def shared(sizes: dict[str, int], count: int) -> list[list[str]]:
    """Share names among at most ``count`` lists, the largest first, so that the lists are of about one size."""
    lists: list[list[str]] = [[] for _ in range(min(count, len(sizes)))]
    free = [(0, number) for number in range(len(lists))]
    for name in sorted(sizes, key=lambda name: sizes[name], reverse=True):
        size, number = free[0]
        lists[number].append(name)
        heapq.heapreplace(free, (size + sizes[name], number))
    return lists
