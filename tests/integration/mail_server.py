"""A real mail server on loopback, one that follows a script, and certificates of a private authority."""

from __future__ import annotations

import asyncio
import ssl
import threading
from contextlib import asynccontextmanager, suppress
from email import message_from_bytes
from email.policy import SMTPUTF8
from typing import TYPE_CHECKING, Any, cast

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from tests.waiting import DEADLINE_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from email.message import EmailMessage
    from pathlib import Path

    import trustme

PASSWORD = "s3cret-Ünïcode"  # noqa: S105 - of a test


class Inbox:
    """Accepts mail, and keeps it. ``answers`` may have other answers to DATA, the next one first."""

    def __init__(self) -> None:
        self.envelopes: list[Envelope] = []
        self.sessions: list[Session] = []
        self.answers: list[str] = []
        self.refused: dict[str, str] = {}
        self.senders: dict[str, str] = {}

    async def handle_MAIL(self, _server: SMTP, _session: Session, envelope: Envelope, address: str, options: list[str]) -> str:  # noqa: N802
        """Accept or refuse a sender."""
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return self.senders.get(address, "250 OK")

    async def handle_RCPT(self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]) -> str:  # noqa: N802
        """Accept or refuse a recipient."""
        if address in self.refused:
            return self.refused[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        """Accept or refuse a message."""
        if self.answers:
            return self.answers.pop(0)
        self.envelopes.append(envelope)
        self.sessions.append(session)
        return "250 taken"

    @property
    def mails(self) -> list[EmailMessage]:
        """The messages, as a mail program reads them."""
        return [message_from_bytes(content_of(envelope), policy=SMTPUTF8) for envelope in self.envelopes]


def content_of(envelope: Envelope) -> bytes:
    """Return a message's bytes. aiosmtpd could decode them, but is not configured to."""
    assert isinstance(envelope.content, bytes)
    return envelope.content


def authenticator(_server: Any, _session: Any, _envelope: Any, mechanism: str, data: Any) -> AuthResult:
    """Accept only ``PASSWORD``."""
    good = mechanism in {"LOGIN", "PLAIN"} and isinstance(data, LoginPassword) and data.password == PASSWORD.encode()
    return AuthResult(success=good, handled=False) if not good else AuthResult(success=True)


@asynccontextmanager
async def listening(make: Callable[[], asyncio.BaseProtocol], context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Serve on a free port; yield it."""
    server = await asyncio.get_running_loop().create_server(make, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


class Post:
    """A mail server in its own thread, on the same port all the time; ``options`` are aiosmtpd's."""

    def __init__(self, **options: Any) -> None:
        self.inbox = Inbox()
        self.port = 0
        self._options = options
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        ready = threading.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(ready),))
        self._thread.start()
        ready.wait(DEADLINE_S)

    async def _serve(self, ready: threading.Event) -> None:
        connections: list[SMTP] = []

        def make() -> SMTP:
            connections.append(SMTP(self.inbox, **self._options))
            return connections[-1]

        async with listening(make) as self.port:
            ready.set()
            await self._stop.wait()
        for connection in connections:
            if connection.transport is not None:
                cast("asyncio.Transport", connection.transport).abort()
            if (task := connection._handler_coroutine) is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        await asyncio.sleep(0)

    def close(self) -> None:
        """End."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._loop.close()

    @property
    def ids(self) -> list[str]:
        """The Message-IDs of the accepted mails, in order."""
        return [str(mail["Message-ID"]) for mail in self.inbox.mails]


def server_context(authority: trustme.CA, name: str = "127.0.0.1") -> ssl.SSLContext:
    """Return the server's side of TLS."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(name).configure_cert(context)
    return context


def ca_file(authority: trustme.CA, folder: Path) -> str:
    """Write the authority's certificate to a file for ``ca_file``; return its path."""
    path = folder / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return str(path)


HANG, CLOSE, CUT = "hang", "close", "cut"
GREETING, EHLO, OK, GO_ON = "220 hello", "250 hello", "250 OK", "354 go on"


@asynccontextmanager
async def scripted(answers: Sequence[str]) -> AsyncIterator[tuple[int, list[bytes]]]:
    """
    Serve connections that answer each command with the next line of a script; yield the port and the received commands.

    ``HANG`` never answers, ``CLOSE`` ends the connection, ``CUT`` resets it. After ``354``, the server reads the whole message.
    """
    said: list[bytes] = []
    tasks: set[asyncio.Task[None]] = set()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            for number, answer in enumerate(answers):
                if number:
                    end = b"\r\n.\r\n" if answers[number - 1].startswith("354") else b"\r\n"
                    said.append(await reader.readuntil(end))
                if answer == HANG:
                    await asyncio.Event().wait()
                if answer == CUT:
                    writer.transport.abort()
                if answer in {CLOSE, CUT}:
                    break
                writer.write(answer.encode() + b"\r\n")
                await writer.drain()
            else:
                while await reader.read(1000):
                    pass
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], said
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
