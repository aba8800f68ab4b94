"""
The connections that are held: found by PID or by the client's address, bounded in number, let go in event time.

Everything expires host by host: one host's lines never expire another's. Lines may come out of order by seconds, PIDs are reused,
any line may be missing.
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

# A login is told this long after "Accepted" where no session line comes. In captures it came after 0.5 to 30 ms; modules that
# make home directories or ask a directory server take seconds.
GRACE_US = 10 * SECOND
# By how much the times of lines in order may differ from it: many stamps have seconds alone.
JITTER_US = SECOND
# What is left of a connection that is over takes up its late lines.
LINGER_US = 10 * SECOND
# How often, in a host's time, it is looked which connections have expired.
SWEEP_US = 10 * SECOND
# LoginGraceTime is 120 s by default; then the connection is over, also where no line says so (Debian 12).
PREAUTH_US = 600 * SECOND
# The line that ends a session may never come.
SESSION_US = 30 * 86400 * SECOND
# A time so far from the clock is believed when a second line confirms it: relays pass on what broken clocks say.
LEAP_US = 3600 * SECOND
# Connections and hosts that are held; beyond this the oldest is told as what it is by then, and let go.
CONNECTION_LIMIT = 20_000
HOST_LIMIT = 10_000
_HOSTS_LOOKED_AT = 16
_CONNECTIONS_A_LINE = 64
# Names of programs under which a host is found at once: systemd can name a unit for each connection.
_NAMES_LIMIT = 64

# Stands for every host that is not held.
NO_HOST = ("", "")

# The deadline of a connection in session, which is over after SESSION_US.
IN_SESSION = -1


class Connection:
    """What is known of one connection so far. The defaults are the class's, since most connections need few of them."""

    # The number counts up with each connection. No snapshot keeps it: it is given anew.
    __slots__ = ("__dict__", "number")

    address: str | None = None
    port: str | None = None
    user: str | None = None
    user_is_valid = True
    attempts = 0
    pam_attempts = 0  # what PAM counts; sshd counts the same ones, where it is heard
    denied: str | None = None
    reason: str | None = None
    pam_failure: Line | None = None  # "PAM: Authentication failure": may be the same try as a Failed line behind it
    pam_failures: Line | None = None  # of pam_unix, where nothing of sshd was seen
    accepted: Line | None = None
    opened: Line | None = None
    closed: Line | None = None  # "session closed", where it came before the other two
    child_over: Line | None = None  # the session's process said that it ends, before it was known whether PAM opens a session
    uid: int | None = None
    partial_info: str | None = None
    partial_methods: tuple[str, ...] = ()  # of the factors before the last one
    child_pid: str | None = None
    session_kind: str | None = None
    login: Login | None = None
    is_told = False  # the story is told: as a login, a probe, or by its attempts
    is_over = False
    ended_us = 0
    is_gone = False
    older: "Connection | None" = None  # the one before with the same PID, still in session
    deadline = 0

    def __init__(self, procid: str, line: Line, number: int = 0) -> None:
        self.number = number
        self.procid = procid
        self.since_us = line[TIME] or 0
        self.seen = line  # the line that decides about a probe, or about a try that is told at the end

    @property
    def is_without_session(self) -> bool:
        """Nobody is in by it."""
        return not self.is_gone and self.accepted is None and self.opened is None

    def is_younger(self, line: Line) -> bool:
        """Tell whether it began after ``line`` was written, by more than lines are out of order; not known without a time."""
        return line[TIME] is not None and line[TIME] < self.since_us - JITTER_US

    def is_in_before(self, line: Line) -> bool:
        """Tell whether it came to a session before ``line`` was written: one that says how a connection begins is of another."""
        known = self.accepted or self.opened
        return known is not None and (line[TIME] or 0) > (known[TIME] or 0) + JITTER_US

    @property
    def session_user(self) -> str | None:
        """The user who is in, as the line spells the name."""
        known = self.accepted or self.opened
        return known[USER] if known else None

    @property
    def has_no_pid(self) -> bool:
        """It has come to a session, and the lines about it have no PID."""
        known = self.accepted or self.opened
        return known is not None and not known[PROCID]

    def is_in_session_without_pid(self, *, is_opened: bool) -> bool:
        """Tell whether it is in a session whose lines have no PID, and whose session PAM has opened, or has not."""
        return self.has_no_pid and not self.is_over and not self.is_gone and (self.opened is not None) == is_opened

    def counts(self, deadline: int, seen: set["Connection"]) -> bool:
        """Tell whether an entry of a queue of terms is the one that counts; of a session, the first that is seen."""
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
        self.leaped_total = 0  # lines in a row that are far from the clock, and near each other
        self.leapt_us = 0  # the time to which the clock leapt last; since a restart
        self.has_sshd = False
        self.names: list[tuple[str, str]] = []  # host and program, under which it is found
        self.connections: dict[str, Connection] = {}
        self.by_source: dict[tuple[str, str], Connection] = {}
        self.children: dict[str, Connection] = {}
        # When connections expire: one queue a term, so that each is in order of time. Logins that wait for their session line are
        # looked at whenever the clock moves, the others now and then.
        self.waiting: deque[tuple[int, Connection]] = deque()
        self.due: dict[int, deque[tuple[int, Connection]]] = {}
        self.next_sweep_us = 0
        self.forged: dict[WriterAndClaim, ForgedCount] = {}
        self.without_pid = SessionsWithoutPid()
        self.in_session: deque[Connection] = deque()  # see Connections._evict

    def believed(self, time_us: int) -> int:
        """Return the later of the clock and a line's time, unless that is so far ahead that a second line has to confirm it."""
        return time_us if self.clock_us < time_us <= self.clock_us + LEAP_US else self.clock_us


class Connections:
    """
    The connections of all hosts.

    Args:
        family_of: program family by program name.
        tell_rest: tells what is left to tell of a connection that is let go.
        tell_forged: tells what is left to tell of a host's forged lines.
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
        self._busy: OrderedDict[Host, None] = OrderedDict()  # those that have connections
        self._begun: deque[tuple[Host, Connection]] = deque()  # in order, those that have come to a session among them
        self.counters: Counter[str] = Counter()
        self.heard: set[Host] = set()  # since the last tick
        self.changed: set[tuple[str, str]] = set()  # name and family of hosts, since the last snapshot
        # Lines that were lost may yet be found: nothing is let go because its term is over.
        self.is_holding = False

    def close_all(self) -> None:
        """Let all connections go."""
        for host in self._hosts.values():
            for connection in list(host.connections.values()):
                self.close(host, connection)
            self._tell_forged(host)

    def host(self, name: str, program: str) -> Host:
        """Return the connections of a host, and remember under which names of programs they are found."""
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
        """Return a host; None if it is unknown and another would have to go for it."""
        host = self.known(name, program)
        return self.host(name, program) if host is None and len(self._hosts) < HOST_LIMIT else host

    def known(self, name: str, program: str) -> Host | None:
        """Return a host where it is held."""
        return self._hosts.get((name, self._family_of(program)))

    def keys(self) -> list[tuple[str, str]]:
        """Return name and family of all hosts."""
        return list(self._hosts)

    def host_of(self, key: tuple[str, str]) -> Host | None:
        """Return the host of a name and a family, where it is held."""
        return self._hosts.get(key)

    def let_pass(self, elapsed_us: int) -> list[Host]:
        """Move the clocks of hosts that have not been heard since this was last asked, and return those that hold something."""
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
        """Take over a host that an earlier process held."""
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
                host.leapt_us = host.clock_us  # only a leap of the clock has kept it
            if connection.has_no_pid:
                host.without_pid.add(connection)

    def begin_again(self) -> None:
        """Put what was restored in order."""
        begun = [(host, each) for host in self._hosts.values() for each in host.connections.values()]
        self._begun = deque(sorted(begun, key=lambda entry: entry[1].since_us))

    def _drop_host(self) -> None:
        """Let a host go: one of the oldest that has no connections, or else the oldest."""
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
        Believe a time that is far from the clock when lines before were there too: one, and more where many connections are held.

        The first line of a host sets the clock. Deadlines that a wrong clock has set are put right: those of waiting logins
        now, the others when they are the next: see ``sweep``.
        """
        if host.last_us:
            host.leaped_total = host.leaped_total + 1 if abs(time_us - host.last_us) <= LEAP_US else 0
            # Connections are closed by it, so a clock that leaps to and fro has to pay for it with lines.
            if host.leaped_total < 1 + len(host.connections) // _CONNECTIONS_A_LINE:
                return
        host.leaped_total = 0
        host.clock_us = host.leapt_us = host.next_sweep_us = time_us
        entries = [(_within(deadline, connection, GRACE_US, time_us), connection) for deadline, connection in host.waiting]
        host.waiting = deque(sorted(entries, key=lambda entry: entry[0]))

    @staticmethod
    def wait(host: Host, connection: Connection, line: Line) -> None:
        """Let a login wait for what else is said of it."""
        if len(host.waiting) > 128 + 2 * len(host.connections):
            host.waiting = deque(entry for entry in host.waiting if not entry[1].login and not entry[1].is_gone)
        host.waiting.append((host.believed(line[TIME] or 0) + GRACE_US, connection))

    def sweep(self, host: Host) -> None:
        """Let connections go whose term is over. It looks at no others but the next of each term."""
        now_us = host.clock_us
        host.next_sweep_us = now_us + SWEEP_US
        if self.is_holding:
            return
        for term_us, queue in list(host.due.items()):
            # A session lasts for its term after a leap of the clock, too.
            if term_us != SESSION_US or now_us - host.leapt_us >= SESSION_US:
                for deadline, connection in self._over(host, term_us, queue):
                    if connection.deadline == IN_SESSION:
                        self._keep_session(host, connection)
                    elif connection.deadline == deadline:
                        self.close(host, connection)

    @staticmethod
    def _over(host: Host, term_us: int, queue: deque[tuple[int, Connection]]) -> Iterator[tuple[int, Connection]]:
        """
        Take the entries of a queue whose time has come.

        A deadline from before a leap of the clock is put right when it is the next: those behind it have waited long enough by
        then.
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
                queue.popleft()  # of the first line behind a quiet time, which nobody had confirmed yet
                queue.append((right, connection))
            else:
                queue[0] = (right, connection)
                return

    @staticmethod
    def keep(host: Host, connection: Connection, term_us: int, time_us: int) -> None:
        """Let ``connection`` expire a term after a line, unless it gets another."""
        deadline = host.believed(time_us) + term_us
        if connection.deadline == deadline:
            return
        connection.deadline = deadline
        queue = host.due.get(term_us)
        if queue is None:
            queue = host.due[term_us] = deque()
        queue.append((deadline, connection))
        if len(queue) > 128 + 2 * len(host.connections):
            # A flood leaves more entries than connections.
            seen: set[Connection] = set()
            host.due[term_us] = deque(entry for entry in queue if entry[1].counts(entry[0], seen))

    def new(self, host: Host, line: Line, procid: str, address: str | None, port: str | None) -> Connection:
        """Return a connection that begins with ``line``; what had the same PID before is let go."""
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
            # The PID was reused, or a line of the old connection is late.
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
        """Let lines of the session's own process find it, unless they are another's: one port can reach two of our addresses."""
        # Nothing would ever take away one that is gone.
        if connection.address is not None and connection.port is not None and not connection.is_gone:
            source = (connection.address, connection.port)
            other = host.by_source.get(source)
            if other is None or other.is_over or other.accepted is None or connection.accepted is not None:
                host.by_source[source] = connection

    def _evict(self, host: Host) -> None:
        """Let the oldest connection of all hosts go that has no session; else the oldest session of this host, or of any."""
        while self._begun:
            crowded, connection = self._begun.popleft()
            if connection.is_without_session:
                break
            if not connection.is_gone:
                crowded.in_session.append(connection)
                if len(crowded.in_session) > 128 + 2 * len(crowded.connections):
                    crowded.in_session = deque(each for each in crowded.in_session if not each.is_gone)
        else:
            # All that are held have come to a session, and stand in the order in which they began.
            crowded = host if host.connections else next(iter(self._busy))
            connection = crowded.in_session.popleft()
            while connection.is_gone:
                connection = crowded.in_session.popleft()
        self.close(crowded, connection)
        self.counters["connections_evicted_total"] += 1

    def _keep_session(self, host: Host, connection: Connection) -> None:
        """Look at a session again when it will be over."""
        since_us = max(connection.login.time_us if connection.login else 0, host.leapt_us)
        if host.clock_us - since_us >= SESSION_US:
            self.close(host, connection)
            return
        queue = host.due.setdefault(SESSION_US, deque())
        queue.append((since_us + SESSION_US, connection))
        if len(queue) > 128 + 2 * len(host.connections):
            # Most sessions end by themselves, long before.
            seen: set[Connection] = set()
            host.due[SESSION_US] = deque(entry for entry in queue if entry[1].counts(entry[0], seen))

    def close(self, host: Host, connection: Connection) -> None:
        """Tell what is left to tell of a connection, and forget it."""
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
        """Return the connection that a line of the monitor belongs to; a new one where the PID was reused."""
        procid = line[PROCID]
        if not procid:
            # Without a PID, the client's address has to do.
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
        """Forget the session that had the same PID before."""
        older, connection.older = connection.older, None
        if older is not None and host.by_source.get((older.address, older.port)) is older:  # type: ignore[arg-type]
            del host.by_source[older.address, older.port]  # type: ignore[arg-type]

    @staticmethod
    def _late(line: Line, procid: str, address: str | None, port: str | None) -> Connection:
        """Return what stands for a connection that is gone, whose PID another has by now: its story has been told."""
        connection = Connection(procid, line)
        connection.address, connection.port = address, port
        connection.is_told = connection.is_gone = True
        return connection

    def of_child(self, host: Host, line: Line) -> Connection | None:
        """Return the connection that a line of the session's own process belongs to."""
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
    """Return a deadline as the right clock would have set it: a term after the connection's deciding line, or after now."""
    own_us = (connection.accepted or connection.opened or connection.seen)[TIME] or now_us
    if own_us <= now_us:
        return own_us + term_us if deadline > now_us + term_us else max(deadline, own_us + term_us)
    return min(deadline, now_us + term_us)
