"""
One connection to an XMPP server (RFC 6120), and the answers that come back over it.

slixmpp connects, and sets up TLS, login and session. This module gives it no stanza of other users, and refuses what it would
accept from somebody on the way to the server: another host, a session without TLS, an answer without end.
"""

import asyncio
import hashlib
import logging
import os
import re
import socket
import ssl
import time
import xml.etree.ElementTree as ET
from typing import Any, NamedTuple

from slixmpp import ClientXMPP, Message, Presence
from slixmpp.features.feature_mechanisms.stanza import Challenge
from slixmpp.stanza import Iq, StreamError
from slixmpp.util.sasl.client import sasl_mech
from slixmpp.util.sasl.mechanisms import SCRAM
from slixmpp.xmlstream.tostring import tostring

from consumer.channel_settings import XmppSettings
from consumer.errors import SecretError
from consumer.jid import jid_of
from consumer.text import N_

# After this silence sshbell pings its server, so that a dead connection is closed even if no message comes.
_KEEP_ALIVE_S = 60.0
# A server that answers no ping within this time is gone.
_PING_S = 30.0
_PORTS = {"starttls": 5222, "tls": 5223}
# The most bytes of one stanza of the server. Prosody accepts no more than 256 KiB from others.
_STANZA_SIZE = 1 << 20
# Rounds of SCRAM, which take about a microsecond each. sshbell does nothing else meanwhile. Usual are 4096 to 100,000.
_ROUNDS = 500_000
# With a priority below 0, sshbell gets none of the messages that others send to its account.
_PRIORITY = -1

_MUC, _MUC_USER = "http://jabber.org/protocol/muc", "{http://jabber.org/protocol/muc#user}"
# Codes of a presence in a room: it is sshbell's own; the room is new.
_OWN, NEW_ROOM = "110", "201"
_ERROR, _CONDITIONS = "{jabber:client}error", "{urn:ietf:params:xml:ns:xmpp-stanzas}"
_STREAM_CONDITIONS = "{urn:ietf:params:xml:ns:xmpp-streams}"
_PING, ORIGIN_ID = "{urn:xmpp:ping}ping", "{urn:xmpp:sid:0}origin-id"
_MECHANISMS = {f"SCRAM-SHA-{size}{suffix}" for size in ("1", "256", "512") for suffix in ("", "-PLUS")} | {"PLAIN"}
# Errors that may be over at the next try, whatever type the server gives them.
_PASSING = frozenset(
    {
        "conflict", "internal-server-error", "policy-violation", "recipient-unavailable", "remote-server-not-found",
        "remote-server-timeout", "resource-constraint", "undefined-condition",
    }
)  # fmt: skip

# sshbell reports faults itself. slixmpp would write them to standard error, with texts of the server.
logging.getLogger("slixmpp").setLevel(logging.CRITICAL + 1)


class ConnectionFaultError(Exception):
    """The connection has ended; the text is the reason."""


class StanzaError(NamedTuple):
    """An error that a server or a room has sent: RFC 6120, section 8.3.3."""

    kind: str
    condition: str
    text: str

    @property
    def is_passing(self) -> bool:
        """Whether the same message may be accepted later."""
        return self.kind == "wait" or self.condition in _PASSING


# A stanza of the server. This module reads its XML: slixmpp's classes hide the parts that they do not know, and refuse names of
# people in rooms that other programs accept, such as emoji.
Stanza = Any


@sasl_mech(60)
class _Scram(SCRAM):
    """SCRAM (RFC 5802) with OpenSSL's PBKDF2. A round of slixmpp's own takes 13 µs, so a login would delay the other channels."""

    def Hi(self, text: str, salt: bytes, iterations: int) -> bytes:  # noqa: N802 - slixmpp calls it so
        """Return the salted password."""
        assert self.hash is not None
        return hashlib.pbkdf2_hmac(self.hash().name, bytes(text), salt, iterations)  # type: ignore[arg-type]  # text is bytes


class XmppConnection(ClientXMPP):
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
        self.doing = N_("the connection")
        self.heard_s = time.monotonic()
        self.rooms: dict[str, str] = {}
        self.enable_direct_tls = settings.security == "tls"
        self.enable_starttls = settings.security == "starttls"
        self.default_port = settings.port or _PORTS[settings.security]
        # Without a host, slixmpp asks the DNS for the hosts of the account's domain.
        self._host = settings.server or (self.boundjid.domain if settings.port else None)
        self._is_ready: asyncio.Future[None] = self.loop.create_future()
        self._answers: dict[tuple[str, str], asyncio.Future[Stanza]] = {}
        self._fault = self._note = self._refusal = ""
        self._unfinished = 0
        self._keeper: asyncio.Task[None] | None = None
        self.add_filter("in", self._filter)
        for event, handler in {
            "connected": lambda _: self._proceed(N_("the stream")),
            "tls_success": lambda _: self._proceed(N_("the login")),
            "auth_success": lambda _: self._proceed(N_("the session")),
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
            ConnectionFaultError: this has failed.
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
                future.set_exception(ConnectionFaultError(fault))
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

    def expect(self, sender: str, stanza_id: str) -> asyncio.Future[Stanza]:
        """Return a future for the answer of somebody to a stanza; it may be an error. It fails if the connection ends."""
        if self._fault:
            raise ConnectionFaultError(self._fault)
        future: asyncio.Future[Stanza] = self.loop.create_future()
        self._answers[sender, stanza_id] = future
        future.add_done_callback(lambda _: self._forget(sender, stanza_id, future))
        return future

    def _forget(self, sender: str, stanza_id: str, future: asyncio.Future[Stanza]) -> None:
        # The same message may have been sent again in the meantime.
        if self._answers.get((sender, stanza_id)) is future:
            del self._answers[sender, stanza_id]

    async def ping(self, server: str) -> Stanza:
        """Return a server's answer to a ping. Servers that do not know pings answer with an error."""
        iq = self.Iq(sto=server, stype="get")
        iq.append(ET.Element(_PING))
        answer = self.expect(server, iq["id"])
        self.send(iq)
        return await answer

    async def join(self, room: str, nick: str, password: str) -> Stanza:
        """Ask a room for admission, without the messages of the past; return the presence or the error that comes back."""
        wish = ET.Element(f"{{{_MUC}}}x")
        ET.SubElement(wish, f"{{{_MUC}}}history", maxstanzas="0")
        if password:
            ET.SubElement(wish, f"{{{_MUC}}}password").text = password
        answer = self.expect(room, "presence")
        self._send_presence(room, nick, wish)
        return await answer

    def leave(self, room: str) -> None:
        """Leave a room."""
        if (nick := self.rooms.pop(room, None)) is not None:
            self._send_presence(room, nick, type="unavailable")

    def _send_presence(self, room: str, nick: str, *children: ET.Element, **attributes: str) -> None:
        presence = ET.Element("{jabber:client}presence", attributes | {"to": f"{room}/{nick}"})
        presence.extend(children)
        # As text, because slixmpp's own stanza refuses some nicks that rooms accept, such as emoji.
        self.send(tostring(presence, self.default_ns))

    async def _keep_alive(self) -> None:
        while True:
            await asyncio.sleep(_KEEP_ALIVE_S)
            try:
                async with asyncio.timeout(_PING_S):
                    await self.ping(self.boundjid.domain)
            except TimeoutError:
                self.end(N_("no answer to a ping within %(seconds)s s") % {"seconds": f"{_PING_S:.0f}"})
            except ConnectionFaultError:
                return

    # What slixmpp calls

    def reschedule_connection_attempt(self) -> None:
        """End it: sshbell retries, not slixmpp."""
        self.end(f"{self.doing}: {self._note}" if self._note else N_("%(step)s failed") % {"step": self.doing})

    def data_received(self, data: bytes | str) -> None:
        """Read from the server, but no stanza that never ends."""
        self.heard_s = time.monotonic()
        self._unfinished += len(data)
        if self._unfinished > _STANZA_SIZE:
            self.end(N_("the server's answer is too long"))
            return
        super().data_received(data)

    def incoming_filter(self, xml: ET.Element) -> ET.Element:
        """Note that a stanza is complete."""
        self._unfinished = 0
        return xml

    def exception(self, exception: Exception) -> None:
        """End it after an answer that slixmpp cannot read."""
        self.end(f"{self.doing}: " + N_("the server's answer is wrong") + f": {type(exception).__name__}")

    def _proceed(self, doing: str) -> None:
        self.doing = doing

    def _connection_failed(self, error: object) -> None:
        self._note = text_of(error)
        if isinstance(error, ssl.SSLCertVerificationError):
            self.end(self._note)

    def _login_refused(self, failure: Stanza) -> None:
        # Without the server's text, which may repeat what sshbell has sent.
        self._refusal = N_("the login was refused (%(condition)s); are jid and password right?") % {
            "condition": failure["condition"]
        }

    def _no_login(self, _: object) -> None:
        if not self._is_encrypted:
            self.end(N_('the server offers no STARTTLS, and sshbell sends nothing without; is security "tls" here?'))
        self.end(self._refusal or N_("the server offers no login with a password (SCRAM or PLAIN)"))

    def _begin(self, _: object) -> None:
        # slixmpp would also accept a session that somebody on the way offers without TLS or login.
        if not self._is_encrypted or "mechanisms" not in self.features:
            self.end(N_("the server offers a session without TLS and login, which sshbell does not accept"))
        elif not self._is_ready.done():
            self._proceed(N_("the message"))
            self._is_ready.set_result(None)

    def _disconnected(self, reason: object) -> None:
        if isinstance(reason, OSError):
            self._connection_failed(reason)
        note = self._note or N_("the server closed the connection")
        self.end(f"{self.doing}: {note}")

    @property
    def _is_encrypted(self) -> bool:
        return isinstance(self.socket, ssl.SSLObject)

    def _filter(self, stanza: Stanza) -> Stanza | None:
        """Handle a stanza. Those that set up the stream continue to slixmpp; it gets none from other users."""
        sender = stanza.xml.get("from", "")
        match stanza:
            case StreamError():
                self._stream_error(stanza)
            case Challenge() if (rounds := _rounds_of(stanza)) > _ROUNDS:
                self.end(
                    N_("the server wants %(rounds)s rounds of SCRAM; sshbell does up to %(most)s")
                    % {"rounds": rounds, "most": _ROUNDS}
                )
            case Iq():
                # Without a sender, it comes from sshbell's own server.
                is_answer = self._answered(sender or self.boundjid.domain, stanza["id"], stanza)
                if not is_answer and sender in {"", self.boundjid.domain, self.boundjid.bare, self.boundjid.full}:
                    return stanza
            case Message():
                self._message(stanza, sender)
            case Presence():
                self._presence(stanza, sender)
            case _:
                return stanza
        return None

    def _stream_error(self, stanza: Stanza) -> None:
        # slixmpp would go to another host, and accept that host's certificate in place of the domain's.
        condition, text = _condition_of(stanza.xml, _STREAM_CONDITIONS)
        advice = "; " + N_("set server to that host") if condition == "see-other-host" else ""
        self.end(
            N_("the server ended the connection (%(condition)s)") % {"condition": f"{condition}: {text}" if text else condition}
            + advice
        )

    def _message(self, stanza: Stanza, sender: str) -> None:
        bare, _, nick = sender.partition("/")
        if stanza["type"] == "error":
            # Errors of servers and rooms come from the address that sshbell wrote to, those of people from one of their devices.
            self._answered(sender, stanza["id"], stanza)
        elif stanza["type"] == "groupchat" and nick and self.rooms.get(bare) == nick:
            origin = stanza.xml.find(ORIGIN_ID)
            self._answered(bare, stanza["id"], stanza)
            self._answered(bare, "" if origin is None else origin.get("id", ""), stanza)

    def _presence(self, stanza: Stanza, sender: str) -> None:
        room, _, nick = sender.partition("/")
        if stanza["type"] == "error":
            if room not in self.rooms:
                self._answered(room, "presence", stanza)
        elif _OWN in codes_of(stanza):
            if stanza["type"] == "unavailable":
                self.rooms.pop(room, None)
            else:
                self.rooms[room] = nick
            self._answered(room, "presence", stanza)

    def _answered(self, sender: str, stanza_id: str, stanza: Stanza) -> bool:
        future = self._answers.get((sender, stanza_id))
        if future is None or future.done():
            return False
        future.set_result(stanza)
        return True


def tls_context(settings: XmppSettings) -> ssl.SSLContext:
    """Return the context for a connection; each reads ``ca_file`` again, so that a corrected one counts."""
    try:
        context = ssl.create_default_context(cafile=settings.ca_file or None)
    except (OSError, ssl.SSLError) as error:
        raise SecretError(f"ca_file {settings.ca_file}: {error.strerror or error}") from error
    if settings.security == "tls":
        context.set_alpn_protocols(["xmpp-client"])  # XEP-0368: the port may have other services
    return context


def error_of(stanza: Stanza) -> StanzaError | None:
    """Return the error in a stanza; None if it is none."""
    error = stanza.xml.find(_ERROR)
    if stanza["type"] != "error":
        return None
    return StanzaError("", "", "") if error is None else StanzaError(error.get("type", ""), *_condition_of(error, _CONDITIONS))


def _condition_of(error: ET.Element, namespace: str) -> tuple[str, str]:
    """Return the condition and the text of an error."""
    names = [child.tag.removeprefix(namespace) for child in error if child.tag.startswith(namespace)]
    return next((name for name in names if name != "text"), "undefined-condition"), error.findtext(f"{namespace}text", "")


def codes_of(presence: Stanza) -> set[str]:
    """Return the codes of a presence in a room."""
    return {status.get("code", "") for status in presence.xml.iterfind(f"{_MUC_USER}x/{_MUC_USER}status")}


def _rounds_of(challenge: Challenge) -> int:
    """Return the rounds that a challenge of SCRAM wants; 0 if it wants none."""
    found = re.search(rb"(?:^|,)i=([0-9]{1,18})(?:,|\Z)", challenge["value"])
    return int(found[1]) if found else 0


def text_of(error: object) -> str:
    """Return the system's text for an error of the system, otherwise the library's."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return N_("the server's certificate is not trusted: %(fault)s; ca_file may name its authority's") % {
            "fault": error.verify_message
        }
    if isinstance(error, OSError) and error.errno is not None:
        return str(error.strerror) if isinstance(error, socket.gaierror | ssl.SSLError) else os.strerror(error.errno)
    return str(error)
