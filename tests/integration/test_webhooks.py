"""The channels to web services against a real server: what they send, what its answers mean, and what it never learns."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trustme
from aiohttp import web

from consumer.channel_settings import (
    CHANNEL_TYPES,
    DiscordSettings,
    HttpSettings,
    NtfySettings,
    SlackSettings,
    TeamsSettings,
    TelegramSettings,
)
from consumer.config_values import Secret
from consumer.deliver.channels import Delivered, Message, Rejected, RetryLater, SendResult
from consumer.deliver.channels.webhook import Webhook
from consumer.deliver.rendering import Renderer
from tests.ecs_events import ecs
from tests.integration.http_server import HttpServer, as_service
from tests.integration.token_server import answering

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

TOKEN = "T0SECRET-XYZZY/b0ttom/l33t"  # noqa: S105 - of no service
EVENT = ecs({
    "@timestamp": "2026-11-22T10:00:00Z", "event": {"action": "ssh_login", "id": "1" * 32}, "host": {"name": "web1"},
    "user": {"name": "deploy", "full_name": "Carol"}, "source": {"ip": "203.0.113.7", "address": "203.0.113.7"},
    "ssh": {"method": "publickey", "key": {"owner": ["carol@laptop"]}},
})  # fmt: skip
MESSAGE = Renderer(Path("/nonexistent"), pytest.fail).message("1" * 32, EVENT, queued_us=0, now_us=1, medium="chat")
# The path of each service's URL, with its secret part.
PATHS: dict[type[HttpSettings], str] = {
    SlackSettings: f"/services/{TOKEN}",
    TeamsSettings: f"/workflows/x/triggers/manual?sig={TOKEN}",
    DiscordSettings: f"/api/webhooks/1/{TOKEN}",
    TelegramSettings: f"/bot{TOKEN}/sendMessage",
    NtfySettings: "/T0SECRET-XYZZY-b0ttom-l33t",
}
MORE: dict[type[HttpSettings], dict[str, Any]] = {TelegramSettings: {"chat_id": -100}}
SERVICES = list(PATHS)


def name_of(kind: type[HttpSettings]) -> str:
    """Return the name of a type of channel."""
    return str(kind.__struct_config__.tag)


@pytest.fixture
def server() -> Iterator[HttpServer]:
    """Return a server that accepts everything, without TLS."""
    with HttpServer() as made:
        yield made


@asynccontextmanager
async def channel(settings: HttpSettings, *, limit_s: float = 30.0) -> AsyncIterator[Webhook]:
    """Yield a channel, and close it."""
    made = Webhook(settings, limit_s=limit_s)
    try:
        yield made
    finally:
        made.close()


def settings(folder: Path, url: str, kind: type[HttpSettings] = SlackSettings, **more: Any) -> HttpSettings:
    """Return the settings of a channel whose URL is in a file."""
    place = folder / "url"
    place.write_text(f"{url}\n")
    place.chmod(0o600)
    return kind(name="ops", url=Secret(file=str(place)), **MORE.get(kind, {}), **more)


def sent(found: HttpSettings, *messages: Message, limit_s: float = 30.0) -> list[SendResult]:
    """Send messages, by default one, over one channel; return the results."""

    async def run() -> list[SendResult]:
        async with channel(found, limit_s=limit_s) as made:
            return [await made.send(message) for message in messages or (MESSAGE,)]

    return asyncio.run(run())


def checked(found: HttpSettings) -> SendResult:
    """Return the result of a check."""

    async def run() -> SendResult:
        async with channel(found) as made:
            return await made.check()

    return asyncio.run(run())


def reason(result: SendResult) -> str:
    """Return the reason of a failure."""
    assert isinstance(result, RetryLater | Rejected)
    return result.reason


def test_every_service_is_here() -> None:
    """A service that joins the configuration joins these tests."""
    assert {kind for kind in CHANNEL_TYPES.values() if issubclass(kind, HttpSettings)} == {*SERVICES}


@pytest.mark.parametrize("kind", SERVICES, ids=name_of)
def test_each_service(tmp_path: Path, kind: type[HttpSettings]) -> None:
    """A server that judges the body as the service does takes it; it gets one POST of JSON at the right path, over TLS."""
    with HttpServer(tmp_path) as server:
        server.handler = as_service(name_of(kind))
        found = settings(tmp_path, server.url(PATHS[kind]), kind, ca_file=server.ca_file)
        assert sent(found) == [Delivered()]
    (asked,) = server.requests
    assert asked.method == "POST"
    assert asked.path == ("/" if kind is NtfySettings else PATHS[kind])
    assert asked.headers["Content-Type"] == "application/json"
    assert asked.headers["User-Agent"].startswith("sshbell/")
    text = asked.body.decode()
    for fact in ("Carol logged in to web1 as deploy", "203.0.113.7", "Act on web1 now", "remove the key", "carol"):
        assert fact in text


def test_a_topic_with_a_token(server: HttpServer, tmp_path: Path) -> None:
    """Ntfy's access token is a header."""
    (tmp_path / "token").write_text("tk_sesame")
    (tmp_path / "token").chmod(0o600)
    found = settings(tmp_path, server.url("/logins"), NtfySettings, bearer=Secret(file=str(tmp_path / "token")))
    assert sent(found) == [Delivered()]
    assert server.requests[0].headers["Authorization"] == "Bearer tk_sesame"
    assert json.loads(server.requests[0].body)["topic"] == "logins"


def test_one_connection(server: HttpServer, tmp_path: Path) -> None:
    """Messages that follow each other share a connection, in order."""
    messages = [Message(str(number), f"number {number}", f"number {number}") for number in range(20)]
    assert sent(settings(tmp_path, server.url()), *messages) == [Delivered()] * 20
    assert [json.loads(asked.body)["text"] for asked in server.requests] == [message.text for message in messages]
    assert len(server.peers) == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 410, 413, 422])
def test_refusals(server: HttpServer, tmp_path: Path, status: int) -> None:
    """A refusal of the request is final, with the service's own reason, whose secrets are concealed."""
    url = server.url(PATHS[SlackSettings])

    async def refuse(_request: web.BaseRequest) -> web.Response:
        return web.Response(status=status, text=f"no_service \x1b[2J\nat {url} ({TOKEN.split('/', maxsplit=1)[0]})" + "x" * 500)

    server.handler = refuse
    (result,) = sent(settings(tmp_path, url))
    assert isinstance(result, Rejected)
    said = result.reason
    assert said.startswith(f"127.0.0.1:{server.port}: answered {status} no_service \\x1b[2J at ***")
    assert said.isprintable()
    assert len(said) <= 300
    assert not any(part in said for part in TOKEN.split("/") if len(part) > 5)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"ok": False, "error_code": 400, "description": "Bad Request: chat not found"}, "Bad Request: chat not found"),
        ({"message": "Unknown Webhook", "code": 10015}, "Unknown Webhook"),
        ({"error": {"code": "BadRequest", "message": "no trigger"}}, "no trigger"),
        ({"code": 40009, "http": 400, "error": "invalid topic"}, "invalid topic"),
        ([1], "[1]"),
        ({"error": 5}, '{"error": 5}'),
    ],
)
def test_reasons(server: HttpServer, tmp_path: Path, body: Any, says: str) -> None:
    """From JSON, the reason is the sentence in it."""

    async def refuse(_request: web.BaseRequest) -> web.Response:
        return web.json_response(body, status=400)

    server.handler = refuse
    assert sent(settings(tmp_path, server.url())) == [Rejected(f"127.0.0.1:{server.port}: answered 400 {says}")]


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 599])
def test_later(server: HttpServer, tmp_path: Path, status: int) -> None:
    """What passes is tried again."""

    async def refuse(_request: web.BaseRequest) -> web.Response:
        return web.Response(status=status, text="overloaded")

    server.handler = refuse
    assert sent(settings(tmp_path, server.url())) == [RetryLater(f"127.0.0.1:{server.port}: answered {status} overloaded")]


@pytest.mark.parametrize(
    ("header", "body", "least_s", "most_s"),
    [
        ("30", {}, 30, 30), ("0.65", {}, 0.65, 0.65), ("999999999", {}, 3600, 3600), ("-5", {}, 0, 0), ("nan", {}, 0, 0),
        ("1e9", {}, 0, 0), ("soon", {}, 0, 0), ("9" * 400, {}, 0, 0), ("", {"retry_after": 1.5, "global": False}, 1.5, 1.5),
        ("", {"ok": False, "parameters": {"retry_after": 17}}, 17, 17), ("", {"retry_after": -3}, 0, 0),
        ("", {"retry_after": "soon"}, 0, 0), ("", [], 0, 0), ("", {"retry_after": 10**300}, 3600, 3600),
    ],
)  # fmt: skip
def test_retry_after(server: HttpServer, tmp_path: Path, header: str, body: Any, least_s: float, most_s: float) -> None:
    """The service's own pause is kept, in its header or its JSON, and no longer than an hour."""

    async def refuse(_request: web.BaseRequest) -> web.Response:
        return web.json_response(body, status=429, headers={"Retry-After": header} if header else {})

    server.handler = refuse
    (result,) = sent(settings(tmp_path, server.url()))
    assert isinstance(result, RetryLater)
    assert least_s <= result.after_s <= most_s


@pytest.mark.parametrize(("ahead_s", "least_s", "most_s"), [(600, 1, 600), (-600, 0, 0), (10**6, 3600, 3600)])
def test_retry_after_a_date(server: HttpServer, tmp_path: Path, ahead_s: int, least_s: float, most_s: float) -> None:
    """It may be a date as well."""
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=ahead_s), usegmt=True)

    async def refuse(_request: web.BaseRequest) -> web.Response:
        return web.Response(status=503, headers={"Retry-After": date})

    server.handler = refuse
    (result,) = sent(settings(tmp_path, server.url()))
    assert isinstance(result, RetryLater)
    assert least_s <= result.after_s <= most_s


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects(server: HttpServer, tmp_path: Path, status: int) -> None:
    """No other server gets the message, and the reason does not show where it should have gone."""
    with HttpServer() as other:

        async def refuse(_request: web.BaseRequest) -> web.Response:
            return web.Response(status=status, headers={"Location": other.url("/elsewhere")})

        server.handler = refuse
        (result,) = sent(settings(tmp_path, server.url()))
        assert result == RetryLater(f"127.0.0.1:{server.port}: answered {status}, a redirect; sshbell follows none")
        assert other.requests == []


def test_answers_that_do_not_end(server: HttpServer, tmp_path: Path) -> None:
    """The status counts. An endless body costs neither memory nor the next message; nor does one that grows when unpacked."""
    packed = gzip.compress(b"\0" * 50_000_000)

    async def accept(request: web.BaseRequest) -> web.StreamResponse:
        if len(server.requests) == 2:
            return web.Response(body=packed, headers={"Content-Encoding": "gzip"})
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x" * 65536)

    server.handler = accept
    assert sent(settings(tmp_path, server.url()), MESSAGE, MESSAGE, MESSAGE) == [Delivered()] * 3
    assert len(server.peers) > 1


@pytest.mark.parametrize(
    ("answer", "drip", "says"),
    [
        (b"", b"", "the connection broke"),
        (b"garbage\r\n\r\n", b"", "its answer is cut, too long or not HTTP"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000, b"", "its answer is cut, too long or not HTTP"),
        (b"HTTP/1.1 200", b"", "the connection broke"),
        (b"", b"x", "its answer is cut, too long or not HTTP"),
        (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n", "no answer within 0.5 s"),
    ],
)
def test_servers_that_speak_no_http(tmp_path: Path, answer: bytes, drip: bytes, says: str) -> None:
    """What is no answer is tried again, within the limit."""
    with answering(answer, drip=drip) as broken:
        (result,) = sent(settings(tmp_path, broken.url), limit_s=0.5 if "within" in says else 30.0)
    assert reason(result).partition(": ")[2] == says
    assert isinstance(result, RetryLater)


@pytest.mark.parametrize(
    ("answer", "result"),
    [(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", Delivered), (b"HTTP/1.1 404 No\r\nContent-Length: 9\r\n\r\n", Rejected)],
)
@pytest.mark.parametrize("drip", [b"", b"x"])
def test_bodies_that_are_cut_or_trickle(tmp_path: Path, answer: bytes, result: type[SendResult], drip: bytes) -> None:
    """The status came in time, so the outcome is known."""
    with answering(answer, drip=drip) as broken:
        (found,) = sent(settings(tmp_path, broken.url))
    assert isinstance(found, result)


def test_silence(tmp_path: Path) -> None:
    """A server that accepts connections and says nothing, and one that hangs within TLS, have their time and no more."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        place = f"127.0.0.1:{silent.getsockname()[1]}"
        for scheme in ("http", "https"):
            (result,) = sent(settings(tmp_path, f"{scheme}://{place}/{TOKEN}"), limit_s=0.3)
            assert result == RetryLater(f"{place}: no answer within 0.3 s")


def test_nobody_listens(tmp_path: Path) -> None:
    """A connection that is refused, and a name that does not exist."""
    (result,) = sent(settings(tmp_path, f"http://127.0.0.1:1/{TOKEN}"))
    assert result == RetryLater("127.0.0.1:1: Connection refused")


def test_a_reset(server: HttpServer, tmp_path: Path) -> None:
    """A server that breaks the connection behind the request, and then works."""

    async def reset(request: web.BaseRequest) -> web.StreamResponse:
        if len(server.requests) == 1:
            assert request.transport is not None
            request.transport.abort()
        return web.Response()

    server.handler = reset
    first, second = sent(settings(tmp_path, server.url()), MESSAGE, MESSAGE)
    assert isinstance(first, RetryLater)
    assert second == Delivered()


def test_certificates(tmp_path: Path) -> None:
    """A certificate of an unknown authority, or no TLS where it should be, sends nothing; a correction needs no restart."""
    with HttpServer(tmp_path) as server:
        found = settings(tmp_path, server.url(f"/{TOKEN}"))
        (result,) = sent(found)
        assert "its certificate is not trusted" in reason(result)
        assert server.requests == []
        missing = settings(tmp_path, server.url(f"/{TOKEN}"), ca_file=str(tmp_path / "none.pem"))
        assert "none.pem: No such file or directory" in reason(sent(missing)[0])
    with HttpServer() as plain:
        (result,) = sent(settings(tmp_path, plain.url(f"/{TOKEN}").replace("http:", "https:")))
        assert reason(result).endswith("TLS with it failed")


def test_client_certificates(tmp_path: Path) -> None:
    """A server that asks for a certificate gets it, with the key in the same file or in its own."""
    clients = trustme.CA()
    issued = clients.issue_cert("bell@example.org")
    issued.private_key_and_cert_chain_pem.write_to_path(tmp_path / "both.pem")
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    with HttpServer(tmp_path, clients=clients) as server:
        both, key, cert = (str(tmp_path / name) for name in ("both.pem", "key.pem", "cert.pem"))
        cases: list[dict[str, Any]] = [{"client_certificate": both}, {"client_certificate": cert, "client_key": key}]
        for more in cases:
            assert sent(settings(tmp_path, server.url(), ca_file=server.ca_file, **more)) == [Delivered()]
        (result,) = sent(settings(tmp_path, server.url(), ca_file=server.ca_file))
        assert isinstance(result, RetryLater)
        (result,) = sent(settings(tmp_path, server.url(), ca_file=server.ca_file, client_certificate=cert))
        assert "certificate" in reason(result)


@pytest.mark.parametrize(
    ("url", "kind", "says"),
    [
        ("http://hooks.example.com/x", SlackSettings, "https://"),
        ("hooks.example.com/x", SlackSettings, "https://"),
        ("https://", SlackSettings, "https://"),
        ("https://[::1", SlackSettings, "https://"),
        ("https://hooks.example.com/a b", SlackSettings, "%XX"),
        ("https://hooks.example.com/é", SlackSettings, "%XX"),
        ("https://me:sesame@hooks.example.com/", SlackSettings, "user name"),
        ("https://ntfy.sh/", NtfySettings, "TOPIC"),
        ("https://api.telegram.org/bot1:sesame", TelegramSettings, "sendMessage"),
    ],
)
def test_wrong_urls(tmp_path: Path, url: str, kind: type[HttpSettings], says: str) -> None:
    """What is no URL to send to is refused before anything is sent, and no part of it is shown."""
    (result,) = sent(settings(tmp_path, url, kind))
    assert isinstance(result, RetryLater)
    assert result.reason.startswith("url: ")
    assert says in result.reason
    assert "hooks" not in result.reason
    assert "sesame" not in result.reason


def test_a_corrected_url(server: HttpServer, tmp_path: Path) -> None:
    """Behind a failure the secret is read again, without a restart."""

    async def run() -> None:
        async with channel(settings(tmp_path, "http://127.0.0.1:1/")) as made:
            assert isinstance(await made.send(MESSAGE), RetryLater)
            (tmp_path / "url").write_text(server.url())
            assert await made.send(MESSAGE) == Delivered()
            (tmp_path / "url").unlink()
            assert await made.send(MESSAGE) == Delivered()

    asyncio.run(run())


@pytest.mark.parametrize("kind", SERVICES, ids=name_of)
def test_check(tmp_path: Path, kind: type[HttpSettings]) -> None:
    """A check makes no message: it is a GET or HEAD; where the service has a question about the URL, its answer counts."""
    with HttpServer(tmp_path) as server:
        found = settings(tmp_path, server.url(PATHS[kind]), kind, ca_file=server.ca_file)
        assert checked(found) == Delivered()

        async def refuse(_request: web.BaseRequest) -> web.Response:
            return web.Response(status=404)

        server.handler = refuse
        has_question = kind in {DiscordSettings, TelegramSettings, NtfySettings}
        assert isinstance(checked(found), Rejected if has_question else Delivered)
    assert {asked.method for asked in server.requests} == {"GET" if has_question else "HEAD"}
    assert all(asked.body == b"" for asked in server.requests)
    if not has_question:
        assert {asked.path for asked in server.requests} == {"/"}


def test_a_proxy(server: HttpServer, tmp_path: Path) -> None:
    """A request goes through the proxy."""
    with HttpServer() as proxy:
        assert sent(settings(tmp_path, server.url("/x"), proxy=proxy.url())) == [Delivered()]
        assert len(proxy.requests) == 1
        assert server.requests == []
        url = "https://hooks.example.com/services/sesame-sesame"

        async def refuse(_request: web.BaseRequest) -> web.Response:
            return web.Response(status=407)

        proxy.handler = refuse
        (result,) = sent(settings(tmp_path, url, proxy=proxy.url()))
        assert result == RetryLater("hooks.example.com: the proxy answered 407")
