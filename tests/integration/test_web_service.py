"""Places from MaxMind's web service: few questions, answers that are kept, short waits, and no harm from a bad service."""

from __future__ import annotations

import asyncio
import gzip
import json
import time
from base64 import b64encode
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
from aiohttp import web

from consumer.config_values import Secret
from consumer.enrich.enricher import Enricher, Part
from consumer.places import web_service as module
from consumer.places.web_service import ANSWER_LIMIT_BYTES, FIRST_PAUSE_S, LONGEST_PAUSE_S, PENDING_LIMIT, WebError, WebPlaces
from tests.databases import LYON_GEO
from tests.ecs_events import ecs, fields_of
from tests.integration.test_enrichment import login, shown
from tests.integration.web_service import ACCOUNT, ANSWER, KEY, Service, answers, refused, said
from tests.store_events import session_lines

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Awaitable, Callable, Coroutine, Iterator

    from tests.integration.site import Site

    Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

LYON_SOURCE = {"geo": LYON_GEO, "as": {"number": 3215, "organization": {"name": "Orange S.A."}}}
Found = TypeVar("Found")
CREDENTIALS = b64encode(f"{ACCOUNT}:{KEY}".encode()).decode()


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def monotonic(self) -> float:
        """Return the time."""
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Return the clock of answers and pauses."""
    found = Clock()
    monkeypatch.setattr(module, "time", found)
    return found


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """Return the service."""
    with Service(tmp_path) as found:
        yield found


def run(asked: Coroutine[Any, Any, Found]) -> Found:
    """Run a coroutine, and let its connections end: aiohttp does not wait for the end of TLS on those that it gave up."""

    async def whole() -> Found:
        try:
            return await asked
        finally:
            selector = asyncio.get_running_loop()._selector  # type: ignore[attr-defined]
            while len(selector.get_map()) > 1:  # noqa: ASYNC110 - the loop has its own pipe there, and no event for the others
                await asyncio.sleep(0.01)

    return asyncio.run(whole())


class Asked:
    """A ``WebPlaces`` that asks the service, and its reports."""

    def __init__(self, service: Service, folder: Path, **more: Any) -> None:
        key = folder / "maxmind.key"
        if not key.exists():
            key.write_text(f"{KEY}\n")
            key.chmod(0o600)
        self.reports: list[str] = []
        self.places = WebPlaces(
            ACCOUNT, Secret(file=str(key)), service.host, self.reports.append, more.get("tls", service.client_tls)
        )

    async def source(self, address: str) -> dict[str, Any]:
        """Return the fields of an address."""
        return fields_of((await self.places.of(ecs({"source": {"ip": address}}))).source)

    def sources(self, *addresses: str) -> list[dict[str, Any]]:
        """Return the fields of addresses, one after the other."""

        async def found() -> list[dict[str, Any]]:
            return [await self.source(address) for address in addresses]

        return run(found())


def test_answer(service: Service, tmp_path: Path) -> None:
    """The fields are those of a database of the same shape. The question has the address, account and key."""
    asked = Asked(service, tmp_path)
    assert asked.sources("8.8.8.8", "2001:4860:4860::8888") == [LYON_SOURCE] * 2
    assert service.asked == ["/geoip/v2.1/city/8.8.8.8", "/geoip/v2.1/city/2001:4860:4860::8888"]
    assert service.authorizations == [f"Basic {CREDENTIALS}"] * 2
    assert asked.reports == []


def test_only_public_addresses_are_asked_about(service: Service, tmp_path: Path) -> None:
    """The service never learns a special address. Of an address with another one inside, it learns that one."""
    special = ["127.0.0.1", "10.1.2.3", "192.0.2.7", "fe80::1%eth0", "fd00::1", "2001:db8::1", "100.64.0.1", "224.0.0.1"]
    asked = Asked(service, tmp_path)
    assert all(set(found) == {"geo"} and set(found["geo"]) == {"name"} for found in asked.sources(*special))
    # Two are reserved; the third is public.
    assert asked.sources("4000::1", "2001::1", "192.0.0.9") == [{}, {}, LYON_SOURCE]
    assert asked.sources("not.an.address", "") == [{}, {}]
    (found,) = asked.sources("2002:808:808::1")
    assert found == LYON_SOURCE | {"geo": LYON_GEO | {"name": "6to4"}}
    assert asked.sources("::ffff:8.8.8.8", "8.8.8.8") == [LYON_SOURCE] * 2
    assert service.asked == ["/geoip/v2.1/city/192.0.0.9", "/geoip/v2.1/city/8.8.8.8"]


def test_answers_are_kept(service: Service, tmp_path: Path, clock: Clock) -> None:
    """An answer counts for a day, also "not known". Then sshbell asks again."""
    asked = Asked(service, tmp_path)
    assert asked.sources("8.8.8.8", "8.8.8.8") == [LYON_SOURCE] * 2
    for handler in (always(lambda: refused(404, "IP_ADDRESS_NOT_FOUND")), always(lambda: refused(404, "IP_ADDRESS_RESERVED"))):
        service.handler = handler
        assert asked.sources("9.9.9.9", "9.9.9.9") == [{}, {}]
        assert len(service.asked) == 2
        clock.now_s += 25 * 3600
        service.asked = service.asked[:1]
    service.handler = answers
    assert asked.sources("8.8.8.8", "9.9.9.9") == [LYON_SOURCE] * 2
    assert len(service.asked) == 3
    assert asked.reports == []


def test_what_is_kept_is_bounded(service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest answers go first."""
    monkeypatch.setattr(module, "CACHE_LIMIT", 3)
    asked = Asked(service, tmp_path)
    asked.sources(*(f"8.8.8.{number}" for number in range(6)), "8.8.8.5", "8.8.8.3", "8.8.8.0")
    assert [path.rpartition(".")[2] for path in service.asked] == ["0", "1", "2", "3", "4", "5", "0"]
    assert len(asked.places._known) == 3


def always(make: Callable[[], web.StreamResponse]) -> Handler:
    """Return a handler that always gives the same answer."""

    async def handler(_request: web.BaseRequest) -> web.StreamResponse:
        return make()

    return handler


async def slow(_request: web.BaseRequest) -> web.StreamResponse:
    """Never answer."""
    await asyncio.Event().wait()
    raise AssertionError


async def trickling(request: web.BaseRequest) -> web.StreamResponse:
    """Send a byte now and then."""
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b" ")
        await asyncio.sleep(0.01)


async def endless(request: web.BaseRequest) -> web.StreamResponse:
    """Send without end."""
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b" " * 65536)
        await asyncio.sleep(0)  # so that the server notices the end of the connection


async def half(request: web.BaseRequest) -> web.StreamResponse:
    """Send less than the header promises."""
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b"{")
    assert request.transport is not None
    request.transport.abort()
    return response


async def aborted(request: web.BaseRequest) -> web.StreamResponse:
    """Break the connection."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def echoing(request: web.BaseRequest) -> web.StreamResponse:
    """Send the request back, with the key, in an error."""
    return web.Response(text=f"{dict(request.headers)} {KEY}\n\x1b[2J", status=400)


def text(body: bytes, **more: Any) -> Handler:
    """Return a handler that sends a text as JSON."""
    return always(lambda: web.Response(body=body, content_type="application/json", **more))


BOMB = gzip.compress(b" " * (64 << 20))
UNREADABLE = "an answer that sshbell cannot read"
FAILURES: dict[str, tuple[Handler, str, bool]] = {
    "wrong key": (always(lambda: refused(401, "AUTHORIZATION_INVALID")), "correct geoip_account and geoip_key", True),
    "unknown account": (always(lambda: refused(401, "ACCOUNT_ID_UNKNOWN")), "correct geoip_account and geoip_key", True),
    "401 without a word": (always(lambda: web.Response(status=401)), "correct geoip_account and geoip_key", True),
    "no queries": (always(lambda: refused(402, "OUT_OF_QUERIES")), "no queries left", True),
    "no money": (always(lambda: refused(402, "INSUFFICIENT_FUNDS")), "no queries left", True),
    "not allowed": (always(lambda: refused(403, "PERMISSION_REQUIRED")), 'geoip_host = "geolite.info"', True),
    "another code": (always(lambda: refused(400, "IP_ADDRESS_INVALID")), "status 400", False),
    "too many": (always(lambda: web.Response(status=429, text="slow down")), "status 429", False),
    "down": (always(lambda: web.Response(status=500, text="<html>")), "status 500", False),
    "busy": (always(lambda: web.Response(status=503)), "status 503", False),
    "redirect": (always(lambda: web.Response(status=302, headers={"Location": "/geoip/v2.1/city/evil"})), "status 302", False),
    "endless": (endless, "more than 64 KiB", False),
    "bomb": (always(lambda: web.Response(body=BOMB, headers={"Content-Encoding": "gzip"})), "more than 64 KiB", False),
    "half": (half, "breaks the connection", False),
    "aborted": (aborted, "breaks the connection", False),
    "echo": (echoing, "status 400", False),
    "no JSON": (text(b"<html>"), UNREADABLE, False),
    "no UTF-8": (text(b'{"city": "\xff"}'), UNREADABLE, False),
    "empty": (text(b""), UNREADABLE, False),
    "list": (text(b"[]"), UNREADABLE, False),
    "null": (text(b"null"), UNREADABLE, False),
    "deep": (text(b"[" * 60_000), UNREADABLE, False),
    "long number": (text(b'{"city": ' + b"9" * 5000 + b"}"), UNREADABLE, False),
    "another shape": (text(b'{"city": "Lyon", "subdivisions": 5}'), UNREADABLE, False),
    "no network": (text(b'{"traits": {"network": "x"}}'), UNREADABLE, False),
    "error in a list": (text(b"[5]", status=400), "status 400", False),
    "error of another shape": (text(b'{"code": ["x"], "error": {"y": 1}}', status=404), "status 404", False),
}


@pytest.mark.parametrize("kind", FAILURES)
def test_failure(service: Service, tmp_path: Path, clock: Clock, kind: str) -> None:
    """A failure is reported once, with what to do, and followed by a pause. Then sshbell tries again, and uses the answer."""
    service.handler, says, is_lasting = FAILURES[kind]
    asked = Asked(service, tmp_path)
    for number in range(3):
        assert asked.sources("8.8.8.8", "9.9.9.9", "8.8.8.8") == [{}] * 3
        # aiohttp asks once more where the connection breaks before an answer.
        assert len(service.asked) == (number + 1) * (2 if kind == "aborted" else 1)
        clock.now_s += LONGEST_PAUSE_S + 1
    (report,) = asked.reports
    assert report.startswith(f"{service.host}: ")
    assert says in report
    assert report.isprintable()
    assert not any(secret in report for secret in (KEY, CREDENTIALS, str(ACCOUNT), "8.8.8.8"))
    service.handler = answers
    assert asked.sources("8.8.8.8", "9.9.9.9") == [LYON_SOURCE] * 2
    service.handler = FAILURES[kind][0]
    assert asked.sources("1.1.1.1") == [{}]
    assert len(asked.reports) == 2
    questions = len(service.asked)
    clock.now_s += 60
    asked.sources("1.1.1.1")
    assert (len(service.asked) == questions) is is_lasting


@pytest.mark.parametrize("handler", [slow, trickling])
def test_no_end(service: Service, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, handler: Handler) -> None:
    """An answer that does not end is given up and reported, and the service is tried again after the pause."""
    service.handler = handler
    asked = Asked(service, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(module, "QUESTION_LIMIT_S", 0.5)
        assert asked.sources("8.8.8.8", "9.9.9.9") == [{}, {}]
    (report,) = asked.reports
    assert report.startswith(f"{service.host}: no answer within ")
    service.handler = answers
    clock.now_s += FIRST_PAUSE_S + 1
    assert asked.sources("8.8.8.8", "9.9.9.9") == [LYON_SOURCE] * 2


@pytest.mark.parametrize("kind", ["endless", "bomb"])
def test_memory_is_bounded(service: Service, tmp_path: Path, kind: str) -> None:
    """A long answer takes little memory."""
    import tracemalloc  # noqa: PLC0415

    service.handler = FAILURES[kind][0]
    asked = Asked(service, tmp_path)
    tracemalloc.start()
    try:
        asked.sources("8.8.8.8")
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 64 * ANSWER_LIMIT_BYTES


def test_pauses_grow(service: Service, tmp_path: Path, clock: Clock) -> None:
    """The first pause is 15 s long, each further one twice as long, up to an hour."""
    service.handler = FAILURES["down"][0]
    asked = Asked(service, tmp_path)
    waits: list[float] = []
    for _ in range(11):
        questions, start_s = len(service.asked), clock.now_s
        while len(service.asked) == questions:
            asked.sources("8.8.8.8")
            clock.now_s += 5
        waits.append(clock.now_s - 5 - start_s)
    assert waits[0] == 0
    assert [round(wait / 5) * 5 for wait in waits[1:4]] == [10, 25, 55]
    assert LONGEST_PAUSE_S - 10 <= max(waits) == waits[-1] <= LONGEST_PAUSE_S


def test_an_untrusted_certificate(service: Service, tmp_path: Path) -> None:
    """Its server gets no key."""
    asked = Asked(service, tmp_path, tls=None)
    assert asked.sources("8.8.8.8") == [{}]
    assert asked.reports == [f"{service.host}: its certificate is not trusted, or it speaks no TLS"]
    assert service.asked == []


def test_no_server(service: Service, tmp_path: Path) -> None:
    """A port where nothing listens is reported."""
    asked = Asked(service, tmp_path)
    asked.places._host = "127.0.0.1:1"
    assert asked.sources("8.8.8.8") == [{}]
    assert asked.reports == ["127.0.0.1:1: it cannot be reached, or breaks the connection (ClientConnectorError)"]


def test_no_key(service: Service, tmp_path: Path, clock: Clock) -> None:
    """A key that others can read is reported and not sent. sshbell uses the corrected one without a restart."""
    asked = Asked(service, tmp_path)
    key = tmp_path / "maxmind.key"
    key.chmod(0o644)
    assert asked.sources("8.8.8.8", "9.9.9.9") == [{}, {}]
    (report,) = asked.reports
    assert report.startswith(f"geoip_key: {key}: everybody on this machine can read")
    assert service.asked == []
    key.chmod(0o600)
    clock.now_s += LONGEST_PAUSE_S + 1
    assert asked.sources("8.8.8.8") == [LYON_SOURCE]


def test_a_notice_does_not_wait(service: Service, tmp_path: Path) -> None:
    """A notice waits no longer than its limit. The late answer to its one question serves the next notice."""
    release = asyncio.Event()

    async def held(_request: web.BaseRequest) -> web.StreamResponse:
        await release.wait()
        return said(ANSWER)

    service.handler = held
    asked = Asked(service, tmp_path)

    async def both() -> list[dict[str, Any]]:
        enricher = Enricher([Part("places", 0.2, asked.places.of)])
        found = [await enricher.enrich(ecs({"event": {"id": name}, "source": {"ip": "8.8.8.8"}})) for name in ("first", "second")]
        assert service._loop is not None
        service._loop.call_soon_threadsafe(release.set)
        late = await asked.places.of(ecs({"source": {"ip": "8.8.8.8"}}))
        found.append(await enricher.enrich(ecs({"event": {"id": "third"}, "source": {"ip": "8.8.8.8"}})))
        assert fields_of(late.source) == LYON_SOURCE
        return [fields_of(one.source) for one in found]

    assert run(both()) == [{"ip": "8.8.8.8"}] * 2 + [{"ip": "8.8.8.8"} | LYON_SOURCE]
    assert len(service.asked) == 1


def test_many_at_once(service: Service, tmp_path: Path) -> None:
    """A few questions run at a time, a bounded number waits, and the addresses beyond have no place."""
    asked = Asked(service, tmp_path)
    most = now = 0

    async def counted(_request: web.BaseRequest) -> web.StreamResponse:
        nonlocal most, now
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.01)
        now -= 1
        return said(ANSWER)

    service.handler = counted

    async def found() -> list[dict[str, Any]]:
        return await asyncio.gather(*(asked.source(f"8.8.8.{number}") for number in range(PENDING_LIMIT + 10)))

    assert run(found()) == [LYON_SOURCE] * PENDING_LIMIT + [{}] * 10
    assert most <= module.AT_ONCE_LIMIT


def test_check(service: Service, tmp_path: Path) -> None:
    """``check`` asks for the place of this machine, and raises what is wrong."""
    asked = Asked(service, tmp_path)
    run(asked.places.check())
    assert service.asked == ["/geoip/v2.1/city/me"]
    service.handler = FAILURES["no queries"][0]
    with pytest.raises(WebError, match="no queries left"):
        run(asked.places.check())


@pytest.fixture
def keys(service: Service, site: Site) -> dict[str, Any]:
    """Return the keys that ask the service, of a site that trusts it."""
    key = site.folder / "maxmind.key"
    key.write_text(KEY)
    key.chmod(0o600)
    site.env["SSL_CERT_FILE"] = service.ca_file
    return {"geoip": "web", "geoip_account": ACCOUNT, "geoip_key": {"file": str(key)}, "geoip_host": service.host}


def test_mail(service: Service, site: Site, keys: dict[str, Any]) -> None:
    """
    From rsyslog's line to the mail. A second login from the same address asks nothing.

    On a slow machine the first mail may go before the answer is there.
    """
    _, second = shown(
        site, login("web1", "10.0.0.5", "alice", "8.8.8.8", 1), login("web1", "10.0.0.5", "bob", "8.8.8.8", 5), **keys
    )
    place = {"Place": "Lyon, Auvergne-Rhone-Alpes, France", "Network": "AS3215 Orange S.A."}
    assert second.items() >= place.items()
    assert service.asked == ["/geoip/v2.1/city/8.8.8.8"]


@pytest.mark.parametrize("handler", [slow, always(lambda: refused(401, "AUTHORIZATION_INVALID"))])
def test_mail_without_place(service: Service, site: Site, keys: dict[str, Any], handler: Handler) -> None:
    """A service that hangs or refuses costs the mail its place, and nothing else."""
    service.handler = handler
    (mail,) = shown(site, login("web1", "10.0.0.5", "carol", "9.9.9.9", 1), **keys)
    assert mail["User"] == "carol"
    assert not {"Place", "Network"} & set(mail)


def rows(done: subprocess.CompletedProcess[str], name: str) -> list[tuple[str, str]]:
    """Return what ``check --json`` reports about a thing."""
    assert KEY not in done.stdout + done.stderr
    return [(row["state"], row["text"]) for row in map(json.loads, done.stdout.splitlines()) if row["name"] == name]


def test_check_command(service: Service, site: Site, keys: dict[str, Any]) -> None:
    """``check`` asks nothing; ``check --connect`` asks one question. A failure is a fault, and ends with 78."""
    site.configure(**keys)
    # What else this machine lacks makes 78 of it, too.
    assert rows(site.ask("check", "--json", status=78), "places") == [
        ("ok", f"web service {service.host}; sudo sshbell check --connect tries it")
    ]
    assert service.asked == []
    done = site.ask("check", "--json", "--connect", status=78)
    assert rows(done, "places") == [("ok", f"web service {service.host} answers")]
    assert ("ok", f"geoip_key: {keys['geoip_key']['file']}") in rows(done, "secrets")
    assert service.asked == ["/geoip/v2.1/city/me"]
    service.handler = FAILURES["wrong key"][0]
    ((state, text),) = rows(site.ask("check", "--json", "--connect", status=78), "places")
    assert (state, text) == ("fault", f"{service.host}: {module.TO_MEND[401]}")


def test_check_of_a_key_that_others_can_read(service: Service, site: Site, keys: dict[str, Any]) -> None:
    """It is a fault, also of ``check --connect``, which sends no such key."""
    path = Path(keys["geoip_key"]["file"])
    path.chmod(0o644)
    site.configure(**keys)
    done = site.ask("check", "--json", "--connect", status=78)
    for name in ("secrets", "places"):
        ((state, text),) = rows(done, name)
        assert state == "fault"
        assert text.startswith("geoip_key: ")
        assert "everybody" in text
    assert service.asked == []


def test_check_of_keys_without_the_web_service(service: Service, site: Site, keys: dict[str, Any]) -> None:
    """An account that nothing uses is a warning."""
    site.configure(**keys | {"geoip": [f"{site.folder}/*.mmdb"]})
    found = rows(site.ask("check", "--json", "--connect", status=78), "places")
    assert [state for state, _ in found] == ["warning", "ok"]
    assert "does not ask the web service" in found[0][1]
    assert service.asked == []


def test_commands_ask_nothing(service: Service, site: Site, keys: dict[str, Any]) -> None:
    """``replay``, ``who``, ``history`` and ``geoip`` send no address anywhere. They name special addresses."""
    site.configure(**keys)
    site.log.write_text(
        "2026-11-22T10:00:00.000000+00:00 web1 sshd[1]: Accepted password for alice from 8.8.8.8 port 4711 ssh2\n"
        "2026-11-22T10:00:02.000000+00:00 web1 sshd[3]: Accepted password for bob from 127.0.0.1 port 22 ssh2\n"
    )
    site.fill(*session_lines(101, at_us=time.time_ns() // 1000 - 3_600_000_000, lasts_s=None, address="8.8.8.8"))
    for arguments in (
        ["replay", site.log], ["replay", "--format", "json", site.log], ["who"], ["history"],
        ["geoip", "8.8.8.8", "127.0.0.1"],
    ):  # fmt: skip
        done = site.ask(*arguments)
        assert "8.8.8.8" in done.stdout
        assert "Lyon" not in done.stdout
    assert "loopback" in done.stdout
    assert "check --connect" in done.stderr
    assert service.asked == []
