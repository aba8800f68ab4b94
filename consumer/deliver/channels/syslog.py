"""Events to a syslog server, in the form of RFC 5424, with JSON as the message."""

import asyncio
import errno
import os
import re
import socket
import ssl
import time
from contextlib import suppress
from urllib.parse import urlsplit

from consumer.channel_settings import SyslogSettings
from consumer.clock import isoformat, now_us
from consumer.deliver.channels import LIMIT_S, Delivered, Medium, Message, Rejected, RetryLater, SendResult
from consumer.deliver.channels.payloads import ecs_line
from consumer.process.threads import Threads
from consumer.text import N_, harmless

# RFC 5426 for UDP, RFC 6587 (and the IANA's registry) for TCP, RFC 5425 for TLS.
_PORTS = {"udp": 514, "tcp": 601, "tls": 6514}
# Facility authpriv, severity notice; for a forged line, warning.
_NOTICE, _WARNING = 10 * 8 + 5, 10 * 8 + 4
# The header's fields have no other characters; RFC 5424, section 6. The lengths are those of HOSTNAME and MSGID.
_HOST, _ID = 255, 32
# How long to wait for the server to close its end, which shows that it has read everything; and how long if it did not do so for
# the message before, because some never do.
CLOSE_S, _SHORT_CLOSE_S = 5.0, 0.5
# How long to wait for the ticket of TLS 1.3.
_TICKET_S = 1.0
# What a server may send before its end; one that sends more is there, too.
_BLOCK_BYTES = 4096


class Syslog:
    """
    Sends each message over a connection of its own.

    Syslog has no receipts. Over TCP and TLS, sshbell closes its end behind the message, and the server's end follows once the
    server has read it. So a server that dies in between costs no message.

    Args:
        settings: from the configuration.
        limit_s: for one message.
        close_s: how long to wait for the server to close its end.
    """

    medium: Medium = "chat"

    def __init__(self, settings: SyslogSettings, *, limit_s: float = LIMIT_S, close_s: float = CLOSE_S) -> None:
        self._settings = settings
        self._limit_s = limit_s
        self._close_s = close_s
        self._does_close = True
        self._threads = Threads()

    async def send(self, message: Message) -> SendResult:
        """Send a message."""
        return await self._sent(_frame(message))

    async def check(self) -> SendResult:
        """Connect, but send nothing. Over UDP, that finds only a wrong name."""
        return await self._sent(b"")

    def close(self) -> None:
        """Nothing is open between two messages."""

    async def _sent(self, frame: bytes) -> SendResult:
        place = self._settings.server
        try:
            async with asyncio.timeout(self._limit_s):
                if place.startswith("/"):
                    await _to_socket(place, frame)
                elif place.startswith("udp://"):
                    await _by_udp(*self._address(), frame)
                else:
                    await self._by_stream(*self._address(), frame)
        except TimeoutError:
            return self._later(N_("no answer within %(seconds)s s") % {"seconds": f"{self._limit_s:.3g}"})
        except ssl.SSLCertVerificationError as error:
            return self._later(N_("its certificate is not trusted: %(fault)s") % {"fault": error.verify_message})
        except OSError as error:
            if error.errno == errno.EMSGSIZE:
                fault = N_("%(number)s bytes are too many for a datagram; use tcp:// or tls://") % {"number": len(frame)}
                return Rejected(harmless(f"{place}: {fault}"))
            return self._later(_text_of(error))
        return Delivered()

    def _later(self, text: str) -> RetryLater:
        return RetryLater(harmless(f"{self._settings.server}: {text}"))

    def _address(self) -> tuple[str, int]:
        parts = urlsplit(self._settings.server)
        return parts.hostname or "", parts.port or _PORTS[parts.scheme]

    async def _by_stream(self, host: str, port: int, frame: bytes) -> None:
        settings = self._settings
        context = None
        if settings.server.startswith("tls://"):
            context = ssl.create_default_context(cafile=settings.ca_file or None)
            if settings.client_certificate:
                context.load_cert_chain(settings.client_certificate, settings.client_key or None, password="")
        close_s = self._close_s if self._does_close else _SHORT_CLOSE_S
        self._does_close = await self._threads.run(_over_stream, (host, port), frame, context, self._limit_s, close_s)


def _over_stream(address: tuple[str, int], frame: bytes, context: ssl.SSLContext | None, limit_s: float, close_s: float) -> bool:
    """
    Send a frame over a connection of its own, and close it; return whether the server has closed its end, too.

    asyncio's streams are no help: they hide the alert with which a server refuses a client's certificate behind the handshake.
    """
    with socket.create_connection(address, limit_s) as plain:
        stream = plain if context is None else context.wrap_socket(plain, server_hostname=address[0])
        with stream:
            if isinstance(stream, ssl.SSLSocket):
                _wait_for_acceptance(stream)
                stream.settimeout(limit_s)
            if frame:
                # Octet counting: RFC 6587, section 3.4.1, and RFC 5425, section 4.3.
                stream.sendall(b"%d %s" % (len(frame), frame))
            stream.settimeout(close_s)
            try:
                if isinstance(stream, ssl.SSLSocket):
                    stream.unwrap()
                else:
                    stream.shutdown(socket.SHUT_WR)
                    stream.recv(_BLOCK_BYTES)
            except TimeoutError:
                return False
            except OSError as error:
                if not (isinstance(stream, ssl.SSLSocket) and _is_short(error) and _is_accepted(stream)):
                    raise
    return True


def _is_short(error: OSError) -> bool:
    """Return whether a server has only been short with the end of TLS: it has closed the connection at once, or sent data."""
    if isinstance(error, ssl.SSLError):
        return isinstance(error, ssl.SSLEOFError) or error.reason == "APPLICATION_DATA_AFTER_CLOSE_NOTIFY"
    return not error.errno


def _wait_for_acceptance(stream: ssl.SSLSocket) -> None:
    """
    Wait until the server has accepted our certificate, or the lack of one.

    TLS 1.3 ends the handshake before. Then the server sends a ticket, or refuses. The few that send none cost the whole time.

    Raises:
        OSError: it refuses.
    """
    end_s = time.monotonic() + _TICKET_S
    stream.settimeout(0.01)
    while not _is_accepted(stream) and time.monotonic() < end_s:
        with suppress(TimeoutError):
            if not stream.recv(_BLOCK_BYTES):
                raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))


def _is_accepted(stream: ssl.SSLSocket) -> bool:
    return stream.version() != "TLSv1.3" or (stream.session is not None and stream.session.has_ticket)


def _frame(message: Message) -> bytes:
    """Return a message in the form of RFC 5424."""
    event = message.event
    host = _word(str(event.get("host", {}).get("name") or socket.gethostname()), _HOST)
    happened = event.get("event", {})
    priority = _WARNING if happened.get("kind") == "alert" else _NOTICE
    name = _word(str(happened.get("action") or "digest"), _ID)
    head = f"<{priority}>1 {isoformat(now_us())} {host} sshbell {os.getpid()} {name} - "
    return head.encode() + ecs_line(message).rstrip(b"\n")


def _word(text: str, limit: int) -> str:
    """Return a field of the header: visible ASCII, and "-" for nothing."""
    return re.sub(r"[^!-~]", "?", text)[:limit] or "-"


async def _to_socket(path: str, frame: bytes) -> None:
    """Send to a socket of this machine: of datagrams, as most are, or of a stream."""
    loop = asyncio.get_running_loop()
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender:
            await loop.sock_connect(sender, path)
            if frame:
                await loop.sock_sendall(sender, frame)
    except OSError as error:
        if error.errno != errno.EPROTOTYPE:
            raise
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as sender:
            await loop.sock_connect(sender, path)
            if frame:
                await loop.sock_sendall(sender, b"%d %s" % (len(frame), frame))


async def _by_udp(host: str, port: int, frame: bytes) -> None:
    loop = asyncio.get_running_loop()
    (family, kind, protocol, _, address), *_ = await loop.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    with socket.socket(family, kind | socket.SOCK_NONBLOCK, protocol) as sender:
        await loop.sock_connect(sender, address)
        if frame:
            await loop.sock_sendall(sender, frame)


def _text_of(error: OSError) -> str:
    """Return the system's text; asyncio puts all addresses into its own."""
    if isinstance(error, ssl.SSLError):
        return N_("TLS with it failed") + f": {error.reason or '?'}"
    if isinstance(error, socket.gaierror) or not error.errno or error.errno < 0:
        return error.strerror or N_("the connection broke")
    return os.strerror(error.errno)
