"""Noise neither delays nor hides a login: a local user's flood against the real ``run``, ``deliver`` and mail server."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from tests.integration.lines import ours
from tests.waiting import wait_for

if TYPE_CHECKING:
    from tests.integration.mail_server import Post
    from tests.integration.site import Run, Site

MALLORY = 1012
EVENTS = ["ssh_login", "ssh_forged", "ssh_attempt"]


def at(second: int) -> str:
    """Return a time of the host's log."""
    return f"2026-11-22T10:{second // 60:02}:{second % 60:02}.123456+00:00"


def configure(site: Site, max_per_hour: int) -> None:
    """Tell of logins and of noise."""
    site.configure(channel=site.channels(max_per_hour=max_per_hour), route=[{"events": EVENTS, "channels": ["ops"]}])


def take(run: Run, *lines: bytes) -> None:
    """Have lines confirmed."""
    for line in lines:
        assert run.send(line) == b"OK\n"


def forged(number: int, second: int) -> bytes:
    """Return a line that a user writes with ``logger -t sshd``, each another one."""
    text = f"Accepted publickey for root from 203.0.113.66 port {number % 60_000 + 1} ssh2: RSA SHA256:abc"
    return ours(text, number=number, ts=at(second), uid=MALLORY, exe="/usr/bin/logger")


def login(number: int, user: str, second: int, address: str = "192.0.2.7") -> tuple[bytes, bytes]:
    """Return the lines of a login that is genuine."""
    pid = 10_000 + number
    return (
        ours(f"Accepted publickey for {user} from {address} port {pid} ssh2: RSA SHA256:abc", pid=pid, ts=at(second)),
        ours(f"pam_unix(sshd:session): session opened for user {user}(uid={pid}) by (uid=0)", pid=pid, ts=at(second)),
    )


def failed(number: int) -> bytes:
    """Return the line of a stranger's try, each on another host, since those on one host are folded."""
    text = f"Failed password for root from 198.51.100.9 port {number + 1} ssh2"
    return ours(text, pid=20_000 + number, ts=at(0), host=f"web{number}")


def subjects(post: Post) -> list[str]:
    """Return the subjects of what was mailed, in order."""
    return [str(mail["Subject"]) for mail in post.inbox.mails]


def logged_in(post: Post) -> list[str]:
    """Return who was told to have logged in, in order."""
    return [found[1] for text in subjects(post) if (found := re.match(r"(\S+) logged in", text))]


def test_a_flood_of_forged_lines(site: Site, post: Post) -> None:
    """Beside each login come hundreds of forged lines, and the channel may send two messages about noise: each login is told."""
    configure(site, 2)
    run = site.start_run()
    take(run, *login(99, "first", 0))
    for second in range(10):
        take(run, *(forged(200 * second + number, second) for number in range(200)), *login(second, f"user{second}", second))
        wait_for(lambda: len(logged_in(post)) == second + 2, "the login is told")  # noqa: B023 - used at once
    assert logged_in(post) == ["first", *(f"user{second}" for second in range(10))]
    # The first forged line is told at once; the others cost neither a row nor a message each.
    assert [text for text in subjects(post) if "FORGED" in text] == ["FORGED line claims a login of root on web1"]
    assert site.query("SELECT count(*) FROM outbox WHERE action = 'ssh_forged'") == [(1,)]
    take(run, *login(10, "late", 80))
    wait_for(lambda: "FORGED line claims a login of root on web1, and 1,998 more" in subjects(post), "the count")
    (count,) = [entry["ssh"]["count"] for entry in site.objects("history", "--events") if "count" in entry.get("ssh", {})]
    assert count == 1999
    assert run.end()[0] == 0


def test_a_flood_outlives_a_kill(site: Site) -> None:
    """What was counted when the process is killed is counted by its successor, and nothing twice."""
    configure(site, 2)
    run = site.start_run()
    take(run, *login(99, "first", 0), *(forged(number, 0) for number in range(50)))
    run.kill()
    run = site.start_run()
    take(run, *(forged(50 + number, 1) for number in range(50)))
    assert run.end()[0] == 0
    run = site.start_run()
    take(run, *(forged(100 + number, 2) for number in range(50)), *login(1, "alice", 3), *login(2, "bob", 90))
    counts = "SELECT count FROM event WHERE action = 'ssh_forged' ORDER BY count"
    wait_for(lambda: site.query(counts) == [(1,), (149,)], "the count")
    assert run.end()[0] == 0


def test_noise_that_uses_up_the_hour(site: Site, post: Post) -> None:
    """More tries than the channel may tell of: a login is told all the same, and people see what is held back, until when."""
    # A token takes twelve minutes, so none comes back during the test.
    configure(site, 5)
    run = site.start_run()
    take(run, *(failed(number) for number in range(45)))
    wait_for(lambda: len(post.inbox.mails) == 5, "an hour's worth of noise")
    take(run, *login(1, "root", 1))
    wait_for(lambda: logged_in(post) == ["root"], "the login is told")
    assert len(post.inbox.mails) == 6
    held = site.objects("outbox")
    assert len(held) == 40
    (reason,) = {entry["reason"] for entry in held}
    assert re.fullmatch(r"held back by max_per_hour until 20\S+ \S+", reason)
    assert site.ask("outbox").stdout.count(f"  {reason}\n") == 40
    assert all(entry["next_try"] > entry["queued"] for entry in held)
    (channel,) = json.loads(site.ask("status", "--json").stdout)["channels"]
    assert (channel["held"], channel["pending"]) == (40, 40)
    assert channel["held_until"] > max(entry["queued"] for entry in held)
    assert re.search(r"ops: 40 pending \(40 held back by max_per_hour until 20\S+ \S+\)", site.ask("status").stdout)
    assert run.end()[0] == 0


def test_logins_of_ones_own(site: Site, post: Post) -> None:
    """51 logins of a user's own accounts, and forged names beside them, neither delay nor hide root's login."""
    configure(site, 1)
    run = site.start_run()
    for number in range(51):
        take(run, *login(number, f"own{number % 3}", number), forged(number, number))
    take(run, *login(51, "root", 51, "203.0.113.99"))
    wait_for(lambda: "root" in logged_in(post), "root's login is told")
    assert logged_in(post) == ["own0", "own1", "own2", "root"]
    assert "root logged in to web1 from 203.0.113.99" in subjects(post)
    assert run.end()[0] == 0
