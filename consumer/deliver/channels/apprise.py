"""Messages through the library apprise, which knows the services that sshbell does not."""

import asyncio
import logging
import re

import apprise

from consumer.channel_settings import AppriseSettings
from consumer.deliver.channels import LIMIT_S, Delivered, Medium, Message, RetryLater, SendResult, reason_of
from consumer.errors import SecretError
from consumer.process.threads import Threads
from consumer.secret import read_secret
from consumer.text import N_

# Shorter parts of a URL stand in too many other texts.
_SECRET_LENGTH = 6


class Apprise:
    """
    Sends messages in a thread of its own, one at a time. The library answers only yes or no, so every failure may pass.

    Args:
        settings: from the configuration.
        limit_s: for one try. A service that hangs for longer keeps its thread, and the next message waits for that.
    """

    medium: Medium = "chat"

    def __init__(self, settings: AppriseSettings, *, limit_s: float = LIMIT_S) -> None:
        self._settings = settings
        self._limit_s = limit_s
        self._threads = Threads()

    async def send(self, message: Message) -> SendResult:
        """Send a message."""
        return await self._tried(message)

    async def check(self) -> SendResult:
        """Read the URL, but connect to nothing: the library has no such question."""
        return await self._tried(None)

    def close(self) -> None:
        """The library keeps nothing open."""

    async def _tried(self, message: Message | None) -> SendResult:
        try:
            async with asyncio.timeout(self._limit_s):
                fault = await self._threads.run(self._notified, message)
        except TimeoutError:
            fault = N_("no answer within %(seconds)s s") % {"seconds": f"{self._limit_s:.3g}"}
        except (SecretError, OSError) as error:
            fault = str(error)
        return RetryLater(fault) if fault else Delivered()

    def _notified(self, message: Message | None) -> str:
        """Send a message with the library; return its fault, "" for none."""
        url = read_secret(self._settings.url)
        try:
            return self._notified_at(url, message)
        except Exception as error:  # noqa: BLE001 - each service is code of somebody else
            return self._shown(f"{type(error).__name__}: {error}", url)

    def _notified_at(self, url: str, message: Message | None) -> str:
        # A list of URLs would be several services, and a retry would repeat the message to those that have it.
        is_list = re.search(r"[\s,]\w+://", url) is not None
        service = None if is_list else apprise.Apprise.instantiate(url, suppress_exceptions=True)
        if service is None:
            return "url: " + N_("it is not one URL of a service that apprise knows; see https://github.com/caronc/apprise")
        if message is None:
            return ""
        head, _, rest = message.text.partition("\n")
        said = _Said()
        logger = logging.getLogger("apprise")
        logger.addHandler(said)
        try:
            is_sent = service.notify(body=rest.strip("\n") or head, title=head if rest else "", body_format="text")
        finally:
            logger.removeHandler(said)
        return "" if is_sent else self._shown(said.last or N_("the service did not accept it"), url)

    def _shown(self, text: str, url: str) -> str:
        """Return a text of the library as one line, without any part of the URL."""
        parts = {part for part in (url, *re.split(r"[/?&=:@,]", url)) if len(part) >= _SECRET_LENGTH}
        return reason_of(f"{_service_of(url)}: {reason_of(text, parts)}")


class _Said(logging.Handler):
    """Keeps the last complaint of the library."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.last = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        self.last = record.getMessage()


def _service_of(url: str) -> str:
    """Return the name of a service: the scheme of its URL."""
    return url.partition("://")[0]
