"""
Joins lines into events: one connection becomes one story.

The lines of one connection share the host, the program family and the PID of sshd's monitor. The session's own process has
another PID. sshbell finds its connection by the client's address and port, or by "User child is on pid N". The lines of both
processes were measured on OpenSSH 8.9 to 10.5.

A connection goes through

    opened ──▶ tried ──▶ accepted ──▶ session opened ──▶ over
                  └─────────────────────────────────────▶ over

``attempts.py`` takes the lines before the login and those of connections that get none, ``sessions.py`` the others, and
``login_codes.py`` those of ``sshbell-pam``. What they learn is in ``connections.py``, and ``reporter.py`` makes the events.
Lines that sshd did not write go to ``forged_lines.py``.

sshbell reports a ``Login`` once the session is open. If no session line comes (no PAM, a lost line), it reports the login after
``GRACE_US``. Lines may arrive seconds out of order, PIDs are reused, and any line may be missing.
"""

from collections import Counter
from collections.abc import Callable, Iterable

from consumer.actions import LineAction
from consumer.events import Event
from consumer.matching.messages import origin
from consumer.matching.rules import CompiledRule
from consumer.records import HOST, PREAUTH, PROCID, PROGRAM, RULE, TIME, TRUSTED, Line, Trusted
from consumer.story.attempts import Attempts
from consumer.story.connection import Connection
from consumer.story.connections import NO_HOST, Connections
from consumer.story.event_ids import Identities
from consumer.story.forged_lines import ForgedLines
from consumer.story.host import LEAP_US, Host
from consumer.story.login_codes import CodeLines
from consumer.story.reporter import Reporter
from consumer.story.sessions import Sessions


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
        self._rules = rules
        self._family_of = family_of
        self.identities = Identities() if identities is None else identities
        reporter = Reporter(rules, family_of, tell, self.identities)
        self._forged_lines = ForgedLines(rules, reporter)
        self.held = Connections(family_of, self._tell_rest, self._forged_lines.tell_all)
        self._sessions = Sessions(rules, self.held, reporter)
        self._attempts = Attempts(rules, self.held, reporter, self._sessions)
        codes = CodeLines(rules, self.held, reporter)
        by_action = self._attempts.handlers() | self._sessions.handlers() | codes.handlers()
        self._is_sshds_own = [rule.is_of_sshd for rule in rules]
        self._is_hint = [rule.is_hint for rule in rules]
        # The matcher passes on no line of a rule whose action is not correlated.
        self._handlers = [
            self._attempts.pam_hint if rule.is_hint or not rule.action.is_correlated else by_action[rule.action] for rule in rules
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
                    self._sessions.tell_waiting(host)
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
            self._sessions.tell_waiting(host)
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
        self._forged_lines.tell_due(host)

    def _tell_rest(self, host: Host, connection: Connection) -> None:
        """Report any pending event of a connection before it is dropped."""
        if (connection.accepted or connection.opened) and not connection.login:
            self._sessions.tell_login(host, connection)
        elif not connection.is_told:
            self._attempts.end(host, connection)

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
            self._sessions.session_started(host, line)
        else:
            self._sessions.child_over(host, line)

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

    def _forged(self, line: Line) -> None:
        """Report a forged line, or count it: see ``forged_lines``."""
        host = self.held.host_without_eviction(line[HOST], line[PROGRAM])
        self.held.changed.add(NO_HOST if host is None else host.key)  # the next snapshot must include the new id
        self._forged_lines.take(host, line)
