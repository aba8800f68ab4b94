"""Events as lines of JSON in a file."""

import asyncio
import os
import stat
from collections.abc import Callable

from consumer.channel_settings import FileSettings
from consumer.deliver.channels import LIMIT_S, Delivered, Medium, Message, RetryLater, SendResult
from consumer.deliver.channels.payloads import ecs_line
from consumer.process.threads import Threads
from consumer.text import N_, harmless

# The file's owner may change it, and its group may read it.
_MODE = 0o640
# O_NONBLOCK, so as not to wait for a reader if it is a pipe.
_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK


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
        return await self._tried(_append, ecs_line(message))

    async def check(self) -> SendResult:
        """Open the file, if it is there, but write nothing. Root may call this, and must not create it for sshbell's user."""
        return await self._tried(_opened)

    def close(self) -> None:
        """Nothing is open between two messages."""

    async def _tried(self, call: Callable[..., None], *arguments: bytes) -> SendResult:
        try:
            async with asyncio.timeout(self._limit_s):
                await self._threads.run(call, self._path, *arguments)
        except TimeoutError:
            return self._later(N_("the disk did not answer within %(seconds)s s") % {"seconds": f"{self._limit_s:.3g}"})
        except OSError as error:
            return self._later(error.strerror or str(error))
        return Delivered()

    def _later(self, text: str) -> RetryLater:
        return RetryLater(harmless(f"{self._path}: {text}"))


def _opened(path: str) -> None:
    """Open a file if it is there; its folder has to be there in any case."""
    if os.path.lexists(path):
        os.close(_open(path, _FLAGS))
    else:
        os.close(os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))  # noqa: PTH120 - a text


def _append(path: str, line: bytes) -> None:
    """Append a line as a whole or not at all."""
    descriptor = _open(path, _FLAGS | os.O_CREAT)
    try:
        size_bytes = os.fstat(descriptor).st_size
        try:
            left = line
            while left:
                left = left[os.write(descriptor, left) :]
            os.fdatasync(descriptor)
        except OSError:
            os.ftruncate(descriptor, size_bytes)
            raise
    finally:
        os.close(descriptor)


def _open(path: str, flags: int) -> int:
    """Open a regular file."""
    descriptor = os.open(path, flags, _MODE)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(0, N_("not a regular file"))
    return descriptor
