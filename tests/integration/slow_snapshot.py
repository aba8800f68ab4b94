"""
``sshbell run`` with snapshots that take as long as a test wants.

Its arguments are a folder and run's arguments. A snapshot is due after each 20 kB of journal. The first one makes the file
``begun`` in the folder, and waits after its first part until that is gone.
"""

import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from consumer.run import service
from consumer.store.state import State
from consumer.story.snapshot import SnapshotPart

begun = Path(sys.argv.pop(1)) / "begun"
waited: list[bool] = []
keep_snapshot = State.keep_snapshot


def slow(self: State, changed: Iterable[SnapshotPart]) -> None:
    """Store a snapshot, and wait in it."""

    def parts() -> Iterator[SnapshotPart]:
        for number, part in enumerate(changed):
            yield part
            if number == 0 and not waited:
                waited.append(True)
                begun.touch()
                while begun.exists():
                    time.sleep(0.01)

    keep_snapshot(self, parts())


State.keep_snapshot = slow  # type: ignore[method-assign]
service.SNAPSHOT_BYTES = 20_000

if __name__ == "__main__":
    from consumer.cli import main

    main()
