"""``delivery.db`` and the workers that use it: nothing is lost, nothing comes twice, and nobody is bombed."""

from __future__ import annotations

import asyncio
import re
import sqlite3
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from consumer.actions import EventAction
from consumer.channel_settings import EmailSettings
from consumer.config import Config, Route
from consumer.deliver import dispatcher, worker
from consumer.deliver.channels import Delivered, Medium, Message, Rejected, RetryLater, SendResult
from consumer.deliver.decide import budget_of
from consumer.deliver.rendering import Renderer
from consumer.deliver.worker import FIRST_WAIT_S, LONGEST_WAIT_S, Common, Worker, wait_s
from consumer.ecs import event_of
from consumer.enrich.enricher import Enricher
from consumer.errors import NewerStoreError, StoreError
from consumer.people.people import People
from consumer.store import database
from consumer.store import delivery as module
from consumer.store.database import set_aside_of
from consumer.store.delivery import Delivery
from consumer.store.delivery_rows import Routed
from consumer.store.outbox import Outbox, OutboxPosition, Queued
from consumer.store.state import State
from tests.waiting import DEADLINE_S, wait_for_async

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SECOND = 1_000_000
HOUR, DAY = 3600 * SECOND, 86400 * SECOND
NOW = 1_790_000_000 * SECOND


def queued(seq: int, action: str = "ssh_login", queued_us: int = NOW, user: str = "alice", host: str = "web1") -> Queued:
    """Return a message of the outbox."""
    body = f'{{"event":{{"action":"{action}","id":"id{seq}"}},"user":{{"name":"{user}"}},"host":{{"name":"{host}"}}}}'
    return Queued(seq, f"id{seq}", action, queued_us, body.encode())


@pytest.fixture
def delivery(tmp_path: Path) -> Iterator[Delivery]:
    """Return an empty one."""
    with closing(Delivery(tmp_path, pytest.fail)) as made:
        yield made


def states(delivery: Delivery, channel: str = "ops") -> dict[str, str]:
    """Return the state of each message of a channel."""
    everything = ("pending", "sent", "dead", "dropped")
    return {entry.event_id: entry.state for entry in delivery.entries(everything, 10_000, channel=channel)}


class Clock:
    """The wall clock, which a test moves."""

    def __init__(self) -> None:
        self.now_us = NOW

    def __call__(self) -> int:
        """Return microseconds since 1970 UTC."""
        return self.now_us


class Answers:
    """A channel that answers what a test wants, and keeps what it was told."""

    medium: Medium = "mail"

    def __init__(self, *answers: SendResult) -> None:
        self.answers = list(answers)
        self.told: list[Message] = []

    async def send(self, message: Message) -> SendResult:
        """Answer."""
        self.told.append(message)
        return self.answers.pop(0) if self.answers else Delivered()

    async def check(self) -> SendResult:
        """Answer."""
        return Delivered()

    def close(self) -> None:
        """Nothing is open."""


class Stage:
    """A worker with a clock and a channel of the test's."""

    def __init__(self, delivery: Delivery, folder: Path, *answers: SendResult, max_per_hour: int = 1000) -> None:
        self.clock = Clock()
        self.channel = Answers(*answers)
        self.delivery = delivery
        settings = EmailSettings(name="ops", to=["ops@example.org"], max_per_hour=max_per_hour)
        self.worker = Worker(
            settings, self.channel, delivery, Renderer(folder / "none", pytest.fail), Enricher(),
            Common(give_up_s=3 * 86400), clock=self.clock,
        )  # fmt: skip

    def put(self, *seqs: int, action: str = "ssh_login") -> None:
        """Route messages to the channel."""
        self.route(*(queued(seq, action, self.clock.now_us) for seq in seqs))

    def route(self, *messages: Queued) -> None:
        """Route these messages to the channel, as ``Dispatcher`` does."""
        self.delivery.route(Routed(message, ["ops"], budget_of(event_of(message.body))) for message in messages)

    def work(self) -> float | None:
        """Send until there is nothing to do now; return for how long."""

        async def steps() -> float | None:
            while (pause_s := await self.worker.step()) == 0:
                pass
            return pause_s

        return asyncio.run(steps())

    @property
    def ids(self) -> list[str]:
        """The ids of what was told."""
        return [message.id for message in self.channel.told]


def test_routing_is_single(delivery: Delivery) -> None:
    """A message that is routed twice stands once, whatever became of it; the cursors follow."""
    assert delivery.cursors() == (OutboxPosition(), OutboxPosition())
    routed = [Routed(queued(1), ["ops", "home"]), Routed(queued(2), []), Routed(queued(3), ["ops"])]
    assert delivery.route(routed, until=OutboxPosition(3, "id3")) == {"ops", "home"}
    assert delivery.cursors() == (OutboxPosition(3, "id3"), OutboxPosition())
    assert delivery.route([], ahead=OutboxPosition(9, "id9")) == set()
    assert delivery.cursors() == (OutboxPosition(3, "id3"), OutboxPosition(9, "id9"))
    first = delivery.due("ops", NOW)
    assert first is not None
    delivery.sent("ops", first, NOW, 5.0, None)
    delivery.restart()
    assert delivery.cursors() == (OutboxPosition(), OutboxPosition())
    assert delivery.route([Routed(queued(1), ["ops", "home"]), Routed(queued(4), ["ops"])]) == {"ops"}
    assert states(delivery) == {"id1": "sent", "id3": "pending", "id4": "pending"}
    assert states(delivery, "home") == {"id1": "pending"}


def test_order_outlives_a_new_state_db(delivery: Delivery, tmp_path: Path) -> None:
    """Messages go in order, those of a replaced state.db first, though numbers have begun anew."""
    stage = Stage(delivery, tmp_path)
    stage.put(7, 8)
    delivery.restart()
    stage.put(1, 2)
    stage.work()
    assert stage.ids == ["id7", "id8", "id1", "id2"]


def test_a_message_that_cannot_be_made_holds_up_no_other(
    delivery: Delivery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a message meets of our faults is tried again by itself, and told at last."""
    stage = Stage(delivery, tmp_path)
    stage.put(1, 2, 3)
    made = Renderer.message

    def failing(renderer: Renderer, event_id: str, *arguments: Any, **more: Any) -> Message:
        if event_id == "id1":
            raise OverflowError("int too large to convert to float")
        return made(renderer, event_id, *arguments, **more)

    monkeypatch.setattr(Renderer, "message", failing)
    stage.work()
    assert stage.ids == ["id2", "id3"]
    assert states(delivery) == {"id1": "pending", "id2": "sent", "id3": "sent"}
    assert delivery.entries(("pending",), 1)[0].reason == "a fault of sshbell: OverflowError"
    monkeypatch.undo()
    stage.clock.now_us += 60 * 1_000_000
    stage.work()
    assert stage.ids == ["id2", "id3", "id1"]


def test_sent_is_synced(delivery: Delivery) -> None:
    """What is told is written so that it outlives a power cut."""
    assert delivery._run("PRAGMA synchronous").fetchone() == (2,)
    delivery.route([Routed(queued(1), ["ops"])])
    assert delivery._run("PRAGMA synchronous").fetchone() == (2,)


def test_flood_costs_no_login(delivery: Delivery, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound, tries are dropped with a reason; logins never are."""
    monkeypatch.setattr(module, "WAITING_LIMIT", 3)
    delivery.route(Routed(queued(seq, "ssh_attempt"), ["ops"]) for seq in range(1, 6))
    delivery.route([Routed(queued(6), ["ops"])])
    assert states(delivery) == {
        "id1": "pending", "id2": "pending", "id3": "pending", "id4": "dropped", "id5": "dropped", "id6": "pending",
    }  # fmt: skip


def test_the_waiting_are_not_counted_with_each_batch(delivery: Delivery, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counting visits all that wait, so a flood must not cause it again and again; what is done makes room all the same."""
    monkeypatch.setattr(module, "WAITING_LIMIT", 1000)
    delivery.route(Routed(queued(seq, "ssh_attempt"), ["ops"]) for seq in range(1, 1001))
    statements: list[str] = []
    assert delivery._connection is not None
    delivery._connection.set_trace_callback(statements.append)
    for seq in range(1001, 1021):
        delivery.route([Routed(queued(seq, "ssh_attempt"), ["ops"])])
    assert sum("count(*)" in text and "FROM delivery" in text for text in statements) == 0
    assert list(delivery._rows("SELECT state, count(*) FROM delivery GROUP BY state")) == [("dropped", 20), ("pending", 1000)]
    delivery.drop("id1", "ops", NOW)
    first = delivery.due("ops", NOW)
    assert first is not None
    delivery.sent("ops", first, NOW, 1.0, None)
    for seq in range(1021, 1031):
        delivery.route([Routed(queued(seq, "ssh_attempt"), ["ops"])])
    assert list(delivery._rows("SELECT count(*) FROM delivery WHERE state = 'pending'")) == [(1000,)]


def test_old_news(delivery: Delivery) -> None:
    """What was too old when it was read, as after the loss of a file, is a dead letter with its reason."""
    assert delivery.route([Routed(queued(1, queued_us=NOW - 1), ["ops"]), Routed(queued(2), ["ops"])], NOW) == {"ops"}
    assert states(delivery) == {"id1": "dead", "id2": "pending"}
    assert delivery.entries(("dead",), 1)[0].reason == "it was too old when deliver read it"


def test_outbox_that_is_not_there(tmp_path: Path) -> None:
    """Without a state.db there is nothing to route, until there is one."""
    with closing(Outbox(tmp_path)) as outbox:
        assert outbox.since(0, 10) == []
        assert not outbox.is_behind(OutboxPosition(5, "x"))
        with closing(State(tmp_path, pytest.fail)) as state:
            state.record([], frozenset(), NOW, ("m1", "sshbell_notice", b"{}"))
            assert outbox.since(0, 10) == [Queued(1, "m1", "sshbell_notice", NOW, b"{}")]
            state.record([], frozenset(), NOW, ("m2", "sshbell_notice", b"{}"))
            assert [message.event_id for message in outbox.since(1, 10)] == ["m2"]


def test_what_is_no_noise_in_the_outbox(tmp_path: Path) -> None:
    """Among some messages it finds those that are no noise, and how far it has looked."""
    with closing(Outbox(tmp_path)) as outbox, closing(State(tmp_path, pytest.fail)) as state:
        assert outbox.ahead(0, 10) == ([], None)
        for number, action in enumerate(["ssh_attempt", "ssh_login", "ssh_probe", "ssh_forged", "ssh_logout", "guessing"], 1):
            state.record([], frozenset(), NOW, (f"m{number}", action, b"{}"))
        login, logout = Queued(2, "m2", "ssh_login", NOW, b"{}"), Queued(5, "m5", "ssh_logout", NOW, b"{}")
        assert outbox.ahead(0, 1) == ([], OutboxPosition(1, "m1"))
        assert outbox.ahead(0, 4) == ([login], OutboxPosition(4, "m4"))
        assert outbox.ahead(0, 10) == ([login, logout], OutboxPosition(6, "m6"))
        assert outbox.ahead(2, 10) == ([logout], OutboxPosition(6, "m6"))
        assert outbox.ahead(6, 10) == ([], None)


def test_outbox_that_was_replaced(tmp_path: Path) -> None:
    """A new state.db is recognised, also where it has as many messages as the old one had."""
    with closing(Outbox(tmp_path)) as outbox:
        for first in ("a", "b"):
            for path in tmp_path.glob("state.db*"):
                path.unlink()
            with closing(State(tmp_path, pytest.fail)) as state:
                state.record([], frozenset(), NOW, (first, "sshbell_notice", b"{}"))
                state.record([], frozenset(), NOW, (f"{first}2", "sshbell_notice", b"{}"))
                assert outbox.is_behind(OutboxPosition(2, "a2")) == (first == "b")
                assert outbox.is_behind(OutboxPosition(3, "x"))
                assert not outbox.is_behind(OutboxPosition(2, f"{first}2"))
                # What retention has removed does not look like a new file.
                state.forget(NOW + 1)
                assert outbox.since(0, 10) == []
                assert not outbox.is_behind(OutboxPosition(2, "a2"))


def test_damaged_outbox(tmp_path: Path) -> None:
    """A state.db that cannot be read is an error of its own, and is opened again when it is a new one."""
    (tmp_path / "state.db").write_bytes(b"no database, by no means" * 1000)
    with closing(Outbox(tmp_path)) as outbox:
        with pytest.raises(StoreError):
            outbox.since(0, 10)
        (tmp_path / "state.db").unlink()
        State(tmp_path, pytest.fail).close()
        assert outbox.since(0, 10) == []


def test_delivered(delivery: Delivery, tmp_path: Path) -> None:
    """What was delivered is sent, in order, and not again; the channel knows its last success."""
    stage = Stage(delivery, tmp_path)
    stage.put(1, 2, 3)
    assert stage.work() is None
    assert stage.ids == ["id1", "id2", "id3"]
    assert set(states(delivery).values()) == {"sent"}
    assert delivery._run("SELECT last_success_us, last_error FROM channel").fetchall() == [(NOW, None)]


def test_rejected(delivery: Delivery, tmp_path: Path) -> None:
    """What is rejected is a dead letter with its reason; the next one goes."""
    stage = Stage(delivery, tmp_path, Rejected("550 no"))
    stage.put(1, 2)
    assert stage.work() is None
    assert states(delivery) == {"id1": "dead", "id2": "sent"}
    assert delivery.entries(("dead",), 1)[0].reason == "550 no"


def test_retry_later(delivery: Delivery, tmp_path: Path) -> None:
    """A channel that is down is tried at growing intervals, in order; a success ends them."""
    down = RetryLater("refused")
    stage = Stage(delivery, tmp_path, down, down, down)
    stage.put(1, 2)
    waits = []
    for _ in range(3):
        pause_s = stage.work()
        assert pause_s is not None
        waits.append(pause_s)
        assert stage.work() is not None  # not before its time
        stage.clock.now_us += int(pause_s * SECOND) + 1000
    assert stage.ids == ["id1"] * 3
    for number, pause_s in enumerate(waits):
        assert FIRST_WAIT_S * 2**number * 0.74 <= pause_s <= FIRST_WAIT_S * 2**number
    entry = next(entry for entry in delivery.entries(("pending",), 10) if entry.event_id == "id1")
    assert (entry.attempts, entry.reason) == (3, "refused")
    # The one behind it waits for the same reason.
    assert delivery.entries(("pending",), 10, "id2")[0].reason == "refused"
    assert stage.work() is None
    assert stage.ids[3:] == ["id1", "id2"]
    assert delivery.standing("ops").failures == 0


def test_waits_are_bounded() -> None:
    """No wait is longer than the cap, however often it failed."""
    assert all(LONGEST_WAIT_S * 0.74 <= wait_s(failures) <= LONGEST_WAIT_S for failures in (10, 100, 100_000))


def test_waits_outlive_a_restart(delivery: Delivery, tmp_path: Path) -> None:
    """A new process does not hammer a server that was down."""
    stage = Stage(delivery, tmp_path, RetryLater("refused"))
    stage.put(1)
    stage.work()
    again = Stage(delivery, tmp_path)
    assert again.work() is not None
    assert again.ids == []


def test_clock_that_was_wrong(delivery: Delivery, tmp_path: Path) -> None:
    """Times that were written while the clock was far ahead do not silence a channel."""
    stage = Stage(delivery, tmp_path, RetryLater("refused"), RetryLater("451", alone=True))
    stage.clock.now_us += 365 * DAY
    stage.put(1, 2)
    stage.work()
    stage.clock.now_us = NOW
    stage.work()
    assert stage.ids[1:] == ["id1", "id2"]


def test_one_message_in_trouble(delivery: Delivery, tmp_path: Path) -> None:
    """A message that is alone in its trouble lets others pass."""
    stage = Stage(delivery, tmp_path, RetryLater("451 not this one", alone=True))
    stage.put(1, 2)
    pause_s = stage.work()
    assert stage.ids == ["id1", "id2"]
    assert pause_s is not None
    stage.clock.now_us += int(pause_s * SECOND) + 1000
    stage.work()
    assert stage.ids == ["id1", "id2", "id1"]
    assert set(states(delivery).values()) == {"sent"}


def test_give_up(delivery: Delivery, tmp_path: Path) -> None:
    """What was tried for long enough becomes a dead letter, with the reason; what is newer waits on."""
    stage = Stage(delivery, tmp_path, *[RetryLater("refused")] * 2)
    stage.put(1, 2)
    stage.work()
    stage.clock.now_us += 3 * DAY + SECOND
    stage.put(3)
    stage.work()
    assert states(delivery) == {"id1": "dead", "id2": "dead", "id3": "pending"}
    assert {entry.reason for entry in delivery.entries(("dead",), 10)} == {"refused"}


def test_late_after_an_outage(delivery: Delivery, tmp_path: Path) -> None:
    """What comes late says so."""
    stage = Stage(delivery, tmp_path, RetryLater("refused"))
    stage.put(1)
    stage.work()
    stage.clock.now_us += HOUR
    stage.work()
    assert [message.late for message in stage.channel.told] == ["", "1 h"]


def test_cap(delivery: Delivery, tmp_path: Path) -> None:
    """What is above max_per_hour waits, and all of it comes as one message; none is lost, and none told twice."""
    stage = Stage(delivery, tmp_path, max_per_hour=10)
    stage.put(*range(1, 101))
    pause_s = stage.work()
    assert stage.ids == [f"id{seq}" for seq in range(1, 11)]
    assert pause_s == pytest.approx(360)
    stage.clock.now_us += 361 * SECOND
    assert stage.work() is None
    assert len(stage.channel.told) == 11
    assert stage.channel.told[-1].subject == "90 messages held back: 90 logins"
    assert set(states(delivery).values()) == {"sent"}
    # A quiet hour later single ones are told again.
    stage.clock.now_us += HOUR
    stage.put(101)
    stage.work()
    assert stage.ids[-1] == "id101"


NOISE = ("ssh_forged", "ssh_attempt", "ssh_probe")


@pytest.mark.parametrize("action", NOISE)
def test_noise_delays_no_login(delivery: Delivery, tmp_path: Path, action: str) -> None:
    """However much noise has used up the hour, or waits: a login goes at once and before it, and is told by itself."""
    stage = Stage(delivery, tmp_path, max_per_hour=3)
    stage.put(*range(1, 101), action=action)
    stage.put(101)
    stage.work()
    assert stage.ids == ["id101", "id1", "id2", "id3"]
    stage.put(102)
    stage.put(*range(103, 200), action=action)
    assert stage.work() is not None
    assert stage.ids[4:] == ["id102"]
    stage.clock.now_us += HOUR // 3
    stage.work()
    assert stage.channel.told[5].subject.startswith("194 messages held back: 194 ")
    assert len(stage.channel.told) == 6


def test_other_logins_delay_no_login(delivery: Delivery, tmp_path: Path) -> None:
    """Many logins of one account, or of many, leave each other account, and the same account elsewhere, its own budget."""
    stage = Stage(delivery, tmp_path, max_per_hour=2)
    stage.put(*range(1, 52))
    stage.route(*(queued(100 + number, user=f"own{number}") for number in range(51)))
    stage.route(queued(1000, user="root"), queued(1001, host="db1"))
    stage.work()
    assert stage.ids == ["id1", "id2", *(f"id{100 + number}" for number in range(51)), "id1000", "id1001"]
    stage.clock.now_us += HOUR
    stage.work()
    assert stage.channel.told[-1].subject == "49 messages held back: 49 logins"
    assert set(states(delivery).values()) == {"sent"}


def test_a_notice_is_no_noise(delivery: Delivery, tmp_path: Path) -> None:
    """A notice may name logins that were found late: forged lines do not hold it back."""
    stage = Stage(delivery, tmp_path, max_per_hour=1)
    stage.put(1, 2, action="ssh_forged")
    stage.put(3, action="sshbell_notice")
    stage.work()
    assert stage.ids == ["id3", "id1"]


def test_held_noise_is_folded_between_logins(delivery: Delivery, tmp_path: Path) -> None:
    """Where logins keep coming, what noise is held back still becomes one message as soon as there is a token for it."""
    stage = Stage(delivery, tmp_path, max_per_hour=60)
    stage.put(*range(1, 80), action="ssh_forged")
    stage.work()
    stage.channel.told.clear()
    for number in range(4):
        stage.clock.now_us += 20 * SECOND
        stage.route(queued(100 + number, user=f"user{number}"))
        stage.work()
    assert [message.subject[:21] for message in stage.channel.told if "held" in message.subject] == ["19 messages held back"]
    assert len(stage.channel.told) == 5


def test_made_up_accounts(delivery: Delivery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host whose log names ever more accounts shares a budget among those beyond the limit; other hosts have theirs."""
    monkeypatch.setattr(module, "ACCOUNT_LIMIT", 5)
    stage = Stage(delivery, tmp_path, max_per_hour=1)
    stage.route(*(queued(number, user=f"user{number}") for number in range(1, 21)))
    stage.route(queued(100, user="root", host="db1"))
    stage.work()
    assert stage.ids == ["id1", "id2", "id3", "id4", "id5", "id6", "id100"]
    stage.clock.now_us += HOUR
    stage.work()
    assert stage.channel.told[-1].subject == "14 messages held back: 14 logins"


def test_made_up_hosts(delivery: Delivery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound all share a budget; what was not used for an hour makes room."""
    monkeypatch.setattr(module, "BUDGET_LIMIT", 3)
    stage = Stage(delivery, tmp_path, max_per_hour=1)
    stage.route(*(queued(number, host=f"host{number}") for number in range(1, 11)))
    stage.work()
    assert stage.ids == ["id1", "id2", "id3", "id4"]
    stage.clock.now_us += HOUR
    stage.work()
    assert stage.channel.told[-1].subject == "6 messages held back: 6 logins"
    stage.clock.now_us += 2 * HOUR
    delivery.forget_budgets(stage.clock.now_us)
    assert delivery.spent("ops") == []
    stage.route(*(queued(number, host=f"host{number}") for number in range(20, 23)))
    stage.work()
    assert stage.ids[-3:] == ["id20", "id21", "id22"]


def test_cap_of_one_message(delivery: Delivery, tmp_path: Path) -> None:
    """A single message that had to wait is told as what it is."""
    stage = Stage(delivery, tmp_path, max_per_hour=1)
    stage.put(1, 2)
    stage.work()
    stage.clock.now_us += HOUR
    stage.work()
    assert stage.ids == ["id1", "id2"]


def test_cap_outlives_a_restart(delivery: Delivery, tmp_path: Path) -> None:
    """A new process has no fresh allowance."""
    stage = Stage(delivery, tmp_path, max_per_hour=2)
    stage.put(1, 2, 3)
    stage.work()
    again = Stage(delivery, tmp_path, max_per_hour=2)
    assert again.work() == pytest.approx(1800)
    assert again.ids == []


def test_digest_is_the_same_when_tried_again(delivery: Delivery, tmp_path: Path) -> None:
    """A digest that could not be sent is sent again with its id and what it held, whatever has come since."""
    stage = Stage(delivery, tmp_path, Delivered(), RetryLater("refused"), max_per_hour=1)
    stage.put(1, 2, 3)
    stage.work()
    stage.clock.now_us += HOUR
    stage.work()
    stage.put(4)
    again = Stage(delivery, tmp_path, max_per_hour=1)
    again.clock.now_us = stage.clock.now_us + HOUR
    again.work()
    assert again.ids == stage.ids[1:2]
    assert again.channel.told[0].subject == "2 messages held back: 2 logins"
    assert states(delivery) == {"id1": "sent", "id2": "sent", "id3": "sent", "id4": "pending"}


def test_rejected_digest_is_told_message_by_message(delivery: Delivery, tmp_path: Path) -> None:
    """A name that a server refuses costs its own message, and none of those that waited with it."""
    stage = Stage(delivery, tmp_path, Delivered(), Rejected("554 spam"), Rejected("554 spam"), Delivered(), max_per_hour=1)
    stage.put(1, 2, 3)
    for _ in range(6):
        stage.work()
        stage.clock.now_us += HOUR
    assert states(delivery) == {"id1": "sent", "id2": "dead", "id3": "sent"}
    assert stage.ids[-2:] == ["id2", "id3"]


def test_test_message_goes_first(delivery: Delivery, tmp_path: Path) -> None:
    """A test goes at once, whatever waits, and has no effect on what waits."""
    stage = Stage(delivery, tmp_path, RetryLater("refused"), max_per_hour=1)
    stage.put(1)
    stage.work()
    delivery.put_test("test-1", ["ops"], NOW, b'{"event":{"action":"sshbell_test"}}')
    stage.work()
    assert stage.ids == ["id1", "test-1", "id1"]
    assert delivery.outcome("test-1") == {"ops": ("sent", 1, None)}


@pytest.mark.parametrize("ends", [False, True])
def test_full_disk_does_not_repeat(delivery: Delivery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, ends: bool) -> None:
    """A message whose outcome cannot be written is not sent again: it is written when that is possible, also at the end."""
    stage = Stage(delivery, tmp_path)
    stage.put(1)
    monkeypatch.setattr(worker, "AGAIN_S", 0.001)
    real: Callable[..., None] = delivery.sent
    failures = [StoreError("disk full")] * 3

    def sent(*arguments: Any) -> None:
        if failures:
            if ends:
                stage.worker.stop()
            raise failures.pop()
        real(*arguments)

    monkeypatch.setattr(delivery, "sent", sent)
    stage.work()
    assert stage.ids == ["id1"]
    assert states(delivery) == {"id1": "sent"}


@pytest.mark.parametrize("case", ["back", "terminated", "newer"])
def test_a_disk_that_is_away_at_the_end(case: str, delivery: Delivery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    At the end, a channel waits for the disk much longer than for its server.

    It does not if a service manager ends the process, or if a newer sshbell has taken the store over.
    """
    monkeypatch.setattr(worker, "AGAIN_S", 0.002)
    monkeypatch.setattr(dispatcher, "STOP_S", 0.001)
    channel = Answers()
    monkeypatch.setattr(dispatcher, "channel_of", lambda _settings: channel)
    real: Callable[..., None] = delivery.sent
    terminated = asyncio.Event()
    tries = 0

    def sent(*arguments: Any) -> None:
        nonlocal tries
        tries += 1
        if case == "terminated" and tries == 20:
            terminated.set()
        if case != "back" or tries < 50:
            raise NewerStoreError("newer") if case == "newer" and tries >= 20 else StoreError("disk full")
        real(*arguments)

    monkeypatch.setattr(delivery, "sent", sent)
    delivery.route([Routed(queued(1), ["ops"]), Routed(queued(2), ["ops"])])
    config = Config(channel=[EmailSettings(name="ops", to=["ops@example.org"])], route=[Route(channels=["ops"])], geoip=[])

    async def stopped(outbox: Outbox) -> None:
        made = dispatcher.Dispatcher(config, delivery, outbox, Renderer(tmp_path, pytest.fail))
        await wait_for_async(lambda: tries > 0, "an outcome that is not recorded")
        await made.stop(terminated)

    with closing(State(tmp_path, pytest.fail)), closing(Outbox(tmp_path)) as outbox:
        asyncio.run(stopped(outbox))
    assert [message.id for message in channel.told] == ["id1"]
    assert states(delivery) == {"id1": "sent" if case == "back" else "pending", "id2": "pending"}


def test_new_settings_while_the_disk_is_away(delivery: Delivery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A channel that waits for the disk does not stop because its successor, with new settings, does: see ``Dispatcher.stop``."""
    monkeypatch.setattr(worker, "AGAIN_S", 0.002)
    monkeypatch.setattr(dispatcher, "STOP_S", 0.001)
    channel = Answers()
    monkeypatch.setattr(dispatcher, "channel_of", lambda _settings: channel)
    real: Callable[..., None] = delivery.sent
    tries = 0

    def sent(*arguments: Any) -> None:
        nonlocal tries
        tries += 1
        if tries < 50:
            raise StoreError("disk full")
        real(*arguments)

    monkeypatch.setattr(delivery, "sent", sent)
    delivery.route([Routed(queued(1), ["ops"]), Routed(queued(2), ["ops"])])
    route = [Route(channels=["ops"])]
    before, after = (
        Config(channel=[EmailSettings(name="ops", to=[to])], route=route, geoip=[]) for to in ("a@example.org", "b@example.org")
    )

    async def stopped(outbox: Outbox) -> None:
        made = dispatcher.Dispatcher(before, delivery, outbox, Renderer(tmp_path, pytest.fail))
        await wait_for_async(lambda: tries > 0, "an outcome that is not recorded")
        made.configure(after, People())
        await asyncio.sleep(0)
        await made.stop(asyncio.Event())

    with closing(State(tmp_path, pytest.fail)), closing(Outbox(tmp_path)) as outbox:
        asyncio.run(stopped(outbox))
    assert [message.id for message in channel.told] == ["id1"]
    assert states(delivery) == {"id1": "sent", "id2": "pending"}


def test_server_that_hangs_at_the_end_after_a_fault(delivery: Delivery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A channel counts as one that waits for the disk only while it does, even if recording ends with a fault of sshbell."""
    monkeypatch.setattr(worker, "AGAIN_S", 0.001)
    monkeypatch.setattr(dispatcher, "STOP_S", 0.001)
    channel = Answers()
    monkeypatch.setattr(dispatcher, "channel_of", lambda _settings: channel)
    faults: list[Exception] = [StoreError("disk full"), ZeroDivisionError()]
    is_hanging = asyncio.Event()

    def sent(*_arguments: Any) -> None:
        raise faults.pop(0)

    async def send(message: Message) -> SendResult:
        channel.told.append(message)
        if faults:
            return Delivered()
        is_hanging.set()
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(delivery, "sent", sent)
    monkeypatch.setattr(channel, "send", send)
    delivery.route([Routed(queued(1), ["ops"])])
    config = Config(channel=[EmailSettings(name="ops", to=["ops@example.org"])], route=[Route(channels=["ops"])], geoip=[])

    async def stopped(outbox: Outbox) -> None:
        made = dispatcher.Dispatcher(config, delivery, outbox, Renderer(tmp_path, pytest.fail))
        await is_hanging.wait()
        async with asyncio.timeout(DEADLINE_S):
            await made.stop(asyncio.Event())

    with closing(State(tmp_path, pytest.fail)), closing(Outbox(tmp_path)) as outbox:
        asyncio.run(stopped(outbox))
    assert states(delivery) == {"id1": "pending"}


def test_broken_channel_and_broken_row(delivery: Delivery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of a channel's code costs no message; what is no event is a dead letter."""
    stage = Stage(delivery, tmp_path)

    async def fail(_message: Message) -> SendResult:
        raise ZeroDivisionError

    monkeypatch.setattr(stage.channel, "send", fail)
    stage.put(1)
    delivery.route([Routed(Queued(2, "id2", "ssh_login", NOW, b"broken"), ["ops"])])
    assert stage.work() is not None
    assert states(delivery) == {"id1": "pending", "id2": "dead"}
    assert "ZeroDivisionError" in str(delivery.entries(("pending",), 1)[0].reason)


def test_retry_and_drop(delivery: Delivery, tmp_path: Path) -> None:
    """People can have a dead letter or a waiting message tried at once, or dropped; what is done stays done."""
    stage = Stage(delivery, tmp_path, Rejected("550 no"), Delivered(), RetryLater("refused"))
    stage.put(1, 2, 3)
    stage.work()
    assert states(delivery) == {"id1": "dead", "id2": "sent", "id3": "pending"}
    assert delivery.retry(None, "other") == 0
    assert delivery.retry("id2", None) == 0
    assert delivery.retry(None, None) == 2
    stage.work()
    assert stage.ids[3:] == ["id1", "id3"]
    stage.channel.answers = [RetryLater("refused")]
    stage.put(4)
    stage.work()
    assert delivery.drop("id4", "ops", NOW) == 1
    assert delivery.drop("id1", "ops", NOW) == 0
    assert states(delivery) == {"id1": "sent", "id2": "sent", "id3": "sent", "id4": "dropped"}


def test_changes_of_others_are_seen(delivery: Delivery, tmp_path: Path) -> None:
    """Another process's change is seen once; our own are none."""
    delivery.route([Routed(queued(1), ["ops"])])
    assert not delivery.has_changed()
    with closing(Delivery(tmp_path, None)) as other:
        assert other.retry(None, None) == 1
    assert delivery.has_changed()
    assert not delivery.has_changed()


def test_forget(delivery: Delivery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was done long ago, or is beyond the bound, is forgotten; what waits is not."""
    stage = Stage(delivery, tmp_path)
    for seq in range(1, 6):
        stage.clock.now_us += SECOND
        stage.put(seq)
        stage.work()
    stage.put(6)
    delivery.forget(NOW + 2 * SECOND)
    assert set(states(delivery)) == {"id2", "id3", "id4", "id5", "id6"}
    monkeypatch.setattr(module, "DONE_LIMIT", 1)
    delivery.forget(0)
    assert set(states(delivery)) == {"id5", "id6"}


def test_forget_bytes(delivery: Delivery, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the file is too large, what is done goes, the oldest first; what waits stays."""
    delivery.route([Routed(Queued(1, "waiting", "ssh_login", NOW, bytes(10_000)), ["ops"])])
    monkeypatch.setattr(module, "WAITING_LIMIT", 0)
    delivery.route(Routed(Queued(seq, f"id{seq}", "ssh_forged", NOW + seq, bytes(10_000)), ["ops"]) for seq in range(2, 102))
    delivery.forget_bytes()
    assert len(states(delivery)) == 101
    monkeypatch.setattr(module, "_BYTES_PIECE", 3)
    monkeypatch.setattr(module, "DELIVERY_LIMIT_BYTES", 640_000)
    delivery.forget_bytes()
    left = states(delivery)
    assert left.pop("waiting") == "pending"
    assert 40 < len(left) < 60
    assert set(left) == {f"id{seq}" for seq in range(102 - len(left), 102)}
    monkeypatch.setattr(module, "DELIVERY_LIMIT_BYTES", 0)
    delivery.forget_bytes()
    assert states(delivery) == {"waiting": "pending"}


def test_a_flood_costs_no_dead_letter(delivery: Delivery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound what was dropped goes first, then what was sent or given up."""
    stage = Stage(delivery, tmp_path, Rejected("550 no"))
    stage.put(1)
    stage.work()
    monkeypatch.setattr(module, "WAITING_LIMIT", 0)
    for seq in range(2, 6):
        stage.clock.now_us += SECOND
        stage.put(seq, action="ssh_forged")
    monkeypatch.setattr(module, "DONE_LIMIT", 3)
    delivery.forget(0)
    assert states(delivery) == {"id1": "dead", "id4": "dropped", "id5": "dropped"}
    monkeypatch.setattr(module, "DONE_LIMIT", 1)
    delivery.forget(0)
    assert states(delivery) == {"id1": "dead"}
    monkeypatch.setattr(module, "DONE_LIMIT", 0)
    delivery.forget(0)
    assert states(delivery) == {}


def test_a_flood_is_forgotten_soon(delivery: Delivery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is dropped in a flood does not wait for the next ten minutes."""
    monkeypatch.setattr(module, "WAITING_LIMIT", 0)
    monkeypatch.setattr(module, "DONE_LIMIT", 5)
    monkeypatch.setattr(dispatcher, "_KEEP_EVERY", 10)
    route = Route(channels=["ops"], events=(EventAction.FORGED,))
    config = Config(channel=[EmailSettings(name="ops", to=["ops@example.org"])], route=[route], geoip=[])

    async def routed() -> None:
        now_us = time.time_ns() // 1000
        with closing(State(tmp_path, pytest.fail)) as state, closing(Outbox(tmp_path)) as outbox:
            made = dispatcher.Dispatcher(config, delivery, outbox, Renderer(tmp_path / "none", pytest.fail))
            made.poll()
            for number in range(30):
                body = queued(number, "ssh_forged").body
                state.record([], frozenset(), now_us, (f"id{number}", "ssh_forged", body))
            made.poll()
            await made.stop(asyncio.Event())

    asyncio.run(routed())
    assert len(states(delivery)) == 5


def test_a_channel_that_goes_on(delivery: Delivery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A channel that another configuration does not change takes over the settings that all channels have in common."""
    channel = Answers()
    monkeypatch.setattr(dispatcher, "channel_of", lambda _settings: channel)
    body = b'{"event":{"action":"ssh_login"},"source":{"ip":"9.9.9.9"}}'

    def config(map_url: str) -> Config:
        settings = EmailSettings(name="ops", to=["ops@example.org"])
        return Config(channel=[settings], route=[Route(channels=["ops"])], map_url=map_url, geoip=[])

    async def delivered(state: State, outbox: Outbox) -> None:
        made = dispatcher.Dispatcher(config("https://one.example.org/{ip}"), delivery, outbox, Renderer(tmp_path, pytest.fail))

        async def tell(event_id: str) -> None:
            state.record([], frozenset(), time.time_ns() // 1000, (event_id, "ssh_login", body))
            made.poll()
            await wait_for_async(lambda: channel.told[-1:] and channel.told[-1].id == event_id, "the message is sent")

        await tell("m1")
        made.configure(config("https://two.example.org/{ip}"), made.people)
        await tell("m2")
        await made.stop(asyncio.Event())

    with closing(State(tmp_path, pytest.fail)) as state, closing(Outbox(tmp_path)) as outbox:
        asyncio.run(delivered(state, outbox))
    links = [re.findall("https://[^ \n]+", message.text) for message in channel.told]
    assert links == [["https://one.example.org/9.9.9.9"], ["https://two.example.org/9.9.9.9"]]


def test_removed_channels(delivery: Delivery) -> None:
    """What waits for a channel that is no more is given up in its time."""
    delivery.route([Routed(queued(1), ["gone", "ops"])])
    assert delivery.give_up_of_removed(["ops"], NOW, NOW) == 0
    assert delivery.give_up_of_removed(["ops"], NOW + 1, NOW) == 1
    assert states(delivery, "gone") == {"id1": "dead"}
    assert states(delivery) == {"id1": "pending"}


def test_damaged_file_is_set_aside(tmp_path: Path) -> None:
    """A damaged delivery.db does not keep messages from going out."""
    (tmp_path / "delivery.db").write_bytes(b"no database, by no means" * 1000)
    said: list[str] = []
    with closing(Delivery(tmp_path, said.append)) as made:
        made.route([Routed(queued(1), ["ops"])])
        assert made.due("ops", NOW) is not None
    assert len(said) == 1


def damage(delivery: Delivery) -> None:
    """Overwrite all pages of an open file but the first; nothing may be left in its log."""
    with delivery._path.open("r+b") as file:
        size = file.seek(0, 2)
        file.seek(4096)
        file.write(b"\xff" * (size - 4096))
    delivery._run("PRAGMA shrink_memory")


def test_damaged_in_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is damaged while it is open is set aside by the next call, and a new one has its place."""
    said: list[str] = []
    with closing(Delivery(tmp_path, said.append)) as delivery:
        delivery.route(Routed(queued(seq), ["ops"]) for seq in range(1, 1000))
        delivery._run("PRAGMA wal_checkpoint(TRUNCATE)")
        damage(delivery)
        with pytest.raises(StoreError, match=r"delivery\.db: database disk image is malformed"):
            delivery.retry(None, None)
        assert said == []
        # First there is no room for a new one; that is tried again, and nothing else is set aside.
        with monkeypatch.context() as patch:
            patch.setattr(database, "schema_of", lambda _name: "PRAGMA max_page_count = 1; CREATE TABLE a (b);")
            for _ in range(3):
                with pytest.raises(StoreError, match="full"):
                    delivery.cursors()
        assert delivery.cursors() == (OutboxPosition(), OutboxPosition())
        assert delivery._run("PRAGMA synchronous").fetchone() == (2,)
        assert delivery.route([Routed(queued(1), ["ops"])]) == {"ops"}
        assert states(delivery) == {"id1": "pending"}
    assert len(said) == len(set_aside_of(tmp_path / "delivery.db")) == 1


def test_what_waits_is_told_after_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After damage in use deliver goes on by itself: what is in the outbox is routed again, and told."""
    said: list[str] = []
    channel = Answers()
    monkeypatch.setattr(dispatcher, "channel_of", lambda _settings: channel)
    config = Config(channel=[EmailSettings(name="ops", to=["ops@example.org"], max_per_hour=5000)], route=[], geoip=[])

    async def polled(delivery: Delivery, outbox: Outbox) -> None:
        made = dispatcher.Dispatcher(config, delivery, outbox, Renderer(tmp_path / "none", pytest.fail))
        delivery.route(Routed(queued(seq), ["gone"]) for seq in range(1, 1000))
        delivery._run("PRAGMA wal_checkpoint(TRUNCATE)")
        damage(delivery)

        def is_told() -> bool:
            made.poll()
            return bool(channel.told)

        await wait_for_async(is_told, "the message is sent")
        await made.stop(asyncio.Event())

    with closing(State(tmp_path, pytest.fail)) as state, closing(Delivery(tmp_path, said.append)) as delivery:
        state.record(
            [], frozenset(), time.time_ns() // 1000, ("m1", "sshbell_notice", b'{"event": {"action": "sshbell_notice"}}')
        )
        with closing(Outbox(tmp_path)) as outbox:
            asyncio.run(polled(delivery, outbox))
        assert [message.id for message in channel.told] == ["m1"]
        assert states(delivery) == {"m1": "sent"}
    assert len(said) == 1


def test_damage_found_row_by_row(tmp_path: Path) -> None:
    """Damage behind the first row of an answer is known as such, too."""
    said: list[str] = []
    with closing(Delivery(tmp_path, said.append)) as delivery:
        delivery.route(Routed(queued(seq), ["ops"]) for seq in range(1, 1000))
        delivery._run("PRAGMA wal_checkpoint(TRUNCATE)")
        rows = delivery._rows("SELECT event_id FROM delivery")
        assert next(rows) == ("id1",)
        damage(delivery)
        with pytest.raises(StoreError, match="malformed"):
            list(rows)
        assert delivery.cursors() == (OutboxPosition(), OutboxPosition())
    assert len(said) == 1


def test_only_its_owner_replaces_it(tmp_path: Path) -> None:
    """Who writes beside deliver neither makes the file, nor sets a damaged one aside, on which deliver would go on."""
    with pytest.raises(StoreError, match="it does not exist yet"):
        Delivery(tmp_path, None)
    assert list(tmp_path.iterdir()) == []
    with closing(Delivery(tmp_path, pytest.fail)) as owner:
        owner.route(Routed(queued(seq), ["ops"]) for seq in range(1, 1000))
        owner._run("PRAGMA wal_checkpoint(TRUNCATE)")
        with closing(Delivery(tmp_path, None)) as other:
            damage(owner)
            other._run("PRAGMA shrink_memory")
            for _ in range(2):
                with pytest.raises(StoreError, match="malformed"):
                    other.retry(None, None)
        assert set_aside_of(tmp_path / "delivery.db") == []
    (tmp_path / "delivery.db").write_bytes(b"no database, by no means" * 1000)
    with pytest.raises(StoreError, match="not a database"):
        Delivery(tmp_path, None)
    assert set_aside_of(tmp_path / "delivery.db") == []


def test_errors_are_ours(delivery: Delivery) -> None:
    """SQLite's own errors stop at the store."""
    delivery._run("DROP TABLE delivery")
    with pytest.raises(StoreError):
        delivery.due("ops", NOW)
    with pytest.raises(StoreError):
        delivery.route([Routed(queued(1), ["ops"])])
    assert not isinstance(StoreError("x"), sqlite3.Error)
