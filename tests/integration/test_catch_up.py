"""``catch_up``: lines that rsyslogd lost and only the log file has are told after the next start, and nothing else is."""

from __future__ import annotations

import resource
import time
from typing import TYPE_CHECKING

import pytest

from tests.integration.lines import ours
from tests.waiting import wait_for

if TYPE_CHECKING:
    from tests.integration.site import Run, Site

# Longer than it takes until a position in the file can count.
SILENCE_S = 13.0
# Longer than the silence after which the backlog has drained.
DISK_S = 17.0
# The pause of rsyslogd before it sends the next line.
PAUSE_S = 3.0
USERS = ("alice", "bob", "carol", "dave")


def texts(user: str) -> list[str]:
    """Return the lines of a session's begin."""
    return [
        f"Accepted password for {user} from 192.0.2.7 port 4711 ssh2",
        f"pam_unix(sshd:session): session opened for user {user}(uid=1001) by (uid=0)",
    ]


def session(user: str, pid: int, at: int) -> tuple[bytes, list[bytes]]:
    """Return a session's begin: as it stands in the file, and as our template has it."""
    file = "".join(f"2026-11-22T10:00:{at:02}.123456+00:00 web1 sshd[{pid}]: {text}\n" for text in texts(user)).encode()
    return file, [ours(text, at, pid * 10 + number, pid) for number, text in enumerate(texts(user))]


def logins(site: Site) -> list[tuple[str, str]]:
    """Return users and origins of all logins."""
    return site.query("SELECT user, origin FROM event WHERE action = 'ssh_login' ORDER BY user")


def has_compared(site: Site, run: Run) -> bool:
    """Tell whether a ``run`` is done with the log file."""
    status = dict(site.query("SELECT name, value FROM status"))
    return status.get("pid") == run.pid and status.get("compared_us", 0) > status["started_us"]


def wait(time_s: float, what: str) -> None:
    """Let time pass, because the test is about a silence."""
    begun_s = time.monotonic()
    wait_for(lambda: time.monotonic() > begun_s + time_s, what)


@pytest.fixture
def site(site: Site) -> Site:
    """Return a site whose ``run`` has once been there, so that it knows how far the file was heard of."""
    site.configure(catch_up=str(site.log), channel=site.channels())
    file, sent = session("alice", 7, 1)
    site.log.write_bytes(session("before", 6, 0)[0])
    run = site.start_run()
    for line in sent:
        assert run.send(line) == b"OK\n"
    with site.log.open("ab") as log:
        log.write(file)
    wait_for(lambda: has_compared(site, run), "the file is compared")
    assert run.end()[0] == 0
    return site


def test_first_start_tells_nothing_old(site: Site) -> None:
    """Without a position the first start begins at the end of the file."""
    assert logins(site) == [("alice", "verified")]


def test_lost_lines_are_told_and_marked(site: Site) -> None:
    """What only the file has is told, unverified; what came in as well is not told again."""
    bob, carol = session("bob", 8, 2), session("carol", 9, 3)
    with site.log.open("ab") as log:
        log.write(bob[0] + carol[0])
    run = site.start_run()
    for line in carol[1]:
        assert run.send(line) == b"OK\n"
    wait_for(lambda: len(logins(site)) == 3, "3 logins are known")
    assert run.end()[0] == 0
    assert logins(site) == [("alice", "verified"), ("bob", "unverified"), ("carol", "verified")]
    run = site.start_run()
    wait_for(lambda: has_compared(site, run), "the file is compared")
    assert run.end()[0] == 0
    assert len(logins(site)) == 3


def test_lines_that_a_stopping_rsyslogd_loses_are_told(site: Site) -> None:
    """A line is in the file; rsyslogd is silent for a while, as at a slow stop, and ends without having sent it."""
    run = site.start_run()
    wait_for(lambda: has_compared(site, run), "the file is compared")
    with site.log.open("ab") as log:
        log.write(session("bob", 8, 2)[0])
    wait(SILENCE_S, "rsyslogd has been silent")
    assert run.end()[0] == 0
    run = site.start_run()
    wait_for(lambda: has_compared(site, run), "the file is compared again")
    assert run.end()[0] == 0
    assert logins(site) == [("alice", "verified"), ("bob", "unverified")]


def test_a_disk_that_is_away_is_no_silence(site: Site) -> None:
    """``run`` waits for its disk, and reads nothing meanwhile: rsyslogd still has lines of the file, and sends them then."""
    bob, carol = session("bob", 8, 2), session("carol", 9, 3)
    with site.log.open("ab") as log:
        log.write(bob[0] + carol[0])
    run = site.start_run()
    wait_for(lambda: (run.pid,) in site.query("SELECT value FROM status WHERE name = 'pid'"), "its first tasks are over")
    resource.prlimit(run.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    run.write(bob[1][0])
    wait(DISK_S, "the disk has been away")
    resource.prlimit(run.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert run.reply() == b"OK\n"
    wait(PAUSE_S, "rsyslogd has made a pause")
    for line in (*bob[1][1:], *carol[1]):
        assert run.send(line) == b"OK\n"
    wait_for(lambda: has_compared(site, run), "the file is compared")
    assert run.end()[0] == 0
    assert logins(site) == [("alice", "verified"), ("bob", "verified"), ("carol", "verified")]
    assert site.query("SELECT value FROM status WHERE name = 'caught_up_total'") == [(0,)]


def test_rotated_file(site: Site) -> None:
    """Lines in the file that was rotated meanwhile are found as well as those in the new one."""
    with site.log.open("ab") as log:
        log.write(session("bob", 8, 2)[0])
    site.log.rename(site.log.with_name("auth.log.1"))
    site.log.write_bytes(session("carol", 9, 3)[0])
    run = site.start_run()
    wait_for(lambda: len(logins(site)) == 3, "3 logins are known")
    assert run.end()[0] == 0


def test_forged_line_is_not_revived(site: Site) -> None:
    """A line that was judged forged stands in the file as if it were genuine; it stays forged."""
    file, sent = session("mallory", 8, 2)
    with site.log.open("ab") as log:
        log.write(file)
    run = site.start_run()
    for line in sent:
        assert run.send(line.replace(b'"uid":0', b'"uid":1000')) == b"OK\n"
    wait_for(lambda: has_compared(site, run), "the file is compared")
    assert run.end()[0] == 0
    assert [user for user, _origin in logins(site)] == ["alice"]


def test_many_at_once_make_one_message(site: Site) -> None:
    """More than twenty logins that were found at once are told together, and each stands in the history."""
    with site.log.open("ab") as log:
        for number in range(30):
            log.write(session(f"user{number:02}", 100 + number, 2)[0])
    run = site.start_run()
    wait_for(lambda: len(logins(site)) == 31, "31 logins are known")
    wait_for(lambda: site.query("SELECT 1 FROM outbox WHERE action = 'sshbell_notice'"), "the message about many")
    assert run.end()[0] == 0
    told = site.query("SELECT action, count(*) FROM outbox GROUP BY action ORDER BY action")
    assert told in ([("ssh_login", 1), ("sshbell_notice", 1)], [("sshbell_notice", 1)])
