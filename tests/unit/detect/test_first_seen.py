"""``consumer.detect.first_seen``: what is new about a login of an account."""

from __future__ import annotations

from typing import Any

import pytest

from consumer.actions import EventAction
from consumer.detect_settings import Detect, FirstSeenSettings, GuessingSettings
from tests.detector_events import DAY_S, HOUR_S, OTHER_KEY, PLACES, findings_of, login

EVERYTHING = ["address", "prefix", "network", "country", "key", "certificate", "method", "host", "hour"]
CERTIFICATE = "ED25519-CERT SHA256:lj7ZkpHJrXEKLvBHm9iyVhHSZbIXMRVzPQZPPMTQX5Q ID alice (serial 7) CA ED25519 SHA256:ca"


def of_detector(events: list[Any], **settings: Any) -> list[Any]:
    """Return the findings of this detector, with places."""
    detect = Detect(guessing=GuessingSettings(host_rule=""), first_seen=FirstSeenSettings(**settings))
    found = findings_of(events, detect, place_of=PLACES.get)
    return [finding for finding in found if finding.action is EventAction.FIRST_SEEN]


def habit(days: int, **values: Any) -> list[Any]:
    """Return a login a day, at the same hour."""
    return [login(day * DAY_S, **values) for day in range(days)]


@pytest.mark.parametrize(
    ("values", "new"),
    [
        ({"address": "192.0.2.8"}, "address"),
        ({"address": "203.0.113.9"}, "address, prefix"),
        ({"address": "203.0.113.5"}, "address, prefix, network"),
        ({"address": "198.51.100.9"}, "address, prefix, network, country"),
        ({"key": OTHER_KEY}, "key"),
        ({"key": CERTIFICATE}, "certificate"),
        ({"method": "password"}, "method"),
        ({"host": "web2"}, "host"),
    ],
)
def test_new(values: dict[str, Any], new: str) -> None:
    """A login has a finding in each respect in which it is new, with the number of the others."""
    (finding,) = of_detector([*habit(20), login(20 * DAY_S, **values)], what=EVERYTHING)
    assert finding.labels == {"new": new, "logins": "20", "days": "90"}
    assert (finding.user, finding.severity, finding.rule) == ("alice", "low", "7d, 90d")


def test_usual() -> None:
    """The same login again is not new."""
    assert of_detector(habit(50), what=EVERYTHING) == []


def test_learning() -> None:
    """In the first days nothing is new."""
    events = [login(number, address=address) for number, address in enumerate(PLACES)]
    assert of_detector(events) == []
    assert [finding.labels["new"] for finding in of_detector([*events, login(8 * DAY_S, "bob")])] == ["account"]


def test_expiry() -> None:
    """What has not occurred for 90 days is new again, and an account that has not logged in for so long is."""
    events = [login(0, address="198.51.100.9"), *(login(day * DAY_S) for day in range(1, 91))]
    assert of_detector([*events, login(89.9 * DAY_S, address="198.51.100.9")]) == []
    (finding,) = of_detector([*events, login(91 * DAY_S, address="198.51.100.9")])
    assert finding.labels["new"] == "network, country"
    (finding,) = of_detector([*events, login(300 * DAY_S)])
    assert finding.labels["new"] == "account"


def test_hour_of_the_week() -> None:
    """An hour is new for an account with enough logins, if the hours beside it are, too."""
    usual = [login(day * DAY_S + hour * HOUR_S) for day in range(30) for hour in range(4)]
    (finding,) = of_detector([*usual, login(31 * DAY_S + 12 * HOUR_S)], what=["hour"])
    assert finding.labels["new"] == "hour"
    assert of_detector([*usual, login(31 * DAY_S + 4.5 * HOUR_S)], what=["hour"]) == []
    assert of_detector([*usual[:60], login(31 * DAY_S + 12 * HOUR_S)], what=["hour"]) == []


def test_without_places() -> None:
    """Without databases, there is no new network, but a new key."""
    found = findings_of([*habit(20), login(20 * DAY_S, address="198.51.100.9"), login(21 * DAY_S, key=OTHER_KEY)])
    assert [finding.labels["new"] for finding in found] == ["key"]


def test_off() -> None:
    """An empty list turns it off."""
    assert of_detector([*habit(20), login(20 * DAY_S, key=OTHER_KEY)], what=[]) == []
