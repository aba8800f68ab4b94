"""Access tokens for XOAUTH2: requested with the refresh token, and kept until they expire."""

import asyncio
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Annotated

import msgspec
from aiohttp import ClientError, ClientPayloadError, ClientSession
from msgspec import Meta

from consumer import __version__
from consumer.channel_settings import OAuth2
from consumer.deliver.http_faults import fault_of, place_of
from consumer.errors import SecretError
from consumer.process.threads import Threads
from consumer.secret import read_secret
from consumer.text import N_

# For one token, from the look-up of the server's name to the last byte of its answer.
TOKEN_LIMIT_S = 10.0
# For the body of an answer, in bytes; aiohttp limits the head.
_SIZE_LIMIT = 64 * 1024
# A token's life if the server gives none; and how long before its end sshbell stops using it.
_DEFAULT_LIFE_S, _MARGIN_S = 300.0, 60.0
# The only texts of an error answer that sshbell shows: RFC 6749, sections 5.2 and 4.1.2.1.
_ERRORS = frozenset({
    "access_denied", "invalid_client", "invalid_grant", "invalid_request", "invalid_scope", "server_error",
    "temporarily_unavailable", "unauthorized_client", "unsupported_grant_type",
})  # fmt: skip


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
        Return a valid token.

        Raises:
            SecretError: the server gives none.
        """
        if not self._token or self._clock_s() >= self._until_s:
            self._token, life_s = await self._refresh()
            # If life_s is not a number, the token has no time left, either.
            self._until_s = self._clock_s() + max(0.0, life_s - _MARGIN_S)
        return self._token

    def forget(self) -> None:
        """Request another one next time, because the server has refused this one."""
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
                status, answer = await _posted(account.token_url, form)
            if status == HTTPStatus.OK:
                granted = msgspec.json.decode(answer, type=_Granted, strict=False)
                return granted.access_token, granted.expires_in
            fault = f"{status} {_error_of(answer)}".strip()
        except TimeoutError:
            fault = N_("no answer within %(seconds)s s") % {"seconds": f"{TOKEN_LIMIT_S:g}"}
        except (OSError, ClientError) as error:
            fault = fault_of(error)
        except (ValueError, RecursionError):
            fault = N_("its answer contains no access token")
        # Raised here, outside the handlers, so that the error's context contains neither the answer nor the form.
        raise SecretError(
            N_("no access token from %(server)s: %(fault)s") % {"server": place_of(account.token_url), "fault": fault}
        )


def _error_of(answer: bytes) -> str:
    """Return the error's name, and nothing else from the answer, which may repeat the form."""
    try:
        error = msgspec.json.decode(answer, type=_Refused).error
    except (ValueError, RecursionError):
        return ""
    return error if error in _ERRORS else ""


async def _posted(url: str, form: dict[str, str]) -> tuple[int, bytes]:
    """
    Send a form, and return the answer's status and body.

    It obeys the variables ``https_proxy`` and ``no_proxy``, but follows no redirect, so that no other server gets the form.

    Args:
        url: https, or http to this machine, as the configuration allows it.
        form: names and values.

    Raises:
        OSError, ClientError: the server cannot be reached or trusted, or its answer is cut, too long or not HTTP.
    """
    headers = {"Accept": "application/json", "User-Agent": f"sshbell/{__version__}"}
    async with (
        ClientSession(trust_env=True, headers=headers) as session,
        session.post(url, data=form, allow_redirects=False) as response,
    ):
        answer = bytearray()
        async for piece in response.content.iter_any():
            answer += piece
            if len(answer) > _SIZE_LIMIT:
                raise ClientPayloadError
        return response.status, bytes(answer)
