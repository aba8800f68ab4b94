"""The channels to web services against a real server: what they send, what its answers mean, and what it never learns."""

from __future__ import annotations

import asyncio
import gzip
import hmac
import json
import socket
import time
from base64 import b64encode
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
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
    WebhookSettings,
)
from consumer.clock import SECOND_US
from consumer.config_file import parse
from consumer.config_values import Secret
from consumer.deliver.channels import Delivered, Message, Rejected, RetryLater, SendResult, webhook
from consumer.deliver.channels.payloads import payload_of
from consumer.deliver.channels.webhook import Webhook
from consumer.deliver.decide import budget_of
from consumer.deliver.rendering import Renderer
from consumer.deliver.worker import Common, Worker
from consumer.ecs import event_of, json_line
from consumer.enrich.enricher import Enricher
from consumer.errors import ConfigError
from consumer.events import Login
from consumer.store.delivery import Delivery
from consumer.store.delivery_rows import Routed
from consumer.store.outbox import Queued
from tests.ecs_events import ecs
from tests.integration.http_server import HttpServer, accepting, as_service
from tests.integration.token_server import answering
from tests.lines import line_of
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.integration.site import Site

TOKEN = "T0SECRET-XYZZY/b0ttom-l33t"  # noqa: S105 - of no service
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
    WebhookSettings: f"/hooks/{TOKEN}?key={TOKEN}",
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


def test_one_connection(server: HttpServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages that follow each other share a connection, in order."""
    monkeypatch.setattr(webhook, "IDLE_S", 600.0)
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
        # A URL with a password is a secret, and a file has it.
        secret = secret_file(tmp_path, "proxy", proxy.url().replace("http://", "http://me:pr0xy-w0rd@").rstrip("/"))
        proxy.handler = accepting
        assert sent(settings(tmp_path, server.url("/x"), proxy=secret)) == [Delivered()]
        assert proxy.requests[-1].headers["Proxy-Authorization"] == "Basic " + b64encode(b"me:pr0xy-w0rd").decode()
        secret_file(tmp_path, "proxy", "ftp://me:pr0xy-w0rd@proxy")
        (result,) = sent(settings(tmp_path, server.url("/x"), proxy=secret))
        assert result == RetryLater("proxy: it has to be a URL with http, https, socks4 or socks5, a host and a port")


def secret_file(folder: Path, name: str, text: str) -> Secret:
    """Write a secret to a file, and return its place."""
    (folder / name).write_text(f"{text}\n")
    (folder / name).chmod(0o600)
    return Secret(file=str(folder / name))


def test_a_body_of_ones_own(server: HttpServer, tmp_path: Path) -> None:
    """Method, headers, tokens and signature are as configured, and the body has the user's structure."""
    found = settings(
        tmp_path, server.url("/v2/alerts"), WebhookSettings, method="PUT",
        headers={"X-Api-Key": secret_file(tmp_path, "api", "k3y"), "X-Team": "ops", "content-type": "application/vnd.x+json"},
        bearer=secret_file(tmp_path, "bearer", "b3arer"), hmac_key=secret_file(tmp_path, "hmac", "sesame"),
        body={
            "title": "{{ title }}", "tags": ["ssh", "{{ event.host.name }}"], "event": "{{ event }}", "urgent": True,
            "facts": "{% for line in details %}{{ line.name }}={{ line.value }};{% endfor %}", "port": "{{ event.source.port }}",
        },
    )  # fmt: skip
    assert sent(found) == [Delivered()]
    (asked,) = server.requests
    assert asked.method == "PUT"
    headers = {name.lower(): value for name, value in asked.headers.items()}
    wanted = {"x-api-key": "k3y", "x-team": "ops", "content-type": "application/vnd.x+json", "authorization": "Bearer b3arer"}
    assert headers.items() >= wanted.items()
    assert headers["x-signature-256"] == f"sha256={hmac.new(b'sesame', asked.body, 'sha256').hexdigest()}"
    body = json.loads(asked.body)
    assert body["title"] == MESSAGE.title == "Carol logged in to web1 as deploy from 203.0.113.7."
    assert body["tags"] == ["ssh", "web1"]
    assert body["event"] == json.loads(msgspec.json.encode(EVENT))
    assert body["urgent"] is True
    assert "host=web1;" in body["facts"]
    assert body["port"] is None


def test_the_whole_message(server: HttpServer, tmp_path: Path) -> None:
    """Without a body of the user's, a webhook gets all parts of a message by their names."""
    assert sent(settings(tmp_path, server.url(), WebhookSettings)) == [Delivered()]
    body = json.loads(server.requests[0].body)
    assert body == json.loads(msgspec.json.encode(payload_of(MESSAGE)))
    assert list(body) == ["id", "subject", "title", "text", "details", "closing", "thread", "late", "event", "language"]


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("{{ event.source.port + 1 }}x", "body: UndefinedError: "),
        ("{{ title / 2 }}", "body: TypeError: "),
        ("{{ ''.__class__.__mro__ }}", None),
        ("x{{ ''.__class__ }}", None),
    ],
)
def test_templates_that_fail(server: HttpServer, tmp_path: Path, template: str, says: str | None) -> None:
    """A template that cannot be filled delays its message alone, and gets at nothing but the message."""
    (result,) = sent(settings(tmp_path, server.url(), WebhookSettings, body={"text": template}))
    if says is None:
        assert "class" not in server.requests[0].body.decode()
        return
    assert isinstance(result, RetryLater)
    assert result.alone
    assert result.reason.startswith(says)
    assert server.requests == []


BODY = """
[[channel]]
name = "hook"
type = "webhook"
url = {{ env = "HOOK" }}
{}
"""


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('body = { text = "{{ title" }', "here:6: channel 'hook': body.text is not a template: "),
        ('body = { a = [{ b = "{% if %}" }] }', "channel 'hook': body.a.0.b is not a template: "),
        ('body = "x"', "channel 1: body has to be a table whose texts are templates"),
        ('headers = { Authorization = "Basic abc" }', "the value of Authorization has to be the place of a secret"),
        ('headers = { "X Y" = "a" }', "'X Y' is not a name that a header of yours can have"),
        ('headers = { Host = "a" }', "'Host' is not a name that a header of yours can have"),
        ('headers = { X = "a\\nb" }', "the value of X has a character that no header can have"),
        ('headers = { X = { file = "/a", env = "B" } }', "headers.X needs exactly one of file, env and command"),
        ("headers = { X = 5 }", "headers has to be a table of texts and places of secrets"),
        ('hmac_header = "a b"', "hmac_header 'a b' is not the name of a header"),
        ('method = "GET"', 'method has to be "POST", "PUT" or "PATCH"'),
        ('client_key = "/x"', "client_certificate is missing: it belongs to this key"),
        ('proxy = "proxy:3128"', "proxy has to be a URL with http, https, socks4 or socks5"),
        ('proxy = "ftp://proxy:3128"', "proxy has to be a URL with http, https, socks4 or socks5"),
        ('proxy = "http://proxy:99999"', "proxy has to be a URL with http, https, socks4 or socks5"),
        ('proxy = "http://me:sesame@proxy:3128"', "proxy must not contain a user name or a password: put"),
        ("chat_id = 5", 'it belongs under [[channel]] with type = "telegram"'),
        ('server = "x"', 'it belongs under [[channel]] with type = "email"'),
    ],
)  # fmt: skip
def test_faults_of_settings(text: str, says: str) -> None:
    """What cannot work is refused when the configuration is read, with its line."""
    with pytest.raises(ConfigError) as raised:
        parse(BODY.format(text).encode(), "here")
    assert says in str(raised.value)
    assert "sesame" not in str(raised.value)


def test_a_url_in_the_configuration() -> None:
    """A URL is a secret, so the configuration has its place, never the URL."""
    with pytest.raises(ConfigError) as raised:
        parse(BODY.format("").replace('{ env = "HOOK" }', '"https://hooks.example.com/sesame"').encode(), "here")
    assert "url has to be the place of the secret" in str(raised.value)
    assert "sesame" not in str(raised.value)


@asynccontextmanager
async def socks_proxy(wanted: list[bytes]) -> AsyncIterator[int]:
    """Run a SOCKS 5 proxy (RFC 1928) that keeps the names it is asked for, and connects them all to loopback; yield its port."""

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _, methods = await reader.readexactly(2)
        await reader.readexactly(methods)
        writer.write(b"\5\0")
        assert await reader.readexactly(4) == b"\5\1\0\3"
        (length,) = await reader.readexactly(1)
        wanted.append(await reader.readexactly(length))
        port = int.from_bytes(await reader.readexactly(2), "big")
        there, back = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"\5\0\0\1\0\0\0\0\0\0")
        try:
            await asyncio.gather(pass_on(reader, back), pass_on(there, writer))
        finally:
            back.transport.abort()
            writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


def test_a_socks_proxy(server: HttpServer, tmp_path: Path) -> None:
    """A request goes through the proxy, which looks up the name."""

    async def run() -> tuple[SendResult, list[bytes]]:
        wanted: list[bytes] = []
        async with socks_proxy(wanted) as port:
            found = settings(tmp_path, server.url().replace("127.0.0.1", "localhost"), proxy=f"socks5://127.0.0.1:{port}")
            async with channel(found) as made:
                result = await made.send(MESSAGE)
            return result, wanted

    assert asyncio.run(run()) == (Delivered(), [b"localhost"])
    assert len(server.requests) == 1
    (result,) = sent(settings(tmp_path, server.url(), proxy="socks5://127.0.0.1:1"))
    assert isinstance(result, RetryLater)


class Queue:
    """A channel's real queue and worker, with a clock that jumps over every pause."""

    def __init__(self, folder: Path, delivery: Delivery, settings: WebhookSettings) -> None:
        self.delivery = delivery
        self.now_us = 1_790_000_000 * SECOND_US
        common = Common(give_up_s=3 * 86400)
        self.worker = Worker(
            settings, Webhook(settings), delivery, Renderer(folder / "none", pytest.fail), Enricher(), common,
            clock=lambda: self.now_us,
        )  # fmt: skip

    def put(self, count: int) -> None:
        """Let logins wait, each of an account of its own."""
        rows = [
            json_line(
                ecs({"event": {"action": "ssh_login", "id": f"{n:032x}"}, "user": {"name": f"u{n}"}, "host": {"name": "web1"}})
            )
            for n in range(1, count + 1)
        ]
        queued = [Queued(n, f"{n:032x}", "ssh_login", self.now_us, row) for n, row in enumerate(rows, 1)]
        self.delivery.route([Routed(each, ("ops",), budget_of(event_of(each.body))) for each in queued], 0)

    async def work(self, *, failures: int | None = None) -> None:
        """Send until nothing waits, or until so many tries in a row have failed."""
        failed = 0
        while failed != failures:
            pause_s = await self.worker.step()
            if pause_s is None:
                return
            failed += pause_s > 0
            self.now_us += int(pause_s * 1e6) + 1


def test_an_outage_and_the_end_of_it(tmp_path: Path) -> None:
    """500 messages wait while nobody listens, and while the service is overloaded or limits: each arrives once, in order."""
    # Bound, so that nobody else gets the port, but nobody listens yet.
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    port = listener.getsockname()[1]

    async def run(queue: Queue) -> None:
        queue.put(500)
        await queue.work(failures=3)
        with HttpServer(listener=listener) as server:

            async def sometimes(_request: web.BaseRequest) -> web.Response:
                number = len(server.requests)
                if number <= 2:
                    return web.Response(status=503)
                return web.Response(status=429, headers={"Retry-After": "2"}) if number % 7 == 0 else web.Response()

            server.handler = sometimes
            await queue.work()
            accepted = [asked for number, asked in enumerate(server.requests, 1) if number > 2 and number % 7]
        texts = [json.loads(asked.body)["title"] for asked in accepted]
        assert texts == [f"u{number} logged in to web1." for number in range(1, 501)]
        assert {entry.state for entry in queue.delivery.entries(("pending", "sent", "dead", "dropped"), 1000)} == {"sent"}
        queue.worker._channel.close()

    with closing(Delivery(tmp_path, pytest.fail)) as delivery:
        url = secret_file(tmp_path, "url", f"http://127.0.0.1:{port}/")
        asyncio.run(run(Queue(tmp_path, delivery, WebhookSettings(name="ops", url=url, max_per_hour=100_000))))


def login() -> Login:
    """Return a login, as ``run`` records it."""
    line = line_of(time.time_ns() // 1000, trusted=(0, ""))
    return Login("1" * 32, line, "alice", "192.0.2.7", "4711", "publickey", None)


@pytest.mark.parametrize("kind", SERVICES, ids=name_of)
def test_nobody_learns_the_url(site: Site, tmp_path: Path, kind: type[HttpSettings]) -> None:
    """Neither ring, outbox, status, check nor a log shows a secret, whatever the server answers and wherever it fails."""
    with HttpServer() as server:
        place = server.url(PATHS[kind])

        async def repeat(request: web.BaseRequest) -> web.Response:
            return web.Response(status=503, text=f"{request.path_qs} {place} {dict(request.headers)}")

        server.handler = repeat
        (tmp_path / "hook.url").write_text(place)
        (tmp_path / "hook.url").chmod(0o600)
        known = {"name": "ops", "type": name_of(kind), "url": {"file": str(tmp_path / "hook.url")}, **MORE.get(kind, {})}
        site.configure(channel=[known])
        outputs = [site.ask("ring", status=75).stderr]
        process, wake = site.start_deliver()
        with wake, site.state() as state:
            state.record([login()], frozenset({"ssh_login"}), time.time_ns() // 1000)
            wait_for(lambda: site.said("retry_later"), "a failure")
            outputs += [site.ask("outbox").stdout, json.dumps(site.objects("outbox")), site.ask("ring", status=75).stderr]
        process.wait()
        outputs += [site.ask("check", "--connect", status=78).stdout, (site.folder / "deliver.log").read_text()]
        outputs += [str(site.query("SELECT * FROM delivery", "delivery"))]
    assert "answered 503" in outputs[1]
    for output in outputs:
        assert not any(part in output for part in (TOKEN, *TOKEN.split("/"), "XYZZY"))
