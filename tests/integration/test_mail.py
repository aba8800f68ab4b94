"""The mail channel against real servers: TLS, passwords, and servers that misbehave in every state."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
import warnings
from contextlib import asynccontextmanager
from email import message_from_bytes
from email.policy import SMTPUTF8
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import msgspec
import pytest
import trustme
from aiosmtpd.smtp import SMTP

from consumer.channel_settings import EmailSettings, OAuth2
from consumer.config_values import Secret
from consumer.deliver.channels import Delivered, Message, Rejected, RetryLater, SendResult
from consumer.deliver.channels.email import Email, _bytes_of
from tests.integration.mail_server import (
    CLOSE,
    CUT,
    EHLO,
    GO_ON,
    GREETING,
    HANG,
    OK,
    PASSWORD,
    Inbox,
    authenticator,
    ca_file,
    content_of,
    listening,
    scripted,
    server_context,
)
from tests.mailboxes import TAKEN
from tests.waiting import wait_for_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Iterator
    from pathlib import Path

MESSAGE = Message("a" * 32, "alice logged in to web1 from 192.0.2.7", "text\n", "<p>text</p>\n")
PLAIN_ENOUGH = 0.3


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Return a throw-away authority."""
    return trustme.CA()


def settings(port: int, **more: Any) -> EmailSettings:
    """Return a channel to a server on loopback."""
    known: dict[str, Any] = {
        "name": "ops",
        "security": "none",
        "server": "127.0.0.1",
        "to": ["ops@example.org"],
        "sender": "sshbell@example.org",
    }
    return EmailSettings(port=port, **(known | more))


def sent(found: Awaitable[SendResult]) -> SendResult:
    """Run to the result."""

    async def wait() -> SendResult:
        return await found

    return asyncio.run(wait())


@asynccontextmanager
async def channel(found: EmailSettings, *, limit_s: float = 20.0, idle_s: float = 5.0) -> AsyncIterator[Email]:
    """Yield a channel, and close it."""
    made = Email(found, limit_s=limit_s, idle_s=idle_s)
    try:
        yield made
    finally:
        made.close()
        await asyncio.sleep(0)


async def send(found: EmailSettings, message: Message = MESSAGE, *, limit_s: float = 20.0) -> SendResult:
    """Send one message."""
    async with channel(found, limit_s=limit_s) as made:
        return await made.send(message)


def reason(result: SendResult) -> str:
    """Return why it has to be tried again."""
    assert isinstance(result, RetryLater)
    assert result.reason.isprintable()
    return result.reason


@pytest.mark.parametrize("length", [*range(55, 85), 200])
@pytest.mark.parametrize("letter", ["h", "ü"])
def test_folding(length: int, letter: str) -> None:
    """However long the first word of a subject and the channel's name are, subject and ids are what they were."""
    subject = f"{letter * length}@web1 from 2001:db8::1"
    made = Email(settings(25, name="n" * 63))._mail(Message("b" * 32, subject, "text", "<p>text</p>", thread="a" * 32))
    for encoding in ("ascii", "utf-8"):
        mail = message_from_bytes(_bytes_of(made, encoding), policy=SMTPUTF8)
        assert mail["Subject"] == subject
        raw = {name: value.replace("\r\n", "") for name, value in mail.raw_items()}
        assert raw["Message-ID"].strip() == f"<{'b' * 32}.{'n' * 63}@sshbell>"
        assert raw["References"].strip() == raw["In-Reply-To"].strip() == f"<{'a' * 32}.{'n' * 63}@sshbell>"
        assert all(len(line) < 998 for line in mail.as_bytes().split(b"\r\n"))


@pytest.mark.parametrize(
    ("begun", "rest"),
    [([], "220-x\r\n"), ([], "2"), ([GREETING], "250-x\r\n"), ([GREETING, EHLO, OK, OK, GO_ON], "250-x\r\n")],
    ids=["greeting", "no line", "EHLO", "DATA"],
)  # fmt: skip
def test_a_server_that_does_not_stop(begun: list[str], rest: str) -> None:
    """An answer without an end, in any state, is a fault of the server at once; nobody keeps it until the time is over."""

    async def body() -> SendResult:
        # Four times what a whole answer may have.
        async with scripted([*begun, (rest * (1 << 17))[: 1 << 17], HANG]) as (port, _):
            return await send(settings(port))

    assert "too long" in reason(asyncio.run(body()))


def test_message() -> None:
    """A message has its parts, an id of its own, and says that a program wrote it."""

    async def body() -> None:
        inbox = Inbox()
        async with listening(lambda: SMTP(inbox)) as port:
            late = Message("b" * 32, "Ünï", "grüße\n.\n", "<p>grüße</p>", thread="a" * 32, late="2 h")
            assert await send(settings(port, to=["Öps <ops@example.org>", "b@bücher.example"]), late) == Delivered()
        (mail,) = inbox.mails
        assert inbox.envelopes[0].rcpt_tos == ["ops@example.org", "b@xn--bcher-kva.example"]
        assert inbox.envelopes[0].mail_from == "sshbell@example.org"
        assert mail["Subject"] == "Ünï"
        assert mail["Message-ID"] == f"<{'b' * 32}.ops@sshbell>"
        assert mail["References"] == mail["In-Reply-To"] == f"<{'a' * 32}.ops@sshbell>"
        assert mail["Auto-Submitted"] == "auto-generated"
        assert mail["X-Sshbell-Late"] == "2 h"
        assert mail["Date"].datetime is not None
        assert mail["To"].addresses[0].display_name == "Öps"
        plain, html = mail.get_body(("plain",)), mail.get_body(("html",))
        assert plain is not None
        assert html is not None
        assert plain.get_content().replace("\r\n", "\n") == "grüße\n.\n"
        assert "grüße" in html.get_content()
        assert content_of(inbox.envelopes[0]).isascii()

    asyncio.run(body())


def test_addresses() -> None:
    """Whatever is taken for an address is sent to and from, in the envelope as in the header."""

    async def body() -> None:
        inbox = Inbox()
        async with listening(lambda: SMTP(inbox, enable_SMTPUTF8=True)) as port, channel(settings(port)) as made:
            for text in TAKEN:
                assert await made.send(msgspec.structs.replace(MESSAGE, recipients=(text,))) == Delivered(), text
            for text in TAKEN:
                async with channel(settings(port, sender=text, to=[text])) as own:
                    assert await own.send(MESSAGE) == Delivered(), text
        for number, (name, address) in enumerate([*TAKEN.values(), *TAKEN.values()]):
            envelope, mail = inbox.envelopes[number], inbox.mails[number]
            assert envelope.rcpt_tos == [address]
            assert envelope.mail_from == (address if number >= len(TAKEN) else "sshbell@example.org")
            (to,) = mail["To"].addresses
            if address.isascii():
                assert (to.display_name, to.addr_spec) == (name, address)
            else:
                assert address.encode() in content_of(envelope)
                assert "SMTPUTF8" in envelope.mail_options

    asyncio.run(body())


def test_no_address_of_this_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """The default sender is at this host's name; where that can be in no address it is said, and nothing is lost."""
    monkeypatch.setattr("socket.gethostname", lambda: "my host")
    assert "an address of the channel is not a mail address" in reason(sent(Email(settings(25, sender="")).send(MESSAGE)))


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_tls_and_password(authority: trustme.CA, tmp_path: Path, security: str) -> None:
    """With STARTTLS and with TLS from the start, the password goes over the checked connection only."""

    async def body() -> None:
        inbox = Inbox()
        context = server_context(authority)
        more = {"tls_context": context, "require_starttls": True} if security == "starttls" else {"auth_require_tls": False}
        secret = tmp_path / "password"
        secret.write_text(PASSWORD + "\n")
        secret.chmod(0o600)

        def make() -> SMTP:
            with warnings.catch_warnings():
                # It does not know that its socket is under TLS from the start.
                warnings.simplefilter("ignore", UserWarning)
                return SMTP(inbox, authenticator=authenticator, auth_required=True, **more)

        async with listening(make, context if security == "tls" else None) as port:
            known = {"security": security, "ca_file": ca_file(authority, tmp_path), "username": "bell"}
            assert await send(settings(port, password=Secret(file=str(secret)), **known)) == Delivered()
            secret.write_text("wrong")
            said = reason(await send(settings(port, password=Secret(file=str(secret)), **known)))
            assert "AUTH was answered 535" in said
            assert said.endswith("are username and password right?")
            assert "wrong" not in said
        assert len(inbox.mails) == 1
        assert inbox.sessions[0].authenticated

    asyncio.run(body())


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


SENT = _base64(f"\0bell\0{PASSWORD}")
PLAIN = "250-x\r\n250 AUTH PLAIN"


@pytest.mark.parametrize(
    ("answers", "says"),
    [
        ([PLAIN, f"535 5.7.8 unrecognized: AUTH PLAIN {SENT}"], "AUTH was answered 535;"),
        ([PLAIN, f"454-not now\r\n454 AUTH PLAIN {SENT}"], "AUTH was answered 454;"),
        ([PLAIN, f"500 wrong password {PASSWORD}"], "AUTH was answered 500;"),
        ([PLAIN, f"334 {SENT}"], "AUTH was answered 334;"),
        ([PLAIN, f"AUTH PLAIN {SENT}"], "AUTH was answered"),
        (["250-x\r\n250 AUTH LOGIN", "334 name", "334 word", f"535 {_base64(PASSWORD)}"], "AUTH was answered 535;"),
        # A server may keep it for later, and for another connection.
        ([PLAIN, "235 in", f"550 AUTH PLAIN {SENT}", OK], "MAIL was answered 550 AUTH PLAIN ***"),
        ([PLAIN, "235 in", OK, f"450 {_base64(PASSWORD)} {PASSWORD}", OK], "450 *** ***"),
        ([PLAIN, "235 in", OK, OK, GO_ON, f"451 {PASSWORD}", OK], "DATA was answered 451 ***"),
    ],
)  # fmt: skip
def test_a_server_that_repeats_the_password(answers: list[str], says: str) -> None:
    """A reason shows the code alone of an answer to AUTH, and no password out of any other answer."""

    async def body() -> None:
        async with scripted([GREETING, *answers]) as (port, _):
            found = settings(port, username="bell", password=Secret(command=["printf", "%s", PASSWORD]))
            async with channel(found) as mail:
                said = reason(await mail.send(MESSAGE))
            assert says in said
            assert not [form for form in (PASSWORD, _base64(PASSWORD), SENT) if form in said]

    asyncio.run(body())


def test_auth_login() -> None:
    """A server that offers LOGIN alone gets name and password as it asks for them."""

    async def body() -> None:
        answers = [GREETING, "250-x\r\n250 AUTH LOGIN", "334 VXNlcm5hbWU6", "334 UGFzc3dvcmQ6", "235 in", OK, OK, GO_ON, OK]
        async with scripted(answers) as (port, said):
            found = settings(port, username="bell", password=Secret(command=["printf", "%s", PASSWORD]))
            assert await send(found) == Delivered()
        assert said[1:4] == [
            b"AUTH LOGIN\r\n", base64.b64encode(b"bell") + b"\r\n", base64.b64encode(PASSWORD.encode()) + b"\r\n",
        ]  # fmt: skip

    asyncio.run(body())


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1"])
def test_certificates_are_checked(authority: trustme.CA, tmp_path: Path, name: str) -> None:
    """A server with an unknown authority, or another name, gets nothing, and the reason says so."""

    async def body() -> None:
        inbox = Inbox()
        async with listening(lambda: SMTP(inbox, tls_context=server_context(authority, name))) as port:
            known = {"ca_file": ca_file(authority, tmp_path)} if name == "localhost" else {}
            said = reason(await send(settings(port, security="starttls", **known)))
            assert "certificate is not trusted" in said
            assert "ca_file" in said
        assert inbox.mails == []

    asyncio.run(body())


def test_an_authority_that_was_wrong(authority: trustme.CA, tmp_path: Path) -> None:
    """A ca_file that is mended is believed at the next try; nothing has to be started anew."""

    async def body() -> None:
        inbox = Inbox()
        async with listening(lambda: SMTP(inbox, tls_context=server_context(authority, "127.0.0.1"))) as port:
            file = ca_file(trustme.CA(), tmp_path)
            async with channel(settings(port, security="starttls", ca_file=file)) as made:
                assert "certificate is not trusted" in reason(await made.send(MESSAGE))
                ca_file(authority, tmp_path)
                assert await made.send(MESSAGE) == Delivered()

    asyncio.run(body())


def test_no_starttls() -> None:
    """A server, or somebody between, that offers no STARTTLS gets nothing."""

    async def body() -> None:
        async with scripted([GREETING, EHLO, OK, OK]) as (port, said):
            text = reason(await send(settings(port, security="starttls")))
            assert "no STARTTLS" in text
            assert 'is security "tls"' in text
        assert len(said) == 1

    asyncio.run(body())


def test_no_login_in_clear() -> None:
    """A server that lets nobody log in before STARTTLS is no riddle."""

    async def body() -> None:
        async with scripted([GREETING, EHLO, OK, OK]) as (port, _):
            text = reason(await send(settings(port, username="bell", password=Secret(command=["printf", "%s", PASSWORD]))))
            assert "neither AUTH PLAIN nor AUTH LOGIN; many offer it after STARTTLS only" in text

    asyncio.run(body())


# How far a conversation gets before it goes wrong, and what is named in the reason.
STATES = [
    ([], "the connection"),
    ([GREETING], "EHLO"),
    ([GREETING, EHLO], "MAIL"),
    ([GREETING, EHLO, OK], "RCPT"),
    ([GREETING, EHLO, OK, OK], "DATA"),
    ([GREETING, EHLO, OK, OK, GO_ON], "DATA"),
]


@pytest.mark.parametrize(("before", "state"), STATES)
def test_hanging(before: list[str], state: str) -> None:
    """A server that says nothing more in whatever state costs the time limit, and no more; the reason names the state."""

    async def body() -> None:
        async with scripted([*before, HANG]) as (port, _):
            assert f"no answer to {state} within 0.3 s" in reason(await send(settings(port), limit_s=PLAIN_ENOUGH))

    asyncio.run(body())


def test_hanging_in_starttls() -> None:
    """The handshake has the time limit too."""

    async def body() -> None:
        for after in (["220 go", HANG], [HANG]):
            async with scripted([GREETING, "250-x\r\n250 STARTTLS", *after]) as (port, _):
                said = reason(await send(settings(port, security="starttls"), limit_s=PLAIN_ENOUGH))
                assert "no answer to STARTTLS" in said

    asyncio.run(body())


@pytest.mark.parametrize("end", [CLOSE, CUT])
@pytest.mark.parametrize(("before", "state"), STATES)
def test_closing(before: list[str], state: str, end: str) -> None:
    """A server that closes in whatever state is tried again later."""

    async def body() -> None:
        async with scripted([*before, end]) as (port, _):
            assert state in reason(await send(settings(port)))

    asyncio.run(body())


@pytest.mark.parametrize(("before", "state"), STATES)
def test_temporary(before: list[str], state: str) -> None:
    """4xx in whatever state is tried again later; only trouble with the message itself lets others pass."""

    async def body() -> None:
        async with scripted([*before, "451 4.3.0 not \x1b[31mnow", "250 reset"]) as (port, _):
            result = await send(settings(port))
            said = reason(result)
            assert "451" in said
            assert "not \\x1b[31mnow" in said
            assert isinstance(result, RetryLater)
            assert result.alone == (state == "DATA")

    asyncio.run(body())


@pytest.mark.parametrize(("before", "state"), STATES)
def test_permanent(before: list[str], state: str) -> None:
    """5xx about recipient or message ends in the dead letters; anywhere else it is for the administrator to mend."""

    async def body() -> None:
        answers = [*before, "550 5.1.1 no", "550 no", "250 reset"] if state == "EHLO" else [*before, "550 5.1.1 no", "250 reset"]
        async with scripted(answers) as (port, _):
            result = await send(settings(port))
            assert isinstance(result, Rejected if state in {"RCPT", "DATA"} else RetryLater)
            assert "550" in result.reason

    asyncio.run(body())


def test_nobody_listens() -> None:
    """A port on which nobody listens is tried again later; a name that does not exist too."""

    async def body() -> None:
        async with scripted([]) as (port, _):
            pass
        assert "Connection refused" in reason(await send(settings(port)))
        assert reason(await send(settings(port, server="no-such-host.invalid")))

    asyncio.run(body())


def test_several_servers() -> None:
    """The next server gets what the first does not take; one that hangs takes its share of the time only."""

    async def body() -> None:
        inbox = Inbox()
        async with listening(lambda: SMTP(inbox)) as port:
            # Nobody listens on the same port of the first.
            assert await send(settings(port, server=["127.0.0.9", "127.0.0.1"])) == Delivered()
        assert len(inbox.mails) == 1

    asyncio.run(body())


def test_some_recipients() -> None:
    """Who is refused for good does not keep others from it; who is refused for now gets it later, and others not twice."""

    async def body() -> None:
        inbox = Inbox()
        inbox.refused = {"gone@example.org": "550 gone", "full@example.org": "452 full"}
        async with listening(lambda: SMTP(inbox)) as port:
            both = settings(port, to=["ops@example.org", "gone@example.org"])
            result = await send(both)
            assert isinstance(result, Delivered)
            assert "gone@example.org was refused: 550 gone" in result.note
            async with channel(settings(port, to=["ops@example.org", "full@example.org"])) as made:
                first = await made.send(MESSAGE)
                assert "full@example.org: 452 full" in reason(first)
                assert isinstance(first, RetryLater)
                assert first.alone
                inbox.refused.clear()
                assert await made.send(MESSAGE) == Delivered()
        assert [envelope.rcpt_tos for envelope in inbox.envelopes[1:]] == [["ops@example.org"], ["full@example.org"]]

    asyncio.run(body())


def test_burst_uses_one_connection() -> None:
    """Messages that follow each other share a connection; one that the server has closed meanwhile is made anew."""

    async def body() -> None:
        inbox = Inbox()
        made = 0
        servers: list[SMTP] = []

        def make() -> SMTP:
            nonlocal made
            made += 1
            servers.append(SMTP(inbox))
            return servers[-1]

        async with listening(make) as port, channel(settings(port)) as mail:
            for _ in range(5):
                assert await mail.send(MESSAGE) == Delivered()
            assert made == 1
            assert servers[0].transport is not None
            servers[0].transport.close()
            assert await mail.send(MESSAGE) == Delivered()
            assert made == 2
        assert len(inbox.mails) == 6

    asyncio.run(body())


def test_idle_connection_is_closed() -> None:
    """A connection that nobody needs any more is closed, politely."""

    async def body() -> None:
        async with scripted([GREETING, EHLO, OK, OK, GO_ON, OK, "221 bye"]) as (port, said):  # noqa: SIM117 - of the port
            async with channel(settings(port), idle_s=0.01) as mail:
                assert await mail.send(MESSAGE) == Delivered()
                await wait_for_async(lambda: said[-1] == b"QUIT\r\n", "the channel takes its leave")

    asyncio.run(body())


def test_internationalised_names() -> None:
    """A recipient whose name is not ASCII is sent with SMTPUTF8, or not at all where the server has none."""

    async def body() -> None:
        inbox = Inbox()
        async with listening(lambda: SMTP(inbox, enable_SMTPUTF8=True)) as port:
            assert await send(settings(port, to=["jürgen@bücher.example"])) == Delivered()
        assert inbox.envelopes[0].rcpt_tos == ["jürgen@xn--bcher-kva.example"]
        assert "SMTPUTF8" in inbox.envelopes[0].mail_options
        async with scripted([GREETING, EHLO, OK]) as (port, _):
            assert "no SMTPUTF8" in reason(await send(settings(port, to=["jürgen@example.org"])))

    asyncio.run(body())


class _Tokens(BaseHTTPRequestHandler):
    """Gives a new token to whoever has the refresh token."""

    asked: list[dict[str, list[str]]]

    def do_POST(self) -> None:
        """Answer as RFC 6749, section 6."""
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self.asked.append(form)
        good = form["refresh_token"] == ["refresh"]
        answer = {"access_token": f"token{len(self.asked)}", "expires_in": 3600} if good else {"error": "invalid_grant"}
        self.send_response(200 if good else 400)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def tokens() -> Iterator[tuple[str, list[dict[str, list[str]]]]]:
    """Run a token server; yield its address and what it was asked."""
    _Tokens.asked = []
    server = HTTPServer(("127.0.0.1", 0), _Tokens)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/token", _Tokens.asked
    server.shutdown()
    thread.join()
    server.server_close()


def test_xoauth2(tokens: tuple[str, list[dict[str, list[str]]]], monkeypatch: pytest.MonkeyPatch) -> None:
    """XOAUTH2 takes an access token, keeps it while it is good, and gets another where the server refuses it."""
    url, asked = tokens
    monkeypatch.setenv("BELL_REFRESH", "refresh")
    account = OAuth2(token_url=url, client_id="bell", refresh_token=Secret(env="BELL_REFRESH"))
    offers = "250-x\r\n250 AUTH XOAUTH2"

    async def body() -> None:
        async with scripted([GREETING, offers, "235 in", OK, OK, GO_ON, OK]) as (port, said):
            async with channel(settings(port, username="bell@example.org", oauth2=account)) as mail:
                assert await mail.send(MESSAGE) == Delivered()
                mail._drop()
                assert await mail.send(MESSAGE) == Delivered()
            assert len(asked) == 1
            _, _, first = said[1].split()
            assert base64.b64decode(first) == b"user=bell@example.org\x01auth=Bearer token1\x01\x01"
        async with scripted([GREETING, offers, "334 eyJzdGF0dXMiOiI0MDEifQ==", "535 old token"]) as (port, said):
            async with channel(settings(port, username="bell@example.org", oauth2=account)) as mail:
                for _ in range(2):
                    assert "AUTH was answered 535; are username and oauth2 right?" in reason(await mail.send(MESSAGE))
            assert len(asked) == 3

    asyncio.run(body())


def test_a_server_that_repeats_the_token(tokens: tuple[str, list[dict[str, list[str]]]], monkeypatch: pytest.MonkeyPatch) -> None:
    """A server's answers to XOAUTH2, questions in base64 included, and later ones show no token."""
    url, _ = tokens
    monkeypatch.setenv("BELL_REFRESH", "refresh")
    account = OAuth2(token_url=url, client_id="bell", refresh_token=Secret(env="BELL_REFRESH"))
    sent_form = _base64("user=bell\1auth=Bearer token1\1\1")
    begun = [GREETING, "250-x\r\n250 AUTH XOAUTH2"]
    challenge = f"334 {_base64(json.dumps({'status': '400', 'token': 'token1'}))}"

    async def body(*answers: str) -> str:
        async with scripted([*begun, *answers]) as (port, _):
            return reason(await send(settings(port, username="bell", oauth2=account)))

    for answers in ([challenge, f"535 token1 {sent_form}"], [challenge, challenge], ["235 in", f"550 token1 {sent_form}", OK]):
        _Tokens.asked.clear()
        said = asyncio.run(body(*answers))
        assert not [form for form in ("token1", sent_form, challenge[4:], _base64("token1")) if form in said]


def test_no_token(tokens: tuple[str, list[dict[str, list[str]]]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a token nothing is sent; the reason names the error, and no secret."""
    url, _ = tokens
    monkeypatch.setenv("BELL_REFRESH", "stale-secret")
    account = OAuth2(token_url=url, client_id="bell", refresh_token=Secret(env="BELL_REFRESH"))

    async def body() -> None:
        async with scripted([GREETING, "250-x\r\n250 AUTH XOAUTH2"]) as (port, _):
            said = reason(await send(settings(port, username="bell@example.org", oauth2=account)))
            assert said.startswith("no access token from 127.0.0.1:")
            assert said.endswith("400 invalid_grant")
            assert "stale-secret" not in said

    asyncio.run(body())


def test_check() -> None:
    """A check goes as far as a server that would take mail, and sends none."""

    async def body() -> None:
        async with scripted([GREETING, EHLO, "221 bye"]) as (port, said):
            async with channel(settings(port)) as mail:
                assert await mail.check() == Delivered()
            assert [line.split()[0] for line in said] == [b"EHLO"]

    asyncio.run(body())
