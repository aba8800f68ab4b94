"""``consumer.detect.scanning``: scanners, and monitors that are none."""

from __future__ import annotations

from typing import Any

import pytest

from consumer.actions import EventAction
from consumer.detect_settings import Detect, ScanningSettings
from tests.detector_events import DAY_S, HOUR_S, MINUTE_S, findings_of, login, probe

SPOKEN = [("2 vs. 1", "bad_version"), ("invalid format", "banner_exchange")]
LEFT = [
    (None, ""), ("timeout", ""), ("Connection closed by remote host", "bad_banner"),
    ("read: Connection reset by peer", "bad_banner"), (None, "no_identification"),
]  # fmt: skip


def of_detector(events: list[Any], **settings: Any) -> list[Any]:
    """Return the findings of this detector."""
    return [finding for finding in findings_of(events, Detect(**settings)) if finding.action is EventAction.SCANNING]


def scan(count: int, *, begin_s: float = 0, step_s: float = 10, host: str = "web1") -> list[Any]:
    """Return connections of one address that speak wrongly, in two ways in turn."""
    return [
        probe(begin_s + number * step_s, reason, fault=fault, host=host)
        for number in range(count)
        for reason, fault in [SPOKEN[number % 2]]
    ]


def test_wrong_in_several_ways() -> None:
    """Five connections that speak wrongly in two ways are a finding, once, however long the scan lasts."""
    events = scan(2000)
    (found,) = of_detector(events)
    assert (found.address, found.rule, found.count, found.severity) == ("198.51.100.9", "5/1h", 5, "low")
    assert (found.labels, found.since_us, found.last_us) == (
        {"by": "faults", "kinds": "2"}, events[0].time_us, events[4].time_us,
    )  # fmt: skip
    assert of_detector(scan(4)) == []
    assert of_detector(scan(500, step_s=HOUR_S)) == []


def test_many_hosts() -> None:
    """Ten hosts in an hour, each only once, and however the connection ends."""
    events = [probe(number, None, host=f"web{number}") for number in range(300)]
    (found,) = of_detector(events)
    assert (found.count, found.rule, len(found.hosts)) == (10, "10/1h", 10)
    assert found.labels == {"by": "hosts"}
    assert of_detector([probe(number * HOUR_S / 8, None, host=f"web{number}") for number in range(300)]) == []


@pytest.mark.parametrize("case", [[each] for each in (*LEFT, *SPOKEN)] + [LEFT], ids=str)
def test_monitors(case: list[tuple[str | None, str]]) -> None:
    """Monitoring connects to some hosts every minute, for days: it leaves in any way, or always fails in the same way."""
    events = [
        probe(minute * MINUTE_S, *case[minute % len(case)][:1], fault=case[minute % len(case)][1], host=f"web{host}")
        for minute in range(3 * 1440)
        for host in range(9)
    ]
    assert of_detector(events) == []


def test_a_monitor_of_many_hosts() -> None:
    """It is reported on its first day alone, or never if its network is known."""
    events = [probe(minute * MINUTE_S, None, host=f"web{minute % 20}") for minute in range(5 * 1440)]
    assert len(of_detector(events)) == 1
    assert of_detector(events, known_networks=["198.51.100.0/24"]) == []


def test_users() -> None:
    """An address from which somebody logs in does not scan, whatever its clients do: an administrator runs ssh-keyscan."""
    events = [probe(1 + number, None, host=f"web{number}") for number in range(300)]
    assert of_detector([login(0, address="198.51.100.9"), *events, *scan(20, begin_s=500)]) == []
    assert len(of_detector([login(-91 * DAY_S, address="198.51.100.9"), *events])) == 1


def test_again_after_a_pause() -> None:
    """A scanner that comes back after a day is another finding; one that goes on is not."""
    assert len(of_detector([*scan(5), *scan(5, begin_s=2 * DAY_S)])) == 2
    assert len(of_detector([*scan(5), *scan(5, begin_s=0.9 * DAY_S), *scan(5, begin_s=1.8 * DAY_S)])) == 1


def test_off() -> None:
    """An empty rate turns either rule off."""
    events = scan(20) + [probe(300 + number, None, host=f"web{number}") for number in range(20)]
    assert of_detector(events, scanning=ScanningSettings(faults="", hosts="")) == []
    assert [each.labels["by"] for each in of_detector(events, scanning=ScanningSettings(faults=""))] == ["hosts"]
