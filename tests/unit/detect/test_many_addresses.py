"""``consumer.detect.many_addresses``: one account from many addresses."""

from __future__ import annotations

from typing import Any

from consumer.actions import EventAction
from consumer.detect.findings import Place
from consumer.detect_settings import Detect, GuessingSettings, ManyAddressesSettings
from tests.detector_events import HOUR_S, attempt, findings_of


def botnet(count: int, *, step_s: float = 30, prefixes: int = 250, is_valid: bool = True) -> list[Any]:
    """Return tries at one account, each from another address."""
    return [
        attempt(number * step_s, "deploy", f"198.51.{number % prefixes}.{number // prefixes + 1}", is_valid=is_valid)
        for number in range(count)
    ]


def of_detector(events: list[Any], settings: Detect | None = None, **places: Any) -> list[Any]:
    """Return the findings of this detector."""
    found = findings_of(events, settings or Detect(guessing=GuessingSettings(host_rule="")), **places)
    return [finding for finding in found if finding.action is EventAction.MANY_ADDRESSES]


def test_prefixes() -> None:
    """Thirty prefixes within an hour are a botnet, although they have fewer than fifty addresses."""
    events = botnet(60)
    (finding,) = of_detector(events)
    assert (finding.user, finding.rule, finding.count, finding.last_us) == ("deploy", "30/1h", 30, events[29].time_us)
    assert finding.labels == {"by": "prefix", "addresses": "30", "prefixes": "30"}
    assert len(finding.addresses) == 20  # EXAMPLES_LIMIT


def test_addresses() -> None:
    """Fifty addresses of a few prefixes are one, too."""
    (finding,) = of_detector(botnet(60, prefixes=3))
    assert (finding.rule, finding.labels["by"], finding.labels["prefixes"]) == ("50/1h", "address", "3")


def test_networks() -> None:
    """Fifteen AS numbers suffice."""
    (finding,) = of_detector(botnet(20), place_of=lambda address: Place(int(address.split(".")[2]), None, None, None))
    assert (finding.rule, finding.labels["by"], finding.labels["networks"]) == ("15/1h", "network", "15")


def test_too_slow() -> None:
    """An address that came more than an hour ago does not count."""
    assert of_detector(botnet(200, step_s=HOUR_S / 25)) == []


def test_unknown_accounts() -> None:
    """The whole Internet tries names that do not exist."""
    assert of_detector(botnet(200, is_valid=False)) == []


def test_few_addresses() -> None:
    """Colleagues behind a few addresses mistype their passwords."""
    assert of_detector([attempt(number, "deploy", f"192.0.2.{number % 10}") for number in range(300)]) == []


def test_off() -> None:
    """Empty rates turn it off."""
    off = ManyAddressesSettings(address="", prefix="", network="")
    assert of_detector(botnet(200), Detect(guessing=GuessingSettings(host_rule=""), many_addresses=off)) == []
