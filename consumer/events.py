"""
What happened: one event for each login, end of a session, try and probe, however many lines told of it.

Events are frozen, and hold nothing that the lines did not say. ``events_as_ecs.py`` gives them their outer form.
"""

from typing import ClassVar

import msgspec

from consumer.actions import EventAction
from consumer.records import HOST, TIME, TRUSTED, Line

# Files are numbered in the order in which they are read; a place is the file's number times this, plus the line's.
PLACE_STEP = 1 << 40


class AuthEvent(msgspec.Struct, frozen=True):
    """
    What all events have.

    Attributes:
        action: what happened.
        id: stable; "" where nobody asked for texts.
        line: the deciding one.
        user: as the client sent it; None where no line named one.
        address, port: of the client, as logged; None where no line named them.
    """

    action: ClassVar[EventAction]

    id: str
    line: Line
    user: str | None
    address: str | None
    port: str | None

    @property
    def time_us(self) -> int:
        """Microseconds since 1970 UTC; 0 where no line had a time."""
        return self.line[TIME] or 0

    @property
    def host(self) -> str:
        """Who logged the deciding line."""
        return self.line[HOST]

    @property
    def origin(self) -> str:
        """``verified`` where the kernel vouches for a process of root, else ``unverified``."""
        trusted = self.line[TRUSTED]
        return "verified" if trusted is not None and trusted[0] == 0 else "unverified"


class Login(AuthEvent, frozen=True):
    """Somebody is in. ``info`` stood behind "ssh2: ": the key or certificate."""

    action = EventAction.LOGIN

    method: str | None = None
    info: str | None = None
    uid: int | None = None
    session_kind: str | None = None


class Logout(AuthEvent, frozen=True):
    """A session that was told is over. ``line`` decided it; ``end_us`` is never before the login's time."""

    action = EventAction.LOGOUT

    login: Login
    end_us: int

    @property
    def time_us(self) -> int:
        """Microseconds since 1970 UTC."""
        return self.end_us


class Attempt(AuthEvent, frozen=True):
    """One failed try at authenticating, or ``count`` equal ones. ``method`` is None where no Failed line told of it."""

    action = EventAction.ATTEMPT

    method: str | None = None
    user_is_valid: bool = True
    count: int = 1
    reason: str | None = None


class Probe(AuthEvent, frozen=True):
    """A connection that never tried: a scanner, a bad banner, a time-out, a refused one."""

    action = EventAction.PROBE

    reason: str | None = None


class Forged(AuthEvent, frozen=True):
    """
    A line that says it is sshd's, from a process that the kernel says is not; or ``count`` of them.

    Attributes:
        line: the first of them.
        uid: of the writer; None where several wrote them.
        claim: the action that they claim; "" where they claim several.
        last_us: the time of the last of them; 0 where it has none.
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
