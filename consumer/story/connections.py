"""
The connections in memory. sshbell finds them by PID or client address, and limits their number.

Lines may arrive seconds out of order, PIDs are reused, and any line may be missing.
"""

from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from itertools import count

from consumer.records import ADDRESS, METHOD, PORT, PROCID, TIME, Line
from consumer.story.connection import SECOND, Connection
from consumer.story.host import PREAUTH_US, SESSION_US, Host

# The most connections and hosts in memory. Beyond that sshbell reports the oldest as far as it is known, and drops it.
CONNECTION_LIMIT = 20_000
HOST_LIMIT = 10_000
_HOSTS_LOOKED_AT = 16
# How often sshbell looks for expired connections, by the host's clock.
SWEEP_US = 10 * SECOND
# The most program names indexed per host. systemd can use a new unit name for each connection.
_NAMES_LIMIT = 64

# Stands for every host that is not in memory.
NO_HOST = ("", "")


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
        self.family_of = family_of
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
        key = (name, self.family_of(program))
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
        return self._hosts.get((name, self.family_of(program)))

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

    def sweep(self, host: Host) -> None:
        """Drop the expired connections of a host."""
        host.next_sweep_us = host.clock_us + SWEEP_US
        if not self.is_holding:
            for connection in host.expired():
                self.close(host, connection)

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
        host.keep(connection, PREAUTH_US, line[TIME] or 0)
        if address is not None and port is not None:
            if (address, port) in host.by_source:
                host.found_by_source(connection)
            else:
                host.by_source[address, port] = connection
        self._begun.append((host, connection))
        if len(self._begun) > 128 + 2 * self._total:
            self._begun = deque(entry for entry in self._begun if not entry[1].is_gone)
        return connection

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
            host.leave_older(connection)
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
            host.found_by_source(connection)
        elif connection.port != port or connection.address != address:
            is_same_instant = connection.accepted is not None and not connection.is_over and not line[METHOD]
            if time_us < connection.since_us + is_same_instant:
                return self._late(line, procid, address, port)
            return self.new(host, line, procid, address, port)
        return connection

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
