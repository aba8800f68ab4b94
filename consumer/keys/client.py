"""
Asks the process ``keys`` whose key it was that somebody has logged in with.

One JSON line is the question, one the answer. What goes wrong with it costs the name, and no more than ``LIMIT_S``.
"""

import asyncio
import socket
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from consumer.actions import SESSION_ACTIONS
from consumer.addresses import is_same_host
from consumer.config import KEYS_SOCKET
from consumer.ecs import NOTHING, EcsEvent
from consumer.keys.fields import of_owners

# For all of it: connecting, asking, waiting. keys itself takes less, so that its "unknown" is heard.
LIMIT_S = 3.0
# In bytes, with the line feed.
QUESTION_LIMIT, ANSWER_LIMIT = 4096, 1 << 16
# Lines that allow one key, and characters of a text and options of a line, in an answer; the rest is left out.
OWNER_LIMIT, TEXT_LIMIT, OPTION_LIMIT = 16, 500, 16

_Text = Annotated[str, Meta(max_length=TEXT_LIMIT)]


class Question(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """
    Whose is this, for this user? As ``consumer.keys.files.Wanted``; ``address`` is whence, for ``Match``.

    One ``for_table`` gets only some of the places in which look-ups may hang.
    """

    user: str
    fingerprint: str = ""
    ca_fingerprint: str = ""
    key_type: str = ""
    address: str = ""
    for_table: bool = False


class Owner(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A line that allows the key, or the authority that signed its certificate."""

    comment: _Text
    options: Annotated[list[_Text], Meta(max_length=OPTION_LIMIT)]
    is_authority: bool


class Answer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The lines that were found; none where nothing is known."""

    owners: Annotated[list[Owner], Meta(max_length=OWNER_LIMIT)]


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Answer).decode


class KeyOwners:
    """
    The owners of keys.

    Args:
        state_dir: where ``keys`` listens. It is looked for at each question, so that it may be another one by then.
        for_table: what is asked is for a table, and not for a message.
    """

    def __init__(self, state_dir: Path, *, for_table: bool = False) -> None:
        self._path = state_dir / KEYS_SOCKET
        self._for_table = for_table

    async def of(self, event: EcsEvent) -> EcsEvent:
        """
        Return what is known of the key of a login, to be joined to its event.

        ``ssh.key.owner``: comments of the lines that allow it. ``ssh.key.options``: what those lines restrict.
        ``ssh.certificate.ca_owner``: the comments of its authority. Never raises, and returns within ``LIMIT_S``.
        """
        question = question_of(event, socket.gethostname())
        if question is None:
            return NOTHING
        try:
            async with asyncio.timeout(LIMIT_S):
                answer = await self._asked(msgspec.structs.replace(question, for_table=self._for_table))
        except (OSError, EOFError, ValueError, RecursionError, asyncio.LimitOverrunError, msgspec.MsgspecError):
            return NOTHING  # it is not there, hangs, or says what is no answer
        return of_owners((owner.comment, owner.options, owner.is_authority) for owner in answer.owners)

    async def _asked(self, question: Question) -> Answer:
        reader, writer = await asyncio.open_unix_connection(str(self._path), limit=ANSWER_LIMIT)
        try:
            writer.write(_encode(question) + b"\n")
            return _decode(await reader.readuntil(b"\n"))
        finally:
            writer.close()


def question_of(event: EcsEvent, here: str) -> Question | None:
    """
    Return what there is to ask about an event; None where it is no login to this host with a key.

    Args:
        event: of the outbox.
        here: this host's name.
    """
    user, host, key, certificate = event.user.name, event.host.name, event.ssh.key, event.ssh.certificate
    if user is None or host is None or not (key.fingerprint or certificate.ca_fingerprint):
        return None
    if event.event.action not in SESSION_ACTIONS or not is_same_host(host, here):
        return None
    return Question(user, key.fingerprint or "", certificate.ca_fingerprint or "", key.type or "", address=event.source.ip or "")


def account_name(user: str) -> str:
    """Return what stands for a user's account: a name service may know it by its name in any case (sssd with AD)."""
    return user.casefold()
