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


class AuthEvent(msgspec.Struct, frozen=True):
    """
    The common part of all events.

    Attributes:
        action: the kind of event.
        id: stable; "" if the caller did not ask for texts.
        line: the deciding line.
        user: as the client sent it; None if no line named one.
        address, port: of the client, as logged; None if no line named them.
    """

    action: ClassVar[EventAction]

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


class Login(AuthEvent, frozen=True):
    """
    Somebody has logged in.

    Attributes:
        method: the last one, as sshd writes it: ``keyboard-interactive/pam``.
        info: the text after "ssh2: ": the key or certificate.
        factors: all methods in order, if the log shows several; ``method`` is the last of them.
    """

    action = EventAction.LOGIN

    method: str | None = None
    info: str | None = None
    uid: int | None = None
    session_kind: str | None = None
    factors: tuple[str, ...] = ()


class Logout(AuthEvent, frozen=True):
    """A session with a ``Login`` has ended. ``line`` decided it. ``end_us`` is never before the login's time; 0: unknown."""

    action = EventAction.LOGOUT

    login: Login
    end_us: int

    @property
    def time_us(self) -> int:
        """Microseconds since 1970 UTC; 0 if the line had no time."""
        return self.end_us


class Attempt(AuthEvent, frozen=True):
    """One failed try to authenticate, or ``count`` equal ones. ``method`` is None if no Failed line reported it."""

    action = EventAction.ATTEMPT

    method: str | None = None
    user_is_valid: bool = True
    count: int = 1
    reason: str | None = None


class Probe(AuthEvent, frozen=True):
    """A connection that never tried to log in: a scanner, a bad banner, a time-out, a refused connection."""

    action = EventAction.PROBE

    reason: str | None = None


class Forged(AuthEvent, frozen=True):
    """
    A line that pretends to be from sshd, but the kernel names another process; or ``count`` such lines.

    Attributes:
        line: the first of them.
        uid: of the writer; None for several writers.
        claim: the action that the lines pretend; "" for several actions.
        last_us: the time of the last of them; 0 if it has none.
    """

    action = EventAction.FORGED

    uid: int | None
    claim: str
    count: int = 1
    last_us: int = 0

    @property
    def origin(self) -> str:
        """Always ``forged``."""
        return "forged"


Event = Login | Logout | Attempt | Probe | Forged
