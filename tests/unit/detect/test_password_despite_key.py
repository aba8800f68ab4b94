"""``consumer.detect.password_despite_key``: a password where keys are usual."""

from __future__ import annotations

from typing import Any

import pytest

from consumer.actions import EventAction
from consumer.detect_settings import Detect, GuessingSettings
from tests.detector_events import DAY_S, findings_of, login


def of_detector(events: list[Any], **settings: Any) -> list[Any]:
    """Return the findings of this detector."""
    found = findings_of(events, Detect(guessing=GuessingSettings(host_rule=""), **settings))
    return [finding for finding in found if finding.action is EventAction.PASSWORD_DESPITE_KEY]


def by_key(count: int) -> list[Any]:
    """Return a login by key each day."""
    return [login(day * DAY_S) for day in range(count)]


@pytest.mark.parametrize("method", ["password", "keyboard-interactive/pam"])
def test_first_password(method: str) -> None:
    """After twenty logins by key, a password is a finding, once."""
    events = [*by_key(25), login(30 * DAY_S, method=method), login(31 * DAY_S, method=method)]
    (finding,) = of_detector(events)
    assert (finding.user, finding.count, finding.rule) == ("alice", 25, "20")
    assert (finding.since_us, finding.last_us) == (events[0].time_us, events[25].time_us)


@pytest.mark.parametrize(
    "events",
    [
        [*by_key(19), login(30 * DAY_S, method="password")],
        [*by_key(25), login(200 * DAY_S, method="password")],
        [login(-DAY_S, method="password"), *by_key(25), login(30 * DAY_S, method="password")],
        [*by_key(25), login(30 * DAY_S, "bob", method="password")],
        [*by_key(25), login(30 * DAY_S, method="password", factors=("publickey", "password"))],
        [*by_key(25), login(30 * DAY_S, method="")],
    ],
    ids=["few keys", "long ago", "passwords are usual", "another account", "a second factor", "an unknown method"],
)
def test_no_finding(events: list[Any]) -> None:
    """None of these is a password that nobody expects."""
    assert of_detector(events) == []


def test_off() -> None:
    """0 turns it off."""
    assert of_detector([*by_key(50), login(60 * DAY_S, method="password")], password_despite_key=0) == []
