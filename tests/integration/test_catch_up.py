"""``catch_up``: lines that rsyslogd lost and only the log file has are told after the next start, and nothing else is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from consumer.store.database import reading
from tests.integration.test_run import Run, ours, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

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


class Site:
    """A configuration, its log file and its store."""

    def __init__(self, folder: Path) -> None:
        self.config, self.log, self.state_dir = folder / "sshbell.toml", folder / "auth.log", folder / "state"
        self.config.write_text(
            f'state_dir = "{self.state_dir}"\nuser = ""\ncatch_up = "{self.log}"\n'
            '[[channel]]\ntype = "email"\nname = "ops"\nto = ["a@example.org"]\n'
            'server = "127.0.0.1"\nport = 9\nsecurity = "none"\n'
            '[[route]]\nchannels = ["ops"]\n'
        )
        self.log.write_bytes(b"")
        self.run: Run | None = None

    def start(self) -> Run:
        """Start ``run``."""
        self.run = Run(self.config)
        assert self.run.reply() == b"OK\n"
        return self.run

    def asked(self, statement: str) -> list[tuple[object, ...]]:
        """Ask the store."""
        with reading(self.state_dir / "state.db") as connection:
            return connection.execute(statement).fetchall()

    def logins(self) -> list[tuple[object, ...]]:
        """Return users and origins of all logins."""
        return self.asked("SELECT user, origin FROM event WHERE action = 'ssh_login' ORDER BY user")

    def has_compared(self) -> bool:
        """Tell whether the log file has been looked at by this ``run``."""
        (started_us,), *_ = self.asked("SELECT value FROM status WHERE name = 'started_us'") or [(0,)]
        (compared_us,), *_ = self.asked("SELECT value FROM status WHERE name = 'compared_us'") or [(0,)]
        (pid,), *_ = self.asked("SELECT value FROM status WHERE name = 'pid'") or [(0,)]
        return self.run is not None and pid == self.run.pid and int(str(compared_us)) > int(str(started_us))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """Return a site whose ``run`` has once been there, so that it knows how far the file was heard of."""
    found = Site(tmp_path)
    file, sent = session("alice", 7, 1)
    found.log.write_bytes(session("before", 6, 0)[0])
    run = found.start()
    for line in sent:
        assert run.send(line) == b"OK\n"
    with found.log.open("ab") as log:
        log.write(file)
    wait_for(found.has_compared)
    assert run.end()[0] == 0
    yield found
    if found.run is not None:
        found.run.process.kill()
        found.run.process.communicate()


def test_first_start_tells_nothing_old(site: Site) -> None:
    """Without a position the first start begins at the end of the file."""
    assert site.logins() == [("alice", "verified")]


def test_lost_lines_are_told_and_marked(site: Site) -> None:
    """What only the file has is told, unverified; what came in as well is not told again."""
    bob, carol = session("bob", 8, 2), session("carol", 9, 3)
    with site.log.open("ab") as log:
        log.write(bob[0] + carol[0])
    run = site.start()
    for line in carol[1]:
        assert run.send(line) == b"OK\n"
    wait_for(lambda: len(site.logins()) == 3)
    assert run.end()[0] == 0
    assert site.logins() == [("alice", "verified"), ("bob", "unverified"), ("carol", "verified")]
    run = site.start()
    wait_for(site.has_compared)
    assert run.end()[0] == 0
    assert len(site.logins()) == 3


def test_rotated_file(site: Site) -> None:
    """Lines in the file that was rotated meanwhile are found as well as those in the new one."""
    with site.log.open("ab") as log:
        log.write(session("bob", 8, 2)[0])
    site.log.rename(site.log.with_name("auth.log.1"))
    site.log.write_bytes(session("carol", 9, 3)[0])
    run = site.start()
    wait_for(lambda: len(site.logins()) == 3)
    assert run.end()[0] == 0


def test_forged_line_is_not_revived(site: Site) -> None:
    """A line that was judged forged stands in the file as if it were genuine; it stays forged."""
    file, sent = session("mallory", 8, 2)
    with site.log.open("ab") as log:
        log.write(file)
    run = site.start()
    for line in sent:
        assert run.send(line.replace(b'"uid":0', b'"uid":1000')) == b"OK\n"
    wait_for(site.has_compared)
    assert run.end()[0] == 0
    assert [user for user, _origin in site.logins()] == ["alice"]


def test_many_at_once_make_one_message(site: Site) -> None:
    """More than twenty logins that were found at once are told together, and each stands in the history."""
    with site.log.open("ab") as log:
        for number in range(30):
            log.write(session(f"user{number:02}", 100 + number, 2)[0])
    run = site.start()
    wait_for(lambda: len(site.logins()) == 31)
    wait_for(lambda: site.asked("SELECT 1 FROM outbox WHERE action = 'sshbell_notice'"))
    assert run.end()[0] == 0
    told = site.asked("SELECT action, count(*) FROM outbox GROUP BY action ORDER BY action")
    assert told in ([("ssh_login", 1), ("sshbell_notice", 1)], [("sshbell_notice", 1)])
