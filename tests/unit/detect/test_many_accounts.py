"""``consumer.detect.many_accounts``: one address over many accounts."""

from __future__ import annotations

from typing import Any

from consumer.actions import EventAction
from consumer.detect_settings import Detect, GuessingSettings, ManyAccountsSettings
from tests.detector_events import DAY_S, HOUR_S, attempt, findings_of


def spray(count: int, *, step_s: float = 60, address: str = "198.51.100.9", begin_s: float = 0) -> list[Any]:
    """Return tries at different accounts from one address."""
    return [attempt(begin_s + number * step_s, f"user{number}", address, is_valid=False) for number in range(count)]


def of_detector(events: list[Any], settings: Detect | None = None) -> list[Any]:
    """Return the findings of this detector."""
    found = findings_of(events, settings or Detect(guessing=GuessingSettings(host_rule="")))
    return [finding for finding in found if finding.action is EventAction.MANY_ACCOUNTS]


def test_one_address() -> None:
    """The tenth account within an hour is a finding, which names the accounts, the time and the events."""
    events = spray(15)
    (finding,) = of_detector(events)
    assert (finding.user, finding.address, finding.count, finding.rule) == ("user9", "198.51.100.9", 10, "10/1h")
    assert (finding.since_us, finding.last_us) == (events[0].time_us, events[9].time_us)
    assert set(finding.users) == {f"user{number}" for number in range(10)}
    assert finding.event_ids == tuple(event.id for event in events[:10])
    assert finding.labels == {"by": "address"}
    assert finding.origin == "unverified"


def test_again_the_next_day() -> None:
    """A long attack is reported once a day."""
    found = of_detector(spray(10) + spray(10, begin_s=HOUR_S * 2) + spray(10, begin_s=DAY_S + HOUR_S))
    assert len(found) == 2


def test_too_slow() -> None:
    """Accounts that came more than an hour ago do not count."""
    assert of_detector(spray(30, step_s=HOUR_S / 8)) == []


def test_one_account() -> None:
    """Many tries at few accounts are no spraying."""
    assert of_detector([attempt(number, f"user{number % 9}") for number in range(200)]) == []


def test_prefix() -> None:
    """Many addresses of a /24, each with few accounts, are one sprayer."""
    events = [attempt(number, f"user{number}", f"198.51.100.{number % 6}", is_valid=False) for number in range(40)]
    (finding,) = of_detector(events)
    assert finding.labels == {"by": "prefix", "prefix": "198.51.100.0/24"}
    assert finding.count == 30
    assert len(finding.addresses) == 6


def test_prefix_of_ipv6() -> None:
    """A sprayer takes another address of its /48 for each try."""
    events = [attempt(number, f"user{number}", f"2001:db8:0:{number:x}::1", is_valid=False) for number in range(31)]
    (finding,) = of_detector(events)
    assert finding.labels["prefix"] == "2001:db8::/48"


def test_known_networks() -> None:
    """An office is no sprayer."""
    settings = Detect(guessing=GuessingSettings(host_rule=""), known_networks=["198.51.100.0/24"])
    assert of_detector(spray(50), settings) == []


def test_verified() -> None:
    """A finding is verified only if all of its tries are."""
    events = [attempt(number, f"user{number}", is_verified=True) for number in range(10)]
    assert [finding.origin for finding in of_detector(events)] == ["verified"]
    events[3] = attempt(3, "user3", is_verified=False)
    assert [finding.origin for finding in of_detector(events)] == ["unverified"]


def test_off() -> None:
    """Empty rates turn it off."""
    settings = Detect(guessing=GuessingSettings(host_rule=""), many_accounts=ManyAccountsSettings(address="", prefix=""))
    assert of_detector(spray(50), settings) == []
