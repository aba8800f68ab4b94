"""What sshbell knows so far about one SSH connection."""

from consumer.events import Login
from consumer.records import PROCID, TIME, USER, Line

SECOND = 1_000_000

# Lines in the right order may have times that are this far out of order: many timestamps have whole seconds only.
JITTER_US = SECOND
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
