"""``sshbell run`` as rsyslog sees it: its replies, its end, and what it knows after any death."""

from __future__ import annotations

import gzip
import json
import os
import select
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HERE = Path(__file__).parent
PROJECT_DIR = HERE.parents[1]
CAPTURE = HERE.parent / "samples" / "captures" / "openssh-9.2p1-debian12"
DEADLINE_S = 60
OURS = (
    '{{"v":"1","ts":"2026-11-22T10:00:{at:02}.123456+00:00","rcvd":"2026-11-22T10:00:{at:02}.{number:06}+00:00","host":"web1",'
    '"tag":"sshd[{pid}]:","prog":"sshd","procid":"{pid}","msg":" {text}","uid":0,"exe":"/usr/sbin/sshd"}}\n'
)
ACCEPTED = "Accepted password for alice from 192.0.2.7 port 4711 ssh2"
OPENED = "pam_unix(sshd:session): session opened for user alice(uid=1001) by (uid=0)"
CLOSED = "pam_unix(sshd:session): session closed for user alice"


def ours(text: str, at: int = 0, number: int = 0, pid: int = 7) -> bytes:
    """Return a line of our template."""
    return OURS.format(text=text, at=at, number=number, pid=pid).encode()


class Run:
    """A running ``sshbell run``, with the test in rsyslog's place."""

    def __init__(
        self,
        config: Path,
        *arguments: str,
        script: list[str] | None = None,
        python: list[str] | None = None,
        env: dict[str, str] | None = None,
    ) -> None:
        self.process = subprocess.Popen(
            [*(python or [sys.executable]), *(script or ["-m", "consumer"]), "run", "--config", str(config), *arguments],
            cwd=PROJECT_DIR, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=env or os.environ | {"TZ": "UTC", "PYTHONPATH": str(PROJECT_DIR)},
        )  # fmt: skip
        self.pid = self.process.pid

    def reply(self) -> bytes:
        """Return the next reply without its dots; b"" where the process has died."""
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], DEADLINE_S)
        assert ready, "no reply"
        return self.process.stdout.readline().lstrip(b".")

    def send(self, line: bytes) -> bytes:
        """Send a line and return the reply."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(line)
            self.process.stdin.flush()
        except BrokenPipeError:
            return b""
        return self.reply()

    def end(self) -> tuple[int, bytes]:
        """Close the input, and return exit code and what was said."""
        _out, said = self.process.communicate(timeout=DEADLINE_S)
        return self.process.returncode, said


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Return a configuration that keeps its state in a temporary folder and tells nobody."""
    path = tmp_path / "sshbell.toml"
    path.write_text(f'state_dir = "{tmp_path}/state"\nuser = ""\ncatch_up = ""\n')
    return path


@pytest.fixture
def start(config: Path) -> Iterator[Callable[..., Run]]:
    """Return a function that starts ``run``; whatever still runs at the end is killed."""
    runs: list[Run] = []

    def started(*arguments: str, path: Path = config, is_ready: bool = True, script: list[str] | None = None) -> Run:
        runs.append(Run(path, *arguments, script=script))
        if is_ready and "--plain" not in arguments:
            assert runs[-1].reply() == b"OK\n"
        return runs[-1]

    yield started
    for run in runs:
        run.process.kill()
        run.process.communicate()


def events(config: Path) -> list[tuple[str, str | None, str | None, str]]:
    """Return what the store knows: action, user, address and id, in order of time."""
    with sqlite3.connect(f"file:{config.parent}/state/state.db?mode=ro", uri=True) as connection:
        return connection.execute("SELECT action, user, address, id FROM event ORDER BY time_us, id").fetchall()


def wait_for(condition: Callable[[], object]) -> None:
    """Wait until something is so."""
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def test_no_module_of_the_working_directory(config: Path, tmp_path: Path) -> None:
    """Root may pipe a log into us wherever it stands; what is started then, as root and as sshbell, takes no code from there."""
    elsewhere, ran = tmp_path / "elsewhere", tmp_path / "ran"
    planted = f"open({str(ran)!r}, 'a').write(__name__ + chr(10))\n"
    for module in ("consumer/__init__.py", "structlog.py", "sqlite3.py"):
        (elsewhere / module).parent.mkdir(parents=True, exist_ok=True)
        (elsewhere / module).write_text(planted)
    # As the entry point does: its own path begins with the directory in which it stands.
    arguments = [sys.executable, "-P", "-m", "consumer", "run", "--plain", "--config", str(config)]
    env = os.environ | {"TZ": "UTC", "PYTHONPATH": str(PROJECT_DIR)}
    with subprocess.Popen(arguments, cwd=elsewhere, env=env, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        # Both children have begun: one answers, and one has its database.
        wait_for((config.parent / "state/delivery.db").exists)
        process.stdin.write(ours(ACCEPTED) + ours(OPENED, number=1))
        process.stdin.close()
        assert process.wait(DEADLINE_S) == 0
    assert [row[:2] for row in events(config)] == [("ssh_login", "alice")]
    assert not ran.exists()


def test_each_line_is_confirmed_and_kept(start: Callable[..., Run], config: Path) -> None:
    """One OK at the start, one a line; the login is in the store at once; the end of the input ends it with 0."""
    run = start()
    assert run.send(ours(ACCEPTED)) == b"OK\n"
    assert run.send(ours(OPENED, number=1)) == b"OK\n"
    wait_for(lambda: events(config))
    assert [row[:3] for row in events(config)] == [("ssh_login", "alice", "192.0.2.7")]
    assert run.send(b"\xff\x00 rubbish { \n") == b"OK\n"
    assert run.send(b"\n") == b"OK\n"
    assert run.send(ours(CLOSED, 30, 2)) == b"OK\n"
    code, said = run.end()
    assert code == 0
    assert all(json.loads(line) for line in said.splitlines())
    assert [row[0] for row in events(config)] == ["ssh_login", "ssh_logout"]


def test_nothing_but_replies_on_standard_output(start: Callable[..., Run]) -> None:
    """Descriptor 1 is standard error for all else: our children's output cannot answer for a line."""
    run = start()
    assert (Path(f"/proc/{run.pid}/fd/1").readlink()) == Path(f"/proc/{run.pid}/fd/2").readlink()
    run.end()


def test_redelivered_line_counts_once(start: Callable[..., Run], config: Path) -> None:
    """The same bytes of our template are confirmed and not counted again, also by the next process."""
    line = ours("Failed password for root from 192.0.2.9 port 9 ssh2")
    run = start()
    assert [run.send(line), run.send(line)] == [b"OK\n"] * 2
    run.end()
    run = start()
    assert run.send(line) == b"OK\n"
    run.end()
    assert len(events(config)) == 1


def test_torn_last_line_is_dropped(start: Callable[..., Run], config: Path) -> None:
    """What has no line feed when the input ends was cut off, and rsyslog sends it again."""
    run = start()
    assert run.process.stdin is not None
    run.process.stdin.write(ours(ACCEPTED).rstrip(b"\n"))
    assert run.end()[0] == 0
    assert events(config) == []


def test_long_line_is_cut(start: Callable[..., Run]) -> None:
    """A line over 64 KiB is one line, and gets one OK."""
    run = start()
    assert run.send(ours("x" * 300_000)) == b"OK\n"
    assert run.send(ours(ACCEPTED)) == b"OK\n"
    assert run.end()[0] == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_signals_do_not_end_it(start: Callable[..., Run], number: signal.Signals) -> None:
    """Systemd sends signals to all processes of rsyslog's unit; only the end of the input ends us."""
    run = start()
    run.process.send_signal(number)
    assert run.send(ours(ACCEPTED)) == b"OK\n"
    assert run.end()[0] == 0


def test_replies_that_nobody_reads(start: Callable[..., Run], config: Path) -> None:
    """At a stop rsyslogd closes both pipes: what came last is kept though nobody takes its OK, and that is no error."""
    run = start()
    assert run.process.stdin is not None
    assert run.process.stdout is not None
    run.process.stdout.close()
    run.process.stdout = None
    for line in (ours(ACCEPTED), ours(OPENED, number=1)):
        run.process.stdin.write(line)
    code, said = run.end()
    assert (code, b"Traceback" in said) == (0, False)
    assert [row[:3] for row in events(config)] == [("ssh_login", "alice", "192.0.2.7")]


def test_second_instance_waits(start: Callable[..., Run]) -> None:
    """While an orphan has the lock, its successor sends dots, and is ready when the other has ended."""
    first = start()
    second = start(is_ready=False)
    assert second.process.stdout is not None
    assert select.select([second.process.stdout], [], [], DEADLINE_S)[0]
    assert os.read(second.process.stdout.fileno(), 1) == b"."
    first.end()
    assert second.reply() == b"OK\n"
    assert second.end()[0] == 0


# To check a database takes long, as with a great one on a cold disk.
SLOW = """
import time
from consumer.store import database
check = database._check
def slow(connection):
    time.sleep(5)
    check(connection)
database._check = slow
from consumer.cli import main
main()
"""


def test_slow_start(start: Callable[..., Run], tmp_path: Path) -> None:
    """While it brings back what it knew, rsyslog is asked for patience."""
    script = tmp_path / "slow.py"
    script.write_text(SLOW)
    run = start(is_ready=False, script=[str(script)])
    assert run.process.stdout is not None
    assert select.select([run.process.stdout], [], [], DEADLINE_S)[0]
    assert os.read(run.process.stdout.fileno(), 1) == b"."
    assert run.reply() == b"OK\n"
    assert run.end()[0] == 0


def test_waiting_instance_ends_with_its_input(start: Callable[..., Run]) -> None:
    """An instance that waits for the lock ends when rsyslog lets it go."""
    first = start()
    second = start(is_ready=False)
    assert second.end()[0] == 0
    first.end()


def test_login_without_a_session_line_is_told_on_an_idle_host(start: Callable[..., Run], config: Path) -> None:
    """Time passes also when no line comes, and a login is told after its grace."""
    run = start()
    run.send(ours(ACCEPTED))
    wait_for(lambda: events(config))
    run.end()


def test_half_known_login_outlives_a_restart(start: Callable[..., Run], config: Path) -> None:
    """Accepted before an orderly restart and the session line behind it make one login with its address."""
    run = start()
    run.send(ours(ACCEPTED))
    run.end()
    run = start()
    run.send(ours(OPENED, number=1))
    run.end()
    assert [row[:3] for row in events(config)] == [("ssh_login", "alice", "192.0.2.7")]


def test_plain_mode(start: Callable[..., Run], config: Path) -> None:
    """In plain mode lines come in any pieces, nothing is answered, and all of them count."""
    run = start("--plain")
    assert run.process.stdin is not None
    for piece in (ours(ACCEPTED)[:50], ours(ACCEPTED)[50:] + ours(OPENED, 1), ours(CLOSED, 2)):
        run.process.stdin.write(piece)
        run.process.stdin.flush()
    out, _said = run.process.communicate(timeout=DEADLINE_S)
    assert out == b""
    assert [row[0] for row in events(config)] == ["ssh_login", "ssh_logout"]


def test_configuration_is_read_again(start: Callable[..., Run], config: Path) -> None:
    """HUP brings new names of sshd; a broken file is refused, and the old one stays."""
    run = start()
    number = 0

    def other(text: str) -> bytes:
        nonlocal number
        number += 1
        return ours(text, number=number).replace(b"sshd[", b"sshd-ga[").replace(b'"sshd"', b'"sshd-ga"')

    assert run.send(other(ACCEPTED)) == b"OK\n"
    good = config.read_text()
    config.write_text(good + 'sshd_programs = ["sshd-ga"]\n')
    run.process.send_signal(signal.SIGHUP)

    def is_told() -> bool:
        run.send(other(ACCEPTED))
        run.send(other(OPENED))
        return bool(events(config))

    wait_for(is_told)
    config.write_text("nonsense = 1\n")
    run.process.send_signal(signal.SIGHUP)
    assert run.send(ours(CLOSED, 9)) == b"OK\n"
    code, said = run.end()
    assert code == 0
    assert b"configuration refused" in said


def test_bad_configuration_is_waited_for(tmp_path: Path, start: Callable[..., Run]) -> None:
    """With a configuration that cannot be used it sends dots until there is one: to end before the first OK crashes rsyslogd."""
    path = tmp_path / "other.toml"
    path.write_text("stat_dir = 1\n")
    run = start(path=path, is_ready=False)
    assert run.process.stdout is not None
    assert select.select([run.process.stdout], [], [], DEADLINE_S)[0]
    assert os.read(run.process.stdout.fileno(), 1) == b"."
    path.write_text(f'state_dir = "{tmp_path}/state"\nuser = ""\ncatch_up = ""\n')
    assert run.reply() == b"OK\n"
    code, said = run.end()
    assert code == 0
    assert b"did you mean 'state_dir'" in said


def test_bad_configuration_and_no_rsyslog(tmp_path: Path) -> None:
    """In plain mode nobody waits: a configuration that cannot be used is EX_CONFIG; and a wait ends with the input."""
    path = tmp_path / "other.toml"
    path.write_text("stat_dir = 1\n")
    assert Run(path, "--plain").end()[0] == 78
    assert Run(path).end()[0] == 0


def test_damaged_store_is_set_aside(start: Callable[..., Run], config: Path) -> None:
    """A damaged store is set aside and reported, and a new one is begun."""
    run = start()
    run.send(ours(ACCEPTED))
    run.end()
    store = config.parent / "state" / "state.db"
    store.write_bytes(b"rubbish" * 1000)
    run = start()
    run.send(ours(ACCEPTED, number=2))
    run.send(ours(OPENED, number=3))
    code, said = run.end()
    assert code == 0
    assert b"damaged" in said
    assert list(store.parent.glob("state.db.damaged-*"))
    assert [row[0] for row in events(config)] == ["ssh_login"]


# Once a file asks for it, the store is damaged right before something is written to it.
DAMAGED = """
import os, sys
from consumer.store.state import State
flag, record = sys.argv.pop(1), State.record
def damaging(state, *arguments, **more):
    if os.path.exists(flag):
        os.unlink(flag)
        state._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        with open(state._path, "r+b") as file:
            size = file.seek(0, 2)
            file.seek(4096)
            file.write(b"\\xff" * (size - 4096))
        state._connection.execute("PRAGMA shrink_memory")
    return record(state, *arguments, **more)
State.record = damaging
from consumer.cli import main
main()
"""


def test_a_store_that_is_damaged_in_use(start: Callable[..., Run], config: Path, tmp_path: Path) -> None:
    """It is set aside, the line that met it is not lost, and what was half-known outlives a kill right after that."""
    run = start()
    run.send(ours(ACCEPTED))
    run.end()
    script, flag = tmp_path / "damaged.py", tmp_path / "flag"
    script.write_text(DAMAGED)
    run = start(script=[str(script), str(flag)])
    flag.touch()
    for number, text in enumerate((ACCEPTED, OPENED), 1):
        run.send(ours(text.replace("alice", "bob"), number=number, pid=8))
    store = config.parent / "state" / "state.db"
    wait_for(lambda: list(store.parent.glob("state.db.damaged-*")))

    def is_kept() -> bool:
        with suppress(sqlite3.OperationalError), sqlite3.connect(f"file:{store}?mode=ro", uri=True) as connection:
            asked = "SELECT count(*) FROM snapshot WHERE part = 'pipeline' UNION ALL SELECT count(*) FROM event"
            return connection.execute(asked).fetchall() == [(1,), (1,)]
        return False  # the new one is not ready

    wait_for(is_kept)
    run.process.kill()
    run.process.communicate()
    run = start()
    run.send(ours(OPENED, number=3))
    run.end()
    assert {row[:3] for row in events(config)} == {("ssh_login", "alice", "192.0.2.7"), ("ssh_login", "bob", "192.0.2.7")}


def test_children_get_nothing_of_ours(start: Callable[..., Run]) -> None:
    """Our children have neither our input, nor our replies, nor the lock: a killed run leaves nobody with rsyslog's pipe."""
    run = start()

    def children() -> list[str]:
        return Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()

    wait_for(lambda: len(children()) == 2)
    ours = {Path(f"/proc/{run.pid}/fd/{number}").readlink().as_posix() for number in (0, 3)}  # lines, replies
    assert len(ours) == 2
    theirs = set()
    for child in children():
        for fd in Path(f"/proc/{child}/fd").iterdir():
            with suppress(FileNotFoundError):  # closed meanwhile
                theirs.add(fd.readlink().as_posix())
    assert not ours & theirs
    assert not [name for name in theirs if name.endswith(("run.lock", ".journal", "state.db"))]
    run.process.kill()
    run.process.communicate()


def test_what_only_the_log_file_has(start: Callable[..., Run], config: Path) -> None:
    """What rsyslog lost is found in the file at the next start; what came in, and what is still to come, is not taken twice."""

    def in_file(line: bytes) -> bytes:
        found = json.loads(line)
        return f"{found['ts']} {found['host']} {found['tag']}{found['msg']}\n".encode()

    failed = "Failed password for root from 192.0.2.9 port 9 ssh2"
    log = config.parent / "auth.log"
    config.write_text(config.read_text().replace('catch_up = ""', f'catch_up = "{log}"'))
    before, came, lost, late = (ours(failed, at, pid=at) for at in (1, 2, 3, 4))
    log.write_bytes(in_file(before))
    run = start()
    run.send(came)
    log.write_bytes(log.read_bytes() + in_file(came) + in_file(lost))
    run.process.kill()
    run.process.communicate()
    run = start()
    log.write_bytes(log.read_bytes() + in_file(late))
    wait_for(lambda: len(events(config)) == 2)
    run.send(late)
    wait_for(lambda: len(events(config)) == 3)
    run.end()
    start().end()
    assert len({row[3] for row in events(config)}) == len(events(config)) == 3


def test_late_session_line_is_no_login_of_its_own(start: Callable[..., Run], config: Path) -> None:
    """The file alone has the session line of a login that is over and forgotten: nothing is told of it again."""
    log = config.parent / "auth.log"
    log.touch()
    config.write_text(config.read_text().replace('catch_up = ""', f'catch_up = "{log}"'))
    run = start()
    for line in (ours(ACCEPTED), ours(CLOSED, 1), ours(ACCEPTED.replace("alice", "bob"), 40, pid=8)):
        run.send(line)
    run.end()
    stamp = "2026-11-22T10:00:00.123456+00:00 web1 sshd[7]:"
    late = f"2026-11-22T10:00:50.123456+00:00 web1 sshd[9]: {ACCEPTED}".replace("alice", "eve")
    log.write_text(f"{stamp} {ACCEPTED}\n{stamp} {OPENED}\n{late}\n")
    run = start()
    run.send(ours("Server listening on 0.0.0.0 port 22.", 41, pid=1))
    wait_for(lambda: len(events(config)) == 4)
    run.end()
    assert [row[:2] for row in events(config)] == [
        ("ssh_login", "alice"), ("ssh_logout", "alice"), ("ssh_login", "bob"), ("ssh_login", "eve"),
    ]  # fmt: skip


def fed(config: Path, lines: list[bytes], seed: int, chance: int) -> int:
    """Feed lines as rsyslog does, to a run that dies now and then: what was not confirmed is sent again. Return the deaths."""
    script = str(HERE / "killed_run.py")
    deaths, run = 0, None
    for line in lines:
        while True:
            if run is None:
                deaths += 1
                assert deaths < 200, "it dies at each start"
                # Later lives are longer, so that the end is reached.
                run = Run(config, script=[script, str(seed * 1000 + deaths), str(chance * deaths)])
                if run.reply() != b"OK\n":
                    run.process.communicate()
                    run = None
                    continue
            if run.send(line) == b"OK\n":
                break
            run.process.communicate()
            run = None
    if run is not None:
        run.end()
    last = Run(config)
    assert last.reply() == b"OK\n"
    assert last.end()[0] == 0
    return deaths - 1


def with_receipt(name: str) -> list[bytes]:
    """Return the lines of a capture, each with its own time of receipt, as our template has it."""
    lines = []
    for number, line in enumerate(gzip.decompress((CAPTURE / name).read_bytes()).splitlines()):
        stamp, host, tag, text = line.decode("latin-1").split(" ", 3)
        program, _, pid = tag.rstrip(":]").partition("[")
        found = {
            "v": "1", "ts": stamp, "rcvd": f"2026-11-22T10:00:00.{number:06}Z", "host": host, "tag": tag, "prog": program,
            "procid": pid, "msg": f" {text}", "uid": 0,
        }  # fmt: skip
        lines.append(json.dumps(found, ensure_ascii=False).encode("latin-1") + b"\n")
    return lines


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_killed_anywhere_it_knows_the_same(tmp_path: Path, seed: int) -> None:
    """However often it dies between two steps of a line's way, the events are those of an undisturbed run, each once."""
    lines = with_receipt("info.rfc3339.log.gz")[:300]
    known = []
    deaths = []
    for chance in (0, 40):
        folder = tmp_path / str(chance)
        folder.mkdir()
        config = folder / "sshbell.toml"
        config.write_text(f'state_dir = "{folder}/state"\nuser = ""\ncatch_up = ""\n')
        deaths.append(fed(config, lines, seed, chance))
        known.append([row for row in events(config) if row[0] != "ssh_probe"])
    assert deaths[0] == 0
    assert deaths[1] >= 3
    assert known[0] == known[1]
    assert len(known[0]) > 20
