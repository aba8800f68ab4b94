"""
What happened: one event for each login, end of a session, try and probe, however many lines told of it.

Events are frozen, and hold nothing that the lines did not say. ``ecs.py`` gives them their outer form.
"""

import msgspec

PLACE_STEP = 1 << 40


class AuthEvent(msgspec.Struct, frozen=True, kw_only=True):
    """
    What all events have.

    Attributes:
        time_us: microseconds since 1970 UTC, of the deciding line.
        host, program, procid: who logged that line.
        user: as the client sent it; None where no line named one.
        address, port: of the client, as logged; None where no line named them.
        text: the deciding line's, of which ``id`` is made.
        place: where it stood: file number times ``PLACE_STEP``, plus the line's number.
        origin: ``verified``, ``unverified`` or ``forged``.
    """

    time_us: int
    host: str
    program: str
    procid: str
    user: str | None = None
    address: str | None = None
    port: int | None = None
    text: str = ""
    place: int = 0
    origin: str = "unverified"
    ambiguous: bool = False
    id: str = ""


class Login(AuthEvent, frozen=True, kw_only=True, tag="ssh_login", tag_field="action"):
    """Somebody is in."""

    method: str | None = None
    submethod: str | None = None
    info: str | None = None  # what stood behind "ssh2: ": the key or certificate
    uid: int | None = None
    session_kind: str | None = None


class Logout(AuthEvent, frozen=True, kw_only=True, tag="ssh_logout", tag_field="action"):
    """A session that was told is over; ``time_us`` is its end."""

    start_us: int
    login_id: str = ""
    method: str | None = None
    submethod: str | None = None
    info: str | None = None


class Attempt(AuthEvent, frozen=True, kw_only=True, tag="ssh_attempt", tag_field="action"):
    """One failed try at authenticating, or ``count`` equal ones."""

    method: str | None = None
    submethod: str | None = None
    user_is_valid: bool = True
    count: int = 1
    reason: str | None = None


class Probe(AuthEvent, frozen=True, kw_only=True, tag="ssh_probe", tag_field="action"):
    """A connection that never tried: a scanner, a bad banner, a time-out, a refused one."""

    reason: str | None = None


class Forged(AuthEvent, frozen=True, kw_only=True, tag="ssh_forged", tag_field="action"):
    """A line that says it is sshd's, from a process that the kernel says is not."""

    uid: int
    claim: str = ""  # the action that the line claims


Event = Login | Logout | Attempt | Probe | Forged
