"""What is added to an event before it is told: each part costs its own fields at most, and no more time than its limit."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import structlog

from consumer.channel_settings import EmailSettings
from consumer.config import KEYS_SOCKET, Config
from consumer.deliver.channels import Delivered, Medium, Message
from consumer.deliver.rendering import Renderer
from consumer.deliver.worker import Common, Worker
from consumer.ecs import NOTHING, EcsEvent, EventFields, HostFields, KeyFields, SourceFields, SshFields, UserFields
from consumer.enrich import enricher as module
from consumer.enrich.enricher import Enricher, Part, parts_of
from consumer.people.people import People
from consumer.store.delivery import Delivery
from consumer.store.delivery_rows import Routed
from consumer.store.outbox import Queued
from consumer.store.state import State
from tests.databases import ADDRESS, LYON, LYON_GEO, made
from tests.ecs_events import ecs, fields_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

EVENT = ecs({"event": {"id": "1", "action": "ssh_login"}, "source": {"ip": "10.1.2.3"}, "user": {"name": "root"}})
ALICE = EcsEvent(user=UserFields(full_name="Alice"))
# Of a part that hangs; and what a machine that is busy with other things may need beyond it.
LIMIT_S, PATIENCE_S = 0.2, 10.0


def part(name: str, answer: Any, limit_s: float = LIMIT_S) -> Part:
    """Return a part that answers, or raises, always the same."""

    async def of(_event: EcsEvent) -> EcsEvent:
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[no-any-return]

    return Part(name, limit_s, of)


def hanging(name: str = "hanging") -> Part:
    """Return a part that never answers."""

    async def of(_event: EcsEvent) -> EcsEvent:
        await asyncio.Event().wait()
        return NOTHING

    return Part(name, LIMIT_S, of)


def event(number: int) -> EcsEvent:
    """Return one that is another than those of other numbers."""
    return msgspec.structs.replace(EVENT, event=EventFields(id=str(number)))


def enriched(*parts: Part, times: int = 1) -> dict[str, Any]:
    """Return what becomes of an event; each time it is another one."""

    async def ask() -> EcsEvent:
        enricher = Enricher(parts)
        for number in range(times):
            found = await enricher.enrich(event(number))
        return found

    return fields_of(asyncio.run(ask()))


def test_fields_are_joined() -> None:
    """Parts add fields side by side; what the event says itself stays, and so does the event that was given."""
    names = {"source": {"domain": "a.example.org", "ip": "6.6.6.6"}, "user": {"name": "eve", "full_name": "Alice"}}
    places = {"source": {"geo": {"city_name": "Lyon"}, "domain": "late"}, "event": {"id": "7", "outcome": "success"}}
    assert enriched(part("names", ecs(names)), part("places", ecs(places))) == {
        "event": {"id": "0", "outcome": "success"},
        "source": {"ip": "10.1.2.3", "domain": "a.example.org", "geo": {"city_name": "Lyon"}},
        "user": {"name": "root", "full_name": "Alice"},
    }
    assert EVENT.source == SourceFields(ip="10.1.2.3")


def test_nothing_to_ask() -> None:
    """Without parts the event is what it was; so it is where they know nothing."""
    assert asyncio.run(Enricher().enrich(EVENT)) is EVENT
    assert asyncio.run(Enricher([part("knows nothing", NOTHING)]).enrich(EVENT)) == EVENT
    assert enriched(part("good", ALICE), times=2)["event"] == {"id": "1"}


def test_a_fault_costs_its_own_fields_and_is_said_once() -> None:
    """Whatever a part raises, or returns in place of fields, the others' fields are there."""

    def at_once(_event: EcsEvent) -> Awaitable[EcsEvent]:
        raise ZeroDivisionError("at once")

    other_type = EcsEvent(user=UserFields(full_name=7))  # type: ignore[arg-type]
    with structlog.testing.capture_logs() as said:
        found = enriched(
            part("bad", ValueError("x\ny")), part("odd", ["no fields"]), Part("rash", 1.0, at_once),
            part("of another type", other_type), part("good", ALICE), times=5,
        )  # fmt: skip
    assert found["user"] == {"name": "root", "full_name": "Alice"}
    assert [(line["event"], line["part"]) for line in said] == [
        ("enrichment_failed", "bad"), ("enrichment_failed", "odd"), ("enrichment_failed", "rash"),
        ("enrichment_failed", "of another type"),
    ]  # fmt: skip
    assert said[2]["reason"] == "ZeroDivisionError: at once"
    assert said[2]["place"].startswith("test_enricher.py:")


def test_what_hangs_is_not_waited_for() -> None:
    """A part that hangs, even one that cannot be cancelled, costs its limit; three in a row are said, once."""

    async def stubborn(_event: EcsEvent) -> EcsEvent:
        end_s = time.monotonic() + 3 * LIMIT_S
        while time.monotonic() < end_s:
            try:
                await asyncio.sleep(3 * LIMIT_S)  # to hang is what is tested
            except asyncio.CancelledError:
                continue
        return NOTHING

    started_s = time.monotonic()
    with structlog.testing.capture_logs() as said:
        found = enriched(hanging(), Part("stubborn", LIMIT_S, stubborn), part("good", ALICE), times=5)
    assert found["user"]["full_name"] == "Alice"
    assert time.monotonic() - started_s >= 5 * LIMIT_S
    assert sorted((line["event"], line["part"]) for line in said) == [
        ("enrichment_hangs", "hanging"), ("enrichment_hangs", "stubborn"),
    ]  # fmt: skip


def test_parts_are_asked_at_the_same_time() -> None:
    """Each part sees all others asked before it answers: were they asked in turn, all but the last would be late."""

    async def ask() -> EcsEvent:
        barrier = asyncio.Barrier(3)

        def of(name: str) -> Callable[[EcsEvent], Awaitable[EcsEvent]]:
            async def met(_event: EcsEvent) -> EcsEvent:
                await barrier.wait()
                return ecs({"user": {name: name}})

            return met

        names = ("name", "id", "full_name")
        return await Enricher(Part(name, PATIENCE_S, of(name)) for name in names).enrich(NOTHING)

    assert asyncio.run(ask()).user == UserFields(name="name", id="id", full_name="full_name")


def test_once_for_all_channels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two channels share one look-up; the end of one is not that of the other; later it is looked up again."""
    asked: list[EcsEvent] = []

    async def ask() -> None:
        begun, go = asyncio.Event(), asyncio.Event()

        async def of(event: EcsEvent) -> EcsEvent:
            asked.append(event)
            begun.set()
            await go.wait()
            return EcsEvent(user=UserFields(full_name=str(len(asked))))

        enricher = Enricher([Part("slow", PATIENCE_S, of)])
        first, second = (asyncio.create_task(enricher.enrich(EVENT)) for _ in range(2))
        await begun.wait()
        first.cancel()
        go.set()
        assert (await second).user.full_name == "1"
        assert (await enricher.enrich(EVENT)).user.full_name == "1"
        assert enricher.knows("1")
        monkeypatch.setattr(module, "FRESH_S", -1.0)
        assert (await enricher.enrich(EVENT)).user.full_name == "2"

    asyncio.run(ask())


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many events there are, some are remembered."""
    monkeypatch.setattr(module, "EVENTS_LIMIT", 5)

    async def ask() -> None:
        enricher = Enricher([part("good", ALICE)])
        for number in range(20):
            await enricher.enrich(event(number))
        assert [enricher.knows(str(number)) for number in (0, 14, 15, 19)] == [False, False, True, True]
        enricher.configure([])
        assert await enricher.enrich(event(19)) == event(19)

    asyncio.run(ask())


def test_switches(tmp_path: Path) -> None:
    """What is switched off is not there."""
    config = Config(state_dir=str(tmp_path), geoip=[])
    assert {one.name for one in parts_of(config, People())} >= {"jump hosts", "reverse names"}
    off = Config(state_dir=str(tmp_path), reverse_dns=False, geoip=[])
    assert {one.name for one in parts_of(config, People())} - {one.name for one in parts_of(off, People())} == {"reverse names"}


def test_the_databases_are_closed(tmp_path: Path) -> None:
    """The databases of earlier parts are closed; so are those in use at the end."""
    database = made(tmp_path / "x.mmdb", LYON)

    def open_files() -> list[Path]:
        return [path for each in Path("/proc/self/fd").iterdir() if (path := each.resolve()) == database]

    config = Config(state_dir=str(tmp_path), reverse_dns=False, geoip=[str(database)])
    # Held here, so that nothing else closes them.
    old, new = parts_of(config, People()), parts_of(config, People())
    enricher = Enricher(old)
    assert len(open_files()) == 2
    enricher.configure(new)
    assert len(open_files()) == 1
    found = asyncio.run(enricher.enrich(msgspec.structs.replace(EVENT, source=SourceFields(ip=ADDRESS))))
    assert fields_of(found.source)["geo"] == LYON_GEO
    enricher.close()
    assert open_files() == []


def test_owners_of_keys(tmp_path: Path) -> None:
    """What the process keys says stands where messages look for it."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(json.loads(await reader.readline()))
        owner = {"comment": "alice@laptop", "options": ["restrict"], "is_authority": False}
        writer.write(json.dumps({"owners": [owner]}).encode() + b"\n")
        await writer.drain()
        writer.close()

    async def ask() -> EcsEvent:
        async with await asyncio.start_unix_server(answer, tmp_path / KEYS_SOCKET):
            return await Enricher(parts_of(Config(state_dir=str(tmp_path), reverse_dns=False, geoip=[]), People())).enrich(login)

    asked: list[dict[str, Any]] = []
    key = KeyFields(type="ED25519", fingerprint="SHA256:abc")
    login = msgspec.structs.replace(EVENT, host=HostFields(name=socket.gethostname()), ssh=SshFields(key=key))
    State(tmp_path, pytest.fail).close()
    assert asyncio.run(ask()).ssh.key == msgspec.structs.replace(key, owner=("alice@laptop",), options=("restrict",))
    assert asked[0]["fingerprint"] == "SHA256:abc"


def test_what_hangs_delays_many_messages_as_long_as_one(tmp_path: Path) -> None:
    """Sixty messages that wait for one channel are asked about together: all are sent within the limit, not sixty times that."""
    told: list[Message] = []

    class Sink:
        medium: Medium = "mail"

        async def send(self, message: Message) -> Delivered:
            told.append(message)
            return Delivered()

        async def check(self) -> Delivered:
            return Delivered()

        def close(self) -> None:
            """Nothing is open."""

    async def send(delivery: Delivery) -> float:
        settings = EmailSettings(name="ops", to=["ops@example.org"])
        renderer = Renderer(tmp_path / "none", pytest.fail)
        worker = Worker(
            settings,
            Sink(),
            delivery,
            renderer,
            Enricher([hanging(), part("good", ALICE)]),
            Common(give_up_s=60),
        )
        started_s = time.monotonic()
        while await worker.step() == 0:
            pass
        return time.monotonic() - started_s

    with closing(Delivery(tmp_path, pytest.fail)) as delivery:
        rows = [
            Queued(
                number,
                f"id{number}",
                "ssh_login",
                time.time_ns() // 1000,
                b'{"event":{"id":"id%d","action":"ssh_login"}}' % number,
            )
            for number in range(1, 61)
        ]
        delivery.route(Routed(row, ["ops"]) for row in rows)
        took_s = asyncio.run(send(delivery))
    assert len(told) == 60
    assert all("Alice" in message.text for message in told)
    # In turn it would be 12 s.
    assert took_s < 30 * LIMIT_S
