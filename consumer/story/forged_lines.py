"""
Counts forged lines. Any local user can write thousands a second, so a forged line must cost less than a login.

sshbell reports the first line of a kind at once. It counts the following lines and reports the count once a minute. A kind is the
writer's uid and the claimed action, on one host. The rest of a line does not matter: the forger chooses it.
"""

from consumer.actions import EventAction
from consumer.events import Forged
from consumer.matching.rules import CompiledRule
from consumer.records import ADDRESS, PORT, RULE, TIME, TRUSTED, USER, Line
from consumer.story.host import Host
from consumer.story.reporter import Reporter

# By the host's clock, which forged lines do not move.
FOLD_US = 60 * 1_000_000
# The most kinds counted separately on one host. A user may have thousands of uids (subuid, containers).
FORGED_LIMIT = 64

# Uid and claimed action. ``OTHERS`` stands for all kinds beyond the limit.
WriterAndClaim = tuple[int | None, str]
OTHERS: WriterAndClaim = (None, "")


class ForgedCount:
    """
    The lines of one kind since the last event about it.

    Attributes:
        since_us: the time of that event, by the host's clock.
        count: the number of lines since then.
        id: the id of the event that will report them.
        line: the first of these lines. None if there is none.
        last_us: the time of the last of these lines.
    """

    __slots__ = ("count", "id", "last_us", "line", "since_us")

    def __init__(self, since_us: int, count: int = 0, event_id: str = "", line: Line | None = None, last_us: int = 0) -> None:
        self.since_us = since_us
        self.count = count
        self.id = event_id
        self.line = line
        self.last_us = last_us

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


class ForgedLines:
    """
    Reporter and counts forged lines.

    Args:
        rules: the rules of the matcher that made the lines.
        reporter: gets the events.
    """

    def __init__(self, rules: list[CompiledRule], reporter: Reporter) -> None:
        self._rules = rules
        self._reporter = reporter

    def take(self, host: Host | None, line: Line) -> None:
        """Report a line or count it. ``host`` is None if its host is not in memory."""
        uid, claim = line[TRUSTED][0] if line[TRUSTED] else 0, str(self._rules[line[RULE]].action)
        if host is None:
            self._report(line, self._reporter.id_of(EventAction.FORGED, line), (uid, claim))
            return
        kind = kind_of(uid, claim, host.forged)
        counted = host.forged.get(kind)
        if counted is None:
            host.forged[kind] = ForgedCount(host.clock_us)
            self._report(line, self._reporter.id_of(EventAction.FORGED, line), (uid, claim))
            return
        if counted.line is None:
            # Assign the id now. Later, the number in it would depend on when the minute ends.
            counted.id, counted.line = self._reporter.id_of(EventAction.FORGED, line), line
        counted.add(line)

    def tell_due(self, host: Host) -> None:
        """Report the counts whose minute is over."""
        for kind, counted in list(host.forged.items()):
            if counted.is_due(host.clock_us):
                self._report_count(host, kind, counted)

    def _report(self, line: Line, event_id: str, kind: WriterAndClaim, count: int = 1, last_us: int = 0) -> None:
        uid, claim = kind
        user = self._reporter.name(line, line[USER])
        self._reporter.tell(
            Forged(event_id, line, user, line[ADDRESS], line[PORT], uid, claim, count, last_us or line[TIME] or 0)
        )

    def _report_count(self, host: Host, kind: WriterAndClaim, counted: ForgedCount) -> None:
        """Report the count of one kind and start again. After a minute without such lines, forget the kind."""
        if counted.line is None:
            del host.forged[kind]
            return
        host.forged[kind] = ForgedCount(host.clock_us)
        self._report(counted.line, counted.id, kind, counted.count, counted.last_us)

    def tell_all(self, host: Host) -> None:
        """Report all counts of forged lines and forget them."""
        for kind, counted in list(host.forged.items()):
            self._report_count(host, kind, counted)
        host.forged.clear()
