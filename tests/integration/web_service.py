"""A web service on loopback that answers as MaxMind's does, and misbehaves where a test wants that."""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Self

import trustme
from aiohttp import web

from tests.databases import LYON, ORANGE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

ACCOUNT, KEY = 123456, "s3cret-licence-key"
ANSWER = LYON | {"traits": ORANGE | {"ip_address": "8.8.8.8", "network": "8.8.8.0/24"}}


def said(record: object, status: int = 200, kind: str = "city") -> web.Response:
    """Return an answer in the service's form."""
    content_type = f"application/vnd.maxmind.com-{kind}+json; charset=UTF-8; version=2.1"
    return web.Response(body=json.dumps(record).encode(), status=status, headers={"Content-Type": content_type})


def refused(status: int, code: str, text: str = "Read the manual.") -> web.Response:
    """Return an error in the service's form."""
    return said({"code": code, "error": text}, status, "error")


async def answers(_request: web.BaseRequest) -> web.StreamResponse:
    """Answer with Lyon."""
    return said(ANSWER)


class Service:
    """
    The service, in a thread of its own.

    Attributes:
        asked: the paths of the questions.
        authorizations: the account and key of each question.
        handler: makes the answers.
    """

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        self.ca_file = str(folder / "maxmind-ca.pem")
        authority.cert_pem.write_to_path(self.ca_file)
        self._tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("127.0.0.1").configure_cert(self._tls)
        self.asked: list[str] = []
        self.authorizations: list[str | None] = []
        self.handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]] = answers
        self._port: Future[int] = Future()
        self._thread = threading.Thread(target=self._run)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended: asyncio.Event | None = None

    @property
    def host(self) -> str:
        """The value of ``geoip_host``."""
        return f"127.0.0.1:{self._port.result()}"

    @property
    def client_tls(self) -> ssl.SSLContext:
        """A context that trusts the service."""
        return ssl.create_default_context(cafile=self.ca_file)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            if self._port.done():
                raise
            # The test waits for the port and gets the error in its place.
            self._port.set_exception(error)

    async def _serve(self) -> None:
        self._loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
        server = web.Server(self._answer)
        runner = web.ServerRunner(server, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=self._tls)
        await site.start()
        self._port.set_result(runner.addresses[0][1])
        await self._ended.wait()
        await runner.cleanup()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        self.asked.append(request.path)
        self.authorizations.append(request.headers.get("Authorization"))
        return await self.handler(request)

    def __enter__(self) -> Self:
        self._thread.start()
        self._port.result()
        return self

    def __exit__(self, *_details: object) -> None:
        assert self._loop is not None
        assert self._ended is not None
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join()
