"""``consumer.detect.slow_guessing``: a guesser who has time."""

from __future__ import annotations

from typing import Any

from consumer.actions import EventAction
from consumer.detect_settings import Detect, GuessingSettings
from tests.detector_events import DAY_S, HOUR_S, attempt, findings_of, login


def of_detector(events: list[Any], settings: Detect | None = None) -> list[Any]:
    """Return the findings of this detector; of all others, only those of ``many_...`` may come, too."""
    found = findings_of(events, settings or Detect(guessing=GuessingSettings(host_rule="")))
    return [finding for finding in found if finding.action is EventAction.SLOW_GUESSING]


def slow(days: int, *, step_s: float = HOUR_S, begin_s: float = 0) -> list[Any]:
    """Return a try in each step."""
    return [attempt(begin_s + at_s, "root") for at_s in range(0, days * DAY_S, round(step_s))]


def test_days() -> None:
    """A try an hour for three days is a finding, once a day."""
    events = slow(5)
    first, second = of_detector(events)
    assert (first.address, first.rule, first.count) == ("198.51.100.9", "50/3d", 73)
    assert first.since_us == events[0].time_us
    assert second.last_us - first.last_us == DAY_S * 1_000_000


def test_a_burst_does_not_count() -> None:
    """Hundreds of tries within a minute are another detector's; the next days have to show that the guesser goes on."""
    burst = [attempt(number / 10, "root") for number in range(500)]
    assert of_detector([*burst, *(attempt(day * DAY_S * 0.9, "root") for day in range(1, 30))]) == []


def test_a_pause() -> None:
    """After a pause of a day, counting begins again."""
    assert of_detector(slow(2) + slow(2, begin_s=4 * DAY_S)) == []


def test_a_person() -> None:
    """Who mistypes a password every hour logs in at last."""
    events: list[Any] = []
    for hour in range(200):
        events += [attempt(hour * HOUR_S, "alice", "192.0.2.7"), login(hour * HOUR_S + 20, "alice", "192.0.2.7")]
    assert of_detector(events) == []


def test_known_networks() -> None:
    """An office of many people fails every hour."""
    settings = Detect(guessing=GuessingSettings(host_rule=""), known_networks=["198.51.100.0/24"])
    assert of_detector(slow(9), settings) == []


def test_off() -> None:
    """An empty rate turns it off."""
    assert of_detector(slow(9), Detect(guessing=GuessingSettings(host_rule=""), slow_guessing="")) == []
