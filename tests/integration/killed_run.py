"""
``sshbell run`` that dies by signal 9 at random places.

Its arguments are a seed, N for one chance in N at each place, and run's arguments. The places are before and after each step of a
line's path: journal, pipeline, store, reply; and within a snapshot.

The clock stands still: on a slow machine, more time would pass between two lines, and sshbell would report some events earlier.
"""

import os
import random
import signal
import sys
from typing import Any

from consumer.intake.journal import Journal
from consumer.intake.omprog import Replies
from consumer.pipeline import Pipeline
from consumer.run import catch_up, restore
from consumer.run import service as runtime
from consumer.store.state import State

NOW_US = 1_795_348_800_000_000  # 2026-11-22 12:00 UTC, after all lines

seed, chance = int(sys.argv.pop(1)), int(sys.argv.pop(1))
dice = random.Random(seed)  # noqa: S311 - a test


def perhaps() -> None:
    """Die at random."""
    if chance and dice.randrange(chance) == 0:
        os.kill(os.getpid(), signal.SIGKILL)


def surround(kind: type, name: str) -> None:
    """Make the beginning and the end of a method places to die at."""
    method = getattr(kind, name)

    def surrounded(*args: Any, **kwargs: Any) -> Any:
        perhaps()
        result = method(*args, **kwargs)
        perhaps()
        return result

    setattr(kind, name, surrounded)


for owner, names in {
    Journal: ("append", "begin_sync", "sync", "turn", "drop_before"),
    Pipeline: ("feed", "tick"),
    State: ("record", "keep_snapshot"),
    Replies: ("ok",),
}.items():
    for each in names:
        surround(owner, each)
runtime.SNAPSHOT_BYTES = 20_000
for module in (runtime, restore, catch_up):
    vars(module)["now_us"] = lambda: NOW_US

if __name__ == "__main__":
    from consumer.cli import main

    main()
