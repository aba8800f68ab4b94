"""The process ``keys``, started by the real ``sshbell run``: whose a key is, who may ask, what hangs, how it ends."""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import socket
import sqlite3
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from consumer.config import KEYS_SOCKET
from consumer.keys.client import LIMIT_S
from consumer.keys.process import CHILD_LIMIT, USER_LIMIT
from tests import needs
from tests.integration import system_user
from tests.integration.host import PATIENCE_S, Host, allow, as_user, children_of, is_alive, keys_of, status
from tests.integration.hung_home import hung
from tests.integration.lines import ACCEPTED, CLOSED, OPENED, ours
from tests.integration.rsyslogd import Rsyslogd, child
from tests.integration.sshd import key
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integration.site import Site

pytestmark = needs.CHANGES_THE_MACHINE

# run ends where no line came for a while, and looks at its children now and then. Nothing shows that it has done so: real time
# has to pass, more than either takes.
_PAUSE_S = 2.5


def test_owner_is_named(host: Host) -> None:
    """A key is named by the comment of its line in a home that its user alone can read; one that is not there is unknown."""
    host.start()
    account, fingerprint = host.user("the owner's läptop")
    answer, _ = host.asked(account.pw_name, fingerprint)
    assert answer == {"key": {"owner": ["the owner's läptop"], "options": ['from="127.0.0.1,192.0.2.0/24"']}}
    other, other_fingerprint = host.user("other")
    assert host.asked(account.pw_name, other_fingerprint)[0] == {}
    assert host.asked(other.pw_name, other_fingerprint)[0]["key"]["owner"] == ["other"]
    assert host.asked("no-such-user", fingerprint)[0] == {}


def test_read_as_the_user(host: Host) -> None:
    """What the user cannot read is not read, whatever root could."""
    host.start()
    account, fingerprint = host.user("laptop")
    file = Path(account.pw_dir) / ".ssh/authorized_keys"
    os.chown(file, 0, 0)
    assert host.asked(account.pw_name, fingerprint)[0] == {}
    os.chown(file, account.pw_uid, account.pw_gid)
    wait_for(lambda: host.asked(account.pw_name, fingerprint)[0] != {}, "the answer is forgotten")


def test_rights(host: Host) -> None:
    """Of root it keeps that it can become users and end what it started as them; nothing is to be gained by running a program."""
    run = host.start()
    found = status(keys_of(run.pid))
    kept = f"{1 << 5 | 1 << 6 | 1 << 7:016x}"
    assert {name: found[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Groups")} == {
        "CapInh": "0" * 16, "CapPrm": kept, "CapEff": kept, "CapBnd": kept, "CapAmb": "0" * 16, "NoNewPrivs": "1", "Groups": "",
    }  # fmt: skip


def test_signals_do_not_end_it(host: Host) -> None:
    """Systemd sends them to all processes of rsyslog's unit."""
    keys = keys_of(host.start().pid)
    account, fingerprint = host.user("laptop")
    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
        os.kill(keys, number)
    assert host.asked(account.pw_name, fingerprint)[0] != {}
    assert is_alive(keys)


def test_ends_with_run(host: Host) -> None:
    """It ends when its socket does."""
    run = host.start()
    keys = keys_of(run.pid)
    assert run.end()[0] == 0
    wait_for(lambda: not is_alive(keys), "keys ends")


def test_ends_with_a_killed_run(host: Host) -> None:
    """Where the end of its socket does not come, since somebody else has the other end, the kernel's signal does."""
    run = host.start()
    keys = keys_of(run.pid)
    with closing_all(sockets_of(run.pid)):
        run.process.kill()
        wait_for(lambda: not is_alive(keys), "keys ends")


_PIDFD_GETFD = 438


def sockets_of(pid: int) -> list[int]:
    """Return copies of a process's sockets."""
    libc = ctypes.CDLL(None, use_errno=True)
    process = os.pidfd_open(pid)
    names = [fd for fd in Path(f"/proc/{pid}/fd").iterdir() if str(fd.readlink()).startswith("socket:")]
    copies = [libc.syscall(_PIDFD_GETFD, process, int(fd.name), 0) for fd in names]
    os.close(process)
    assert copies
    assert min(copies) >= 0, os.strerror(ctypes.get_errno())
    return copies


@contextmanager
def closing_all(descriptors: list[int]) -> Iterator[None]:
    """Close them at the end."""
    try:
        yield
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def test_a_second_run_has_its_own(host: Host) -> None:
    """The one with the lock is asked; its successor is, once it has the lock."""
    account, fingerprint = host.user("laptop")
    first = host.start()
    second = host.start_run(is_ready=False)
    keys_of(second.pid)
    assert host.asked(account.pw_name, fingerprint)[0] != {}
    first.end()
    assert second.reply() == b"OK\n"
    wait_for(lambda: host.asked(account.pw_name, fingerprint)[0] != {}, "the second one's keys answers")


def said_to(host: Host, question: bytes, *, uid: int = 0) -> bytes:
    """Say something to ``keys`` as somebody; return the answer."""
    with closing(socket.socket(socket.AF_UNIX)) as client:
        client.settimeout(LIMIT_S + PATIENCE_S)
        groups = os.getgroups()
        os.seteuid(uid)
        try:
            client.connect(str(host.state_dir / KEYS_SOCKET))
        finally:
            os.seteuid(0)
            os.setgroups(groups)
        answer = b""
        # It closes without having heard all of it.
        with suppress(BrokenPipeError, ConnectionResetError):
            client.sendall(question)
            client.shutdown(socket.SHUT_WR)
            while block := client.recv(1 << 16):
                answer += block
    return answer


def test_who_may_ask(host: Host) -> None:
    """Root and sshbell are answered; others are not, even where the file system would let them."""
    host.start()
    account, fingerprint = host.user("laptop")
    question = json.dumps({"user": account.pw_name, "fingerprint": fingerprint}).encode() + b"\n"
    for path, mode in ((host.state_dir, 0o755), (host.state_dir / KEYS_SOCKET, 0o666)):
        path.chmod(mode)
    assert b"laptop" in said_to(host, question)
    assert b"laptop" in said_to(host, question, uid=host.bell.pw_uid)
    assert said_to(host, question, uid=account.pw_uid) == b""
    assert said_to(host, question, uid=65534) == b""


def test_nonsense_is_not_answered(host: Host) -> None:
    """What is no question gets no answer, and does no harm."""
    host.start()
    account, fingerprint = host.user("laptop")
    for nonsense in (
        b"",
        b"\n",
        b"{}\n",
        b'{"user": 1}\n',
        b"[" * 4000 + b"\n",
        b"x" * 100_000,
        b'{"user": "\\u0000"}\n',
        b"\xff\n",
    ):
        assert said_to(host, nonsense) in (b"", b'{"owners":[]}\n')
    assert host.asked(account.pw_name, fingerprint)[0] != {}


def test_pipe_in_place_of_the_file(host: Host) -> None:
    """A FIFO at which nobody writes holds up nothing."""
    host.start()
    account, fingerprint = host.user("laptop")
    file = Path(account.pw_dir) / ".ssh/authorized_keys"
    file.unlink()
    os.mkfifo(file)
    os.chown(file, account.pw_uid, account.pw_gid)
    answer, took_s = host.asked(account.pw_name, fingerprint)
    assert (answer, took_s < LIMIT_S) == ({}, True)


def test_command_of_sshd_is_asked_as_its_user(host: Host) -> None:
    """``AuthorizedKeysCommand`` names a key that no file has; one that hangs costs the name, and is ended."""
    account, fingerprint = host.user()
    stuck, stuck_fingerprint = host.user()
    asker = host.stack.enter_context(system_user.user(host.folder / "asker"))
    line = host.public_key(account)
    for each in (account, stuck):
        (Path(each.pw_dir) / ".ssh/authorized_keys").unlink()
    command = host.folder / "command"
    command.write_text(f"""#!/bin/sh
[ "$1" = {stuck.pw_name} ] && exec sleep 60
[ "$2" = {fingerprint} ] && echo "{line} $(id -un) $(id -Gn) was asked for $1"
""")
    command.chmod(0o755)
    config = host.folder / "sshd_config"
    config.write_text(f"AuthorizedKeysCommand /mnt/command %u %f\nAuthorizedKeysCommandUser {asker.pw_name}\n")
    # Where root alone can write, which no temporary folder is; nobody else sees these mounts.
    mounts = (
        'mount -t tmpfs -o mode=755 none /mnt && cp "$0/command" /mnt && mount --bind "$0/sshd_config" /etc/ssh/sshd_config'
        ' && exec "$@"'
    )
    namespace = ["unshare", "--mount", "sh", "-c", mounts, str(host.folder)]
    done = subprocess.run([*namespace, "true"], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no mounts of our own: {done.stderr.strip()}")
    run = host.start(prefix=namespace)
    answer, _ = host.asked(account.pw_name, fingerprint)
    assert answer == {"key": {"owner": [f"{asker.pw_name} {asker.pw_name} was asked for {account.pw_name}"]}}
    keys = keys_of(run.pid)
    answer, took_s = host.asked(stuck.pw_name, stuck_fingerprint)
    assert (answer, took_s < LIMIT_S) == ({}, True)
    # The third waits for a place, and has little time left.
    asyncio.run(host.asked_at_once([(stuck, "SHA256:" + char * 43) for char in "ABC"]))
    wait_for(lambda: not children_of(keys), "what hung is gone")
    assert not system_user.is_at_work(asker)
    assert run.end()[0] == 0


def test_hung_home(host: Host) -> None:
    """
    Look-ups that nobody can kill are bounded, for a user and in all, and then unknown at once; nobody else waits for them.

    Once the file system answers, its users have names again.
    """
    keys = keys_of(host.start().pid)
    well, late = host.user("laptop"), host.user("late")
    victims = [host.user(f"victim {number}") for number in range(CHILD_LIMIT // USER_LIMIT)]

    def stuck() -> int:
        return len(children_of(keys))

    with ExitStack() as homes:
        hangs = [homes.enter_context(hung(Path(account.pw_dir))) for account, _ in victims]
        for some in (victims[:1], victims[1:]):
            began_s = time.monotonic()
            # Each about another key, or it would be one look-up.
            asked = [(account, f"{fingerprint}{number}") for account, fingerprint in some for number in range(USER_LIMIT)]
            assert asyncio.run(host.asked_at_once(asked)) == [{}] * len(asked)
            assert time.monotonic() - began_s < LIMIT_S + PATIENCE_S
            # The next one of these users does not wait.
            answer, took_s = host.asked(some[0][0].pw_name, some[0][1])
            assert (answer, took_s < LIMIT_S) == ({}, True)
            if some == victims[:1]:
                assert host.asked(well[0].pw_name, well[1])[0] != {}
        assert stuck() == CHILD_LIMIT
        assert all(hang.requests for hang in hangs)
        # All places are held: unknown, and at once.
        answer, took_s = host.asked(late[0].pw_name, late[1])
        assert (answer, took_s < LIMIT_S) == ({}, True)
        assert stuck() == CHILD_LIMIT
    wait_for(lambda: stuck() == 0, "they are let go")
    for account, fingerprint in [well, late, *victims]:
        wait_for(lambda: host.asked(account.pw_name, fingerprint)[0] != {}, "there is an answer again")  # noqa: B023


# What a process would do to another one of its user: trace it, and open its memory and descriptors. Prints what it may.
_TRACER = """
import ctypes, os, sys
pid, libc = int(sys.argv[1]), ctypes.CDLL(None)
if libc.ptrace(16, pid, 0, 0) == 0:
    print("ptrace")
for name in ("mem", "environ", "maps", "fd/0"):
    try:
        os.close(os.open(f"/proc/{pid}/{name}", os.O_RDONLY))
        print(name)
    except PermissionError:
        pass
"""


def test_a_look_up_is_closed_to_its_user(host: Host) -> None:
    """It is the user by then, and has the memory of ``keys``, with others' answers; the user gets at nothing of it."""
    keys = keys_of(host.start().pid)
    account, fingerprint = host.user("laptop")

    def looker() -> int | None:
        """Return who has become the user."""
        return next((pid for pid in children_of(keys) if status(pid)["Uid"].split()[0] == str(account.pw_uid)), None)

    with hung(Path(account.pw_dir)), ThreadPoolExecutor(1) as pool:
        asking = pool.submit(host.asked, account.pw_name, fingerprint)
        wait_for(lambda: looker() is not None, "a look-up is the user")
        pid = looker()
        trace = [*as_user(account), *host.python, "-c", _TRACER, str(pid)]
        tracer = subprocess.run(trace, capture_output=True, check=True, cwd="/")
        # Not even what it holds is of use: nothing, and a pipe for its answer.
        held = [str(name.readlink()).partition(":")[0] for name in Path(f"/proc/{pid}/fd").iterdir()]
        assert asking.result()[0] == {}
    assert (tracer.stdout, sorted(held)) == (b"", ["/dev/null"] * 3 + ["pipe"])


def test_once_it_is_gone(host: Host) -> None:
    """``run`` ends where a line comes after a pause, and does not take it; its successor stays, though keys dies again."""
    run = host.start()
    account, fingerprint = host.user("laptop")
    assert run.send(ours(ACCEPTED)) == b"OK\n"
    os.kill(keys_of(run.pid), signal.SIGKILL)
    answer, took_s = host.asked(account.pw_name, fingerprint)
    assert (answer, took_s < LIMIT_S) == ({}, True)
    second = ours(OPENED, number=1)
    time.sleep(_PAUSE_S)
    assert run.send(second) == b""
    code, said = run.end()
    assert (code, b"sshbell cannot name the owners of keys" in said) == (0, True)
    run = host.start()
    assert run.send(second) == b"OK\n"
    wait_for(lambda: [row[:2] for row in host.events()] == [("ssh_login", "alice")], "the login is known")
    assert host.asked(account.pw_name, fingerprint)[0] != {}
    os.kill(keys_of(run.pid), signal.SIGKILL)
    for number in range(2, 4):
        time.sleep(_PAUSE_S)
        assert run.send(ours(CLOSED, 30, number)) == b"OK\n"
    run.end()


# This test is no sshd, so sshbell takes its lines for forged, and reports the first of each claim at once.
CLAIMS = (
    "Failed password for root from {} ssh2", "Accepted password for root from {} ssh2", "Invalid user x from {}",
    "Connection closed by {} [preauth]", "Received disconnect from {}:11: bye [preauth]",
)  # fmt: skip


def test_rsyslogd_starts_all_anew(site: Site, tmp_path: Path) -> None:
    """The real one hands the line that was not taken to a new ``run`` with a new ``keys``; no line is lost, none counts twice."""
    needs.root("let its rsyslogd use our socket")
    sent = 0

    def run_pid() -> int:
        lock = site.state_dir / "run.lock"
        return int((lock.read_text() if lock.exists() else "").strip() or 0)

    def told() -> int:
        with suppress(sqlite3.OperationalError):  # not there, or not made yet
            return len(site.events())
        return 0

    with Rsyslogd(tmp_path, child=child(site)) as rsyslogd:

        def send() -> int:
            nonlocal sent
            rsyslogd.send("sshd[7]", CLAIMS[sent].format("192.0.2.9 port 7"))
            sent += 1
            return sent

        send()
        wait_for(lambda: told() == 1, "run runs")
        first = run_pid()
        os.kill(keys_of(first), signal.SIGKILL)
        time.sleep(_PAUSE_S)
        send()
        wait_for(lambda: run_pid() not in (0, first), "there is a new one")
        for _ in range(3):
            send()
        wait_for(lambda: told() == sent, "all lines are counted")
        assert is_alive(keys_of(run_pid()))


def test_plain_mode_stays(host: Host) -> None:
    """A pipe's other end starts nobody: there ``run`` stays."""
    run = host.start("--plain")
    os.kill(keys_of(run.pid), signal.SIGKILL)
    for number in range(3):
        time.sleep(_PAUSE_S)
        run.write(ours("Failed password for root from 192.0.2.9 port 9 ssh2", number=number))
    assert run.end()[0] == 0
    assert len(host.events()) == 3


def test_who_never_was_root(host: Host) -> None:
    """Where rsyslogd has given up root all works; of homes it reads what it may: its own."""
    account = host.bell
    host.state_dir.mkdir(mode=0o700)
    os.chown(host.state_dir, account.pw_uid, account.pw_gid)
    fingerprint = key(host.folder / "key")
    allow(account, (host.folder / "key.pub").read_text())
    other, other_fingerprint = host.user("laptop")
    run = host.start(prefix=as_user(account))
    assert host.asked(account.pw_name, fingerprint)[0] != {}
    assert host.asked(other.pw_name, other_fingerprint)[0] == {}
    assert status(keys_of(run.pid))["Uid"] == " ".join([str(account.pw_uid)] * 4)
    assert run.send(ours(ACCEPTED)) == b"OK\n"
    assert run.end()[0] == 0


def test_who_stays_root(open_folder: Path) -> None:
    """With ``user = ""`` nothing is given up, and owners are named all the same."""
    with Host(open_folder) as host:
        host.configure()
        run = host.start()
        account, fingerprint = host.user("laptop")
        assert host.asked(account.pw_name, fingerprint)[0]["key"]["owner"] == ["laptop"]
        assert status(run.pid)["Uid"] == "0 0 0 0"
        assert run.end()[0] == 0


def test_root_without_its_rights(host: Host) -> None:
    """Root that may become nobody, as under an rsyslogd with libcap-ng, waits with dots, and says what to do."""
    less = ["setpriv", "--bounding-set", "-setuid,-setgid"]
    run = host.start_run(prefix=less, is_ready=False)
    assert run.is_waiting()
    host.configure()
    assert run.reply() == b"OK\n"
    account, fingerprint = host.user("laptop")
    assert host.asked(account.pw_name, fingerprint)[0] == {}
    code, said = run.end()
    assert (code, b"CAP_SETUID and CAP_SETGID are missing" in said) == (0, True)
