"""``consumer.detect.key_in_two_places``: a key that has been copied."""

from __future__ import annotations

from typing import Any

from consumer.actions import EventAction
from consumer.detect_settings import Detect, GuessingSettings
from tests.detector_events import DAY_S, HOUR_S, PLACES, findings_of, login, logout

LYON, SYDNEY = "192.0.2.7", "198.51.100.9"


def of_detector(events: list[Any], **settings: Any) -> list[Any]:
    """Return the findings of this detector, with places."""
    detect = Detect(guessing=GuessingSettings(host_rule=""), **settings)
    found = findings_of(events, detect, place_of=PLACES.get)
    return [finding for finding in found if finding.action is EventAction.KEY_IN_TWO_PLACES]


def test_at_once() -> None:
    """A session from Lyon is open, and one from Sydney begins."""
    first, second = login(0, address=LYON, host="web2"), login(HOUR_S, "bob", SYDNEY)
    (finding,) = of_detector([first, second])
    assert (finding.user, finding.addresses, finding.hosts) == ("bob", (SYDNEY, LYON), ("web1", "web2"))
    assert finding.labels == {"km": "16883", "other": LYON}
    assert (finding.severity, finding.event_ids) == ("high", (first.id, second.id))


def test_one_after_the_other() -> None:
    """The first session has ended, or sshd has not logged its end, but a day has passed."""
    first = login(0, address=LYON)
    assert of_detector([first, logout(60, first), login(HOUR_S, address=SYDNEY)]) == []
    assert of_detector([first, login(DAY_S, address=SYDNEY)]) == []


def test_one_of_two_sessions_ends() -> None:
    """The other one is still open."""
    first, second = login(0, address=LYON), login(5, address=LYON)
    assert len(of_detector([first, second, logout(60, first), login(HOUR_S, address=SYDNEY)])) == 1


def test_near() -> None:
    """A telephone and an office in one town are one place."""
    assert of_detector([login(0, address=LYON), login(60, address="203.0.113.9")]) == []


def test_once() -> None:
    """The same two networks are reported once in 30 days."""
    events = [login(day * DAY_S + hour, address=address) for day in range(29) for hour, address in enumerate((LYON, SYDNEY))]
    assert len(of_detector(events)) == 1


def test_a_jump_host() -> None:
    """Several keys come from a jump host, so it is no place."""
    jump = [login(number, f"user{number}", SYDNEY, key=f"ED25519 SHA256:{number}") for number in range(3)]
    assert of_detector([*jump, login(60, address=LYON), login(61, address=SYDNEY)]) == []
    assert of_detector([login(60, address=LYON), login(61, address=SYDNEY)], known_networks=["198.51.100.9/32"]) == []


def test_off() -> None:
    """0 turns it off; passwords have no places."""
    events = [login(0, address=LYON), login(60, address=SYDNEY)]
    assert of_detector(events, key_in_two_places=0) == []
    assert findings_of(events) == []
    assert of_detector([login(at_s, address=address, method="password") for at_s, address in ((0, LYON), (1, SYDNEY))]) == []
