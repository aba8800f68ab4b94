"""Events as lines of JSON in a file."""

import asyncio
import os
import stat

from consumer.channel_settings import FileSettings
from consumer.deliver.channels import LIMIT_S, Delivered, Medium, Message, RetryLater, SendResult
from consumer.deliver.channels.payloads import ecs_line
from consumer.process.threads import Threads
from consumer.text import harmless

# The file's owner may change it, and its group may read it.
_MODE = 0o640


class File:
    """
    Appends a line for each message.

    It opens the file for each one, so a program that renames the file, such as logrotate, need not tell sshbell.

    Args:
        settings: from the configuration.
        limit_s: for one line: a dead disk may hold a write for ever.
    """

    medium: Medium = "chat"

    def __init__(self, settings: FileSettings, *, limit_s: float = LIMIT_S) -> None:
        self._path = settings.path
        self._limit_s = limit_s
        self._threads = Threads()

    async def send(self, message: Message) -> SendResult:
        """Append the event, and wait until it is on the disk."""
        return await self._written(ecs_line(message))

    async def check(self) -> SendResult:
        """Open the file, or create it, but write nothing."""
        return await self._written(b"")

    def close(self) -> None:
        """Nothing is open between two messages."""

    async def _written(self, line: bytes) -> SendResult:
        try:
            async with asyncio.timeout(self._limit_s):
                await self._threads.run(_append, self._path, line)
        except TimeoutError:
            return self._later(f"the disk did not answer within {self._limit_s:.3g} s")
        except OSError as error:
            return self._later(error.strerror or str(error))
        return Delivered()

    def _later(self, text: str) -> RetryLater:
        return RetryLater(harmless(f"{self._path}: {text}"))


def _append(path: str, line: bytes) -> None:
    """Append a line as a whole or not at all."""
    # O_NONBLOCK, so as not to wait for a reader if it is a pipe.
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
    descriptor = os.open(path, flags, _MODE)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(0, "not a regular file")
        try:
            left = line
            while left:
                left = left[os.write(descriptor, left) :]
            os.fdatasync(descriptor)
        except OSError:
            os.ftruncate(descriptor, found.st_size)
            raise
    finally:
        os.close(descriptor)
