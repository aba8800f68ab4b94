"""Folds, digests and quiet hours over any events, clocks, failures and restarts: nothing vanishes, nothing is doubled."""

from __future__ import annotations

import asyncio
import json
import re
import tempfile
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumer.actions import EventAction
from consumer.channel_settings import EmailSettings
from consumer.config import Choice, Config, Route
from consumer.deliver.channels import Delivered, Medium, Message, Rejected, RetryLater, SendResult
from consumer.deliver.decide import Fold, Send, Wait, Waiting, budget_of, decide, plan_of
from consumer.deliver.rendering import Renderer
from consumer.deliver.routing import Lead, Router
from consumer.deliver.worker import Common, Worker
from consumer.ecs import event_of
from consumer.enrich.enricher import Enricher
from consumer.store import delivery as module
from consumer.store.delivery import Delivery
from consumer.store.delivery_holds import BLOCK_LIMIT
from consumer.store.delivery_rows import Budget, Hold, Pending, Routed, Standing, Way
from consumer.store.outbox import Queued
from consumer.store.status_queries import delivered

if TYPE_CHECKING:
    from consumer.ecs import EcsEvent

SECOND = 1_000_000
HOUR, DAY = 3600 * SECOND, 86400 * SECOND
# A Sunday, 10:00 in UTC.
NOW = 1_795_341_600 * SECOND
UTC = ZoneInfo("UTC")
RENDERER = Renderer(Path("/nowhere"), pytest.fail)
ACTIONS = ("ssh_login", "ssh_logout", "ssh_attempt", "ssh_probe", "ssh_forged", "sshbell_notice")
EVENTS = tuple(EventAction)


class Kept:
    """A channel that keeps what it accepts; a test decides what it answers."""

    medium: Medium = "chat"

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.answer: SendResult = Delivered()

    async def send(self, message: Message) -> SendResult:
        """Answer."""
        if isinstance(self.answer, Delivered):
            self.messages.append(message)
        return self.answer

    async def check(self) -> SendResult:
        """Answer."""
        return self.answer

    def close(self) -> None:
        """Nothing is open."""


class Desk:
    """One channel over a real ``delivery.db``; the dispatcher's part is played as it is in ``Dispatcher``."""

    def __init__(self, folder: Path, route: list[Route], quiet: str, max_per_hour: int) -> None:
        self.folder = folder
        self.now_us = NOW
        self.seq = 0
        self.sent_us: dict[str, int] = {}
        self.channel = Kept()
        self.settings = EmailSettings(name="ops", to=["ops@example.org"], quiet=quiet, timezone="UTC", max_per_hour=max_per_hour)
        self.router = Router(["ops"], route)
        self.delivery = Delivery(folder, pytest.fail)
        self.restart()

    def restart(self) -> None:
        """Go on as a new process does after a kill."""
        self.delivery.close()
        self.delivery = Delivery(self.folder, pytest.fail)
        self.worker = Worker(
            self.settings, self.channel, self.delivery, RENDERER, Enricher(), Common(give_up_s=10**9), clock=lambda: self.now_us
        )

    def put(self, action: str, user: str, host: str, address: str) -> None:
        """Route an event."""
        self.seq += 1
        fields = {
            "event": {"action": action, "id": f"id{self.seq}"}, "user": {"name": user}, "host": {"name": host},
            "source": {"ip": address}, "ssh": {"origin": "verified"},
        }  # fmt: skip
        body = json.dumps(fields).encode()
        event = event_of(body)
        ways = {
            lead.channel: Way(lead.is_urgent, plan_of(event, lead, self.now_us, self.settings.quiet, UTC))
            for lead in self.router.leads(event)
        }
        message = Queued(self.seq, f"id{self.seq}", action, self.now_us, body)
        self.delivery.route([Routed(message, list(ways), budget_of(event), ways)])

    def work(self) -> float | None:
        """Send all that may go now; return for how long the worker waits."""

        async def steps() -> float | None:
            for _ in range(2000):
                before = len(self.channel.messages)
                pause_s = await self.worker.step()
                for message in self.channel.messages[before:]:
                    self.sent_us[message.id] = self.now_us
                if pause_s != 0:
                    return pause_s
            raise AssertionError("the worker is busy with waiting")

        return asyncio.run(steps())

    def rows(self) -> list[tuple[str, str, str | None, str]]:
        """Return id, state, digest and hold of each message."""
        return self.delivery._run("SELECT event_id, state, digest, hold FROM delivery ORDER BY seq").fetchall()


ROUTES = st.lists(
    st.one_of(
        st.builds(
            Route, channels=st.just(["ops"]), events=st.just(EVENTS), urgent=st.booleans(), window=st.sampled_from(["10m", "2h"]),
            fold=st.lists(st.sampled_from(["event", "user", "host", "address", "route"]), max_size=3),
            include=st.sampled_from([Choice(), Choice(user=["root"])]),
        ),
        st.builds(
            Route, channels=st.just(["ops"]), events=st.just(EVENTS), digest=st.sampled_from(["daily 08:00", "weekly mon 06:30"]),
            include=st.sampled_from([Choice(), Choice(user=["alice"])]),
        ),
    ),
    min_size=1, max_size=3,
)  # fmt: skip
EVENT = st.tuples(
    st.just("put"), st.sampled_from(ACTIONS), st.sampled_from(["root", "alice", "b"]), st.sampled_from(["web1", "web2"]),
    st.integers(0, 9).map(lambda number: f"192.0.{number}.{number}"),
)  # fmt: skip
MOVE = st.tuples(
    st.just("move"),
    st.one_of(st.integers(0, 30 * SECOND), st.integers(0, 5 * HOUR), st.integers(0, 3 * DAY), st.integers(-2 * HOUR, 0)),
)
OTHER = st.sampled_from([("work",), ("restart",), ("fail",), ("reject",), ("work",)])
STORY = st.lists(st.one_of(EVENT, EVENT, MOVE, OTHER), max_size=40)


def played(desk: Desk, story: list[tuple[Any, ...]]) -> None:
    """Play a story, and then let the clock go on until nothing waits."""
    for kind, *values in story:
        match kind:
            case "put":
                desk.put(*values)
            case "move":
                desk.now_us += values[0]
            case "restart":
                desk.restart()
            case "fail" | "reject":
                desk.channel.answer = RetryLater("down") if kind == "fail" else Rejected("no")
                desk.work()
                desk.channel.answer = Delivered()
            case _:
                desk.work()
    for _ in range(400):
        pause_s = desk.work()
        if pause_s is None and all(state != "pending" for _, state, _, _ in desk.rows()):
            return
        desk.now_us += max(int((pause_s or 60) * 1e6), HOUR // 2)
    raise AssertionError("something waits for ever")


@settings(deadline=None, max_examples=60)
@given(ROUTES, st.sampled_from(["", "22:00-07:00", "09:00-11:00"]), st.integers(1, 5), STORY)
def test_each_event_ends_in_one_message(route: list[Route], quiet: str, max_per_hour: int, story: list[tuple[Any, ...]]) -> None:
    """Whatever the clock does, and whenever it restarts: sshbell reports each event once, alone or counted in one digest."""
    with tempfile.TemporaryDirectory() as folder:
        desk = Desk(Path(folder), route, quiet, max_per_hour)
        with closing(desk.delivery):
            played(desk, story)
            rows = desk.rows()
            reported = [message.id for message in desk.channel.messages]
            assert len(reported) == len(set(reported)), "no message comes twice"
            assert not [row for row in rows if row[1] == "pending" or row[3]]
            sizes = Counter(digest for _, state, digest, _ in rows if state == "sent" and digest)
            singles = {event_id for event_id, state, digest, _ in rows if state == "sent" and not digest}
            assert set(reported) == singles | set(sizes)
            for message in desk.channel.messages:
                if message.id in sizes:
                    counts = map(int, re.findall(r"\d+", message.subject.partition(": ")[2]))
                    assert sum(counts) == sizes[message.id], message.subject
            dead = sum(state == "dead" for _, state, _, _ in rows)
            routed = sum(1 for kind, *_ in story if kind == "put") - unrouted(desk, story)
            assert len(singles) + sum(sizes.values()) + dead == len(rows) == routed
            assert not desk.delivery.holds("ops") or desk.delivery.next_hold_us("ops", desk.now_us) is not None
            desk.delivery.close()


def unrouted(desk: Desk, story: list[tuple[Any, ...]]) -> int:
    """Return how many events no route takes."""
    count = 0
    for kind, *values in story:
        if kind == "put":
            action, user = values[:2]
            event = event_of(json.dumps({"event": {"action": action}, "user": {"name": user}}).encode())
            count += not desk.router.leads(event)
    return count


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(["", "22:00-07:00"]), STORY)
def test_noise_delays_no_login(quiet: str, story: list[tuple[Any, ...]]) -> None:
    """The logins of a story go at the same times with and without its noise, and no digest has both."""
    routes = [Route(channels=["ops"], events=EVENTS)]
    times = []
    for is_noisy in (True, False):
        with tempfile.TemporaryDirectory() as folder:
            desk = Desk(Path(folder), routes, quiet, 2)
            with closing(desk.delivery):
                for kind, *values in story:
                    if kind == "put" and (is_noisy or values[0] in {"ssh_login", "ssh_logout"}):
                        desk.put(*values)
                        desk.work()
                    elif kind == "move" and values[0] > 0:
                        desk.now_us += values[0]
                        desk.work()
                logins = dict(desk.delivery._run("SELECT event_id, body FROM delivery WHERE budget <> ''"))
                assert len(logins) <= len(story)
                times.append(sorted(
                    (desk.sent_us[event_id], json.loads(body)["user"]["name"])
                    for event_id, body in logins.items() if event_id in desk.sent_us and b"ssh_log" in body
                ))  # fmt: skip
                mixed = [
                    digest
                    for (digest,) in desk.delivery._run(
                        "SELECT digest FROM delivery WHERE digest > '' GROUP BY digest HAVING count(DISTINCT budget = '') > 1"
                    )
                ]
                assert mixed == []
                desk.delivery.close()
    assert times[0] == times[1]


def test_what_is_only_counted_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Beyond the limit of waiting messages, the fold counts them, so that the totals add up."""
    monkeypatch.setattr(module, "WAITING_LIMIT", 10)
    desk = Desk(tmp_path, [Route(channels=["ops"], events=EVENTS)], "", 60)
    with closing(desk.delivery):
        for number in range(500):
            desk.put("ssh_attempt", f"u{number}", "web1", f"198.51.{number % 100}.7")
            desk.work()
        first = len(desk.channel.messages)
        assert first == BLOCK_LIMIT + 1
        desk.now_us += 11 * 60 * SECOND
        desk.work()
        folds = desk.channel.messages[first:]
        assert len(folds) <= first
        counts = [int(message.subject.split()[0]) for message in folds if "more messages" in message.subject]
        assert first + sum(counts) + sum(1 for message in folds if "more messages" not in message.subject) == 500
        # The folds go on, and end when a window brings nothing.
        assert desk.delivery.holds("ops")
        desk.now_us += 11 * 60 * SECOND
        assert desk.work() is None
        assert desk.delivery.holds("ops") == {}
        desk.put("ssh_attempt", "u", "web1", "198.51.1.7")
        desk.work()
        assert desk.channel.messages[-1].id == "id501"
        desk.delivery.close()


MOMENT = st.integers(0, 9_000_000_000 * SECOND)
PENDING = st.builds(
    Pending, st.just("id"), st.integers(1, 9), st.just(0), MOMENT, st.sampled_from([None, "", "fold-1"]), st.just(b"{}"),
    st.sampled_from(["", "web1 a"]), st.booleans(), st.just("fold x"),
)  # fmt: skip


@given(
    MOMENT, PENDING, st.integers(-9 * DAY, 9 * DAY), st.sampled_from([0, 600 * SECOND]), st.booleans(), st.floats(0, 5), MOMENT
)
def test_decide_keeps_the_time(
    now_us: int, first: Pending, ahead_us: int, window_us: int, is_crowded: bool, tokens: float, quiet_us: int  # noqa: FBT001
) -> None:  # fmt: skip
    """A hold goes when it is due, in quiet hours only if it is urgent, and a fold only for a token; each wait ends."""
    hold = Hold("fold x", now_us + ahead_us, window_us)
    budget = Budget(first.budget, tokens, now_us)
    waiting = Waiting(first, budget, is_crowded=is_crowded, hold=hold)
    for quiet_end_us in (None, quiet_us):
        decision = decide(now_us, Standing(), waiting, max_per_hour=5, is_holding_back=False, quiet_end_us=quiet_end_us)
        is_quiet = quiet_end_us is not None and not first.is_urgent
        is_early = 0 < ahead_us <= 8 * DAY
        if is_quiet or is_early or (window_us and tokens < 1):
            assert isinstance(decision, Wait)
            assert decision.seconds is not None
            assert 0 < decision.seconds <= 60 + 3600 / 5
        else:
            assert isinstance(decision, Fold if is_crowded and first.digest is None else Send)
            assert not isinstance(decision, Wait)
            assert decision.tokens == tokens - bool(window_us)


def event_with(**fields: Any) -> EcsEvent:
    """Return an event."""
    return event_of(json.dumps(fields).encode())


NAME = st.one_of(st.none(), st.text(max_size=300))


@given(st.sampled_from(ACTIONS), NAME, NAME, NAME, st.lists(st.sampled_from(["event", "user", "host", "address", "route"])))
def test_names_of_holds(action: str, user: str | None, host: str | None, address: str | None, fold: list[str]) -> None:
    """Whatever the texts: the name is bounded, and a genuine login of root shares no fold with noise, others, or a claim."""
    lead = Lead("ops", fold=tuple(fold))

    def name_of(action: str, user: str | None, origin: str) -> str:
        event = event_with(
            event={"action": action},
            user={"name": user},
            host={"name": host},
            source={"address": address},
            ssh={"origin": origin},
        )
        plan = plan_of(event, lead, NOW, "", UTC)
        return "" if plan is None else plan.name

    name = name_of(action, user, "verified")
    assert len(name) < 12_000
    root = name_of("ssh_login", "root", "verified")
    if name and user != "root":
        assert name != root
    if root:
        assert root != name_of("ssh_login", "root", "unverified")


def test_configured() -> None:
    """The defaults fold no login."""
    assert Config().route == []
    assert plan_of(event_with(event={"action": "ssh_login"}), Lead("ops"), NOW, "", UTC) is None


def desk_of(folder: Path, *, quiet: str = "", max_per_hour: int = 60, **keys: Any) -> Desk:
    """Return a desk with one route."""
    return Desk(folder, [Route(channels=["ops"], events=EVENTS, **keys)], quiet, max_per_hour)


def test_a_fold(tmp_path: Path) -> None:
    """The first login goes at once; equal ones follow together at the end of the window; another account is another fold."""
    desk = desk_of(tmp_path, fold=["user", "host"])
    with closing(desk.delivery):
        for _ in range(3):
            desk.put("ssh_login", "root", "web1", "192.0.2.7")
            desk.work()
            desk.now_us += 60 * SECOND
        desk.put("ssh_login", "alice", "web1", "192.0.2.7")
        desk.work()
        assert [message.id for message in desk.channel.messages] == ["id1", "id4"]
        desk.now_us = NOW + 600 * SECOND - 1
        desk.work()
        assert len(desk.channel.messages) == 2
        desk.now_us += 1
        desk.work()
        (fold,) = desk.channel.messages[2:]
        assert fold.id.startswith("fold-")
        assert fold.subject == "2 more messages: 2 logins"
        assert "root on web1 from 192.0.2.7" in fold.text
        desk.delivery.close()


def test_a_daily_digest_outlives_a_restart(tmp_path: Path) -> None:
    """What a route takes waits for its time, is no backlog meanwhile, and is one report."""
    desk = desk_of(tmp_path, digest="daily 08:00")
    with closing(desk.delivery):
        for action, user in (("ssh_login", "root"), ("ssh_attempt", "admin"), ("ssh_login", "alice"), ("ssh_login", "root")):
            desk.put(action, user, "web1", "192.0.2.7")
            desk.work()
        desk.restart()
        desk.now_us = NOW + 22 * HOUR - 1
        desk.work()
        assert desk.channel.messages == []
        _, channels = delivered(tmp_path)
        assert (channels["ops"].pending, channels["ops"].held, channels["ops"].oldest_us) == (0, 4, None)
        desk.now_us += 1
        desk.work()
        (report,) = desk.channel.messages
        assert report.subject == "Daily report: 3 logins and 1 failed login"
        assert report.late == ""
        desk.delivery.close()


def test_a_weekly_digest_is_not_given_up(tmp_path: Path) -> None:
    """A message may be given up only for the time in which sshbell could send it."""
    desk = desk_of(tmp_path, digest="weekly sun 08:00")
    with closing(desk.delivery):
        desk.worker.configure(Common(give_up_s=3 * 86400))
        desk.put("ssh_login", "root", "web1", "192.0.2.7")
        desk.put("ssh_login", "root", "web1", "192.0.2.7")
        desk.now_us = NOW + 7 * DAY
        desk.channel.answer = RetryLater("down")
        desk.work()
        assert [state for _, state, _, _ in desk.rows()] == ["pending", "pending"]
        desk.now_us += 4 * DAY
        desk.work()
        assert [state for _, state, _, _ in desk.rows()] == ["dead", "dead"]
        desk.delivery.close()


def test_quiet_hours(tmp_path: Path) -> None:
    """Quiet hours hold everything but what is urgent; then logins come in one message, and noise in another."""
    routes = [
        Route(channels=["ops"], events=EVENTS),
        Route(channels=["ops"], urgent=True, include=Choice(user=["root"])),
    ]
    desk = Desk(tmp_path, routes, "09:00-11:00", 60)
    with closing(desk.delivery):
        for user in ("alice", "root", "bob"):
            desk.put("ssh_login", user, "web1", "192.0.2.7")
            desk.put("ssh_attempt", user, "web1", "192.0.2.7")
            desk.work()
        assert [message.id for message in desk.channel.messages] == ["id3"]
        desk.restart()
        desk.now_us = NOW + HOUR - 1
        desk.work()
        assert len(desk.channel.messages) == 1
        desk.now_us += 1
        desk.work()
        assert [message.subject for message in desk.channel.messages[1:]] == [
            "2 messages held back: 2 logins", "3 messages held back: 3 failed logins",
        ]  # fmt: skip
        desk.delivery.close()


def test_a_backlog_waits_for_the_end_of_the_quiet_hours(tmp_path: Path) -> None:
    """A server that comes back at night wakes nobody, but a test goes."""
    desk = desk_of(tmp_path, quiet="10:30-11:00")
    with closing(desk.delivery):
        desk.put("ssh_login", "alice", "web1", "192.0.2.7")
        desk.channel.answer = RetryLater("down", alone=True)
        desk.work()
        desk.channel.answer = Delivered()
        desk.now_us = NOW + HOUR // 2
        assert desk.work() == 60
        desk.delivery.put_test("test-1", ["ops"], desk.now_us, b'{"event":{"action":"sshbell_test"}}')
        desk.work()
        assert [message.id for message in desk.channel.messages] == ["test-1"]
        desk.now_us = NOW + HOUR
        desk.work()
        assert [message.id for message in desk.channel.messages] == ["test-1", "id1"]
        desk.delivery.close()
