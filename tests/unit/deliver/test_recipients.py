"""``consumer.deliver.recipients``, and messages that are held back where they go to different people."""

from __future__ import annotations

import asyncio
import re
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from consumer.channel_settings import EmailSettings, XmppSettings
from consumer.config import Choice, Route
from consumer.config_values import Secret
from consumer.deliver.channels import Delivered, Rejected
from consumer.deliver.recipients import Recipients
from consumer.deliver.routing import Router
from consumer.deliver.worker import Common
from consumer.people.people import Contacts, People, Person
from consumer.store.delivery_rows import Routed
from consumer.store.outbox import Queued
from tests.ecs_events import ecs
from tests.unit.store.test_delivery import HOUR, Stage, delivery, states

if TYPE_CHECKING:
    from pathlib import Path

    from consumer.ecs import EcsEvent
    from consumer.store.delivery import Delivery

__all__ = ["delivery"]

OWN = ["ops@example.org"]
CHANNELS = [EmailSettings(name="ops", to=OWN), EmailSettings(name="other", to=["other@example.org"])]


def people_of(**emails: str) -> People:
    """Return people with one account and one address each."""
    return People(Person(name, accounts=(name,), contacts=Contacts((email,))) for name, email in emails.items())


PEOPLE = people_of(alice="alice@example.org", bob="bob@example.org", nobody=OWN[0])


def recipients(*routes: Route, people: People = PEOPLE) -> Recipients:
    """Return what two channels have."""
    return Recipients(Router(["ops", "other"], routes), people, CHANNELS)


def common(found: Recipients) -> Common:
    """Return the settings of a worker."""
    return Common(give_up_s=3 * 86400, recipients=found)


def event(user: str, action: str = "ssh_login") -> EcsEvent:
    """Return an event as it stands in the outbox."""
    return ecs({"event": {"action": action}, "user": {"name": user}, "host": {"name": "web1"}})


def queued(seq: int, user: str) -> Queued:
    """Return a message of the outbox."""
    body = f'{{"event":{{"action":"ssh_login","id":"id{seq}"}},"user":{{"name":"{user}"}},"host":{{"name":"web1"}}}}'
    return Queued(seq, f"id{seq}", "ssh_login", 1_790_000_000_000_000, body.encode())


TO_OWNER = Route(channels=["ops"], to_owner=True)


def test_own_or_owners() -> None:
    """The routes that take an event say whether its owner, the channel's own, or both are told; if in doubt, the own are."""
    plain = recipients(Route(channels=["ops"]))
    assert plain.of("ops", event("alice")) == ()
    assert not plain.are_mixed("ops")
    found = recipients(TO_OWNER)
    assert found.are_mixed("ops")
    assert not found.are_mixed("other")
    assert found.of("ops", event("alice")) == ("alice@example.org",)
    assert found.of("ops", event("dave")) == ()
    assert found.of("other", event("alice")) == ()
    # Of what is no longer routed here, nobody new is told.
    assert found.of("ops", event("alice", "ssh_logout")) == ()
    both = recipients(TO_OWNER, Route(channels=["ops"], exclude=Choice(user=["bob"])))
    assert both.of("ops", event("alice")) == (*OWN, "alice@example.org")
    assert both.of("ops", event("bob")) == ("bob@example.org",)
    # Who is told anyway is not told twice.
    assert both.of("ops", event("nobody")) == tuple(OWN)


def test_chat() -> None:
    """In chat, a person's addresses of that kind count. The channel's own are people and rooms."""
    people = People(
        [Person("Alice", accounts=("alice",), contacts=Contacts(("alice@example.org",), ("alice@chat.example.org",)))]
    )
    own = XmppSettings(
        name="chat",
        jid="bell@example.org",
        password=Secret(env="BELL"),
        to=["ops@chat.example.org"],
        rooms=["ops@rooms.example.org"],
    )
    to_owner = Route(channels=["chat"], to_owner=True)
    found = Recipients(Router(["chat"], [to_owner]), people, [own])
    assert found.of("chat", event("alice")) == ("alice@chat.example.org",)
    assert found.of("chat", event("bob")) == ()
    both = Recipients(Router(["chat"], [to_owner, Route(channels=["chat"])]), people, [own])
    assert both.of("chat", event("alice")) == ("ops@chat.example.org", "ops@rooms.example.org", "alice@chat.example.org")


def test_language() -> None:
    """A message to a person alone is in the person's language; every other one is in the channel's."""
    german = Person("alice", accounts=("alice", "shared"), contacts=Contacts(("alice@example.org",)), language="de")
    no_wish = Person("bob", accounts=("bob", "shared"), contacts=Contacts(("bob@example.org",)))
    unreachable = Person("carol", accounts=("carol",), language="de")
    people = People([german, no_wish, unreachable])
    alone = recipients(TO_OWNER, people=people)
    assert [alone.language_of("ops", event(user)) for user in ("alice", "bob", "carol", "shared", "dave")] == [
        "de", "en", "en", "en", "en",
    ]  # fmt: skip
    assert alone.language_of("other", event("alice")) == "en"
    assert alone.language_of("ops", event("alice", "ssh_forged")) == "en"
    both = recipients(TO_OWNER, Route(channels=["ops"]), people=people)
    assert both.language_of("ops", event("alice")) == "en"
    channel = EmailSettings(name="ops", to=OWN, language="de")
    found = Recipients(Router(["ops"], [TO_OWNER]), People([no_wish]), [channel])
    assert found.language_of("ops", event("bob")) == found.language_of("ops", event("dave")) == "de"


def test_each_reads_their_language(delivery: Delivery, tmp_path: Path) -> None:
    """So it is with messages and with digests."""
    german = Person("alice", accounts=("alice",), contacts=Contacts(("alice@example.org",)), language="de")
    stage = Stage(delivery, tmp_path, max_per_hour=1)
    stage.worker.configure(common(recipients(TO_OWNER, people=People([german]))))
    with closing(delivery):
        delivery.route(Routed(queued(seq, user), ["ops"]) for seq, user in enumerate(["dave", "alice", "alice", "alice"], 1))
        for _ in range(6):
            stage.work()
            stage.clock.now_us += HOUR
        assert [(one.recipients, one.language, one.subject) for one in stage.channel.told] == [
            ((), "en", "dave logged in to web1"),
            (("alice@example.org",), "de", "3 Meldungen zurückgehalten: 3 Anmeldungen"),
        ]


@pytest.mark.parametrize("action", ["sshbell_test", "sshbell_notice", "ssh_forged"])
def test_what_is_about_nobody(action: str) -> None:
    """Tests, notices and forged lines go to the channel's own, whatever user they name."""
    assert recipients(TO_OWNER).of("ops", event("alice", action)) == ()


def stage_of(delivery: Delivery, folder: Path, *answers: Any) -> Stage:
    """Return a worker whose messages go to their owners, and which has sent all that it may."""
    stage = Stage(delivery, folder, *answers, max_per_hour=1)
    stage.worker.configure(common(recipients(TO_OWNER)))
    return stage


def told(stage: Stage) -> list[tuple[tuple[str, ...], set[str]]]:
    """Return who got each message, and of whom it tells."""
    found = re.compile(r"\b(alice|bob|dave)(?: on| logged in to) web1\b")
    return [(one.recipients, set(found.findall(one.text + one.subject))) for one in stage.channel.told]


def test_each_has_a_digest_of_their_own(delivery: Delivery, tmp_path: Path) -> None:
    """What is held back is told together to whoever it concerns, and to nobody else; a single one is told as it is."""
    stage = stage_of(delivery, tmp_path)
    users = ["dave", "alice", "bob", "alice", "dave", "alice", "dave", "bob", "alice"]
    with closing(delivery):
        delivery.route(Routed(queued(seq, user), ["ops"]) for seq, user in enumerate(users, 1))
        for _ in range(6):
            stage.work()
            stage.clock.now_us += HOUR
        assert told(stage) == [
            ((), {"dave"}), (("alice@example.org",), {"alice"}), (("bob@example.org",), {"bob"}), ((), {"dave"}),
        ]  # fmt: skip
        assert ["held-" in message.id for message in stage.channel.told] == [False, True, True, True]
        assert set(states(delivery).values()) == {"sent"}


def test_many_hold_up_no_other_channel(delivery: Delivery, tmp_path: Path) -> None:
    """While a digest is made of many messages others have their turn, also to write; each message is told once."""
    stage = stage_of(delivery, tmp_path)

    async def turns() -> int:
        step, count = asyncio.ensure_future(stage.worker.step()), 0
        while not step.done():
            await asyncio.sleep(0)
            count += 1
            delivery.route([Routed(queued(1000 + count, "bob"), ["other"])])
        assert await step == 0
        return count

    with closing(delivery):
        delivery.route(Routed(queued(seq, "alice"), ["ops"]) for seq in range(1, 452))
        stage.work()
        stage.clock.now_us += HOUR
        # To whom each goes, and what it says.
        assert asyncio.run(turns()) >= 8
        assert told(stage)[1:] == [(("alice@example.org",), {"alice"})]
        assert stage.channel.told[1].subject.startswith("450 messages held back")
        assert set(states(delivery).values()) == {"sent"}


def test_people_change_while_a_digest_is_made(delivery: Delivery, tmp_path: Path) -> None:
    """All messages of a digest are judged by one people.toml: nobody's is told to others because half was judged by another."""
    stage = stage_of(delivery, tmp_path)

    async def meanwhile() -> None:
        step, count = asyncio.ensure_future(stage.worker.step()), 0
        while not step.done():
            count += 1
            stage.worker.configure(common(recipients(TO_OWNER, people=people_of(alice=f"alice{count}@example.org"))))
            await asyncio.sleep(0)
        assert await step == 0

    with closing(delivery):
        delivery.route(Routed(queued(seq, "alice"), ["ops"]) for seq in range(1, 452))
        stage.work()
        stage.clock.now_us += HOUR
        asyncio.run(meanwhile())
        ((address,), _users) = told(stage)[1]
        assert address.startswith("alice")
        assert stage.channel.told[1].subject.startswith("450 messages held back")
        assert set(states(delivery).values()) == {"sent"}


def test_all_are_dropped_while_a_digest_is_made(delivery: Delivery, tmp_path: Path) -> None:
    """There is no digest of nothing."""
    stage = stage_of(delivery, tmp_path)

    async def meanwhile() -> None:
        step = asyncio.ensure_future(stage.worker.step())
        await asyncio.sleep(0)
        assert delivery.drop(None, "ops", stage.clock.now_us) == 450
        assert await step == 0
        assert await stage.worker.step() is None

    with closing(delivery):
        delivery.route(Routed(queued(seq, "alice"), ["ops"]) for seq in range(1, 452))
        stage.work()
        stage.clock.now_us += HOUR
        asyncio.run(meanwhile())
        assert len(stage.channel.told) == 1


def test_a_single_one_is_no_digest(delivery: Delivery, tmp_path: Path) -> None:
    """Where several wait, and one of them concerns somebody alone, it is an ordinary message."""
    stage = stage_of(delivery, tmp_path)
    with closing(delivery):
        delivery.route(Routed(queued(seq, user), ["ops"]) for seq, user in enumerate(["dave", "alice", "bob"], 1))
        for _ in range(3):
            stage.work()
            stage.clock.now_us += HOUR
        assert stage.ids == ["id1", "id2", "id3"]
        assert told(stage)[1:] == [(("alice@example.org",), {"alice"}), (("bob@example.org",), {"bob"})]


def test_a_digest_whose_people_have_changed(delivery: Delivery, tmp_path: Path) -> None:
    """Where those of a digest no longer go to the same people, the channel's own get it: it is nobody else's."""
    stage = stage_of(delivery, tmp_path)
    with closing(delivery):
        delivery.route(Routed(queued(seq, user), ["ops"]) for seq, user in enumerate(["dave", "alice", "bob"], 1))
        stage.worker.configure(common(recipients(TO_OWNER, people=people_of(alice="team@example.org", bob="team@example.org"))))
        stage.work()
        stage.clock.now_us += HOUR
        delivery.fold("ops", "", "held-1", stage.clock.now_us)
        stage.worker.configure(common(recipients(TO_OWNER)))
        stage.work()
        assert told(stage)[1:] == [((), {"alice", "bob"})]


def test_one_is_dropped_while_a_digest_is_made(delivery: Delivery, tmp_path: Path) -> None:
    """Whom a digest may be told is said of all that it tells, also of what was dropped after it was read."""
    stage = stage_of(delivery, tmp_path)

    async def meanwhile() -> None:
        step = asyncio.ensure_future(stage.worker.step())
        await asyncio.sleep(0)
        assert delivery.drop("id2", "ops", stage.clock.now_us) == 1
        assert await step == 0

    with closing(delivery):
        delivery.route(Routed(queued(seq, "bob" if seq == 2 else "alice"), ["ops"]) for seq in range(1, 452))
        stage.work()
        stage.clock.now_us += HOUR
        delivery.fold("ops", "", "held-1", stage.clock.now_us)
        asyncio.run(meanwhile())
        assert told(stage)[1:] == [((), {"alice", "bob"})]


def test_a_digest_that_is_refused(delivery: Delivery, tmp_path: Path) -> None:
    """Each of its messages is tried by itself, and still goes to its owner."""
    stage = stage_of(delivery, tmp_path, Delivered(), Rejected("550 no"))
    with closing(delivery):
        delivery.route(Routed(queued(seq, "alice"), ["ops"]) for seq in range(1, 4))
        for _ in range(6):
            stage.work()
            stage.clock.now_us += HOUR
        assert [message.id[:4] for message in stage.channel.told] == ["id1", "held", "id2", "id3"]
        assert {recipients for recipients, _ in told(stage)} == {("alice@example.org",)}
        assert set(states(delivery).values()) == {"sent"}
