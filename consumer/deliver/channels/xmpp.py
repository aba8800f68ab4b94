"""
Chat over XMPP (RFC 6120 and 6121), to people and to rooms (MUC, XEP-0045).

A server does not answer a message that it accepts. So sshbell asks for an answer: after a message to a person, it pings that
person's server over the same connection (XEP-0199). Servers keep the order, so the answer to the ping means that the message has
arrived, and an error about the message comes first. A room sends each message to all its occupants, sshbell among them.
"""

import asyncio
import base64
import re
import secrets
import time
import xml.etree.ElementTree as ET
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Literal, TypeVar

from slixmpp import JID, InvalidJID
from slixmpp import Message as MessageStanza
from slixmpp.xmlstream.tostring import escape

from consumer.channel_settings import XmppSettings
from consumer.deliver.channels import LIMIT_S, Delivered, Medium, Message, Rejected, RetryLater, SendResult, reason_of
from consumer.deliver.language import ENGLISH, Language, language_of
from consumer.deliver.xmpp_connection import (
    NEW_ROOM,
    ORIGIN_ID,
    ConnectionFaultError,
    StanzaError,
    XmppConnection,
    codes_of,
    error_of,
    text_of,
    tls_context,
)
from consumer.errors import SecretError
from consumer.jid import jid_of
from consumer.process.threads import Threads
from consumer.secret import read_secret
from consumer.text import N_, harmless

# The part of the limit in which a server has to answer one question.
_ANSWER_SHARE = 1 / 3
# After this silence it pings before a message, which must not get lost in a dead connection.
_FRESH_S = 5.0
# The size of a text in a stanza, in bytes. Every server accepts stanzas of 10,000 bytes (RFC 6120, section 13.12).
_BODY_SIZE = 9000
# The most remembered messages that some recipients have got and others are still to get.
_PARTIAL_LIMIT = 1000
# Asks programs to show "*" and "_" as they are (XEP-0393), because a stranger may have chosen them.
_UNSTYLED = "{urn:xmpp:styling:0}unstyled"
_REFUSALS = {
    "item-not-found": N_("there is no such account"),
    "remote-server-not-found": N_("the DNS does not know its server"),
    "remote-server-timeout": N_("its server does not answer"),
    "service-unavailable": N_("there is no such account, or it accepts no messages from sshbell"),
    "forbidden": N_("sshbell may not write there"),
}
_ROOM_REFUSALS = {
    "forbidden": N_("sshbell is banned from this room"),
    "jid-malformed": N_("the room does not accept this nick"),
    "not-acceptable": N_("the room does not accept this nick"),
    "registration-required": N_("the room is for its members only"),
}
# These are no refusals of sshbell. A room may come back after a restart of its server, and a wrong password can be corrected.
_ROOM_PASSING = {
    "item-not-found": N_("there is no such room now"),
    "not-allowed": N_("there is no such room now"),
    "not-authorized": N_("the room wants a password, or another one; is room_password right?"),
    "remote-server-not-found": N_("the DNS does not know its server"),
    "remote-server-timeout": N_("its server does not answer"),
    "service-unavailable": N_("there are no rooms at this address now, or the room is full"),
}
# What XML 1.0 cannot express, and control characters, which programs show in their own ways.
_UNUSABLE = re.compile("[^\t\n\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

_T = TypeVar("_T")
_Work = Callable[[XmppConnection], Awaitable[SendResult]]


class Xmpp:
    """
    Sends chat messages, one message at a time.

    Args:
        settings: from the configuration.
        limit_s: for one try.
    """

    medium: Medium = "chat"

    def __init__(self, settings: XmppSettings, *, limit_s: float = LIMIT_S) -> None:
        self._settings = settings
        self._limit_s = limit_s
        self._answer_s = limit_s * _ANSWER_SHARE
        self._connection: XmppConnection | None = None
        self._secrets = Threads()
        self._doing = ""
        # The texts that no report may show, because a server may repeat what it got.
        self._concealed: set[str] = set()
        # By message: the recipients that have it already, while others are still to get it.
        self._has: OrderedDict[str, set[str]] = OrderedDict()

    async def send(self, message: Message) -> SendResult:
        """Send it to all recipients; Delivered if their servers have it."""
        return await self._bounded(lambda connection: self._to_all(connection, message))

    async def check(self) -> SendResult:
        """Log in and join the rooms, but send nothing: Delivered if the server would accept a message."""

        async def work(connection: XmppConnection) -> SendResult:
            rooms = (self._address_of(room) for room in self._settings.rooms)
            found = await asyncio.gather(*(self._answer(connection, room, self._in_room(connection, room)) for room in rooms))
            return next((result for result in found if result is not None), Delivered())

        return await self._bounded(work)

    def close(self) -> None:
        """Close the connection."""
        self._drop(N_("sshbell ends"))

    async def _bounded(self, work: _Work) -> SendResult:
        """Do the work over the open connection, or over a new one, within the limit."""
        try:
            async with asyncio.timeout(self._limit_s):
                return await work(await self._ready())
        except asyncio.CancelledError:
            self._drop("cancelled")
            raise
        except TimeoutError:
            reason = _no_answer(self._doing_now(), self._limit_s)
        except ConnectionFaultError as fault:
            reason = str(fault)
        except SecretError as error:
            return RetryLater(self._shown(str(error)))
        except (InvalidJID, ValueError, OSError) as error:
            reason = text_of(error)
        self._drop(reason)
        return RetryLater(self._shown(f"{self._settings.jid.partition('@')[2]}: {reason}"))

    async def _ready(self) -> XmppConnection:
        """Return a connection that the server answers on."""
        self._doing = ""
        connection = self._connection
        if connection is not None and connection.is_open:
            if time.monotonic() - connection.heard_s < _FRESH_S:
                return connection
            with suppress(TimeoutError, ConnectionFaultError):
                async with asyncio.timeout(min(_FRESH_S, self._answer_s)):
                    await connection.ping(connection.boundjid.domain)
                return connection
        self._drop(N_("it is not used any more"))
        self._doing = N_("the request for the password")
        # Read for each connection, so that a corrected one counts at the next try.
        password = await self._secrets.run(read_secret, self._settings.password)
        self._doing = ""
        self._concealed = {password, _base64(password), _base64(f"\0{self._settings.jid.partition('@')[0]}\0{password}")}
        connection = self._connection = XmppConnection(self._settings, password, tls_context(self._settings))
        await connection.open()
        return connection

    async def _to_all(self, connection: XmppConnection, message: Message) -> SendResult:
        has = self._has.setdefault(message.id, set())
        while len(self._has) > _PARTIAL_LIMIT:
            self._has.popitem(last=False)
        body = body_of(message.text or message.subject, language_of(message.language))

        async def to(recipient: str) -> SendResult:
            result = await self._to(connection, recipient, message, body)
            if isinstance(result, Delivered):
                has.add(recipient)
            return result

        recipients = [each for each in message.recipients or self._settings.recipients if each not in has]
        found = await asyncio.gather(*map(to, recipients), return_exceptions=True)
        results = []
        for each in found:
            if isinstance(each, BaseException):
                raise each
            results.append(each)
        return self._outcome(message, results, has)

    def _outcome(self, message: Message, results: Sequence[SendResult], has: set[str]) -> SendResult:
        """Return one result for all recipients. Send it to none twice while others are still to get it."""
        later = [result for result in results if isinstance(result, RetryLater)]
        if later:
            # If others have got it, or only this message has these recipients, it must not delay the next one.
            return RetryLater(later[0].reason, alone=bool(has or message.recipients))
        self._has.pop(message.id, None)
        reasons = "; ".join(result.reason for result in results if isinstance(result, Rejected))
        return Delivered(self._shown(reasons)) if has else Rejected(self._shown(reasons))

    async def _to(self, connection: XmppConnection, recipient: str, message: Message, body: str) -> SendResult:
        """Send it to one recipient."""
        try:
            address = self._address_of(recipient)
        except ValueError as error:
            return RetryLater(self._shown(str(error)))
        send = self._to_room if recipient in self._settings.rooms else self._to_person
        return await self._answer(connection, address, send(connection, address, message, body))

    async def _answer(self, connection: XmppConnection, address: str, work: Awaitable[_T]) -> _T | RetryLater:
        """Wait for the answer from an address. If there is none, is that server silent, or the connection?"""
        try:
            async with asyncio.timeout(self._answer_s):
                return await work
        except TimeoutError:
            pass
        try:
            async with asyncio.timeout(self._answer_s):
                await connection.ping(connection.boundjid.domain)
        except TimeoutError:
            raise ConnectionFaultError(_no_answer(connection.doing, 2 * self._answer_s)) from None
        fault = N_("no answer within %(seconds)s s") % {"seconds": f"{self._answer_s:.3g}"}
        return RetryLater(self._shown(f"{address}: {fault}"))

    async def _to_person(self, connection: XmppConnection, address: str, message: Message, body: str) -> SendResult:
        stanza = stanza_of(address, "chat", self._id_of(message), body)
        error = connection.expect(address, stanza["id"])
        try:
            connection.send(stanza)
            pong = await connection.ping(JID(address).domain)
            fault = error_of(error.result() if error.done() else pong)
        finally:
            error.cancel()
        # An error to the ping itself shows that the server is there, unless another server reports that it is not.
        if fault is None or (not error.done() and not fault.condition.startswith("remote-server")):
            return Delivered()
        return self._refused(address, fault, _REFUSALS)

    async def _to_room(self, connection: XmppConnection, room: str, message: Message, body: str) -> SendResult:
        was_in = room in connection.rooms
        if (refusal := await self._in_room(connection, room)) is not None:
            return refusal
        stanza = stanza_of(room, "groupchat", self._id_of(message), body)
        answer = connection.expect(room, stanza["id"])
        connection.send(stanza)
        fault = error_of(await answer)
        if fault is None:
            return Delivered()
        if was_in and fault.condition == "not-acceptable":
            # The room has forgotten sshbell, for example because its server has restarted.
            connection.rooms.pop(room, None)
            return await self._to_room(connection, room, message, body)
        return self._refused(room, fault, _REFUSALS)

    async def _in_room(self, connection: XmppConnection, room: str) -> SendResult | None:
        """Join a room unless sshbell is in it already; return the result if it refuses."""
        if room in connection.rooms:
            return None
        password = ""
        if self._settings.room_password is not None:
            password = await self._secrets.run(read_secret, self._settings.room_password)
            self._concealed.add(password)
        nick = self._settings.nick
        answer = await connection.join(room, nick, password)
        fault = error_of(answer)
        if fault is not None and fault.condition == "conflict":
            # Somebody else has the nick, or a connection that the server has not missed yet.
            answer = await connection.join(room, f"{nick}-{secrets.token_hex(2)}", password)
            fault = error_of(answer)
        if fault is None and NEW_ROOM in codes_of(answer):
            connection.leave(room)
            # Whoever enters a room that does not exist creates it. Nobody else would be there.
            return self._not_in(room, N_("there is no such room now"))
        if fault is None:
            return None if room in connection.rooms else self._not_in(room, N_("the room has removed sshbell"))
        if (words := _ROOM_PASSING.get(fault.condition)) is not None:
            return self._not_in(room, words)
        return self._refused(room, fault, _ROOM_REFUSALS)

    def _not_in(self, room: str, words: str) -> RetryLater:
        return RetryLater(self._shown(f"{room}: {words}"))

    def _refused(self, address: str, error: StanzaError, words: dict[str, str]) -> SendResult:
        """Return the result of an error."""
        said = f"{error.condition}: {error.text}" if error.text else error.condition
        text = (
            f"{words[error.condition]} ({said})"
            if error.condition in words
            else N_("the answer was %(answer)s") % {"answer": said}
        )
        return (RetryLater if error.is_passing else Rejected)(self._shown(f"{address}: {text}"))

    def _id_of(self, message: Message) -> str:
        """Return the id of a message, which is the same at each try, so that a reader can recognize one that comes twice."""
        return f"{message.id}.{self._settings.name}"

    def _address_of(self, recipient: str) -> str:
        """Return an address in the form in which servers send it."""
        try:
            return str(JID(jid_of(recipient)).bare)
        except InvalidJID as error:
            raise ValueError(N_("%(address)s is not an XMPP address") % {"address": repr(recipient)}) from error

    def _shown(self, text: str) -> str:
        """Return a server's text as one line that is safe for a terminal, not too long, and without passwords."""
        return reason_of(text, self._concealed)

    def _doing_now(self) -> str:
        return self._doing or (N_("the connection") if self._connection is None else self._connection.doing)

    def _drop(self, reason: str) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.end(reason)


def _no_answer(step: str, seconds: float) -> str:
    return N_("no answer to %(step)s within %(seconds)s s") % {"step": step, "seconds": f"{seconds:.3g}"}


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def stanza_of(address: str, kind: Literal["chat", "groupchat"], stanza_id: str, body: str) -> MessageStanza:
    """Return a message to an address; ``body`` is the result of ``body_of``."""
    stanza = MessageStanza(sto=JID(address), stype=kind, sid=stanza_id)  # type: ignore[no-untyped-call]
    stanza["body"] = body
    stanza.append(ET.Element(ORIGIN_ID, id=stanza_id))
    stanza.append(ET.Element(_UNSTYLED))
    return stanza


def body_of(text: str, language: Language = ENGLISH) -> str:
    """Return a text for a stanza: without characters that XML does not have, and not too long for a server."""
    text = _UNUSABLE.sub(lambda found: harmless(found[0]), text.replace("\r\n", "\n").replace("\r", "\n")[: _BODY_SIZE + 1])
    if _size(text) <= _BODY_SIZE:
        return text
    cut = "\n" + language.gettext("… sshbell has cut this message.")
    limit = _BODY_SIZE - _size(cut)
    return text[: bisect_right(range(len(text)), limit, key=lambda length: _size(text[:length])) - 1] + cut


def _size(text: str) -> int:
    """Return the bytes of a text in a stanza."""
    return len(escape(text).encode())
