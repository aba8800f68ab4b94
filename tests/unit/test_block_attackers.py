"""Attacks on blocking, by those who own a name, an address, an account, or a host that relays lines."""

from __future__ import annotations

import os
import socket
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from consumer.actions import EventAction
from consumer.block.access_conf import HEAD, access_conf, can_name
from consumer.cli import main
from consumer.clock import isoformat
from consumer.config import Allow, Blocking
from consumer.detect.block_policy import Refusal
from consumer.detect.detectors import Detectors
from consumer.detect_settings import Detect, FirstSeenSettings, GuessingSettings
from consumer.errors import DamagedStoreError, StoreError
from consumer.events import Attempt, Block, Canary, Event, Finding, Login, Logout
from consumer.guard.allowed import ALLOWED_LIMIT, THIS_HOST, answers, end_text
from consumer.guard.client import known_addresses
from consumer.guard.ledger import Ledger
from consumer.guard.messages import Order
from consumer.pipeline import Pipeline
from consumer.records import TIME, TRUSTED, Line
from consumer.store.block import ENDED_LIMIT, SHORTEN_AFTER, AllowedRow, StoredBlocks
from consumer.store.earlier_logins import EarlierLogins
from consumer.store.state import State
from tests.integration.lines import ours
from tests.store_events import START_US, events_of, session_lines, try_line

if TYPE_CHECKING:
    from pathlib import Path

(TRY,) = events_of(try_line(7))
NOW_US = START_US
SECOND_US, HOUR_US, DAY_US = 1_000_000, 3600 * 1_000_000, 86_400 * 1_000_000
GUESSER, OFFICE = "198.51.100.9", "192.0.2.7"


def line_at(at_s: float, *, is_verified: bool) -> Line:
    """Return a line so many seconds after the start."""
    values: list[Any] = list(TRY.line)
    values[TIME], values[TRUSTED] = START_US + round(at_s * SECOND_US), (0, "") if is_verified else None
    return Line(values)


def tried(at_s: float, address: str = GUESSER, user: str = "root", *, is_verified: bool = True) -> Attempt:
    """Return a try."""
    return Attempt(f"try {at_s} {address} {user}", line_at(at_s, is_verified=is_verified), user, address, "5", "password")


def login(at_s: float, address: str, user: str = "alice", *, is_verified: bool = True) -> Login:
    """Return a login."""
    line = line_at(at_s, is_verified=is_verified)
    return Login(f"login {at_s} {address}", line, user, address, "5", "password")


class Run:
    """The detectors with the policy behind them."""

    def __init__(self, host_rule: str = "*:3/1m", **settings: Any) -> None:
        self.found: list[Event] = []
        detect = Detect(guessing=GuessingSettings(host_rule=host_rule))
        self.detectors = Detectors(detect, self.found.append, Blocking(**{"mode": "on", **settings}))

    def feed(self, *events: Event) -> list[str]:
        """Feed events; return what they block."""
        before = len(self.found)
        for event in events:
            self.detectors.take(event)
        return [found.target for found in self.found[before:] if isinstance(found, Block)]

    def guesses(self, at_s: float, address: str = GUESSER, user: str = "root", count: int = 3) -> list[str]:
        """Feed verified tries at once; return what they block."""
        return self.feed(*[tried(at_s + number / 10, address, user) for number in range(count)])


# -------------------------------------------------------------------- to stay unblocked


def test_a_forged_login_from_a_guesser() -> None:
    """A local user forges a login from the guesser's address, so that it counts as known, and as one with a session."""
    run = Run()
    assert run.feed(login(0, GUESSER, is_verified=False)) == []
    assert run.guesses(10) == [GUESSER]


def test_forged_tries_between_the_real_ones() -> None:
    """A local user forges tries between those of the guesser, so that no more than two of the newest three are verified."""
    run = Run()
    blocked = [run.feed(tried(at_s), *[tried(at_s + 0.5, is_verified=False)] * 3) for at_s in range(6)]
    assert [GUESSER] in blocked[2:4]


def test_an_old_forged_try() -> None:
    """A relay sends a try of an hour ago, so that the newer ones count as those of a wrong clock."""
    run = Run()
    for at_s in (3600, 3610):
        assert run.feed(tried(at_s), tried(at_s - 3600, is_verified=False)) == []
    assert run.feed(tried(3620)) == [GUESSER]


def test_a_forged_try_of_the_future() -> None:
    """A relay sends tries of the year 9999."""
    run = Run()
    future_s = (datetime(9999, 1, 1, tzinfo=UTC).timestamp()) - START_US / 1_000_000
    run.feed(*[tried(future_s, is_verified=False)] * 5)
    assert run.guesses(0) == [GUESSER]


def test_forged_guesses_of_the_future_in_a_network() -> None:
    """A relay sends guesses of next year from a part of an IPv6 network, so that its other parts no longer count."""
    run = Run()
    for number in range(3):
        run.guesses(number, f"2001:db8:7:10{number}::1")
    run.feed(*[tried(366 * 86_400, "2001:db8:7:1ff::1", is_verified=False)] * 3)
    assert "2001:db8:7:100::/56" in run.guesses(4, "2001:db8:7:103::1")


def test_a_forged_login_of_the_guessed_user() -> None:
    """A local user forges a login of the guessed user after the block, so that the next one is a first one."""
    run = Run(duration="1m")
    run.guesses(0)
    run.feed(login(65, GUESSER, "root", is_verified=False))
    run.guesses(100)
    assert [block.step for block in run.found if isinstance(block, Block)] == [0, 1]


@pytest.mark.parametrize("form", ["::ffff:198.51.100.9", "::ffff:c633:6409", "::FFFF:198.51.100.9"])
def test_an_address_in_several_forms(form: str) -> None:
    """An IPv4 client gets no further tries as IPv4 in IPv6."""
    assert Run().feed(tried(0), tried(1, form), tried(2)) == [GUESSER]


def test_addresses_of_one_network() -> None:
    """An IPv6 client changes its address for each try."""
    assert Run().feed(*[tried(number, f"2001:db8::{number + 1}") for number in range(3)]) == ["2001:db8::/64"]


# -------------------------------------------------------------------- to get others blocked


def test_forged_logins_push_out_the_known_address() -> None:
    """A local user forges logins from many addresses, so that the office is no longer among the known ones."""
    run = Run()
    run.feed(login(0, OFFICE))
    # They also push out the open session.
    run.feed(*[login(number, f"10.0.{number >> 8}.{number & 255}", is_verified=False) for number in range(10_001)])
    assert run.guesses(20_000, OFFICE) == []
    assert run.detectors.refused == {Refusal.LIVE_SESSION: 1}


def test_own_logins_push_out_the_known_address() -> None:
    """Somebody with an account logs in from many addresses of one IPv6 network: that is one client."""
    run = Run(known_logins=10)
    office, line = login(0, OFFICE), line_at(0.5, is_verified=True)
    run.feed(office, Logout("logout", line, "alice", OFFICE, "5", office, NOW_US))
    run.feed(*[login(number, f"2001:db8::{number:x}", "mallory") for number in range(1, 100)])
    assert run.guesses(200, OFFICE) == []
    assert run.detectors.refused == {Refusal.KNOWN: 1}


def test_a_forged_try_renews_no_block() -> None:
    """A local user forges one try after the end of a block, while the verified ones still fit the rule."""
    run = Run(host_rule="*:3/1d", duration="1h")
    assert run.guesses(0, OFFICE) == [OFFICE]
    assert run.feed(tried(3700, OFFICE, is_verified=False)) == []
    assert run.feed(tried(3800, OFFICE)) == [OFFICE]


@pytest.mark.parametrize("uid", [1000, None])
def test_a_forged_count_of_repetitions(uid: int | None) -> None:
    """A local user, or a relay, writes that the verified line before, of the office, has come 50 times."""
    pipeline = Pipeline((), UTC, NOW_US, pytest.fail, block=Blocking(mode="on"))
    found = pipeline.feed(ours(f"Failed password for root from {OFFICE} port 5 ssh2"))
    found += pipeline.feed(ours("last message repeated 50 times", 1, prog=None, tag="", procid=None, uid=uid))
    found += [event for second in range(1, 20) for event in pipeline.tick(NOW_US + second * SECOND_US)]
    assert not any(isinstance(event, Block) for event in found)
    tries = [(event.count, event.origin) for event in found if isinstance(event, Attempt)]
    assert tries[0] == (1, "verified")
    assert "verified" not in [origin for _count, origin in tries[1:]]


def test_forged_tries_alone() -> None:
    """A local user forges any number of tries from the office."""
    assert Run().feed(*[tried(number / 10, OFFICE, is_verified=False) for number in range(50)], tried(6, OFFICE)) == []


@pytest.mark.parametrize("prefix", ["64:ff9b::", "64:ff9b:1:7::"])
def test_all_of_ipv4_behind_one_translator(prefix: str) -> None:
    """Behind NAT64, all IPv4 clients have addresses of one /64: only the guesser is blocked."""
    assert Run().guesses(0, f"{prefix}c633:6409") == [f"{prefix}c633:6409"]
    assert Run().feed(*[tried(number, f"{prefix}{number + 1}:1") for number in range(9)]) == []


@pytest.mark.parametrize(
    "name", ["192.0.2.0/25", "0.0.0.0/1", "2001:db8::/32", "::/0", "ALL", "user:root", "host\n+ : ALL : ALL"]
)
def test_a_host_name_that_is_a_network(name: str) -> None:
    """With UseDNS, the owner of an address chooses its name."""
    assert Run().guesses(0, name) == []


def test_a_guesser_with_a_name_for_an_address() -> None:
    """A user name that holds the end of another line blocks the client, not the address in the name."""
    run = Run()
    name = "x from 192.0.2.7 port 1 ssh2"
    blocked = [target for pid in (1, 2, 3) for event in events_of(try_line(pid, name)) for target in run.feed(_verified(event))]
    assert blocked == [GUESSER]


def _verified(event: Event) -> Event:
    values: list[Any] = list(event.line)
    values[TRUSTED] = (0, "")
    assert isinstance(event, Attempt)
    return Attempt(event.id, Line(values), event.user, event.address, event.port, event.method)


def test_three_networks_of_a_provider() -> None:
    """The owner of three /64s gets no neighbour blocked, and not even four get a /48 blocked."""
    run = Run()
    blocked = [target for number in range(4) for target in run.guesses(number, f"2001:db8:7:{number:x}::1")]
    assert blocked == [*[f"2001:db8:7:{number}::/64".replace(":0::", "::") for number in range(4)], "2001:db8:7::/56"]
    assert [found.action for found in run.found if isinstance(found, Finding)] == [EventAction.GUESSING] * 5


# -------------------------------------------------------------------- guard


def test_an_allow_list_that_never_ends(tmp_path: Path) -> None:
    """The last day of the calendar has an end, too."""
    (tmp_path / "offices").write_text("192.0.2.8 until 9999-12-31\n")
    rows = answers([Allow(address=OFFICE, until="9999-12-31"), Allow(file=str(tmp_path / "offices"))], [], NOW_US, pytest.fail)
    assert {OFFICE, "192.0.2.8"} <= {row.target for row in rows}
    assert [end_text(row.until_us) for row in rows if row.until_us] == ["until 9999-12-31"] * 2
    assert [isoformat(row.until_us) for row in rows if row.until_us] == ["9999-12-31T23:59:59.000000Z"] * 2


def test_an_allow_list_that_is_a_pipe(tmp_path: Path) -> None:
    """Somebody replaces the list with a pipe that nobody writes to: the last good answer counts, and the others are asked."""
    path = tmp_path / "offices"
    os.mkfifo(path)
    before = [AllowedRow(f"file {path}", "192.0.2.8", "", None)]
    faults: list[str] = []
    rows = answers([Allow(file=str(path)), Allow(address=OFFICE)], before, NOW_US, faults.append)
    assert {OFFICE, "192.0.2.8"} <= {row.target for row in rows}
    assert len(faults) == 1


def test_forged_logins_are_no_exceptions_of_a_blocked_user(tmp_path: Path) -> None:
    """A local user forges logins of alice from the guesser's address, and so many others that the office is not found."""
    forged = [login(number, f"10.{number >> 8}.{number & 255}.1", is_verified=False) for number in range(2_500)]
    with closing(State(tmp_path, pytest.fail)) as state:
        state.record([login(0, OFFICE), login(1, GUESSER, is_verified=False), *forged], frozenset(), NOW_US)
    with closing(EarlierLogins(tmp_path)) as earlier:
        assert known_addresses(earlier, "alice", NOW_US + DAY_US, 90 * DAY_US, is_verified=True) == [OFFICE]


@pytest.mark.bulk
def test_blocks_that_have_ended_do_not_pile_up(tmp_path: Path) -> None:
    """Guessers with many addresses have each of them blocked for a short time, for years."""
    ledger, count, minute_us = Ledger(tmp_path, NOW_US), 0, 60 * SECOND_US
    with closing(ledger.blocks):
        for hour in range(ENDED_LIMIT // SHORTEN_AFTER + 10):
            now_us = NOW_US + hour * HOUR_US
            ledger.end(now_us)
            orders = [Order(f"{count + each}", f"2001:db8:{hour:x}:{each:x}::/64", now_us + minute_us) for each in range(1100)]
            count += len(orders)
            ledger.order(orders, now_us)
    assert len(StoredBlocks(tmp_path).entries()) <= ENDED_LIMIT + 2 * (SHORTEN_AFTER + 100)


@pytest.mark.parametrize(
    "name", ["root : ALL", "root\n+ : ALL : ALL", "ROOT", "All", "except", "0", "a@b", "(wheel)", "a,root", "#", "-", "x\t"]
)
def test_a_name_that_pam_access_takes_for_others(name: str) -> None:
    """A guesser chooses a name that means somebody else, or ends the line, in the file for pam_access."""
    assert not can_name(name)
    assert access_conf([], {}, []) == HEAD.encode()


@pytest.mark.parametrize("address", ["127.0.0.1", "198.51.100.9"])
def test_a_guess_with_the_name_of_a_canary(address: str) -> None:
    """A client gives the name of a canary without its token, so that the try does not count."""
    pipeline = Pipeline((), UTC, NOW_US, pytest.fail)
    pipeline.announce_canary("0" * 32)
    found = []
    for token in ("1" * 32, "0" * 31, "0" * 32 + "0", "", "0" * 32 + "\\n"):
        found += pipeline.feed(ours(f"Failed none for invalid user sshbell-canary-{token} from {address} port 5 ssh2"))
    if address != "127.0.0.1":
        found += pipeline.feed(ours(f"Failed none for invalid user sshbell-canary-{'0' * 32} from {address} port 5 ssh2"))
    found += [event for second in range(1, 20) for event in pipeline.tick(NOW_US + second * SECOND_US)]
    assert len(found) >= 4
    assert not any(isinstance(event, Canary) for event in found)


def test_a_name_server_with_too_many_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server of an allowed name answers with thousands of addresses: its last good answer counts."""
    many = [(2, 1, 6, "", (f"10.1.{number >> 8}.{number & 255}", 0)) for number in range(ALLOWED_LIMIT + 1)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_asked, **_how: many)
    before = [AllowedRow("name vpn.example.org", OFFICE, "", None)]
    faults: list[str] = []
    rows = answers([Allow(name="vpn.example.org")], before, NOW_US, faults.append)
    assert [row.target for row in rows if row.source != THIS_HOST] == [OFFICE]
    assert len(faults) == 1


@pytest.mark.parametrize(
    ("target", "exceptions"), [("nonsense", "[]"), ("user:", "[]"), ("user:alice", '["nonsense"]'), ("::/8/8", "[]")]
)
def test_wrong_targets_in_the_store(tmp_path: Path, target: str, exceptions: str) -> None:
    """Who can write the state directory puts targets into ``block.db`` that are none: that is one line about the file."""
    Ledger(tmp_path, NOW_US).blocks.close()
    values = ("x", target, 1, NOW_US + DAY_US, "", "", exceptions, None)
    with closing(sqlite3.connect(tmp_path / "block.db")) as connection, connection:
        connection.execute("INSERT INTO entry VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0)", values)
    with pytest.raises(DamagedStoreError, match="block"):
        Ledger(tmp_path, NOW_US)
    with pytest.raises(StoreError, match="block"):
        StoredBlocks(tmp_path).entries()


def test_a_wrong_allowed_network_in_the_store(tmp_path: Path) -> None:
    """Likewise what is never blocked."""
    Ledger(tmp_path, NOW_US).blocks.close()
    with closing(sqlite3.connect(tmp_path / "block.db")) as connection, connection:
        connection.execute("INSERT INTO allowed VALUES ('x', 'nonsense', '', NULL)")
    with pytest.raises(DamagedStoreError, match="block"):
        Ledger(tmp_path, NOW_US)
    with pytest.raises(StoreError, match="block"):
        StoredBlocks(tmp_path).allowed()


def test_a_hostile_host_in_json(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A relay names its host with characters that turn text around, or that a terminal obeys."""
    log = tmp_path / "log"
    log.write_bytes("2026-11-22T10:00:00+00:00 web\u202e\u009b2J sshd[1]: no rule reads this line\n".encode())
    with pytest.raises(SystemExit, match="0"):
        main(["unknown", "--json", str(log)])
    out = capsys.readouterr().out
    assert "web\\u202e\\u009b2J" in out
    assert out.rstrip("\n").isprintable()


def test_root_without_any_password() -> None:
    """With PermitEmptyPasswords, root logs in by the method none: that is no better than a password."""
    found: list[Event] = []
    detectors = Detectors(Detect(), found.append)
    for event in events_of(*session_lines(7, "root", method="none", info="")):
        detectors.take(event)
    assert [event.action for event in found] == [EventAction.ROOT_BY_PASSWORD]


def test_forged_logins_hide_no_guessed_password() -> None:
    """A sender of syslog forges a login of the account between the guesses and the real login, so that it forgives them."""
    found: list[Event] = []
    detectors = Detectors(Detect(), found.append)
    for number in range(12):
        detectors.take(tried(number, user="deploy"))
    for at_s, is_verified in ((20, False), (30, True)):
        detectors.take(login(at_s, GUESSER, "deploy", is_verified=is_verified))
    assert (EventAction.SUCCESS_AFTER_FAILURES, True) in [
        (event.action, event.time_us == START_US + 30 * SECOND_US) for event in found
    ]


def test_forged_logins_make_nothing_usual() -> None:
    """A sender of syslog forges a login by the method of the real one that follows, so that this is not the first."""
    found: list[Event] = []
    detect = Detect(first_seen=FirstSeenSettings(what=["address"]))
    detectors = Detectors(detect, found.append)
    for day in range(20):
        detectors.take(login(day * 86_400, OFFICE))
    detectors.take(login(20 * 86_400, GUESSER, is_verified=False))
    found.clear()
    detectors.take(login(20 * 86_400 + 60, GUESSER))
    assert EventAction.FIRST_SEEN in [event.action for event in found]
