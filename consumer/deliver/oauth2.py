"""Access tokens for XOAUTH2: got with the refresh token, kept until they expire."""

import asyncio
import os
import re
import socket
import ssl
import time
from collections.abc import Callable
from email import message_from_bytes
from typing import Annotated
from urllib.parse import urlencode, urlsplit

import msgspec
from msgspec import Meta

from consumer import __version__
from consumer.config import OAuth2
from consumer.errors import SecretError
from consumer.process.threads import Threads
from consumer.secret import read_secret
from consumer.text import harmless

# For one token, from the look-up of the server's name to the last byte of its answer.
TOKEN_LIMIT_S = 10.0
# Of the head of an answer, and of its body.
_SIZE_LIMIT = 64 * 1024
# Where the server does not say how long a token lives; and how long before its end it is no longer used.
_DEFAULT_LIFE_S, _MARGIN_S = 300.0, 60.0
# Of an error nothing else is shown: RFC 6749, sections 5.2 and 4.1.2.1.
_ERRORS = frozenset({
    "access_denied", "invalid_client", "invalid_grant", "invalid_request", "invalid_scope", "server_error",
    "temporarily_unavailable", "unauthorized_client", "unsupported_grant_type",
})  # fmt: skip
_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5]\d\d)[^\n]*\n")
_OK, _CONTINUE = 200, range(100, 200)


class _Granted(msgspec.Struct):
    """RFC 6749, section 5.1; the token as in section A.12."""

    access_token: Annotated[str, Meta(pattern=r"^[ -~]+\Z")]
    expires_in: float = _DEFAULT_LIFE_S


class _Refused(msgspec.Struct):
    """RFC 6749, section 5.2."""

    error: str


class AccessToken:
    """The access token of one account."""

    def __init__(self, account: OAuth2, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._account = account
        self._clock_s = clock_s
        self._secrets = Threads()
        self._token = ""
        self._until_s = 0.0

    async def get(self) -> str:
        """
        Return a token that is still good.

        Raises:
            SecretError: there is none to be had.
        """
        if not self._token or self._clock_s() >= self._until_s:
            self._token, life_s = await self._refresh()
            # One that is not a number has no time left, either.
            self._until_s = self._clock_s() + max(0.0, life_s - _MARGIN_S)
        return self._token

    def forget(self) -> None:
        """Get another one next time: the server did not take this one."""
        self._token = ""

    async def _refresh(self) -> tuple[str, float]:
        account = self._account
        form = {
            "grant_type": "refresh_token",
            "client_id": account.client_id,
            "refresh_token": await self._secrets.run(read_secret, account.refresh_token),
        }
        if account.client_secret is not None:
            form["client_secret"] = await self._secrets.run(read_secret, account.client_secret)
        fault = ""
        try:
            async with asyncio.timeout(TOKEN_LIMIT_S):
                status, answer = await _posted(account.token_url, urlencode(form).encode())
            if status == _OK:
                granted = msgspec.json.decode(answer, type=_Granted, strict=False)
                return granted.access_token, granted.expires_in
            fault = f"{status} {_error_of(answer)}".strip()
        except TimeoutError:
            fault = f"no answer within {TOKEN_LIMIT_S:g} s"
        except OSError as error:
            fault = harmless(_said(error))
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            fault = "its answer is cut or too long"
        except (ValueError, RecursionError):
            fault = "its answer holds no access token"
        # Outside, so that no answer and no form is in the error's context.
        raise SecretError(f"no access token from {harmless(_place_of(account.token_url))}: {fault}")


def _said(error: OSError) -> str:
    """Return the system's own words: asyncio puts the address into its text."""
    if error.errno is None or isinstance(error, ssl.SSLError | socket.gaierror):
        return error.strerror or "the connection broke"
    return os.strerror(error.errno)


def _place_of(url: str) -> str:
    """Return host and port of a URL, without a password that may stand there."""
    return urlsplit(url).netloc.rpartition("@")[2]


def _error_of(answer: bytes) -> str:
    """Return the error's name, and nothing else of the answer: a server may repeat the form in it."""
    try:
        error = msgspec.json.decode(answer, type=_Refused).error
    except (ValueError, RecursionError):
        return ""
    return error if error in _ERRORS else ""


async def _posted(url: str, form: bytes) -> tuple[int, bytes]:
    """
    Send a form, and return the answer's status and body. It follows no redirect: no other server gets the form.

    Args:
        url: https, or http to this machine, as the configuration allows it.
        form: urlencoded.

    Raises:
        OSError: the server cannot be reached, or its certificate is not to be trusted.
        asyncio.IncompleteReadError, asyncio.LimitOverrunError: the answer is cut, or too long.
        ValueError: it is no answer of HTTP.
    """
    parts = urlsplit(url)
    context = ssl.create_default_context() if parts.scheme == "https" else None
    port = parts.port or (443 if context is not None else 80)
    reader, writer = await asyncio.open_connection(parts.hostname, port, ssl=context, limit=_SIZE_LIMIT)
    try:
        lines = (
            f"POST {parts.path or '/'}{f'?{parts.query}' if parts.query else ''} HTTP/1.1",
            f"Host: {_place_of(url)}", f"User-Agent: sshbell/{__version__}", "Accept: application/json", "Connection: close",
            "Content-Type: application/x-www-form-urlencoded", f"Content-Length: {len(form)}", "", "",
        )  # fmt: skip
        writer.write("\r\n".join(lines).encode("ascii") + form)
        status = 100
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            if (found := _STATUS.match(head)) is None:
                raise ValueError("no answer of HTTP")
            if (status := int(found[1])) not in _CONTINUE:
                break
        fields = message_from_bytes(head[found.end() :])
        if "chunked" in str(fields["Transfer-Encoding"]).lower():
            return status, await _chunks(reader)
        if (length := fields["Content-Length"]) is not None:
            return status, await reader.readexactly(_bounded(int(length)))
        return status, await _rest(reader)
    finally:
        writer.transport.abort()


def _bounded(size: int) -> int:
    """Return a size that is none too many."""
    if not 0 <= size <= _SIZE_LIMIT:
        raise asyncio.LimitOverrunError("too long", size)
    return size


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    """Read a body in pieces, each with its size before it: RFC 9112, section 7.1."""
    body = bytearray()
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        body += await reader.readexactly(_bounded(len(body) + size) - len(body))
        await reader.readexactly(2)
    return bytes(body)


async def _rest(reader: asyncio.StreamReader) -> bytes:
    """Read to the end."""
    body = bytearray()
    while piece := await reader.read(_SIZE_LIMIT):
        body += piece
        _bounded(len(body))
    return bytes(body)
