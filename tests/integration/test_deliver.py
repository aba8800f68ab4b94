"""The real process ``sshbell deliver``: its parent's socket, its signals, kills; ``sshbell ring`` and ``sshbell outbox``."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from aiosmtpd.smtp import SMTP

from consumer.config import load
from consumer.deliver import ring
from consumer.deliver.channels.email import LIMIT_S, Email
from consumer.errors import TryLaterError
from consumer.events import Event, Login, Logout
from consumer.store.state import State
from tests.integration.mail_server import Inbox, listening
from tests.lines import line_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SECOND = 1_000_000
# Long enough for a machine that is busy with other things.
PATIENCE_S = 60.0
COMMAND = [sys.executable, "-m", "consumer"]
PROJECT_DIR = Path(__file__).parents[2]


def until(condition: Callable[[], object], what: str) -> None:
    """Wait for something to be so."""
    end_s = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > end_s:
            pytest.fail(f"waited in vain: {what}")
        time.sleep(0.005)


class Post:
    """A mail server in a thread of its own, on one port for as long as it lives."""

    def __init__(self) -> None:
        self.inbox = Inbox()
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        ready = threading.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(ready),))
        self._thread.start()
        ready.wait(PATIENCE_S)

    async def _serve(self, ready: threading.Event) -> None:
        connections: list[SMTP] = []

        def make() -> SMTP:
            connections.append(SMTP(self.inbox))
            return connections[-1]

        async with listening(make) as self.port:
            ready.set()
            await self._stop.wait()
        for connection in connections:
            if connection.transport is not None:
                connection.transport.abort()
            if (task := connection._handler_coroutine) is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        await asyncio.sleep(0)

    def close(self) -> None:
        """End."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._loop.close()

    @property
    def ids(self) -> list[str]:
        """The Message-IDs of what was taken, in order."""
        return [str(mail["Message-ID"]) for mail in self.inbox.mails]


@pytest.fixture
def post() -> Iterator[Post]:
    """Run a mail server."""
    with closing(Post()) as made:
        yield made


class Place:
    """A state folder, a configuration, and the processes of a test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "sshbell.toml"
        self.state_dir = folder / "state"
        self.state_dir.mkdir(mode=0o700)
        self.processes: list[subprocess.Popen[bytes]] = []

    def configure(self, *channels: str, port: int = 1, more: str = "") -> None:
        """Write a configuration with channels to one server."""
        text = f'state_dir = "{self.state_dir}"\nuser = ""\n'
        for name in channels:
            text += (
                f'[[channel]]\nname = "{name}"\ntype = "email"\nserver = "127.0.0.1"\nport = {port}\nsecurity = "none"\n'
                f'from = "bell@example.org"\nto = ["{name}@example.org"]\nmax_per_hour = 100000\n{more}\n'
            )
        names = json.dumps(channels)
        self.config.write_text(f'{text}[[route]]\nevents = ["ssh_login", "ssh_logout"]\nchannels = {names}\n')

    def start(self, *, wake: bool = True) -> tuple[subprocess.Popen[bytes], socket.socket]:
        """Start ``sshbell deliver`` as ``run`` does."""
        ours, theirs = socket.socketpair()
        with theirs, (self.folder / "log").open("ab") as log:
            arguments = ["--wake", str(theirs.fileno())] if wake else []
            process = subprocess.Popen(
                [*COMMAND, "deliver", "--config", str(self.config), *arguments],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log, cwd=PROJECT_DIR,
                pass_fds=[theirs.fileno()] if wake else [],
            )  # fmt: skip
        self.processes.append(process)
        return process, ours

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run another command."""
        return subprocess.run(
            [*COMMAND, *arguments, "--config", str(self.config)],
            capture_output=True, text=True, check=False, cwd=PROJECT_DIR, timeout=PATIENCE_S,
        )  # fmt: skip

    @property
    def log(self) -> list[dict[str, Any]]:
        """What the processes have said."""
        path = self.folder / "log"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def said(self, event: str) -> list[dict[str, Any]]:
        """What the processes have said of one kind."""
        return [line for line in self.log if line["event"] == event]

    def outbox(self, *arguments: str) -> list[dict[str, Any]]:
        """What ``sshbell outbox`` shows."""
        done = self.run("outbox", "--json", *arguments)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """Return a folder; its processes end with it."""
    made = Place(tmp_path)
    yield made
    for process in made.processes:
        process.kill()
        process.wait()


def event_id(number: int) -> str:
    """Return an id as events have them."""
    return f"{number:032x}"


def login(number: int) -> Login:
    """Return a login of its own."""
    line = line_of(time.time_ns() // 1000, trusted=(0, ""))
    return Login(event_id(number), line, "alice", "192.0.2.7", "4711", "publickey", None)


def record(state: State, *events: Event) -> None:
    """Put events into the outbox, as ``run`` does."""
    state.record(events, frozenset({"ssh_login", "ssh_logout"}), time.time_ns() // 1000)


def test_login_and_logout(place: Place, post: Post) -> None:
    """What is recorded is mailed when the byte comes; the logout's mail continues the login's. The socket's end is the end."""
    place.configure("ops", port=post.port)
    process, wake = place.start()
    with wake, closing(State(place.state_dir, pytest.fail)) as state:
        until(lambda: place.said("delivering"), "the start")
        first = login(1)
        record(state, first)
        wake.send(b"x")
        until(lambda: len(post.inbox.mails) == 1, "a login")
        record(state, Logout(event_id(2), first.line, "alice", "192.0.2.7", "4711", first, first.time_us + 61 * SECOND))
        wake.send(b"x")
        until(lambda: len(post.inbox.mails) == 2, "a logout")
        for number in (signal.SIGTERM, signal.SIGINT):
            process.send_signal(number)
        until(lambda: len(place.said("signal_ignored")) == 2, "signals that it ignores")
    process.wait(PATIENCE_S)
    assert process.returncode == 0
    told, left = post.inbox.mails
    assert told["Subject"] == "alice logged in to web1 from 192.0.2.7"
    assert left["Subject"] == "alice logged out of web1 after 1 min 1 s"
    assert left["References"] == told["Message-ID"] == f"<{event_id(1)}.ops@sshbell>"
    assert [entry["state"] for entry in place.outbox("--all")] == ["sent", "sent"]
    mode = (place.state_dir / "delivery.db").stat().st_mode
    assert mode & 0o077 == 0


def test_by_hand(place: Place, post: Post) -> None:
    """Without a parent it looks each second, lives through a state.db that comes late, and ends on TERM."""
    place.configure("ops", port=post.port)
    process, ours = place.start(wake=False)
    ours.close()
    until(lambda: place.said("delivering"), "the start")
    with closing(State(place.state_dir, pytest.fail)) as state:
        record(state, login(1))
        until(lambda: post.ids == [f"<{event_id(1)}.ops@sshbell>"], "a login")
    second = place.run("deliver")
    assert second.returncode == 75
    assert "another sshbell deliver is running" in second.stderr
    process.terminate()
    assert process.wait(PATIENCE_S) == 0


def test_replaced_state(place: Place, post: Post) -> None:
    """A new state.db is read from its beginning; what was told before is not told again."""
    place.configure("ops", port=post.port)
    _, wake = place.start()
    with wake:
        with closing(State(place.state_dir, pytest.fail)) as state:
            record(state, login(1), login(2), login(3))
            until(lambda: len(post.ids) == 3, "three logins")
        for path in place.state_dir.glob("state.db*"):
            path.unlink()
        with closing(State(place.state_dir, pytest.fail)) as state:
            record(state, login(2), login(4))
            until(lambda: f"<{event_id(4)}.ops@sshbell>" in post.ids, "a login of the new one")
    assert post.ids == [f"<{event_id(number)}.ops@sshbell>" for number in (1, 2, 3, 4)]


def test_kills(place: Place, post: Post) -> None:
    """Killed again and again in the middle: each login is told, in order; one told twice has the same Message-ID."""
    place.configure("ops", "home", port=post.port)
    count = 120
    with closing(State(place.state_dir, pytest.fail)) as state:
        record(state, *(login(number) for number in range(count)))
    kills = 0
    while True:
        process, wake = place.start()
        with wake:
            before = len(post.inbox.envelopes)
            target = before + 7 + 11 * kills
            until(lambda: len(post.inbox.envelopes) >= min(target, 2 * count), "some mails")  # noqa: B023 - used at once
            if len(set(post.ids)) == 2 * count:
                break
            process.kill()
            process.wait()
            kills += 1
    with wake:
        until(lambda: {entry["state"] for entry in place.outbox("--all")} == {"sent"}, "all to be sent")
    assert kills >= 3
    for name in ("ops", "home"):
        told = [found for found in post.ids if found.endswith(f".{name}@sshbell>")]
        assert list(dict.fromkeys(told)) == [f"<{event_id(number)}.{name}@sshbell>" for number in range(count)]
        assert len(told) <= count + kills


def test_one_channel_down_delays_no_other(place: Place, post: Post) -> None:
    """A server that never answers costs its own channel alone, and the reason is shown; the end does not wait for it."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        place.configure("ops", port=post.port)
        text = place.config.read_text()
        hanging = text[text.index("[[channel]]") : text.index("[[route]]")]
        hanging = hanging.replace('"ops"', '"dead"').replace(str(post.port), str(silent.getsockname()[1]))
        place.config.write_text(
            text.replace("[[route]]", f"{hanging}[[route]]").replace('channels = ["ops"]', 'channels = ["dead", "ops"]')
        )
        process, wake = place.start()
        with wake, closing(State(place.state_dir, pytest.fail)) as state:
            until(lambda: place.said("delivering"), "the start")
            for number in range(20):
                record(state, login(number))
                wake.send(b"x")
            until(lambda: len(post.ids) == 20, "the channel that works")
        started_s = time.monotonic()
        assert process.wait(PATIENCE_S) == 0
        # 3 s to finish what is being sent, and not the 30 s that this one would take.
        assert time.monotonic() - started_s < 20
        assert [entry["state"] for entry in place.outbox("--channel", "dead")] == ["pending"] * 20


def test_outage(place: Place, post: Post) -> None:
    """While the server is down messages wait with the reason; "outbox retry" has them tried at once."""
    place.configure("ops", port=1)
    process, wake = place.start()
    with wake, closing(State(place.state_dir, pytest.fail)) as state:
        record(state, login(1), login(2))
        until(lambda: place.said("retry_later"), "a failure")
        waiting = place.outbox()
        assert [entry["state"] for entry in waiting] == ["pending", "pending"]
        assert all("127.0.0.1:1: the connection: Connection refused" in entry["reason"] for entry in waiting)
        shown = place.run("outbox").stdout
        assert "Connection refused" in shown
        assert "ssh_login alice@web1" in shown
        place.configure("ops", port=post.port)
        process.send_signal(signal.SIGHUP)
        until(lambda: place.said("configured"), "the new configuration")
        assert place.run("outbox", "retry", "--all").stdout == "2 messages will be tried now\n"
        until(lambda: len(post.ids) == 2, "the mails")
        assert place.run("outbox").stdout == "nothing waits\n"


def test_hup_with_a_broken_configuration(place: Place, post: Post) -> None:
    """A broken configuration is refused, loudly, and the one before is kept."""
    place.configure("ops", port=post.port)
    process, wake = place.start()
    with wake, closing(State(place.state_dir, pytest.fail)) as state:
        until(lambda: place.said("delivering"), "the start")
        place.config.write_text("chanel = []")
        process.send_signal(signal.SIGHUP)
        until(lambda: place.said("configuration_refused"), "the refusal")
        record(state, login(1))
        wake.send(b"x")
        until(lambda: len(post.ids) == 1, "a login")


def test_broken_configuration_at_start(place: Place) -> None:
    """At start a broken configuration is the end, with its exit code and one line."""
    place.config.write_text("chanel = []")
    done = place.run("deliver")
    assert done.returncode == 78
    assert re.fullmatch(r"sshbell: .*did you mean 'channel'.*\n", done.stderr)


def test_successor_waits(place: Place, post: Post) -> None:
    """An orphan and its successor never send together: the successor waits until the orphan has ended."""
    place.configure("ops", port=post.port)
    first, first_wake = place.start()
    until(lambda: len(place.said("delivering")) == 1, "the first")
    second, second_wake = place.start()
    with second_wake:
        until(lambda: place.said("waiting"), "the second to wait")
        first_wake.close()
        assert first.wait(PATIENCE_S) == 0
        until(lambda: len(place.said("delivering")) == 2, "the second")
    assert second.wait(PATIENCE_S) == 0


def test_memory(place: Place, post: Post) -> None:
    """After some hundred mails it is below 80 MiB."""
    place.configure("ops", port=post.port)
    process, wake = place.start()
    with wake, closing(State(place.state_dir, pytest.fail)) as state:
        record(state, *(login(number) for number in range(300)))
        until(lambda: len(post.ids) == 300, "all mails")
        status = Path(f"/proc/{process.pid}/status").read_text()
        (peak_kb,) = re.findall(r"VmHWM:\s+(\d+) kB", status)
        assert int(peak_kb) < 80 * 1024


@pytest.mark.parametrize("running", [False, True])
def test_ring(place: Place, post: Post, running: bool) -> None:  # noqa: FBT001 - a case
    """A test goes to the channels that were named, by the running process or without one, and says that it is a test."""
    place.configure("ops", "home", port=post.port)
    wake = None
    if running:
        _, wake = place.start()
        until(lambda: place.said("delivering"), "the start")
    done = place.run("ring", "--channel", "ops")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("ops: delivered after ")
    (mail,) = post.inbox.mails
    assert mail["To"] == "ops@example.org"
    assert str(mail["Subject"]).startswith("Test: alice logged in to ")
    assert place.run("ring").returncode == 0
    assert len(post.ids) == 3
    if wake is not None:
        wake.close()


def test_ring_that_fails(place: Place, post: Post) -> None:
    """A test that fails says why, with an exit code for scripts, and does not come later."""
    place.configure("ops", port=1)
    done = place.run("ring")
    assert done.returncode == 75
    assert done.stderr == "sshbell: ops: 127.0.0.1:1: the connection: Connection refused\n"
    assert place.outbox() == []
    place.configure("ops", port=post.port)
    post.inbox.refused["ops@example.org"] = "550 5.1.1 no such user"
    done = place.run("ring")
    assert done.returncode == 69
    assert "550 5.1.1 no such user" in done.stderr
    assert place.outbox() == []
    assert place.run("ring", "--channel", "oops").returncode == 64
    place.config.write_text(f'state_dir = "{place.state_dir}"\nuser = ""\n')
    assert place.run("ring").returncode == 78


def test_ring_of_a_server_that_hangs(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason is the server's, and there is time for it, also behind a message that is being sent."""
    monkeypatch.setattr(ring, "channel_of", lambda settings: Email(settings, limit_s=0.3))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        place.configure("ops", port=silent.getsockname()[1])
        try:
            with pytest.raises(TryLaterError, match=r"ops: .*: no answer to the connection within 0\.3 s"):
                asyncio.run(ring.ring_channels(load(str(place.config)), str(place.config), ["ops"], pytest.fail))
        finally:
            structlog.reset_defaults()
    assert ring._LIMIT_S > 2 * LIMIT_S


def test_outbox_verbs(place: Place) -> None:
    """Messages are chosen by the beginning of their id, by channel, or all; what fits nothing, or too much, is refused."""
    place.configure("ops", "home", port=1)
    none = place.run("outbox")
    assert none.returncode == 74
    assert none.stderr == f"sshbell: {place.state_dir}/delivery.db: there is none yet; sshbell run makes it: restart rsyslog\n"
    _, wake = place.start()
    with wake, closing(State(place.state_dir, pytest.fail)) as state:
        record(state, login(1), login(1 << 127), login(3 << 126))
        until(lambda: place.said("delivering"), "the start")
    until(lambda: len(place.outbox()) == 6, "the messages")
    assert place.run("outbox", "drop").returncode == 64
    assert place.run("outbox", "drop", "0").returncode == 64
    assert place.run("outbox", "drop", "ffff").returncode == 64
    assert place.run("outbox", "drop", "--all", "8000").returncode == 64
    for verb in ("list", "retry", "drop"):
        done = place.run("outbox", verb, "--channel", "osp")
        assert (done.returncode, done.stderr) == (64, "sshbell: there is no channel 'osp'; there are: ops, home\n")
    assert place.run("outbox", "drop", "8000", "--channel", "ops").stdout == "1 message dropped\n"
    assert place.run("outbox", "drop", "--channel", "home").stdout == "3 messages dropped\n"
    assert [entry["id"] for entry in place.outbox()] == [event_id(3 << 126), event_id(1)]
    assert {entry["state"] for entry in place.outbox("--all")} == {"pending", "dropped"}
    assert place.run("outbox", "retry", "c000").stdout == "1 message will be tried now\n"
    # A channel that is no longer in the configuration, but has messages.
    place.configure("ops", port=1)
    assert len(place.outbox("--all", "--channel", "home")) == 3


def test_user_template(place: Place, post: Post) -> None:
    """The user's own template, beside the configuration, is what is sent."""
    place.configure("ops", port=post.port)
    (place.folder / "templates").mkdir()
    (place.folder / "templates" / "subject.txt.j2").write_text("Ding: {{ user }}")
    assert place.run("ring").returncode == 0
    assert post.inbox.mails[0]["Subject"] == "Ding: alice"


def test_root_becomes_the_user(place: Place) -> None:
    """A user that does not exist is said, not ignored."""
    if os.geteuid() != 0:
        assert not os.environ.get("CI"), "only root can become another user"
        pytest.skip("only root can become another user")
    place.configure("ops")
    place.config.write_text(place.config.read_text().replace('user = ""', 'user = "no-such-user"'))
    done = place.run("outbox")
    assert done.returncode == 78
    assert "no such user" in done.stderr
