"""``sshbell run`` as rsyslog sees it: its replies, its end, and what it knows after any death."""

from __future__ import annotations

import gzip
import json
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from tests.integration.lines import ACCEPTED, CLOSED, OPENED, ours
from tests.integration.site import PROJECT_DIR, Site
from tests.waiting import DEADLINE_S, wait_for

HERE = Path(__file__).parent
CAPTURE = HERE.parent / "samples" / "captures" / "openssh-9.2p1-debian12"


def test_no_module_of_the_working_directory(site: Site) -> None:
    """Root may pipe a log into us wherever it stands; what is started then, as root and as sshbell, takes no code from there."""
    elsewhere, ran = site.folder / "elsewhere", site.folder / "ran"
    planted = f"open({str(ran)!r}, 'a').write(__name__ + chr(10))\n"
    for module in ("consumer/__init__.py", "structlog.py", "sqlite3.py"):
        (elsewhere / module).parent.mkdir(parents=True, exist_ok=True)
        (elsewhere / module).write_text(planted)
    # As the entry point does: its own path begins with the directory in which it stands.
    arguments = [sys.executable, "-P", "-m", "consumer", "run", "--plain", "--config", str(site.config)]
    env = os.environ | {"TZ": "UTC", "PYTHONPATH": str(PROJECT_DIR)}
    with subprocess.Popen(arguments, cwd=elsewhere, env=env, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        # Both children have begun: one answers, and one has its database.
        wait_for((site.state_dir / "delivery.db").exists, "deliver has its database")
        process.stdin.write(ours(ACCEPTED) + ours(OPENED, number=1))
        process.stdin.close()
        assert process.wait(DEADLINE_S) == 0
    assert [row[:2] for row in site.events()] == [("ssh_login", "alice")]
    assert not ran.exists()


def test_each_line_is_confirmed_and_kept(site: Site) -> None:
    """One OK at the start, one a line; the login is in the store at once; the end of the input ends it with 0."""
    site.state_dir.rmdir()  # it makes its own
    run = site.start_run()
    assert run.send(ours(ACCEPTED)) == b"OK\n"
    assert run.send(ours(OPENED, number=1)) == b"OK\n"
    wait_for(site.events, "the login is told")
    assert [row[:3] for row in site.events()] == [("ssh_login", "alice", "192.0.2.7")]
    assert run.send(b"\xff\x00 rubbish { \n") == b"OK\n"
    assert run.send(b"\n") == b"OK\n"
    assert run.send(ours(CLOSED, 30, 2)) == b"OK\n"
    code, said = run.end()
    assert code == 0
    assert all(json.loads(line) for line in said.splitlines())
    assert [row[0] for row in site.events()] == ["ssh_login", "ssh_logout"]


def test_nothing_but_replies_on_standard_output(site: Site) -> None:
    """Descriptor 1 is standard error for all else: our children's output cannot answer for a line."""
    run = site.start_run()
    assert (Path(f"/proc/{run.pid}/fd/1").readlink()) == Path(f"/proc/{run.pid}/fd/2").readlink()
    run.end()


def test_redelivered_line_counts_once(site: Site) -> None:
    """The same bytes of our template are confirmed and not counted again, also by the next process."""
    line = ours("Failed password for root from 192.0.2.9 port 9 ssh2")
    run = site.start_run()
    assert [run.send(line), run.send(line)] == [b"OK\n"] * 2
    run.end()
    run = site.start_run()
    assert run.send(line) == b"OK\n"
    run.end()
    assert len(site.events()) == 1


def test_torn_last_line_is_dropped(site: Site) -> None:
    """What has no line feed when the input ends was cut off, and rsyslog sends it again."""
    run = site.start_run()
    assert run.process.stdin is not None
    run.process.stdin.write(ours(ACCEPTED).rstrip(b"\n"))
    assert run.end()[0] == 0
    assert site.events() == []


def test_long_line_is_cut(site: Site) -> None:
    """A line over 64 KiB is one line, and gets one OK."""
    run = site.start_run()
    assert run.send(ours("x" * 300_000)) == b"OK\n"
    assert run.send(ours(ACCEPTED)) == b"OK\n"
    assert run.end()[0] == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_signals_do_not_end_it(site: Site, number: signal.Signals) -> None:
    """Systemd sends signals to all processes of rsyslog's unit; only the end of the input ends us."""
    run = site.start_run()
    run.process.send_signal(number)
    assert run.send(ours(ACCEPTED)) == b"OK\n"
    assert run.end()[0] == 0


def test_replies_that_nobody_reads(site: Site) -> None:
    """At a stop rsyslogd closes both pipes: what came last is kept though nobody takes its OK, and that is no error."""
    run = site.start_run()
    assert run.process.stdin is not None
    assert run.process.stdout is not None
    run.process.stdout.close()
    run.process.stdout = None
    for line in (ours(ACCEPTED), ours(OPENED, number=1)):
        run.process.stdin.write(line)
    code, said = run.end()
    assert (code, b"Traceback" in said) == (0, False)
    assert [row[:3] for row in site.events()] == [("ssh_login", "alice", "192.0.2.7")]


def test_second_instance_waits(site: Site) -> None:
    """While an orphan has the lock, its successor sends dots, and is ready when the other has ended."""
    first = site.start_run()
    second = site.start_run(is_ready=False)
    assert second.is_waiting()
    first.end()
    assert second.reply() == b"OK\n"
    assert second.end()[0] == 0


# To check a database takes long, as with a great one on a cold disk: until a file is there.
SLOW = """
import sys, time
from pathlib import Path
from consumer.store import database
check, go = database._check, Path(sys.argv.pop(1))
def slow(connection):
    while not go.exists():
        time.sleep(0.01)
    check(connection)
database._check = slow
from consumer.cli import main
main()
"""


def test_slow_start(site: Site) -> None:
    """While it brings back what it knew, rsyslog is asked for patience."""
    script, go = site.folder / "slow.py", site.folder / "go"
    script.write_text(SLOW)
    run = site.start_run(is_ready=False, script=[str(script), str(go)])
    assert run.is_waiting()
    go.touch()
    assert run.reply() == b"OK\n"
    assert run.end()[0] == 0


def test_waiting_instance_ends_with_its_input(site: Site) -> None:
    """An instance that waits for the lock ends when rsyslog lets it go."""
    first = site.start_run()
    second = site.start_run(is_ready=False)
    assert second.end()[0] == 0
    first.end()


def test_login_without_a_session_line_is_told_on_an_idle_host(site: Site) -> None:
    """Time passes also when no line comes, and a login is told after its grace."""
    run = site.start_run()
    run.send(ours(ACCEPTED))
    wait_for(site.events, "the login is told")
    run.end()


def test_half_known_login_outlives_a_restart(site: Site) -> None:
    """Accepted before an orderly restart and the session line behind it make one login with its address."""
    run = site.start_run()
    run.send(ours(ACCEPTED))
    run.end()
    run = site.start_run()
    run.send(ours(OPENED, number=1))
    run.end()
    assert [row[:3] for row in site.events()] == [("ssh_login", "alice", "192.0.2.7")]


def test_plain_mode(site: Site) -> None:
    """In plain mode lines come in any pieces, nothing is answered, and all of them count."""
    run = site.start_run("--plain")
    for piece in (ours(ACCEPTED)[:50], ours(ACCEPTED)[50:] + ours(OPENED, 1), ours(CLOSED, 2)):
        run.write(piece)
    out, _said = run.process.communicate(timeout=DEADLINE_S)
    assert out == b""
    assert [row[0] for row in site.events()] == ["ssh_login", "ssh_logout"]


def test_configuration_is_read_again(site: Site) -> None:
    """HUP brings new names of sshd; a broken file is refused, and the old one stays."""
    run = site.start_run()
    number = 0

    def other(text: str) -> bytes:
        nonlocal number
        number += 1
        return ours(text, number=number).replace(b"sshd[", b"sshd-ga[").replace(b'"sshd"', b'"sshd-ga"')

    assert run.send(other(ACCEPTED)) == b"OK\n"
    site.configure(sshd_programs=["sshd-ga"])
    run.process.send_signal(signal.SIGHUP)

    def is_told() -> bool:
        run.send(other(ACCEPTED))
        run.send(other(OPENED))
        return bool(site.events())

    wait_for(is_told, "the new name of sshd is known")
    site.configure(nonsense=1)
    run.process.send_signal(signal.SIGHUP)
    assert run.send(ours(CLOSED, 9)) == b"OK\n"
    code, said = run.end()
    assert code == 0
    assert b"configuration_refused" in said


def test_bad_configuration_is_waited_for(site: Site) -> None:
    """With a configuration that cannot be used it sends dots until there is one: to end before the first OK crashes rsyslogd."""
    site.configure(stat_dir=1)
    run = site.start_run(is_ready=False)
    assert run.is_waiting()
    site.configure()
    assert run.reply() == b"OK\n"
    code, said = run.end()
    assert code == 0
    assert b"did you mean 'state_dir'" in said


def test_bad_configuration_and_no_rsyslog(site: Site) -> None:
    """In plain mode nobody waits: a configuration that cannot be used is EX_CONFIG; and a wait ends with the input."""
    site.configure(stat_dir=1)
    assert site.start_run("--plain").end()[0] == 78
    assert site.start_run(is_ready=False).end()[0] == 0


def test_damaged_store_is_set_aside(site: Site) -> None:
    """A damaged store is set aside and reported, and a new one is begun."""
    run = site.start_run()
    run.send(ours(ACCEPTED))
    run.end()
    store = site.state_dir / "state.db"
    store.write_bytes(b"rubbish" * 1000)
    run = site.start_run()
    run.send(ours(ACCEPTED, number=2))
    run.send(ours(OPENED, number=3))
    code, said = run.end()
    assert code == 0
    assert b"damaged" in said
    assert list(store.parent.glob("state.db.damaged-*"))
    assert [row[0] for row in site.events()] == ["ssh_login"]


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


def test_a_store_that_is_damaged_in_use(site: Site) -> None:
    """It is set aside, the line that met it is not lost, and what was half-known outlives a kill right after that."""
    run = site.start_run()
    run.send(ours(ACCEPTED))
    run.end()
    script, flag = site.folder / "damaged.py", site.folder / "flag"
    script.write_text(DAMAGED)
    run = site.start_run(script=[str(script), str(flag)])
    flag.touch()
    for number, text in enumerate((ACCEPTED, OPENED), 1):
        run.send(ours(text.replace("alice", "bob"), number=number, pid=8))
    wait_for(lambda: list(site.state_dir.glob("state.db.damaged-*")), "the damage is found")

    def is_kept() -> bool:
        asked = "SELECT count(*) FROM snapshot WHERE part = 'pipeline' UNION ALL SELECT count(*) FROM event"
        with suppress(sqlite3.OperationalError):  # the new one is not ready
            return site.query(asked) == [(1,), (1,)]
        return False

    wait_for(is_kept, "the new store has what was known")
    run.kill()
    run = site.start_run()
    run.send(ours(OPENED, number=3))
    run.end()
    assert {row[:3] for row in site.events()} == {("ssh_login", "alice", "192.0.2.7"), ("ssh_login", "bob", "192.0.2.7")}


def test_children_get_nothing_of_ours(site: Site) -> None:
    """Our children have neither our input, nor our replies, nor the lock: a killed run leaves nobody with rsyslog's pipe."""
    run = site.start_run()

    def children() -> list[str]:
        return Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()

    wait_for(lambda: len(children()) == 2, "deliver and keys run")
    ours = {Path(f"/proc/{run.pid}/fd/{number}").readlink().as_posix() for number in (0, 3)}  # lines, replies
    assert len(ours) == 2
    theirs = set()
    for child in children():
        for fd in Path(f"/proc/{child}/fd").iterdir():
            with suppress(FileNotFoundError):  # closed meanwhile
                theirs.add(fd.readlink().as_posix())
    assert not ours & theirs
    assert not [name for name in theirs if name.endswith(("run.lock", ".journal", "state.db"))]
    run.kill()


def test_what_only_the_log_file_has(site: Site) -> None:
    """What rsyslog lost is found in the file at the next start; what came in, and what is still to come, is not taken twice."""

    def in_file(line: bytes) -> bytes:
        found = json.loads(line)
        return f"{found['ts']} {found['host']} {found['tag']}{found['msg']}\n".encode()

    failed = "Failed password for root from 192.0.2.9 port 9 ssh2"
    log = site.log
    site.configure(catch_up=str(log))
    before, came, lost, late = (ours(failed, at, pid=at) for at in (1, 2, 3, 4))
    log.write_bytes(in_file(before))
    run = site.start_run()
    run.send(came)
    log.write_bytes(log.read_bytes() + in_file(came) + in_file(lost))
    run.kill()
    run = site.start_run()
    log.write_bytes(log.read_bytes() + in_file(late))
    wait_for(lambda: len(site.events()) == 2, "2 events are known")
    run.send(late)
    wait_for(lambda: len(site.events()) == 3, "3 events are known")
    run.end()
    site.start_run().end()
    assert len({row[3] for row in site.events()}) == len(site.events()) == 3


def test_late_session_line_is_no_login_of_its_own(site: Site) -> None:
    """The file alone has the session line of a login that is over and forgotten: nothing is told of it again."""
    log = site.log
    log.touch()
    site.configure(catch_up=str(log))
    run = site.start_run()
    for line in (ours(ACCEPTED), ours(CLOSED, 1), ours(ACCEPTED.replace("alice", "bob"), 40, pid=8)):
        run.send(line)
    run.end()
    stamp = "2026-11-22T10:00:00.123456+00:00 web1 sshd[7]:"
    late = f"2026-11-22T10:00:50.123456+00:00 web1 sshd[9]: {ACCEPTED}".replace("alice", "eve")
    log.write_text(f"{stamp} {ACCEPTED}\n{stamp} {OPENED}\n{late}\n")
    run = site.start_run()
    run.send(ours("Server listening on 0.0.0.0 port 22.", 41, pid=1))
    wait_for(lambda: len(site.events()) == 4, "4 events are known")
    run.end()
    assert [row[:2] for row in site.events()] == [
        ("ssh_login", "alice"), ("ssh_logout", "alice"), ("ssh_login", "bob"), ("ssh_login", "eve"),
    ]  # fmt: skip


def fed(site: Site, lines: list[bytes], seed: int, chance: int) -> int:
    """Feed lines as rsyslog does, to a run that dies now and then: what was not confirmed is sent again. Return the deaths."""
    script = str(HERE / "killed_run.py")
    deaths, run = 0, None
    for line in lines:
        while True:
            if run is None:
                deaths += 1
                assert deaths < 200, "it dies at each start"
                # Later lives are longer, so that the end is reached.
                run = site.start_run(is_ready=False, script=[script, str(seed * 1000 + deaths), str(chance * deaths)])
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
    assert site.start_run(script=[script, str(seed), "0"]).end()[0] == 0
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
        (tmp_path / str(chance)).mkdir()
        with Site(tmp_path / str(chance)) as site:
            deaths.append(fed(site, lines, seed, chance))
            known.append([row for row in site.events() if row[0] != "ssh_probe"])
    assert deaths[0] == 0
    assert deaths[1] >= 3
    assert known[0] == known[1]
    assert len(known[0]) > 20
