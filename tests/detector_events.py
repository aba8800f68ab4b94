"""Events for tests of detectors, made without lines of a log, and the findings about them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from consumer.detect.detectors import Detectors, no_place
from consumer.detect.findings import Place
from consumer.detect_settings import Detect, GuessingSettings
from consumer.events import Attempt, Finding, Login, Logout, Probe, Trouble
from consumer.records import Line
from tests.store_events import START_US

if TYPE_CHECKING:
    from collections.abc import Iterable

    from consumer.detect.findings import PlaceOf
    from consumer.events import Event

MINUTE_S, HOUR_S, DAY_S = 60, 3600, 86400
KEY = "ED25519 SHA256:lj7ZkpHJrXEKLvBHm9iyVhHSZbIXMRVzPQZPPMTQX5Q"
OTHER_KEY = "ED25519 SHA256:mVPwvezndPv/ARoIadVY98vAC0g+P/5633yTC4d/wXE"
# Lyon, Sydney, and a network that is known without its place.
PLACES = {
    "192.0.2.7": Place(3215, "FR", 45.75, 4.85), "192.0.2.8": Place(3215, "FR", 45.75, 4.85),
    "198.51.100.9": Place(1221, "AU", -33.87, 151.21), "198.51.100.10": Place(1221, "AU", -33.87, 151.21),
    "203.0.113.5": Place(64496, None, None, None), "203.0.113.9": Place(3215, "FR", 46.0, 5.0),
}  # fmt: skip
WITHOUT_GUESSING = Detect(guessing=GuessingSettings(host_rule=""))


def line_at(at_s: float, *, host: str = "web1", is_verified: bool = False) -> Line:
    """Return a line of a host so many seconds after the start."""
    trusted = (0, "/usr/sbin/sshd") if is_verified else None
    nothing = (None,) * 7
    return Line((0, START_US + round(at_s * 1e6), 1, 1, "text", trusted, False, "sshd", host, "7", *nothing))


def login(
    at_s: float, user: str = "alice", address: str = "192.0.2.7", *, method: str = "publickey", key: str | None = KEY,
    host: str = "web1", factors: tuple[str, ...] = (), is_verified: bool = False,
) -> Login:  # fmt: skip
    """Return a login; by key if the method is that."""
    line = line_at(at_s, host=host, is_verified=is_verified)
    event_id = f"login {at_s} {user} {address} {host}"
    return Login(event_id, line, user, address, "4711", method, key if method == "publickey" else None, factors=factors)


def logout(at_s: float, of: Login) -> Logout:
    """Return the end of a session."""
    line = line_at(at_s, host=of.host)
    return Logout(f"logout {at_s} {of.id}", line, of.user, of.address, of.port, of, line[1] or 0)


def attempt(
    at_s: float, user: str = "root", address: str = "198.51.100.9", *, count: int = 1, is_valid: bool = True, host: str = "web1",
    is_verified: bool = False,
) -> Attempt:  # fmt: skip
    """Return a failed login."""
    line = line_at(at_s, host=host, is_verified=is_verified)
    return Attempt(f"try {at_s} {user} {address} {host}", line, user, address, "4711", "password", is_valid, count)


def probe(at_s: float, reason: str | None, address: str = "198.51.100.9", *, fault: str = "", host: str = "web1") -> Probe:
    """Return a connection without a try."""
    return Probe(f"probe {at_s} {address} {host}", line_at(at_s, host=host), None, address, "4711", reason, fault)


def trouble(at_s: float, what: str, reason: str | None = None, *, user: str | None = None, address: str | None = None) -> Trouble:
    """Return a complaint of sshd."""
    return Trouble(f"trouble {at_s} {what}", line_at(at_s), user, address, None, what, reason)


def findings_of(events: Iterable[Event], settings: Detect = WITHOUT_GUESSING, place_of: PlaceOf = no_place) -> list[Finding]:
    """Return the findings about some events."""
    found: list[Event] = []
    detectors = Detectors(settings, found.append, place_of=place_of)
    for event in events:
        detectors.take(event)
    return [each for each in found if isinstance(each, Finding)]


def restored(detectors: Detectors, found: list[Event], settings: Detect, place_of: PlaceOf = no_place) -> Detectors:
    """Return other detectors with the memory of these, as after a restart."""
    after = Detectors(settings, found.append, place_of=place_of)
    for name, pieces in detectors.changed():
        assert after.restore(name, [bytes(piece) for piece in pieces])
    return after
