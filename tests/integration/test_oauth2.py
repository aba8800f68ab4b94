"""Access tokens from servers that trickle, lie or repeat secrets: they cost the token of their own channel, and nothing else."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from consumer.channel_settings import EmailSettings, OAuth2
from consumer.config_values import Secret
from consumer.deliver import oauth2
from consumer.deliver.channels import Delivered, Message
from consumer.deliver.channels.email import Email
from consumer.deliver.oauth2 import AccessToken
from consumer.errors import SecretError
from consumer.process.threads import run_async
from tests.integration.mail_server import GO_ON, GREETING, OK, scripted
from tests.integration.test_deliver import login, record
from tests.integration.token_server import answering
from tests.waiting import DEADLINE_S, wait_for, wait_for_async

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.site import Site

HIDDEN = "t0p-s3cret"
MESSAGE = Message("a" * 32, "alice@web1 from 192.0.2.7 (publickey)", "text\n", "<p>text</p>\n")
HEAD = b"HTTP/1.1 200 OK\r\n"
GRANTED = b'{"access_token": "token", "expires_in": "3600"}'
# What is said of an answer that is none.
CUT = "its answer is cut, too long or not HTTP"
# Where a server may begin to trickle.
TRICKLES = {
    "greeting": (b"HTTP/1.1 200 ", b"O"),
    "head": (HEAD + b"X: ", b"x"),
    "interim": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "body": (HEAD + b"Content-Length: 60000\r\n\r\n", b" "),
    "chunk": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    "rest": (HEAD + b"\r\n", b" "),
}


def account(url: str) -> OAuth2:
    """Return an account whose refresh token is ``HIDDEN``."""
    return OAuth2(token_url=url, client_id="bell", refresh_token=Secret(command=["printf", HIDDEN]))


def fault(answer: bytes, drip: bytes = b"") -> str:
    """Return why there is no token, which holds nothing of the refresh token."""
    with answering(answer, drip=drip) as server, pytest.raises(SecretError) as raised:
        run_async(AccessToken(account(server.url)).get())
    assert HIDDEN not in f"{raised.value} {raised.value.__cause__!r} {raised.value.__context__!r}"
    text, said = str(raised.value).split(": ", 1)
    assert text.startswith("no access token from 127.0.0.1:")
    return said


@pytest.mark.parametrize("where", TRICKLES)
def test_total_deadline(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that never falls silent, and never ends, has no more time than one that says nothing."""
    monkeypatch.setattr(oauth2, "TOKEN_LIMIT_S", 0.3)
    assert fault(*TRICKLES[where]) == "no answer within 0.3 s"


@pytest.mark.parametrize(
    "answer",
    [
        HEAD + b"Content-Length: 47\r\n\r\n" + GRANTED,
        HEAD + b"Content-Type: application/json\r\n\r\n" + GRANTED,
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nA;x=y\r\n" + GRANTED[:10] + b"\r\n25\r\n" + GRANTED[10:] + b"\r\n0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 200\r\n\r\n" + GRANTED,
    ],
    ids=["length", "to the end", "chunked", "interim"],
)
def test_token(answer: bytes) -> None:
    """However HTTP marks its end, the token is read, and kept while it is good."""
    with answering(answer) as server:
        token = AccessToken(account(server.url))

        async def body() -> list[str]:
            return [await token.get() for _ in range(3)]

        assert run_async(body()) == ["token"] * 3
    (said,) = server.asked
    assert said.startswith(b"POST /token HTTP/1.1\r\nHost: 127.0.0.1:")
    assert said.endswith(f"grant_type=refresh_token&client_id=bell&refresh_token={HIDDEN}".encode())


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"", "the connection broke"),
        (b"SSH-2.0-OpenSSH_9.9\r\n\r\n", CUT),
        (HIDDEN.encode() + b"\r\n\r\n", CUT),
        (b"HTTP/1.1 \r\n\r\n", CUT),
        (HEAD + b"X: 1\r\n" * 20_000, CUT),
        (HEAD + b"X: 1\r\n" * 200 + b"\r\n" + b"{}", CUT),
        (HEAD + b"Content-Length: 1000000000\r\n\r\n", CUT),
        (HEAD + b"Content-Length: -1\r\n\r\n", CUT),
        (HEAD + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n", CUT),
        (HEAD + b"Content-Length: 100\r\n\r\n{}", CUT),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\nffffffffff\r\n", CUT),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\nx\r\n", CUT),
        (HEAD + b"\r\n" + b" " * 100_000, CUT),
        (HEAD + b"\r\n" + b"[" * 60_000, "its answer contains no access token"),
        (HEAD + b"\r\n" + b'{"access_token": "a", "x": ' + b"[" * 60_000, "its answer contains no access token"),
        (HEAD + b"\r\n" + b'{"access_token": 1}', "its answer contains no access token"),
        (HEAD + b"\r\n" + b'{"access_token": "a\\nb"}', "its answer contains no access token"),
        (HEAD + b"\r\n" + b'{"access_token": "\\ud800"}', "its answer contains no access token"),
        (HEAD + b"\r\n" + b'{"access_token": "a", "expires_in": "soon"}', "its answer contains no access token"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n", "302"),
        (b"HTTP/1.1 400 x\r\n\r\n" + json.dumps({"error": "invalid_grant"}).encode(), "400 invalid_grant"),
        (b"HTTP/1.1 400 x\r\n\r\n" + json.dumps({"error": f"refresh_token={HIDDEN}"}).encode(), "400"),
        (b"HTTP/1.1 400 " + HIDDEN.encode() + b"\r\n\r\n" + b"[" * 60_000, "400"),
    ],
    ids=lambda value: repr(value)[:60],  # the environment holds the id, and has to stay small
)  # fmt: skip
def test_what_is_no_token(answer: bytes, says: str) -> None:
    """Whatever a server answers is a fault in one line, without the form that it may repeat."""
    assert fault(answer) == says


@pytest.mark.parametrize("expires_in", ["-1", "1e400", '"nan"', '"inf"'])
def test_life(expires_in: str) -> None:
    """However long a token is said to live, it is had."""
    with answering(HEAD + b'\r\n{"access_token": "token", "expires_in": ' + expires_in.encode() + b"}") as server:
        token = AccessToken(account(server.url))
        try:
            assert run_async(token.get()) == "token"
        except SecretError as error:
            assert "no access token" in str(error)  # noqa: PT017 - a number that JSON cannot hold


def settings(port: int, **keys: Any) -> EmailSettings:
    """Return a channel to a server on loopback."""
    known = {"name": "ops", "security": "none", "server": "127.0.0.1", "to": ["ops@example.org"], "sender": "bell@example.org"}
    return EmailSettings(port=port, **(known | {"username": "bell"} | keys))


def test_beside_servers_that_trickle(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many channels wait for their tokens, one that needs a password reads it and sends."""
    monkeypatch.setattr(oauth2, "TOKEN_LIMIT_S", DEADLINE_S)

    async def body(url: str, asked: list[bytes]) -> None:
        async with (
            scripted([GREETING, "250-x\r\n250 AUTH XOAUTH2", "235 in", OK, OK, GO_ON, OK]) as (slow, _),
            scripted([GREETING, "250-x\r\n250 AUTH PLAIN", "235 in", OK, OK, GO_ON, OK]) as (port, _),
        ):
            # More than the pool has that asyncio shares among all.
            held = [Email(settings(slow, oauth2=account(url)), limit_s=DEADLINE_S) for _ in range(40)]
            tasks = [asyncio.create_task(channel.send(MESSAGE)) for channel in held]
            await wait_for_async(lambda: len(asked) >= 2, "two that wait")
            healthy = Email(settings(port, password=Secret(command=["printf", "x"])), limit_s=DEADLINE_S / 2)
            assert await healthy.send(MESSAGE) == Delivered()
            assert not any(task.done() for task in tasks)
            healthy.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    with answering(*TRICKLES["head"][:1], drip=b"x") as server:
        run_async(body(server.url, server.asked))


def test_the_end_of_deliver(site: Site) -> None:
    """While it waits for a token that never comes, the end of its parent is its own."""
    with answering(HEAD + b"X: ", drip=b"x") as server:
        oauth = {"token_url": server.url, "client_id": "bell", "refresh_token": {"command": ["printf", "x"]}}

        async def body() -> None:
            async with scripted([GREETING, "250-x\r\n250 AUTH XOAUTH2", "221 bye"]) as (port, _):
                site.configure(channel=site.channels(port=port, username="bell", oauth2=oauth))
                process, wake = site.start_deliver()
                with wake, site.state() as state:
                    record(state, login(1))
                    wake.send(b"x")
                    await wait_for_async(lambda: server.asked, "a token that is asked for")
                await wait_for_async(lambda: process.poll() is not None, "the end")
                assert process.returncode == 0

        asyncio.run(body())


def test_the_end_of_deliver_ends_commands(site: Site, tmp_path: Path) -> None:
    """A command that prints a secret, and hangs, ends with deliver."""
    note = tmp_path / "pid"
    script = f"echo $$ > {note}.new; mv {note}.new {note}; sleep 1000"

    async def body() -> None:
        async with scripted([GREETING, "250-x\r\n250 AUTH PLAIN", "221 bye"]) as (port, _):
            site.configure(channel=site.channels(port=port, username="bell", password={"command": ["sh", "-c", script]}))
            process, wake = site.start_deliver()
            with wake, site.state() as state:
                record(state, login(1))
                wake.send(b"x")
                await wait_for_async(note.exists, "the command")
            await wait_for_async(lambda: process.poll() is not None, "the end")
            assert process.returncode == 0

    asyncio.run(body())
    wait_for(lambda: not _lives(int(note.read_text())), "the end of the command")


def _lives(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123
            return file.read().rpartition(b") ")[2][:1] != b"Z"
    except OSError:
        return False
