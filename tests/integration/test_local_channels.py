"""The channels to commands, files, syslog servers and the library apprise, each against the real thing."""

from __future__ import annotations

import asyncio
import json
import os
import re
import resource
import socket
import ssl
import stat
import struct
import sys
import threading
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import trustme
from aiohttp import web

from consumer.channel_settings import AppriseSettings, ExecSettings, FileSettings, SyslogSettings
from consumer.config_file import parse
from consumer.config_values import Secret
from consumer.deliver.channels import Channel, Delivered, Message, Rejected, RetryLater, SendResult, channel_of, syslog
from consumer.deliver.channels.apprise import Apprise
from consumer.deliver.channels.exec import Exec
from consumer.deliver.channels.payloads import payload_of
from consumer.deliver.channels.syslog import Syslog
from consumer.deliver.rendering import Renderer
from consumer.errors import ConfigError
from tests.ecs_events import ecs
from tests.integration.http_server import HttpServer
from tests.integration.rsyslogd import Rsyslogd
from tests.waiting import wait_for, wait_for_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.integration.site import Site

EVENT = ecs({
    "@timestamp": "2026-11-22T10:00:00Z", "event": {"kind": "event", "action": "ssh_login", "id": "1" * 32},
    "host": {"name": "web1"}, "user": {"name": "a;b $(reboot) 'x' é"}, "source": {"ip": "203.0.113.7", "address": "203.0.113.7"},
})  # fmt: skip
RENDERER = Renderer(Path("/nonexistent"), pytest.fail)
MESSAGE = RENDERER.message("1" * 32, EVENT, queued_us=0, now_us=1, medium="chat")
DIGEST = Message("held-1", "2 messages held back", "2 messages\nheld back", title="2 messages")


def sent(channel: Channel, *messages: Message) -> list[SendResult]:
    """Send messages, by default one; return the results."""

    async def run() -> list[SendResult]:
        try:
            return [await channel.send(message) for message in messages or (MESSAGE,)]
        finally:
            channel.close()

    return asyncio.run(run())


def checked(channel: Channel) -> SendResult:
    """Return the result of a check."""

    async def run() -> SendResult:
        return await channel.check()

    return asyncio.run(run())


def reason(results: list[SendResult]) -> str:
    """Return the reason of one failure."""
    (result,) = results
    assert isinstance(result, RetryLater | Rejected)
    assert result.reason.isprintable()
    return result.reason


# Commands


def command(folder: Path, text: str, *arguments: str) -> ExecSettings:
    """Return a channel to a script of Python."""
    script = folder / "bell"
    script.write_text(f"#!{sys.executable} -I\n{text}\n")
    script.chmod(0o755)
    return ExecSettings(name="ops", command=[str(script), *arguments])


def test_what_a_command_gets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message as JSON, the arguments as they are, and nothing of ours: no secrets of the environment, no descriptors."""
    monkeypatch.setenv("HOOK_TOKEN", "sesame")
    note = tmp_path / "note"
    text = f"""
import json, os, sys
found = {{"input": json.load(sys.stdin), "arguments": sys.argv[1:], "environment": dict(os.environ), "folder": os.getcwd(),
          "descriptors": sorted(os.listdir("/proc/self/fd"))}}
open({str(note)!r}, "w").write(json.dumps(found))
"""
    assert sent(channel_of(command(tmp_path, text, "-x", "$(reboot); {{ title }}"))) == [Delivered()]
    found = json.loads(note.read_text())
    assert found["input"] == json.loads(msgspec.json.encode(payload_of(MESSAGE)))
    assert found["input"]["event"]["user"]["name"] == "a;b $(reboot) 'x' é"
    assert found["arguments"] == ["-x", "$(reboot); {{ title }}"]
    environment = {name: value for name, value in found["environment"].items() if name != "LC_CTYPE"}
    assert set(environment) == {"PATH", "LANG"}
    assert found["folder"] == "/"
    assert len(found["descriptors"]) == 4  # the last is that of the listing


@pytest.mark.parametrize(
    ("text", "kind", "says"),
    [
        ("import sys; sys.exit('no\\x1b[2J\\nnetwork')", RetryLater, "it ended with 1: no\\x1b[2J network"),
        ("print('bad event'); raise SystemExit(65)", Rejected, "it ended with 65: bad event"),
        ("raise SystemExit(75)", RetryLater, "it ended with 75"),
        ("import os; os.kill(os.getpid(), 9)", RetryLater, "signal 9 ended it"),
        ("while True: print('x' * 1000)", RetryLater, "longer than 64 KiB: xxx"),
    ],
)
def test_commands_that_fail(tmp_path: Path, text: str, kind: type[SendResult], says: str) -> None:
    """The output is the reason; only status 65 is for good."""
    results = sent(channel_of(command(tmp_path, text)))
    assert isinstance(results[0], kind)
    assert reason(results).startswith(f"{tmp_path}/bell: {says}")
    assert len(reason(results)) <= 300


def test_a_command_that_hangs(tmp_path: Path) -> None:
    """It has its time, and the next message another try; one that reads no input is no fault."""
    hanging = Exec(command(tmp_path, "import time; time.sleep(1000)"), limit_s=0.3)
    assert "no answer within 0.3 s" in reason(sent(hanging))
    big = msgspec.structs.replace(MESSAGE, text="x" * 1_000_000)
    assert sent(channel_of(command(tmp_path, "")), big) == [Delivered()]


def test_a_command_that_is_not_there(tmp_path: Path) -> None:
    """It may come back. A check finds out without a run."""
    settings = ExecSettings(name="ops", command=[str(tmp_path / "none")])
    assert reason(sent(channel_of(settings))) == f"{tmp_path}/none: No such file or directory"
    assert isinstance(checked(channel_of(settings)), RetryLater)
    assert checked(channel_of(command(tmp_path, f"open({str(tmp_path / 'ran')!r}, 'w')"))) == Delivered()
    assert not (tmp_path / "ran").exists()


# Files


def test_lines_of_a_file(tmp_path: Path) -> None:
    """Each message is a line of JSON in ECS, also behind a rename; only its owner and group can read the file."""
    path = tmp_path / "events.json"
    mask = os.umask(0)
    try:
        channel = channel_of(FileSettings(name="ops", path=str(path)))
        assert checked(channel) == Delivered()
        assert not path.exists()
        assert sent(channel, MESSAGE, DIGEST) == [Delivered()] * 2
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        assert checked(channel) == Delivered()
        path.rename(tmp_path / "events.json.1")
        assert sent(channel) == [Delivered()]
    finally:
        os.umask(mask)
    login, digest = map(json.loads, (tmp_path / "events.json.1").read_text().splitlines())
    assert login == {"message": MESSAGE.title, **json.loads(msgspec.json.encode(EVENT))}
    assert (digest["event"]["action"], digest["message"]) == ("sshbell_digest", DIGEST.text)
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT.*Z", digest["@timestamp"])
    assert json.loads(path.read_text()) == login


def test_files_that_cannot_be_written(tmp_path: Path) -> None:
    """It may change, so the message waits; and no half of a line stays."""
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/full")
    for name, says in (
        ("none/x", "No such file or directory"), ("folder", "Is a directory"), ("pipe", "No such device or address"),
        ("link", "not a regular file"),
    ):  # fmt: skip
        channel = channel_of(FileSettings(name="ops", path=f"{tmp_path}/{name}"))
        assert reason(sent(channel)) == f"{tmp_path}/{name}: {says}"
        assert isinstance(checked(channel), RetryLater)
    path = tmp_path / "events.json"
    channel = channel_of(FileSettings(name="ops", path=str(path)))
    assert sent(channel) == [Delivered()]
    whole = path.read_bytes()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    # The kernel writes as much of the line as there is room for, as on a full disk.
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 20, before[1]))
    try:
        assert "File too large" in reason(sent(channel))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.read_bytes() == whole
    assert sent(channel) == [Delivered()]
    assert path.read_bytes() == whole * 2


# Syslog

RSYSLOGD = """
module(load="imtcp")
module(load="imudp")
input(type="imtcp" address="127.0.0.1" port="0" listenPortFileName="{folder}/tcp.port" ruleset="siem")
input(type="imudp" address="127.0.0.1" port="{udp}" ruleset="siem")
input(type="imuxsock" socket="{folder}/siem" useSpecialParser="off" parseHostname="on" ruleset="siem")
template(name="fields" type="string"
         string="%pri%|%protocol-version%|%timereported:::date-rfc3339%|%hostname%|%app-name%|%msgid%|%structured-data%|%msg%\\n")
ruleset(name="siem") {{ action(type="omfile" file="{folder}/siem.log" template="fields") }}
"""


def free_udp_port() -> int:
    """Return a port on which nobody listens."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_real_rsyslogd(tmp_path: Path) -> None:
    """Rsyslogd reads the same fields from a socket, UDP and TCP, from several messages in order, also from long ones."""
    udp = free_udp_port()
    long = msgspec.structs.replace(MESSAGE, event={**MESSAGE.event, "labels": {"x": "y" * 5000}})
    with Rsyslogd(tmp_path, more=RSYSLOGD.format(folder=tmp_path, udp=udp)):
        wait_for(lambda: (tmp_path / "tcp.port").exists() and (tmp_path / "tcp.port").read_text(), "rsyslogd listens for TCP")
        tcp = int((tmp_path / "tcp.port").read_text())
        log = tmp_path / "siem.log"
        for number, server in enumerate((f"{tmp_path}/siem", f"udp://127.0.0.1:{udp}", f"tcp://localhost:{tcp}"), 1):
            channel = channel_of(SyslogSettings(name="ops", server=server))
            assert checked(channel) == Delivered()
            assert sent(channel, MESSAGE, long, DIGEST) == [Delivered()] * 3
            wait_for(lambda: log.exists() and log.read_text().count("\n") == 3 * number, f"the messages to {server}")  # noqa: B023
        lines = [line.split("|", 7) for line in log.read_text().splitlines()]
    assert [line[5] for line in lines] == ["ssh_login", "ssh_login", "digest"] * 3
    for pri, version, timestamp, host, program, _, data, _ in lines:
        assert (pri, version, program, data) == ("85", "1", "sshbell", "-")
        assert host in {"web1", socket.gethostname()}
        assert re.match(r"20\d\d-\d\d-\d\dT", timestamp)
    for line in lines[::3]:
        assert json.loads(line[7].strip()) == {"message": MESSAGE.title, **json.loads(msgspec.json.encode(EVENT))}
    for line in lines[1::3]:
        assert len(line[7]) > 5000


def test_a_forged_line_is_a_warning() -> None:
    """Its severity is higher than that of a login."""
    event = ecs({"event": {"kind": "alert", "action": "ssh_forged", "id": "2" * 32}, "host": {"name": "web 1\n"}})
    message = RENDERER.message("2" * 32, event, queued_us=0, now_us=1, medium="chat")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        channel = channel_of(SyslogSettings(name="ops", server=f"udp://127.0.0.1:{server.getsockname()[1]}"))
        assert sent(channel, message) == [Delivered()]
        data = server.recv(65536)
    assert re.match(rb"<84>1 20\S+Z web\?1\\x0a sshbell \d+ ssh_forged - \{", data)


@asynccontextmanager
async def stream_server(handler: Any, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Run a server; yield its port."""
    server = await asyncio.start_server(handler, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def over(
    scheme: str, handler: Any, *, tls: ssl.SSLContext | None = None, limit_s: float = 90.0, close_s: float = 60.0, **more: Any
) -> SendResult:
    """Send a message to a server with this handler."""
    async with stream_server(handler, tls) as port:
        settings = SyslogSettings(name="ops", server=f"{scheme}://127.0.0.1:{port}", **more)
        return await Syslog(settings, limit_s=limit_s, close_s=close_s).send(MESSAGE)


def test_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over TLS: the certificate is checked, ours is shown, and octets are counted."""
    authority, clients = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    clients.issue_cert("bell@example.org").private_key_and_cert_chain_pem.write_to_path(tmp_path / "both.pem")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    received = []

    async def read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.append(await reader.read())
        writer.close()

    ca_file, both = str(tmp_path / "ca.pem"), str(tmp_path / "both.pem")
    assert asyncio.run(over("tls", read, tls=context, ca_file=ca_file)) == Delivered()
    length, _, frame = received.pop().partition(b" ")
    assert int(length) == len(frame)
    assert frame.startswith(b"<85>1 ")
    assert "its certificate is not trusted" in reason([asyncio.run(over("tls", read, tls=context))])
    assert received in ([], [b""])
    received.clear()
    clients.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    assert asyncio.run(over("tls", read, tls=context, ca_file=ca_file, client_certificate=both)) == Delivered()
    assert len(received) == 1
    with socket.create_server(("127.0.0.1", 0)) as listener:
        # A server of asyncio would not send the alert, which comes behind the handshake.
        thread = threading.Thread(target=_refuse, args=(listener, context))
        thread.start()
        server = f"tls://127.0.0.1:{listener.getsockname()[1]}"
        monkeypatch.setattr(syslog, "_TICKET_S", 60.0)
        found = sent(channel_of(SyslogSettings(name="ops", server=server, ca_file=ca_file)))
        assert isinstance(found[0], RetryLater)
        assert reason(found) == f"{server}: TLS with it failed: TLSV13_ALERT_CERTIFICATE_REQUIRED"
        thread.join()


def _refuse(listener: socket.socket, context: ssl.SSLContext) -> None:
    """Take one connection of a client without a certificate."""
    connection, _ = listener.accept()
    with connection, pytest.raises(ssl.SSLError, match="did not return a certificate"):
        context.wrap_socket(connection, server_side=True)


def test_streams_that_break() -> None:
    """A server that resets has not read the message; one that keeps its end open may have; a silent one has its time."""

    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        # Close with a reset.
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    async def keep(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.read()
            await asyncio.Event().wait()
        finally:
            writer.transport.abort()

    assert isinstance(asyncio.run(over("tcp", reset)), RetryLater)
    assert asyncio.run(over("tcp", keep, close_s=0.3)) == Delivered()
    assert "no answer within 0.3 s" in reason([asyncio.run(over("tls", keep, limit_s=0.3))])


def test_syslog_servers_that_are_not_there(tmp_path: Path) -> None:
    """The reason is the system's, without addresses."""
    for server, says in (
        (f"{tmp_path}/none", "No such file or directory"), ("tcp://127.0.0.1:1", "Connection refused"),
        ("tls://127.0.0.1:1", "Connection refused"), ("tcp://no-such-host.invalid:1", ""), ("udp://no-such-host.invalid", ""),
    ):  # fmt: skip
        channel = channel_of(SyslogSettings(name="ops", server=server))
        assert reason(sent(channel)).startswith(f"{server}: {says}")
        assert isinstance(checked(channel), RetryLater)


def test_a_datagram_that_is_too_long() -> None:
    """It will never fit."""
    huge = msgspec.structs.replace(MESSAGE, event={**MESSAGE.event, "labels": {"x": "y" * 70_000}})
    (result,) = sent(channel_of(SyslogSettings(name="ops", server="udp://127.0.0.1:9")), huge)
    assert isinstance(result, Rejected)
    assert "use tcp:// or tls://" in result.reason


def test_sockets_of_streams(tmp_path: Path) -> None:
    """A socket of this machine may be one of a stream."""
    received = []

    async def read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.append(await reader.read())
        writer.close()

    async def run() -> SendResult:
        async with await asyncio.start_unix_server(read, tmp_path / "stream"):
            result = await channel_of(SyslogSettings(name="ops", server=str(tmp_path / "stream"))).send(MESSAGE)
            await wait_for_async(lambda: received, "the message")
            return result

    assert asyncio.run(run()) == Delivered()
    length, _, frame = received[0].partition(b" ")
    assert int(length) == len(frame)


# apprise

# A module that apprise loads asks for one that Python 3.13 no longer has.
of_apprise = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")


def apprise_settings(folder: Path, url: str) -> AppriseSettings:
    """Return a channel whose URL is in a file."""
    (folder / "url").write_text(url)
    (folder / "url").chmod(0o600)
    return AppriseSettings(name="ops", url=Secret(file=str(folder / "url")))


@of_apprise
def test_apprise(tmp_path: Path) -> None:
    """The library sends title and text; a refusal is tried again, with its reason and without its URL."""
    with HttpServer() as server:
        place = server.url("/t0psecret").replace("http://", "json://")
        channel = channel_of(apprise_settings(tmp_path, place))
        assert checked(channel) == Delivered()
        assert server.requests == []
        assert sent(channel) == [Delivered()]
        body = json.loads(server.requests[0].body)
        assert body["title"] == MESSAGE.text.split("\n", 1)[0]
        assert "Time: 2026-11-22" in body["message"]

        async def refuse(_request: web.BaseRequest) -> web.Response:
            return web.Response(status=500, text="t0psecret")

        server.handler = refuse
        said = reason(sent(channel))
        assert said.startswith("json: ")
        assert "t0psecret" not in said


@of_apprise
def test_apprise_with_a_wrong_url(tmp_path: Path) -> None:
    """A text that is no URL of the library's, or names several services, is a fault that shows nothing of it."""
    for url in ("nosuchservice://t0psecret/", "t0psecret", "json://localhost/t0psecret, json://localhost/t0psecret2"):
        found = channel_of(apprise_settings(tmp_path, url))
        said = reason([checked(found)])
        assert "it is not one URL of a service that apprise knows" in said
        assert "t0psecret" not in said


@of_apprise
def test_apprise_that_hangs(tmp_path: Path) -> None:
    """A service that does not answer has its time; the thread is left to itself."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"json://127.0.0.1:{silent.getsockname()[1]}/?rto=1&cto=1"
        assert reason(sent(Apprise(apprise_settings(tmp_path, url), limit_s=0.2))) == "no answer within 0.2 s"


# Configuration and commands


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('type = "exec"\ncommand = ["bell"]', "channel 'x': command 'bell' is not an absolute path"),
        ('type = "exec"\ncommand = []', "command has to be a program and its arguments"),
        ('type = "exec"\ncommand = "bell"', "command has to be a program and its arguments"),
        ('type = "file"\npath = "events.json"', "path has to be an absolute path"),
        ('type = "syslog"\nserver = "siem.example.org"', "server has to be a path or a URL"),
        ('type = "syslog"\nserver = "http://siem"', "server has to be a path or a URL"),
        ('type = "syslog"\nserver = "tcp://siem:99999"', "has no host, or a port that is no number"),
        ('type = "syslog"\nserver = "tcp://:1"', "has no host, or a port that is no number"),
        ('type = "syslog"\nserver = "tcp://siem"\nca_file = "/x"', "are for a server with tls:// only"),
        ('type = "syslog"\nserver = "tls://siem"\nclient_key = "/x"', "client_certificate is missing"),
        ('type = "apprise"\nurl = "json://x"', "url has to be the place of the secret"),
    ],
)
def test_faults_of_settings(text: str, says: str) -> None:
    """What cannot work is refused when the configuration is read."""
    with pytest.raises(ConfigError) as raised:
        parse(f'[[channel]]\nname = "x"\n{text}\n'.encode(), "here")
    assert says in str(raised.value)


def test_ring_and_check(site: Site) -> None:
    """``ring`` covers each of them, and ``check --connect`` as well."""
    script = command(site.folder, f"import sys; open({str(site.folder / 'rung')!r}, 'w').write(sys.stdin.read())")
    log = site.folder / "events.json"
    with HttpServer() as server, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as siem:
        siem.bind(str(site.folder / "siem"))
        (site.folder / "url").write_text(server.url("/services/x").replace("http://", "json://"))
        (site.folder / "hook").write_text(server.url("/services/x"))
        for name in ("url", "hook"):
            (site.folder / name).chmod(0o600)
        site.configure(channel=[
            {"name": "script", "type": "exec", "command": script.command},
            {"name": "log", "type": "file", "path": str(log)},
            {"name": "siem", "type": "syslog", "server": str(site.folder / "siem")},
            {"name": "library", "type": "apprise", "url": {"file": str(site.folder / "url")}},
            {"name": "chat", "type": "slack", "url": {"file": str(site.folder / "hook")}},
        ])  # fmt: skip
        names = ["script", "log", "siem", "library", "chat"]
        checks = site.ask("check", "--connect", status=78).stdout
        assert all(f"{name} answers" in checks for name in names)
        assert not log.exists()
        done = site.ask("ring")
        assert sorted(line.partition(":")[0] for line in done.stdout.splitlines()) == sorted(names)
        assert b"sshbell_test" in siem.recv(65536)
        assert len([asked for asked in server.requests if asked.method == "POST"]) == 2
    assert json.loads(log.read_text())["event"]["action"] == "sshbell_test"
    assert json.loads((site.folder / "rung").read_text())["subject"].startswith("Test: ")
