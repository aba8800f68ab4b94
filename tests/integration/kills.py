"""
Tests with a seed that sshbell never loses a confirmed line, whichever process is killed.

    python tests/integration/kills.py --seed 1 --logins 2000 --lines 20000 --kills 100 --forged 20000

The real rsyslogd with the shipped drop-in writes a log file and feeds ``run``, whose ``deliver`` sends mail to a server. While
lines come in, this program kills all three with signal 9: from outside at any time, and at chosen places of their work
(``dying.py``). Between the kills, it restarts rsyslogd in order, and sends HUPs. Then it compares mails and store with those of
an undisturbed run of the same input. The seed decides the input and the kills; the machine decides the moments.

A second channel gets all events and folds them, so its messages have to add up to the events.

In every other step, ``run``, ``deliver`` or both lose their disk for a while: the kernel lets them write no file beyond a size
(RLIMIT_FSIZE). A small size stops all of their writes; a larger one leaves room for the journal, but not for the store. Some die
while they wait for the disk, some after it is back.

rsyslogd 8.2302 itself may hang: then it passes no lines on, and does not stop. This program kills it after a minute, and counts
that. sshbell then reports what only the log file has, more than 20 events in one message, and cannot know that rsyslogd still has
some of these lines on its disk. So after a hang, this program accepts events that are there twice, but still misses none.

``--forged`` adds lines that another user writes in sshd's name through the local socket. sshbell must count each of them exactly
once. If rsyslogd dies with such a line in its memory, only the log file has it, and without its writer. Then sshbell may report
it as a login, but never as a verified one.

Blocking is on, and ``guard`` dies and loses its disk, too. Wrong passwords come through the local socket, of some addresses and
for some users: for each, about as many as block it. Afterwards sshbell must have found and blocked the same as undisturbed, for
as long, and the events, ``block.db`` and the file for pam_access must agree. Again, what only the log file has does not count as
verified. So a target may go free if it lacks such tries.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import resource
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import ExitStack, closing, suppress
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))

from consumer.actions import EventAction
from consumer.block.access_conf import HEAD
from tests import needs
from tests.integration.dying import DEATHS, PLACES, write_down
from tests.integration.post_office import PostOffice
from tests.integration.rsyslogd import Rsyslogd, entry_point
from tests.integration.site import configuration, mail_channel
from tests.waiting import came_true, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

HOST = "web1"
FORGER, FORGER_UID = "mallory", 65534
PAM = "logname= uid=0 euid=0 tty=ssh ruser="
# Lines per second.
RATE = 2000
# One step in this many also restarts rsyslogd, or sends HUP.
RESTART_EVERY, HANG_UP_EVERY = 6, 5
OUTSIDE = "from outside"
HUNG = "times that rsyslogd hung at its stop, and was killed"
OUTSIDE_OF = ("run", "run", "deliver", "deliver", "guard", "smtp")
# One step in this many takes the disk away; from these processes; and limits files to nothing new, or a segment of the journal.
DISK_EVERY = 2
DISK_OF = (("run",), ("run",), ("deliver",), ("guard",), ("run", "deliver", "guard"))
DISK_SIZES = (0, 65_536)
DISK_S = 1.5
# If no line has come for this long, run has got all lines that rsyslogd has: rsyslogd's pause after a death is shorter, and run's
# status is up to five seconds old.
QUIET_S = 8.0
# run restarts a deliver that keeps dying after up to a minute, and a slow machine sends thousands of messages slowly.
PATIENCE_S = 900.0
# How long to wait for a process to reach a place, before killing it elsewhere.
ARMED_S = 8.0
# The last lines are this much later, so that all waits of sshbell are over.
LATER_S = 700

# So many wrong passwords block an address or a user. The other tries of the input stay below it, or nobody vouches for them.
BLOCKING_TRIES = 12
GUESSERS, VICTIMS = 12, 6
# The owner of an address that is never blocked, and from where this user may log in while blocked.
KEEPER, OFFICE = "keeper", "198.18.0.250"
# This one has guessed his password, and logs in with it while processes are killed.
INTRUDER, INTRUDER_ADDRESS = "intruder", "198.18.0.251"
GUESSED = (KEEPER, *(f"victim{number}" for number in range(VICTIMS - 1)))

TOLD = ("ssh_login", "ssh_logout")
# The channel that folds.
FOLDED = "all"
INPUT = """
global(localHostname="{host}")
module(load="imtcp")
input(type="imtcp" address="127.0.0.1" port="0" listenPortFileName="{folder}/tcp_port")
"""


# ---------------------------------------------------------------- the input


class Guess(NamedTuple):
    """A wrong password, for which the kernel vouches."""

    address: str
    port: int
    user: str


class Forgery(NamedTuple):
    """A line that another user forges."""


Entry = str | Guess | Forgery


@cache
def is_own(address: str) -> bool:
    """Return whether an address belongs to this machine. sshbell reports a login from there as one through this host."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True


def connections(dice: random.Random, logins: int, lines: int) -> list[list[str]]:
    """Return connections, each as the lines "tag: text" of its story: ``logins`` logins, and others up to ``lines`` lines."""
    # No process has such a number, so none of those that send lines through the local socket.
    pids = iter(range(5_000_000, 9_000_000, 2))
    found: list[list[str]] = []

    def source(*networks: str) -> tuple[int, str]:
        address = ""
        while not address or is_own(address):
            network = dice.choice(networks)
            address = network if ":" in network else f"{network}.{dice.randrange(1, 255)}"
        return next(pids), f"{address} port {dice.randrange(1024, 65536)}"

    for number in range(logins):
        has_failed = dice.random() < 0.2
        # How many tries come before a login depends on rsyslogd, which has a queue for each; so no address or network has many.
        pid, place = source(*(f"198.19.{each}" for each in range(64, 128))) if has_failed else source("192.0.2", "2001:db8::7")
        user = f"user{number}"
        key = f": ED25519 SHA256:{dice.randbytes(32).hex()[:43]}"
        method, info = dice.choice([("password", ""), ("publickey", key), ("keyboard-interactive/pam", "")])
        story = [
            f"sshd[{pid}]: Accepted {method} for {user} from {place} ssh2{info}",
            f"sshd[{pid}]: pam_unix(sshd:session): session opened for user {user}(uid={1000 + number}) by (uid=0)",
            f"sshd[{pid}]: pam_unix(sshd:session): session closed for user {user}",
        ]
        if dice.random() < 0.5:
            story[2:2] = [
                f"sshd[{pid + 1}]: Received disconnect from {place}:11: disconnected by user",
                f"sshd[{pid + 1}]: Disconnected from user {user} {place}",
            ]
        if has_failed:
            story[0:0] = [f"sshd[{pid}]: Failed password for {user} from {place} ssh2"]
        found.append(story)
    left = lines - sum(map(len, found))
    while left > 0:
        pid, place = source("198.19.0", "198.19.1", "2001:db8:1::7")
        guess = dice.choice(["root", "admin", "invalid user oracle", f"user{dice.randrange(logins)}"])
        tries = dice.randrange(1, 4)  # equal lines, often of one second
        failed = [
            f"sshd[{pid}]: pam_unix(sshd:auth): authentication failure; {PAM} rhost={place.partition(' ')[0]}",
            *[f"sshd[{pid}]: Failed password for {guess} from {place} ssh2"] * tries,
            f"sshd[{pid}]: Connection closed by {'' if guess[:3] == 'inv' else 'authenticating user '}{guess} {place} [preauth]",
        ]
        other = [
            [f"sshd[{pid}]: Connection closed by {place} [preauth]"],
            [f"sshd[{pid}]: banner exchange: Connection from {place}: invalid format"],
            [f"CRON[{pid}]: (root) CMD (run-parts /etc/cron.hourly)"],
            [f"sshd[{pid}]: a line that nobody knows, {dice.randrange(10**9)}"],
        ]
        found.append((failed if dice.random() < 0.4 else dice.choice(other))[:left])
        left -= len(found[-1])
    return found


def woven(dice: random.Random, stories: list[list[str]]) -> list[str]:
    """Let connections overlap as real ones do; the lines of each stay in order."""
    placed: list[tuple[float, int, str]] = []
    for number, story in enumerate(stories):
        at = dice.random()
        for line in story:
            placed.append((at, number, line))
            at += dice.choice([0, dice.expovariate(2000), dice.expovariate(50)])
    return [line for _, _, line in sorted(placed, key=lambda entry: entry[:2])]


def guesses(dice: random.Random) -> list[Entry]:
    """Return wrong passwords of some addresses and for some users, each around as many as block, in a random order."""
    near = (BLOCKING_TRIES - 1, BLOCKING_TRIES, BLOCKING_TRIES + 1)
    found: list[Entry] = []
    for number in range(1, GUESSERS + 1):
        found += [Guess(f"198.18.0.{number}", 1024 + port, f"guest{number}") for port in range(dice.choice(near))]
    # The office is the only address with so many tries at one of these users.
    for number, user in enumerate(GUESSED):
        found += [Guess(f"198.18.{number + 1}.{each}", 1024, user) for each in range(dice.choice(near))]
    found.append(f"sshd[9999997]: Accepted password for {INTRUDER} from {INTRUDER_ADDRESS} port 1 ssh2")
    found += [Guess(OFFICE, 1024 + port, "guest0") for port in range(2 * BLOCKING_TRIES)]
    dice.shuffle(found)
    return found


def mixed(dice: random.Random, lines: Sequence[Entry], others: Sequence[Entry]) -> list[Entry]:
    """Spread other entries evenly at random between lines."""
    found: list[Entry] = []
    begin = 0
    for place, other in zip(sorted(dice.randrange(len(lines) + 1) for _ in others), others, strict=True):
        found += [*lines[begin:place], other]
        begin = place
    return [*found, *lines[begin:]]


# ---------------------------------------------------------------- the parts


class Site:
    """All parts of one run, in its own folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.armed = folder / "armed"
        self.sent = self.forged = 0
        self.hung = 0
        self.access = folder / "block" / "access.conf"
        self._parts = ExitStack()

    def __enter__(self) -> Self:
        self.armed.mkdir()
        self.access.parent.mkdir()
        (self.folder / "post").mkdir()
        self.post = self._parts.enter_context(PostOffice(self.folder / "post", self.armed))
        config = self.folder / "sshbell.toml"
        log = str(self.folder / "all.log")
        channels = [mail_channel(self.post.port), mail_channel(self.post.port, FOLDED)]
        route: list[dict[str, Any]] = [
            {"events": list(TOLD), "channels": ["ops"]},
            {"events": list(EventAction), "channels": [FOLDED], "fold": ["event", "host"], "window": "3s"},
        ]
        block = {"mode": "on", "access_file": str(self.access), "duration": "1d"}
        limit = f"{BLOCKING_TRIES}/6h"
        detect = {"guessing": {"host_rule": f"*:{limit}", "user_rule": f"{'|'.join(GUESSED)}:{limit}"}}
        config.write_text(
            configuration(self.folder / "state", catch_up=log, channel=channels, route=route, block=block, detect=detect)
        )
        dying = Path(__file__).with_name("dying.py")
        command = [sys.executable, str(dying), str(self.armed), "run", "--config", str(config)]
        child = entry_point(self.folder, command)
        self.rsyslogd = self._parts.enter_context(
            Rsyslogd(self.folder, more=INPUT.format(folder=self.folder, host=HOST), child=child)
        )
        self._connect()
        # rsyslogd asks the kernel which program writes a line.
        sshd = shutil.copy(needs.program("sleep", "coreutils"), self.folder / "sshd")
        self._sshd = subprocess.Popen([sshd, "infinity"])
        self._parts.callback(self._sshd.wait)
        self._parts.callback(self._sshd.kill)
        return self

    def __exit__(self, *_details: object) -> None:
        self._socket.close()
        self._parts.close()

    def _connect(self) -> None:
        wait_for(self._is_connected, "imtcp listens")

    def _is_connected(self) -> bool:
        """Connect; imtcp writes the number of its port before it listens there."""
        try:
            self._socket = socket.create_connection(("127.0.0.1", int((self.folder / "tcp_port").read_text())))
        except (FileNotFoundError, ValueError, ConnectionRefusedError):
            return False
        return True

    def send(self, line: str, later_s: float = 0) -> None:
        """Log a line, now."""
        at = datetime.now(UTC) + timedelta(seconds=later_s)
        self._socket.sendall(f"<86>{at.isoformat(timespec='microseconds')} {HOST} {line}\n".encode())
        self.sent += 1

    def forge(self) -> None:
        """Log a line in sshd's name as another user, now."""
        text = f"Accepted password for {FORGER} from 203.0.113.66 port {self.forged % 60_000 + 1} ssh2"
        self.rsyslogd.send_as(FORGER_UID, "sshd", text)
        self.forged += 1
        self.sent += 1

    def vouch(self, text: str) -> None:
        """Log a line as a process of sshd, now."""
        self.rsyslogd.send_as(0, "sshd", text, self._sshd.pid)
        self.sent += 1

    def drain(self) -> None:
        """Wait until rsyslogd has written all sent lines to the file: then sshbell's queue has them, too."""
        wait_for(lambda: self.logged() >= self.sent, "rsyslogd writes all lines to the file")

    def logged(self) -> int:
        """Return the number of this run's lines in the file."""
        with suppress(FileNotFoundError):
            return (self.folder / "all.log").read_bytes().count(f" {HOST} ".encode())
        return 0

    def restart(self) -> None:
        """
        Stop rsyslogd in order, and start it again.

        If its queue has spilled to the disk while ``run`` starts, rsyslogd 8.2302 cancels both of its workers, and may never end.
        """
        self.drain()
        self._socket.close()
        (self.folder / "tcp_port").unlink()
        self.hung += not self.rsyslogd.restart(may_hang=True)
        self._connect()

    def pid(self, who: str) -> int | None:
        """Return the pid of ``run``, ``deliver``, ``guard`` or ``smtp``; None if it is not running."""
        if who == "smtp":
            return self.post.process.pid if self.post.process.poll() is None else None
        try:
            pid = int((self.folder / "state" / "run.lock").read_text())
            # Its children are deliver, guard and keys.
            pids = [pid] if who == "run" else Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            for each in map(int, pids):
                words = Path(f"/proc/{each}/cmdline").read_bytes().split(b"\0")
                if str(self.armed).encode() in words and who.encode() in words:
                    return each
        except (OSError, ValueError):
            pass
        return None

    def limit_files(self, pid: int | None, size: int) -> bool:
        """Let a process write no file beyond a size; return whether it existed. RLIM_INFINITY removes the limit."""
        try:
            if pid is not None:
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
        except (ProcessLookupError, PermissionError):  # dying, or dead
            return False
        return pid is not None

    def lift_limits(self) -> None:
        """Remove the limit from ``run``, and then from its children and from orphans, which may have inherited it."""
        pid = self.pid("run")
        self.limit_files(pid, resource.RLIM_INFINITY)
        children = []
        with suppress(OSError):
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for each in [*children, *self._orphans()]:
            self.limit_files(int(each), resource.RLIM_INFINITY)

    def _orphans(self) -> Iterator[str]:
        """Yield the processes that ``run`` has started and that outlive it."""
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                if str(self.armed).encode() in path.read_bytes().split(b"\0"):
                    yield path.parent.name

    def query(self, database: str, statement: str) -> list[tuple[Any, ...]]:
        """Query one of the databases; return nothing if that is not possible now."""
        path = self.folder / "state" / database
        try:
            with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
                return connection.execute(statement).fetchall()
        except sqlite3.OperationalError:
            return []

    def is_quiet(self) -> bool:
        """Return whether ``run`` is running and has got no line for a while."""
        status = dict(self.query("state.db", "SELECT name, value FROM status"))
        return bool(status) and status["pid"] == self.pid("run") and time.time() - status["last_line_us"] / 1e6 > QUIET_S

    def deaths(self) -> list[tuple[int, str, str]]:
        """Return all deaths: the time in nanoseconds, the process, and the place."""
        with suppress(FileNotFoundError):
            rows = [line.split(" ", 2) for line in (self.armed / DEATHS).read_text().splitlines()]
            return [(int(at), who, place) for at, who, place in rows]
        return []


# ---------------------------------------------------------------- what happens


class Disk(threading.Thread):
    """Takes the disk away from processes, and gives it back after a while."""

    def __init__(self, site: Site, dice: random.Random) -> None:
        super().__init__()
        self._site = site
        self._whom, self._size = dice.choice(DISK_OF), dice.choice(DISK_SIZES)
        self._seconds = dice.uniform(0.1, DISK_S)
        self.taken = 0

    def run(self) -> None:
        """Do so. Orphans of processes killed meanwhile get it back, too."""
        pids = [self._site.pid(who) for who in self._whom]
        self.taken = sum(self._site.limit_files(pid, self._size) for pid in pids)
        time.sleep(self._seconds)  # the length of the outage
        for pid in pids:
            self._site.limit_files(pid, resource.RLIM_INFINITY)
        self._site.lift_limits()


class Feeder(threading.Thread):
    """Sends lines while processes are killed."""

    def __init__(self, site: Site, lines: Sequence[Entry]) -> None:
        super().__init__()
        self._site, self._lines = site, lines

    def run(self) -> None:
        """Send them at ``RATE``."""
        for number, line in enumerate(self._lines, 1):
            match line:
                case str():
                    self._site.send(line)
                case Forgery():
                    self._site.forge()
                case Guess(address, port, user):
                    self._site.vouch(f"Failed password for {user} from {address} port {port} ssh2")
            if number % 20 == 0:
                time.sleep(20 / RATE)  # to keep the rate


def kill_from_outside(site: Site, who: str) -> bool:
    """Kill a process; return whether it was running."""
    pid = site.pid(who)
    if pid is None:
        return False
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: site.pid(who) != pid, f"{who} is dead")
    # Recorded afterwards, so that all of its actions come before the time of its death.
    write_down(site.armed, who, OUTSIDE)
    return True


def kill_at_a_place(site: Site, who: str, place: str, before: int) -> bool:
    """Wait until a process reaches an armed place and dies; return whether it did. ``before`` counts the earlier deaths."""
    file = site.armed / f"{who} {place}"
    if not came_true(lambda: not file.exists(), ARMED_S):
        with suppress(FileNotFoundError):
            file.unlink()
            return False
    wait_for(lambda: any(death[1:] == (who, place) for death in site.deaths()[before:]), f"{who} dies {place}")
    return True


def is_alive(site: Site, who: str) -> Callable[[], bool]:
    """Return a condition to wait for: a process is running. It also restarts the mail server, which has no parent to do that."""

    def is_so() -> bool:
        site.post.revive()
        return site.pid(who) is not None

    return is_so


def disturb(site: Site, lines: Sequence[Entry], kills: int, dice: random.Random) -> Counter[str]:
    """Feed all lines, and kill ``kills`` times meanwhile; return the counts of other disturbances."""
    done: Counter[str] = Counter()
    places = [(who, place) for who, named in PLACES.items() for place in named]
    dice.shuffle(places)
    for step in range(kills):
        who, place = places[step // 2 % len(places)] if step % 2 else (dice.choice(OUTSIDE_OF), OUTSIDE)
        part = lines[len(lines) * step // kills : len(lines) * (step + 1) // kills]
        is_restarted = dice.random() < 1 / RESTART_EVERY
        rest = part[len(part) // 2 :] if is_restarted else []
        disk = Disk(site, dice) if step % DISK_EVERY else None
        if disk is not None:
            disk.start()
        done["places that no process reached"] += not fed_with_a_kill(site, part[: len(part) - len(rest)], who, place, dice)
        if disk is not None:
            disk.join()
            done["times that the disk was away"] += disk.taken
        if dice.random() < 1 / HANG_UP_EVERY:
            # With this line, rsyslogd restarts a run that died between lines.
            site.send("sshd[1]: a line that nobody knows")
            wait_for(is_alive(site, "run"), "run runs", PATIENCE_S)
            site.rsyslogd.hang_up()
            done["HUPs to rsyslogd"] += 1
        if is_restarted:
            site.restart()
            # New lines between those from rsyslogd's disk. run finds the lines lost in flight once it lives long enough.
            Feeder(site, rest).run()
            done["orderly restarts of rsyslogd"] += 1
    return done


def fed_with_a_kill(site: Site, lines: Sequence[Entry], who: str, place: str, dice: random.Random) -> bool:
    """Feed lines, and kill a process meanwhile; return whether it died at the place."""
    feeder = Feeder(site, lines)
    # Sometimes send lines while the process is still down. rsyslogd restarts a run that died between lines only at the next line.
    is_early = dice.random() < 0.5 or site.pid("run") is None
    if is_early:
        feeder.start()
    wait_for(is_alive(site, who), f"{who} runs", PATIENCE_S)
    before = len(site.deaths())
    if place != OUTSIDE:
        (site.armed / f"{who} {place}").touch()
    if not is_early:
        feeder.start()
    try:
        if place != OUTSIDE and kill_at_a_place(site, who, place, before):
            return True
        time.sleep(dice.uniform(0, 0.2))  # at any moment
        while not kill_from_outside(site, who):
            wait_for(is_alive(site, who), f"{who} runs", PATIENCE_S)
        return place == OUTSIDE
    finally:
        feeder.join()


def has_compared(site: Site) -> bool:
    """Return whether ``run`` is running and has finished with the log file."""
    pid = site.pid("run")
    try:
        return pid is not None and str(site.folder / "all.log") not in map(os.readlink, Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return False


def begin(site: Site) -> None:
    """Let ``run`` start and record the end of the log file."""
    site.send("sshd[1]: Server listening on 0.0.0.0 port 22.")
    wait_for(lambda: has_compared(site), "run has read the log file")
    site.vouch(f"Accepted password for {KEEPER} from {OFFICE} port 1 ssh2")
    site.vouch(f"pam_unix(sshd:session): session opened for user {KEEPER}(uid=998) by (uid=0)")
    for port in range(BLOCKING_TRIES):
        site.vouch(f"Failed password for {INTRUDER} from {INTRUDER_ADDRESS} port {1024 + port} ssh2")
    has_come = "SELECT 1 FROM event, session WHERE action = 'ssh_block' AND session.user IS NOT NULL"
    wait_for(lambda: bool(site.query("state.db", has_come)), "one is blocked, and one is logged in")
    site.restart()


def finish(site: Site, *, is_disturbed: bool) -> None:
    """Wait until sshbell has handled everything: lines, lines that only the file has, mails."""
    if is_disturbed:
        site.send("sshd[1]: a line, so that rsyslogd restarts a run that died between lines")
        site.drain()
        wait_for(site.is_quiet, "rsyslogd has sent all lines")
        site.restart()
    wait_for(lambda: has_compared(site), "run has compared the log file with the received lines")
    address = next(address for address in ("192.0.2.1", "198.51.100.1", "203.0.113.1") if not is_own(address))
    for text in (
        f"Accepted password for marker from {address} port 1 ssh2",
        "pam_unix(sshd:session): session opened for user marker(uid=999) by (uid=0)",
        "pam_unix(sshd:session): session closed for user marker",
    ):
        site.send(f"sshd[9999999]: {text}", LATER_S)
    site.drain()
    wait_for(lambda: is_alive(site, "smtp")() and site.is_quiet() and is_reported(site), "all is reported", PATIENCE_S)
    # run restarts a guard that keeps dying after up to a minute. What is still missing then, the comparison reports.
    came_true(lambda: disagreements(site) == [], PATIENCE_S)


def is_reported(site: Site) -> bool:
    """Return whether the marker's logout is stored, and no message waits."""
    # The marker goes first. With its lines, ``run`` also stores the tries that waited for later lines. So if the marker came
    # last, all these could come between the queries, and no message of theirs would be waiting yet.
    if not site.query("state.db", "SELECT 1 FROM event WHERE user = 'marker' AND action = 'ssh_logout'"):
        return False
    last = site.query("state.db", "SELECT max(seq) FROM sqlite_sequence WHERE name = 'outbox'")
    routed = site.query("delivery.db", "SELECT seq FROM cursor")
    waiting = site.query("delivery.db", "SELECT count(*) FROM delivery WHERE state = 'pending'")
    return bool(last) and routed == last and waiting == [(0,)]


# ---------------------------------------------------------------- the outcome


class Forged(NamedTuple):
    """How many forged lines were sent, how many sshbell counted, and the origins of those that it took for logins."""

    sent: int
    counted: int
    origins: Counter[str]


class Blocking(NamedTuple):
    """
    What a run made of the guesses.

    Attributes:
        tries: by address and user: how many the kernel vouches for, and how many not.
        findings: the detector, and whom it found; of guessing, only by verified lines.
        blocks: the targets, with the seconds from the deciding line to the end, the step, and the exceptions.
        disagreements: between the events, ``block.db`` and the file for pam_access.
    """

    tries: dict[tuple[str, str], tuple[int, int]]
    findings: Counter[tuple[Any, ...]]
    blocks: Counter[tuple[Any, ...]]
    disagreements: list[str]


class Outcome(NamedTuple):
    """The results of a run."""

    events: Counter[tuple[Any, ...]]
    findings: Counter[tuple[Any, ...]]
    sessions: Counter[tuple[Any, ...]]
    mails: dict[tuple[str, bool], dict[str, list[int]]]
    others: list[str]
    forged: Forged
    folded: dict[str, int]
    unfolded: list[str]
    stored: int
    blocking: Blocking
    deaths: list[tuple[int, str, str]]
    done: Counter[str]
    seconds: float


# Not the uid: a login that was reported after its grace, while rsyslogd was down, does not know it yet.
COLUMNS = "host, user, address, port, method, info, origin, ambiguous"
# Forged lines are compared by their sum: the minute of an event and its first line depend on the machine.
GUESSER = "address GLOB '198.18.*'"
NOT_FORGED = (
    f"action != 'ssh_forged' AND user IS NOT '{FORGER}' AND NOT ifnull({GUESSER}, 0) AND ifnull(user, '') NOT IN {GUESSED}"
)
# Findings are compared by what does not depend on the order of lines.
OTHERS = f"found IS NULL AND {NOT_FORGED}"
FOLD = re.compile(r"([\d,]+) more messages?: .*")
SUBJECT = re.compile(rf"(user\d+|marker) logged (?:in to {HOST} from \S+|(out) of {HOST} after .*)")


def performed(folder: Path, lines: Sequence[Entry], kills: int, dice: random.Random) -> Outcome:
    """Run all of it once."""
    started_s = time.monotonic()
    with Site(folder) as site:
        begin(site)
        if kills:
            done = disturb(site, lines, kills, dice)
        else:
            done = Counter()
            Feeder(site, lines).run()
        finish(site, is_disturbed=bool(kills))
        done[HUNG] = site.hung
    seconds = time.monotonic() - started_s
    mails: dict[tuple[str, bool], dict[str, list[int]]] = {}
    others = []
    folded: dict[str, int] = {}
    for taken_ns, message in site.post.mails():
        if str(message["To"]).startswith(f"{FOLDED}@"):
            fold = FOLD.fullmatch(str(message["Subject"]).strip())
            folded[str(message["Message-ID"])] = int(fold[1].replace(",", "")) if fold else 1
            continue
        found = SUBJECT.fullmatch(str(message["Subject"]).strip())
        if str(message["Subject"]).strip().startswith((f"{FORGER} ", f"{KEEPER} ", f"{INTRUDER} ")):
            continue  # a line that only the file had: see ``forged_lines``; or one about blocking
        if found is None:
            others.append(str(message["Subject"]))
        else:
            mails.setdefault((found[1], found[2] is not None), {}).setdefault(str(message["Message-ID"]), []).append(taken_ns)
    ((stored,),) = site.query("state.db", "SELECT count(*) FROM event")
    return Outcome(
        Counter(site.query("state.db", f"SELECT action, {COLUMNS}, count, reason FROM event WHERE {OTHERS}")),  # noqa: S608
        found_in(site, NOT_FORGED),
        Counter(site.query("state.db", f"SELECT {COLUMNS}, closed_us IS NOT NULL FROM session WHERE user IS NOT '{FORGER}'")),  # noqa: S608
        mails, others, forged_lines(site), folded, unfolded(site), stored, blocking(site), site.deaths(), done, seconds,
    )  # fmt: skip


def forged_lines(site: Site) -> Forged:
    """Return the fate of the forged lines."""
    ((counted,),) = site.query("state.db", "SELECT coalesce(sum(count), 0) FROM event WHERE action = 'ssh_forged'")
    logins = site.query("state.db", f"SELECT origin FROM event WHERE action = 'ssh_login' AND user = '{FORGER}'")  # noqa: S608
    return Forged(site.forged, counted, Counter(origin for (origin,) in logins))


def found_in(site: Site, where: str) -> Counter[tuple[Any, ...]]:
    """
    Return whom the detectors found, and by what.

    The rest depends on the try that decides, and rsyslogd changes the order of lines when it restarts.
    """
    rows = site.query(
        "state.db",
        f"SELECT address, user, action, found FROM event WHERE found IS NOT NULL AND action != 'ssh_block' AND {where}",  # noqa: S608
    )
    targets: Counter[tuple[Any, ...]] = Counter()
    for address, user, action, found in rows:
        labels = json.loads(found)["labels"]
        is_user = labels.get("by") == "user" or action == "many_addresses"
        targets[f"user:{user}" if is_user else labels.get("prefix") or labels.get("network") or address, action] += 1
    return targets


def stored_blocks(site: Site) -> list[tuple[str, int, str, dict[str, Any]]]:
    """Return all blocks: id, time, target, and the rest."""
    rows = site.query("state.db", "SELECT id, time_us, reason, found FROM event WHERE action = 'ssh_block'")
    blocks = [(event_id, time_us, name, json.loads(found)) for event_id, time_us, name, found in rows]
    return [(key, time_us, f"user:{name}" if more["is_user"] else name, more) for key, time_us, name, more in blocks]


def disagreements(site: Site) -> list[str]:
    """Return where the stored blocks, ``block.db`` and the file for pam_access differ."""
    ids = {row[0] for row in site.query("state.db", "SELECT id FROM event WHERE action = 'guessing'")}
    ordered = {}
    broken = []
    for event_id, _time_us, target, block in stored_blocks(site):
        ordered[event_id] = (target, block["until_us"], f"finding {block['finding_id'][:12]}", None)
        if block["finding_id"] not in ids or block["step"]:
            broken.append(f"the block of {target} has no finding, or is not its first")
    entries = {
        entry_id: tuple(row)
        for entry_id, *row in site.query("block.db", "SELECT id, target, until_us, reason, removed_us FROM entry")
    }
    if entries != ordered:
        broken.append(f"events and block.db differ: {sorted(map(str, entries.items() ^ ordered.items()))}")
    denied = denied_by(site.access.read_text()) if site.access.exists() else []
    if denied != sorted(row[0] for row in ordered.values()):
        broken.append(f"events and the file for pam_access differ: {denied}")
    return broken


def denied_by(text: str) -> list[str]:
    """Return the targets that a file for pam_access denies."""
    found = []
    for line in text.removeprefix(HEAD).splitlines():
        perm, users, froms = line.split(" : ")
        if perm == "+":
            continue  # this host's own addresses
        # "A EXCEPT ALL EXCEPT B C" stands for B and C, which belong to the network A.
        found += froms.rpartition("EXCEPT ")[2].split() if users == "ALL" else [f"user:{users}"]
    return sorted(found)


def blocking(site: Site) -> Blocking:
    """Return what sshbell made of the guesses."""
    tries: dict[tuple[str, str], tuple[int, int]] = {
        (address, user): (vouched, others)
        for address, user, vouched, others in site.query(
            "state.db",
            "SELECT address, user, sum(iif(origin = 'verified', count, 0)), sum(iif(origin = 'verified', 0, count))"  # noqa: S608
            f" FROM event WHERE action = 'ssh_attempt' AND {GUESSER} GROUP BY address, user",
        )
    }
    findings = found_in(site, f"(action != 'guessing' OR origin = 'verified') AND {GUESSER}")
    exceptions = dict(site.query("block.db", "SELECT id, exceptions FROM entry"))
    blocks: Counter[tuple[Any, ...]] = Counter()
    for event_id, time_us, target, block in stored_blocks(site):
        blocks[target, (block["until_us"] - time_us) // 1_000_000, block["step"], exceptions.get(event_id)] += 1
    return Blocking(tries, findings, blocks, disagreements(site))


def wrongly_blocked(was: Blocking, found: Blocking, *, has_hung: bool) -> list[str]:
    """
    Return how the guesses of the killed run ended otherwise than undisturbed.

    Args:
        was: undisturbed.
        found: with kills.
        has_hung: rsyslogd has, so tries may count twice.
    """
    broken = [f"undisturbed: {text}" for text in was.disagreements] + [f"killed: {text}" for text in found.disagreements]
    vouched: Counter[str] = Counter()
    has_others: set[str] = set()
    for key in was.tries | found.tries:
        before, (own, others) = sum(was.tries.get(key, (0, 0))), found.tries.get(key, (0, 0))
        if own + others < before or (own + others > before and not has_hung):
            broken.append(f"tries of {key}: {before} undisturbed, {own + others} killed")
        for target in (key[0], f"user:{key[1]}"):
            vouched[target] += own
            if others:
                has_others.add(target)
    # What only the log file has does not count: then the others must be too few.
    spared = {target for target in has_others if vouched[target] < BLOCKING_TRIES}
    for before_rows, rows, what in ((was.findings, found.findings, "finding"), (was.blocks, found.blocks, "block")):
        broken += differences(Counter({row: n for row, n in before_rows.items() if row[0] not in spared}), rows, what)
    return broken


def unfolded(site: Site) -> list[str]:
    """Return the events that the folding channel did not report."""
    known = {row[0] for row in site.query("state.db", "SELECT id FROM event")}
    sent = {
        row[0]
        for row in site.query("delivery.db", "SELECT event_id, channel FROM delivery WHERE state = 'sent'")
        if row[1] == FOLDED
    }
    return sorted(known - sent)


def unexplained(outcome: Outcome) -> list[str]:
    """Return the mails that the server got twice without a death of deliver or the server in between."""
    deaths = [at for at, who, _ in outcome.deaths if who in {"deliver", "smtp"}]
    return [
        name
        for ids in outcome.mails.values()
        for name, taken in ids.items()
        for first, second in pairwise(taken)
        if not any(first <= at <= second for at in deaths)
    ]


def differences(was: Counter[tuple[Any, ...]], found: Counter[tuple[Any, ...]], what: str) -> list[str]:
    """Return a line for each entry that only one of the two has."""
    return [f"{what} missing: {row}" for row in (was - found).elements()] + [
        f"{what} too much: {row}" for row in (found - was).elements()
    ]


def report(undisturbed: Outcome, outcome: Outcome, logins: int) -> tuple[list[str], list[str]]:
    """Return a table, and the broken promises."""
    wanted = [(f"user{number}", is_logout) for number in range(logins) for is_logout in (False, True)]
    lost = [key for key in wanted if key not in outcome.mails]
    two_ids = [key for key, ids in outcome.mails.items() if len(ids) > 1]
    times = Counter((is_logout, min(2, len(taken))) for (_, is_logout), ids in outcome.mails.items() for taken in ids.values())
    killed = Counter((who, place) for _, who, place in outcome.deaths)
    table: list[tuple[str, object]] = [("kills", len(outcome.deaths))]
    table += [(f"  {who} {place}", count) for (who, place), count in sorted(killed.items())]
    table += sorted(outcome.done.items())
    table += [
        ("logins", logins),
        ("  reported once", times[False, 1] - (("marker", False) in outcome.mails)),
        ("  reported twice with the same Message-ID", times[False, 2]),
        ("logouts reported once", times[True, 1] - (("marker", True) in outcome.mails)),
        ("  reported twice with the same Message-ID", times[True, 2]),
        ("reported twice with another Message-ID", len(two_ids)),
        ("lost", len(lost)),
        ("events that were folded or reported alone", sum(outcome.folded.values())),
        ("  in messages", len(outcome.folded)),
    ]
    both = [each.findings.total() for each in (undisturbed, outcome)]
    table.append(("findings: undisturbed, killed", f"{both[0]}, {both[1]}"))
    actions = sorted({row[0] for row in undisturbed.events | outcome.events})
    for action in actions:
        counts = [sum(count for row, count in each.events.items() if row[0] == action) for each in (undisturbed, outcome)]
        table.append((f"{action}: undisturbed, killed", f"{counts[0]}, {counts[1]}"))
    for name, each in (("undisturbed", undisturbed.forged), ("killed", outcome.forged)):
        table.append(
            (f"forged lines: sent, counted, only in the file; {name}", ", ".join(map(str, (*each[:2], each.origins.total()))))
        )
    for name, both in (
        ("findings about guesses", [each.blocking.findings.total() for each in (undisturbed, outcome)]),
        ("blocks", [each.blocking.blocks.total() for each in (undisturbed, outcome)]),
        ("tries that count for them", [sum(own for own, _ in each.blocking.tries.values()) for each in (undisturbed, outcome)]),
    ):
        table.append((f"{name}: undisturbed, killed", ", ".join(map(str, both))))
    table.append(("sessions: undisturbed, killed", f"{undisturbed.sessions.total()}, {outcome.sessions.total()}"))
    table.append(("seconds: undisturbed, killed", f"{undisturbed.seconds:.0f}, {outcome.seconds:.0f}"))
    has_hung = bool(outcome.done[HUNG])
    if has_hung:
        stored = {(row[2], row[0] == "ssh_logout") for row in outcome.events if row[0] in TOLD}
        lost = [key for key in lost if key not in stored]
    broken = [f"not reported: {key}" for key in lost]
    broken += [f"reported under two Message-IDs: {key}" for key in two_ids]
    broken += [f"reported twice without a death in between: {name}" for name in unexplained(outcome)]
    broken += [f"not the mail of a login or logout: {subject}" for subject in outcome.others if not has_hung]
    for each in (undisturbed.forged, outcome.forged):
        known = each.counted + each.origins.total()
        if known < each.sent or (known > each.sent and not has_hung):
            broken.append(
                f"of {each.sent} forged lines {each.counted} were counted and {each.origins.total()} reported as logins"
            )
        broken += [f"a forged login reported as {origin}" for origin in each.origins if origin != "unverified"]
    for one, what in ((undisturbed, "undisturbed"), (outcome, "killed")):
        broken += [f"{what}: neither reported nor counted by the folding channel: {event_id}" for event_id in one.unfolded]
        if sum(one.folded.values()) != one.stored:
            broken.append(f"{what}: the folds count {sum(one.folded.values())} events of {one.stored}")
    broken += wrongly_blocked(undisturbed.blocking, outcome.blocking, has_hung=has_hung)
    more_events, more_sessions = (outcome.events, outcome.sessions) if has_hung else (Counter(), Counter())
    broken += differences(undisturbed.events | more_events, outcome.events, "event")
    broken += differences(undisturbed.findings, outcome.findings, "finding")
    broken += differences(undisturbed.sessions | more_sessions, outcome.sessions, "session")
    return [f"{name:<60} {value!s:>16}" for name, value in table], broken


def main() -> int:
    """Run both, compare, and print the result; return 1 if a promise was broken."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    for name, default in (("seed", 1), ("logins", 2000), ("lines", 20_000), ("kills", 100), ("forged", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--keep", action="store_true", help="keep the folder")
    options = parser.parse_args()
    dice = random.Random(options.seed)  # noqa: S311 - a test
    lines: list[Entry] = [*woven(dice, connections(dice, options.logins, options.lines))]
    lines = mixed(dice, mixed(dice, lines, [Forgery()] * options.forged), guesses(dice))
    folder = Path(tempfile.mkdtemp(prefix="sshbell-kills-"))
    try:
        outcomes = []
        for kills in (0, options.kills):
            place = folder / str(kills)
            place.mkdir()
            outcomes.append(performed(place, lines, kills, dice))
        undisturbed, disturbed = outcomes
        table, broken = report(undisturbed, disturbed, options.logins)
    finally:
        if options.keep:
            sys.stdout.write(f"{folder}\n")
        else:
            shutil.rmtree(folder)
    sys.stdout.write("\n".join([f"seed {options.seed}, {len(lines):,} lines", *table, *broken[:50], ""]))
    if len(broken) > 50:
        sys.stdout.write(f"and {len(broken) - 50} more\n")
    sys.stdout.write("a promise was broken\n" if broken else "every promise was kept\n")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
