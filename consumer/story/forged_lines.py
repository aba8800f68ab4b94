"""
Forged lines, folded: any local user can write thousands a second, and none of them may cost what a login costs.

The first line of a kind is an event at once. Those that follow are counted, and become one event a minute. A kind is who wrote
the line, by uid, and the action that it claims, on one host. Its other texts do not count: the forger chooses them.
"""

import msgspec

from consumer.records import TIME, Line

# In the host's own time, which forged lines do not move.
FOLD_US = 60 * 1_000_000
# Kinds of one host that are counted apart. A user may have thousands of uids (subuid, containers).
FORGED_LIMIT = 64

# Uid and claimed action; ``OTHERS`` stands for all kinds beyond the limit.
WriterAndClaim = tuple[int | None, str]
OTHERS: WriterAndClaim = (None, "")


class ForgedCount(msgspec.Struct):
    """
    The lines of one kind since the last event about it.

    Attributes:
        since_us: when that was, by the host's clock.
        count: how many lines have come since.
        id: of the event that will count them.
        line: the first of them; None where none has come.
        last_us: the time of the latest of them.
    """

    since_us: int
    count: int = 0
    id: str = ""
    line: Line | None = None
    last_us: int = 0

    def add(self, line: Line) -> None:
        """Count a line."""
        self.count += 1
        self.last_us = max(self.last_us, line[TIME] or 0)

    def is_due(self, clock_us: int) -> bool:
        """Tell whether the minute is over. A clock that was set back ends it, too."""
        return not 0 <= clock_us - self.since_us < FOLD_US


def kind_of(uid: int, claim: str, known: dict[WriterAndClaim, ForgedCount]) -> WriterAndClaim:
    """Return the kind under which a line is counted."""
    kind = (uid, claim)
    return kind if kind in known or len(known) < FORGED_LIMIT else OTHERS
