"""
The actions of lines and of events: one row for each ``event.action``, with everything that depends only on it.

Grammars name an action by its text. The matcher refuses to start if a rule's action has no row here.
"""

from enum import StrEnum
from typing import Any, NamedTuple, Self


class _LineRow(NamedTuple):
    text: str
    ecs_type: str = "info"
    outcome: str = "unknown"
    is_session: bool = False
    is_correlated: bool = False
    is_of_root: bool = False


class LineAction(StrEnum):
    """
    The meaning of a line: ``event.action`` of ``sshbell parse``.

    Attributes:
        ecs_type: ``event.type``.
        outcome: ``event.outcome``. A failure that PAM reports is a hint: it counts only if sshd itself logs nothing.
        is_session: the line is about a session, not about authentication: ``event.category``.
        is_correlated: the correlator builds events from such lines. It only counts other lines.
        is_of_root: only processes of root write such lines. A session's process runs as its user, so its lines are hints.
    """

    def __new__(cls, text: str, *_row: object) -> Self:
        """Make the text of a row."""
        member = str.__new__(cls, text)
        member._value_ = text
        return member

    def __init__(self, *row: Any) -> None:
        _, self.ecs_type, self.outcome, self.is_session, self.is_correlated, self.is_of_root = _LineRow(*row)

    ACCEPTED = _LineRow("accepted", "start", "success", is_correlated=True, is_of_root=True)
    PARTIAL = _LineRow("partial", is_correlated=True, is_of_root=True)
    POSTPONED = _LineRow("postponed", is_of_root=True)
    FAILED = _LineRow("failed", "denied", "failure", is_correlated=True, is_of_root=True)
    INVALID_USER = _LineRow("invalid_user", "denied", "failure", is_correlated=True, is_of_root=True)
    USER_DENIED = _LineRow("user_denied", "denied", "failure", is_correlated=True, is_of_root=True)
    MAX_ATTEMPTS = _LineRow("max_attempts", "denied", "failure", is_correlated=True, is_of_root=True)
    KEY_FOUND = _LineRow("key_found", is_of_root=True)
    PAM_FAILURE = _LineRow("pam_failure", "denied", "failure", is_correlated=True, is_of_root=True)
    PAM_SUCCESS = _LineRow("pam_success", outcome="success", is_of_root=True)
    SESSION_OPENED = _LineRow("session_opened", "start", "success", is_session=True, is_correlated=True, is_of_root=True)
    SESSION_CLOSED = _LineRow("session_closed", "end", is_session=True, is_correlated=True, is_of_root=True)
    SESSION_STARTED = _LineRow("session_started", "start", is_session=True, is_correlated=True)
    CHANNEL_CLOSED = _LineRow("channel_closed", "end", is_session=True)
    CHILD_STARTED = _LineRow("child_started", is_session=True, is_correlated=True, is_of_root=True)
    CHILD_CRASHED = _LineRow("child_crashed", is_of_root=True)
    CONNECTION_OPENED = _LineRow("connection_opened", "start", is_correlated=True, is_of_root=True)
    RECEIVED_DISCONNECT = _LineRow("received_disconnect", "end", is_correlated=True)
    DISCONNECTED = _LineRow("disconnected", "end", is_correlated=True)
    CONNECTION_CLOSED = _LineRow("connection_closed", "end", is_correlated=True)
    TIMEOUT = _LineRow("timeout", "end", is_correlated=True)
    NEGOTIATION_FAILED = _LineRow("negotiation_failed", is_correlated=True, is_of_root=True)
    BAD_CLIENT = _LineRow("bad_client", is_correlated=True, is_of_root=True)
    PROTOCOL_ERROR = _LineRow("protocol_error", is_correlated=True, is_of_root=True)
    CONNECTION_DROPPED = _LineRow("connection_dropped", "denied", is_correlated=True, is_of_root=True)
    THROTTLING = _LineRow("throttling", is_of_root=True)
    PENALTY = _LineRow("penalty", is_correlated=True, is_of_root=True)
    # Something of sshd's own is broken: a command, a module, a directory.
    FAULT = _LineRow("fault", is_correlated=True, is_of_root=True)
    # The one-time code of a login: sent, right, refused, left out because no rule wants it or because no channel took it.
    CODE_SENT = _LineRow("code_sent", is_correlated=True, is_of_root=True)
    CODE_ACCEPTED = _LineRow("code_accepted", outcome="success", is_correlated=True, is_of_root=True)
    CODE_REFUSED = _LineRow("code_refused", "denied", "failure", is_correlated=True, is_of_root=True)
    CODE_NOT_NEEDED = _LineRow("code_not_needed", is_correlated=True, is_of_root=True)
    CODE_NOT_DELIVERED = _LineRow("code_not_delivered", is_correlated=True, is_of_root=True)
    LET_IN_WITHOUT_CODE = _LineRow("let_in_without_code", is_correlated=True, is_of_root=True)
    DNS_WARNING = _LineRow("dns_warning")
    SERVER_LISTENING = _LineRow("server_listening", is_of_root=True)
    SERVER_STOPPED = _LineRow("server_stopped", is_of_root=True)
    SERVER_RESTARTED = _LineRow("server_restarted", is_of_root=True)
    NOTICE = _LineRow("notice")
    DEBUG = _LineRow("debug")
    # A line of sshd, dropbear or PAM that no rule reads.
    UNMATCHED = _LineRow("unmatched", is_of_root=True)


class _EventRow(NamedTuple):
    text: str
    noun: str
    category: tuple[str, ...]
    ecs_type: str
    outcome: str
    kind: str = "event"
    is_session: bool = False
    severity: str = ""
    technique: str = ""


def _finding(text: str, noun: str, severity: str, technique: str = "", category: str = "intrusion_detection") -> _EventRow:
    """Return the row of a detector's finding."""
    return _EventRow(
        text, noun, (category,), "info", "unknown", kind="alert", severity=severity, technique=technique
    )  # fmt: skip


class EventAction(StrEnum):
    """
    The kind of an event: ``event.action`` of ``sshbell replay``.

    Attributes:
        noun: the words for one such event in a terminal; messages have those of ``deliver/event_kinds.py``.
        category, ecs_type, outcome, kind: the ECS fields under ``event``.
        is_session: somebody was logged in. Strangers and local users can cause any number of the other events, so in a flood
            sshbell drops those first.
        severity: of a detector's findings, unless the finding itself has another one; "" for all other events. One of
            ``SEVERITIES``.
        technique: the id of MITRE ATT&CK for what a finding reports; "" if none fits.
    """

    def __new__(cls, text: str, *_row: object) -> Self:
        """Make the text of a row."""
        member = str.__new__(cls, text)
        member._value_ = text
        return member

    def __init__(self, *row: Any) -> None:
        (
            _, self.noun, self.category, self.ecs_type, self.outcome, self.kind, self.is_session, self.severity,
            self.technique,
        ) = _EventRow(*row)  # fmt: skip

    @property
    def is_finding(self) -> bool:
        """Whether a detector of ``consumer/detect/`` reports it."""
        return self.severity != ""

    LOGIN = _EventRow("ssh_login", "login", ("authentication", "session"), "start", "success", is_session=True)
    LOGOUT = _EventRow("ssh_logout", "logout", ("session",), "end", "success", is_session=True)
    ATTEMPT = _EventRow("ssh_attempt", "failed login", ("authentication",), "denied", "failure")
    PROBE = _EventRow("ssh_probe", "connection without a login", ("authentication",), "info", "unknown")
    TROUBLE = _EventRow("ssh_trouble", "trouble of sshd", ("configuration",), "info", "unknown")
    CANARY = _EventRow("ssh_canary", "canary", ("authentication",), "info", "failure")
    FORGED = _EventRow("ssh_forged", "forged line", ("authentication",), "info", "unknown", kind="alert")
    BLOCK = _EventRow("ssh_block", "block", ("intrusion_detection",), "denied", "success")
    # The findings, one row for each detector.
    GUESSING = _finding("guessing", "guessing of passwords", "medium", "T1110.001")
    MANY_ADDRESSES = _finding("many_addresses", "guessing from many addresses", "medium", "T1110.001")
    MANY_ACCOUNTS = _finding("many_accounts", "tries at many accounts", "medium", "T1110.003")
    SLOW_GUESSING = _finding("slow_guessing", "slow guessing", "medium", "T1110.001")
    SCANNING = _finding("scanning", "scan", "low", "T1595")
    SUCCESS_AFTER_FAILURES = _finding("success_after_failures", "login after many failed ones", "high", "T1110")
    FIRST_SEEN = _finding("first_seen", "login of a new kind", "low", "T1078")
    IMPOSSIBLE_TRAVEL = _finding("impossible_travel", "impossible journey", "medium", "T1078")
    ROOT_BY_PASSWORD = _finding("root_by_password", "login of root by password", "medium", "T1078.003")
    PASSWORD_DESPITE_KEY = _finding("password_despite_key", "password of a user of keys", "medium", "T1078")
    KEY_IN_TWO_PLACES = _finding("key_in_two_places", "key in two places", "high", "T1552.004")
    SSHD_PENALTY = _finding("sshd_penalty", "penalty of sshd", "low", "T1110")
    SSHD_HEALTH = _finding("sshd_health", "fault of sshd", "medium", category="configuration")
    HOST_SILENT = _finding("host_silent", "silent host", "medium", category="host")
    HOST_CHANGED_WORDING = _finding("host_changed_wording", "new wording of a host", "medium", category="host")
    CLOCK_SKEW = _finding("clock_skew", "wrong clock", "low", category="host")


class OwnAction(StrEnum):
    """Messages about sshbell itself: ``event.action`` of messages to all channels."""

    TEST = "sshbell_test"
    NOTICE = "sshbell_notice"


# From the least to the most urgent, each with its number in ``event.severity``, as Elastic's own rules number them.
SEVERITIES = {"low": 21, "medium": 47, "high": 73, "critical": 99}
# The findings that the default of ``events`` in a route has. The others are worth a look, but no ring.
RINGING_FINDINGS = tuple(action for action in EventAction if action.is_finding and action.value not in {"first_seen", "scanning"})
SESSION_ACTIONS = tuple(action for action in EventAction if action.is_session)
EXPENDABLE_ACTIONS = tuple(action for action in EventAction if not action.is_session)
