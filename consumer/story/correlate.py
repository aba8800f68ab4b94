"""
Joins lines into events: one connection becomes one story.

The lines of one connection share the host, the program family and the PID of sshd's monitor. The session's own process has
another PID. sshbell finds its connection by the client's address and port, or by "User child is on pid N". The lines of both
processes were measured on OpenSSH 8.9 to 10.5.

A connection goes through

    opened ──▶ tried ──▶ accepted ──▶ session opened ──▶ over
                  └─────────────────────────────────────▶ over

sshbell reports a ``Login`` once the session is open. If no session line comes (no PAM, a lost line), it reports the login after
``GRACE_US``. Lines may arrive seconds out of order, PIDs are reused, and any line may be missing.
"""

from collections import Counter
from collections.abc import Callable, Iterable

from consumer.actions import EventAction, LineAction
from consumer.events import Attempt, Event, Forged, Login, Logout, Probe, Trouble
from consumer.matching.messages import origin, pam_name, sshd_name
from consumer.matching.rules import CompiledRule
from consumer.records import (
    ADDRESS,
    EXTRA,
    HOST,
    INVALID,
    METHOD,
    PORT,
    PREAUTH,
    PROCID,
    PROGRAM,
    REPEATS,
    RULE,
    TEXT,
    TIME,
    TRUSTED,
    USER,
    Line,
    Trusted,
)
from consumer.story import login_codes
from consumer.story.connection import IN_SESSION, Connection
from consumer.story.connections import NO_HOST, Connections
from consumer.story.event_ids import Identities, derived
from consumer.story.forged_lines import ForgedCount, WriterAndClaim, kind_of
from consumer.story.host import GRACE_US, LEAP_US, LINGER_US, Host
from consumer.story.without_pid import same_user

# The most factors kept for one login. sshd stops at six failures, and no list of AuthenticationMethods is that long.
_FACTORS_LIMIT = 8
# Clients offer keys and tickets unasked. A refused offer is not a login attempt.
_OFFERS = frozenset({"publickey", "hostbased", "gssapi-with-mic", "gssapi-keyex"})


# The client does not speak SSH, or not as sshd does.
_FAULTS_OF_CLIENTS = frozenset({LineAction.BAD_CLIENT, LineAction.NEGOTIATION_FAILED, LineAction.PROTOCOL_ERROR})
# Refusals whose reason is a fault of keys, accounts or files, by rule.
_TROUBLES = frozenset({
    "bad_modes", "refused_for_modes", "key_revoked", "revoked_key_used", "revoked_key_tried", "key_not_checked",
    "revoked_keys_unreadable", "account_expired", "password_expired", "pam_password_expired",
})  # fmt: skip

# PAM's services of programs that every user may start with root's rights, and under any name: so their lines can have sshd's tag.
_SERVICES_OF_USERS = frozenset({"su", "su-l", "sudo", "sudo-i", "doas", "polkit-1", "login", "chsh", "chfn", "passwd"})


class Correlator:
    """
    Turns lines into events.

    Args:
        rules: the rules of the matcher that made the lines.
        family_of: program family by program name.
        tell: gets each event, in the order in which sshbell decides them.
        identities: assigns the ids; None: with one memory for all hosts, as lines come in.
    """

    def __init__(
        self,
        rules: list[CompiledRule],
        family_of: Callable[[str], str],
        tell: Callable[[Event], None],
        identities: Identities | None = None,
    ) -> None:
        self._tell = tell
        self._family_of = family_of
        self.held = Connections(family_of, self._tell_rest, self._tell_all_forged)
        self.identities = Identities() if identities is None else identities
        by_action: dict[LineAction, Callable[[Host, Line], None]] = {
            LineAction.ACCEPTED: self._accepted,
            LineAction.PARTIAL: self._partial,
            LineAction.FAILED: self._failed,
            LineAction.INVALID_USER: self._invalid_user,
            LineAction.USER_DENIED: self._user_denied,
            LineAction.MAX_ATTEMPTS: self._max_attempts,
            LineAction.SESSION_OPENED: _unless_of_users(self._session_opened),
            LineAction.SESSION_CLOSED: _unless_of_users(self._session_closed),
            LineAction.SESSION_STARTED: self._session_started,
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
            LineAction.CHILD_STARTED: self._child_started,
            LineAction.PENALTY: self._trouble,
            LineAction.FAULT: self._trouble,
            LineAction.CODE_SENT: self._of_code(self._code_sent),
            LineAction.CODE_ACCEPTED: self._of_code(self._code_done),
            LineAction.CODE_REFUSED: self._of_code(self._code_refused),
            LineAction.CODE_NOT_NEEDED: self._of_code(self._code_done),
            LineAction.CODE_NOT_DELIVERED: self._of_code(self._code_not_delivered),
            LineAction.LET_IN_WITHOUT_CODE: self._of_code(self._code_done),
        }
        self._rules = rules
        self._is_sshds_own = [rule.is_of_sshd for rule in rules]
        self._is_hint = [rule.is_hint for rule in rules]
        # The matcher passes on no line of a rule whose action is not correlated.
        self._handlers = [
            self._pam_hint if rule.is_hint or not rule.action.is_correlated else by_action[rule.action] for rule in rules
        ]

    def feed(self, lines: Iterable[Line]) -> None:  # noqa: C901, PLR0912 - runs for every line, so it avoids calls
        """Take lines in the order of the log."""
        by_program, handlers, is_hint, is_own = self.held.by_program, self._handlers, self._is_hint, self._is_sshds_own
        heard = self.held.heard.add
        last_host = last_program = None
        host: Host
        for given in lines:
            line = given
            trusted = line[TRUSTED]
            if trusted is not None and (trusted[0] != 0 or trusted[1]):
                word = self._origin(line)
                if word != "verified":
                    # Any local user can write such lines. They move no clock, mark no host as heard, and evict none.
                    if word == "forged":
                        self._forged(line)
                    else:
                        self._from_a_user(line)
                    continue
            rule, time_us, name, program = line[RULE], line[TIME], line[HOST], line[PROGRAM]
            if name != last_host or program != last_program:
                last_host, last_program = name, program
                found = by_program.get((name, program))
                host = self.held.host(name, program) if found is None else found
                heard(host)
            if is_hint[rule] and host.has_sshd:
                continue  # sshd logs this itself
            if time_us is None:
                # The event that it decides has no time: the time of another line would be wrong.
                self.held.counters["lines_without_time_total"] += 1
            else:
                ahead = time_us - host.clock_us
                if ahead > LEAP_US or ahead < -LEAP_US:
                    host.leap(time_us)
                elif ahead > 0:
                    host.clock_us = time_us
                host.last_us = time_us
                if host.waiting and host.waiting[0][0] <= host.clock_us:
                    self._tell_waiting(host)
                if host.next_sweep_us <= host.clock_us:
                    self._sweep(host)
            if is_own[rule]:
                host.has_sshd = True
                if trusted is not None:
                    host.is_vouched = True
            handlers[rule](host, line)

    def tick(self, elapsed_us: int) -> None:
        """Let time pass for the hosts that have sent no line since the last tick."""
        for host in self.held.let_pass(elapsed_us):
            self._tell_waiting(host)
            if host.next_sweep_us <= host.clock_us:
                self._sweep(host)

    def hold(self, *, is_holding: bool) -> None:
        """
        While ``is_holding``, report no event just because time has passed, except a login with a known "Accepted".

        sshbell may still find lost lines, and then needs the connections to which they belong.
        """
        self.held.is_holding = is_holding

    def settle(self) -> None:
        """Report everything pending at the end of the input."""
        self.held.close_all()

    @property
    def counters(self) -> Counter[str]:
        """Counts of dropped hosts, evicted connections, and lines without a time."""
        return self.held.counters

    def _sweep(self, host: Host) -> None:
        """Report and drop everything that is due on a host."""
        self.held.sweep(host)
        for kind, counted in list(host.forged.items()):
            if counted.is_due(host.clock_us):
                self._tell_counted(host, kind, counted)

    def _tell_waiting(self, host: Host) -> None:
        """Report the logins whose session line did not come in time."""
        while host.waiting and host.waiting[0][0] <= host.clock_us:
            _, connection = host.waiting.popleft()
            if connection.login or connection.is_gone:
                continue
            if self.held.is_holding and connection.accepted is None:
                host.waiting.append((host.clock_us + GRACE_US, connection))  # sshbell may still find its "Accepted"
            else:
                self._tell_login(host, connection)

    # ---------------------------------------------------------------- before authentication, and attempts

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
            self.held.of_monitor(host, line, address, port)  # this line came late
            return
        self.held.new(host, line, line[PROCID] or f"{address} {port}", address, port)

    def _failed(self, host: Host, line: Line) -> None:
        connection = self.held.of_monitor(host, line, line[ADDRESS], line[PORT])
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
                self._tell_pam_failure(connection)
            connection.pam_failure = None
        self._tell_attempt(connection, line, method, count=count)

    def _invalid_user(self, host: Host, line: Line) -> None:
        connection = self.held.of_monitor(host, line, line[ADDRESS], line[PORT])
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
        connection = self.held.of_monitor(host, line, line[ADDRESS], line[PORT])
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
            connection = self.held.of_monitor(host, line, line[ADDRESS], line[PORT])
        if connection.user is None:
            connection.user, connection.user_is_valid = line[USER], line[INVALID] is None
        connection.reason = connection.reason or "too many authentication failures"
        if connection.denied is None and not connection.attempts:
            connection.denied = "too many authentication failures"
            connection.seen = line
        self._finish(host, connection, line)

    def _pam_error(self, host: Host, line: Line) -> None:
        """Take sshd's own "PAM: Authentication failure for ...", a keyboard-interactive attempt. A Failed line may follow."""
        connection = self.held.of_monitor(host, line, line[ADDRESS], None)
        if connection.pam_failure is not None:
            self._tell_pam_failure(connection)
        if connection.refused == 1:
            connection.refused = 2  # the same try
        else:
            connection.pam_failure, connection.refused = line, 0
        if connection.user is None:
            connection.user, connection.user_is_valid = line[USER], line[INVALID] is None

    def _pam_hint(self, host: Host, line: Line) -> None:
        """Take a line of PAM about an attempt. sshd logs the attempt too, so this one counts only if sshd itself logs nothing."""
        procid = line[PROCID]
        connection = host.connections.get(procid)
        if connection is None:
            connection = self.held.new(host, line, procid, line[ADDRESS] or None, None)
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
        connection = self.held.of_monitor(host, line, line[ADDRESS], line[PORT])
        if connection.accepted and not connection.is_gone and self._rules[line[RULE]].action is LineAction.BAD_CLIENT:
            # A client identifies itself only once, so the end of the previous session is missing from the log.
            connection = self.held.new(host, line, connection.procid, line[ADDRESS], line[PORT])
        if connection.login:
            return
        connection.user = connection.user if line[USER] is None else line[USER]
        connection.reason = connection.reason or line[EXTRA] or str(self._rules[line[RULE]].action)
        connection.seen = line
        if line[ADDRESS] is not None and line[RULE]:
            self._finish(host, connection, line)

    def _dropped(self, _host: Host, line: Line) -> None:
        """Take a line of the listener: this connection has no process of sshd."""
        self._tell(Probe(self._id(EventAction.PROBE, line), line, None, line[ADDRESS], line[PORT], line[EXTRA] or "refused"))

    def _trouble(self, host: Host, line: Line) -> None:
        """Report a line that names no try of its own. The connection may show whose it is."""
        connection = host.connections.get(line[PROCID])
        user, address, port = line[USER], line[ADDRESS], None
        if connection is not None and address is None:
            address, port = connection.address, connection.port
            user = connection.user if user is None else user
        rule = self._rules[line[RULE]].name
        event_id = self._id(EventAction.TROUBLE, line)
        self._tell(Trouble(event_id, line, self._name(line, user), address, port, rule, line[EXTRA]))

    def _timeout(self, host: Host, line: Line) -> None:
        rule = self._rules[line[RULE]].name
        if rule == "grace_timeout_listener":
            # The listener logs this line. Its text has the connection's PID.
            connection = host.connections.get(line[EXTRA] or "")
            if connection is None:
                connection = self.held.new(host, line, line[EXTRA] or "", line[ADDRESS], None)
            connection.reason = "timeout"
            self._finish(host, connection, line)
        elif rule in {"client_not_responding", "inactive_connection"}:
            self._child_over(host, line)
        else:
            connection = self.held.of_monitor(host, line, line[ADDRESS], line[PORT])
            connection.user = connection.user if line[USER] is None else line[USER]
            connection.reason = "timeout"
            self._finish(host, connection, line)

    def _received_disconnect(self, host: Host, line: Line) -> None:
        # The client chooses the text. After a login, " [preauth]" at its end is part of that text.
        session = self.held.of_child(host, line)
        if session is not None and session.accepted is not None:
            self._child_over(host, line)
            return
        if line[PREAUTH] is None and line[PORT] is not None and line[PROCID] not in host.connections:
            return  # belongs to a session that began before the log
        connection = self.held.of_monitor(host, line, line[ADDRESS], line[PORT])
        connection.reason = connection.reason or line[EXTRA]
        host.keep(connection, LINGER_US, line[TIME] or 0)  # in most versions "Disconnected from ..." follows

    def _ended(self, host: Host, line: Line) -> None:
        """Take "Connection closed by" and the like: by the monitor before authentication, by the session's process after it."""
        if line[PREAUTH] is None:
            connection = self.held.of_child(host, line)
            # Another PID is that of the session's own process, even if "Accepted" is late.
            if connection is None or connection.accepted or connection.opened or connection.procid != line[PROCID]:
                self._child_over(host, line)
                return
        connection = self.held.of_monitor(host, line, line[ADDRESS], line[PORT])
        if connection.user is None and line[USER] is not None:
            connection.user, connection.user_is_valid = line[USER], line[INVALID] is None
            connection.seen = line if connection.denied is None else connection.seen
        connection.reason = connection.reason or line[EXTRA]
        self._finish(host, connection, line)

    # ---------------------------------------------------------------- one-time codes

    def _of_code(self, handle: Callable[[Host, Connection, Line], None]) -> Callable[[Host, Line], None]:
        """Return a handler that finds the connection of a line about a code, and gives its line the PID of sshd's monitor."""

        def handle_of_monitor(host: Host, given: Line) -> None:
            line = login_codes.of_monitor(given)
            if line[TRUSTED] is not None:
                host.is_vouched = True
            # If the kernel vouches for this host's other lines, another machine has sent this one under its name. It must not
            # become the second factor of a login, nor stand for somebody's try.
            is_sent = host.is_vouched and line[TRUSTED] is None and not self.held.is_holding
            if is_sent or self._family_of(login_codes.service_of(given)) != "sshd":
                self._code_elsewhere(line)
                return
            known = host.connections.get(line[PROCID])
            if known is not None and known.is_in_before(line):
                handle(host, self.held.new(host, line, line[PROCID], line[ADDRESS], None), line)
            else:
                handle(host, self.held.of_monitor(host, line, line[ADDRESS], None), line)

        return handle_of_monitor

    def _code_sent(self, _host: Host, connection: Connection, line: Line) -> None:
        """Take a code that waits for its answer. If none comes, that is a try: the client has passed all checks before."""
        if connection.user is None:
            connection.user = line[USER]
        is_late = connection.code is not None and (line[TIME] or 0) <= (connection.code[TIME] or 0)
        if connection.denied is None and not is_late:
            connection.denied, connection.seen = login_codes.NOT_GIVEN, line

    @staticmethod
    def _code_done(_host: Host, connection: Connection, line: Line) -> None:
        """Take the reason why this login needs no further code."""
        connection.code = line
        if connection.denied == login_codes.NOT_GIVEN:
            connection.denied = None

    def _code_refused(self, _host: Host, connection: Connection, line: Line) -> None:
        """Take a refused code. This line decides the attempt; sshd's own lines about the same try follow."""
        if connection.pam_failure is not None:
            self._tell_pam_failure(connection)
        reason = login_codes.refusal_of(line)
        is_again = connection.refused == 1  # by another command in the same try
        connection.refused, connection.code = 1, None
        if is_again:
            return
        if connection.user is None:
            connection.user = line[USER]
        self._tell_attempt(connection, line, "keyboard-interactive", count=line[REPEATS], reason=reason)
        if login_codes.is_burst(line):
            self._tell_code_trouble(line, login_codes.PROMPT_BURST, None)

    def _code_not_delivered(self, _host: Host, connection: Connection, line: Line) -> None:
        self._tell_code_trouble(line, self._rules[line[RULE]].name, login_codes.delivery_fault_of(line), connection)

    def _code_elsewhere(self, line: Line) -> None:
        """Take a line about a code that belongs to no connection: of another program than sshd, or of another machine."""
        if login_codes.is_of_try(line):
            return
        action, connection = self._rules[line[RULE]].action, Connection(line[PROCID], line)
        connection.address = line[ADDRESS]
        if action is LineAction.CODE_REFUSED:
            reason = f"{login_codes.refusal_of(line)}, {login_codes.service_of(line)}"
            self._tell_attempt(connection, line, "", count=line[REPEATS], reason=reason)
            if login_codes.is_burst(line):
                self._tell_code_trouble(line, login_codes.PROMPT_BURST, None)
        elif action is LineAction.LET_IN_WITHOUT_CODE:
            self._tell_code_trouble(line, self._rules[line[RULE]].name, login_codes.service_of(line))
        elif action is LineAction.CODE_NOT_DELIVERED:
            self._tell_code_trouble(line, self._rules[line[RULE]].name, login_codes.delivery_fault_of(line))

    def _tell_code_trouble(self, line: Line, what: str, reason: str | None, connection: Connection | None = None) -> None:
        user = line[USER] if connection is None or line[USER] is not None else connection.user
        address = line[ADDRESS] if connection is None else connection.address
        port = None if connection is None else connection.port
        self._tell(Trouble(self._id(EventAction.TROUBLE, line), line, self._name(line, user), address, port, what, reason))

    # ---------------------------------------------------------------- logins and sessions

    def _partial(self, host: Host, line: Line) -> None:
        """Take a line about one completed factor of several. Only this line has the key of a two-factor login."""
        connection = self.held.of_monitor(host, line, line[ADDRESS], line[PORT])
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
        connection = self.held.of_monitor(host, line, line[ADDRESS], line[PORT])
        if connection.is_gone and self._is_of_older(host, line):
            return
        if connection.accepted is not None:
            is_later = (line[TIME] or 0) > (connection.accepted[TIME] or 0)
            if connection.accepted[USER:] == line[USER:] and not (connection.is_over and is_later):
                return  # a repeated line
            connection = self.held.new(host, line, connection.procid, line[ADDRESS], line[PORT])
        elif connection.opened is not None and not same_user(user, connection.opened[USER]):
            self.held.close(host, connection)
            connection = self.held.new(host, line, connection.procid, line[ADDRESS], line[PORT])
        if connection.pam_failure is not None:
            self._tell_pam_failure(connection)
        connection.accepted, connection.user = line, user
        if not line[PROCID] and not connection.is_gone:
            host.without_pid.add(connection)
        if host.by_source.get((connection.address, connection.port)) is not connection:  # type: ignore[arg-type]
            host.found_by_source(connection)
        if connection.opened is not None or connection.is_gone or self._family_of(line[PROGRAM]) != "sshd":
            self._tell_login(host, connection)
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
                        self._tell_login(host, connection)
                return
            connection = self.held.new(host, line, procid or f"session of {user}", None, None)
        elif connection is None or connection.opened is not None or connection.ended_us:
            if (
                connection is not None
                and connection.opened is not None
                and connection.opened[USER] == user
                and not connection.is_over
            ):
                return  # a repeated line
            connection = self.held.new(host, line, procid or f"session of {user}", None, None)
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
                self._tell_login(host, older)

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
                connection = self.held.new(host, line, procid, None, None)
                connection.is_told = True
                host.keep(connection, LINGER_US, line[TIME] or 0)
            connection.closed = line

    def _session_started(self, host: Host, line: Line) -> None:
        connection = self.held.of_child(host, line)
        if connection is None or connection.accepted is None:
            return
        if connection.session_kind is None:
            connection.session_kind = line[EXTRA]
        if connection.login is None and _same_sshd_user(connection, line):
            self._tell_login(host, connection)  # no session line will follow: there is no PAM

    def _child_started(self, host: Host, line: Line) -> None:
        connection = host.connections.get(line[PROCID])
        if connection is not None and line[EXTRA] is not None:
            if connection.child_pid is not None:
                host.children.pop(connection.child_pid, None)
            connection.child_pid = line[EXTRA]
            host.children[line[EXTRA]] = connection

    def _child_over(self, host: Host, line: Line) -> None:
        """Take a closing line of the session's own process. It ends the session only if PAM has opened none."""
        connection = self.held.of_child(host, line)
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
        return known is not None and known[TRUSTED] is not None and line[TRUSTED] is None and not self.held.is_holding

    @staticmethod
    def _may_end(connection: Connection, trusted: Trusted | None, procid: str) -> bool | None:
        """Return whether a process can be the session's: it runs as root or the user, or is the same program. None if unknown."""
        if trusted is None or trusted[0] in {0, connection.uid}:
            return True
        known = connection.accepted[TRUSTED] if connection.accepted else None
        if connection.user == "root":
            return False
        if connection.uid is not None or (connection.child_pid is not None and connection.child_pid != procid):
            return False
        if known is None or not known[1] or not trusted[1]:
            return None
        return trusted[1] == known[1]

    # ---------------------------------------------------------------- reporting

    def _origin(self, line: Line) -> str:
        return origin(
            line[TRUSTED], self._rules[line[RULE]].action, preauth=line[PREAUTH] is not None,
            program=line[PROGRAM], family_of=self._family_of,
        )  # fmt: skip

    def _from_a_user(self, line: Line) -> None:
        """Take a line of the session's own process, which runs as its user. It can only affect that session."""
        host = self.held.known(line[HOST], line[PROGRAM])
        connection = None if host is None else self.held.of_child(host, line)
        if host is None or connection is None or connection.accepted is None or connection.is_over:
            return
        may_end = self._may_end(connection, line[TRUSTED], line[PROCID])
        if may_end is False:
            self._forged(line)
            return
        if may_end is None:
            return
        self.held.changed.add(host.key)
        if self._rules[line[RULE]].action is LineAction.SESSION_STARTED:
            self._session_started(host, line)
        else:
            self._child_over(host, line)

    def _forged(self, line: Line) -> None:
        """Report a forged line, or count it: see ``forged_lines``."""
        uid, claim = line[TRUSTED][0] if line[TRUSTED] else 0, str(self._rules[line[RULE]].action)
        host = self.held.host_without_eviction(line[HOST], line[PROGRAM])
        if host is None:
            self.held.changed.add(NO_HOST)  # the next snapshot must include the new id
            self._tell_forged(line, self._id(EventAction.FORGED, line), (uid, claim))
            return
        kind = kind_of(uid, claim, host.forged)
        counted = host.forged.get(kind)
        self.held.changed.add(host.key)
        if counted is None:
            host.forged[kind] = ForgedCount(host.clock_us)
            self._tell_forged(line, self._id(EventAction.FORGED, line), (uid, claim))
            return
        if counted.line is None:
            # Assign the id now. Later, the number in it would depend on when the minute ends.
            counted.id, counted.line = self._id(EventAction.FORGED, line), line
        counted.add(line)

    def _tell_forged(self, line: Line, event_id: str, kind: WriterAndClaim, count: int = 1, last_us: int = 0) -> None:
        uid, claim = kind
        user = self._name(line, line[USER])
        self._tell(Forged(event_id, line, user, line[ADDRESS], line[PORT], uid, claim, count, last_us or line[TIME] or 0))

    def _tell_counted(self, host: Host, kind: WriterAndClaim, counted: ForgedCount) -> None:
        """Report the count of one kind and start again. After a minute without such lines, forget the kind."""
        if counted.line is None:
            del host.forged[kind]
            return
        host.forged[kind] = ForgedCount(host.clock_us)
        self._tell_forged(counted.line, counted.id, kind, counted.count, counted.last_us)

    def _tell_all_forged(self, host: Host) -> None:
        """Report all counts of forged lines and forget them."""
        for kind, counted in list(host.forged.items()):
            self._tell_counted(host, kind, counted)
        host.forged.clear()

    def _id(self, kind: str, line: Line) -> str:
        """Return the id of the event that ``line`` decides. Empty if the line has no text."""
        text = line[TEXT]
        return (
            self.identities.of_line(kind, line[HOST], self._family_of(line[PROGRAM]), line[PROCID], line[TIME] or 0, text)
            if text
            else ""
        )

    def _name(self, line: Line, user: str | None) -> str | None:
        """Undo the escapes in a user's name from ``line``."""
        if user is None or (user.isalnum() and user.isascii()):
            return user
        if self._rules[line[RULE]].is_pam or self._family_of(line[PROGRAM]) != "sshd":
            return pam_name(user)
        return sshd_name(user, preauth=line[PREAUTH] is not None, program=line[PROGRAM] if line[PROCID] else "")

    def _tell_attempt(self, connection: Connection, line: Line, method: str, count: int, reason: str | None = None) -> None:
        connection.attempts += count
        user = connection.user if line[USER] is None else line[USER]
        self._tell(
            Attempt(
                self._id(EventAction.ATTEMPT, line), line, self._name(line, user), connection.address, connection.port,
                method or None, connection.user_is_valid, count, reason,
            )
        )  # fmt: skip

    def _tell_pam_failure(self, connection: Connection) -> None:
        line = connection.pam_failure
        if line is not None:
            connection.pam_failure = None
            self._tell_attempt(connection, line, "keyboard-interactive", count=line[REPEATS])

    def _finish(self, host: Host, connection: Connection, line: Line) -> None:
        """Let a connection without a login expire after ``LINGER_US``, the time for its late lines."""
        if connection.accepted is None and connection.opened is None:
            connection.ended_us = line[TIME] or host.clock_us
            host.keep(connection, LINGER_US, line[TIME] or 0)

    def _tell_rest(self, host: Host, connection: Connection) -> None:
        """Report any pending event of a connection before it is dropped."""
        if (connection.accepted or connection.opened) and not connection.login:
            self._tell_login(host, connection)
        elif not connection.is_told:
            self._tell_end(host, connection)

    def _tell_end(self, host: Host, connection: Connection) -> None:
        """Report a connection without a login as an attempt or a probe, unless sshbell has already reported its attempts."""
        connection.is_told = True
        self._tell_pam_failure(connection)
        if connection.pam_failures is not None and not host.has_sshd:
            if connection.pam_attempts:
                self._tell_attempt(connection, connection.pam_failures, "", count=connection.pam_attempts)
            return
        if connection.attempts or connection.login is not None or not self._is_of_sshd(connection):
            return
        if connection.denied is not None or not connection.user_is_valid:
            self._tell_attempt(connection, connection.seen, "", count=1, reason=connection.denied)
            return
        line = connection.seen
        user = self._name(line, connection.user)
        rule = self._rules[line[RULE]]
        fault = rule.name if rule.action in _FAULTS_OF_CLIENTS else ""
        event_id = self._id(EventAction.PROBE, line)
        self._tell(Probe(event_id, line, user, connection.address, connection.port, connection.reason, fault))

    def _is_of_sshd(self, connection: Connection) -> bool:
        """Return whether the line to report about a connection is from sshd itself."""
        rule = self._rules[connection.seen[RULE]]
        # A line of PAM belongs to a connection with another PID. A protocol error without an address may belong to a session.
        return not rule.is_pam and not (rule.action is LineAction.PROTOCOL_ERROR and connection.address is None)

    def _tell_login(self, host: Host, connection: Connection) -> None:
        line = connection.accepted or connection.opened
        if line is None:
            return
        self._tell_pam_failure(connection)
        accepted, code = connection.accepted, connection.code
        is_of_login = code is not None and not self._is_of_another_sender(connection, code)
        connection.login = Login(
            self._id(EventAction.LOGIN, line), line, self._name(line, line[USER]), connection.address, connection.port,
            accepted[METHOD] if accepted else None,
            (accepted[EXTRA] if accepted else None) or connection.partial_info,
            connection.uid, connection.session_kind,
            (*connection.partial_methods, accepted[METHOD] or "") if accepted and connection.partial_methods else (),
            login_codes.login_code_of(connection, self._rules) if is_of_login else None,
        )  # fmt: skip
        connection.is_told = True
        if host.waiting and host.waiting[0][1] is connection:
            host.waiting.popleft()
        self._tell(connection.login)
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
            self._tell_login(host, connection)
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
        self._tell(Logout(logout_id, line, login.user, login.address, login.port, login, end_us))
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
