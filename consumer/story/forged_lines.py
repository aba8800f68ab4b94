"""
Counts forged lines. Any local user can write thousands a second, so a forged line must cost less than a login.

sshbell reports the first line of a kind at once. It counts the following lines and reports the count once a minute. A kind is the
writer's uid and the claimed action, on one host. The rest of a line does not matter: the forger chooses it.
"""

import msgspec

from consumer.records import TIME, Line

# By the host's clock, which forged lines do not move.
FOLD_US = 60 * 1_000_000
# The most kinds counted separately on one host. A user may have thousands of uids (subuid, containers).
FORGED_LIMIT = 64

# Uid and claimed action. ``OTHERS`` stands for all kinds beyond the limit.
WriterAndClaim = tuple[int | None, str]
OTHERS: WriterAndClaim = (None, "")


class ForgedCount(msgspec.Struct):
    """
    The lines of one kind since the last event about it.

    Attributes:
        since_us: the time of that event, by the host's clock.
        count: the number of lines since then.
        id: the id of the event that will report them.
        line: the first of these lines. None if there is none.
        last_us: the time of the last of these lines.
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
        """Return whether the minute is over. Setting the clock back ends it too."""
        return not 0 <= clock_us - self.since_us < FOLD_US


def kind_of(uid: int, claim: str, known: dict[WriterAndClaim, ForgedCount]) -> WriterAndClaim:
    """Return the kind that counts a line."""
    kind = (uid, claim)
    return kind if kind in known or len(known) < FORGED_LIMIT else OTHERS
