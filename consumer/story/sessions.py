"""Logins and sessions: the lines of a connection from its first accepted factor to its end."""

from collections.abc import Callable

from consumer.actions import EventAction, LineAction
from consumer.events import Login, Logout
from consumer.matching.rules import CompiledRule
from consumer.records import ADDRESS, EXTRA, METHOD, PORT, PROCID, PROGRAM, TIME, TRUSTED, USER, Line
from consumer.story import login_codes
from consumer.story.connection import IN_SESSION, Connection
from consumer.story.connections import Connections
from consumer.story.event_ids import derived
from consumer.story.host import GRACE_US, LINGER_US, Host
from consumer.story.reporter import Reporter
from consumer.story.without_pid import same_user

# The most factors kept for one login. sshd stops at six failures, and no list of AuthenticationMethods is that long.
_FACTORS_LIMIT = 8
# PAM's services of programs that every user may start with root's rights, and under any name: so their lines can have sshd's tag.
_SERVICES_OF_USERS = frozenset({"su", "su-l", "sudo", "sudo-i", "doas", "polkit-1", "login", "chsh", "chfn", "passwd"})


class Sessions:
    """
    Takes the lines about logins and sessions.

    Args:
        rules: the rules of the matcher that made the lines.
        held: the connections.
        reporter: gets the events.
    """

    def __init__(self, rules: list[CompiledRule], held: Connections, reporter: Reporter) -> None:
        self._rules = rules
        self._held = held
        self._reporter = reporter

    def handlers(self) -> dict[LineAction, Callable[[Host, Line], None]]:
        """Return what takes a line, by its action."""
        return {
            LineAction.ACCEPTED: self._accepted,
            LineAction.PARTIAL: self._partial,
            LineAction.SESSION_OPENED: _unless_of_users(self._session_opened),
            LineAction.SESSION_CLOSED: _unless_of_users(self._session_closed),
            LineAction.SESSION_STARTED: self.session_started,
            LineAction.CHILD_STARTED: self._child_started,
        }

    def tell_waiting(self, host: Host) -> None:
        """Report the logins whose session line did not come in time."""
        while host.waiting and host.waiting[0][0] <= host.clock_us:
            _, connection = host.waiting.popleft()
            if connection.login or connection.is_gone:
                continue
            if self._held.is_holding and connection.accepted is None:
                host.waiting.append((host.clock_us + GRACE_US, connection))  # sshbell may still find its "Accepted"
            else:
                self.tell_login(host, connection)

    def _partial(self, host: Host, line: Line) -> None:
        """Take a line about one completed factor of several. Only this line has the key of a two-factor login."""
        connection = self._held.of_monitor(host, line, line[ADDRESS], line[PORT])
        connection.user = line[USER]
        method, info, before = line[METHOD], line[EXTRA], connection.partial_methods
        # Two keys are two factors. The same line twice is one factor.
        is_again = before[-1:] == (method,) and info in {None, connection.partial_info}
        if method is not None and not is_again and len(before) < _FACTORS_LIMIT:
            connection.partial_methods = (*before, method)
        if info is not None:
            connection.partial_info = info

    def _accepted(self, host: Host, line: Line) -> None:
        user = line[USER]
        connection = self._held.of_monitor(host, line, line[ADDRESS], line[PORT])
        if connection.is_gone and self._is_of_older(host, line):
            return
        if connection.accepted is not None:
            is_later = (line[TIME] or 0) > (connection.accepted[TIME] or 0)
            if connection.accepted[USER:] == line[USER:] and not (connection.is_over and is_later):
                return  # a repeated line
            connection = self._held.new(host, line, connection.procid, line[ADDRESS], line[PORT])
        elif connection.opened is not None and not same_user(user, connection.opened[USER]):
            self._held.close(host, connection)
            connection = self._held.new(host, line, connection.procid, line[ADDRESS], line[PORT])
        if connection.pam_failure is not None:
            self._reporter.pam_failure(connection)
        connection.accepted, connection.user = line, user
        if not line[PROCID] and not connection.is_gone:
            host.without_pid.add(connection)
        if host.by_source.get((connection.address, connection.port)) is not connection:  # type: ignore[arg-type]
            host.found_by_source(connection)
        if connection.opened is not None or connection.is_gone or self._held.family_of(line[PROGRAM]) != "sshd":
            self.tell_login(host, connection)
        else:
            host.wait(connection, line)

    @staticmethod
    def _is_of_older(host: Host, line: Line) -> bool:
        """Return whether a late line belongs to a login that its session line has already reported: see ``_opened_before``."""
        current = host.connections.get(line[PROCID])
        older = None if current is None else current.older
        if older is None or older.opened is None or older.accepted is not None or not same_user(older.opened[USER], line[USER]):
            return False
        older.accepted = line
        return True

    def _session_opened(self, host: Host, line: Line) -> None:
        procid, user = line[PROCID], line[USER]
        connection = host.connections.get(procid) if procid else host.without_pid.last(user, is_opened=False)
        if connection is not None and procid and connection.is_younger(line) and not _is_in(connection, user, line):
            self._opened_before(host, connection, line)
            return
        if connection is not None and connection.accepted is not None:
            if same_user(connection.accepted[USER], user):
                if connection.opened is None:
                    connection.opened = line
                    connection.uid = _uid(line[EXTRA])
                    if not procid:
                        host.without_pid.add(connection)
                    if connection.login is None:
                        self.tell_login(host, connection)
                return
            connection = self._held.new(host, line, procid or f"session of {user}", None, None)
        elif connection is None or connection.opened is not None or connection.ended_us:
            if (
                connection is not None
                and connection.opened is not None
                and connection.opened[USER] == user
                and not connection.is_over
            ):
                return  # a repeated line
            connection = self._held.new(host, line, procid or f"session of {user}", None, None)
        # "Accepted" has not come: it is late, lost, or in another facility.
        connection.opened = line
        connection.uid = _uid(line[EXTRA])
        if not procid:
            host.without_pid.add(connection)
        host.wait(connection, line)

    def _opened_before(self, host: Host, connection: Connection, line: Line) -> None:
        """Take a session line that is older than the connection with its PID. It belongs to the previous connection."""
        older = connection.older
        if older is None or not same_user(older.session_user, line[USER]):
            # sshbell knows nothing about that connection. Somebody logged in all the same, from an unknown address.
            host.leave_older(connection)
            older = connection.older = Connection(line[PROCID], line)
        if older.opened is None:
            older.opened, older.uid = line, _uid(line[EXTRA])
            if older.login is None:
                self.tell_login(host, older)

    def _session_closed(self, host: Host, line: Line) -> None:
        procid, user = line[PROCID], line[USER]
        connection = host.connections.get(procid) if procid else host.without_pid.last(user, is_opened=True)
        older = connection.older if connection is not None else None
        known = (connection.accepted or connection.opened) if connection is not None else None
        is_ours = known is not None and same_user(known[USER], user)
        # The PID was reused: by another user, or by the same user, whose new session is not open yet.
        if (
            connection is not None
            and older is not None
            and same_user(older.session_user, user)
            and (connection.is_younger(line) or not (is_ours and connection.opened))
        ):
            host.leave_older(connection)
            self._end_session(host, older, line)
        elif connection is not None and is_ours:
            if self._is_of_another_sender(connection, line):
                return
            if connection.accepted is None and connection.login is None:
                connection.closed = line  # "Accepted" may be late
            else:
                self._end_session(host, connection, line)
        elif known is None and procid:
            # Earlier lines of the session may come late.
            if connection is None:
                connection = self._held.new(host, line, procid, None, None)
                connection.is_told = True
                host.keep(connection, LINGER_US, line[TIME] or 0)
            connection.closed = line

    def session_started(self, host: Host, line: Line) -> None:
        """Take "Starting session"."""
        connection = self._held.of_child(host, line)
        if connection is None or connection.accepted is None:
            return
        if connection.session_kind is None:
            connection.session_kind = line[EXTRA]
        if connection.login is None and _same_sshd_user(connection, line):
            self.tell_login(host, connection)  # no session line will follow: there is no PAM

    def _child_started(self, host: Host, line: Line) -> None:
        connection = host.connections.get(line[PROCID])
        if connection is not None and line[EXTRA] is not None:
            if connection.child_pid is not None:
                host.children.pop(connection.child_pid, None)
            connection.child_pid = line[EXTRA]
            host.children[line[EXTRA]] = connection

    def child_over(self, host: Host, line: Line) -> None:
        """Take a closing line of the session's own process. It ends the session only if PAM has opened none."""
        connection = self._held.of_child(host, line)
        if (
            connection is None
            or connection.is_over
            or connection.accepted is None
            or self._is_of_another_sender(connection, line)
        ):
            return
        if connection.login is None:
            connection.child_over = connection.child_over or line  # PAM's line may still come
        elif connection.opened is None:
            self._end_session(host, connection, line)

    def _is_of_another_sender(self, connection: Connection, line: Line) -> bool:
        """
        Return whether the kernel vouches for the lines of a login, but not for this one.

        Then another machine has sent this line under the name of the login's host. While catch_up reads the log file, it may be a
        lost line of that host.
        """
        known = connection.accepted or connection.opened
        return known is not None and known[TRUSTED] is not None and line[TRUSTED] is None and not self._held.is_holding

    def tell_login(self, host: Host, connection: Connection) -> None:
        """Report the login of a connection, and its logout if that has come before."""
        line = connection.accepted or connection.opened
        if line is None:
            return
        self._reporter.pam_failure(connection)
        accepted, code = connection.accepted, connection.code
        is_of_login = code is not None and not self._is_of_another_sender(connection, code)
        connection.login = Login(
            self._reporter.id_of(EventAction.LOGIN, line), line, self._reporter.name(line, line[USER]),
            connection.address, connection.port, accepted[METHOD] if accepted else None,
            (accepted[EXTRA] if accepted else None) or connection.partial_info,
            connection.uid, connection.session_kind,
            (*connection.partial_methods, accepted[METHOD] or "") if accepted and connection.partial_methods else (),
            login_codes.login_code_of(connection, self._rules) if is_of_login else None,
        )  # fmt: skip
        connection.is_told = True
        if host.waiting and host.waiting[0][1] is connection:
            host.waiting.popleft()
        self._reporter.tell(connection.login)
        connection.deadline = IN_SESSION
        if connection.child_over is not None and connection.opened is None:
            self._tell_logout(host, connection, connection.child_over)
            return
        closed = connection.closed
        if closed is None or not same_user(closed[USER], line[USER]):
            return
        if closed[TIME] is None or closed[TIME] >= connection.login.time_us:
            self._tell_logout(host, connection, closed)

    def _end_session(self, host: Host, connection: Connection, line: Line) -> None:
        if connection.is_over:
            return
        if connection.login is None:
            self.tell_login(host, connection)
        if not connection.is_over:
            self._tell_logout(host, connection, line)

    def _tell_logout(self, host: Host, connection: Connection, line: Line) -> None:
        login = connection.login
        if login is None:
            return
        connection.is_over = True
        connection.ended_us = line[TIME] or host.clock_us
        end_us = max(line[TIME], login.time_us) if line[TIME] is not None else 0
        logout_id = derived(login.id, EventAction.LOGOUT) if login.id else ""
        self._reporter.tell(Logout(logout_id, line, login.user, login.address, login.port, login, end_us))
        host.keep(connection, LINGER_US, line[TIME] or 0)


def _unless_of_users(handle: Callable[[Host, Line], None]) -> Callable[[Host, Line], None]:
    """Return a handler that skips the sessions of programs that every user may start."""

    def handle_others(host: Host, line: Line) -> None:
        if line[METHOD] not in _SERVICES_OF_USERS:
            handle(host, line)

    return handle_others


def _is_in(connection: Connection, user: str | None, line: Line) -> bool:
    """
    Return whether ``user`` has logged in here. If so, an earlier session line is of this login: the clock was set back.

    Of a session whose end has come first, sshbell knows nothing else yet: rsyslogd sent lines from its disk after newer ones.
    """
    if connection.session_user is not None:
        return same_user(connection.session_user, user)
    closed = connection.closed
    if closed is None or connection.address is not None or connection.port is not None:
        return False
    return same_user(closed[USER], user) and (closed[TIME] or 0) >= (line[TIME] or 0)


def _uid(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() and len(text) < 20 else None


def _same_sshd_user(connection: Connection, line: Line) -> bool:
    # "Starting session" has the whole account name, "Accepted" only its first 100 bytes.
    return connection.accepted is not None and (line[USER] or "").startswith(connection.accepted[USER] or "")
