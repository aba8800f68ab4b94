"""Whether a file is still the one that was read: others replace or change what we keep open, and nobody tells us."""

import os
from pathlib import Path
from typing import NamedTuple


class Stamp(NamedTuple):
    """
    What differs where a file was replaced or changed.

    The time is that of the last change of content, name or rights, which nobody can set back, as ``cp -p`` does with others.
    """

    device: int
    inode: int
    size: int
    changed_ns: int

    @classmethod
    def of(cls, file: str | Path | int) -> "Stamp | None":
        """Take it of a path or of an open file; None where there is none, or it cannot be looked at."""
        try:
            found = os.stat(file)  # noqa: PTH116 - a third of the time of a Path's, and on the way of every message
        except (OSError, ValueError):
            return None
        return cls(found.st_dev, found.st_ino, found.st_size, found.st_ctime_ns)

    def is_same_file(self, other: "Stamp | None") -> bool:
        """Tell whether it is the same file, whatever was written to it meanwhile."""
        return other is not None and self[:2] == other[:2]
