"""The real process ``sshbell deliver``: its parent's socket, its signals, kills; ``sshbell ring`` and ``sshbell outbox``."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import structlog

from consumer.config_file import load
from consumer.deliver import ring
from consumer.deliver.channels import LIMIT_S
from consumer.deliver.channels.email import Email
from consumer.errors import TryLaterError
from consumer.events import Event, Login, Logout
from tests import needs
from tests.lines import line_of
from tests.waiting import DEADLINE_S, wait_for

if TYPE_CHECKING:
    from consumer.store.state import State
    from tests.integration.mail_server import Post
    from tests.integration.site import Site

SECOND = 1_000_000


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


def test_login_and_logout(site: Site, post: Post) -> None:
    """What is recorded is mailed when the byte comes; the logout's mail continues the login's. The socket's end is the end."""
    site.configure(channel=site.channels())
    process, wake = site.start_deliver()
    with wake, site.state() as state:
        wait_for(lambda: site.said("delivering"), "the start")
        first = login(1)
        record(state, first)
        wake.send(b"x")
        wait_for(lambda: len(post.inbox.mails) == 1, "a login")
        record(state, Logout(event_id(2), first.line, "alice", "192.0.2.7", "4711", first, first.time_us + 61 * SECOND))
        wake.send(b"x")
        wait_for(lambda: len(post.inbox.mails) == 2, "a logout")
        for number in (signal.SIGTERM, signal.SIGINT):
            process.send_signal(number)
        wait_for(lambda: len(site.said("signal_ignored")) == 2, "signals that it ignores")
    process.wait(DEADLINE_S)
    assert process.returncode == 0
    told, left = post.inbox.mails
    assert told["Subject"] == "alice logged in to web1 from 192.0.2.7"
    assert left["Subject"] == "alice logged out of web1 after 1 min 1 s"
    assert left["References"] == told["Message-ID"] == f"<{event_id(1)}.ops@sshbell>"
    assert [entry["state"] for entry in site.objects("outbox", "--all")] == ["sent", "sent"]
    mode = (site.state_dir / "delivery.db").stat().st_mode
    assert mode & 0o077 == 0


def test_by_hand(site: Site, post: Post) -> None:
    """Without a parent it looks each second, lives through a state.db that comes late, and ends on TERM."""
    site.configure(channel=site.channels())
    process, ours = site.start_deliver(wake=False)
    ours.close()
    wait_for(lambda: site.said("delivering"), "the start")
    with site.state() as state:
        record(state, login(1))
        wait_for(lambda: post.ids == [f"<{event_id(1)}.ops@sshbell>"], "a login")
    second = site.ask("deliver", status=75)
    assert "another sshbell deliver is running" in second.stderr
    process.terminate()
    assert process.wait(DEADLINE_S) == 0


def test_replaced_state(site: Site, post: Post) -> None:
    """A new state.db is read from its beginning; what was told before is not told again."""
    site.configure(channel=site.channels())
    _, wake = site.start_deliver()
    with wake:
        with site.state() as state:
            record(state, login(1), login(2), login(3))
            wait_for(lambda: len(post.ids) == 3, "three logins")
        for path in site.state_dir.glob("state.db*"):
            path.unlink()
        with site.state() as state:
            record(state, login(2), login(4))
            wait_for(lambda: f"<{event_id(4)}.ops@sshbell>" in post.ids, "a login of the new one")
    assert post.ids == [f"<{event_id(number)}.ops@sshbell>" for number in (1, 2, 3, 4)]


@pytest.mark.long
def test_kills(site: Site, post: Post) -> None:
    """Killed again and again in the middle: each login is told, in order; one told twice has the same Message-ID."""
    site.configure(channel=site.channels("ops", "home"))
    count = 120
    with site.state() as state:
        record(state, *(login(number) for number in range(count)))
    kills = 0
    while True:
        process, wake = site.start_deliver()
        with wake:
            before = len(post.inbox.envelopes)
            target = before + 7 + 11 * kills
            wait_for(lambda: len(post.inbox.envelopes) >= min(target, 2 * count), "some mails")  # noqa: B023 - used at once
            if len(set(post.ids)) == 2 * count:
                break
            process.kill()
            process.wait()
            kills += 1
    with wake:
        wait_for(lambda: {entry["state"] for entry in site.objects("outbox", "--all")} == {"sent"}, "all to be sent")
    assert kills >= 3
    for name in ("ops", "home"):
        told = [found for found in post.ids if found.endswith(f".{name}@sshbell>")]
        assert list(dict.fromkeys(told)) == [f"<{event_id(number)}.{name}@sshbell>" for number in range(count)]
        assert len(told) <= count + kills


def test_one_channel_down_delays_no_other(site: Site, post: Post) -> None:
    """A server that never answers costs its own channel alone, and the reason is shown; the end does not wait for it."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        site.configure(channel=[*site.channels("dead", port=silent.getsockname()[1]), *site.channels()])
        process, wake = site.start_deliver()
        with wake, site.state() as state:
            wait_for(lambda: site.said("delivering"), "the start")
            for number in range(20):
                record(state, login(number))
                wake.send(b"x")
            wait_for(lambda: len(post.ids) == 20, "the channel that works")
        started_s = time.monotonic()
        assert process.wait(DEADLINE_S) == 0
        # 3 s to finish what is being sent, and not the 30 s that this one would take.
        assert time.monotonic() - started_s < 20
        assert [entry["state"] for entry in site.objects("outbox", "--channel", "dead")] == ["pending"] * 20


def test_outage(site: Site, post: Post) -> None:
    """While the server is down messages wait with the reason; "outbox retry" has them tried at once."""
    site.configure(channel=site.channels(port=1))
    process, wake = site.start_deliver()
    with wake, site.state() as state:
        record(state, login(1), login(2))
        wait_for(lambda: site.said("retry_later"), "a failure")
        waiting = site.objects("outbox")
        assert [entry["state"] for entry in waiting] == ["pending", "pending"]
        assert all("127.0.0.1:1: the connection: Connection refused" in entry["reason"] for entry in waiting)
        shown = site.ask("outbox").stdout
        assert "Connection refused" in shown
        assert "ssh_login alice@web1" in shown
        site.configure(channel=site.channels())
        process.send_signal(signal.SIGHUP)
        wait_for(lambda: site.said("configured"), "the new configuration")
        assert site.ask("outbox", "retry", "--all").stdout == "retrying 2 messages now\n"
        wait_for(lambda: len(post.ids) == 2, "the mails")
        assert site.ask("outbox").stdout == "no messages wait\n"


def test_hup_with_a_broken_configuration(site: Site, post: Post) -> None:
    """A broken configuration is refused, loudly, and the one before is kept."""
    site.configure(channel=site.channels())
    process, wake = site.start_deliver()
    with wake, site.state() as state:
        wait_for(lambda: site.said("delivering"), "the start")
        site.config.write_text("chanel = []")
        process.send_signal(signal.SIGHUP)
        wait_for(lambda: site.said("configuration_refused"), "the refusal")
        record(state, login(1))
        wake.send(b"x")
        wait_for(lambda: len(post.ids) == 1, "a login")


def test_broken_configuration_at_start(site: Site) -> None:
    """At start a broken configuration is the end, with its exit code and one line."""
    site.config.write_text("chanel = []")
    done = site.ask("deliver", status=78)
    assert re.fullmatch(r"sshbell: .*did you mean 'channel'.*\n", done.stderr)


def test_successor_waits(site: Site) -> None:
    """An orphan and its successor never send together: the successor waits until the orphan has ended."""
    site.configure(channel=site.channels())
    first, first_wake = site.start_deliver()
    wait_for(lambda: len(site.said("delivering")) == 1, "the first")
    second, second_wake = site.start_deliver()
    with second_wake:
        wait_for(lambda: site.said("waiting"), "the second to wait")
        first_wake.close()
        assert first.wait(DEADLINE_S) == 0
        wait_for(lambda: len(site.said("delivering")) == 2, "the second")
    assert second.wait(DEADLINE_S) == 0


def test_memory(site: Site, post: Post) -> None:
    """After some hundred mails it is below 80 MiB."""
    site.configure(channel=site.channels())
    process, wake = site.start_deliver()
    with wake, site.state() as state:
        record(state, *(login(number) for number in range(300)))
        wait_for(lambda: len(post.ids) == 300, "all mails", 10 * DEADLINE_S)
        status = Path(f"/proc/{process.pid}/status").read_text()
        (peak_kb,) = re.findall(r"VmHWM:\s+(\d+) kB", status)
        assert int(peak_kb) < 80 * 1024


@pytest.mark.parametrize("running", [False, True])
def test_ring(site: Site, post: Post, running: bool) -> None:  # noqa: FBT001 - a case
    """A test goes to the channels that were named, by the running process or without one, and says that it is a test."""
    site.configure(channel=site.channels("ops", "home"))
    wake = None
    if running:
        _, wake = site.start_deliver()
        wait_for(lambda: site.said("delivering"), "the start")
    done = site.ask("ring", "--channel", "ops")
    assert done.stderr == ""
    assert done.stdout.startswith("ops: delivered after ")
    (mail,) = post.inbox.mails
    assert mail["To"] == "ops@example.org"
    assert str(mail["Subject"]).startswith("Test: alice logged in to ")
    site.ask("ring")
    assert len(post.ids) == 3
    if wake is not None:
        wake.close()


def test_ring_that_fails(site: Site, post: Post) -> None:
    """A test that fails says why, with an exit code for scripts, and does not come later."""
    site.configure(channel=site.channels(port=1))
    done = site.ask("ring", status=75)
    assert done.stderr == "sshbell: ops: 127.0.0.1:1: the connection: Connection refused\n"
    assert site.objects("outbox") == []
    site.configure(channel=site.channels())
    post.inbox.refused["ops@example.org"] = "550 5.1.1 no such user"
    done = site.ask("ring", status=69)
    assert "550 5.1.1 no such user" in done.stderr
    assert site.objects("outbox") == []
    site.ask("ring", "--channel", "oops", status=64)
    site.configure()
    site.ask("ring", status=78)


def test_ring_of_a_server_that_hangs(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason is the server's, and there is time for it, also behind a message that is being sent."""
    monkeypatch.setattr(ring, "channel_of", lambda settings: Email(settings, limit_s=0.3))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        site.configure(channel=site.channels(port=silent.getsockname()[1]))
        try:
            with pytest.raises(TryLaterError, match=r"ops: .*: no answer to the connection within 0\.3 s"):
                asyncio.run(ring.ring_channels(load(str(site.config)), str(site.config), ["ops"], pytest.fail))
        finally:
            structlog.reset_defaults()
    assert ring._LIMIT_S > 2 * LIMIT_S


def test_outbox_verbs(site: Site) -> None:
    """Messages are chosen by the beginning of their id, by channel, or all; what fits nothing, or too much, is refused."""
    site.configure(channel=site.channels("ops", "home", port=1))
    none = site.ask("outbox", status=74)
    assert (
        none.stderr == f"sshbell: {site.state_dir}/delivery.db: it does not exist yet; sshbell run creates it: restart rsyslog\n"
    )
    _, wake = site.start_deliver()
    with wake, site.state() as state:
        record(state, login(1), login(1 << 127), login(3 << 126))
        wait_for(lambda: site.said("delivering"), "the start")
    wait_for(lambda: len(site.objects("outbox")) == 6, "the messages")
    site.ask("outbox", "drop", status=64)
    site.ask("outbox", "drop", "0", status=64)
    site.ask("outbox", "drop", "ffff", status=64)
    site.ask("outbox", "drop", "--all", "8000", status=64)
    for verb in ("list", "retry", "drop"):
        done = site.ask("outbox", verb, "--channel", "osp", status=64)
        assert done.stderr == "sshbell: there is no channel 'osp'; known channels: ops, home\n"
    assert site.ask("outbox", "drop", "8000", "--channel", "ops").stdout == "dropped 1 message\n"
    assert site.ask("outbox", "drop", "--channel", "home").stdout == "dropped 3 messages\n"
    assert [entry["id"] for entry in site.objects("outbox")] == [event_id(3 << 126), event_id(1)]
    assert {entry["state"] for entry in site.objects("outbox", "--all")} == {"pending", "dropped"}
    assert site.ask("outbox", "retry", "c000").stdout == "retrying 1 message now\n"
    # A channel that is no longer in the configuration, but has messages.
    site.configure(channel=site.channels(port=1))
    assert len(site.objects("outbox", "--all", "--channel", "home")) == 3


def test_user_template(site: Site, post: Post) -> None:
    """The user's own template, beside the configuration, is what is sent."""
    site.configure(channel=site.channels())
    (site.folder / "templates").mkdir()
    (site.folder / "templates" / "subject.txt.j2").write_text("Ding: {{ user }}")
    site.ask("ring")
    assert post.inbox.mails[0]["Subject"] == "Ding: alice"


def test_root_becomes_the_user(site: Site) -> None:
    """A user that does not exist is said, not ignored."""
    needs.root("become another user")
    site.configure(user="no-such-user")
    done = site.ask("outbox", status=78)
    assert "this user does not exist" in done.stderr
