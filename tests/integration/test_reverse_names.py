"""Reverse names out of a real name server that lies, refuses or hangs: a name is shown only where it leads back."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import dns.exception
import pytest

from consumer.ecs import NOTHING, EcsEvent, SourceFields
from consumer.enrich import reverse_names
from consumer.enrich.reverse_names import ReverseNames
from tests.ecs_events import fields_of
from tests.integration.name_server import HANG, SERVFAIL, NameServer, name_server

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

V4, V6 = "10.1.2.3", "fd00::5"


def event(address: str) -> EcsEvent:
    """Return an event from an address."""
    return EcsEvent(source=SourceFields(ip=address))


def found(tell: Callable[[NameServer], object], address: str = V4, *, times: int = 1) -> tuple[dict[str, Any], NameServer]:
    """Return what is found for an address, and the server."""

    async def ask() -> tuple[dict[str, Any], NameServer]:
        async with name_server() as (server, resolver):
            tell(server)
            names = ReverseNames(resolver)
            for _ in range(times):
                answer = await names.of(event(address))
            return fields_of(answer), server

    return asyncio.run(ask())


@pytest.mark.parametrize("address", [V4, V6, f"::ffff:{V4}"])
def test_a_name(address: str) -> None:
    """A name that leads back is found, in small letters, for both families; it is remembered."""

    def tell(server: NameServer) -> None:
        server.knows(V4, "Host-7.Example.org")
        server.knows(V6, "host-7.example.org")
        server.addresses["host-7.example.org"] = [V6, V4]

    answer, server = found(tell, address, times=3)
    assert answer == {"source": {"domain": "host-7.example.org"}}
    assert len(server.asked) == 2


@pytest.mark.parametrize(
    "labels",
    [
        (b"evil\x1b[2J", b"example", b"org"),
        (b"a b", b"org"),
        (b"evil\r\nBcc: x", b"org"),
        (b"dot.in.label", b"org"),
        ("ü".encode(), b"org"),
        (b"\x00", b"org"),
        (b"<b>", b"org"),
        (b"10", b"1", b"2", b"3"),
        (b"-x", b"org"),
        (),
    ],
)
def test_names_that_are_none(labels: tuple[bytes, ...]) -> None:
    """What is no host name is not even asked for; such a name is no reason to ask again."""
    answer, server = found(lambda server: server.pointers.update({V4: [labels]}), times=2)
    assert answer == {}
    assert [kind for kind, _ in server.asked] == ["PTR"]


def test_longest_name() -> None:
    """A name of 250 bytes is a name, if it leads back."""
    name = ".".join(["x" * 62] * 3 + ["y" * 57, "org"])
    assert len(name) == 250
    assert found(lambda server: server.knows(V4, name))[0] == {"source": {"domain": name}}


def test_names_that_lie() -> None:
    """A name that leads elsewhere, or nowhere, is none; the next of several counts."""
    assert found(lambda server: server.knows(V4, "www.example.org", "10.9.9.9"))[0] == {}
    assert found(lambda server: server.pointers.update({V4: [(b"nowhere", b"org")]}))[0] == {}
    # An address of the other family proves nothing.
    assert found(lambda server: server.knows(V4, "six.example.org", V6))[0] == {}

    def several(server: NameServer) -> None:
        server.knows(V4, "true.example.org")
        server.pointers[V4] = [(b"nowhere", b"org"), (b"true", b"example", b"org")]

    assert found(several)[0] == {"source": {"domain": "true.example.org"}}


def test_many_names() -> None:
    """Of an address with a hundred names some are tried, not all."""
    names: list[tuple[bytes, ...]] = [(f"n{number}".encode(), b"org") for number in range(20)]
    answer, server = found(lambda server: server.pointers.update({V4: names}))
    assert answer == {}
    assert len(server.asked) == 1 + 3


@pytest.mark.parametrize("says", [None, SERVFAIL, HANG])
@pytest.mark.parametrize("step", ["PTR", "A"])
def test_no_answer(monkeypatch: pytest.MonkeyPatch, says: str | None, step: str) -> None:
    """NXDOMAIN, SERVFAIL and silence give no name, within the limit, and are remembered."""
    monkeypatch.setattr(reverse_names, "LOOKUP_LIMIT_S", 0.3)

    def tell(server: NameServer) -> None:
        server.knows(V4, "host.example.org")
        place: Any = server.pointers if step == "PTR" else server.addresses
        place.pop(V4 if step == "PTR" else "host.example.org")
        if says is not None:
            place[V4 if step == "PTR" else "host.example.org"] = says

    started_s = time.monotonic()
    answer, server = found(tell)
    assert answer == {}
    assert time.monotonic() - started_s < 5
    asked = len(server.asked)
    assert asked >= (1 if step == "PTR" else 2)


def test_nothing_is_remembered_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody answered is asked again before long; the memory is bounded."""
    monkeypatch.setattr(reverse_names, "NO_ANSWER_S", -1.0)
    monkeypatch.setattr(reverse_names, "CACHE_LIMIT", 3)

    async def ask() -> None:
        async with name_server() as (server, resolver):
            names = ReverseNames(resolver)
            server.pointers[V4] = SERVFAIL
            assert await names.of(event(V4)) == NOTHING
            server.knows(V4, "host.example.org")
            assert (await names.of(event(V4))).source.domain == "host.example.org"
            for number in range(10):
                await names.of(event(f"10.0.0.{number}"))
            assert len(names._known) == 3

    asyncio.run(ask())


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.8.9.1", "::1", "169.254.7.7", "fe80::1", "fe80::1%eth0", "192.0.2.7", "198.51.100.7", "203.0.113.7",
        "198.18.0.1", "2001:db8::7", "3fff::1", "::ffff:203.0.113.7", "0.0.0.7", "::", "224.0.0.1", "ff02::1", "255.255.255.255",
        "240.0.0.1", "UNKNOWN", "", "host.example.org", "1.2.3",
    ],
)  # fmt: skip
def test_never_asked_for(address: str) -> None:
    """Addresses that are nobody's, or everybody's, are not asked for, and neither is what is no address."""
    answer, server = found(lambda server: setattr(server, "is_silent", True), address)
    assert answer == {}
    assert server.asked == []


def test_no_source() -> None:
    """An event without a source is no fault."""
    assert asyncio.run(ReverseNames().of(NOTHING)) == NOTHING


def test_one_question_for_all_who_wait() -> None:
    """Who does not wait any longer does not end the look-up of others, and many make one question."""

    async def ask() -> None:
        async with name_server() as (server, resolver):
            names = ReverseNames(resolver)
            server.pointers[V4] = HANG
            asking = [asyncio.create_task(names.of(event(V4))) for _ in range(5)]
            await server.until_asked(1)
            asking[0].cancel()
            server.knows(V4, "host.example.org")
            # dnspython asks again after _SERVER_S.
            answers = await asyncio.gather(*asking, return_exceptions=True)
            assert isinstance(answers[0], asyncio.CancelledError)
            assert answers[1:] == [EcsEvent(source=SourceFields(domain="host.example.org"))] * 4
            assert [kind for kind, _ in server.asked].count("A") == 1

    asyncio.run(ask())


def test_bounded_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only so many are asked for at one time, and only so many wait for it."""
    monkeypatch.setattr(reverse_names, "LOOKUP_LIMIT_S", 0.5)
    monkeypatch.setattr(reverse_names, "PENDING_LIMIT", 40)

    async def ask() -> None:
        async with name_server() as (server, resolver):
            server.is_silent = True
            names = ReverseNames(resolver)
            asking = [asyncio.create_task(names.of(event(f"10.0.{number}.1"))) for number in range(60)]
            await server.until_asked(reverse_names.AT_ONCE_LIMIT)
            assert len(names._asked) == 40
            assert len({name for _, name in server.asked}) == reverse_names.AT_ONCE_LIMIT
            assert await asyncio.gather(*asking) == [NOTHING] * 60

    asyncio.run(ask())


def test_resolv_conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's file is read again when it has changed; where there is none that is said."""
    path = tmp_path / "resolv.conf"
    monkeypatch.setattr(reverse_names, "_RESOLV_CONF", str(path))
    names = ReverseNames()
    with pytest.raises(dns.exception.DNSException):
        names._current()
    path.write_text("nameserver 127.0.0.1\n")
    assert names._current().nameservers == ["127.0.0.1"]
    assert names._current() is names._current()
    (tmp_path / "new").write_text("nameserver 127.0.0.2\n")
    (tmp_path / "new").rename(path)
    assert names._current().nameservers == ["127.0.0.2"]
