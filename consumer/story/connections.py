"""
The connections in memory. sshbell finds them by PID or client address, limits their number, and lets them expire in event time.

Each host has its own clock, so the lines of one host never expire the connections of another. Lines may arrive seconds out of
order, PIDs are reused, and any line may be missing.
"""

from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator
from itertools import count
from typing import TYPE_CHECKING

from consumer.events import Login
from consumer.records import ADDRESS, METHOD, PORT, PROCID, TIME, USER, Line
from consumer.story.without_pid import SessionsWithoutPid

if TYPE_CHECKING:
    from consumer.story.forged_lines import ForgedCount, WriterAndClaim

SECOND = 1_000_000

# If no session line comes, sshbell reports a login this long after "Accepted". In captures the session line came after 0.5 to
# 30 ms. PAM modules that create home directories or query a directory server take seconds.
GRACE_US = 10 * SECOND
# Lines in the right order may have times that are this far out of order: many timestamps have whole seconds only.
JITTER_US = SECOND
# sshbell keeps a connection this long after its end, to collect its late lines.
LINGER_US = 10 * SECOND
# How often sshbell looks for expired connections, by the host's clock.
SWEEP_US = 10 * SECOND
# After LoginGraceTime (120 s by default) sshd closes the connection. Debian 12 logs no line about it.
PREAUTH_US = 600 * SECOND
# The line that ends a session may never come.
SESSION_US = 30 * 86400 * SECOND
# A time this far from the clock needs a second line to confirm it: relays forward the times of broken clocks.
LEAP_US = 3600 * SECOND
# The most connections and hosts in memory. Beyond that sshbell reports the oldest as far as it is known, and drops it.
CONNECTION_LIMIT = 20_000
HOST_LIMIT = 10_000
_HOSTS_LOOKED_AT = 16
_CONNECTIONS_A_LINE = 64
# The most program names indexed per host. systemd can use a new unit name for each connection.
_NAMES_LIMIT = 64

# Stands for every host that is not in memory.
NO_HOST = ("", "")

# The deadline of a connection with an open session. It expires after SESSION_US.
IN_SESSION = -1


# The attributes of a connection that outlive a restart, apart from its number and the older connection.
REMEMBERED = (
    "procid", "since_us", "seen", "address", "port", "user", "user_is_valid", "attempts", "pam_attempts", "denied", "reason",
    "pam_failure", "pam_failures", "accepted", "opened", "closed", "child_over", "uid", "partial_info", "partial_methods",
    "child_pid", "session_kind", "code", "refused", "login", "is_told", "is_over", "ended_us", "is_gone", "deadline",
)  # fmt: skip


class Connection:
    """
    Everything known so far about one connection. Defaults are class attributes, because most connections set few of them.

    A new attribute also belongs in ``REMEMBERED``.
    """

    # The number increases with each connection. Snapshots leave it out; a restored connection gets a new one.
    __slots__ = ("__dict__", "number")

    address: str | None = None
    port: str | None = None
    user: str | None = None
    user_is_valid = True
    attempts = 0
    pam_attempts = 0  # counted by PAM; sshd's own lines, if there are any, count the same attempts
    denied: str | None = None
    reason: str | None = None
    pam_failure: Line | None = None  # "PAM: Authentication failure"; a Failed line after it may be the same attempt
    pam_failures: Line | None = None  # of pam_unix, if sshd itself has logged nothing
    accepted: Line | None = None
    opened: Line | None = None
    closed: Line | None = None  # "session closed", if it came before the other two
    child_over: Line | None = None  # the session's process logged its end before sshbell knew whether PAM opens a session
    uid: int | None = None
    partial_info: str | None = None
    partial_methods: tuple[str, ...] = ()  # of all factors but the last
    child_pid: str | None = None
    session_kind: str | None = None
    code: Line | None = None  # of sshbell-pam: why this login needs no further code
    refused = 0  # a refused code that sshd reports, too: 1 until its "PAM: ...", then 2 until its "Failed"
    login: Login | None = None
    is_told = False  # sshbell has reported it, as a login, a probe or attempts
    is_over = False
    ended_us = 0
    is_gone = False
    older: "Connection | None" = None  # the previous connection with this PID, whose session is still open
    deadline = 0

    def __init__(self, procid: str, line: Line, number: int = 0) -> None:
        self.number = number
        self.procid = procid
        self.since_us = line[TIME] or 0
        self.seen = line  # decides a probe, or an attempt that sshbell reports at the end

    @property
    def is_without_session(self) -> bool:
        """The connection is in memory, and nobody has logged in on it."""
        return not self.is_gone and self.accepted is None and self.opened is None

    def is_younger(self, line: Line) -> bool:
        """Return whether the connection began more than ``JITTER_US`` after ``line``. False if the line has no time."""
        return line[TIME] is not None and line[TIME] < self.since_us - JITTER_US

    def is_in_before(self, line: Line) -> bool:
        """Return whether the login came before ``line``. If so, a line about the start of a connection belongs to another one."""
        known = self.accepted or self.opened
        return known is not None and (line[TIME] or 0) > (known[TIME] or 0) + JITTER_US

    @property
    def session_user(self) -> str | None:
        """The user who has logged in, spelled as in the log line."""
        known = self.accepted or self.opened
        return known[USER] if known else None

    @property
    def has_no_pid(self) -> bool:
        """The user has logged in, and the line about it has no PID."""
        known = self.accepted or self.opened
        return known is not None and not known[PROCID]

    def is_in_session_without_pid(self, *, is_opened: bool) -> bool:
        """Return whether the session is not over, its lines have no PID, and PAM has opened it (``is_opened``) or has not."""
        return self.has_no_pid and not self.is_over and not self.is_gone and (self.opened is not None) == is_opened

    def counts(self, deadline: int, seen: set["Connection"]) -> bool:
        """Return whether a queue entry is the connection's current one. For a session that is the first entry seen."""
        if self.is_gone or self in seen or self.deadline not in {deadline, IN_SESSION}:
            return False
        seen.add(self)
        return True


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


class Connections:
    """
    The connections of all hosts.

    Args:
        family_of: program family by program name.
        tell_rest: reports any pending event of a connection before it is dropped.
        tell_forged: reports the counts of a host's forged lines before the host is dropped.
    """

    def __init__(
        self,
        family_of: Callable[[str], str],
        tell_rest: Callable[[Host, Connection], None],
        tell_forged: Callable[[Host], None],
    ) -> None:
        self._family_of = family_of
        self._tell_rest = tell_rest
        self._tell_forged = tell_forged
        self._hosts: OrderedDict[tuple[str, str], Host] = OrderedDict()
        self.by_program: dict[tuple[str, str], Host] = {}
        self._total = 0
        self._numbers = count(1)
        self._busy: OrderedDict[Host, None] = OrderedDict()  # hosts with connections
        self._begun: deque[tuple[Host, Connection]] = deque()  # oldest first, with or without a session
        self.counters: Counter[str] = Counter()
        self.heard: set[Host] = set()  # since the last tick
        self.changed: set[tuple[str, str]] = set()  # names and families of hosts, since the last snapshot
        # While sshbell may still find lost lines, no connection expires.
        self.is_holding = False

    def close_all(self) -> None:
        """Report all that is pending, and drop all connections."""
        for host in self._hosts.values():
            for connection in list(host.connections.values()):
                self.close(host, connection)
            self._tell_forged(host)

    def host(self, name: str, program: str) -> Host:
        """Return a host, new if need be, and index it under the program's name."""
        key = (name, self._family_of(program))
        host = self._hosts.get(key)
        if host is None:
            if len(self._hosts) >= HOST_LIMIT:
                self._drop_host()
            host = self._hosts[key] = Host()
            host.key = key
        if len(host.names) >= _NAMES_LIMIT:
            del self.by_program[host.names.pop(0)]
        self.by_program[name, program] = host
        host.names.append((name, program))
        return host

    def host_without_eviction(self, name: str, program: str) -> Host | None:
        """Return a host. None if it is unknown and sshbell would have to drop another host for it."""
        host = self.known(name, program)
        return self.host(name, program) if host is None and len(self._hosts) < HOST_LIMIT else host

    def known(self, name: str, program: str) -> Host | None:
        """Return a host. None if it is not in memory."""
        return self._hosts.get((name, self._family_of(program)))

    def keys(self) -> list[tuple[str, str]]:
        """Return the name and family of every host."""
        return list(self._hosts)

    def host_of(self, key: tuple[str, str]) -> Host | None:
        """Return the host with this name and family. None if it is not in memory."""
        return self._hosts.get(key)

    def let_pass(self, elapsed_us: int) -> list[Host]:
        """Advance the clocks of hosts that hold something and have sent no line since the last call. Return these hosts."""
        self.changed.update(host.key for host in self.heard)
        silent = [
            host for host in self._hosts.values() if host not in self.heard and (host.waiting or host.connections or host.forged)
        ]
        self.heard.clear()
        for host in silent:
            host.clock_us += elapsed_us
        self.changed.update(host.key for host in silent)
        return silent

    def restore(self, key: tuple[str, str], host: Host) -> None:
        """Restore a host from an earlier process."""
        host.key = key
        self._hosts[key] = host
        for names in host.names:
            self.by_program[names] = host
        self._total += len(host.connections)
        if host.connections:
            self._busy[host] = None
        for connection in host.connections.values():
            connection.number = next(self._numbers)
            login = connection.login
            if login is not None and login.time_us <= host.clock_us - SESSION_US:
                host.leapt_us = host.clock_us  # only a clock leap has kept this session
            if connection.has_no_pid:
                host.without_pid.add(connection)

    def begin_again(self) -> None:
        """Sort the restored connections by age."""
        begun = [(host, each) for host in self._hosts.values() for each in host.connections.values()]
        self._begun = deque(sorted(begun, key=lambda entry: entry[1].since_us))

    def _drop_host(self) -> None:
        """Drop one of the oldest hosts: the first without connections, or else the oldest."""
        for _ in range(_HOSTS_LOOKED_AT):
            key, host = self._hosts.popitem(last=False)
            if not host.connections:
                break
            self._hosts[key] = host
        else:
            key, host = self._hosts.popitem(last=False)
        for connection in list(host.connections.values()):
            self.close(host, connection)
        self._tell_forged(host)
        for names in host.names:
            del self.by_program[names]
        self.heard.discard(host)
        self.changed.add(key)
        self.counters["hosts_dropped_total"] += 1

    @staticmethod
    def leap(host: Host, time_us: int) -> None:
        """
        Set the clock to a distant time once enough lines in a row confirm it. The more connections, the more lines it takes.

        The first line of a host sets the clock. sshbell corrects the deadlines that a wrong clock has set: those of waiting
        logins now, each of the others when it is next in its queue (see ``sweep``).
        """
        if host.last_us:
            host.leaped_total = host.leaped_total + 1 if abs(time_us - host.last_us) <= LEAP_US else 0
            # A leap closes connections, so a clock that jumps back and forth must spend lines on each leap.
            if host.leaped_total < 1 + len(host.connections) // _CONNECTIONS_A_LINE:
                return
        host.leaped_total = 0
        host.clock_us = host.leapt_us = host.next_sweep_us = time_us
        entries = [(_within(deadline, connection, GRACE_US, time_us), connection) for deadline, connection in host.waiting]
        host.waiting = deque(sorted(entries, key=lambda entry: entry[0]))

    @staticmethod
    def wait(host: Host, connection: Connection, line: Line) -> None:
        """Let a login wait for its other lines."""
        if len(host.waiting) > 128 + 2 * len(host.connections):
            host.waiting = deque(entry for entry in host.waiting if not entry[1].login and not entry[1].is_gone)
        host.waiting.append((host.believed(line[TIME] or 0) + GRACE_US, connection))

    def sweep(self, host: Host) -> None:
        """Drop expired connections. Of the others, it looks only at the next one of each term."""
        now_us = host.clock_us
        host.next_sweep_us = now_us + SWEEP_US
        if self.is_holding:
            return
        for term_us, queue in list(host.due.items()):
            # Most queues have nothing to do: the next deadline is ahead, and no leap has made it wrong.
            if not queue or (queue[0][0] > now_us and host.leapt_us <= queue[0][0] - term_us <= now_us):
                continue
            # After a clock leap, a session still lasts its full term.
            if term_us != SESSION_US or now_us - host.leapt_us >= SESSION_US:
                for deadline, connection in self._over(host, term_us, queue):
                    if connection.deadline == IN_SESSION:
                        self._keep_session(host, connection)
                    elif connection.deadline == deadline:
                        self.close(host, connection)

    @staticmethod
    def _over(host: Host, term_us: int, queue: deque[tuple[int, Connection]]) -> Iterator[tuple[int, Connection]]:
        """
        Take the entries of a queue that are due.

        sshbell corrects a deadline from before a clock leap when it is next in the queue. By then the entries behind it have
        waited long enough.
        """
        now_us = host.clock_us
        while queue:
            deadline, connection = queue[0]
            right = deadline
            if not host.leapt_us <= deadline - term_us <= now_us:
                right = _within(deadline, connection, term_us, host.leapt_us or now_us)
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

    @staticmethod
    def keep(host: Host, connection: Connection, term_us: int, time_us: int) -> None:
        """Let ``connection`` expire one term after a line, unless it gets another deadline."""
        deadline = host.believed(time_us) + term_us
        if connection.deadline == deadline:
            return
        connection.deadline = deadline
        queue = host.due.get(term_us)
        if queue is None:
            queue = host.due[term_us] = deque()
        queue.append((deadline, connection))
        if len(queue) > 128 + 2 * len(host.connections):
            # After a flood there are more entries than connections.
            seen: set[Connection] = set()
            host.due[term_us] = deque(entry for entry in queue if entry[1].counts(entry[0], seen))

    def new(self, host: Host, line: Line, procid: str, address: str | None, port: str | None) -> Connection:
        """Return a new connection that begins with ``line``. Drop the previous connection with the same PID."""
        if self._total >= CONNECTION_LIMIT:
            self._evict(host)
        older = host.connections.get(procid)
        if older is not None:
            self.close(host, older)
        if not host.connections:
            self._busy[host] = None
        connection = Connection(procid, line, next(self._numbers))
        connection.address, connection.port = address, port
        if older is not None and older.login is not None and not older.is_over:
            # The PID was reused, or a line of the old connection came late.
            connection.older = older
            older.older = None
            if older.address is not None and older.port is not None:
                host.by_source[older.address, older.port] = older
        host.connections[procid] = connection
        self._total += 1
        self.keep(host, connection, PREAUTH_US, line[TIME] or 0)
        if address is not None and port is not None:
            if (address, port) in host.by_source:
                self.found_by_source(host, connection)
            else:
                host.by_source[address, port] = connection
        self._begun.append((host, connection))
        if len(self._begun) > 128 + 2 * self._total:
            self._begun = deque(entry for entry in self._begun if not entry[1].is_gone)
        return connection

    @staticmethod
    def found_by_source(host: Host, connection: Connection) -> None:
        """
        Index a connection by its source, so that lines of the session's own process find it.

        The source of another open session stays with that session: one client port can reach two of the server's addresses.
        """
        # Nothing would ever remove the entry of a dropped connection.
        if connection.address is not None and connection.port is not None and not connection.is_gone:
            source = (connection.address, connection.port)
            other = host.by_source.get(source)
            if other is None or other.is_over or other.accepted is None or connection.accepted is not None:
                host.by_source[source] = connection

    def _evict(self, host: Host) -> None:
        """Drop the oldest connection without a session on any host, or else the oldest session of this host, or of another."""
        while self._begun:
            crowded, connection = self._begun.popleft()
            if connection.is_without_session:
                break
            if not connection.is_gone:
                crowded.in_session.append(connection)
                if len(crowded.in_session) > 128 + 2 * len(crowded.connections):
                    crowded.in_session = deque(each for each in crowded.in_session if not each.is_gone)
        else:
            # Every connection has a session, and the queues list them in the order in which they began.
            crowded = host if host.connections else next(iter(self._busy))
            connection = crowded.in_session.popleft()
            while connection.is_gone:
                connection = crowded.in_session.popleft()
        self.close(crowded, connection)
        self.counters["connections_evicted_total"] += 1

    def _keep_session(self, host: Host, connection: Connection) -> None:
        """Close a session that has expired. Check any other again when its term ends."""
        since_us = max(connection.login.time_us if connection.login else 0, host.leapt_us)
        if host.clock_us - since_us >= SESSION_US:
            self.close(host, connection)
            return
        queue = host.due.setdefault(SESSION_US, deque())
        queue.append((since_us + SESSION_US, connection))
        if len(queue) > 128 + 2 * len(host.connections):
            # Most sessions end long before their term.
            seen: set[Connection] = set()
            host.due[SESSION_US] = deque(entry for entry in queue if entry[1].counts(entry[0], seen))

    def close(self, host: Host, connection: Connection) -> None:
        """Report any pending event of a connection, and drop the connection."""
        self._tell_rest(host, connection)
        connection.is_gone = True
        if host.connections.get(connection.procid) is connection:
            del host.connections[connection.procid]
            self._total -= 1
            if not host.connections:
                self._busy.pop(host, None)
            if connection.has_no_pid:
                host.without_pid.forget(connection)
            if connection.address is not None and connection.port is not None:
                source = (connection.address, connection.port)
                if host.by_source.get(source) is connection:
                    del host.by_source[source]
            self.leave_older(host, connection)
            if connection.child_pid and host.children.get(connection.child_pid) is connection:
                del host.children[connection.child_pid]

    def of_monitor(self, host: Host, line: Line, address: str | None, port: str | None) -> Connection:
        """Return the connection of a line from the monitor. If the PID was reused, return a new connection."""
        procid = line[PROCID]
        if not procid:
            # The client's address replaces the missing PID.
            procid = f"{address} {port}"
        connection = host.connections.get(procid)
        if connection is None:
            return self.new(host, line, procid, address, port)
        time_us = line[TIME] or host.clock_us
        if port is None:
            if connection.ended_us and time_us >= connection.ended_us:
                return self.new(host, line, procid, address, port)
            connection.address = connection.address or address
        elif connection.port is None:
            if connection.accepted is not None or (connection.is_told and connection.address not in {None, address}):
                return self.new(host, line, procid, address, port)
            connection.address, connection.port = address, port
            self.found_by_source(host, connection)
        elif connection.port != port or connection.address != address:
            is_same_instant = connection.accepted is not None and not connection.is_over and not line[METHOD]
            if time_us < connection.since_us + is_same_instant:
                return self._late(line, procid, address, port)
            return self.new(host, line, procid, address, port)
        return connection

    @staticmethod
    def leave_older(host: Host, connection: Connection) -> None:
        """Forget the previous session with the same PID."""
        older, connection.older = connection.older, None
        if older is not None and host.by_source.get((older.address, older.port)) is older:  # type: ignore[arg-type]
            del host.by_source[older.address, older.port]  # type: ignore[arg-type]

    @staticmethod
    def _late(line: Line, procid: str, address: str | None, port: str | None) -> Connection:
        """Return a stand-in for a dropped connection whose PID another one has now. sshbell has already reported its story."""
        connection = Connection(procid, line)
        connection.address, connection.port = address, port
        connection.is_told = connection.is_gone = True
        return connection

    def of_child(self, host: Host, line: Line) -> Connection | None:
        """Return the connection of a line from the session's own process."""
        procid, address, port = line[PROCID], line[ADDRESS], line[PORT]
        own = host.connections.get(procid)
        if own is not None and own.port == port and own.address == address:
            return own
        if address is not None and port is not None:
            found = host.by_source.get((address, port))
            if found is not None:
                return found
        connection = host.children.get(procid) or own
        if connection is not None and port is not None and connection.port is not None and connection.port != port:
            return None
        return connection


def _within(deadline: int, connection: Connection, term_us: int, now_us: int) -> int:
    """Return the deadline that the right clock would have set: one term after the connection's deciding line, or after now."""
    own_us = (connection.accepted or connection.opened or connection.seen)[TIME] or now_us
    if own_us <= now_us:
        return own_us + term_us if deadline > now_us + term_us else max(deadline, own_us + term_us)
    return min(deadline, now_us + term_us)
