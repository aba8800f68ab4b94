"""
What the lines of ``sshbell-pam`` add to a connection.

PAM runs ``sshbell pam`` in a process of its own. Its lines name the PID of sshd's monitor, and sshbell gives them that PID.
A wrong code is one try. sshd logs the same try as "PAM: System error", and at VERBOSE also as "Failed".
"""

from consumer.addresses import ip_text
from consumer.events import LoginCode
from consumer.matching.messages import code_facts, sshd_name
from consumer.matching.rules import CompiledRule
from consumer.records import ADDRESS, EXTRA, PROCID, RULE, TIME, USER, Line
from consumer.story.connection import JITTER_US, Connection
from consumer.story.host import PREAUTH_US
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
