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
from typing import TYPE_CHECKING, Any

import pytest

from consumer.config import KEYS_SOCKET
from consumer.keys.client import LIMIT_S, KeyOwners
from consumer.keys.process import CHILD_LIMIT, USER_LIMIT
from tests import needs
from tests.integration import system_user
from tests.integration.hung_home import hung
from tests.integration.rsyslogd import Rsyslogd
from tests.integration.test_end_to_end import child, key
from tests.integration.test_run import ACCEPTED, CLOSED, OPENED, Run, events, ours
from tests.waiting import wait_for

if TYPE_CHECKING:
    import pwd
    from collections.abc import Iterator

# What a busy machine may need besides.
PATIENCE_S = 5.0
# Longer than what run takes for one, and for a look at its children.
_PAUSE_S = 2.5


def login(user: str, fingerprint: str) -> dict[str, Any]:
    """Return the event of a login to this host."""
    return {
        "event": {"action": "ssh_login"}, "host": {"name": socket.gethostname()}, "user": {"name": user},
        "source": {"ip": "127.0.0.1"}, "ssh": {"key": {"type": "ED25519", "fingerprint": fingerprint}},
    }  # fmt: skip


class Live:
    """A directory, a user whom sshbell becomes, and a running ``run``."""

    def __init__(self, stack: ExitStack, *, becomes: bool = True) -> None:
        self.stack = stack
        self.folder = stack.enter_context(system_user.folder())
        self.bell = stack.enter_context(system_user.user(self.folder / "bell"))
        self.python, self.env = system_user.command()
        self.config = self.folder / "sshbell.toml"
        self.state_dir = self.folder / "state"
        name = self.bell.pw_name if becomes else ""
        self.config.write_text(f'state_dir = "{self.state_dir}"\nuser = "{name}"\ncatch_up = ""\n')
        self.owners = KeyOwners(self.state_dir)

    def start(self, *arguments: str, prefix: list[str] | None = None) -> Run:
        """Start ``run``; it is ready."""
        run = Run(self.config, *arguments, python=[*(prefix or []), *self.python], env=self.env)
        self.stack.callback(run.process.communicate)
        self.stack.callback(run.process.kill)
        if "--plain" not in arguments:
            assert run.reply() == b"OK\n"
        wait_for((self.state_dir / KEYS_SOCKET).exists, "keys may listen")
        keys = keys_of(run)
        wait_for(lambda: status(keys)["NoNewPrivs"] == "1", "keys has begun")
        return run

    def user(self, comment: str = "") -> tuple[pwd.struct_passwd, str]:
        """Make a user with a key; return it, and the key's fingerprint."""
        home = self.folder / f"home-{len(list(self.folder.iterdir()))}"
        account = self.stack.enter_context(system_user.user(home))
        made = self.folder / f"{home.name}.key"
        fingerprint = key(made)
        kind, body, _ = (made.with_suffix(".key.pub")).read_text().split()
        folder = home / ".ssh"
        folder.mkdir(mode=0o700)
        (folder / "authorized_keys").write_text(f'from="127.0.0.1,192.0.2.0/24" {kind} {body} {comment}\n')
        (folder / "authorized_keys").chmod(0o600)
        for path in (folder, folder / "authorized_keys"):
            os.chown(path, account.pw_uid, account.pw_gid)
        return account, fingerprint

    def asked(self, user: str, fingerprint: str) -> tuple[dict[str, Any], float]:
        """Ask as ``deliver`` does; return the answer, and how long it took."""
        began_s = time.monotonic()
        return asyncio.run(self.owners.of(login(user, fingerprint))), time.monotonic() - began_s

    async def asked_at_once(self, logins: list[tuple[pwd.struct_passwd, str]]) -> list[dict[str, Any]]:
        """Ask about many at the same time."""
        return await asyncio.gather(*[self.owners.of(login(account.pw_name, fingerprint)) for account, fingerprint in logins])


@pytest.fixture
def live() -> Iterator[Live]:
    """Return all of it, started by root."""
    with ExitStack() as stack:
        yield Live(stack)


def keys_of(run: Run) -> int:
    """Return the pid of ``keys``."""
    return keys_pid(run.pid)


def keys_pid(pid: int) -> int:
    """Return the pid of a ``run``'s ``keys``."""

    def found() -> list[int]:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [int(pid) for pid in children if b"consumer.keys.process" in Path(f"/proc/{pid}/cmdline").read_bytes()]

    wait_for(lambda: len(found()) == 1, "keys runs")
    return found()[0]


def is_alive(pid: int) -> bool:
    """Tell whether a process runs."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def status(pid: int) -> dict[str, str]:
    """Return what the kernel says of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: " ".join(value.split()) for name, _, value in (line.partition(":") for line in lines)}


def test_owner_is_named(live: Live) -> None:
    """A key is named by the comment of its line in a home that its user alone can read; one that is not there is unknown."""
    live.start()
    account, fingerprint = live.user("the owner's läptop")
    answer, _ = live.asked(account.pw_name, fingerprint)
    assert answer == {"key": {"owner": ["the owner's läptop"], "options": ['from="127.0.0.1,192.0.2.0/24"']}}
    other, other_fingerprint = live.user("other")
    assert live.asked(account.pw_name, other_fingerprint)[0] == {}
    assert live.asked(other.pw_name, other_fingerprint)[0]["key"]["owner"] == ["other"]
    assert live.asked("no-such-user", fingerprint)[0] == {}


def test_read_as_the_user(live: Live) -> None:
    """What the user cannot read is not read, whatever root could."""
    live.start()
    account, fingerprint = live.user("laptop")
    file = Path(account.pw_dir) / ".ssh/authorized_keys"
    os.chown(file, 0, 0)
    assert live.asked(account.pw_name, fingerprint)[0] == {}
    os.chown(file, account.pw_uid, account.pw_gid)
    wait_for(lambda: live.asked(account.pw_name, fingerprint)[0] != {}, "the answer is forgotten")


def test_rights(live: Live) -> None:
    """Of root it keeps that it can become users and end what it started as them; nothing is to be gained by running a program."""
    run = live.start()
    found = status(keys_of(run))
    kept = f"{1 << 5 | 1 << 6 | 1 << 7:016x}"
    assert {name: found[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Groups")} == {
        "CapInh": "0" * 16, "CapPrm": kept, "CapEff": kept, "CapBnd": kept, "CapAmb": "0" * 16, "NoNewPrivs": "1", "Groups": "",
    }  # fmt: skip


def test_signals_do_not_end_it(live: Live) -> None:
    """Systemd sends them to all processes of rsyslog's unit."""
    keys = keys_of(live.start())
    account, fingerprint = live.user("laptop")
    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
        os.kill(keys, number)
    assert live.asked(account.pw_name, fingerprint)[0] != {}
    assert is_alive(keys)


def test_ends_with_run(live: Live) -> None:
    """It ends when its socket does."""
    run = live.start()
    keys = keys_of(run)
    assert run.end()[0] == 0
    wait_for(lambda: not is_alive(keys), "keys ends")


def test_ends_with_a_killed_run(live: Live) -> None:
    """Where the end of its socket does not come, since somebody else has the other end, the kernel's signal does."""
    run = live.start()
    keys = keys_of(run)
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


def test_a_second_run_has_its_own(live: Live) -> None:
    """The one with the lock is asked; its successor is, once it has the lock."""
    account, fingerprint = live.user("laptop")
    first = live.start()
    second = Run(live.config, python=live.python, env=live.env)
    live.stack.callback(second.process.communicate)
    live.stack.callback(second.process.kill)
    keys_of(second)
    assert live.asked(account.pw_name, fingerprint)[0] != {}
    first.end()
    assert second.reply() == b"OK\n"
    wait_for(lambda: live.asked(account.pw_name, fingerprint)[0] != {}, "the second one's keys answers")


def said_to(live: Live, question: bytes, *, uid: int = 0) -> bytes:
    """Say something to ``keys`` as somebody; return the answer."""
    with closing(socket.socket(socket.AF_UNIX)) as client:
        client.settimeout(LIMIT_S + PATIENCE_S)
        groups = os.getgroups()
        os.seteuid(uid)
        try:
            client.connect(str(live.state_dir / KEYS_SOCKET))
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


def test_who_may_ask(live: Live) -> None:
    """Root and sshbell are answered; others are not, even where the file system would let them."""
    live.start()
    account, fingerprint = live.user("laptop")
    question = json.dumps({"user": account.pw_name, "fingerprint": fingerprint}).encode() + b"\n"
    for path, mode in ((live.state_dir, 0o755), (live.state_dir / KEYS_SOCKET, 0o666)):
        path.chmod(mode)
    assert b"laptop" in said_to(live, question)
    assert b"laptop" in said_to(live, question, uid=live.bell.pw_uid)
    assert said_to(live, question, uid=account.pw_uid) == b""
    assert said_to(live, question, uid=65534) == b""


def test_nonsense_is_not_answered(live: Live) -> None:
    """What is no question gets no answer, and does no harm."""
    live.start()
    account, fingerprint = live.user("laptop")
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
        assert said_to(live, nonsense) in (b"", b'{"owners":[]}\n')
    assert live.asked(account.pw_name, fingerprint)[0] != {}


def test_pipe_in_place_of_the_file(live: Live) -> None:
    """A FIFO at which nobody writes holds up nothing."""
    live.start()
    account, fingerprint = live.user("laptop")
    file = Path(account.pw_dir) / ".ssh/authorized_keys"
    file.unlink()
    os.mkfifo(file)
    os.chown(file, account.pw_uid, account.pw_gid)
    answer, took_s = live.asked(account.pw_name, fingerprint)
    assert (answer, took_s < LIMIT_S) == ({}, True)


def test_command_of_sshd_is_asked_as_its_user(live: Live) -> None:
    """``AuthorizedKeysCommand`` names a key that no file has; one that hangs costs the name, and is ended."""
    account, fingerprint = live.user()
    stuck, stuck_fingerprint = live.user()
    asker = live.stack.enter_context(system_user.user(live.folder / "asker"))
    line = " ".join((live.folder / f"{Path(account.pw_dir).name}.key.pub").read_text().split()[:2])
    for each in (account, stuck):
        (Path(each.pw_dir) / ".ssh/authorized_keys").unlink()
    command = live.folder / "command"
    command.write_text(f"""#!/bin/sh
[ "$1" = {stuck.pw_name} ] && exec sleep 60
[ "$2" = {fingerprint} ] && echo "{line} $(id -un) $(id -Gn) was asked for $1"
""")
    command.chmod(0o755)
    config = live.folder / "sshd_config"
    config.write_text(f"AuthorizedKeysCommand /mnt/command %u %f\nAuthorizedKeysCommandUser {asker.pw_name}\n")
    # Where root alone can write, which no temporary folder is; nobody else sees these mounts.
    mounts = (
        'mount -t tmpfs -o mode=755 none /mnt && cp "$0/command" /mnt && mount --bind "$0/sshd_config" /etc/ssh/sshd_config'
        ' && exec "$@"'
    )
    namespace = ["unshare", "--mount", "sh", "-c", mounts, str(live.folder)]
    done = subprocess.run([*namespace, "true"], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no mounts of our own: {done.stderr.strip()}")
    run = live.start(prefix=namespace)
    answer, _ = live.asked(account.pw_name, fingerprint)
    assert answer == {"key": {"owner": [f"{asker.pw_name} {asker.pw_name} was asked for {account.pw_name}"]}}
    keys = keys_of(run)
    answer, took_s = live.asked(stuck.pw_name, stuck_fingerprint)
    assert (answer, took_s < LIMIT_S) == ({}, True)
    # The third waits for a place, and has little time left.
    asyncio.run(live.asked_at_once([(stuck, "SHA256:" + char * 43) for char in "ABC"]))
    wait_for(lambda: Path(f"/proc/{keys}/task/{keys}/children").read_text() == "", "what hung is gone")
    assert not system_user.is_at_work(asker)
    assert run.end()[0] == 0


def test_hung_home(live: Live) -> None:
    """
    Look-ups that nobody can kill are bounded, for a user and in all, and then unknown at once; nobody else waits for them.

    Once the file system answers, its users have names again.
    """
    keys = keys_of(live.start())
    well, late = live.user("laptop"), live.user("late")
    victims = [live.user(f"victim {number}") for number in range(CHILD_LIMIT // USER_LIMIT)]

    def stuck() -> int:
        return len(Path(f"/proc/{keys}/task/{keys}/children").read_text().split())

    with ExitStack() as homes:
        hangs = [homes.enter_context(hung(Path(account.pw_dir))) for account, _ in victims]
        for some in (victims[:1], victims[1:]):
            began_s = time.monotonic()
            # Each about another key, or it would be one look-up.
            asked = [(account, f"{fingerprint}{number}") for account, fingerprint in some for number in range(USER_LIMIT)]
            assert asyncio.run(live.asked_at_once(asked)) == [{}] * len(asked)
            assert time.monotonic() - began_s < LIMIT_S + PATIENCE_S
            # The next one of these users does not wait.
            answer, took_s = live.asked(some[0][0].pw_name, some[0][1])
            assert (answer, took_s < 1) == ({}, True)
            if some == victims[:1]:
                assert live.asked(well[0].pw_name, well[1])[0] != {}
        assert stuck() == CHILD_LIMIT
        assert all(hang.requests for hang in hangs)
        # All places are held: unknown, and at once.
        answer, took_s = live.asked(late[0].pw_name, late[1])
        assert (answer, took_s < 1) == ({}, True)
        assert stuck() == CHILD_LIMIT
    wait_for(lambda: stuck() == 0, "they are let go")
    for account, fingerprint in [well, late, *victims]:
        wait_for(lambda: live.asked(account.pw_name, fingerprint)[0] != {}, "there is an answer again")  # noqa: B023


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


def test_a_look_up_is_closed_to_its_user(live: Live) -> None:
    """It is the user by then, and has the memory of ``keys``, with others' answers; the user gets at nothing of it."""
    keys = keys_of(live.start())
    account, fingerprint = live.user("laptop")

    def looker() -> int | None:
        """Return who has become the user."""
        found = Path(f"/proc/{keys}/task/{keys}/children").read_text().split()
        return next((int(pid) for pid in found if status(int(pid))["Uid"].split()[0] == str(account.pw_uid)), None)

    with hung(Path(account.pw_dir)), ThreadPoolExecutor(1) as pool:
        asking = pool.submit(live.asked, account.pw_name, fingerprint)
        wait_for(lambda: looker() is not None, "a look-up is the user")
        pid = looker()
        as_user = ["setpriv", f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]
        tracer = subprocess.run([*as_user, *live.python, "-c", _TRACER, str(pid)], capture_output=True, check=True, cwd="/")
        # Not even what it holds is of use: nothing, and a pipe for its answer.
        held = [str(name.readlink()).partition(":")[0] for name in Path(f"/proc/{pid}/fd").iterdir()]
        assert asking.result()[0] == {}
    assert (tracer.stdout, sorted(held)) == (b"", ["/dev/null"] * 3 + ["pipe"])


def test_once_it_is_gone(live: Live) -> None:
    """``run`` ends where a line comes after a pause, and does not take it; its successor stays, though keys dies again."""
    run = live.start()
    account, fingerprint = live.user("laptop")
    assert run.send(ours(ACCEPTED)) == b"OK\n"
    os.kill(keys_of(run), signal.SIGKILL)
    answer, took_s = live.asked(account.pw_name, fingerprint)
    assert (answer, took_s < 1) == ({}, True)
    second = ours(OPENED, number=1)
    time.sleep(_PAUSE_S)
    assert run.send(second) == b""
    code, said = run.end()
    assert (code, b"owners of keys are not named" in said) == (0, True)
    run = live.start()
    assert run.send(second) == b"OK\n"
    wait_for(lambda: [row[:2] for row in events(live.config)] == [("ssh_login", "alice")], "the login is known")
    assert live.asked(account.pw_name, fingerprint)[0] != {}
    os.kill(keys_of(run), signal.SIGKILL)
    for number in range(2, 4):
        time.sleep(_PAUSE_S)
        assert run.send(ours(CLOSED, 30, number)) == b"OK\n"
    run.end()


def test_rsyslogd_starts_all_anew(tmp_path: Path) -> None:
    """The real one hands the line that was not taken to a new ``run`` with a new ``keys``; no line is lost, none counts twice."""
    needs.root("let its rsyslogd use our socket")
    config = tmp_path / "sshbell.toml"
    config.write_text(f'state_dir = "{tmp_path}/state"\nuser = ""\ncatch_up = ""\n')
    sent = 0

    def run_pid() -> int:
        text = (tmp_path / "state/run.lock").read_text().strip() if (tmp_path / "state/run.lock").exists() else ""
        return int(text or 0)

    def told() -> int:
        with suppress(sqlite3.OperationalError):  # not there, or not made yet
            return len(events(config))
        return 0

    with Rsyslogd(tmp_path, child=child(tmp_path)) as rsyslogd:

        def send() -> int:
            nonlocal sent
            sent += 1
            rsyslogd.send("sshd[7]", f"Failed password for root from 192.0.2.9 port {sent} ssh2")
            return sent

        send()
        wait_for(lambda: told() == 1, "run runs")
        first = run_pid()
        os.kill(keys_pid(first), signal.SIGKILL)
        time.sleep(_PAUSE_S)
        send()
        wait_for(lambda: run_pid() not in (0, first), "there is a new one")
        for _ in range(3):
            send()
        wait_for(lambda: told() == sent, "all lines are counted")
        assert is_alive(keys_pid(run_pid()))


def test_plain_mode_stays(live: Live) -> None:
    """A pipe's other end starts nobody: there ``run`` stays."""
    run = live.start("--plain")
    assert run.process.stdin is not None
    os.kill(keys_of(run), signal.SIGKILL)
    for number in range(3):
        time.sleep(_PAUSE_S)
        run.process.stdin.write(ours("Failed password for root from 192.0.2.9 port 9 ssh2", number=number))
        run.process.stdin.flush()
    assert run.end()[0] == 0
    assert len(events(live.config)) == 3


def test_who_never_was_root(live: Live) -> None:
    """Where rsyslogd has given up root all works; of homes it reads what it may: its own."""
    account = live.bell
    live.state_dir.mkdir(mode=0o700)
    os.chown(live.state_dir, account.pw_uid, account.pw_gid)
    made = live.folder / "key"
    fingerprint = key(made)
    folder = Path(account.pw_dir) / ".ssh"
    folder.mkdir(mode=0o700)
    (folder / "authorized_keys").write_text((live.folder / "key.pub").read_text())
    for path in (folder, folder / "authorized_keys"):
        os.chown(path, account.pw_uid, account.pw_gid)
    other, other_fingerprint = live.user("laptop")
    as_user = ["setpriv", f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]
    run = live.start(prefix=as_user)
    assert live.asked(account.pw_name, fingerprint)[0] != {}
    assert live.asked(other.pw_name, other_fingerprint)[0] == {}
    assert status(keys_of(run))["Uid"] == " ".join([str(account.pw_uid)] * 4)
    assert run.send(ours(ACCEPTED)) == b"OK\n"
    assert run.end()[0] == 0


def test_who_stays_root() -> None:
    """With ``user = ""`` nothing is given up, and owners are named all the same."""
    with ExitStack() as stack:
        live = Live(stack, becomes=False)
        run = live.start()
        account, fingerprint = live.user("laptop")
        assert live.asked(account.pw_name, fingerprint)[0]["key"]["owner"] == ["laptop"]
        assert status(run.pid)["Uid"] == "0 0 0 0"
        assert run.end()[0] == 0


def test_root_without_its_rights(live: Live) -> None:
    """Root that may become nobody, as under an rsyslogd with libcap-ng, waits with dots, and says what to do."""
    less = ["setpriv", "--bounding-set", "-setuid,-setgid"]
    run = Run(live.config, python=[*less, *live.python], env=live.env)
    live.stack.callback(run.process.communicate)
    live.stack.callback(run.process.kill)
    assert run.process.stdout is not None
    assert run.process.stdout.read(1) == b"."
    text = live.config.read_text()
    live.config.write_text(text.replace(f'user = "{live.bell.pw_name}"', 'user = ""'))
    assert run.reply() == b"OK\n"
    account, fingerprint = live.user("laptop")
    assert live.asked(account.pw_name, fingerprint)[0] == {}
    code, said = run.end()
    assert (code, b"CAP_SETUID and CAP_SETGID are missing" in said) == (0, True)
