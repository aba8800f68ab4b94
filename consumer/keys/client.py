"""
Asks the process ``keys`` who owns the key of a login.

The question is one JSON line, and so is the answer. A failure loses only the name, and takes no longer than ``LIMIT_S``.
"""

import asyncio
import socket
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from consumer.config import KEYS_SOCKET
from consumer.ecs import NOTHING, EcsEvent
from consumer.keys.fields import Question, of_owners, question_of

# For all of it: connecting, asking, waiting. keys itself takes less, so that its "unknown" arrives in time.
LIMIT_S = 3.0
# In bytes, with the line feed.
QUESTION_LIMIT, ANSWER_LIMIT = 4096, 1 << 16
# Limits of an answer: lines that allow the key, characters of a text, options of a line. keys leaves out the rest.
OWNER_LIMIT, TEXT_LIMIT, OPTION_LIMIT = 16, 500, 16

_Text = Annotated[str, Meta(max_length=TEXT_LIMIT)]


class Owner(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A line that allows the key, or the authority that signed its certificate."""

    comment: _Text
    options: Annotated[list[_Text], Meta(max_length=OPTION_LIMIT)]
    is_authority: bool


class Answer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The lines that allow the key; none if it is unknown."""

    owners: Annotated[list[Owner], Meta(max_length=OWNER_LIMIT)]


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Answer).decode


class KeyOwners:
    """
    The owners of keys.

    Args:
        state_dir: where ``keys`` listens. Each question connects anew, so that ``keys`` may have been restarted.
        for_table: the questions are for a table, not for a message.
    """

    def __init__(self, state_dir: Path, *, for_table: bool = False) -> None:
        self._path = state_dir / KEYS_SOCKET
        self._for_table = for_table

    async def of(self, event: EcsEvent) -> EcsEvent:
        """
        Return the fields about the key of a login, to add to its event.

        ``ssh.key.owner``: the comments of the lines that allow it. ``ssh.key.options``: the restrictions of those lines.
        ``ssh.certificate.ca_owner``: the comments of its authority. Never raises, and returns within ``LIMIT_S``.
        """
        question = question_of(event, socket.gethostname())
        if question is None:
            return NOTHING
        answer = await self._answer(msgspec.structs.replace(question, for_table=self._for_table))
        if answer is None:
            return NOTHING
        return of_owners((owner.comment, owner.options, owner.is_authority) for owner in answer.owners)

    async def answers(self) -> bool:
        """Return whether ``keys`` answers within ``LIMIT_S``."""
        return await self._answer(Question("root")) is not None

    async def _answer(self, question: Question) -> Answer | None:
        """Return the answer; None if ``keys`` is not running, hangs, or sends no valid answer."""
        try:
            async with asyncio.timeout(LIMIT_S):
                return await self._asked(question)
        except (OSError, EOFError, ValueError, RecursionError, asyncio.LimitOverrunError, msgspec.MsgspecError):
            return None

    async def _asked(self, question: Question) -> Answer:
        reader, writer = await asyncio.open_unix_connection(str(self._path), limit=ANSWER_LIMIT)
        try:
            writer.write(_encode(question) + b"\n")
            return _decode(await reader.readuntil(b"\n"))
        finally:
            writer.close()
