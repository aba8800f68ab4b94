"""``consumer.detect.sshd_penalty``: penalties that matter."""

from __future__ import annotations

from typing import Any

import pytest

from consumer.actions import EventAction
from consumer.detect_settings import Detect
from tests.detector_events import DAY_S, findings_of, login, probe, trouble

REFUSED = "penalty: failed authentication"


def of_detector(events: list[Any], **settings: Any) -> list[Any]:
    """Return the findings of this detector."""
    return [finding for finding in findings_of(events, Detect(**settings)) if finding.action is EventAction.SSHD_PENALTY]


def test_often() -> None:
    """Fifty refused connections show an attacker who goes on."""
    (finding,) = of_detector([probe(number, REFUSED) for number in range(60)])
    assert (finding.address, finding.count, finding.rule, finding.severity) == ("198.51.100.9", 50, "50/1h", "low")
    assert finding.labels == {"case": "often", "reason": REFUSED}


def test_of_a_user() -> None:
    """An address from which somebody logs in is refused at all: that account is locked out."""
    events = [login(0, "alice", "192.0.2.7"), probe(60, REFUSED, "192.0.2.7"), probe(61, REFUSED, "192.0.2.7")]
    (finding,) = of_detector(events)
    assert (finding.users, finding.labels["case"], finding.last_us) == (("alice",), "user", events[1].time_us)


@pytest.mark.parametrize(
    "event",
    [
        trouble(0, "penalty", "ipv4: new 198.51.100.9/32 active penalty of 90.000 seconds for penalty: caused crash",
                address="198.51.100.9"),
        probe(0, "penalty: caused crash"),
    ],
)  # fmt: skip
def test_crash(event: Any) -> None:
    """A client that crashes sshd is no ordinary guesser."""
    (finding,) = of_detector([event])
    assert (finding.severity, finding.labels["case"]) == ("high", "crash")


def test_ordinary() -> None:
    """A few penalties for strangers, other refusals, and addresses that belonged to a user a year ago are no finding."""
    events = [login(-100 * DAY_S, "alice", "192.0.2.7"), probe(0, REFUSED, "192.0.2.7")]
    events += [probe(number, REFUSED, f"198.51.100.{number}") for number in range(200)]
    events += [probe(number, "past Maxstartups") for number in range(200)]
    assert of_detector(events) == []


def test_off() -> None:
    """An empty rate turns it off."""
    assert of_detector([probe(number, REFUSED) for number in range(60)], sshd_penalty="") == []
