"""The XMPP channel against a real prosody, in every state of it, and against servers that no prosody would be."""

from __future__ import annotations

import asyncio
import base64
import re
import time
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import aiodns
import pytest
import trustme
from slixmpp.xmlstream.tostring import tostring

from consumer.channel_settings import XmppSettings
from consumer.config_values import Secret
from consumer.deliver import xmpp_connection
from consumer.deliver.channels import Delivered, Message, Rejected, RetryLater, SendResult, xmpp
from consumer.deliver.channels.xmpp import Xmpp
from consumer.deliver.xmpp_connection import XmppConnection
from tests.integration.chat_server import ALICE, BELL, BOB, DOMAIN, PASSWORD, ROOM, ROOMS, Prosody, person
from tests.integration.mail_server import ca_file, server_context
from tests.integration.name_server import name_server
from tests.waiting import DEADLINE_S, wait_for_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence
    from pathlib import Path

# For tries that have to fail, so short enough to wait for.
LIMIT_S = 3.0
GHOST = "ghost.chat.test"


@pytest.fixture(scope="module")
def prosody(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prosody]:
    """Return a running server that the tests of this module share."""
    more = f'component_ports = {{ }}\ndisable_sasl_mechanisms = {{ "PLAIN" }}\nComponent "{GHOST}"\ncomponent_secret = "x"\n'
    with Prosody(tmp_path_factory.mktemp("prosody"), more=more) as made:
        yield made


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Prosody]:
    """Return a running server that the test may stop and freeze."""
    with Prosody(tmp_path / "prosody") as made:
        yield made


def secret(server: Prosody, text: str, name: str = "password") -> Secret:
    """Write a secret to a file."""
    path = server.folder / name
    path.touch(0o600)
    path.write_text(text, encoding="utf-8")
    return Secret(file=str(path))


def settings(prosody: Prosody, /, **keys: Any) -> XmppSettings:
    """Return a channel to a server, by default to Alice."""
    port = prosody.tls_port if keys.get("security") == "tls" else prosody.port
    known: dict[str, Any] = {
        "name": "ops", "jid": BELL, "server": "127.0.0.1", "port": port, "ca_file": str(prosody.ca_file),
    }  # fmt: skip
    if not {"to", "rooms"} & keys.keys():
        known["to"] = [ALICE]
    if "password" not in keys:
        known["password"] = secret(prosody, PASSWORD)
    return XmppSettings(**(known | keys))


def message(text: str = "Carol logged in to web1.", **keys: Any) -> Message:
    """Return a message whose id is its text."""
    return Message(re.sub(r"\W", "-", text)[:60], "subject", text, **keys)


@asynccontextmanager
async def channel(found: XmppSettings, *, limit_s: float = 20.0) -> AsyncIterator[Xmpp]:
    """Yield a channel, and close it."""
    made = Xmpp(found, limit_s=limit_s)
    try:
        yield made
    finally:
        made.close()
        await asyncio.sleep(0)


async def send(found: XmppSettings, what: Message | None = None, *, limit_s: float = 20.0) -> SendResult:
    """Send one message."""
    async with channel(found, limit_s=limit_s) as made:
        return await made.send(what or message())


async def delivered(made: Xmpp, what: Message) -> int:
    """Send until the server has it, as a worker does; return the number of tries."""
    end_s, tries = time.monotonic() + DEADLINE_S, 1
    while await made.send(what) != Delivered():
        assert time.monotonic() < end_s
        tries += 1
    return tries


def later(result: SendResult) -> str:
    """Return why it has to be tried again."""
    assert isinstance(result, RetryLater), result
    assert result.reason.isprintable()
    return result.reason


def rejected(result: SendResult) -> str:
    """Return why it is given up."""
    assert isinstance(result, Rejected), result
    assert result.reason.isprintable()
    return result.reason


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_person_and_room(prosody: Prosody, security: str) -> None:
    """A message arrives in a person's program and in a room, as plain text and with an id that is the same at each try."""
    text = "Carol <b>logged</b> in & out:\n“*_x_*” 😀\x1b[2J\0\ud800 \r\nend"

    async def body() -> None:
        async with (
            person(prosody, ALICE, ROOM) as alice,
            channel(settings(prosody, security=security, to=[ALICE], rooms=[ROOM])) as made,
        ):
            assert await made.send(message(text)) == Delivered()
            assert await made.send(message(text)) == Delivered()
            await wait_for_async(lambda: len(alice.received) == 4, "both arrive twice")
        shown = "Carol <b>logged</b> in & out:\n“*_x_*” 😀\\x1b[2J\\x00\\ud800 \nend"
        assert {each.body for each in alice.received} == {shown}
        assert {each.id for each in alice.received} == {f"{message(text).id}.ops"}
        assert {each.sender.partition("/")[0] for each in alice.received if each.kind == "chat"} == {BELL}
        assert {each.sender for each in alice.received if each.kind == "groupchat"} == {f"{ROOM}/sshbell"}
        for each in alice.received:
            names = [child.tag.partition("}")[2] for child in each.stanza]
            assert {"body", "origin-id", "unstyled"} <= set(names)
            assert not {"subject", "html"} & set(names)

    asyncio.run(body())


@pytest.mark.parametrize("security", ["starttls", "tls"])
@pytest.mark.parametrize("fault", ["name", "authority"])
def test_certificates(tmp_path: Path, security: str, fault: str) -> None:
    """The certificate has to be of a known authority, and for the account's domain. No other server gets a login."""
    with Prosody(tmp_path / "prosody", name="other.test" if fault == "name" else DOMAIN) as server:
        found = settings(server, security=security, **({"ca_file": ""} if fault == "authority" else {}))
        reason = later(asyncio.run(send(found)))
        log = (server.folder / "log").read_text()
    assert reason.startswith(f"{DOMAIN}: the server's certificate is not trusted: ")
    assert {"name": "Hostname mismatch", "authority": "unable to get local issuer"}[fault] in reason
    assert "Authenticated" not in log


def test_wrong_authority_file(prosody: Prosody, tmp_path: Path) -> None:
    """A file without a certificate is named; a corrected one counts at the next try."""
    broken = tmp_path / "ca.pem"

    async def body() -> None:
        async with channel(settings(prosody, ca_file=str(broken))) as made:
            assert later(await made.send(message())) == f"ca_file {broken}: No such file or directory"
            broken.write_bytes(prosody.ca_file.read_bytes())
            assert await made.send(message()) == Delivered()

    asyncio.run(body())


def test_wrong_password(prosody: Prosody) -> None:
    """A wrong password is no fault of the message, which waits; a corrected one counts at the next try."""
    password = secret(prosody, "wrong", "corrected")

    async def body() -> None:
        async with channel(settings(prosody, password=password)) as made:
            reason = later(await made.send(message()))
            assert reason == f"{DOMAIN}: the login was refused (not-authorized); are jid and password right?"
            assert later(await made.check()) == reason
            secret(prosody, PASSWORD, "corrected")
            assert await made.send(message()) == Delivered()

    asyncio.run(body())


def test_no_password(prosody: Prosody) -> None:
    """A password that cannot be read is no fault of the message either."""
    assert "no-password: No such file" in later(asyncio.run(send(settings(prosody, password=Secret(file="/no-password")))))


def test_a_server_with_plain_alone(tmp_path: Path) -> None:
    """A server that cannot do SCRAM, such as one that asks LDAP, gets the password over TLS."""
    more = 'disable_sasl_mechanisms = { "SCRAM-SHA-1", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS" }\n'
    with Prosody(tmp_path / "prosody", more=more) as server:
        assert asyncio.run(send(settings(server))) == Delivered()
        assert "login was refused" in later(asyncio.run(send(settings(server, password=secret(server, "wrong")))))


@pytest.mark.parametrize("unknown", [f"nobody@{DOMAIN}", f"nobody@{ROOMS}"])
def test_unknown_person(prosody: Prosody, unknown: str) -> None:
    """If no recipient exists, the message is rejected; if some do, they get it, and the others are named."""
    reason = rejected(asyncio.run(send(settings(prosody, to=[unknown]))))
    assert reason.startswith(f"{unknown}: there is no such account")
    result = asyncio.run(send(settings(prosody, to=[unknown, ALICE])))
    assert isinstance(result, Delivered)
    assert result.note.startswith(f"{unknown}: there is no such account")


def test_recipients_of_a_message(prosody: Prosody) -> None:
    """A message with recipients of its own goes to them, and to a room if the room is one of them."""

    async def body() -> None:
        async with (
            person(prosody, ALICE, ROOM) as alice, person(prosody, BOB) as bob,
            channel(settings(prosody, to=[ALICE], rooms=[ROOM])) as made,
        ):  # fmt: skip
            assert await made.send(message("for Bob", recipients=(BOB,))) == Delivered()
            assert await made.send(message("for Bob and the room", recipients=(BOB, ROOM))) == Delivered()
            await wait_for_async(lambda: len(bob.received) == 2 and len(alice.received) == 1, "all arrive")
            assert bob.chats == ["for Bob", "for Bob and the room"]
            assert (alice.chats, alice.talk) == ([], ["for Bob and the room"])
            unusable = await made.send(message(recipients=("x" * 1100 + "@example.org",)))
            assert "is not an XMPP address" in later(unusable)
            assert isinstance(unusable, RetryLater)
            assert unusable.alone

    asyncio.run(body())


def test_a_part_of_the_recipients(prosody: Prosody) -> None:
    """If one of two servers is away, its recipient gets the message later, and the other one gets it once and at once."""

    async def body() -> None:
        async with person(prosody, ALICE) as alice, channel(settings(prosody, to=[ALICE, f"x@{GHOST}"])) as made:
            for _ in range(3):
                result = await made.send(message("once"))
                assert f"x@{GHOST}: its server does not answer" in later(result)
                assert isinstance(result, RetryLater)
                assert result.alone
            assert await made.send(message("twice", recipients=(ALICE,))) == Delivered()
            await wait_for_async(lambda: "twice" in alice.chats, "the next one arrives")
            assert alice.chats == ["once", "twice"]
            # Where nobody has got it, the messages behind it wait, so that the order stays.
            assert await send(settings(prosody, to=[f"x@{GHOST}"])) == RetryLater(
                f"x@{GHOST}: its server does not answer (remote-server-timeout: Component unavailable)"
            )

    asyncio.run(body())


def test_rooms_that_refuse(prosody: Prosody) -> None:
    """A room that is closed to sshbell rejects the message, with the reason; only a wrong password waits to be corrected."""
    rooms = {name: f"{name}@{ROOMS}" for name in ("banned", "members", "locked", "silent", "full")}

    async def body() -> None:
        async with person(prosody, ALICE, *rooms.values()) as alice:
            await alice.change(rooms["banned"], affiliation="outcast", jid=BELL)
            await alice.configure(rooms["members"], membersonly="1")
            await alice.configure(rooms["locked"], passwordprotectedroom="1", roomsecret="open sesame")
            await alice.configure(rooms["silent"], moderatedroom="1")

            async def told(room: str, **keys: Any) -> SendResult:
                found = settings(prosody, rooms=[rooms[room]], **keys)
                async with channel(found) as made:
                    checked, sent = await made.check(), await made.send(message())
                assert room == "silent" or checked == sent
                return sent

            assert rejected(await told("banned")).startswith(f"{rooms['banned']}: sshbell is banned from this room (forbidden")
            assert "the room is for its members only (registration-required" in rejected(await told("members"))
            assert "sshbell may not write there (forbidden" in rejected(await told("silent"))
            wants = f"{rooms['locked']}: the room wants a password, or another one; is room_password right?"
            assert later(await told("locked")) == wants
            assert later(await told("locked", room_password=secret(prosody, "wrong", "room"))) == wants
            assert await told("locked", room_password=secret(prosody, "open sesame", "room")) == Delivered()
            assert alice.talk == ["Carol logged in to web1."]

    asyncio.run(body())


def test_a_room_that_does_not_exist(prosody: Prosody) -> None:
    """No message goes to an empty room that sshbell has just created. It waits until others are there."""
    room = f"typo@{ROOMS}"

    async def body() -> None:
        for _ in range(2):
            assert later(await send(settings(prosody, rooms=[room]))) == f"{room}: there is no such room now"
        async with channel(settings(prosody, rooms=[room])) as made:
            assert later(await made.check()) == f"{room}: there is no such room now"
            async with person(prosody, ALICE, room) as alice:
                assert await made.send(message()) == Delivered()
                await wait_for_async(lambda: alice.received, "it arrives")

    asyncio.run(body())


def test_nick(prosody: Prosody) -> None:
    """If somebody else has the nick, sshbell takes a longer one, and is heard."""

    async def body() -> None:
        async with person(prosody, ALICE, ROOM) as alice, channel(settings(prosody, rooms=[ROOM], nick="alice")) as made:
            assert await made.send(message()) == Delivered()
            await wait_for_async(lambda: alice.received, "it arrives")
            assert re.fullmatch(rf"{ROOM}/alice-[0-9a-f]{{4}}", alice.received[0].sender)

    asyncio.run(body())


@pytest.mark.parametrize("sender", [f"{ROOM}/😀", f"{ROOM}/\u1e9e", f"{ROOM}/{'x' * 2000}", "@", "😀@x/y", f"{DOMAIN}/\u2028"])
def test_odd_senders(prosody: Prosody, sender: str) -> None:
    """Whatever others are called, the connection stays. Prosody is strict about names in a room; other servers allow emoji."""
    odd = (
        f"<presence from='{sender}'/><presence from='{sender}' type='error'/><message from='{sender}' type='groupchat'/>"
        f"<message from='{sender}'><body>x</body></message><message from='{sender}' type='error' id='two.ops'/>"
        f"<iq from='{sender}' type='get' id='1'><ping xmlns='urn:xmpp:ping'/></iq><iq from='{sender}' type='result' id='2'/>"
        f"<iq from='{sender}' type='set' id='3'><query xmlns='jabber:iq:roster'><item jid='evil@x'/></query></iq>"
    )

    async def body() -> None:
        async with person(prosody, ALICE, ROOM) as alice, channel(settings(prosody, to=[ALICE], rooms=[ROOM])) as made:
            assert await made.send(message("one")) == Delivered()
            connection = made._connection
            assert connection is not None
            connection.data_received(odd.encode())
            assert await made.send(message("two")) == Delivered()
            assert made._connection is connection
            await wait_for_async(lambda: alice.chats == alice.talk == ["one", "two"], "both arrive")
            assert len(connection.client_roster) == 0

    asyncio.run(body())


def test_refused_nick(prosody: Prosody) -> None:
    """A nick that the room does not accept is named."""

    async def body() -> None:
        async with person(prosody, ALICE, ROOM):
            assert "the room does not accept this nick (jid-malformed" in rejected(
                await send(settings(prosody, rooms=[ROOM], nick="😀"))
            )

    asyncio.run(body())


def test_kicked(prosody: Prosody) -> None:
    """After somebody has removed it from a room, sshbell comes back with the next message."""

    async def body() -> None:
        async with person(prosody, ALICE, ROOM) as alice, channel(settings(prosody, rooms=[ROOM])) as made:
            assert await made.send(message("one")) == Delivered()
            await alice.change(ROOM, role="none", nick="sshbell")
            assert await made.send(message("two")) == Delivered()
            await wait_for_async(lambda: alice.talk == ["one", "two"], "both arrive")

    asyncio.run(body())


def test_check(prosody: Prosody) -> None:
    """``check`` logs in and enters the rooms, and sends nothing."""

    async def body() -> None:
        async with person(prosody, ALICE, ROOM) as alice:
            async with channel(settings(prosody, to=[ALICE], rooms=[ROOM])) as made:
                assert await made.check() == Delivered()
                assert made._connection is not None
                assert made._connection.rooms == {ROOM: "sshbell"}
                assert await made.send(message("the only one")) == Delivered()
            await wait_for_async(lambda: len(alice.received) == 2, "the message arrives")
            assert (alice.chats, alice.talk) == (["the only one"], ["the only one"])

    asyncio.run(body())


def test_what_others_send(prosody: Prosody) -> None:
    """What others send to sshbell changes nothing, and another program of the account still gets its messages."""

    async def body() -> None:
        async with person(prosody, ALICE, ROOM) as alice, person(prosody, BELL) as human, channel(
            settings(prosody, to=[ALICE], rooms=[ROOM])
        ) as made:  # fmt: skip
            assert await made.send(message("one")) == Delivered()
            await wait_for_async(lambda: alice.received, "it arrives")
            sender = next(each.sender for each in alice.received if each.kind == "chat")
            # All that would forge an answer to the next message.
            for to, kind in (
                (sender, "chat"),
                (BELL, "chat"),
                (sender, "error"),
                (f"{ROOM}/sshbell", "error"),
                (ROOM, "groupchat"),
            ):
                forged = alice.client.make_message(to, "thanks", mtype=kind)  # type: ignore[arg-type]  # no type for "error"
                forged["id"] = "two.ops"
                forged.send()
            alice.client.send_presence_subscription(BELL)
            await wait_for_async(lambda: "thanks" in human.chats, "it goes to the human")
            assert await made.send(message("two")) == Delivered()
            await wait_for_async(lambda: alice.chats == ["one", "two"], "it arrives")
            assert made._connection is not None
            assert len(made._connection.client_roster) == 0

    asyncio.run(body())


def test_long_message(prosody: Prosody) -> None:
    """What no server would take is cut, and says so; the connection lives on."""

    async def body() -> None:
        async with person(prosody, ALICE) as alice, channel(settings(prosody)) as made:
            assert await made.send(message("<" * 100_000)) == Delivered()
            await wait_for_async(lambda: alice.received, "it arrives")
            (found,) = alice.received
            assert found.body.endswith("<\n… sshbell has cut this message.")
            assert 9000 < len(tostring(found.stanza).encode()) < 10_000

    asyncio.run(body())


# When something happens to the server: before a send; after the connection, TLS, the login or the session has been made; before
# sshbell enters a room; after it has written a message.
PHASES = ["before", "the stream", "the login", "the session", "the message", "join", "written"]


def at(phase: str, strike: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let something happen in a phase, once."""
    strikes = [strike]
    connection = XmppConnection
    proceed, join, send_raw = connection._proceed, connection.join, connection.send_raw

    def passing(reached: str) -> None:
        if reached == phase and strikes:
            strikes.pop()()

    def proceeding(self: Any, doing: str) -> None:
        proceed(self, doing)
        passing(doing)

    async def joining(self: Any, *arguments: str) -> Any:
        passing("join")
        return await join(self, *arguments)

    def writing(self: Any, data: str) -> None:
        send_raw(self, data)
        if "<body>" in str(data):
            passing("written")

    monkeypatch.setattr(connection, "_proceed", proceeding)
    monkeypatch.setattr(connection, "join", joining)
    monkeypatch.setattr(connection, "send_raw", writing)
    passing("before")


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("how", ["freeze", "kill", "stop"])
def test_server_that_fails(own: Prosody, monkeypatch: pytest.MonkeyPatch, phase: str, how: str) -> None:
    """If the server hangs or ends in any phase of a send, the try ends in time, and the message arrives afterwards."""

    async def body() -> None:
        async with person(own, ALICE, ROOM) as alice, channel(settings(own, to=[ALICE], rooms=[ROOM]), limit_s=LIMIT_S) as made:
            at(phase, getattr(own, how), monkeypatch)
            if how != "freeze":
                alice.here.clear()
            begun_s = time.monotonic()
            reason = later(await made.send(message("one")))
            took_s = time.monotonic() - begun_s
            assert reason.startswith((f"{DOMAIN}: ", f"{ROOM}: "))
            if how == "freeze":
                assert "no answer" in reason
                assert LIMIT_S * 0.3 < took_s < DEADLINE_S
                own.thaw()
            else:
                own.start()
            await wait_for_async(lambda: alice.here >= {ALICE, ROOM}, "Alice is back")
            tries = [await delivered(made, message(text)) for text in ("one", "two")]
            await wait_for_async(lambda: "two" in alice.chats and "two" in alice.talk, "the next one arrives")
            for texts in (alice.chats, alice.talk):
                assert texts[-1] == "two"
                # Again only if it is unknown whether the server got it.
                assert len(texts) == 2 or phase in {"the message", "join", "written"} or tries != [1, 1]
            assert {each.id for each in alice.received} == {"one.ops", "two.ops"}

    asyncio.run(body())


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_restart_while_idle(own: Prosody, how: str) -> None:
    """After the server has restarted between two messages, the second one arrives at the first try."""

    async def body() -> None:
        async with person(own, ALICE, ROOM) as alice, channel(settings(own, to=[ALICE], rooms=[ROOM])) as made:
            assert await made.send(message("one")) == Delivered()
            await wait_for_async(lambda: len(alice.received) == 2, "the first arrives")
            alice.here.clear()
            getattr(own, how)()
            own.start()
            await wait_for_async(lambda: alice.here >= {ALICE, ROOM}, "Alice is back")
            assert await made.send(message("two")) == Delivered()
            await wait_for_async(lambda: len(alice.received) == 4, "the second arrives")
            assert (alice.chats, alice.talk) == (["one", "two"], ["one", "two"])

    asyncio.run(body())


def test_dead_connection(own: Prosody, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before a message, a connection that has been silent is tried, so that the message does not get lost in a dead one."""
    monkeypatch.setattr(xmpp, "_FRESH_S", 0.2)

    async def body() -> None:
        async with person(own, ALICE) as alice, channel(settings(own), limit_s=LIMIT_S) as made:
            assert await made.send(message("one")) == Delivered()
            await asyncio.sleep(0.3)
            own.freeze()
            assert "no answer to the stream" in later(await made.send(message("two")))
            own.thaw()
            assert await made.send(message("two")) == Delivered()
            await wait_for_async(lambda: len(alice.received) == 2, "the second arrives")
            assert alice.chats == ["one", "two"]

    asyncio.run(body())


def test_keep_alive(own: Prosody, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that has died is closed in bounded time, even if no message comes; one that lives stays."""
    monkeypatch.setattr(xmpp_connection, "_KEEP_ALIVE_S", 0.1)
    monkeypatch.setattr(xmpp_connection, "_PING_S", 1.0)

    async def body() -> None:
        async with channel(settings(own)) as made:
            assert await made.send(message()) == Delivered()
            connection = made._connection
            assert connection is not None
            heard_s = connection.heard_s
            await wait_for_async(lambda: connection.heard_s > heard_s + 0.3, "the server answers pings")
            assert connection.is_open
            own.freeze()
            await wait_for_async(lambda: not connection.is_open, "the connection is closed")
            own.thaw()
            assert await made.send(message()) == Delivered()

    asyncio.run(body())


def test_order_and_rate(prosody: Prosody) -> None:
    """Messages arrive in the order in which they are sent."""

    async def body() -> None:
        async with person(prosody, ALICE, ROOM) as alice, channel(settings(prosody, to=[ALICE], rooms=[ROOM])) as made:
            texts = [f"message {number}" for number in range(200)]
            for text in texts:
                assert await made.send(message(text)) == Delivered()
            await wait_for_async(lambda: len(alice.received) == 400, "all arrive")
            assert alice.chats == alice.talk == texts

    asyncio.run(body())


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_host_from_the_dns(prosody: Prosody, monkeypatch: pytest.MonkeyPatch, security: str) -> None:
    """Without a server, the DNS names the host and the port. The certificate has to be the domain's all the same."""

    async def body() -> None:
        async with name_server() as (names, resolver):
            (address,) = resolver.nameservers

            def of_test(loop: asyncio.AbstractEventLoop) -> aiodns.DNSResolver:
                return aiodns.DNSResolver([f"{address}:{resolver.port}"], loop=loop, tries=1, timeout=10)

            monkeypatch.setattr("slixmpp.xmlstream.xmlstream.default_resolver", of_test)
            names.services = {
                f"_xmpp-client._tcp.{DOMAIN}": ("host.example", prosody.port),
                f"_xmpps-client._tcp.{DOMAIN}": ("host.example", prosody.tls_port),
            }
            names.addresses["host.example"] = ["127.0.0.1"]
            async with person(prosody) as alice:
                assert await send(settings(prosody, security=security, server="", port=None)) == Delivered()
                await wait_for_async(lambda: alice.received, "it arrives")
            asked = {name for kind, name in names.asked if kind == "SRV"}
            assert asked == {f"_xmpp{'s' if security == 'tls' else ''}-client._tcp.{DOMAIN}"}

    asyncio.run(body())


def test_nothing_listens(own: Prosody) -> None:
    """The reason for a failed connection is that of the system."""
    own.stop()
    assert later(asyncio.run(send(settings(own)))) == f"{DOMAIN}: the connection: Connection refused"
    assert "the connection: " in later(asyncio.run(send(settings(own, server="name.invalid"))))


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_wrong_port(prosody: Prosody, security: str) -> None:
    """The port of the other kind of encryption is found out in time."""
    port = prosody.port if security == "tls" else prosody.tls_port
    assert later(asyncio.run(send(settings(prosody, security=security, port=port), limit_s=LIMIT_S))).startswith(
        f"{DOMAIN}: the "
    )


# Servers that no prosody would be

OPEN = (
    "<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'"
    f" id='1' from='{DOMAIN}' version='1.0'>"
)
SASL = "xmlns='urn:ietf:params:xml:ns:xmpp-sasl'"


@asynccontextmanager
async def scripted(answers: Sequence[str], context: Any = None) -> AsyncIterator[tuple[int, list[str]]]:
    """Serve connections that answer each thing that arrives with the next text; yield the port and what has arrived."""
    said: list[str] = []
    open_: set[asyncio.StreamWriter] = set()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_.add(writer)
        with suppress(OSError):
            for answer in answers:
                said.append((await reader.read(65536)).decode())
                writer.write(answer.encode())
                await writer.drain()
            while text := await reader.read(65536):
                said.append(text.decode())
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
        open_.discard(writer)

    server = await asyncio.start_server(talk, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1], said
        await wait_for_async(lambda: not open_, "the connections are closed")


def met(found: XmppSettings, answers: Sequence[str], context: Any = None) -> tuple[str, str]:
    """Send to a server that follows a script; return why that failed, and what the server got."""

    async def body() -> tuple[str, str]:
        async with scripted(answers, context) as (port, said):
            reason = later(await send(XmppSettings(**{**as_keys(found), "port": port}), limit_s=LIMIT_S))
            return reason, "".join(said)

    return asyncio.run(body())


def as_keys(found: XmppSettings) -> dict[str, Any]:
    """Return settings as arguments."""
    return {name: getattr(found, name) for name in found.__struct_fields__}


FEATURES = "<stream:features>{}</stream:features>"
BIND, STREAMS = "xmlns='urn:ietf:params:xml:ns:xmpp-bind'", "xmlns='urn:ietf:params:xml:ns:xmpp-streams'"
MECHANISM = f"<mechanisms {SASL}><mechanism>{{}}</mechanism></mechanisms>"


@pytest.mark.parametrize(
    ("answers", "says"),
    [
        ([OPEN + FEATURES.format(MECHANISM.format("PLAIN"))], "the server offers no STARTTLS"),
        ([OPEN + FEATURES.format(MECHANISM.format("SCRAM-SHA-1"))], "the server offers no STARTTLS"),
        (
            [OPEN + FEATURES.format(f"<bind {BIND}/>"), f"<iq type='result' id='ID'><bind {BIND}><jid>a@b/c</jid></bind></iq>"],
            "a session without TLS and login",
        ),
        (
            [OPEN + f"<stream:error><see-other-host {STREAMS}>evil.test</see-other-host></stream:error>"],
            "the server ended the connection (see-other-host); set server to that host",
        ),
        ([OPEN + "<stream:features>" + "x" * (1 << 21)], "the server's answer is too long"),
        (["<" * (1 << 21)], "the "),
        (["hello\n"], "the "),
        ([""], "no answer to the stream within 3 s"),
        ([OPEN + "</stream:stream>"], "the stream: the server closed the connection"),
    ],
    ids=["PLAIN", "SCRAM", "no login", "other host", "endless", "no XML", "no stream", "silence", "end"],
)  # fmt: skip
def test_before_tls(prosody: Prosody, monkeypatch: pytest.MonkeyPatch, answers: list[str], says: str) -> None:
    """Nobody on the way gets a password or a message, nor another server's certificate accepted, nor memory without end."""
    monkeypatch.setattr("slixmpp.ClientXMPP.new_id", lambda _self: "ID")
    reason, got = met(settings(prosody), answers)
    assert says in reason
    assert "evil" not in reason
    assert "<auth" not in got
    assert "Carol" not in got


def test_scram_without_end(prosody: Prosody, tmp_path: Path) -> None:
    """A server that asks for a computation of hours is refused at once."""
    authority = trustme.CA()
    challenge = base64.b64encode(b"r=x,s=c2FsdA==,i=2000000000").decode()
    answers = [OPEN + FEATURES.format(MECHANISM.format("SCRAM-SHA-256")), f"<challenge {SASL}>{challenge}</challenge>"]
    found = settings(prosody, security="tls", ca_file=ca_file(authority, tmp_path))
    reason, _ = met(found, answers, server_context(authority, DOMAIN))
    assert "the server wants 2000000000 rounds of SCRAM" in reason


@pytest.mark.parametrize("shape", ["{}", "{base64}", "PLAIN {plain}"])
def test_a_password_that_comes_back(prosody: Prosody, tmp_path: Path, shape: str) -> None:
    """A server that repeats the password does not get it into a report."""
    authority = trustme.CA()
    plain = base64.b64encode(f"\0sshbell\0{PASSWORD}".encode()).decode()
    text = shape.format(PASSWORD, base64=base64.b64encode(PASSWORD.encode()).decode(), plain=plain)
    fault = f"<stream:error><not-authorized {STREAMS}/><text {STREAMS}>{text}</text></stream:error>"
    answers = [OPEN + FEATURES.format(MECHANISM.format("PLAIN")), fault]
    found = settings(prosody, security="tls", ca_file=ca_file(authority, tmp_path))
    reason, got = met(found, answers, server_context(authority, DOMAIN))
    assert plain in got
    assert "not-authorized: " in reason
    assert "***" in reason
    assert PASSWORD not in reason
    assert plain not in reason
