"""``consumer.detect.impossible_travel``: a journey that is too fast."""

from __future__ import annotations

from typing import Any

import pytest

from consumer.actions import EventAction
from consumer.detect_settings import Detect, GuessingSettings
from tests.detector_events import DAY_S, HOUR_S, OTHER_KEY, PLACES, findings_of, login

LYON, SYDNEY, NEAR_LYON = "192.0.2.7", "198.51.100.9", "203.0.113.9"


def of_detector(events: list[Any], **settings: Any) -> list[Any]:
    """Return the findings of this detector, with places."""
    detect = Detect(guessing=GuessingSettings(host_rule=""), **settings)
    found = findings_of(events, detect, place_of=PLACES.get)
    return [finding for finding in found if finding.action is EventAction.IMPOSSIBLE_TRAVEL]


def test_too_fast() -> None:
    """Nobody travels from Lyon to Sydney within an hour. The finding has both addresses, the distance and the time."""
    first, second = login(0, address=LYON), login(HOUR_S, address=SYDNEY)
    (finding,) = of_detector([first, second])
    assert (finding.address, finding.addresses, finding.rule) == (SYDNEY, (SYDNEY, LYON), "1000 km/h")
    assert finding.labels == {"km": "16883", "minutes": "60", "before": LYON}
    assert finding.event_ids == (first.id, second.id)
    assert (finding.since_us, finding.last_us) == (first.time_us, second.time_us)


@pytest.mark.parametrize(
    "events",
    [
        [login(0, address=LYON), login(DAY_S, address=SYDNEY)],
        [login(0, address=LYON), login(60, address=NEAR_LYON)],
        [login(0, address=LYON), login(60, address="203.0.113.5")],
        [login(0, address=LYON), login(60, address=SYDNEY, key=OTHER_KEY)],
        [login(0, "bob", LYON, method="password"), login(60, "alice", SYDNEY, method="password")],
        [login(0, address=SYDNEY), login(2 * DAY_S, address=LYON), login(2 * DAY_S + 60, address=SYDNEY)],
    ],
    ids=["a day later", "near", "a place that is unknown", "another key", "another account", "a network that is known"],
)
def test_possible(events: list[Any]) -> None:
    """None of these is a journey that is too fast."""
    assert of_detector(events) == []


def test_a_key_of_several_accounts() -> None:
    """A key is one person, whatever the account; so is an account without a key."""
    assert len(of_detector([login(0, "alice", LYON), login(60, "deploy", SYDNEY)])) == 1
    found = of_detector([login(0, "alice", LYON, method="password"), login(60, "alice", SYDNEY, method="password")])
    assert len(found) == 1


def test_lines_out_of_order() -> None:
    """Two hosts send their lines in another order."""
    assert len(of_detector([login(60, address=LYON, host="web2"), login(0, address=SYDNEY)])) == 1


def test_known_networks() -> None:
    """A VPN is no place."""
    assert of_detector([login(0, address=LYON), login(60, address=SYDNEY)], known_networks=["198.51.100.0/24"]) == []


def test_off() -> None:
    """0 turns it off; so does a lack of databases."""
    events = [login(0, address=LYON), login(60, address=SYDNEY)]
    assert of_detector(events, impossible_travel=0) == []
    assert findings_of(events) == []
