"""
Events: one for each login, end of a session, try and probe, however many lines reported it.

Events are frozen, and have only facts from the lines. ``events_as_ecs.py`` converts them to ECS.
"""

from typing import ClassVar

import msgspec

from consumer.actions import EventAction
from consumer.records import HOST, TIME, TRUSTED, Line

# Files are numbered in the order of reading. A place is the file's number times this, plus the line's number.
PLACE_STEP = 1 << 40
# The most users, addresses, hosts and events that a finding names. More would help nobody who reads it.
EXAMPLES_LIMIT = 20


class AuthEvent(msgspec.Struct, frozen=True):
    """
    The common part of all events. Each kind has an ``action``; a finding has that of its detector.

    Attributes:
        id: stable; "" if the caller did not ask for texts.
        line: the deciding line.
        user: as the client sent it; None if no line named one.
        address, port: of the client, as logged; None if no line named them.
    """

    id: str
    line: Line
    user: str | None
    address: str | None
    port: str | None

    @property
    def time_us(self) -> int:
        """Microseconds since 1970 UTC; 0 if the line had no time."""
        return self.line[TIME] or 0

    @property
    def host(self) -> str:
        """The host that logged the deciding line."""
        return self.line[HOST]

    @property
    def origin(self) -> str:
        """``verified`` if the kernel vouches that a process of root wrote the line, else ``unverified``."""
        trusted = self.line[TRUSTED]
        return "verified" if trusted is not None and trusted[0] == 0 else "unverified"


class LoginCode(msgspec.Struct, frozen=True):
    """
    The one-time code of a login, or why it has none.

    Attributes:
        outcome: ``accepted``; ``emergency`` for a printed code; ``not_needed`` if no rule wanted one; ``let_in`` if no channel
            took one and ``on_failure`` is ``safe``.
        channel: that has taken the code; None for an emergency code.
        session: the number beside the prompt and in the message.
        after_s: seconds from the message to the answer.
        left: how many unused emergency codes the user has.
    """

    outcome: str
    channel: str | None = None
    session: str | None = None
    after_s: int | None = None
    left: int | None = None


class Login(AuthEvent, frozen=True):
    """
    Somebody has logged in.

    Attributes:
        method: the last one, as sshd writes it: ``keyboard-interactive/pam``.
        info: the text after "ssh2: ": the key or certificate.
        factors: all methods in order, if the log shows several; ``method`` is the last of them.
        code: the one-time code; None if sshbell has not asked for one.
    """

    action: ClassVar[EventAction] = EventAction.LOGIN

    method: str | None = None
    info: str | None = None
    uid: int | None = None
    session_kind: str | None = None
    factors: tuple[str, ...] = ()
    code: LoginCode | None = None


class Logout(AuthEvent, frozen=True):
    """A session with a ``Login`` has ended. ``line`` decided it. ``end_us`` is never before the login's time; 0: unknown."""

    action: ClassVar[EventAction] = EventAction.LOGOUT

    login: Login
    end_us: int

    @property
    def time_us(self) -> int:
        """Microseconds since 1970 UTC; 0 if the line had no time."""
        return self.end_us


class Attempt(AuthEvent, frozen=True):
    """One failed try to authenticate, or ``count`` equal ones. ``method`` is None if no Failed line reported it."""

    action: ClassVar[EventAction] = EventAction.ATTEMPT

    method: str | None = None
    user_is_valid: bool = True
    count: int = 1
    reason: str | None = None


class Probe(AuthEvent, frozen=True):
    """
    A connection that never tried to log in: a scanner, a bad banner, a time-out, a refused connection.

    Attributes:
        reason: as logged.
        fault: the name of the rule that reads how the client spoke wrongly, such as ``bad_version``; "" if it did not.
    """

    action: ClassVar[EventAction] = EventAction.PROBE

    reason: str | None = None
    fault: str = ""


class Trouble(AuthEvent, frozen=True):
    """
    sshd has penalized a client, or something of its own is broken or refused: no login, and no try.

    Attributes:
        what: the name of the rule that reads such lines: ``penalty``, ``command_failed``.
        reason: the rest of the line, as logged.
    """

    action: ClassVar[EventAction] = EventAction.TROUBLE

    what: str
    reason: str | None = None


class Canary(AuthEvent, frozen=True):
    """The failed login of ``sshbell canary``, which shows that lines arrive. It counts as no try."""

    action: ClassVar[EventAction] = EventAction.CANARY


class Forged(AuthEvent, frozen=True):
    """
    A line that pretends to be from sshd, but the kernel names another process; or ``count`` such lines.

    Attributes:
        line: the first of them.
        uid: of the writer; None for several writers.
        claim: the action that the lines pretend; "" for several actions.
        last_us: the time of the last of them; 0 if it has none.
    """

    action: ClassVar[EventAction] = EventAction.FORGED

    uid: int | None
    claim: str
    count: int = 1
    last_us: int = 0

    @property
    def origin(self) -> str:
        """Always ``forged``."""
        return "forged"


class Finding(AuthEvent, frozen=True):
    """
    What a detector has found in other events. ``line``, ``user``, ``address`` and ``port`` are those of the deciding event.

    Attributes:
        action: the detector.
        severity: one of ``SEVERITIES``.
        rule: the rule or threshold, as it stands in the configuration: ``*:10/1h``.
        origin: the weakest origin of its events.
        count: how many tries, logins or lines it rests on.
        since_us, last_us: the times of the first and the last of them.
        users, addresses, hosts: that they name, up to ``EXAMPLES_LIMIT`` of each, as in the log.
        event_ids: of the events that it rests on, the newest ``EXAMPLES_LIMIT``.
        labels: further values that its sentence needs, by names of the detector's choice.
    """

    action: EventAction
    severity: str
    rule: str
    origin: str
    count: int = 1
    since_us: int = 0
    last_us: int = 0
    users: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    event_ids: tuple[str, ...] = ()
    labels: dict[str, str] = {}


class Block(AuthEvent, frozen=True):
    """
    sshbell blocks an address, a network or a user. ``line`` is that of the finding's deciding event.

    Attributes:
        target: the address (``192.0.2.7``), the network (``2001:db8::/64``), or, if ``is_user``, the user's name.
        until_us: the end of the block; microseconds since 1970 UTC.
        finding_id: of the finding that caused it.
        step: 0 for the first block of this target, 1 for the second, and so on: each is longer.
        is_dry_run: the configuration only tries blocking out: nothing is blocked.
        removed_us: when somebody lifted a block of workers; None if nobody has. ``block.db`` has this for those of ``guard``.
    """

    action: ClassVar[EventAction] = EventAction.BLOCK

    target: str
    is_user: bool
    until_us: int
    finding_id: str
    step: int = 0
    is_dry_run: bool = False
    removed_us: int | None = None


Event = Login | Logout | Attempt | Probe | Trouble | Canary | Forged | Finding | Block
