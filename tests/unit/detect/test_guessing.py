"""``consumer.detect.guessing``: pam_abl's rules over the attempts of a log."""

from __future__ import annotations

import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.actions import EventAction
from consumer.detect.detectors import Detectors
from consumer.detect.guessing import GUESSER_LIMIT, WIDEN_AT, Guessing
from consumer.detect_settings import Detect
from consumer.detect_settings import GuessingSettings as Settings
from consumer.events import Attempt, Finding
from consumer.records import PROGRAM, TIME, TRUSTED, Line
from tests.store_events import START_US, events_of, session_lines, try_line

(TRY,) = events_of(try_line(7))
assert isinstance(TRY, Attempt)
START_S = START_US // 1_000_000


def tried(
    at_s: int, address: str | None = "198.51.100.9", user: str | None = "root", count: int = 1, *, is_verified: bool = True
) -> Attempt:
    """Return a try, so many seconds after the start."""
    values = list(TRY.line)
    values[TIME], values[TRUSTED] = (START_S + at_s) * 1_000_000, (0, "") if is_verified else None
    line: Line = Line(values)
    return Attempt(f"{at_s:032}", line, user, address, "5", "password", count=count)


def found(detector: Guessing, *attempts: Attempt) -> list[Finding]:
    """Return the findings about some tries."""
    return [finding for attempt in attempts for finding in detector.take(attempt)]


def of_rule(host_rule: str = "", **settings: object) -> Guessing:
    """Return a detector with a rule for hosts alone."""
    return Guessing(msgspec.convert({"host_rule": host_rule, **settings}, Settings))


def test_a_finding_when_it_begins() -> None:
    """The third of three tries within a minute is the finding; no other follows while it goes on."""
    detector = of_rule("*:3/1m")
    attempts = [tried(at_s) for at_s in (0, 30, 61, 62, 63, 64)]
    (finding,) = found(detector, *attempts)
    assert finding.line == attempts[3].line
    assert (finding.action, finding.rule, finding.count, finding.origin) == (EventAction.GUESSING, "3/1m", 3, "verified")
    assert (finding.since_us, finding.last_us) == ((START_S + 30) * 1_000_000, (START_S + 62) * 1_000_000)
    assert (finding.users, finding.addresses, finding.labels) == (("root",), ("198.51.100.9",), {"by": "host", "users": "one"})


def test_it_ends_and_begins_again() -> None:
    """After a pause the address is clear, so the next guessing is another finding."""
    detector = of_rule("*:3/1m")
    findings = found(detector, *[tried(at_s) for at_s in (0, 1, 2, 200, 201, 202)])
    assert [finding.time_us // 1_000_000 - START_S for finding in findings] == [2, 202]
    assert len({finding.id for finding in findings}) == 2


def test_at_the_edge_of_a_period() -> None:
    """A try exactly one period ago counts, as in pam_abl."""
    assert len(found(of_rule("*:2/60"), tried(0), tried(60))) == 1
    assert found(of_rule("*:2/60"), tried(0), tried(61)) == []


def test_by_user() -> None:
    """``user_rule`` counts the tries at an account from all addresses; "!" exempts an account."""
    detector = Guessing(Settings(host_rule="", user_rule="!root:3/1m"))
    attempts = [tried(at_s, f"192.0.2.{at_s}", user) for at_s, user in enumerate(["alice", "root"] * 3)]
    (finding,) = found(detector, *attempts)
    assert (finding.user, finding.labels) == ("alice", {"by": "user", "users": "one"})


def test_services() -> None:
    """A rule for a service is tested at a try there, but the tries at all services count, as in pam_abl."""
    detector = of_rule("*/dropbear:3/1m")
    assert found(detector, tried(0), tried(1), tried(2), tried(3)) == []
    values = list(tried(4).line)
    values[PROGRAM] = "dropbear"
    assert len(found(detector, msgspec.structs.replace(tried(4), line=Line(values)))) == 1
    assert found(of_rule("*/sshd:1/1m", host_whitelist=["198.51.100.9"]), tried(0)) == []


def test_repeated_lines() -> None:
    """One line that stands for several tries counts as often."""
    (finding,) = found(of_rule("*:5/1m"), tried(0, count=4), tried(1))
    assert finding.time_us == (START_S + 1) * 1_000_000
    assert len(found(of_rule("*:5/1m"), tried(0, count=1_000_000_000))) == 1


def test_what_does_not_count() -> None:
    """A login and its end record nothing, and neither does a try without an address or a user."""
    detector = Guessing(Settings(host_rule="*:1/1m", user_rule="*:1/1m"))
    assert detector.takes == (Attempt,)
    assert found(detector, tried(0, None, None)) == []
    assert found(detector, tried(0, "", "")) == []
    assert found(detector, tried(-START_S), tried(-START_S - 1)) == []


def test_success_forgives_nothing() -> None:
    """A login between the tries changes nothing: pam_abl records a success as nothing at all."""
    findings: list[Finding] = []
    detectors = Detectors(Detect(guessing=Settings(host_rule="*:3/1h")), findings.append)
    login, _logout = events_of(*session_lines(9, address="198.51.100.9"))
    for event in (tried(0), tried(1), login, tried(2)):
        assert findings == []
        detectors.take(event)
    assert len(findings) == 1


@pytest.mark.parametrize("entry", ["198.51.100.9", "198.51.100.0/24"])
def test_whitelist(entry: str) -> None:
    """The tries of an address on the whitelist do not count; with a new whitelist, an old state does not either."""
    assert found(of_rule("*:1/1m", host_whitelist=[entry]), tried(0)) == []
    before = of_rule("*:1/1m")
    assert len(found(before, tried(0))) == 1
    after = of_rule("*:1/1m", host_whitelist=[entry])
    for name, body in before.changed():
        after.restore(name, body)
    assert not after.is_guessing("198.51.100.9", "sshd", START_S)
    assert before.is_guessing("198.51.100.9", "sshd", START_S)


def test_purge() -> None:
    """A purge time shorter than the period drops older tries."""
    assert len(found(of_rule("*:2/1d"), tried(0), tried(7200))) == 1
    assert found(of_rule("*:2/1d", host_purge="1h"), tried(0), tried(7200)) == []


def test_limits() -> None:
    """Beyond HIGH tries an entry keeps the newest LOW; so with LOW below the count, guessing ends, as in pam_abl."""
    detector = of_rule("*:4/1h", limits="2-5")
    findings = found(detector, *[tried(at_s) for at_s in range(9)])
    assert [finding.time_us // 1_000_000 - START_S for finding in findings] == [3, 7]


def test_out_of_order() -> None:
    """Lines that come late count at their own time; tries of a clock that is ahead by more than a period do not."""
    assert len(found(of_rule("*:3/1m"), tried(90), tried(200), tried(160), tried(170))) == 1
    assert found(of_rule("*:3/1m"), tried(90), tried(200), tried(160)) == []
    assert len(found(of_rule("*:3/1m"), tried(100), tried(130), tried(90))) == 1
    assert found(of_rule("*:2/1m"), tried(1000), tried(0), tried(1061)) == []


def test_unverified_lines() -> None:
    """A finding that needs an unverified line is unverified. Once the verified ones alone fit the rule, another one follows."""
    detector = of_rule("*:3/1m")
    origins = [(False, None), (True, None), (True, "unverified"), (True, "verified"), (True, None), (False, None)]
    for at_s, (is_verified, origin) in enumerate(origins):
        assert [finding.origin for finding in found(detector, tried(at_s, is_verified=is_verified))] == [origin] * bool(origin)


def test_ipv6_counts_by_network() -> None:
    """All addresses of a /64 are one client. A link-local address is its own, for its /64 is the same everywhere."""
    detector = of_rule("*:3/1m")
    (finding,) = found(detector, *[tried(at_s, f"2001:db8::{at_s}:1") for at_s in range(3)])
    assert finding.labels == {"by": "host", "users": "one", "network": "2001:db8::/64"}
    assert found(detector, *[tried(at_s, f"fe80::{at_s}%eth0") for at_s in range(3)]) == []
    assert detector.is_guessing("2001:db8::ffff", "sshd", START_S)
    assert not detector.is_guessing("2001:db8:0:1::", "sshd", START_S)


def test_mapped_addresses() -> None:
    """An IPv4 address in IPv6 form is the IPv4 address."""
    assert len(found(of_rule("*:2/1m"), tried(0), tried(1, "::ffff:198.51.100.9"))) == 1


def test_ipv6_widens() -> None:
    """Several guessing /64s of a /56 make the /56 guess, and several such /56s the /48."""
    detector = of_rule("*:1/1h")
    networks = []
    for part in range(WIDEN_AT):
        for number in range(WIDEN_AT):
            findings = found(detector, tried(part, f"2001:db8:0:{part:02x}{number:02x}::1"))
            networks += [finding.labels["network"] for finding in findings if not finding.labels["network"].endswith("/64")]
    assert networks == [
        "2001:db8::/56", "2001:db8:0:100::/56", "2001:db8:0:200::/56", "2001:db8::/48", "2001:db8:0:300::/56",
    ]  # fmt: skip


def test_ipv6_does_not_widen_over_days() -> None:
    """A /64 that guessed long ago counts no more."""
    detector = of_rule("*:1/1h")
    findings = found(detector, *[tried(number * 4000, f"2001:db8:0:{number}::1") for number in range(10)])
    assert {finding.labels["network"][-3:] for finding in findings} == {"/64"}


attempts = st.lists(
    st.tuples(st.integers(0, 400), st.sampled_from(["192.0.2.1", "192.0.2.2", "2001:db8::1"]), st.booleans(), st.integers(1, 3)),
    max_size=40,
)


@given(attempts, st.integers(0, 40))
def test_restart(tries: list[tuple[int, str, bool, int]], at: int) -> None:
    """A snapshot at any place makes no difference."""
    events = [tried(at_s, address, count=count, is_verified=verified) for at_s, address, verified, count in sorted(tries)]
    settings = Settings(host_rule="*:4/1m,6/5m", user_rule="*:8/2m")
    whole = found(Guessing(settings), *events)
    first, second = Guessing(settings), Guessing(settings)
    before = found(first, *events[:at])
    for name, body in first.changed():
        second.restore(name, body)
    assert before + found(second, *events[at:]) == whole


@given(attempts)
def test_by_definition(tries: list[tuple[int, str, bool, int]]) -> None:
    """A state is what the rule says about all tries so far: as many as the count, within the period that ends now."""
    detector = of_rule("*:4/1m,6/5m")
    times: dict[str, list[int]] = {}
    for at_s, address, verified, count in sorted(tries):
        found(detector, tried(at_s, address, count=count, is_verified=verified))
        times.setdefault(address, []).extend([at_s] * count)
        for each, known in times.items():
            is_guessing = sum(at >= at_s - 60 for at in known) >= 4 or sum(at >= at_s - 300 for at in known) >= 6
            assert detector.is_guessing(each, "sshd", START_S + at_s) is is_guessing


def test_the_oldest_address_goes_first() -> None:
    """Its memory has a limit: an address of long ago is forgotten, one of now is not."""
    detector = of_rule("*:2/1d")
    numbers = random.Random(7).sample(range(1 << 32), GUESSER_LIMIT // 20)  # noqa: S311
    detector._hosts.table._limit = 20_000
    for at_s, number in enumerate(numbers):
        address = ".".join(str(number >> shift & 255) for shift in (24, 16, 8, 0))
        assert found(detector, tried(at_s // 1000, address)) == []
    assert len(detector._hosts.table) == 20_000
    last = ".".join(str(numbers[-1] >> shift & 255) for shift in (24, 16, 8, 0))
    first = ".".join(str(numbers[0] >> shift & 255) for shift in (24, 16, 8, 0))
    assert len(found(detector, tried(60, last))) == 1
    assert found(detector, tried(60, first)) == []
