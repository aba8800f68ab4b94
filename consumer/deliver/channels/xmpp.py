"""
Chat over XMPP (RFC 6120 and 6121), to people and to rooms (MUC, XEP-0045).

A server does not answer a message that it accepts. So sshbell asks for an answer: after a message to a person, it pings that
person's server over the same connection (XEP-0199). Servers keep the order, so the answer to the ping means that the message has
arrived, and an error about the message comes first. A room sends each message to all its occupants, sshbell among them.
"""

import asyncio
import base64
import logging
import os
import re
import secrets
import socket
import ssl
import time
import xml.etree.ElementTree as ET
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Literal, NamedTuple, TypeVar

from slixmpp import JID, ClientXMPP, InvalidJID, Presence
from slixmpp import Message as MessageStanza
from slixmpp.features.feature_mechanisms.stanza import Challenge
from slixmpp.stanza import Iq, StreamError
from slixmpp.xmlstream.tostring import escape

from consumer.channel_settings import XmppSettings
from consumer.deliver.channels import LIMIT_S, Delivered, Medium, Message, Rejected, RetryLater, SendResult
from consumer.errors import SecretError
from consumer.jid import jid_of
from consumer.process.threads import Threads
from consumer.secret import read_secret
from consumer.text import harmless

# The part of the limit in which a server has to answer one question.
_ANSWER_SHARE = 1 / 3
# After this silence sshbell pings its server, so that a dead connection is closed even if no message comes.
_KEEP_ALIVE_S = 60.0
# After this silence it pings before a message, which must not get lost in a dead connection.
_FRESH_S = 5.0
_PORTS = {"starttls": 5222, "tls": 5223}
# The size of a text in a stanza, in bytes. Every server accepts stanzas of 10,000 bytes (RFC 6120, section 13.12).
_BODY_SIZE = 9000
_CUT = "\n… sshbell has cut this message."
# The most bytes of one stanza of the server. Prosody accepts no more than 256 KiB from others.
_STANZA_SIZE = 1 << 20
# Rounds of SCRAM, which take about 5 µs each. sshbell does nothing else meanwhile. Usual are 4096 to 100,000.
_ROUNDS = 200_000
# The most remembered messages that some recipients have got and others are still to get.
_PARTIAL_LIMIT = 1000
_REASON_LIMIT = 300
# With a priority below 0, sshbell gets none of the messages that others send to its account.
_PRIORITY = -1

_MUC, _MUC_USER = "http://jabber.org/protocol/muc", "{http://jabber.org/protocol/muc#user}"
# Codes of a presence in a room: it is sshbell's own; the room is new.
_OWN, _NEW = "110", "201"
_ERROR, _CONDITIONS = "{jabber:client}error", "{urn:ietf:params:xml:ns:xmpp-stanzas}"
_STREAM_CONDITIONS = "{urn:ietf:params:xml:ns:xmpp-streams}"
_PING, _ORIGIN_ID = "{urn:xmpp:ping}ping", "{urn:xmpp:sid:0}origin-id"
# Asks programs to show "*" and "_" as they are (XEP-0393), because a stranger may have chosen them.
_UNSTYLED = "{urn:xmpp:styling:0}unstyled"
_MECHANISMS = {f"SCRAM-SHA-{size}{suffix}" for size in ("1", "256", "512") for suffix in ("", "-PLUS")} | {"PLAIN"}
# Errors that may be over at the next try, whatever type the server gives them.
_PASSING = frozenset(
    {
        "conflict", "internal-server-error", "policy-violation", "recipient-unavailable", "remote-server-not-found",
        "remote-server-timeout", "resource-constraint", "undefined-condition",
    }
)  # fmt: skip
_REFUSALS = {
    "item-not-found": "there is no such account",
    "remote-server-not-found": "the DNS does not know its server",
    "remote-server-timeout": "its server does not answer",
    "service-unavailable": "there is no such account, or it accepts no messages from sshbell",
    "forbidden": "sshbell may not write there",
}
_ROOM_REFUSALS = {
    "forbidden": "sshbell is banned from this room",
    "not-acceptable": "the room does not accept this nick",
    "registration-required": "the room is for its members only",
}
# These are no refusals of sshbell. A room may come back after a restart of its server, and a wrong password can be corrected.
_ROOM_PASSING = {
    "item-not-found": "there is no such room now",
    "not-allowed": "there is no such room now",
    "not-authorized": "the room wants a password, or another one; is room_password right?",
    "remote-server-not-found": "the DNS does not know its server",
    "remote-server-timeout": "its server does not answer",
    "service-unavailable": "there are no rooms at this address now, or the room is full",
}
# What XML 1.0 cannot express, and control characters, which programs show in their own ways.
_UNUSABLE = re.compile("[^\t\n\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

# sshbell reports faults itself. slixmpp would write them to standard error, with texts of the server.
logging.getLogger("slixmpp").setLevel(logging.CRITICAL + 1)


class _FaultError(Exception):
    """The connection has ended; the text is the reason."""


class _Error(NamedTuple):
    """An error that a server or a room has sent: RFC 6120, section 8.3.3."""

    kind: str
    condition: str
    text: str

    @property
    def is_passing(self) -> bool:
        """Whether the same message may be accepted later."""
        return self.kind == "wait" or self.condition in _PASSING


# A stanza of the server. slixmpp's classes hide the parts that they do not know, so this module reads their XML.
_Stanza = Any
_T = TypeVar("_T")
_Work = Callable[["_Connection"], Awaitable[SendResult]]


class _Connection(ClientXMPP):
    """
    One connection with one login. After it has ended, it is of no use any more.

    Attributes:
        doing: what it waits for.
        heard_s: when the server last sent something, by the monotonic clock.
        rooms: sshbell's nick in each room that it is in.
    """

    def __init__(self, settings: XmppSettings, password: str, context: ssl.SSLContext) -> None:
        mechanisms = {"feature_mechanisms": {"use_mechs": set(_MECHANISMS)}}
        super().__init__(jid_of(settings.jid), password, plugin_config=mechanisms, ssl_context=context)
        self.doing = "the connection"
        self.heard_s = time.monotonic()
        self.rooms: dict[str, str] = {}
        self.enable_direct_tls = settings.security == "tls"
        self.enable_starttls = settings.security == "starttls"
        self.default_port = settings.port or _PORTS[settings.security]
        # Without a host, slixmpp asks the DNS for the hosts of the account's domain.
        self._host = settings.server or (self.boundjid.domain if settings.port else None)
        self._is_ready: asyncio.Future[None] = self.loop.create_future()
        self._answers: dict[tuple[str, str], asyncio.Future[_Stanza]] = {}
        self._fault = self._note = self._refusal = ""
        self._unfinished = 0
        self._keeper: asyncio.Task[None] | None = None
        self.add_filter("in", self._filter)
        for event, handler in {
            "connected": lambda _: self._proceed("the stream"),
            "tls_success": lambda _: self._proceed("the login"),
            "auth_success": lambda _: self._proceed("the session"),
            "connection_failed": self._connection_failed,
            "ssl_invalid_chain": self._connection_failed,
            "failed_auth": self._login_refused,
            "failed_all_auth": self._no_login,
            "session_start": self._begin,
            "disconnected": self._disconnected,
        }.items():
            self.add_event_handler(event, handler)

    async def open(self) -> None:
        """
        Connect and log in.

        Raises:
            _FaultError: this has failed.
        """
        self.connect(self._host, self.default_port if self._host else None)
        await self._is_ready
        self.send_presence(ppriority=_PRIORITY)
        self._keeper = asyncio.create_task(self._keep_alive())

    @property
    def is_open(self) -> bool:
        """Whether it is ready for messages."""
        return self._is_ready.done() and not self._fault

    def end(self, fault: str) -> None:
        """Close it at once. All that wait for an answer get a fault."""
        if self._fault:
            return
        self._fault = fault
        for future in (self._is_ready, *self._answers.values()):
            if not future.done():
                future.set_exception(_FaultError(fault))
                future.exception()  # asyncio need not report it if there is no one left to wait for it
        if self._keeper is not None:
            self._keeper.cancel()
        if self._run_out_filters is not None:
            self._run_out_filters.cancel()
        self.cancel_connection_attempt()
        if self.transport is not None:
            # So that a room shows at once that sshbell has left.
            self.transport.write(self.stream_footer.encode())
            self.abort()

    def expect(self, sender: str, stanza_id: str) -> asyncio.Future[_Stanza]:
        """Return a future for the answer of somebody to a stanza; it may be an error. It fails if the connection ends."""
        if self._fault:
            raise _FaultError(self._fault)
        future: asyncio.Future[_Stanza] = self.loop.create_future()
        self._answers[sender, stanza_id] = future
        future.add_done_callback(lambda _: self._forget(sender, stanza_id, future))
        return future

    def _forget(self, sender: str, stanza_id: str, future: asyncio.Future[_Stanza]) -> None:
        # The same message may have been sent again in the meantime.
        if self._answers.get((sender, stanza_id)) is future:
            del self._answers[sender, stanza_id]

    async def ping(self, server: str) -> _Stanza:
        """Return a server's answer to a ping. Servers that do not know pings answer with an error."""
        iq = self.Iq(sto=server, stype="get")
        iq.append(ET.Element(_PING))
        answer = self.expect(server, iq["id"])
        iq.send()  # type: ignore[no-untyped-call]
        return await answer

    async def join(self, room: str, nick: str, password: str) -> _Stanza:
        """Ask a room for admission, without the messages of the past; return the presence or the error that comes back."""
        presence = self.make_presence(pto=JID(f"{room}/{nick}"))
        wish = ET.SubElement(presence.xml, f"{{{_MUC}}}x")
        ET.SubElement(wish, f"{{{_MUC}}}history", maxstanzas="0")
        if password:
            ET.SubElement(wish, f"{{{_MUC}}}password").text = password
        answer = self.expect(room, "presence")
        presence.send()
        return await answer

    def leave(self, room: str) -> None:
        """Leave a room."""
        if (nick := self.rooms.pop(room, None)) is not None:
            self.make_presence(pto=JID(f"{room}/{nick}"), ptype="unavailable").send()

    async def _keep_alive(self) -> None:
        while True:
            await asyncio.sleep(_KEEP_ALIVE_S)
            try:
                async with asyncio.timeout(LIMIT_S):
                    await self.ping(self.boundjid.domain)
            except TimeoutError:
                self.end(f"no answer to a ping within {LIMIT_S:.0f} s")
            except _FaultError:
                return

    # What slixmpp calls

    def reschedule_connection_attempt(self) -> None:
        """End it: sshbell retries, not slixmpp."""
        self.end(f"{self.doing}: {self._note}" if self._note else f"{self.doing} failed")

    def data_received(self, data: bytes | str) -> None:
        """Read from the server, but no stanza that never ends."""
        self.heard_s = time.monotonic()
        self._unfinished += len(data)
        if self._unfinished > _STANZA_SIZE:
            self.end("the server's answer is too long")
            return
        super().data_received(data)

    def incoming_filter(self, xml: ET.Element) -> ET.Element:
        """Note that a stanza is complete."""
        self._unfinished = 0
        return xml

    def exception(self, exception: Exception) -> None:
        """End it after an answer that slixmpp cannot read."""
        self.end(f"{self.doing}: the server's answer is wrong: {type(exception).__name__}")

    def _proceed(self, doing: str) -> None:
        self.doing = doing

    def _connection_failed(self, error: object) -> None:
        self._note = _text_of(error)
        if isinstance(error, ssl.SSLCertVerificationError):
            self.end(self._note)

    def _login_refused(self, failure: _Stanza) -> None:
        # Without the server's text, which may repeat what sshbell has sent.
        self._refusal = f"the login was refused ({failure['condition']}); are jid and password right?"

    def _no_login(self, _: object) -> None:
        if not self._is_encrypted:
            self.end('the server offers no STARTTLS, and sshbell sends nothing without; is security "tls" here?')
        self.end(self._refusal or "the server offers no login with a password (SCRAM or PLAIN)")

    def _begin(self, _: object) -> None:
        # slixmpp would also accept a session that somebody on the way offers without TLS or login.
        if not self._is_encrypted or "mechanisms" not in self.features:
            self.end("the server offers a session without TLS and login, which sshbell does not accept")
        elif not self._is_ready.done():
            self._proceed("the message")
            self._is_ready.set_result(None)

    def _disconnected(self, reason: object) -> None:
        if isinstance(reason, OSError):
            self._connection_failed(reason)
        self.end(f"{self.doing}: {self._note or 'the server closed the connection'}")

    @property
    def _is_encrypted(self) -> bool:
        return isinstance(self.socket, ssl.SSLObject)

    def _filter(self, stanza: _Stanza) -> _Stanza | None:
        """Handle a stanza. Those that set up the stream continue to slixmpp; it gets none from other users."""
        match stanza:
            case StreamError():
                self._stream_error(stanza)
            case Challenge() if (rounds := _rounds_of(stanza)) > _ROUNDS:
                self.end(f"the server wants {rounds} rounds of SCRAM; sshbell does up to {_ROUNDS}")
            case Iq() if stanza["type"] in {"result", "error"} and self._is_answer(stanza):
                pass
            case MessageStanza():
                self._message(stanza)
            case Presence():
                self._presence(stanza)
            case _:
                return stanza
        return None

    def _stream_error(self, stanza: _Stanza) -> None:
        # slixmpp would go to another host, and accept that host's certificate in place of the domain's.
        condition, text = _condition_of(stanza.xml, _STREAM_CONDITIONS)
        advice = "; set server to that host" if condition == "see-other-host" else ""
        self.end(f"the server ended the connection ({condition}{': ' if text else ''}{text}){advice}")

    def _message(self, stanza: _Stanza) -> None:
        sender: JID = stanza["from"]
        if stanza["type"] == "error":
            # Errors of servers and rooms come from the address that sshbell wrote to, those of people from one of their devices.
            if not sender.resource:
                self._answered(sender.bare, stanza["id"], stanza)
        elif stanza["type"] == "groupchat" and self.rooms.get(sender.bare) == sender.resource:
            origin = stanza.xml.find(_ORIGIN_ID)
            self._answered(sender.bare, stanza["id"], stanza)
            self._answered(sender.bare, "" if origin is None else origin.get("id", ""), stanza)

    def _presence(self, stanza: _Stanza) -> None:
        sender: JID = stanza["from"]
        if stanza["type"] == "error":
            if sender.bare not in self.rooms:
                self._answered(sender.bare, "presence", stanza)
        elif _OWN in _codes_of(stanza):
            if stanza["type"] == "unavailable":
                self.rooms.pop(sender.bare, None)
            else:
                self.rooms[sender.bare] = sender.resource
            self._answered(sender.bare, "presence", stanza)

    def _is_answer(self, iq: Iq) -> bool:
        # Without a sender, it comes from sshbell's own server.
        return self._answered(iq["from"].bare or self.boundjid.domain, iq["id"], iq)

    def _answered(self, sender: str, stanza_id: str, stanza: _Stanza) -> bool:
        future = self._answers.get((sender, stanza_id))
        if future is None or future.done():
            return False
        future.set_result(stanza)
        return True


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
        self._connection: _Connection | None = None
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

        async def work(connection: _Connection) -> SendResult:
            rooms = (self._address_of(room) for room in self._settings.rooms)
            found = await asyncio.gather(*(self._answer(connection, room, self._in_room(connection, room)) for room in rooms))
            return next((result for result in found if result is not None), Delivered())

        return await self._bounded(work)

    def close(self) -> None:
        """Close the connection."""
        self._drop("sshbell ends")

    async def _bounded(self, work: _Work) -> SendResult:
        """Do the work over the open connection, or over a new one, within the limit."""
        try:
            async with asyncio.timeout(self._limit_s):
                return await work(await self._ready())
        except asyncio.CancelledError:
            self._drop("cancelled")
            raise
        except TimeoutError:
            reason = f"no answer to {self._doing_now()} within {self._limit_s:.3g} s"
        except _FaultError as fault:
            reason = str(fault)
        except SecretError as error:
            return RetryLater(self._shown(str(error)))
        except (InvalidJID, ValueError, OSError) as error:
            reason = _text_of(error)
        self._drop(reason)
        return RetryLater(self._shown(f"{self._settings.jid.partition('@')[2]}: {reason}"))

    async def _ready(self) -> _Connection:
        """Return a connection that the server answers on."""
        self._doing = ""
        connection = self._connection
        if connection is not None and connection.is_open:
            if time.monotonic() - connection.heard_s < _FRESH_S:
                return connection
            with suppress(TimeoutError, _FaultError):
                async with asyncio.timeout(min(_FRESH_S, self._answer_s)):
                    await connection.ping(connection.boundjid.domain)
                return connection
        self._drop("it is not used any more")
        self._doing = "the request for the password"
        # Read for each connection, so that a corrected one counts at the next try.
        password = await self._secrets.run(read_secret, self._settings.password)
        self._doing = ""
        self._concealed = {password, _base64(password), _base64(f"\0{self._settings.jid.partition('@')[0]}\0{password}")}
        connection = self._connection = _Connection(self._settings, password, _context(self._settings))
        await connection.open()
        return connection

    async def _to_all(self, connection: _Connection, message: Message) -> SendResult:
        has = self._has.setdefault(message.id, set())
        while len(self._has) > _PARTIAL_LIMIT:
            self._has.popitem(last=False)
        body = body_of(message.text or message.subject)

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

    async def _to(self, connection: _Connection, recipient: str, message: Message, body: str) -> SendResult:
        """Send it to one recipient."""
        try:
            address = self._address_of(recipient)
        except ValueError as error:
            return RetryLater(self._shown(str(error)))
        send = self._to_room if recipient in self._settings.rooms else self._to_person
        return await self._answer(connection, address, send(connection, address, message, body))

    async def _answer(self, connection: _Connection, address: str, work: Awaitable[_T]) -> _T | RetryLater:
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
            raise _FaultError(f"no answer to {connection.doing} within {2 * self._answer_s:.3g} s") from None
        return RetryLater(self._shown(f"{address}: no answer within {self._answer_s:.3g} s"))

    async def _to_person(self, connection: _Connection, address: str, message: Message, body: str) -> SendResult:
        stanza = stanza_of(address, "chat", self._id_of(message), body)
        error = connection.expect(address, stanza["id"])
        try:
            connection.send(stanza)
            pong = await connection.ping(JID(address).domain)
            fault = _error_of(error.result() if error.done() else pong)
        finally:
            error.cancel()
        # An error to the ping itself shows that the server is there, unless another server reports that it is not.
        if fault is None or (not error.done() and not fault.condition.startswith("remote-server")):
            return Delivered()
        return self._refused(address, fault, _REFUSALS)

    async def _to_room(self, connection: _Connection, room: str, message: Message, body: str) -> SendResult:
        was_in = room in connection.rooms
        if (refusal := await self._in_room(connection, room)) is not None:
            return refusal
        stanza = stanza_of(room, "groupchat", self._id_of(message), body)
        answer = connection.expect(room, stanza["id"])
        connection.send(stanza)
        fault = _error_of(await answer)
        if fault is None:
            return Delivered()
        if was_in and fault.condition == "not-acceptable":
            # The room has forgotten sshbell, for example because its server has restarted.
            connection.rooms.pop(room, None)
            return await self._to_room(connection, room, message, body)
        return self._refused(room, fault, _REFUSALS)

    async def _in_room(self, connection: _Connection, room: str) -> SendResult | None:
        """Join a room unless sshbell is in it already; return the result if it refuses."""
        if room in connection.rooms:
            return None
        password = ""
        if self._settings.room_password is not None:
            password = await self._secrets.run(read_secret, self._settings.room_password)
            self._concealed.add(password)
        nick = self._settings.nick
        answer = await connection.join(room, nick, password)
        fault = _error_of(answer)
        if fault is not None and fault.condition == "conflict":
            # Somebody else has the nick, or a connection that the server has not missed yet.
            answer = await connection.join(room, f"{nick}-{secrets.token_hex(2)}", password)
            fault = _error_of(answer)
        if fault is None and _NEW in _codes_of(answer):
            connection.leave(room)
            # Whoever enters a room that does not exist creates it. Nobody else would be there.
            return RetryLater(self._shown(f"{room}: there is no such room now"))
        if fault is None:
            return None if room in connection.rooms else RetryLater(self._shown(f"{room}: the room has removed sshbell"))
        if (words := _ROOM_PASSING.get(fault.condition)) is not None:
            return RetryLater(self._shown(f"{room}: {words}"))
        return self._refused(room, fault, _ROOM_REFUSALS)

    def _refused(self, address: str, error: _Error, words: dict[str, str]) -> SendResult:
        """Return the result of an error."""
        said = f"{error.condition}: {error.text}" if error.text else error.condition
        text = f"{words[error.condition]} ({said})" if error.condition in words else f"the answer was {said}"
        return (RetryLater if error.is_passing else Rejected)(self._shown(f"{address}: {text}"))

    def _id_of(self, message: Message) -> str:
        """Return the id of a message, which is the same at each try, so that a reader can recognize one that comes twice."""
        return f"{message.id}.{self._settings.name}"

    def _address_of(self, recipient: str) -> str:
        """Return an address in the form in which servers send it."""
        try:
            return str(JID(jid_of(recipient)).bare)
        except InvalidJID as error:
            raise ValueError(f"{recipient!r} is not an XMPP address") from error

    def _shown(self, text: str) -> str:
        """Return a server's text as one line that is safe for a terminal, not too long, and without passwords."""
        for concealed in sorted(self._concealed, key=len, reverse=True):
            text = text.replace(concealed, "***")
        shown = harmless(" ".join(text.split()))
        return shown if len(shown) <= _REASON_LIMIT else f"{shown[: _REASON_LIMIT - 1]}…"

    def _doing_now(self) -> str:
        return self._doing or ("the connection" if self._connection is None else self._connection.doing)

    def _drop(self, reason: str) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.end(reason)


def _context(settings: XmppSettings) -> ssl.SSLContext:
    """Return the context for a connection; each reads ``ca_file`` again, so that a corrected one counts."""
    try:
        context = ssl.create_default_context(cafile=settings.ca_file or None)
    except (OSError, ssl.SSLError) as error:
        raise SecretError(f"ca_file {settings.ca_file}: {error.strerror or error}") from error
    if settings.security == "tls":
        context.set_alpn_protocols(["xmpp-client"])  # XEP-0368: the port may have other services
    return context


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def stanza_of(address: str, kind: Literal["chat", "groupchat"], stanza_id: str, body: str) -> MessageStanza:
    """Return a message to an address; ``body`` is the result of ``body_of``."""
    stanza = MessageStanza(sto=JID(address), stype=kind, sid=stanza_id)  # type: ignore[no-untyped-call]
    stanza["body"] = body
    stanza.append(ET.Element(_ORIGIN_ID, id=stanza_id))
    stanza.append(ET.Element(_UNSTYLED))
    return stanza


def body_of(text: str) -> str:
    """Return a text for a stanza: without characters that XML does not have, and not too long for a server."""
    text = _UNUSABLE.sub(lambda found: harmless(found[0]), text.replace("\r\n", "\n").replace("\r", "\n")[: _BODY_SIZE + 1])
    if _size(text) <= _BODY_SIZE:
        return text
    limit = _BODY_SIZE - _size(_CUT)
    return text[: bisect_right(range(len(text)), limit, key=lambda length: _size(text[:length])) - 1] + _CUT


def _size(text: str) -> int:
    """Return the bytes of a text in a stanza."""
    return len(escape(text).encode())


def _error_of(stanza: _Stanza) -> _Error | None:
    """Return the error in a stanza; None if it is none."""
    error = stanza.xml.find(_ERROR)
    if stanza["type"] != "error":
        return None
    return _Error("", "", "") if error is None else _Error(error.get("type", ""), *_condition_of(error, _CONDITIONS))


def _condition_of(error: ET.Element, namespace: str) -> tuple[str, str]:
    """Return the condition and the text of an error."""
    names = [child.tag.removeprefix(namespace) for child in error if child.tag.startswith(namespace)]
    return next((name for name in names if name != "text"), "undefined-condition"), error.findtext(f"{namespace}text", "")


def _codes_of(presence: _Stanza) -> set[str]:
    """Return the codes of a presence in a room."""
    return {status.get("code", "") for status in presence.xml.iterfind(f"{_MUC_USER}x/{_MUC_USER}status")}


def _rounds_of(challenge: Challenge) -> int:
    """Return the rounds that a challenge of SCRAM wants; 0 if it wants none."""
    found = re.search(rb"(?:^|,)i=([0-9]{1,18})(?:,|\Z)", challenge["value"])
    return int(found[1]) if found else 0


def _text_of(error: object) -> str:
    """Return the system's text for an error of the system, otherwise the library's."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the server's certificate is not trusted: {error.verify_message}; ca_file may name its authority's"
    if isinstance(error, OSError) and error.errno is not None:
        return str(error.strerror) if isinstance(error, socket.gaierror | ssl.SSLError) else os.strerror(error.errno)
    return str(error)
