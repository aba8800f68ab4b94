"""Messages as requests to web services: the transport for all of them. ``payloads`` has the JSON of each."""

import asyncio
import hmac
import re
import ssl
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import msgspec
from aiohttp import ClientError, ClientSession, ClientTimeout, DummyCookieJar, TCPConnector

from consumer import __version__
from consumer.addresses import is_https_or_local
from consumer.channel_faults import proxy_fault
from consumer.channel_settings import (
    DiscordSettings,
    HttpSettings,
    NtfySettings,
    SlackSettings,
    TeamsSettings,
    TelegramSettings,
    WebhookSettings,
    secrets,
)
from consumer.clock import now_us, utc
from consumer.deliver.channels import LIMIT_S, Delivered, Medium, Message, Rejected, RetryLater, SendResult, payloads, reason_of
from consumer.deliver.http_faults import fault_of, place_of
from consumer.errors import SecretError
from consumer.process.threads import Threads
from consumer.secret import read_secret
from consumer.text import N_

# How long a connection stays open for the next message. Less than the 5 s after which some servers close theirs, because a
# message that meets the end of a connection has to wait.
IDLE_S = 4.0
# For the body of an answer, in bytes and seconds. sshbell needs it only for the reason of a refusal.
ANSWER_LIMIT_BYTES = 16 * 1024
_ANSWER_S = 2.0
# The longest pause that a service can ask for.
_AFTER_LIMIT_S = 3600.0
# Refusals that pass: the server was too slow, or does not want to read early or so much.
_PASSING = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS})
# Shorter parts of a URL stand in too many other texts.
_SECRET_LENGTH = 6
# Remembered secrets, to conceal them in answers.
_CREDENTIALS_LIMIT = 100


class _Request(NamedTuple):
    """A request without its body. ``is_answer_enough``: any answer means that the server can be reached."""

    method: str
    url: str
    is_answer_enough: bool = False


class _Answer(NamedTuple):
    """An answer; ``body`` is cut at the limit, and may be cut by the server."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class _BodyError(Exception):
    """A template of the user's cannot be filled with a message."""


class Webhook:
    """
    Sends messages to a web service, one at a time, over a connection that stays open for the next one.

    Args:
        settings: from the configuration.
        limit_s: for one try.
    """

    medium: Medium = "chat"

    def __init__(self, settings: HttpSettings, *, limit_s: float = LIMIT_S) -> None:
        self._settings = settings
        self._limit_s = limit_s
        self._skeleton = payloads.Skeleton(settings.body) if isinstance(settings, WebhookSettings) else None
        self._session: ClientSession | None = None
        self._socks_errors: tuple[type[Exception], ...] = ()
        self._secrets = Threads()
        # By the names of their keys; read when a message needs them, and again after a failure.
        self._values: dict[str, str] = {}
        # Parts of secrets that an answer may repeat.
        self._credentials: deque[str] = deque(maxlen=_CREDENTIALS_LIMIT)

    async def send(self, message: Message) -> SendResult:
        """Send a message: a request whose answer has a status of 2xx."""
        return await self._tried(message)

    async def check(self) -> SendResult:
        """Send a request that makes no message. Some services say in its answer whether the URL is right."""
        return await self._tried(None)

    def close(self) -> None:
        """Close the connection."""
        session, self._session = self._session, None
        if session is not None and session.connector is not None:
            steps = session.connector.close(abort_ssl=True).__await__()
            session.detach()
            # The first step closes everything. The others wait for the ends of the connections, and the loop may end before.
            with suppress(StopIteration):
                next(steps)
            steps.close()

    async def _tried(self, message: Message | None) -> SendResult:
        """Send a message, or with None a request for a check; turn the answer, or its absence, into a result."""
        try:
            async with asyncio.timeout(self._limit_s):
                await self._read_secrets()
                url = self._values["url"]
                request, content = _check_of(self._settings, url), None
                if message is not None:
                    request, content = self._request_of(url, message)
                result = self._meaning(request, await self._answered(request, content))
        except TimeoutError:
            result = self._later(N_("no answer within %(seconds)s s") % {"seconds": f"{self._limit_s:.3g}"})
        except SecretError as error:
            result = RetryLater(self._shown(str(error)))
        except (OSError, ClientError) as error:
            result = self._later(fault_of(error))
        except self._socks_errors:
            result = self._later(N_("the proxy cannot be reached, or refuses the connection"))
        except _BodyError as error:
            result = RetryLater(self._shown(str(error)), alone=True)
        except ValueError:
            # Of aiohttp, about a URL; its text has the URL.
            result = self._later(N_("the URL, the proxy's URL or a header is not valid"))
        if not isinstance(result, Delivered):
            self._values.clear()
            if isinstance(result, RetryLater):
                self.close()
        return result

    async def _read_secrets(self) -> None:
        if self._values:
            return
        found = {name: await self._secrets.run(read_secret, secret) for name, secret in secrets(self._settings)}
        if fault := _url_fault(self._settings, found["url"]):
            raise SecretError(f"url: {fault}")
        if fault := proxy_fault(found["proxy"]) if "proxy" in found else "":
            raise SecretError(f"proxy: it {fault}")
        parts = urlsplit(found["url"])
        for text in (f"{parts.path}?{parts.query}", unquote(f"{parts.path}?{parts.query}")):
            self._conceal(*re.split(r"[/?&=]", text))
        # Of a proxy's URL, the part before the host has the password.
        self._conceal(*found.values(), *re.split(r"[/:@]", found.get("proxy", "")))
        self._values = found

    def _conceal(self, *texts: str) -> None:
        """Keep texts, if they are long enough to be secrets, out of all reports about answers."""
        for text in texts:
            if len(text) >= _SECRET_LENGTH and text not in self._credentials:
                self._credentials.append(text)

    def _request_of(self, url: str, message: Message) -> tuple[_Request, Any]:
        """Return the request of a message, and its JSON."""
        match self._settings:
            case SlackSettings():
                content: Any = payloads.slack(message)
            case TeamsSettings():
                content = payloads.teams(message)
            case DiscordSettings():
                content = payloads.discord(message)
            case TelegramSettings():
                content = payloads.telegram(message, self._settings.chat_id)
            case NtfySettings():
                # JSON goes to the server's root, and names the topic.
                server, _, topic = url.rstrip("/").rpartition("/")
                return _Request("POST", f"{server}/"), payloads.ntfy(message, topic)
            case WebhookSettings(method=method):
                return _Request(method, url), self._filled(message)
            case _:
                raise TypeError(type(self._settings))
        return _Request("POST", url), content

    def _filled(self, message: Message) -> Any:
        """Return the user's own JSON."""
        assert self._skeleton is not None
        try:
            return self._skeleton.of(message)
        except Exception as error:  # noqa: BLE001 - a template can raise anything
            fault = f"body: {type(error).__name__}: {error}"
        raise _BodyError(fault)

    async def _answered(self, request: _Request, content: Any) -> _Answer:
        body = b"" if content is None else msgspec.json.encode(content, enc_hook=str)
        session = self._session = self._session or self._new_session()
        async with session.request(
            request.method, request.url, data=body or None, headers=self._headers(body), allow_redirects=False,
            proxy=self._http_proxy(),
        ) as response:  # fmt: skip
            answer = bytearray()
            try:
                async with asyncio.timeout(_ANSWER_S):
                    async for piece in response.content.iter_any():
                        answer += piece
                        if len(answer) > ANSWER_LIMIT_BYTES:
                            break
            except (TimeoutError, OSError, ClientError):
                pass  # the status is the answer
            if not response.content.at_eof():
                response.close()
            return _Answer(response.status, response.headers, bytes(answer[:ANSWER_LIMIT_BYTES]))

    def _headers(self, body: bytes) -> dict[str, str]:
        headers = {"Accept-Encoding": "identity"}
        if body:
            headers["Content-Type"] = "application/json"
        if "bearer" in self._values:
            headers["Authorization"] = f"Bearer {self._values['bearer']}"
        if isinstance(self._settings, WebhookSettings):
            plain = {name: value for name, value in self._settings.headers.items() if isinstance(value, str)}
            # So that "content-type" replaces ours.
            headers = {name: value for name, value in headers.items() if name.lower() not in map(str.lower, plain)} | plain
            headers |= {name: self._values[f"headers.{name}"] for name in self._settings.headers if name not in plain}
            if "hmac_key" in self._values:
                digest = hmac.digest(self._values["hmac_key"].encode(), body, "sha256")
                headers[self._settings.hmac_header] = f"sha256={digest.hex()}"
        return headers

    def _new_session(self) -> ClientSession:
        return ClientSession(
            connector=self._connector(),
            headers={"User-Agent": f"sshbell/{__version__}"},
            cookie_jar=DummyCookieJar(),
            # An answer must not grow in memory.
            auto_decompress=False,
            # ``_tried`` has the only limit of time.
            timeout=ClientTimeout(total=None),
            trust_env=not self._proxy(),
        )

    def _connector(self) -> TCPConnector:
        if not self._proxy().startswith("socks"):
            return TCPConnector(ssl=self._tls(), keepalive_timeout=IDLE_S, limit=1)
        # Imported here, because it is an extra.
        from aiohttp_socks import ProxyConnectionError, ProxyConnector, ProxyError, ProxyTimeoutError  # noqa: PLC0415

        self._socks_errors = (ProxyError, ProxyConnectionError, ProxyTimeoutError)
        # The proxy looks up the name.
        return ProxyConnector.from_url(self._proxy(), rdns=True, ssl=self._tls(), keepalive_timeout=IDLE_S, limit=1)

    def _proxy(self) -> str:
        """Return the proxy's URL; "" for that of the environment."""
        proxy = self._settings.proxy
        return proxy if isinstance(proxy, str) else self._values["proxy"]

    def _http_proxy(self) -> str | None:
        return None if self._proxy().startswith("socks") else self._proxy() or None

    def _tls(self) -> ssl.SSLContext:
        settings = self._settings
        path = settings.ca_file
        try:
            context = ssl.create_default_context(cafile=path or None)
            if path := settings.client_certificate:
                # Without a password, so that OpenSSL never asks for one at a terminal.
                context.load_cert_chain(path, settings.client_key or None, password="")
        except (OSError, ssl.SSLError) as error:
            raise SecretError(f"certificate {path}: {error.strerror or error}") from error
        return context

    def _meaning(self, request: _Request, answer: _Answer) -> SendResult:
        status = answer.status
        if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES or (request.is_answer_enough and status < 500):
            return Delivered()
        said = N_("answered %(answer)s") % {"answer": f"{status} {_text_of(answer.body)}".strip()}
        if status in _PASSING or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return RetryLater(self._at(said), after_s=_after_s(answer))
        if status < HTTPStatus.BAD_REQUEST:
            # Somebody on the way, such as a hotel's or a firewall's page, may have answered in the service's name.
            return self._later(N_("answered %(status)s, a redirect; sshbell follows none") % {"status": status})
        return Rejected(self._at(said))

    def _later(self, text: str) -> RetryLater:
        return RetryLater(self._at(text))

    def _at(self, text: str) -> str:
        """Return a reason with the server before it."""
        return self._shown(f"{place_of(self._values['url'])}: {text}" if self._values else text)

    def _shown(self, text: str) -> str:
        """Return a text as one line that is safe for a terminal, not too long, and without secrets."""
        return reason_of(text, self._credentials)


def _url_fault(settings: HttpSettings, url: str) -> str:
    """Return the fault of a URL, without any part of it; "" for none."""
    path = urlsplit(url).path if is_https_or_local(url) else ""
    if isinstance(settings, NtfySettings) and not re.fullmatch(r"/[A-Za-z0-9_-]{1,64}/?", path):
        return N_("it has to end in the name of a topic: https://ntfy.sh/TOPIC")
    if isinstance(settings, TelegramSettings) and not path.endswith("/sendMessage"):
        return N_("it has to end in /sendMessage: https://api.telegram.org/botTOKEN/sendMessage")
    if not is_https_or_local(url):
        return N_("it has to begin with https:// and a host name")
    if not re.fullmatch(r"[!-~]+", url):
        return N_("it holds a character that no URL has; write it as %(code)s") % {"code": "%XX"}
    return N_("it must not contain a user name or a password") if "@" in urlsplit(url).netloc else ""


def _check_of(settings: HttpSettings, url: str) -> _Request:
    """Return a request that makes no message: one that the service has for that, or else a look at its first page."""
    match settings:
        case DiscordSettings():
            return _Request("GET", url)
        case TelegramSettings():
            return _Request("GET", url.rstrip("/").removesuffix("/sendMessage") + "/getMe")
        case NtfySettings():
            return _Request("GET", f"{url.rstrip('/')}/auth")
    parts = urlsplit(url)
    return _Request("HEAD", f"{parts.scheme}://{parts.netloc}/", is_answer_enough=True)


def _text_of(body: bytes) -> str:
    """Return the reason in an answer: the text that JSON has under a usual name, or else all of it."""
    text = body.decode("utf-8", "replace")
    try:
        found = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return text
    for name in ("description", "message", "error"):
        value = found.get(name) if isinstance(found, dict) else None
        if isinstance(value, dict):
            value = value.get("message")
        if isinstance(value, str) and value:
            return value
    return text


def _after_s(answer: _Answer) -> float:
    """Return the pause that a service asks for, in seconds; 0 if it asks for none."""
    text = answer.headers.get("Retry-After", "")
    try:
        wanted_s = float(text) if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text) else _until_s(text)
    except (ValueError, TypeError, OverflowError):
        wanted_s = _retry_after_of(answer.body)
    return min(max(0.0, wanted_s), _AFTER_LIMIT_S)


def _until_s(date: str) -> float:
    """Return the seconds until a date as in RFC 9110, section 5.6.7; raise ValueError or TypeError if it is none."""
    moment = parsedate_to_datetime(date)
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (moment - utc(now_us())).total_seconds()


class _Parameters(msgspec.Struct, frozen=True):
    retry_after: float = 0


class _Limited(msgspec.Struct, frozen=True):
    """What Discord and Telegram answer to too many requests."""

    retry_after: float = 0
    parameters: _Parameters = _Parameters()


def _retry_after_of(body: bytes) -> float:
    try:
        found = msgspec.json.decode(body, type=_Limited)
    except (ValueError, RecursionError):
        return 0.0
    return max(found.retry_after, found.parameters.retry_after)
