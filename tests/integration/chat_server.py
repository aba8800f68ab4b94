"""The real prosody on ports of loopback, with its own authority, accounts and rooms, and people who are logged in there."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import slixmpp
import trustme
from slixmpp.xmlstream import ET

from tests import needs
from tests.integration.sshd import free_port
from tests.waiting import DEADLINE_S, wait_for, wait_for_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

# A name that no DNS has. The certificate has it, so sshbell has to check this name and not that of the machine.
DOMAIN, ROOMS = "chat.test", "rooms.chat.test"
PASSWORD = "s3cret-Ünïcode"  # noqa: S105 - of a test
BELL, ALICE, BOB = (f"{name}@{DOMAIN}" for name in ("sshbell", "alice", "bob"))
ROOM = f"ops@{ROOMS}"

CONFIG = """
run_as_root = {is_root}
pidfile = "{folder}/pid"
data_path = "{folder}/data"
plugin_paths = {{ }}
modules_enabled = {{ "disco", "roster", "saslauth", "tls", "smacks", "ping", "carbons", "blocklist" }}
modules_disabled = {{ "s2s" }}
authentication = "internal_hashed"
storage = "internal"
c2s_require_encryption = true
c2s_ports = {{ {port} }}
c2s_direct_tls_ports = {{ {tls_port} }}
c2s_interfaces = {{ "127.0.0.1" }}
c2s_direct_tls_interfaces = {{ "127.0.0.1" }}
log = {{ info = "{folder}/log" }}
ssl = {{ certificate = "{folder}/chat.pem", key = "{folder}/chat.key" }}
{more}

VirtualHost "{domain}"

Component "{rooms}" "muc"
muc_room_locking = false
max_history_messages = 1000
"""


class Prosody:
    """
    One prosody, which a test can stop, freeze and start again. It keeps its ports and its data.

    Args:
        folder: an empty directory.
        name: the name in its certificate.
        more: further lines of the configuration.
    """

    def __init__(self, folder: Path, *, name: str = DOMAIN, more: str = "") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.port, self.tls_port = free_port(), free_port()
        self.ca_file = folder / "ca.pem"
        self._program = needs.program("prosody", "prosody")
        authority = trustme.CA()
        authority.cert_pem.write_to_path(self.ca_file)
        certificate = authority.issue_cert(name)
        certificate.private_key_pem.write_to_path(folder / "chat.key")
        for number, blob in enumerate(certificate.cert_chain_pems):
            blob.write_to_path(folder / "chat.pem", append=bool(number))
        for jid in (BELL, ALICE, BOB):
            self.set_password(jid, PASSWORD)
        self.configure(more)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_details: object) -> None:
        self.kill()

    def configure(self, more: str = "") -> None:
        """Write the configuration; a start reads it."""
        text = CONFIG.format(
            is_root="true" if os.geteuid() == 0 else "false", folder=self.folder, port=self.port, tls_port=self.tls_port,
            domain=DOMAIN, rooms=ROOMS, more=more,
        )  # fmt: skip
        (self.folder / "prosody.cfg.lua").write_text(text)

    def set_password(self, jid: str, password: str) -> None:
        """Create an account, or change its password, as long as prosody is not running."""
        user, _, domain = jid.partition("@")
        accounts = self.folder / "data" / domain.replace(".", "%2e") / "accounts"
        accounts.mkdir(parents=True, exist_ok=True)
        (accounts / f"{user}.dat").write_text(f'return {{ ["password"] = "{password}"; }};\n', encoding="utf-8")

    def start(self) -> None:
        """Start it, and wait until it listens."""
        with (self.folder / "said").open("ab") as said:
            self._process = subprocess.Popen(
                [self._program, "-F", "--config", self.folder / "prosody.cfg.lua"],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
            )
        wait_for(self._listens, "prosody listens")

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "said").read_text() + (self.folder / "log").read_text()
        for port in (self.port, self.tls_port):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) != 0:
                    return False
        return True

    def stop(self) -> None:
        """Stop it as an init system does."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Kill it."""
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(DEADLINE_S)
            self._process = None

    def freeze(self) -> None:
        """Stop it from running, with all its connections open."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it run again."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)


class Received(NamedTuple):
    """
    A message as somebody has got it.

    Attributes:
        kind: ``chat`` or ``groupchat``.
        stanza: the whole message.
    """

    kind: str
    sender: str
    id: str
    body: str
    stanza: Any


class Person:
    """Somebody who is logged in, and logs in again when the connection is lost, as a chat program does."""

    def __init__(self, prosody: Prosody, jid: str, *rooms: str) -> None:
        self.received: list[Received] = []
        self.here: set[str] = set()
        self._prosody = prosody
        self._jid = jid
        self._rooms = rooms
        self._is_leaving = False
        self.client = slixmpp.ClientXMPP(jid, PASSWORD)
        self.client.ca_certs = prosody.ca_file
        self.client.enable_direct_tls = False
        self.client.add_event_handler("session_start", self._arrive)
        self.client.add_filter("in", self._take)
        self.client.add_event_handler("disconnected", self._return)

    @property
    def chats(self) -> list[str]:
        """The texts that have come directly, in order."""
        return [message.body for message in self.received if message.kind == "chat"]

    @property
    def talk(self) -> list[str]:
        """The texts that have come through rooms, in order."""
        return [message.body for message in self.received if message.kind == "groupchat"]

    async def arrive(self) -> None:
        """Log in and join the rooms."""
        self.client.connect("127.0.0.1", self._prosody.port)
        await wait_for_async(lambda: self.here >= {self._jid, *self._rooms}, f"{self._jid} is here")
        # The messages of other tests, which have waited for the login, come before the answer to a ping.
        iq = self.client.Iq(sto=DOMAIN, stype="get")
        iq.append(ET.Element("{urn:xmpp:ping}ping"))
        await iq.send(timeout=int(DEADLINE_S))  # type: ignore[no-untyped-call]
        self.received.clear()

    async def leave(self) -> None:
        """Log out."""
        self._is_leaving = True
        self.client.cancel_connection_attempt()
        await self.client.disconnect()

    async def configure(self, room: str, **fields: str) -> None:
        """Change the settings of a room that the person owns."""
        iq = self.client.Iq(sto=room, stype="set")
        query = ET.SubElement(iq.xml, "{http://jabber.org/protocol/muc#owner}query")
        form = ET.SubElement(query, "{jabber:x:data}x", type="submit")
        fields = {"FORM_TYPE": "http://jabber.org/protocol/muc#roomconfig"} | {
            f"muc#roomconfig_{name}": value for name, value in fields.items()
        }
        for name, value in fields.items():
            ET.SubElement(ET.SubElement(form, "{jabber:x:data}field", var=name), "{jabber:x:data}value").text = value
        await iq.send(timeout=int(DEADLINE_S))  # type: ignore[no-untyped-call]

    async def change(self, room: str, **attributes: str) -> None:
        """Change somebody's role or affiliation in a room."""
        iq = self.client.Iq(sto=room, stype="set")
        query = ET.SubElement(iq.xml, "{http://jabber.org/protocol/muc#admin}query")
        ET.SubElement(query, "{http://jabber.org/protocol/muc#admin}item", attributes)
        await iq.send(timeout=int(DEADLINE_S))  # type: ignore[no-untyped-call]

    def _arrive(self, _event: object) -> None:
        self.client.send_presence()
        self.here.add(self._jid)
        for room in self._rooms:
            presence = self.client.make_presence(pto=f"{room}/{self._jid.partition('@')[0]}")
            wish = ET.SubElement(presence.xml, "{http://jabber.org/protocol/muc}x")
            ET.SubElement(wish, "{http://jabber.org/protocol/muc}history", maxstanzas="0")
            presence.send()

    def _take(self, stanza: Any) -> Any:
        """Take messages and presences, because slixmpp refuses some that other programs show."""
        sender, kind = stanza.xml.get("from", ""), stanza.xml.get("type", "")
        if isinstance(stanza, slixmpp.Presence):
            room, _, nick = sender.partition("/")
            if room in self._rooms and nick == self._jid.partition("@")[0] and not kind:
                self.here.add(room)
        elif isinstance(stanza, slixmpp.Message):
            if kind in {"chat", "groupchat"} and stanza["body"]:
                self.received.append(Received(kind, sender, stanza["id"], stanza["body"], stanza.xml))
        else:
            return stanza
        return None

    async def _return(self, _event: object) -> None:
        self.here.clear()
        if not self._is_leaving:
            await asyncio.sleep(0.05)
            self.client.connect("127.0.0.1", self._prosody.port)


@asynccontextmanager
async def person(prosody: Prosody, jid: str = ALICE, *rooms: str) -> AsyncIterator[Person]:
    """Yield somebody who is logged in and in the rooms."""
    made = Person(prosody, jid, *rooms)
    await made.arrive()
    try:
        yield made
    finally:
        await made.leave()


def chat_channel(prosody: Prosody, name: str = "chat", **keys: Any) -> dict[str, Any]:
    """Return a channel to Alice and a room, for ``configuration``; ``keys`` replace or add to its keys."""
    password = prosody.folder / "password"
    password.touch(0o600)
    password.write_text(PASSWORD, encoding="utf-8")
    known = {
        "name": name, "type": "xmpp", "jid": BELL, "password": {"file": str(password)}, "to": [ALICE], "rooms": [ROOM],
        "server": "127.0.0.1", "port": prosody.port, "ca_file": str(prosody.ca_file), "max_per_hour": 100_000,
    }  # fmt: skip
    return known | keys
