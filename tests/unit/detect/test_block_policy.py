"""``consumer.detect.block_policy``: what is blocked for how long, and that nobody is locked out."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.config import Allow, Blocking
from consumer.detect.block_policy import DECAY_US, Refusal
from consumer.detect.detectors import Detectors
from consumer.detect_settings import Detect, GuessingSettings
from consumer.events import Attempt, Block, Event, Login, Logout
from consumer.records import TIME, TRUSTED, Line
from tests.store_events import START_US, events_of, session_lines, try_line

(TRY,) = events_of(try_line(7))
LOGIN, LOGOUT = events_of(*session_lines(9))
SECOND_US, HOUR_US = 1_000_000, 3600 * 1_000_000
GUESSER = "198.51.100.9"


def line_at(at_s: float, *, is_verified: bool = True) -> Line:
    """Return a line so many seconds after the start."""
    values: list[Any] = list(TRY.line)
    values[TIME], values[TRUSTED] = START_US + round(at_s * SECOND_US), (0, "") if is_verified else None
    return Line(values)


def tried(at_s: float, address: str | None = GUESSER, user: str = "root", *, is_verified: bool = True) -> Attempt:
    """Return a try."""
    return Attempt(f"try {at_s} {address} {user}", line_at(at_s, is_verified=is_verified), user, address, "5", "password")


def login(at_s: float, address: str, user: str = "alice") -> Login:
    """Return a login."""
    return Login(f"login {at_s} {address}", line_at(at_s), user, address, "5", "password")


def logout(at_s: float, of: Login) -> Logout:
    """Return the end of a login."""
    return Logout(f"logout {at_s}", line_at(at_s), of.user, of.address, "5", of, START_US + round(at_s * SECOND_US))


class Run:
    """The detectors with the policy behind them; three tries within a minute are guessing."""

    def __init__(self, *, user_rule: str = "", **settings: Any) -> None:
        self.found: list[Event] = []
        block = Blocking(**{"mode": "on", **settings})
        detect = Detect(guessing=GuessingSettings(host_rule="*:3/1m", user_rule=user_rule))
        self.detectors = Detectors(detect, self.found.append, block)

    def feed(self, *events: Event) -> list[Block]:
        """Feed events; return the blocks that they cause."""
        before = len(self.found)
        for event in events:
            self.detectors.take(event)
        return [found for found in self.found[before:] if isinstance(found, Block)]

    def guesses(self, at_s: float, address: str | None = GUESSER, user: str = "root", **known: Any) -> list[Block]:
        """Feed three tries at once."""
        return self.feed(*[tried(at_s + number / 10, address, user, **known) for number in range(3)])


def test_a_block() -> None:
    """The block follows the finding, names it, and lasts as long as configured."""
    run = Run(duration="2h")
    (block,) = run.guesses(0)
    finding, last = run.found
    assert last is block
    assert (block.target, block.is_user, block.address, block.user) == (GUESSER, False, GUESSER, None)
    assert (block.finding_id, block.step, block.is_dry_run) == (finding.id, 0, False)
    assert block.until_us == block.time_us + 2 * HOUR_US
    assert block.id not in {"", finding.id}
    (again,) = Run(duration="2h").guesses(0)
    assert again == block


@pytest.mark.parametrize(("mode", "count", "is_dry_run"), [("off", 0, None), ("dry-run", 1, True), ("on", 1, False)])
def test_modes(mode: str, count: int, is_dry_run: bool | None) -> None:  # noqa: FBT001 - a value of the table
    """Off means no block at all, and a dry run says that it is one."""
    blocks = Run(mode=mode).guesses(0)
    assert [block.is_dry_run for block in blocks] == [is_dry_run] * count


def test_a_network() -> None:
    """Of IPv6, the network is blocked that counts as one client."""
    (block,) = Run().feed(*[tried(number, f"2001:db8::{number}:1") for number in range(3)])
    assert block.target == "2001:db8::/64"


def test_a_user() -> None:
    """``user_rule`` blocks the user, whatever his addresses; guard excepts those of his last logins."""
    run = Run(user_rule="!root:3/1m")
    blocks = run.feed(login(0, "192.0.2.1"), *[tried(1 + number, f"203.0.113.{number}", "alice") for number in range(3)])
    assert [(block.target, block.is_user, block.user, block.address) for block in blocks] == [("alice", True, "alice", None)]


@pytest.mark.parametrize(
    ("address", "refusal"),
    [
        ("127.0.0.1", "loopback"), ("::1", "loopback"), ("::ffff:127.0.0.1", "loopback"), ("gate.example.org", "no_target"),
        ("UNKNOWN", "no_target"), ("0.0.0.0", "no_target"), ("192.0.2.77", "allowed"), ("2001:db8:0:1::9", "allowed"),  # noqa: S104
    ],
)  # fmt: skip
def test_never(address: str, refusal: str) -> None:
    """Loopback, what is no address, and the allow list: also a network that contains an entry of it, or lies within one."""
    run = Run(allow=[Allow(address="192.0.2.0/24"), Allow(address="2001:db8:0:1::8")])
    assert run.guesses(0, address) == []
    assert run.detectors.refused == {refusal: 1}


def test_unverified_lines_block_nobody() -> None:
    """Tries that any local user could have written are a finding, and no block; neither are they with two verified ones."""
    run = Run()
    assert run.guesses(0, is_verified=False) == []
    assert run.feed(tried(1), tried(2)) == []
    assert run.detectors.refused == {"unverified": 1}
    assert len(run.feed(tried(3))) == 1


def test_a_live_session() -> None:
    """An address from which somebody is logged in is not blocked, even if the login is none of the last good ones."""
    run = Run(known_logins=0)
    first, second = login(0, GUESSER), login(1, GUESSER, "bob")
    assert run.feed(first, second, logout(2, first)) == []
    assert run.guesses(3) == []
    assert run.detectors.refused == {"live_session": 1}
    assert run.feed(logout(4, second)) == []
    assert len(run.guesses(1000)) == 1


def test_a_session_without_an_end() -> None:
    """Its end was lost, so after a month it counts no more."""
    run = Run(known_logins=0)
    run.feed(login(0, GUESSER))
    assert len(run.guesses(31 * 86_400)) == 1


def test_known_addresses() -> None:
    """The addresses of the last good logins are not blocked; older ones are, and so are those beyond the number."""
    run = Run(known_logins=2, known_for="1d")
    for number in range(3):
        opened = login(number, f"192.0.2.{number}")
        run.feed(opened, logout(number, opened))
    assert [len(run.guesses(10, f"192.0.2.{number}")) for number in range(3)] == [1, 0, 0]
    assert len(run.guesses(2 * 86_400, "192.0.2.2")) == 1


def test_logins_before_blocking_is_on() -> None:
    """Sessions and logins of the time in which blocking was off count, too."""
    run = Run(mode="off")
    run.feed(login(0, GUESSER))
    run.detectors.configure(run.detectors.settings, Blocking(mode="on"))
    assert run.guesses(10) == []
    assert len(run.guesses(10, "203.0.113.5")) == 1


def test_a_network_with_a_known_address() -> None:
    """A network is not blocked if a known address lies in it."""
    run = Run()
    run.feed(login(0, "2001:db8::77"))
    assert run.feed(*[tried(1 + number, f"2001:db8::{number}:1") for number in range(3)]) == []


def test_growth() -> None:
    """Each further block is longer, up to the limit; for each quiet day it is a step shorter."""
    run = Run(duration="1h", growth=3, longest="5h")
    lengths = []
    at_s = 0.0
    for _ in range(4):
        (block,) = run.guesses(at_s)
        lengths.append((block.step, (block.until_us - block.time_us) // HOUR_US))
        at_s = (block.until_us - START_US) / SECOND_US + 100
    assert lengths == [(0, 1), (1, 3), (2, 5), (3, 5)]
    (block,) = run.guesses(at_s + 2 * DECAY_US / SECOND_US)
    assert block.step == 2
    (block,) = run.guesses(at_s + 90 * DECAY_US / SECOND_US)
    assert block.step == 0


def test_no_block_while_blocked() -> None:
    """A finding about what is blocked already changes nothing."""
    run = Run()
    assert len(run.guesses(0)) == 1
    assert run.guesses(200) == []
    assert run.detectors.refused == {"blocked": 1}


def test_a_guesser_who_goes_on() -> None:
    """Without a pause there is no further finding; a try after the end of the block causes the next one."""
    run = Run()
    (first,) = run.guesses(0)
    blocks = run.feed(*[tried(10 + number * 20) for number in range(200)])
    assert [(block.step, block.finding_id) for block in blocks] == [(1, first.finding_id)]
    assert blocks[0].time_us >= first.until_us
    assert run.feed(tried(100_000)) == []


@pytest.mark.parametrize(
    ("tried_user", "user", "address", "step"),
    [
        ("alice", "alice", GUESSER, 0),
        ("alice", "bob", GUESSER, 1),
        ("root", "alice", GUESSER, 1),
        ("alice", "alice", "192.0.2.5", 1),
    ],
)
def test_forgiving(tried_user: str, user: str, address: str, step: int) -> None:
    """A login forgives the same user at the same address alone, and only if all tries were at that user."""
    run = Run(known_logins=0)
    run.guesses(0, user="alice")
    if tried_user != "alice":
        run = Run(known_logins=0)
        run.feed(tried(0, user=tried_user), tried(0, user="alice"), tried(0, user="alice"))
    opened = login(4000, address, user)
    run.feed(opened, logout(4001, opened))
    (block,) = run.guesses(5000)
    assert block.step == step


def test_a_restart() -> None:
    """Sessions, logins and earlier blocks survive a restart."""
    first, second = Run(), Run()
    first.feed(login(0, "192.0.2.1"))
    first.guesses(0)
    for name, pieces in first.detectors.changed():
        if body := list(pieces):
            second.detectors.restore(name, body)
    assert second.guesses(10, "192.0.2.1") == []
    assert second.guesses(200) == []
    assert [block.step for block in second.guesses(4000)] == [1]


ADDRESSES = ["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2", "2001:db8:0:1::1", "127.0.0.1", "203.0.113.5"]
steps = st.lists(
    st.tuples(st.sampled_from(["try", "login", "logout"]), st.sampled_from(ADDRESSES), st.integers(0, 90), st.booleans()),
    max_size=60,
)


@given(steps, st.sampled_from(["", "*:4/2m"]))
def test_nobody_is_locked_out(done: list[tuple[str, str, int, bool]], user_rule: str) -> None:
    """Whatever happens in whatever order: no block holds an address with a session or of a good login, loopback or the list."""
    run = Run(user_rule=user_rule, allow=[Allow(address="203.0.113.0/24")], known_logins=1000)
    now_s = 0.0
    sessions: dict[str, list[Login]] = {}
    known: set[str] = {"127.0.0.1", "203.0.113.5"}
    verified: dict[str, int] = {}
    for what, address, after_s, is_verified in done:
        now_s += after_s
        blocks = []
        match what:
            case "try":
                verified[address] = verified.get(address, 0) + is_verified
                blocks = run.feed(tried(now_s, address, "bob", is_verified=is_verified))
            case "login":
                known.add(address)
                sessions.setdefault(address, []).append(login(now_s, address))
                blocks = run.feed(sessions[address][-1])
            case "logout" if sessions.get(address):
                blocks = run.feed(logout(now_s, sessions[address].pop()))
        for block in blocks:
            assert block.until_us > block.time_us
            if block.is_user:
                assert sum(verified.values()) >= 4
                continue
            network = ip_network(block.target)
            assert not [each for each in known if ip_address(each) in network]
            assert sum(count for each, count in verified.items() if ip_address(each) in network) >= 3


def test_each_refusal_is_tested() -> None:
    """The reasons above are all there are."""
    assert {str(reason) for reason in Refusal} == {
        "no_target", "unverified", "loopback", "allowed", "live_session", "known", "blocked",
    }  # fmt: skip
    assert msgspec.json.decode(msgspec.json.encode(Blocking()), type=Blocking) == Blocking()
