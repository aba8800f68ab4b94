"""
Forged lines, folded. Any local user can write thousands a second, so one of them must cost less than a login.

The first line of a kind is an event at once. sshbell counts those that follow, and makes one event of them a minute. A kind is
the uid of the writer and the claimed action, on one host. The other texts of a line do not count: the forger chooses them.
"""

import msgspec

from consumer.records import TIME, Line

# In the host's own time, which forged lines do not move.
FOLD_US = 60 * 1_000_000
# Kinds of one host with a count of their own. A user may have thousands of uids (subuid, containers).
FORGED_LIMIT = 64

# Uid and claimed action; ``OTHERS`` stands for all kinds beyond the limit.
WriterAndClaim = tuple[int | None, str]
OTHERS: WriterAndClaim = (None, "")


class ForgedCount(msgspec.Struct):
    """
    The lines of one kind since the last event about it.

    Attributes:
        since_us: the time of that event, by the host's clock.
        count: the lines since then.
        id: of the event that will report them.
        line: the first of them; None if there is none.
        last_us: the time of the last of them.
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
        """Return whether the minute is over. A clock that was set back ends it, too."""
        return not 0 <= clock_us - self.since_us < FOLD_US


def kind_of(uid: int, claim: str, known: dict[WriterAndClaim, ForgedCount]) -> WriterAndClaim:
    """Return the kind that counts a line."""
    kind = (uid, claim)
    return kind if kind in known or len(known) < FORGED_LIMIT else OTHERS
