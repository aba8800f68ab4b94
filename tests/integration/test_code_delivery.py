"""One-time codes through the real process ``deliver`` and every type of channel, and where a code must never be."""

from __future__ import annotations

import asyncio
import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
import tomllib
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from consumer.clock import SECOND_US
from consumer.code_bounds import TIMEOUT_LIMIT_S
from consumer.codes.client import MARGIN_S, send_code
from consumer.codes.messages import REQUEST_LIMIT, CodeAnswer, CodeRequest, code_answer_of, line_of
from consumer.deliver.code_socket import CODE_CLIENT_LIMIT, CODE_REQUEST_LIMIT_S
from consumer.deliver.codes import CODES_LIMIT
from consumer.events import Login
from consumer.state_dir import DELIVER_SOCKET
from tests import needs
from tests.databases import ADDRESS, LYON, made
from tests.documents import blocks
from tests.integration.chat_server import ALICE, BOB, ROOM, Prosody, chat_channel, person
from tests.integration.http_server import HttpServer, as_service
from tests.integration.mail_server import content_of
from tests.integration.site import PROJECT_DIR, Site
from tests.lines import line_of as line_of_log
from tests.service_limits import JUDGES, texts_in
from tests.store_events import session_lines
from tests.waiting import DEADLINE_S, wait_for, wait_for_async

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.integration.mail_server import Post

CODE, SESSION = "83120975", "482913"
HOSTILE = 'a"},{"b":"</td><script>alert(1)</script> {{ code }} @everyone <!channel> *x* `y` \x1b[31m\u202e'
NOBODY = 65534
TOKEN = "T0SECRET-XYZZY-b0ttom"  # noqa: S105 - of no service
# A request with everything in it.
REQUEST = CodeRequest(
    SESSION, CODE, "alice", "web1", "203.0.113.7", destination="198.51.100.4", method="publickey", channels=("ops",),
    emergency_left=3, timeout_s=TIMEOUT_LIMIT_S,
)  # fmt: skip


@pytest.fixture
def server() -> Iterator[HttpServer]:
    """Return a web server that accepts everything."""
    with HttpServer() as made_server:
        yield made_server


def web_channel(site: Site, url: str, kind: str, name: str = "ops", **keys: Any) -> dict[str, Any]:
    """Return a channel whose URL is in a file."""
    place = site.folder / f"{name}.url"
    place.write_text(f"{url}\n")
    place.chmod(0o600)
    return {"name": name, "type": kind, "url": {"file": str(place)}} | keys


def started(site: Site, *channels: dict[str, Any], **keys: Any) -> tuple[Any, socket.socket]:
    """Configure and start ``deliver``; wait for its socket. Only root may ask it for a code."""
    needs.root("ask for a code")
    site.configure(channel=list(channels), **keys)
    process, wake = site.start_deliver()
    wait_for(lambda: site.said("delivering"), "deliver listens")
    return process, wake


def ask(site: Site, **fields: Any) -> CodeAnswer:
    """Have a code sent, as the command for PAM does."""
    return send_code(str(site.state_dir), REQUEST._replace(**fields))


def places_with(folder: Path, text: str) -> list[str]:
    """Return the files below a folder that contain a text."""
    found = []
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):  # SQLite deletes files of its own while we look
            if path.is_file() and text.encode() in path.read_bytes():
                found.append(str(path))
    return found


def assert_nowhere(site: Site, process: Any) -> None:
    """Look for the code in all files of sshbell, its log, and what others see of its process."""
    assert (site.folder / "deliver.log").stat().st_size
    assert places_with(site.folder, SESSION)  # the search finds what is there: the log has the number of the session
    assert places_with(site.folder, CODE) == []
    for name in ("cmdline", "environ", "comm"):
        with open(f"/proc/{process.pid}/{name}", "rb") as file:  # noqa: PTH123 - not a Path of ours
            assert CODE.encode() not in file.read()


def test_mail(site: Site, post: Post) -> None:
    """A mail shows code, session, user, host, address, validity and emergency codes; its subject, which servers log, no code."""
    process, _wake = started(site, *site.channels())
    assert ask(site) == CodeAnswer(channel="ops")
    (mail,) = post.inbox.mails
    assert mail["Subject"] == f"Code for session {SESSION}: alice on web1"
    assert mail["To"] == "ops@example.org"
    plain, html = (part.get_content().replace("\r", "") for part in mail.iter_parts())
    for text in (CODE, SESSION, "alice", "web1", "203.0.113.7", "198.51.100.4", "publickey", "5 min", "3 left"):
        assert text in plain
        assert text in html
    assert plain.startswith(f"{CODE} is the code for session {SESSION}.\n")
    assert f"Type it only if the prompt shows session {SESSION}." in plain
    assert_nowhere(site, process)


def test_many_codes(site: Site, post: Post) -> None:
    """The report of a burst has the number of the prompts, and no code."""
    started(site, *site.channels(language="de"), *site.channels("en"))
    assert ask(site, code="", prompts=6, channels=("ops",)) == CodeAnswer(channel="ops")
    assert ask(site, code="", prompts=6, channels=("en",)) == CodeAnswer(channel="en")
    german, english = post.inbox.mails
    assert german["Subject"] == "VIELE CODES für alice auf web1"
    assert english["Subject"] == "MANY CODES for alice on web1"
    text = next(english.iter_parts()).get_content()
    assert "Somebody from 203.0.113.7 has asked for 6 codes for alice on web1." in " ".join(text.split())
    assert SESSION not in text


SERVICES: dict[str, tuple[str, dict[str, Any]]] = {
    "slack": (f"/services/{TOKEN}", {}),
    "teams": (f"/workflows/x?sig={TOKEN}", {}),
    "discord": (f"/api/webhooks/1/{TOKEN}", {}),
    "telegram": (f"/bot{TOKEN}/sendMessage", {"chat_id": -100}),
    "ntfy": (f"/{TOKEN}", {}),
}


@pytest.mark.parametrize("user", ["alice", HOSTILE], ids=["alice", "hostile"])
@pytest.mark.parametrize("kind", SERVICES)
def test_web_services(site: Site, server: HttpServer, kind: str, user: str) -> None:
    """Each service gets what it accepts, with code and session, whatever the user's name is."""
    path, more = SERVICES[kind]
    server.handler = as_service(kind)
    process, _wake = started(site, web_channel(site, server.url(path), kind, **more))
    assert ask(site, user=user) == CodeAnswer(channel="ops")
    (request,) = server.requests
    text = json.dumps(json.loads(request.body), ensure_ascii=False)
    assert CODE in text
    assert SESSION in text
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert_nowhere(site, process)


# The examples of the page about codes, by service.
EXAMPLES = {
    str(tables["channel"][0]["name"]): tables
    for tables in (tomllib.loads(block.text) for block in blocks(PROJECT_DIR / "docs/codes.md", "toml"))
    if "codes" in tables and "channel" in tables
}


@pytest.mark.parametrize("name", ["slack", "teams", "discord", "mattermost"])
def test_worked_examples(site: Site, server: HttpServer, name: str) -> None:
    """The examples of the documentation send a code that the service accepts."""
    tables = EXAMPLES[name]
    channel = tables["channel"][0]
    path = SERVICES.get(name, ("/hooks/x", {}))[0]
    channel |= web_channel(site, server.url(path), channel["type"], name)
    server.handler = as_service(name)
    process, _wake = started(site, *tables["channel"], codes=tables["codes"])
    assert ask(site, channels=tuple(tables["codes"]["channels"])) == CodeAnswer(channel=name)
    (request,) = server.requests
    assert request.path == path
    assert name not in JUDGES or JUDGES[name](json.loads(request.body)) == ""
    texts = " ".join(texts_in(json.loads(request.body)))
    for text in (CODE, SESSION, "alice"):
        assert text in texts
    assert_nowhere(site, process)


# The samples of webhookpam's own users: a template for each service.
WEBHOOKPAM = {
    "slack": '{"text": "SSH code for session PUBLIC_CODE of USERNAME@HOSTNAME from SOURCE_IP: PRIVATE_CODE"}',
    "teams": json.dumps({"type": "message", "attachments": [{"contentType": "application/vnd.microsoft.card.adaptive",
             "contentUrl": None, "content": {"$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
             "type": "AdaptiveCard", "version": "1.4", "body": [{"type": "TextBlock", "text":
             "Session PUBLIC_CODE of USERNAME: PRIVATE_CODE ; AUTH_METHOD"}]}}]}),
    "discord": '{"content": "PUBLIC_CODE: PRIVATE_CODE for USERNAME at DESTINATION_IP", "allowed_mentions": {"parse": []}}',
}  # fmt: skip


@pytest.mark.parametrize("name", WEBHOOKPAM)
def test_templates_of_webhookpam(site: Site, server: HttpServer, name: str) -> None:
    """A file of webhookpam becomes a channel that sends its JSON, whatever the user's name is; its URL is printed nowhere."""
    path = SERVICES[name][0]
    ini = site.folder / "webhookpam.ini"
    ini.write_text(
        "[general]\nsecret_code_size=8\npublic_code_size=6\nauthfail_on_httpfail=no\n[webhook]\n"
        f"url={server.url(path)}\njson_data={WEBHOOKPAM[name]}\ntimeout_seconds=10\n"
    )
    folder = site.folder / "secrets"
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "consumer", "import", "webhookpam", ini, "--secrets", folder], cwd=PROJECT_DIR, env=site.env,
        capture_output=True, text=True, check=True, timeout=DEADLINE_S,
    )  # fmt: skip
    assert TOKEN not in done.stdout + done.stderr
    tables = tomllib.loads(done.stdout)
    process, _wake = started(site, *tables["channel"], codes=tables["codes"])
    assert ask(site, user=HOSTILE, channels=tuple(tables["codes"]["channels"])) == CodeAnswer(channel="webhookpam")
    (request,) = server.requests
    assert request.path == path
    body = json.loads(request.body)
    user = HOSTILE.replace("\x1b", "\\x1b").replace("\u202e", "\\u202e")
    values = {
        "PUBLIC_CODE": SESSION, "PRIVATE_CODE": CODE, "USERNAME": user, "SOURCE_IP": "203.0.113.7",
        "DESTINATION_IP": "198.51.100.4", "HOSTNAME": "web1", "AUTH_METHOD": "publickey",
    }  # fmt: skip

    def filled(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: filled(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [filled(inner) for inner in value]
        return re.sub("|".join(values), lambda found: values[found[0]], value) if isinstance(value, str) else value

    assert body == filled(json.loads(WEBHOOKPAM[name]))
    assert_nowhere(site, process)
    # The report of many codes goes through the same body.
    assert ask(site, code="", prompts=5, channels=("webhookpam",)) == CodeAnswer(channel="webhookpam")
    assert "has asked for 5 codes" in " ".join(texts_in(json.loads(server.requests[1].body)))


BODY = {
    "text": "{{ code }} for {{ session }}, {{ user }} at {{ address }} on {{ host }} ({{ destination }}) by {{ method }}",
    "service": "{{ service }}", "left": "{{ emergency_left }}", "in": ["{{ valid_for }}"],
}  # fmt: skip


def test_body_of_ones_own(site: Site, server: HttpServer) -> None:
    """A body of the user's gets every value; a hostile name cannot leave its text, and is not a template."""
    started(site, web_channel(site, server.url("/"), "webhook", body=BODY), web_channel(site, server.url("/"), "webhook", "all"))
    assert ask(site, user=HOSTILE) == CodeAnswer(channel="ops")
    assert ask(site, channels=("all",)) == CodeAnswer(channel="all")
    own, whole = (json.loads(request.body) for request in server.requests)
    user = HOSTILE.replace("\x1b", "\\x1b").replace("\u202e", "\\u202e")
    assert own == {
        "text": f"{CODE} for {SESSION}, {user} at 203.0.113.7 on web1 (198.51.100.4) by publickey",
        "service": "sshd", "left": 3, "in": ["5 min"],
    }  # fmt: skip
    assert {"code": CODE, "session": SESSION, "emergency_left": 3, "user": "alice"}.items() <= whole.items()
    assert whole["event"]["source"] == {"ip": "203.0.113.7", "address": "203.0.113.7", "geo": {"name": "documentation"}}


def test_xmpp(site: Site, tmp_path: Path) -> None:
    """People and rooms get the code over XMPP beside other messages; an owner alone, and in the owner's language."""
    site.people.write_text(f'[[person]]\nname = "Bob"\naccounts = ["bob"]\nlanguage = "de"\ncontacts = {{ xmpp = ["{BOB}"] }}\n')
    site.fill(*session_lines(100, at_us=time.time_ns() // 1000 - SECOND_US, lasts_s=None))
    with Prosody(tmp_path / "prosody") as prosody:

        async def run() -> None:
            async with person(prosody, ALICE, ROOM) as alice, person(prosody, BOB) as bob:
                await asyncio.to_thread(started, site, chat_channel(prosody, "ops"), people=str(site.people))
                # The connection for other messages is in the room already, and stays there.
                await wait_for_async(lambda: alice.chats and alice.talk, "a login")
                assert "alice logged in to web1" in alice.talk[0]
                assert await asyncio.to_thread(ask, site, user=HOSTILE) == CodeAnswer(channel="ops")
                await wait_for_async(lambda: len(alice.chats) == len(alice.talk) == 2, "a code")
                assert alice.chats[1] == alice.talk[1]
                assert alice.talk[1].startswith(f"{CODE} is the code for session {SESSION}.\n")
                assert await asyncio.to_thread(ask, site, user="bob", to="owner") == CodeAnswer(channel="ops")
                await wait_for_async(lambda: bob.chats, "a code")
                assert bob.chats[0].startswith(f"{CODE} ist der Code für die Sitzung {SESSION}.\nbob will sich auf web1 von ")
                assert len(alice.received) == 4

        asyncio.run(run())
    assert places_with(site.folder, CODE) == []


def test_command(site: Site) -> None:
    """A command gets the code on its standard input, which no other user can read, and nowhere else."""
    script = site.folder / "command"
    seen = site.folder / "seen"
    # Backwards, because no file may have the code.
    script.write_text(
        f"#!{sys.executable}\nimport json, os, sys\nfound = json.load(sys.stdin)\n"
        f"with open({str(seen)!r}, 'w') as file:\n"
        "    json.dump([found['code'][::-1], found['user'], sys.argv[1:], dict(os.environ)], file)\n"
    )
    script.chmod(0o755)
    process, _wake = started(site, {"name": "ops", "type": "exec", "command": [str(script), "x"]})
    assert ask(site) == CodeAnswer(channel="ops")
    code, user, arguments, environment = json.loads(seen.read_text())
    assert (code, user, arguments) == (CODE[::-1], "alice", ["x"])
    assert CODE not in str(environment)
    assert_nowhere(site, process)


def test_apprise(site: Site, server: HttpServer) -> None:
    """The library apprise sends it, too."""
    started(site, web_channel(site, f"json://127.0.0.1:{server.port}/{TOKEN}", "apprise"))
    assert ask(site) == CodeAnswer(channel="ops")
    (request,) = server.requests
    assert json.loads(request.body)["title"] == f"{CODE} is the code for session {SESSION}."


@pytest.mark.parametrize("kind", ["file", "syslog"])
def test_no_code_in_a_log(site: Site, kind: str) -> None:
    """A channel that keeps a log refuses a code, even if the configuration would let it through."""
    place = {"path": str(site.folder / "events.json")} if kind == "file" else {"server": "/dev/log"}
    started(site, {"name": "ops", "type": kind} | place)
    assert ask(site) == CodeAnswer(fault="ops: this channel keeps a log, and no code belongs in a log")
    assert places_with(site.folder, CODE) == []


def test_order(site: Site, post: Post, server: HttpServer) -> None:
    """A dead channel and a hung one leave their shares of the time to the next; nothing waits for the outbox."""
    with socket.create_server(("127.0.0.1", 0)) as dead:
        port = dead.getsockname()[1]
    release = threading.Event()

    async def hang(_request: web.BaseRequest) -> web.StreamResponse:
        await asyncio.to_thread(release.wait)
        return web.Response()

    server.handler = hang
    process, _wake = started(
        site, *site.channels("dead", port=port), web_channel(site, server.url("/"), "slack", "hung"), *site.channels("ops")
    )
    try:
        answer = ask(site, channels=("gone", "dead", "hung", "ops"), timeout_s=6.0)
    finally:
        release.set()
    assert answer == CodeAnswer(channel="ops")
    assert len(post.inbox.mails) == 1
    reasons = [line["reason"] for line in site.said("code_not_sent")]
    assert reasons[0] == "there is no such channel"
    assert "Connection refused" in reasons[1]
    assert "no answer within" in reasons[2]
    assert_nowhere(site, process)


def test_beside_the_outbox(site: Site, server: HttpServer) -> None:
    """A message that hangs, quiet hours and a spent budget of the same channel do not delay a code."""
    release = threading.Event()

    async def hang(request: web.BaseRequest) -> web.StreamResponse:
        if CODE not in await request.text():
            await asyncio.to_thread(release.wait)
        return web.Response()

    server.handler = hang
    at_us = time.time_ns() // 1000 - SECOND_US
    site.fill(*(line for number in range(3) for line in session_lines(100 + number, at_us=at_us, lasts_s=None)))
    process, _wake = started(site, web_channel(site, server.url("/"), "slack", max_per_hour=1))
    try:
        wait_for(lambda: server.requests, "a login under way")
        assert ask(site) == CodeAnswer(channel="ops")
        assert len(server.requests) == 2
    finally:
        release.set()
    # All day but for a minute in the past.
    now = datetime.now(UTC)
    quiet = f"{now - timedelta(minutes=2):%H:%M}-{now - timedelta(minutes=3):%H:%M}"
    site.configure(channel=[web_channel(site, server.url("/"), "slack", quiet=quiet, timezone="UTC")])
    process.send_signal(signal.SIGHUP)
    wait_for(lambda: site.said("configured"), "the quiet hours")
    assert ask(site) == CodeAnswer(channel="ops")


def test_deadline(site: Site, server: HttpServer) -> None:
    """All channels together take no longer than the time of the request, and the answer has the reasons."""
    release = threading.Event()

    async def hang(_request: web.BaseRequest) -> web.StreamResponse:
        await asyncio.to_thread(release.wait)
        return web.Response()

    server.handler = hang
    started(site, *(web_channel(site, server.url("/"), "slack", name) for name in ("one", "two")))
    try:
        before_s = time.monotonic()
        answer = ask(site, channels=("one", "two"), timeout_s=1.0)
        # The client gives up at that time, with another fault: this one is deliver's.
        assert time.monotonic() - before_s < 1.0 + MARGIN_S
    finally:
        release.set()
    assert answer.fault.startswith("one: no answer within 0.")
    assert "; two: no answer within 0." in answer.fault


def test_a_service_that_repeats_the_code(site: Site, server: HttpServer) -> None:
    """Neither the log nor the answer shows what a service repeats, even if it is cut in the middle of the code."""

    async def repeat(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=400, text="x" * (len(server.requests) - 1) + (await request.text()))

    server.handler = repeat
    process, _wake = started(site, web_channel(site, server.url("/"), "webhook", body={"text": "y" * 240 + "{{ code }}" * 9}))
    for _ in range(9):
        answer = ask(site)
        assert "yyy" in answer.fault
        for length in range(4, len(CODE) + 1):
            assert CODE[:length] not in answer.fault
            assert CODE[:length] not in (site.folder / "deliver.log").read_text()
    assert_nowhere(site, process)


def test_owner(site: Site, post: Post) -> None:
    """A code for the owner goes to the owner's address or, if nobody has one, to nobody."""
    site.people.write_text(
        '[[person]]\nname = "Bob"\naccounts = ["bob"]\ncontacts = { email = ["bob@example.org"] }\n'
        '[[person]]\nname = "Carol"\naccounts = ["carol"]\n'
    )
    started(site, *site.channels(), people=str(site.people))
    assert ask(site, user="bob", to="owner") == CodeAnswer(channel="ops")
    assert [envelope.rcpt_tos for envelope in post.inbox.envelopes] == [["bob@example.org"]]
    for user in ("carol", "alice"):
        assert "people.toml has nobody" in ask(site, user=user, to="owner").fault
    assert len(post.inbox.envelopes) == 1


def test_new(site: Site, post: Post) -> None:
    """Only a login that is new in a wanted respect gets a code; in doubt, each does."""
    (site.state_dir / "geoip").mkdir()
    made(site.state_dir / "geoip" / "places.mmdb", LYON)
    at_us = time.time_ns() // 1000 - 3600 * SECOND_US
    with site.state() as state:
        for number, (address, trusted) in enumerate({"203.0.113.7": (0, ""), "203.0.113.9": None}.items()):
            login = Login(f"{number:032x}", line_of_log(at_us, trusted=trusted), "alice", address, "4711", "publickey", None)
            state.record([login], frozenset(), at_us)
    started(site, *site.channels())
    assert ask(site, new=("address", "network", "country")) == CodeAnswer(not_needed=True)
    assert ask(site, new=("address",), address="203.0.113.8") == CodeAnswer(channel="ops")
    # A local user can have forged the line of this login.
    assert ask(site, new=("address",), address="203.0.113.9") == CodeAnswer(channel="ops")
    assert ask(site, new=("country",), address=ADDRESS) == CodeAnswer(channel="ops")
    assert ask(site, new=("country",), address="") == CodeAnswer(channel="ops")
    assert ask(site, new=("country",), address="host.example.org") == CodeAnswer(channel="ops")
    assert ask(site, new=("address",), user="bob") == CodeAnswer(channel="ops")
    assert len(post.inbox.envelopes) == 6
    for path in site.state_dir.glob("state.db*"):
        path.unlink()
    (site.state_dir / "state.db").write_bytes(b"no database" * 1000)
    assert ask(site, new=("address",)) == CodeAnswer(channel="ops")


def test_only_root(open_folder: Path) -> None:
    """Another user gets no answer, even if the modes of the files let that user in."""
    with Site(open_folder) as site:
        started(site, *site.channels())
        path = site.state_dir / DELIVER_SOCKET
        site.state_dir.chmod(0o755)
        path.chmod(0o666)
        with closing(socket.socket(socket.AF_UNIX)) as client:
            client.settimeout(DEADLINE_S)
            os.seteuid(NOBODY)
            try:
                client.connect(str(path))
            finally:
                os.seteuid(0)
            with suppress(ConnectionResetError, BrokenPipeError):  # it closes without having read the request
                client.sendall(line_of(REQUEST))
                assert client.recv(1000) == b""
        assert site.said("code_request_refused")[0]["uid"] == NOBODY
        assert site.post.inbox.envelopes == []


def test_bounds(site: Site, post: Post) -> None:
    """Requests that are too long, too slow, too many, or no requests get no code, and cost nobody else the own one."""
    started(site, *site.channels())
    path = str(site.state_dir / DELIVER_SOCKET)

    def told(data: bytes) -> bytes:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(DEADLINE_S)
            client.connect(path)
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            return client.makefile("rb").readline()

    assert told(b"x" * (2 * REQUEST_LIMIT)) == b""
    assert told(b"x") == b""
    for wrong in (
        b"[]\n", b"{}\n", b"[" * 10_000 + b"\n", b"\xff\n", line_of(REQUEST._replace(session="x")),
        line_of(REQUEST._replace(code="12 34")), line_of(REQUEST._replace(channels=())),
        line_of(REQUEST._replace(user="x" * 2000)), line_of(REQUEST._replace(timeout_s=1e9)),
        line_of(REQUEST._replace(to="everybody")), line_of(REQUEST._replace(emergency_left=-1)),
        line_of(REQUEST).replace(b'"web1"', b"1"),
    ):  # fmt: skip
        answer = code_answer_of(told(wrong))
        assert answer.fault.startswith("deliver refuses the request")
        assert CODE not in answer.fault
    with closing(socket.socket(socket.AF_UNIX)) as slow:
        slow.settimeout(DEADLINE_S)
        slow.connect(path)
        assert ask(site) == CodeAnswer(channel="ops")
        assert slow.recv(1) == b""  # after CODE_REQUEST_LIMIT_S
    assert CODE_REQUEST_LIMIT_S < DEADLINE_S
    assert len(post.inbox.envelopes) == 1


def test_many_at_once(site: Site, server: HttpServer) -> None:
    """Beyond the limit, a request waits within its time for the others; so nobody can cause a fault with a few requests."""
    release = threading.Event()

    async def hang(_request: web.BaseRequest) -> web.StreamResponse:
        await asyncio.to_thread(release.wait)
        return web.Response()

    server.handler = hang
    started(site, web_channel(site, server.url("/"), "slack"))
    answers: list[CodeAnswer] = []
    threads = [
        threading.Thread(target=lambda: answers.append(ask(site, timeout_s=TIMEOUT_LIMIT_S))) for _ in range(CODES_LIMIT + 1)
    ]
    try:
        for thread in threads:
            thread.start()
        wait_for(lambda: len(server.requests) == CODES_LIMIT, "codes under way")
        assert ask(site, timeout_s=0.5) == CodeAnswer(fault=f"sshbell is sending {CODES_LIMIT} codes already")
    finally:
        release.set()
        for thread in threads:
            thread.join()
    assert answers == [CodeAnswer(channel="ops")] * (CODES_LIMIT + 1)
    assert CODES_LIMIT < CODE_CLIENT_LIMIT


def died_how(pid: int) -> int:
    """Kill a process as a fault of its own would; return CLD_DUMPED if that leaves a core file."""
    os.kill(pid, signal.SIGABRT)
    ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert ended is not None
    return ended.si_code


@pytest.fixture
def core_files(tmp_path: Path) -> Iterator[None]:
    """Let processes write core files, and show that they do."""
    before = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (before[1], before[1]))
    try:
        with subprocess.Popen(["/bin/sleep", str(DEADLINE_S)], cwd=tmp_path) as control:
            assert died_how(control.pid) == os.CLD_DUMPED
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, before)


@pytest.mark.usefixtures("core_files")
def test_killed(site: Site, post: Post) -> None:
    """Without deliver, the answer is a fault; a new deliver takes over the socket of the dead one. No core file is left."""
    process, wake = started(site, *site.channels())
    assert died_how(process.pid) == os.CLD_KILLED
    process.wait()
    wake.close()
    assert ask(site).fault == "sshbell deliver does not run, or does not answer: Connection refused"
    _process, wake = site.start_deliver()
    wait_for(lambda: ask(site) == CodeAnswer(channel="ops"), "the next deliver")
    assert len(post.inbox.envelopes) == 1
    wake.close()
    wait_for(lambda: not (site.state_dir / DELIVER_SOCKET).exists(), "its end")


def test_killed_while_it_sends(site: Site, server: HttpServer) -> None:
    """A deliver that dies in the middle gives an answer at once: the connection breaks, and the login need not wait."""
    release = threading.Event()

    async def hang(_request: web.BaseRequest) -> web.StreamResponse:
        await asyncio.to_thread(release.wait)
        return web.Response()

    server.handler = hang
    process, _wake = started(site, web_channel(site, server.url("/"), "slack"))
    answers: list[CodeAnswer] = []
    thread = threading.Thread(target=lambda: answers.append(ask(site)))
    thread.start()
    try:
        wait_for(lambda: server.requests, "a code under way")
        process.kill()
        thread.join(TIMEOUT_LIMIT_S / 2)  # it would wait for longer than TIMEOUT_LIMIT_S
        assert answers == [CodeAnswer(fault="sshbell deliver does not run, or does not answer")]
    finally:
        release.set()
        thread.join()


def test_reload(site: Site, post: Post) -> None:
    """After HUP, a new channel gets codes."""
    process, _wake = started(site, *site.channels())
    assert ask(site, channels=("more",)).fault == "more: there is no such channel"
    site.configure(channel=site.channels("ops", "more"))
    process.send_signal(signal.SIGHUP)
    wait_for(lambda: site.said("configured"), "the new configuration")
    assert ask(site, channels=("more",)) == CodeAnswer(channel="more")
    assert b"more@example.org" in content_of(post.inbox.envelopes[0])


def test_a_template_cannot_lose_the_code(site: Site, post: Post) -> None:
    """A template of the user's that shows no title does not count for codes, and the log says so."""
    own = site.folder / "templates"
    own.mkdir()
    (own / "message.txt.j2").write_text("Login of {{ user }}\n")
    started(site, *site.channels())
    assert ask(site) == CodeAnswer(channel="ops")
    assert CODE in next(post.inbox.mails[0].iter_parts()).get_content()
    assert "it shows no title" in site.said("template_broken")[0]["reason"]
