"""Connections without a login: their begin, the tries, refusals and faults on them, and their end."""

from collections.abc import Callable

from consumer.actions import EventAction, LineAction
from consumer.events import Probe
from consumer.matching.rules import CompiledRule
from consumer.records import ADDRESS, EXTRA, INVALID, METHOD, PORT, PREAUTH, PROCID, REPEATS, RULE, TIME, USER, Line
from consumer.story.connection import Connection
from consumer.story.connections import Connections
from consumer.story.host import LINGER_US, Host
from consumer.story.reporter import Reporter
from consumer.story.sessions import Sessions

# Clients offer keys and tickets unasked. A refused offer is not a login attempt.
_OFFERS = frozenset({"publickey", "hostbased", "gssapi-with-mic", "gssapi-keyex"})
# The client does not speak SSH, or not as sshd does.
_FAULTS_OF_CLIENTS = frozenset({LineAction.BAD_CLIENT, LineAction.NEGOTIATION_FAILED, LineAction.PROTOCOL_ERROR})
# Refusals whose reason is a fault of keys, accounts or files, by rule.
_TROUBLES = frozenset({
    "bad_modes", "refused_for_modes", "key_revoked", "revoked_key_used", "revoked_key_tried", "key_not_checked",
    "revoked_keys_unreadable", "account_expired", "password_expired", "pam_password_expired",
})  # fmt: skip


class Attempts:
    """
    Takes the lines about tries, and about connections that end without a login.

    Args:
        rules: the rules of the matcher that made the lines.
        held: the connections.
        reporter: gets the events.
        sessions: takes the closing lines that turn out to be of a session.
    """

    def __init__(self, rules: list[CompiledRule], held: Connections, reporter: Reporter, sessions: Sessions) -> None:
        self._rules = rules
        self._held = held
        self._reporter = reporter
        self._sessions = sessions

    def handlers(self) -> dict[LineAction, Callable[[Host, Line], None]]:
        """Return what takes a line, by its action."""
        return {
            LineAction.FAILED: self._failed,
            LineAction.INVALID_USER: self._invalid_user,
            LineAction.USER_DENIED: self._user_denied,
            LineAction.MAX_ATTEMPTS: self._max_attempts,
            LineAction.CONNECTION_OPENED: self._connection_opened,
            LineAction.RECEIVED_DISCONNECT: self._received_disconnect,
            LineAction.DISCONNECTED: self._ended,
            LineAction.CONNECTION_CLOSED: self._ended,
            LineAction.TIMEOUT: self._timeout,
            LineAction.NEGOTIATION_FAILED: self._broken,
            LineAction.BAD_CLIENT: self._broken,
            LineAction.PROTOCOL_ERROR: self._broken,
            LineAction.CONNECTION_DROPPED: self._dropped,
            LineAction.PAM_FAILURE: self._pam_error,
            LineAction.PENALTY: self._trouble,
            LineAction.FAULT: self._trouble,
        }

    def _connection_opened(self, host: Host, line: Line) -> None:
        address, port = line[ADDRESS], line[PORT]
        connection = host.connections.get(line[PROCID])
        if connection is not None and connection.port == port and connection.address == address:
            return
        if (
            connection is not None
            and connection.port is None
            and not connection.is_in_before(line)
            and not connection.is_told
            and connection.address in {None, address}
        ):
            self._held.of_monitor(host, line, address, port)  # this line came late
            return
        self._held.new(host, line, line[PROCID] or f"{address} {port}", address, port)

    def _failed(self, host: Host, line: Line) -> None:
        connection = self._held.of_monitor(host, line, line[ADDRESS], line[PORT])
        connection.user, connection.user_is_valid = line[USER], line[INVALID] is None
        method = line[METHOD] or ""
        if method in _OFFERS:
            connection.seen = line
            return
        count = line[REPEATS]
        if connection.refused == 1 or (connection.refused and method.startswith("keyboard-interactive")):
            count -= 1  # the code was refused in this try
        connection.refused = 0
        if count == 0:
            return
        if connection.pam_failure is not None:
            # "PAM: Authentication failure" came just before, about the same attempt.
            if not method.startswith("keyboard-interactive"):
                self._reporter.pam_failure(connection)
            connection.pam_failure = None
        self._reporter.attempt(connection, line, method, count=count)

    def _invalid_user(self, host: Host, line: Line) -> None:
        connection = self._held.of_monitor(host, line, line[ADDRESS], line[PORT])
        connection.user, connection.user_is_valid = line[USER], False
        connection.seen = line

    def _user_denied(self, host: Host, line: Line) -> None:
        rule = self._rules[line[RULE]].name
        if rule in _TROUBLES:
            self._trouble(host, line)
        user = "root" if rule == "root_login_refused" else line[USER]
        reason = line[EXTRA]
        if user is None or (reason and reason.endswith(" exists")):
            return  # a refused key, or the nologin file, which the session's process reports
        connection = self._held.of_monitor(host, line, line[ADDRESS], line[PORT])
        if connection.accepted:
            return
        connection.user = user
        connection.denied = reason or rule
        connection.seen = line

    def _max_attempts(self, host: Host, line: Line) -> None:
        known = host.connections.get(line[PROCID])
        if self._rules[line[RULE]].name == "disconnecting_from_max_attempts" and known is not None and known.address is not None:
            connection = known  # up to OpenSSH 6.6, the apparent address is part of the user's name
        else:
            connection = self._held.of_monitor(host, line, line[ADDRESS], line[PORT])
        if connection.user is None:
            connection.user, connection.user_is_valid = line[USER], line[INVALID] is None
        connection.reason = connection.reason or "too many authentication failures"
        if connection.denied is None and not connection.attempts:
            connection.denied = "too many authentication failures"
            connection.seen = line
        self._finish(host, connection, line)

    def _pam_error(self, host: Host, line: Line) -> None:
        """Take sshd's own "PAM: Authentication failure for ...", a keyboard-interactive attempt. A Failed line may follow."""
        connection = self._held.of_monitor(host, line, line[ADDRESS], None)
        if connection.pam_failure is not None:
            self._reporter.pam_failure(connection)
        if connection.refused == 1:
            connection.refused = 2  # the same try
        else:
            connection.pam_failure, connection.refused = line, 0
        if connection.user is None:
            connection.user, connection.user_is_valid = line[USER], line[INVALID] is None

    def pam_hint(self, host: Host, line: Line) -> None:
        """Take a line of PAM about an attempt. sshd logs the attempt too, so this one counts only if sshd itself logs nothing."""
        procid = line[PROCID]
        connection = host.connections.get(procid)
        if connection is None:
            connection = self._held.new(host, line, procid, line[ADDRESS] or None, None)
        if line[USER] is not None:
            connection.user = line[USER]
        if line[INVALID] is not None:
            connection.user_is_valid = False
        if connection.pam_failures is None or connection.address is None:
            connection.pam_failures = line
            connection.address = connection.address or line[ADDRESS] or None
        more = line[EXTRA]
        connection.pam_attempts += (
            int(more) if more and more.isdecimal() and len(more) < 10 else line[REPEATS] if line[ADDRESS] is not None else 0
        )

    def _broken(self, host: Host, line: Line) -> None:
        connection = self._held.of_monitor(host, line, line[ADDRESS], line[PORT])
        if connection.accepted and not connection.is_gone and self._rules[line[RULE]].action is LineAction.BAD_CLIENT:
            # A client identifies itself only once, so the end of the previous session is missing from the log.
            connection = self._held.new(host, line, connection.procid, line[ADDRESS], line[PORT])
        if connection.login:
            return
        connection.user = connection.user if line[USER] is None else line[USER]
        connection.reason = connection.reason or line[EXTRA] or str(self._rules[line[RULE]].action)
        connection.seen = line
        if line[ADDRESS] is not None and line[RULE]:
            self._finish(host, connection, line)

    def _dropped(self, _host: Host, line: Line) -> None:
        """Take a line of the listener: this connection has no process of sshd."""
        self._reporter.tell(
            Probe(self._reporter.id_of(EventAction.PROBE, line), line, None, line[ADDRESS], line[PORT], line[EXTRA] or "refused")
        )

    def _trouble(self, host: Host, line: Line) -> None:
        """Report a line that names no try of its own. The connection may show whose it is."""
        connection = host.connections.get(line[PROCID])
        user, address, port = line[USER], line[ADDRESS], None
        if connection is not None and address is None:
            address, port = connection.address, connection.port
            user = connection.user if user is None else user
        self._reporter.trouble(line, user, address, port, self._rules[line[RULE]].name, line[EXTRA])

    def _timeout(self, host: Host, line: Line) -> None:
        rule = self._rules[line[RULE]].name
        if rule == "grace_timeout_listener":
            # The listener logs this line. Its text has the connection's PID.
            connection = host.connections.get(line[EXTRA] or "")
            if connection is None:
                connection = self._held.new(host, line, line[EXTRA] or "", line[ADDRESS], None)
            connection.reason = "timeout"
            self._finish(host, connection, line)
        elif rule in {"client_not_responding", "inactive_connection"}:
            self._sessions.child_over(host, line)
        else:
            connection = self._held.of_monitor(host, line, line[ADDRESS], line[PORT])
            connection.user = connection.user if line[USER] is None else line[USER]
            connection.reason = "timeout"
            self._finish(host, connection, line)

    def _received_disconnect(self, host: Host, line: Line) -> None:
        # The client chooses the text. After a login, " [preauth]" at its end is part of that text.
        session = self._held.of_child(host, line)
        if session is not None and session.accepted is not None:
            self._sessions.child_over(host, line)
            return
        if line[PREAUTH] is None and line[PORT] is not None and line[PROCID] not in host.connections:
            return  # belongs to a session that began before the log
        connection = self._held.of_monitor(host, line, line[ADDRESS], line[PORT])
        connection.reason = connection.reason or line[EXTRA]
        host.keep(connection, LINGER_US, line[TIME] or 0)  # in most versions "Disconnected from ..." follows

    def _ended(self, host: Host, line: Line) -> None:
        """Take "Connection closed by" and the like: by the monitor before authentication, by the session's process after it."""
        if line[PREAUTH] is None:
            connection = self._held.of_child(host, line)
            # Another PID is that of the session's own process, even if "Accepted" is late.
            if connection is None or connection.accepted or connection.opened or connection.procid != line[PROCID]:
                self._sessions.child_over(host, line)
                return
        connection = self._held.of_monitor(host, line, line[ADDRESS], line[PORT])
        if connection.user is None and line[USER] is not None:
            connection.user, connection.user_is_valid = line[USER], line[INVALID] is None
            connection.seen = line if connection.denied is None else connection.seen
        connection.reason = connection.reason or line[EXTRA]
        self._finish(host, connection, line)

    def _finish(self, host: Host, connection: Connection, line: Line) -> None:
        """Let a connection without a login expire after ``LINGER_US``, the time for its late lines."""
        if connection.accepted is None and connection.opened is None:
            connection.ended_us = line[TIME] or host.clock_us
            host.keep(connection, LINGER_US, line[TIME] or 0)

    def end(self, host: Host, connection: Connection) -> None:
        """Report a connection without a login as an attempt or a probe, unless sshbell has already reported its attempts."""
        connection.is_told = True
        self._reporter.pam_failure(connection)
        if connection.pam_failures is not None and not host.has_sshd:
            if connection.pam_attempts:
                self._reporter.attempt(connection, connection.pam_failures, "", count=connection.pam_attempts)
            return
        if connection.attempts or connection.login is not None or not self._is_of_sshd(connection):
            return
        if connection.denied is not None or not connection.user_is_valid:
            self._reporter.attempt(connection, connection.seen, "", count=1, reason=connection.denied)
            return
        line = connection.seen
        user = self._reporter.name(line, connection.user)
        rule = self._rules[line[RULE]]
        fault = rule.name if rule.action in _FAULTS_OF_CLIENTS else ""
        event_id = self._reporter.id_of(EventAction.PROBE, line)
        self._reporter.tell(Probe(event_id, line, user, connection.address, connection.port, connection.reason, fault))

    def _is_of_sshd(self, connection: Connection) -> bool:
        """Return whether the line to report about a connection is from sshd itself."""
        rule = self._rules[connection.seen[RULE]]
        # A line of PAM belongs to a connection with another PID. A protocol error without an address may belong to a session.
        return not rule.is_pam and not (rule.action is LineAction.PROTOCOL_ERROR and connection.address is None)
