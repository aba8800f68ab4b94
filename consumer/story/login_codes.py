"""
What the lines of ``sshbell-pam`` add to a connection.

PAM runs ``sshbell pam`` in a process of its own. Its lines name the PID of sshd's monitor, and sshbell gives them that PID.
A wrong code is one try. sshd logs the same try as "PAM: System error", and at VERBOSE also as "Failed".
"""

from collections.abc import Callable

from consumer.actions import LineAction
from consumer.addresses import ip_text
from consumer.events import LoginCode
from consumer.matching.messages import code_facts, sshd_name
from consumer.matching.rules import CompiledRule
from consumer.records import ADDRESS, EXTRA, PROCID, REPEATS, RULE, TIME, TRUSTED, USER, Line
from consumer.story.connection import JITTER_US, Connection
from consumer.story.connections import Connections
from consumer.story.host import PREAUTH_US, Host
from consumer.story.reporter import Reporter
from consumer.story.without_pid import same_user

# The reason of an attempt: by the reason in the line.
REASONS = {
    "wrong": "wrong code",
    "expired": "expired code",
    "used": "used code",
    "unknown": "code of another connection",
    "too many tries": "too many codes tried",
    "too many prompts": "too many codes asked for",
    "not sent": "no channel took the code",
}
NOT_GIVEN = "code not given"
PROMPT_BURST = "prompt_burst"
# The service of "sshbell pam try", which is no login: see ``consumer/codes/log_lines.py``.
_TRY = "sshbell-try"
_OUTCOMES = {
    "code_accepted": "accepted",
    "emergency_code_accepted": "emergency",
    "code_not_needed": "not_needed",
    "let_in_without_code": "let_in",
}
# Linux has PIDs up to 4,194,304, other systems up to 99,999.
_PID_DIGITS = 7
# log_lines.py keeps at least this many characters of a user's name.
_USER_LEAST = 60


class CodeLines:
    """
    Takes the lines about one-time codes.

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
            LineAction.CODE_SENT: self._of_connection(self._sent),
            LineAction.CODE_ACCEPTED: self._of_connection(self._done),
            LineAction.CODE_REFUSED: self._of_connection(self._refused),
            LineAction.CODE_NOT_NEEDED: self._of_connection(self._done),
            LineAction.CODE_NOT_DELIVERED: self._of_connection(self._not_delivered),
            LineAction.LET_IN_WITHOUT_CODE: self._of_connection(self._done),
        }

    def _of_connection(self, handle: Callable[[Host, Connection, Line], None]) -> Callable[[Host, Line], None]:
        """Return a handler that finds the connection of a line about a code, and gives its line the PID of sshd's monitor."""

        def handle_of_monitor(host: Host, given: Line) -> None:
            line = of_monitor(given)
            if line[TRUSTED] is not None:
                host.is_vouched = True
            # If the kernel vouches for this host's other lines, another machine has sent this one under its name. It must not
            # become the second factor of a login, nor stand for somebody's try.
            is_sent = host.is_vouched and line[TRUSTED] is None and not self._held.is_holding
            if is_sent or self._held.family_of(service_of(given)) != "sshd":
                self._elsewhere(line)
                return
            known = host.connections.get(line[PROCID])
            if known is not None and known.is_in_before(line):
                handle(host, self._held.new(host, line, line[PROCID], line[ADDRESS], None), line)
            else:
                handle(host, self._held.of_monitor(host, line, line[ADDRESS], None), line)

        return handle_of_monitor

    def _sent(self, _host: Host, connection: Connection, line: Line) -> None:
        """Take a code that waits for its answer. If none comes, that is a try: the client has passed all checks before."""
        if connection.user is None:
            connection.user = line[USER]
        is_late = connection.code is not None and (line[TIME] or 0) <= (connection.code[TIME] or 0)
        if connection.denied is None and not is_late:
            connection.denied, connection.seen = NOT_GIVEN, line

    @staticmethod
    def _done(_host: Host, connection: Connection, line: Line) -> None:
        """Take the reason why this login needs no further code."""
        connection.code = line
        if connection.denied == NOT_GIVEN:
            connection.denied = None

    def _refused(self, _host: Host, connection: Connection, line: Line) -> None:
        """Take a refused code. This line decides the attempt; sshd's own lines about the same try follow."""
        if connection.pam_failure is not None:
            self._reporter.pam_failure(connection)
        reason = refusal_of(line)
        is_again = connection.refused == 1  # by another command in the same try
        connection.refused, connection.code = 1, None
        if is_again:
            return
        if connection.user is None:
            connection.user = line[USER]
        self._reporter.attempt(connection, line, "keyboard-interactive", count=line[REPEATS], reason=reason)
        if is_burst(line):
            self._tell_trouble(line, PROMPT_BURST, None)

    def _not_delivered(self, _host: Host, connection: Connection, line: Line) -> None:
        self._tell_trouble(line, self._rules[line[RULE]].name, delivery_fault_of(line), connection)

    def _elsewhere(self, line: Line) -> None:
        """Take a line about a code that belongs to no connection: of another program than sshd, or of another machine."""
        if is_of_try(line):
            return
        action, connection = self._rules[line[RULE]].action, Connection(line[PROCID], line)
        connection.address = line[ADDRESS]
        if action is LineAction.CODE_REFUSED:
            reason = f"{refusal_of(line)}, {service_of(line)}"
            self._reporter.attempt(connection, line, "", count=line[REPEATS], reason=reason)
            if is_burst(line):
                self._tell_trouble(line, PROMPT_BURST, None)
        elif action is LineAction.LET_IN_WITHOUT_CODE:
            self._tell_trouble(line, self._rules[line[RULE]].name, service_of(line))
        elif action is LineAction.CODE_NOT_DELIVERED:
            self._tell_trouble(line, self._rules[line[RULE]].name, delivery_fault_of(line))

    def _tell_trouble(self, line: Line, what: str, reason: str | None, connection: Connection | None = None) -> None:
        user = line[USER] if connection is None or line[USER] is not None else connection.user
        address = line[ADDRESS] if connection is None else connection.address
        port = None if connection is None else connection.port
        self._reporter.trouble(line, user, address, port, what, reason)


def service_of(line: Line) -> str:
    """Return the PAM service that asks for the code."""
    return code_facts(line[EXTRA] or "").get("service", "")


def is_of_try(line: Line) -> bool:
    """Return whether somebody has only tried the exchange, without a login."""
    return service_of(line) == _TRY


def of_monitor(line: Line) -> Line:
    """Return a line of ``sshbell-pam`` with the PID of sshd's monitor, unless the number in it can be no PID."""
    procid = code_facts(line[EXTRA] or "").get("connection_pid", "")
    if len(procid) > _PID_DIGITS:
        return line
    return Line((*line[:PROCID], procid, *line[PROCID + 1 :]))


def refusal_of(line: Line) -> str:
    """Return why a code was refused."""
    reason = code_facts(line[EXTRA] or "").get("reason", "")
    return REASONS.get(reason, reason)


def is_burst(line: Line) -> bool:
    """Return whether sshbell asks this user for no more codes for a while, because somebody has caused too many prompts."""
    return code_facts(line[EXTRA] or "").get("reason") == "too many prompts"


def delivery_fault_of(line: Line) -> str | None:
    """Return why no channel took the code, encoded as in the line."""
    return code_facts(line[EXTRA] or "").get("fault")


def login_code_of(connection: Connection, rules: list[CompiledRule]) -> LoginCode | None:
    """
    Return the code of a connection's login; None if it has none.

    A code counts only for the login of the same user from the same address, soon after it: the PID may have been reused.
    """
    line, login = connection.code, connection.accepted or connection.opened
    if line is None or login is None or not _is_of(line, login):
        return None
    if connection.ended_us and (login[TIME] or 0) > connection.ended_us + JITTER_US:
        return None
    facts = code_facts(line[EXTRA] or "")
    channel = facts.get("channel")
    return LoginCode(
        _OUTCOMES[rules[line[RULE]].name],
        None if channel is None else sshd_name(channel),
        facts.get("code_session"),
        _number(facts.get("after_s")),
        _number(facts.get("codes_left")),
    )


def _is_of(line: Line, login: Line) -> bool:
    if abs((login[TIME] or 0) - (line[TIME] or 0)) > PREAUTH_US:
        return False
    ours, theirs = ip_text(line[ADDRESS]), ip_text(login[ADDRESS])
    if ours is not None and theirs is not None and ours != theirs:
        return False
    user, known = line[USER] or "", login[USER] or ""
    return same_user(user, known) or (len(user) >= _USER_LEAST and known.startswith(user))


def _number(text: str | None) -> int | None:
    return int(text) if text and len(text) < 10 else None
