"""``consumer.detect.success_after_failures``: somebody has perhaps guessed a password."""

from __future__ import annotations

from typing import Any

import pytest

from consumer.actions import EventAction
from consumer.detect_settings import Detect, GuessingSettings, SuccessAfterFailuresSettings
from tests.detector_events import DAY_S, HOUR_S, attempt, findings_of, login


def of_detector(events: list[Any], settings: Detect | None = None) -> list[Any]:
    """Return the findings of this detector."""
    found = findings_of(events, settings or Detect(guessing=GuessingSettings(host_rule="")))
    return [finding for finding in found if finding.action is EventAction.SUCCESS_AFTER_FAILURES]


def failures(count: int, user: str = "deploy", address: str = "198.51.100.9", *, begin_s: float = 0) -> list[Any]:
    """Return failed logins, one each second."""
    return [attempt(begin_s + number, user, address) for number in range(count)]


def test_same_address() -> None:
    """The finding has the number of failures, their time and their accounts; it is severe."""
    events = [*failures(4, "root"), *failures(8, begin_s=10), login(100, "deploy", "198.51.100.9", method="password")]
    (finding,) = of_detector(events)
    assert (finding.user, finding.address, finding.count, finding.rule) == ("deploy", "198.51.100.9", 12, "10/1h")
    assert (finding.severity, finding.labels) == ("high", {"from": "address"})
    assert (finding.since_us, finding.last_us) == (events[0].time_us, events[-1].time_us)
    assert finding.users == ("deploy", "root")
    assert finding.event_ids[-1] == events[-1].id
    assert finding.event_ids[0] == events[2].id


def test_by_key() -> None:
    """Nobody guesses a key, so that is less severe."""
    (finding,) = of_detector([*failures(12, "root"), login(100, "deploy", "198.51.100.9")])
    assert finding.severity == "medium"


def test_other_addresses_of_the_prefix() -> None:
    """Guessers take another address of their network for the login."""
    events = [attempt(number, "deploy" if number % 4 else "root", f"198.51.100.{number % 5}") for number in range(30)]
    (finding,) = of_detector([*events, login(100, "deploy", "198.51.100.77", method="password")])
    assert (finding.labels, finding.count) == ({"from": "prefix"}, 30)
    assert len(finding.addresses) == 6


def test_another_account_of_the_prefix() -> None:
    """Who logs in to an account that nobody has tried there has guessed nothing."""
    events = [attempt(number, "root", f"198.51.100.{number % 5}") for number in range(30)]
    assert of_detector([*events, login(100, "deploy", "198.51.100.77", method="password")]) == []


def test_elsewhere() -> None:
    """A botnet has tried the account, and a new address logs in by password."""
    events = [attempt(number, "deploy", f"198.51.{number}.1") for number in range(29)]
    events += [attempt(29, "deploy", "198.51.29.1", count=3)]
    (finding,) = of_detector([*events, login(100, "deploy", "203.0.113.5", method="keyboard-interactive/pam")])
    assert (finding.labels, finding.count, finding.severity) == ({"from": "account"}, 32, "high")


def test_a_traveller_during_an_attack() -> None:
    """The whole Internet tries an account all day, and its owner travels: a further finding takes as many new failures."""
    events: list[Any] = [attempt(number, "deploy", f"198.51.{number}.1") for number in range(30)]
    events += [login(100 + number, "deploy", f"203.0.{number}.5", method="password") for number in range(20)]
    assert len(of_detector(events)) == 1
    events += [attempt(200 + number, "deploy", f"198.52.{number}.1") for number in range(30)]
    first, second = of_detector([*events, login(300, "deploy", "192.0.2.5", method="password")])
    assert (first.count, second.count, second.since_us) == (30, 30, events[30].time_us)


def test_a_forged_login_hides_nothing() -> None:
    """A local user forges a login from elsewhere. The real one that follows is found."""
    events: list[Any] = [attempt(number, "deploy", f"198.51.{number}.1", is_verified=True) for number in range(30)]
    logins = [
        login(100 + number, "deploy", f"203.0.{number}.5", method="password", is_verified=number > 0) for number in range(2)
    ]
    assert [found.origin for found in of_detector([*events, *logins])] == ["unverified", "verified"]


@pytest.mark.parametrize(
    ("first", "last"),
    [
        (login(-DAY_S, "deploy", "203.0.113.5", method="password"), login(100, "deploy", "203.0.113.5", method="password")),
        (login(-DAY_S, "deploy", "203.0.113.9", method="password"), login(100, "deploy", "203.0.113.5", method="password")),
        (login(-DAY_S, "deploy", "203.0.113.5"), login(100, "deploy", "192.0.2.7")),
    ],
    ids=["the same address", "the same prefix", "by key"],
)
def test_usual_logins_during_an_attack(first: Any, last: Any) -> None:
    """A botnet tries an account for days. Its owner logs in from where they always do, or by key."""
    events = [attempt(number, "deploy", f"198.51.{number}.1") for number in range(50)]
    assert of_detector([first, *events, last]) == []


def test_mistyped() -> None:
    """A few failures are ordinary, and a login forgives them."""
    events: list[Any] = []
    for number in range(20):
        events += [*failures(5, "alice", "192.0.2.7", begin_s=number * 60), login(number * 60 + 10, method="password")]
    assert of_detector(events) == []


def test_colleagues() -> None:
    """Others fail behind the same address. Only its own failures make a login of a known account a finding."""
    first = login(0, "alice", "192.0.2.7", method="password")
    others = [attempt(10 + number, f"user{number}", "192.0.2.7") for number in range(40)]
    last = login(100, "alice", "192.0.2.7", method="password")
    assert of_detector([first, *others, last]) == []
    own = failures(10, "alice", "192.0.2.7", begin_s=60)
    (finding,) = of_detector([first, *others, *own, last])
    assert (finding.count, finding.users) == (10, ("alice",))


def test_a_login_forgives_only_its_own_failures() -> None:
    """A guesser with an account of their own cannot hide the guessing of others by logging in."""
    events = [*failures(12), login(20, "mallory", "198.51.100.9"), *failures(1, begin_s=30)]
    found = of_detector([*events, login(40, "deploy", "198.51.100.9", method="password")])
    assert [(finding.user, finding.count) for finding in found] == [("mallory", 12), ("deploy", 13)]


def test_long_ago() -> None:
    """After an hour of peace the failures do not count."""
    assert of_detector([*failures(50), login(HOUR_S + 100, "deploy", "198.51.100.9", method="password")]) == []


def test_origin() -> None:
    """A finding is as certain as its weakest event."""
    tries = [attempt(number, "deploy", is_verified=True) for number in range(12)]
    last = login(100, "deploy", "198.51.100.9", method="password", is_verified=True)
    assert [finding.origin for finding in of_detector([*tries, last])] == ["verified"]
    tries[5] = attempt(5, "deploy")
    assert [finding.origin for finding in of_detector([*tries, last])] == ["unverified"]


def test_off() -> None:
    """Empty rates turn it off."""
    off = SuccessAfterFailuresSettings(address="", prefix="", account="")
    settings = Detect(guessing=GuessingSettings(host_rule=""), success_after_failures=off)
    assert of_detector([*failures(50), login(100, "deploy", "198.51.100.9", method="password")], settings) == []
