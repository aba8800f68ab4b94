"""Several shards behind one rsyslogd, and one ``run`` that gathers their events: nothing is lost, split or reported twice."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import sqlite3
import time
from collections import Counter
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from consumer.system.shards import installed_shards, shards_of, with_shards
from tests.integration.host import child_with
from tests.integration.rsyslogd import DROP_IN
from tests.integration.shards import MAIN_QUEUE, ShardedRsyslogd, arrived
from tests.integration.test_rsyslog import accepted, main_with
from tests.integration.truth import Capture, replay
from tests.store_events import line, session_lines, try_line
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.integration.site import Run, Site

THREE_HOSTS = Capture("three-hosts-9.2p1-debian12", "merged", "rfc3339")
# The events whose ids depend on the lines of one host alone.
STORIES = {"ssh_login", "ssh_logout", "ssh_attempt", "ssh_probe"}
_LINE = re.compile(rb"(\S+) (\S+) ([^\[: ]+)(?:\[(\d+)\])?: (.*)", re.DOTALL)


@pytest.mark.parametrize("shards", [2, 3, 64])
def test_the_drop_in_is_accepted(tmp_path: Path, shards: int) -> None:
    """The real rsyslogd finds no fault with it; each shard has its own queue; it has the filters of the shipped one."""
    shipped = DROP_IN.read_text()
    drop_in = with_shards(shipped, shards)
    path = tmp_path / "30-sshbell.conf"
    path.write_text(drop_in)
    accepted(main_with(tmp_path, 'module(load="imuxsock")', f'include(file="{path}")'))
    assert (shards_of(drop_in), installed_shards(path), shards_of(shipped)) == (shards, shards, 1)
    assert re.findall(r'queue\.filename="(\w+)"', drop_in) == [f"sshbell_{number}" for number in range(shards)]
    assert drop_in.count('queue.workerThreads="1"') == shards + 1
    filters = re.compile(r"^(?:if|\} else if) \(.*", re.MULTILINE | re.DOTALL)
    (ours,), (theirs,) = filters.findall(drop_in), filters.findall(shipped)
    assert re.sub(r"call sshbell_\w+", "", ours) == re.sub(r"call sshbell_\w+", "", theirs)


def test_order(tmp_path: Path) -> None:
    """
    As fast as rsyslogd takes them: no line of a host overtakes another, no host is in two shards, no line is lost.

    Without the settings of the main queue, lines are out of order at this rate and number.
    """
    with ShardedRsyslogd(tmp_path, 4, is_recording=True) as rsyslogd:
        found = arrived(rsyslogd, 200, 120_000, 4)
    assert (found.lost, found.breaks, found.split) == (0, 0, 0)
    assert min(found.shards) > 20_000


def test_order_needs_one_worker(tmp_path: Path) -> None:
    """With a second worker for the main queue, the same check finds lines out of order."""
    with ShardedRsyslogd(tmp_path, 2, is_recording=True) as rsyslogd:
        pass
    path = tmp_path / DROP_IN.name
    drop_in, count = MAIN_QUEUE.subn(
        'main_queue(queue.size="200000" queue.workerThreads="2" queue.workerThreadMinimumMessages="10")\n', path.read_text()
    )
    assert count == 1
    path.write_text(drop_in)
    for name in ("port", "received.0", "received.1"):
        (tmp_path / name).unlink()
    with rsyslogd:
        found = arrived(rsyslogd, 50, 40_000, 2)
    assert (found.lost, found.split) == (0, 0)
    assert found.breaks > 0


def stories(events: list[dict[str, Any]]) -> Counter[tuple[str, str]]:
    """Return action and id of each event of a single host."""
    return Counter((event["event.action"], event["event.id"]) for event in events if event["event.action"] in STORIES)


def test_three_hosts_through_rsyslogd(tmp_path: Path) -> None:
    """PIDs that collide and come again, on three hosts: all events of ``replay``, which the truth confirms, and no others."""
    wanted = stories(replay(THREE_HOSTS))
    with ShardedRsyslogd(tmp_path, 3, is_recording=False) as rsyslogd:
        rsyslogd.send([b"<86>" + each + b"\n" for each in THREE_HOSTS.read().splitlines()])

        def found() -> Counter[tuple[str, str]]:
            return stored(lambda statement: query(rsyslogd.state_dir, statement))

        wait_for(lambda: found() == wanted, "all events are gathered")
        used = {number for number in range(3) if list(rsyslogd.received(number))}
    assert len(used) > 1
    assert sum(wanted.values()) > 80


def query(state_dir: Path, statement: str) -> list[Any]:
    """Query the store of the ``run`` that gathers; nothing if there is none yet."""
    if not (state_dir / "state.db").exists():
        return []
    try:
        with closing(sqlite3.connect(f"file:{state_dir}/state.db?mode=ro", uri=True)) as connection:
            return connection.execute(statement).fetchall()
    except sqlite3.OperationalError:
        return []


def stored(ask: Callable[[str], list[Any]]) -> Counter[tuple[str, str]]:
    """Return action and id of each stored event of a single host."""
    return Counter((action, id_) for action, id_ in ask("SELECT action, id FROM event") if action in STORIES)


def as_json(text: bytes, number: int) -> bytes:
    """Return a line as the template of the drop-in writes it; the number makes it differ from an equal one."""
    found = _LINE.fullmatch(text)
    assert found is not None
    stamp, host, program, pid, message = (part.decode("latin-1") if part is not None else "" for part in found.groups())
    fields = {"v": "1", "ts": stamp, "rcvd": f"2026-11-22T12:00:00.{number:06}+00:00", "host": host, "from_ip": "192.0.2.250"}
    fields |= {"tag": f"{program}[{pid}]:", "prog": program, "procid": pid, "msg": f" {message}"}
    return json.dumps(fields, ensure_ascii=False).encode("latin-1") + b"\n"


class Shards:
    """The shards of a site; the test plays the part of rsyslogd."""

    def __init__(self, site: Site, count: int) -> None:
        self.site = site
        self.runs: list[Run] = [site.start_run("--shard", str(number)) for number in range(count)]

    def gathering(self) -> int:
        """Return the pid of the ``run`` that gathers."""
        return child_with(self.runs[0].pid, b"--gather")

    def restart(self, number: int) -> None:
        """Start a shard again, as rsyslogd does after its death."""
        self.runs[number] = self.site.start_run("--shard", str(number))

    def send(self, number: int, text: bytes) -> None:
        """Send a line to a shard until it confirms the line."""
        while self.runs[number].send(text) != b"OK\n":
            self.restart(number)

    def end(self) -> None:
        """End all of them."""
        for run in reversed(self.runs):
            assert run.end()[0] == 0


def test_kills(site: Site) -> None:
    """
    Shards and the ``run`` that gathers die with signal 9 in the middle of their work.

    No event is lost, none is counted twice, and each login makes one message.
    """
    site.configure(channel=site.channels())
    lines = THREE_HOSTS.read().splitlines()
    hosts = sorted({_LINE.fullmatch(each).group(2) for each in lines})  # type: ignore[union-attr]
    chance = random.Random(7)  # noqa: S311 - only where to kill
    kills = {chance.randrange(20, len(lines) - 20): kind for kind in (0, "gather", 2, "gather")}
    shards = Shards(site, 3)
    for number, text in enumerate(lines):
        kind = kills.get(number)
        if kind == "gather":
            os.kill(shards.gathering(), signal.SIGKILL)
        elif isinstance(kind, int):
            shards.runs[kind].process.kill()
        host = _LINE.fullmatch(text).group(2)  # type: ignore[union-attr]
        shards.send(hosts.index(host), as_json(text, number))
    events = replay(THREE_HOSTS)
    wanted = stories(events)
    wait_for(lambda: stored(lambda text: query(site.state_dir, text)) == wanted, "all events are gathered")
    sessions = Counter(id_ for action, id_ in wanted if action in {"ssh_login", "ssh_logout"})
    wait_for(lambda: len(set(site.post.ids)) >= len(sessions), "each login and logout is reported")
    shards.end()
    assert stored(site.query) == wanted
    assert len(site.post.ids) == len(sessions)
    # What detectors have counted shows that they have seen each try once.
    (counted,) = site.query("SELECT count(*), sum(count) FROM event WHERE action = 'ssh_attempt'")
    tries = [event for event in events if event["event.action"] == "ssh_attempt"]
    assert counted == (len(tries), sum(event.get("ssh.count", 1) for event in tries))


def test_an_address_on_many_hosts(site: Site) -> None:
    """Tries on hosts of several shards, too few on each of them, make one finding, one block and one message."""
    channels = site.channels()
    route = [{"events": ["guessing", "ssh_login"], "channels": ["ops"]}]
    access = site.folder / "block" / "access.conf"
    access.parent.mkdir(mode=0o755)
    site.configure(channel=channels, route=route, block={"mode": "dry-run", "access_file": str(access)})
    shards = Shards(site, 3)
    at_us = time.time_ns() // 1000
    pids = iter(range(100, 200))
    for turn in range(4):
        for number in range(3):
            text = try_line(next(pids), at_us=at_us + turn * 1_000_000, address="203.0.113.7", host=f"web{number}")
            shards.send(number, verified(text, turn * 3 + number))
    wait_for(lambda: query(site.state_dir, "SELECT 1 FROM event WHERE action = 'guessing'"), "the guesser is found")
    # Logins of all shards are in one list, and the clock of each shard goes on without lines.
    for number in range(3):
        for each in session_lines(700, "alice", at_us=at_us, lasts_s=None, host=f"web{number}"):
            shards.send(number, each + b"\n")
    wait_for(lambda: len(site.post.ids) >= 4, "the finding and three logins are reported")
    assert sorted(session["host"]["name"] for session in site.objects("who")) == ["web0", "web1", "web2"]
    wait_for(lambda: lines_of_status(site) == [6, 6, 6, 18], "status shows the lines of each shard, and of all")
    shards.end()
    found = Counter(action for action, *_ in site.events())
    assert found == {"ssh_attempt": 12, "guessing": 1, "ssh_block": 1, "ssh_login": 3}
    assert len(site.post.ids) == 4


def lines_of_status(site: Site) -> list[int]:
    """Return the lines of each shard that runs, and of all, as ``status`` shows them."""
    status = json.loads(site.ask("status", "--json").stdout)
    return [*(shard["lines"] for shard in status["shards"] if shard["running"]), status["lines"]["lines_total"]]


def verified(text: bytes, number: int) -> bytes:
    """Return a line for whose sender the kernel vouches."""
    fields = json.loads(as_json(text, number)) | {"uid": 0, "pid": 1, "exe": "/usr/sbin/sshd"}
    return json.dumps(fields).encode() + b"\n"


def test_a_dead_shard_is_a_problem(site: Site) -> None:
    """``status`` names the shard that does not run; what the others gathered counts."""
    shards = Shards(site, 2)
    shards.send(1, line(time.time_ns() // 1000, 7, "Server listening on 0.0.0.0 port 22.") + b"\n")
    shards.gathering()
    wait_for((site.state_dir / "state.db").exists, "the run that gathers has begun")
    status = json.loads(site.ask("status", "--json").stdout)
    assert [shard["shard"] for shard in status["shards"]] == [0, 1]
    shards.runs[1].kill()
    # Without the drop-in, a shard that does not run is none.
    status = json.loads(site.ask("status", "--json").stdout)
    assert [shard["shard"] for shard in status["shards"]] == [0]
    shards.runs.pop().process.wait()
    shards.end()


def test_the_log_is_not_searched(site: Site) -> None:
    """A shard knows the lines of its own hosts only, so it takes no line of another one from the log file."""
    site.log.write_bytes(b"".join(each + b"\n" for each in session_lines(9, host="other")))
    site.configure(catch_up=str(site.log))
    shards = Shards(site, 2)
    shards.send(0, session_lines(10)[0] + b"\n")
    shards.end()
    assert all("catch" not in name for name in (path.name for path in site.state_dir.iterdir()))
    assert site.query("SELECT count(*) FROM event WHERE host = 'other'") == [(0,)]
