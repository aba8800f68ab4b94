"""
The connections of one host: its clock, and when they expire.

The lines of the host set its clock, so the lines of one host never expire the connections of another.
"""

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

from consumer.records import TIME, Line
from consumer.story.connection import IN_SESSION, SECOND, Connection
from consumer.story.without_pid import SessionsWithoutPid

if TYPE_CHECKING:
    from consumer.story.forged_lines import ForgedCount, WriterAndClaim

# If no session line comes, sshbell reports a login this long after "Accepted". In captures the session line came after 0.5 to
# 30 ms. PAM modules that create home directories or query a directory server take seconds.
GRACE_US = 10 * SECOND
# sshbell keeps a connection this long after its end, to collect its late lines.
LINGER_US = 10 * SECOND
# After LoginGraceTime (120 s by default) sshd closes the connection. Debian 12 logs no line about it.
PREAUTH_US = 600 * SECOND
# The line that ends a session may never come.
SESSION_US = 30 * 86400 * SECOND
# A time this far from the clock needs a second line to confirm it: relays forward the times of broken clocks.
LEAP_US = 3600 * SECOND
_CONNECTIONS_A_LINE = 64


class Host:
    """The connections of one host and program family, and its clock."""

    __slots__ = (
        "by_source",
        "children",
        "clock_us",
        "connections",
        "due",
        "forged",
        "has_sshd",
        "in_session",
        "is_vouched",
        "key",
        "last_us",
        "leaped_total",
        "leapt_us",
        "names",
        "next_sweep_us",
        "waiting",
        "without_pid",
    )

    def __init__(self) -> None:
        self.key = ("", "")  # name and family
        self.clock_us = 0
        self.last_us = 0  # the time of the last line
        self.leaped_total = 0  # consecutive lines that are far from the clock and near each other
        self.leapt_us = 0  # the time of the clock's last leap since the restart
        self.has_sshd = False
        self.is_vouched = False  # the kernel has vouched for a line of its sshd since the restart
        self.names: list[tuple[str, str]] = []  # its keys in the index: host and program
        self.connections: dict[str, Connection] = {}
        self.by_source: dict[tuple[str, str], Connection] = {}
        self.children: dict[str, Connection] = {}
        # When connections expire: one queue for each term, so that each queue is in order of time. sshbell checks the logins that
        # wait for their session line whenever the clock moves. It checks the others every SWEEP_US.
        self.waiting: deque[tuple[int, Connection]] = deque()
        self.due: dict[int, deque[tuple[int, Connection]]] = {}
        self.next_sweep_us = 0
        self.forged: dict[WriterAndClaim, ForgedCount] = {}
        self.without_pid = SessionsWithoutPid()
        self.in_session: deque[Connection] = deque()  # see Connections._evict

    def believed(self, time_us: int) -> int:
        """Return the later of the clock and a line's time. A time over ``LEAP_US`` ahead is left to ``leap``."""
        return time_us if self.clock_us < time_us <= self.clock_us + LEAP_US else self.clock_us

    def leap(self, time_us: int) -> None:
        """
        Set the clock to a distant time once enough lines in a row confirm it. The more connections, the more lines it takes.

        The first line of a host sets the clock. sshbell corrects the deadlines that a wrong clock has set: those of waiting
        logins now, each of the others when it is next in its queue (see ``expired``).
        """
        if self.last_us:
            self.leaped_total = self.leaped_total + 1 if abs(time_us - self.last_us) <= LEAP_US else 0
            # A leap closes connections, so a clock that jumps back and forth must spend lines on each leap.
            if self.leaped_total < 1 + len(self.connections) // _CONNECTIONS_A_LINE:
                return
        self.leaped_total = 0
        self.clock_us = self.leapt_us = self.next_sweep_us = time_us
        entries = [(_within(deadline, connection, GRACE_US, time_us), connection) for deadline, connection in self.waiting]
        self.waiting = deque(sorted(entries, key=lambda entry: entry[0]))

    def wait(self, connection: Connection, line: Line) -> None:
        """Let a login wait for its other lines."""
        if len(self.waiting) > 128 + 2 * len(self.connections):
            self.waiting = deque(entry for entry in self.waiting if not entry[1].login and not entry[1].is_gone)
        self.waiting.append((self.believed(line[TIME] or 0) + GRACE_US, connection))

    def keep(self, connection: Connection, term_us: int, time_us: int) -> None:
        """Let ``connection`` expire one term after a line, unless it gets another deadline."""
        deadline = self.believed(time_us) + term_us
        if connection.deadline == deadline:
            return
        connection.deadline = deadline
        queue = self.due.get(term_us)
        if queue is None:
            queue = self.due[term_us] = deque()
        queue.append((deadline, connection))
        if len(queue) > 128 + 2 * len(self.connections):
            # After a flood there are more entries than connections.
            seen: set[Connection] = set()
            self.due[term_us] = deque(entry for entry in queue if entry[1].counts(entry[0], seen))

    def expired(self) -> Iterator[Connection]:
        """Yield the connections to close now. Of the others, this looks only at the next one of each term."""
        now_us = self.clock_us
        for term_us, queue in list(self.due.items()):
            # Most queues have nothing to do: the next deadline is ahead, and no leap has made it wrong.
            if not queue or (queue[0][0] > now_us and self.leapt_us <= queue[0][0] - term_us <= now_us):
                continue
            # After a clock leap, a session still lasts its full term.
            if term_us != SESSION_US or now_us - self.leapt_us >= SESSION_US:
                for deadline, connection in self._over(term_us, queue):
                    if connection.deadline == IN_SESSION:
                        if not self._is_kept(connection):
                            yield connection
                    elif connection.deadline == deadline:
                        yield connection

    def _over(self, term_us: int, queue: deque[tuple[int, Connection]]) -> Iterator[tuple[int, Connection]]:
        """
        Take the entries of a queue that are due.

        sshbell corrects a deadline from before a clock leap when it is next in the queue. By then the entries behind it have
        waited long enough.
        """
        now_us = self.clock_us
        while queue:
            deadline, connection = queue[0]
            right = deadline
            if not self.leapt_us <= deadline - term_us <= now_us:
                right = _within(deadline, connection, term_us, self.leapt_us or now_us)
                if connection.deadline == deadline:
                    connection.deadline = right
            if right <= now_us:
                queue.popleft()
                if not connection.is_gone:
                    yield right, connection
            elif deadline <= now_us:
                queue.popleft()  # set by the first line after a quiet time, which no line had confirmed yet
                queue.append((right, connection))
            else:
                queue[0] = (right, connection)
                return

    def _is_kept(self, connection: Connection) -> bool:
        """Return whether a session has not expired. If so, check it again when its term ends."""
        since_us = max(connection.login.time_us if connection.login else 0, self.leapt_us)
        if self.clock_us - since_us >= SESSION_US:
            return False
        queue = self.due.setdefault(SESSION_US, deque())
        queue.append((since_us + SESSION_US, connection))
        if len(queue) > 128 + 2 * len(self.connections):
            # Most sessions end long before their term.
            seen: set[Connection] = set()
            self.due[SESSION_US] = deque(entry for entry in queue if entry[1].counts(entry[0], seen))
        return True

    def found_by_source(self, connection: Connection) -> None:
        """
        Index a connection by its source, so that lines of the session's own process find it.

        The source of another open session stays with that session: one client port can reach two of the server's addresses.
        """
        # Nothing would ever remove the entry of a dropped connection.
        if connection.address is not None and connection.port is not None and not connection.is_gone:
            source = (connection.address, connection.port)
            other = self.by_source.get(source)
            if other is None or other.is_over or other.accepted is None or connection.accepted is not None:
                self.by_source[source] = connection

    def leave_older(self, connection: Connection) -> None:
        """Forget the previous session with the same PID."""
        older, connection.older = connection.older, None
        if older is not None and self.by_source.get((older.address, older.port)) is older:  # type: ignore[arg-type]
            del self.by_source[older.address, older.port]  # type: ignore[arg-type]


def _within(deadline: int, connection: Connection, term_us: int, now_us: int) -> int:
    """Return the deadline that the right clock would have set: one term after the connection's deciding line, or after now."""
    own_us = (connection.accepted or connection.opened or connection.seen)[TIME] or now_us
    if own_us <= now_us:
        return own_us + term_us if deadline > now_us + term_us else max(deadline, own_us + term_us)
    return min(deadline, now_us + term_us)
