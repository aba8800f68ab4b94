"""The detectors, whatever happens: they are deterministic, survive a restart, and keep their limits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from hypothesis import strategies as st

from consumer.detect import first_seen, key_in_two_places, scanning, sshd_penalty, tries
from consumer.detect.detectors import Detectors
from consumer.detect_settings import Detect, FirstSeenSettings, ManyAccountsSettings, ManyAddressesSettings, ScanningSettings
from tests.detector_events import HOUR_S, KEY, OTHER_KEY, PLACES, attempt, findings_of, login, logout, probe, restored, trouble

if TYPE_CHECKING:
    import pytest

    from consumer.events import Event

# Small numbers, so that a few events cause findings.
SETTINGS = Detect(
    many_accounts=ManyAccountsSettings("3/1h", "4/1h"), many_addresses=ManyAddressesSettings("3/1h", "3/1h", "2/1h"),
    slow_guessing="3/2h", password_despite_key=2, sshd_penalty="2/1h",
    scanning=ScanningSettings("2/1h", "2/1h"),
    first_seen=FirstSeenSettings(["address", "network", "country", "key", "method", "host"], "1h", "9d"),
)  # fmt: skip
USERS = st.sampled_from(["root", "alice", "bob", "", "new\nline", "b\u00fc"])
ADDRESSES = st.sampled_from([*PLACES, "2001:db8::7", "2001:db8::8", "gate.example.net", "UNKNOWN"])
HOSTS = st.sampled_from(["web1", "web2"])


@st.composite
def event_lists(draw: st.DrawFn) -> list[Any]:
    """Return events, most of them in the order of their times."""
    events: list[Any] = []
    at_s = 0.0
    for _ in range(draw(st.integers(1, 60))):
        at_s += draw(st.sampled_from([0, 1, 1, 30, 600, 2 * HOUR_S, 30 * HOUR_S, -2, -HOUR_S]))
        user, address, host = draw(USERS), draw(ADDRESSES), draw(HOSTS)
        kind = draw(st.integers(0, 10))
        if kind < 5:
            events.append(attempt(at_s, user, address, host=host, count=draw(st.sampled_from([1, 1, 4])),
                                  is_valid=draw(st.booleans()), is_verified=draw(st.booleans())))  # fmt: skip
        elif kind < 8:
            method, key = draw(st.sampled_from([("publickey", KEY), ("publickey", OTHER_KEY), ("password", None)]))
            events.append(login(at_s, user, address, method=method, key=key, host=host))
        elif kind == 8:
            logins = [event for event in events if str(event.action) == "ssh_login"]
            events.append(logout(at_s, draw(st.sampled_from(logins))) if logins else probe(at_s, "penalty: x", address))
        elif kind == 9:
            fault = draw(st.sampled_from(["", "bad_version", "banner_exchange"]))
            events.append(probe(at_s, "text", address, fault=fault, host=host))
        else:
            events.append(trouble(at_s, draw(st.sampled_from(["penalty", "bad_modes", "key_revoked"])), "text", user=user,
                                  address=address))  # fmt: skip
    return events


@given(event_lists())
@settings(deadline=None)
def test_deterministic(events: list[Any]) -> None:
    """The same events give the same findings, with the same ids, and times that are in order."""
    found = findings_of(events, SETTINGS, PLACES.get)
    assert found == findings_of(events, SETTINGS, PLACES.get)
    assert all(finding.id and finding.event_ids for finding in found)
    for finding in found:
        assert finding.since_us <= finding.last_us


@given(event_lists(), st.data())
@settings(deadline=None)
def test_a_restart_changes_nothing(events: list[Any], data: st.DataObject) -> None:
    """A snapshot in the middle, and one more of what has changed since, give the same findings as an undisturbed run."""
    expected = findings_of(events, SETTINGS, PLACES.get)
    place = data.draw(st.integers(0, len(events)))
    found: list[Event] = []
    detectors = Detectors(SETTINGS, found.append, place_of=PLACES.get)
    for event in events[:place]:
        detectors.take(event)
    detectors = restored(detectors, found, SETTINGS, PLACES.get)
    for event in events[place:]:
        detectors.take(event)
    assert found == expected


@given(event_lists())
@settings(deadline=None)
def test_a_partial_snapshot_is_enough(events: list[Any]) -> None:
    """Each snapshot has only the parts that have changed, and all of them together are the whole memory."""
    parts: dict[str, Any] = {}
    detectors = Detectors(SETTINGS, lambda _event: None, place_of=PLACES.get)
    for event in events:
        detectors.take(event)
        parts |= {name: list(pieces) for name, pieces in detectors.changed()}
        detectors.kept()
    detectors.forget_snapshot()
    whole = {name: list(pieces) for name, pieces in detectors.changed()}
    assert {name: pieces for name, pieces in parts.items() if pieces} == {
        name: pieces for name, pieces in whole.items() if pieces and (name in parts or "ssh_block" not in name)
    }


@given(event_lists(), st.integers(0, 59))
@settings(deadline=None)
def test_neighbours_in_another_order(events: list[Any], place: int) -> None:
    """Events of two hosts that overtake each other within seconds are no fault, whatever they are."""
    swapped = [*events]
    if place + 1 < len(swapped):
        swapped[place], swapped[place + 1] = swapped[place + 1], swapped[place]
    for finding in findings_of(swapped, SETTINGS, PLACES.get):
        assert finding.since_us <= finding.last_us


def test_two_guessers_out_of_order() -> None:
    """Tries of a sprayer that arrive in another order within a second are the same finding about the same address."""
    tries_ = [attempt(number / 10, f"user{number}") for number in range(3)]
    for order in ([0, 1, 2], [1, 0, 2], [2, 1, 0]):
        found = findings_of([tries_[number] for number in order], SETTINGS)
        assert {(str(each.action), each.address, frozenset(each.users)) for each in found if each.action == "many_accounts"} == {
            ("many_accounts", "198.51.100.9", frozenset({"user0", "user1", "user2"}))
        }


def test_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flood of addresses and names leaves each table at its limit, and the newest entries are still there."""
    for module, name in (
        (tries, "TRIES_ADDRESS_LIMIT"), (tries, "TRIES_PREFIX_LIMIT"), (tries, "TRIES_ACCOUNT_LIMIT"),
        (first_seen, "HABITS_LIMIT"), (key_in_two_places, "OPEN_KEYS_LIMIT"), (sshd_penalty, "PENALTY_ADDRESS_LIMIT"),
        (scanning, "SCANNER_LIMIT"), (scanning, "SCANNER_LOGIN_LIMIT"),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, 50)
    detectors = Detectors(Detect(), lambda _event: None, place_of=PLACES.get)
    for number in range(2000):
        address = f"198.{number // 250}.{number % 250}.7"
        detectors.take(attempt(number, f"user{number}", address))
        detectors.take(probe(number, "2 vs. 1", address, fault="bad_version"))
        detectors.take(login(number, f"user{number}", address, key=f"ED25519 SHA256:{number}"))
    memory: Any = detectors._by_name
    assert len(memory["tries"].sources) <= 50
    assert len(memory["tries"].prefixes) == len(memory["tries"].accounts) == 50
    assert len(memory["first_seen"]._accounts) == len(memory["key_in_two_places"]._keys) == 50
    assert len(memory["scanning"]._addresses) == len(memory["scanning"]._logins) == 50
    assert memory["first_seen"]._accounts.get("user1999\0unverified") is not None
    assert memory["first_seen"]._accounts.get("user0") is None
