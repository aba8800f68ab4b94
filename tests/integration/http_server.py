"""A web server on loopback, with or without TLS, whose answers a test chooses."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, NamedTuple, Self

import trustme
from aiohttp import web

from tests.service_limits import JUDGES

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path


class Request(NamedTuple):
    """A request that a server has got."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


async def accepting(_request: web.BaseRequest) -> web.StreamResponse:
    """Accept everything."""
    return web.Response(text="ok")


def as_service(name: str) -> Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]:
    """Return a handler that judges each body as the service of this name would, and answers as it does."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        body = await request.json()
        if fault := JUDGES[name](body) if name in JUDGES else "":
            return web.Response(status=400, text=fault)
        status, text = {"slack": (200, "ok"), "teams": (202, ""), "discord": (204, ""), "ntfy": (200, '{"id":"1"}')}.get(
            name, (200, '{"ok":true}')
        )
        return web.Response(status=status, text=text)

    return answer


class HttpServer:
    """
    The server, in its own thread.

    Args:
        folder: where it writes its authority's certificate; without one, it speaks no TLS.
        listener: a bound socket; without one, it has a free port.
        clients: it asks for certificates that this authority has signed.

    Attributes:
        requests: what it was asked, in order.
        handler: makes the answers.
        peers: the other ends of the connections.
    """

    def __init__(
        self, folder: Path | None = None, *, listener: socket.socket | None = None, clients: trustme.CA | None = None
    ) -> None:
        self.requests: list[Request] = []
        self.handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]] = accepting
        self.peers: set[object] = set()
        self.ca_file = ""
        self._tls: ssl.SSLContext | None = None
        if folder is not None:
            authority = trustme.CA()
            self.ca_file = str(folder / "ca.pem")
            authority.cert_pem.write_to_path(self.ca_file)
            self._tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            authority.issue_cert("127.0.0.1").configure_cert(self._tls)
            if clients is not None:
                clients.configure_trust(self._tls)
                self._tls.verify_mode = ssl.CERT_REQUIRED
        self._listener = listener or socket.create_server(("127.0.0.1", 0))
        self._port: Future[int] = Future()
        self._thread = threading.Thread(target=self._run)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended: asyncio.Event | None = None

    @property
    def port(self) -> int:
        """Its port."""
        return self._port.result()

    def url(self, path: str = "/") -> str:
        """Return a URL of it."""
        return f"http{'s' if self._tls else ''}://127.0.0.1:{self.port}{path}"

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            if self._port.done():
                raise
            # The test waits for the port, and gets the error instead.
            self._port.set_exception(error)

    async def _serve(self) -> None:
        self._loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
        server = web.Server(self._answer)
        runner = web.ServerRunner(server, shutdown_timeout=0.1)
        await runner.setup()
        site = web.SockSite(runner, self._listener, ssl_context=self._tls)
        await site.start()
        self._port.set_result(runner.addresses[0][1])
        await self._ended.wait()
        transports = [each.transport for each in server.connections]
        await runner.cleanup()
        await asyncio.sleep(0)  # a connection may just be accepted
        transports += [each.transport for each in server.connections]
        for transport in transports:
            if transport is not None:
                transport.abort()  # without waiting for a client that reads no more

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        self.requests.append(Request(request.method, request.path_qs, dict(request.headers), await request.read()))
        assert request.transport is not None
        self.peers.add(request.transport.get_extra_info("peername"))
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
