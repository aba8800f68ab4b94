"""What is blocked, out of the entries of ``block.db``."""

from __future__ import annotations

import random
import time
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from consumer.block.target import target_of
from consumer.errors import UsageError
from consumer.guard import ledger as ledgers
from consumer.guard.ledger import Ledger
from consumer.guard.messages import Check, Order
from consumer.store import block as store
from consumer.store.block import AllowedRow

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOW_US = 1_795_348_800_000_000
HOUR_US = 3600 * 1_000_000


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """Return an empty ledger."""
    found = Ledger(tmp_path, NOW_US)
    with closing(found.blocks):
        yield found


def order(target: str, number: int = 0, *, until_us: int = NOW_US + HOUR_US, exceptions: tuple[str, ...] = ()) -> Order:
    """Return an order."""
    return Order(f"{target}-{number}", target, until_us, "a reason", exceptions=list(exceptions))


def shown(ledger: Ledger) -> dict[str, int]:
    """Return the networks that are blocked, with the seconds until their ends."""
    return {target.text: (until_us - NOW_US) // 1_000_000 for target, until_us in ledger.wanted().networks.items()}


def test_the_longest_end_counts(ledger: Ledger) -> None:
    """Several orders about a target end with the last of them; one network hides what lies within it, until it ends."""
    ledger.order([order("192.0.2.7"), order("192.0.2.7", 1, until_us=NOW_US + 2 * HOUR_US)], NOW_US)
    ledger.order([order("192.0.2.0/24"), order("192.0.3.1")], NOW_US)
    assert shown(ledger) == {"192.0.2.0/24": 3600, "192.0.3.1": 3600}
    ledger.end(NOW_US + HOUR_US)
    assert shown(ledger) == {"192.0.2.7": 7200}
    assert ledger.next_end_us == NOW_US + 2 * HOUR_US


def test_one_by_one_is_all_at_once(tmp_path: Path) -> None:
    """However orders arrive, the list is that of a new start: the short way to add one entry agrees with the long one."""
    dice = random.Random(5)  # noqa: S311 - a test
    texts = [
        f"10.{dice.randrange(4)}.{dice.randrange(4)}.{dice.randrange(256)}/{dice.choice((8, 14, 16, 24, 30, 32, 32))}"
        for _ in range(400)
    ]
    texts += [f"2001:db8:{dice.randrange(4)}::{dice.randrange(9)}/{dice.choice((32, 48, 64, 128))}" for _ in range(100)]
    texts = [text for text in texts if not text.endswith("/8")] + ["10.3.0.0/17"]
    found = Ledger(tmp_path, NOW_US)
    with closing(found.blocks):
        found.allow([AllowedRow("sshbell.toml", "10.1.0.0/17", "", None)])
        for number, text in enumerate(texts):
            found.order([order(text, number)], NOW_US)
        one_by_one = shown(found)
    again = Ledger(tmp_path, NOW_US)
    with closing(again.blocks):
        assert list(shown(again)) == list(one_by_one)
        assert not any(text.startswith("10.1.3.") for text in one_by_one)


def test_users_and_their_exceptions(ledger: Ledger) -> None:
    """The exceptions of all orders about a user count; a name that pam_access cannot have alone is kept, and not enforced."""
    ledger.order(
        [order("user:alice", exceptions=("192.0.2.1",)), order("user:alice", 1, exceptions=("192.0.2.2", "192.0.2.1"))], NOW_US
    )
    ledger.order([order("user:ROOT"), order("user:bob")], NOW_US)
    users = ledger.wanted().users
    assert {name: [known.text for known in user.exceptions] for name, user in users.items()} == {
        "alice": ["192.0.2.1", "192.0.2.2"], "bob": [],
    }  # fmt: skip
    assert ledger.check(Check(user="ROOT")).count == 0
    assert ledger.check(Check("192.0.2.2", "alice")).count == 0
    assert ledger.check(Check("192.0.2.3", "alice")).count == 2
    assert ledger.check(Check("192.0.2.1", "alice")).count == 0
    assert ledger.check(Check(user="alice")).count == 2


@pytest.mark.parametrize("is_first", [True, False])
def test_an_imported_block_opens_nothing(ledger: Ledger, *, is_first: bool) -> None:
    """Who writes a list blocks a user who is blocked here, too, and excepts an address: that stays blocked."""
    for is_imported in (is_first, not is_first):
        if is_imported:
            some = [order("user:alice", exceptions=("203.0.113.9",)), order("user:bob", exceptions=("203.0.113.9",))]
        else:
            some = [order("user:alice", 1, exceptions=("192.0.2.1",))]
        ledger.order(some, NOW_US, are_imported=is_imported)
    users = ledger.wanted().users
    assert {name: [known.text for known in user.exceptions] for name, user in users.items()} == {
        "alice": ["192.0.2.1"], "bob": ["203.0.113.9"],
    }  # fmt: skip
    assert ledger.check(Check("203.0.113.9", "alice")).count == 2
    assert ledger.check(Check("192.0.2.1", "alice")).count == 0
    assert ledger.check(Check("203.0.113.9", "bob")).count == 0


def test_check(ledger: Ledger) -> None:
    """An address is blocked by what covers it; what is allowed is not, and says why."""
    ledger.order([order("192.0.2.0/24"), order("2001:db8::1")], NOW_US)
    ledger.allow([AllowedRow("name vpn.example.org", "192.0.2.9", "the tunnel", None)])
    (found,) = ledger.check(Check("192.0.2.7")).blocks
    assert (found["target"], found["reason"]) == ("192.0.2.0/24", "a reason")
    assert ledger.check(Check("::ffff:192.0.2.7")).count == 1
    assert ledger.check(Check("192.0.3.7")).count == 0
    assert ledger.check(Check("2001:db8:0::1")).count == 1
    assert ledger.check(Check("192.0.2.9")).allowed == "name vpn.example.org: 192.0.2.9 (the tunnel)"
    assert ledger.check(Check("192.0.2.9")).count == 0
    with pytest.raises(UsageError):
        ledger.check(Check("nonsense"))


def test_the_oldest_are_forgotten_first(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the limit, the entries that began first go, in the store and in memory."""
    for module in (store, ledgers):
        monkeypatch.setattr(module, "BLOCK_LIMIT", 10)
    monkeypatch.setattr(store, "_KEPT", 8)
    for number in range(11):
        ledger.order([order(f"192.0.2.{number}")], NOW_US + number)
    assert list(shown(ledger)) == [f"192.0.2.{number}" for number in range(3, 11)]
    assert len(ledger.blocks.active(NOW_US)) == 8


def test_a_lifted_order_stays_lifted(ledger: Ledger, tmp_path: Path) -> None:
    """The store remembers what somebody has lifted until the order ends, also over a purge."""
    ledger.order([order("192.0.2.7"), order("192.0.2.8", until_us=NOW_US + 1)], NOW_US)
    assert ledger.lift(["192.0.2.7", "192.0.2.99"], NOW_US) == 1
    assert ledger.purge(NOW_US + 2) == 1
    assert ledger.order([order("192.0.2.7")], NOW_US + 3) == 0
    assert shown(ledger) == {}
    again = Ledger(tmp_path, NOW_US + 4)
    with closing(again.blocks):
        assert shown(again) == {}


def test_one_more_among_many_is_cheap(ledger: Ledger) -> None:
    """The work for one more entry hardly grows with the list: it takes less than a hundredth of the time for all of them."""
    ledger.order([order(f"10.{number >> 8}.{number & 255}.1") for number in range(10_000)], NOW_US)

    def cost_s(number: int) -> float:
        begin_s = time.process_time()
        ledger._insert(target_of(f"11.0.{number}.1"))
        return time.process_time() - begin_s

    begin_s = time.process_time()
    ledger._compute()
    whole_s = time.process_time() - begin_s
    assert min(cost_s(number) for number in range(50)) < whole_s / 100
