"""Notices that another program has replaced or changed a file that sshbell has read or keeps open."""

import os
from pathlib import Path
from typing import NamedTuple


class Stamp(NamedTuple):
    """
    The values that differ after a file was replaced or changed.

    The time is that of the last change of content, name or rights (ctime). Nobody can set it back, as ``cp -p`` does with mtime.
    """

    device: int
    inode: int
    size: int
    changed_ns: int

    @classmethod
    def of(cls, file: str | Path | int) -> "Stamp | None":
        """Return the stamp of a path or an open file; None if it does not exist or cannot be examined."""
        try:
            found = os.stat(file)  # noqa: PTH116 - a third of the time of Path.stat, and it runs for every message
        except (OSError, ValueError):
            return None
        return cls(found.st_dev, found.st_ino, found.st_size, found.st_ctime_ns)

    def is_same_file(self, other: "Stamp | None") -> bool:
        """Return whether it is the same file, whether or not its content has changed."""
        return other is not None and self.inode == other.inode and self.device == other.device
