"""
The log files of an archive, by host.

A directory of logs has a directory for each host, as rsyslog's ``dynaFile`` writes them. All files below that one are the host's.
Files directly in the directory of logs, or named on their own, are those of a collector: each may have the lines of many hosts.
"""

import heapq
from collections.abc import Iterable
from pathlib import Path

import msgspec

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
    """

    hosts: dict[str, list[str]] = msgspec.field(default_factory=dict)
    mixed: list[str] = msgspec.field(default_factory=list)
    sizes: dict[str, int] = msgspec.field(default_factory=dict)

    def add(self, path: str, size: int, host: str | None) -> None:
        """Add a file of a host, or of a collector if ``host`` is None."""
        (self.mixed if host is None else self.hosts.setdefault(host, [])).append(path)
        self.sizes[path] = size * (_UNPACKED_TIMES if Path(path).suffix in _PACKED else 1)


def local_sources(paths: Iterable[str]) -> Sources:
    """
    Find the files of directories of logs, and of files.

    Raises:
        InputError: a path does not exist, or cannot be listed.
    """
    found = Sources()
    for given in paths:
        path = Path(given)
        try:
            if not path.is_dir():
                found.add(given, path.stat().st_size, None)
                continue
            for file in sorted(path.rglob("*")):
                if file.is_file():
                    above = file.relative_to(path).parts[:-1]
                    found.add(str(file), file.stat().st_size, str(path / above[0]) if above else None)
        except OSError as error:
            raise InputError(f"{given}: {error.strerror}") from error
    return found


def shared(sizes: dict[str, int], count: int) -> list[list[str]]:
    """Share names among at most ``count`` lists, the largest first, so that the lists are of about one size."""
    lists: list[list[str]] = [[] for _ in range(min(count, len(sizes)))]
    free = [(0, number) for number in range(len(lists))]
    for name in sorted(sizes, key=lambda name: sizes[name], reverse=True):
        size, number = free[0]
        lists[number].append(name)
        heapq.heapreplace(free, (size + sizes[name], number))
    return lists
