"""
The place and the network of an address, from MaxMind's web service: GeoIP, or the free GeoLite.

Source: https://dev.maxmind.com/geoip/docs/web-services/

The service learns each address that sshbell asks about, and each question counts against the account. So sshbell asks only about
public addresses, keeps each answer ("not known" is one), and pauses after a failure.
"""

import asyncio
import ssl
import time
from collections import OrderedDict
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple, Self

import aiohttp
from geoip2.errors import (
    AddressNotFoundError,
    AuthenticationError,
    OutOfQueriesError,
    PermissionRequiredError,
)
from geoip2.webservice import AsyncClient

from consumer.addresses import Address, ip_of
from consumer.config_values import Secret
from consumer.ecs import NO_SOURCE, NOTHING, EcsEvent, GeoFields, SourceFields, joined
from consumer.errors import SecretError
from consumer.places.geoip2_models import LOCALES, add_model
from consumer.places.place_fields import PlaceFields
from consumer.places.special_addresses import meaning_of
from consumer.process.threads import Threads
from consumer.secret import read_secret

# For one question, with the time to read the key. A notice waits less (enricher.py); a late answer serves the next notice.
QUESTION_LIMIT_S = 8.0
# Questions at one time, and together with the waiting ones. Further addresses get no place.
AT_ONCE_LIMIT, PENDING_LIMIT = 4, 64
# MaxMind's longest answers have about 4 KiB.
ANSWER_LIMIT_BYTES = 64 * 1024
# Answers in memory, and how long they stay valid.
CACHE_LIMIT = 4096
_KEEP_S = 24 * 3600.0
# The pause after a failure, twice as long each time. A failure that an administrator has to correct gets the longest at once.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 15.0, 3600.0

_FREE = 'a free GeoLite account needs geoip_host = "geolite.info"'
# Failures that an administrator has to correct, by the status of the answer.
TO_MEND = {
    401: f"it refuses the account or its key: correct geoip_account and geoip_key; {_FREE}",
    402: "the account has no queries left: buy some, or wait for the next day",
    403: f"the account may not use this service: {_FREE}",
}


class WebError(Exception):
    """
    The service gave no answer. The text gives the reason in our words, since the service's may hold anything, and what to do.

    Attributes:
        is_lasting: it lasts until an administrator corrects it.
    """

    def __init__(self, text: str, *, is_lasting: bool = False) -> None:
        super().__init__(text)
        self.is_lasting = is_lasting


class _Known(NamedTuple):
    source: SourceFields
    until_s: float  # on the monotonic clock


class WebPlaces:
    """
    Asks the web service about addresses.

    Args:
        account: its number at MaxMind.
        key: where its licence key is. ``WebPlaces`` reads it for each question, so a new one needs no restart.
        host: of the service; with ":" and a port if that is not 443.
        report: gets one line about a failure, and the same line again only after the service has answered in between.
        tls: the authorities to trust; None for the system's.
    """

    def __init__(
        self, account: int, key: Secret, host: str, report: Callable[[str], None], tls: ssl.SSLContext | None = None
    ) -> None:
        self._account = account
        self._key = key
        self._secrets = Threads()
        self._host = host
        self._report = report
        self._tls = tls
        self._known: OrderedDict[Address, _Known] = OrderedDict()
        self._asked: dict[Address, asyncio.Task[SourceFields]] = {}
        self._turns = asyncio.Semaphore(AT_ONCE_LIMIT)
        self._failures = 0  # in a row
        self._pause_until_s = 0.0
        self._reported = ""

    async def of(self, event: EcsEvent) -> EcsEvent:
        """Return ``source.geo``, ``source.as`` and ``source.anonymous`` as far as the service knows them. Never raises."""
        ip = ip_of(event.source.ip)
        if ip is None:
            return NOTHING
        meaning = meaning_of(int(ip), ip.max_prefixlen)
        found = SourceFields(geo=GeoFields(name=meaning.name)) if meaning.name else NO_SOURCE
        asked = IPv4Address(meaning.number) if meaning.bits == 32 else IPv6Address(meaning.number)
        if meaning.is_public and asked.is_global and not asked.is_reserved:
            found = joined(found, await self._source_of(asked))
        return EcsEvent(source=found)

    async def check(self) -> None:
        """
        Ask for the place of this machine, which is one question.

        Raises:
            WebError: the service gave no answer.
        """
        await self._answer("me")

    async def _source_of(self, ip: Address) -> SourceFields:
        known = self._known.get(ip)
        if known is not None and time.monotonic() < known.until_s:
            return known.source
        task = self._asked.get(ip)
        if task is None:
            if self._is_pausing() or len(self._asked) >= PENDING_LIMIT:
                return NO_SOURCE
            task = self._asked[ip] = asyncio.create_task(self._looked_up(ip))
            task.add_done_callback(lambda _task: self._asked.pop(ip, None))
        # A caller that gives up must not cancel the question: its answer serves the next one.
        return await asyncio.shield(task)

    def _is_pausing(self) -> bool:
        return time.monotonic() < self._pause_until_s

    async def _looked_up(self, ip: Address) -> SourceFields:
        async with self._turns:
            if self._is_pausing():
                return NO_SOURCE
            try:
                source = await self._answer(str(ip))
            except WebError as error:
                self._failed(error)
                return NO_SOURCE
        self._failures, self._pause_until_s, self._reported = 0, 0.0, ""
        self._known[ip] = _Known(source, time.monotonic() + _KEEP_S)
        self._known.move_to_end(ip)
        if len(self._known) > CACHE_LIMIT:
            self._known.popitem(last=False)
        return source

    def _failed(self, error: WebError) -> None:
        if str(error) != self._reported:
            self._reported = str(error)
            self._report(self._reported)
        if self._is_pausing():
            return  # another question of the same time has failed already
        self._failures += 1
        pause_s = LONGEST_PAUSE_S if error.is_lasting else FIRST_PAUSE_S * 2.0 ** min(self._failures - 1, 30)
        self._pause_until_s = time.monotonic() + min(pause_s, LONGEST_PAUSE_S)

    async def _answer(self, address: str) -> SourceFields:
        client: _Client | None = None
        try:
            async with asyncio.timeout(QUESTION_LIMIT_S):
                key = await self._secrets.run(read_secret, self._key)
                async with _Client(self._account, key, self._host, self._tls) as client:
                    model = await client.city(address)
            found = PlaceFields()
            add_model(found, model)
            return found.source()
        except AddressNotFoundError:
            return NO_SOURCE
        except SecretError as error:
            raise WebError(f"geoip_key: {error}", is_lasting=True) from None
        except Exception as error:  # noqa: BLE001 - a hostile answer makes geoip2 raise almost anything
            # "from None": the error may hold text of the service.
            raise _fault(error, client.status if client is not None else 0, self._host) from None


def _fault(error: Exception, status: int, host: str) -> WebError:
    """Return the error for people, from geoip2's kind of error and the status of the answer, 0 without one."""
    match error:
        case AuthenticationError():
            status = 401
        case OutOfQueriesError():
            status = 402
        case PermissionRequiredError():
            status = 403
    if status in TO_MEND:
        return WebError(f"{host}: {TO_MEND[status]}", is_lasting=True)
    if status not in {0, 200}:
        return WebError(f"{host}: it answers with status {status}")
    return WebError(f"{host}: {_broken(error)}")


def _broken(error: Exception) -> str:
    """Return the fault of an answer, or of the connection."""
    match error:
        case TimeoutError():
            return f"no answer within {QUESTION_LIMIT_S:.0f} s"
        case _TooLongError():
            return f"an answer of more than {ANSWER_LIMIT_BYTES // 1024} KiB"
        case aiohttp.ClientSSLError():
            return "its certificate is not trusted, or it speaks no TLS"
        case OSError() | aiohttp.ClientError():
            return f"it cannot be reached, or breaks the connection ({type(error).__name__})"
        case _:
            return "an answer that sshbell cannot read"


class _TooLongError(Exception):
    """The answer is longer than any of MaxMind's."""


class _Answer(NamedTuple):
    """An answer with the attributes that geoip2 uses."""

    status: int
    content_type: str
    body: bytes

    async def text(self) -> str:
        return self.body.decode()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_details: object) -> None:
        pass


class _Client(AsyncClient):
    """
    geoip2's client with bounds.

    geoip2's client reads an answer of any length, and follows redirects to any host, which then learns the address. Only its
    session can change that, so this class takes the session's place: see ``_session``.
    """

    def __init__(self, account: int, key: str, host: str, tls: ssl.SSLContext | None) -> None:
        super().__init__(account, key, host, LOCALES, QUESTION_LIMIT_S)
        self._tls = tls
        self.status = 0

    async def _session(self) -> Self:  # type: ignore[override]
        return self  # geoip2 calls only get() of a session

    async def get(self, url: str, proxy: None) -> _Answer:
        """Stand in for ``aiohttp.ClientSession.get``."""
        session = await super()._session()
        async with session.get(url, proxy=proxy, allow_redirects=False, ssl=self._tls or True) as response:
            self.status = response.status
            body = bytearray()
            async for piece in response.content.iter_any():
                body += piece
                if len(body) > ANSWER_LIMIT_BYTES:
                    raise _TooLongError
            return _Answer(response.status, response.content_type, bytes(body))
