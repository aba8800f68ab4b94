"""Access tokens for XOAUTH2: requested with the refresh token, and kept until they expire."""

import asyncio
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable

from consumer.config import OAuth2
from consumer.errors import SecretError
from consumer.secret import read_secret
from consumer.text import harmless

_LIMIT_S = 10.0
_SIZE_LIMIT = 64 * 1024
# A token's life if the server gives none; and how long before its end sshbell stops using it.
_DEFAULT_LIFE_S, _MARGIN_S = 300.0, 60.0


class AccessToken:
    """The access token of one account."""

    def __init__(self, account: OAuth2, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._account = account
        self._clock_s = clock_s
        self._token = ""
        self._until_s = 0.0

    async def get(self) -> str:
        """
        Return a valid token.

        Raises:
            SecretError: the server gives none.
        """
        if not self._token or self._clock_s() >= self._until_s:
            self._token, life_s = await asyncio.to_thread(self._refresh)
            self._until_s = self._clock_s() + max(0.0, life_s - _MARGIN_S)
        return self._token

    def forget(self) -> None:
        """Request another one next time, because the server has refused this one."""
        self._token = ""

    def _refresh(self) -> tuple[str, float]:
        account = self._account
        form = {
            "grant_type": "refresh_token",
            "client_id": account.client_id,
            "refresh_token": read_secret(account.refresh_token),
        }
        if account.client_secret is not None:
            form["client_secret"] = read_secret(account.client_secret)
        where = harmless(urllib.parse.urlsplit(account.token_url).netloc.rpartition("@")[2])
        fault = ""
        try:
            # The configuration allows only https, and http to this machine.
            request = urllib.request.Request(account.token_url, urllib.parse.urlencode(form).encode())  # noqa: S310
            with urllib.request.urlopen(request, timeout=_LIMIT_S) as answer:  # noqa: S310
                fields = json.loads(answer.read(_SIZE_LIMIT))
            return str(fields["access_token"]), float(fields.get("expires_in", _DEFAULT_LIFE_S))
        except urllib.error.HTTPError as error:
            fault = f"{error.code} {_code_of(error.read(_SIZE_LIMIT))}".strip()
            error.close()
        except urllib.error.URLError as error:
            fault = harmless(str(error.reason))
        except OSError as error:
            fault = harmless(error.strerror or "no answer")
        except (ValueError, KeyError, TypeError, AttributeError):
            fault = "its answer contains no access token"
        # Raised here, outside the handlers, so that the error's context contains neither the answer nor the form.
        raise SecretError(f"no access token from {where}: {fault}")


def _code_of(answer: bytes) -> str:
    """Return the error's name (RFC 6749, 5.2), and nothing else from the answer."""
    try:
        return harmless(str(json.loads(answer)["error"]))[:100]
    except (ValueError, KeyError, TypeError):
        return ""
