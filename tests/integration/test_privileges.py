"""What ``run`` and ``deliver`` keep of root: nothing. Read from /proc of the real processes, and from the files they leave."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from consumer.config import KEYS_SOCKET
from consumer.keys.client import LIMIT_S
from tests.integration.hung_home import hung
from tests.integration.post_office import PostOffice
from tests.integration.rsyslogd import PROJECT_DIR, wait_for
from tests.integration.test_keys_process import PATIENCE_S, Live, is_alive, keys_of, status
from tests.integration.test_run import Run, ours

if TYPE_CHECKING:
    from collections.abc import Iterator

CHANNEL = """
[[channel]]
name = "ops"
type = "email"
server = "127.0.0.1"
port = {port}
security = "none"
from = "sshbell@example.org"
to = ["ops@example.org"]
{more}
[[route]]
events = ["ssh_login"]
channels = ["ops"]
"""
NOTHING = dict.fromkeys(("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"), "0" * 16) | {"NoNewPrivs": "1", "Umask": "0077"}


@pytest.fixture
def live() -> Iterator[Live]:
    """Return a user, and what ``run`` needs."""
    with ExitStack() as stack:
        yield Live(stack)


def deliver_of(run: Run) -> int:
    """Return the pid of ``deliver``, once it delivers."""

    def found() -> list[int]:
        children = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
        return [int(pid) for pid in children if b"deliver" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")]

    wait_for(lambda: len(found()) == 1, "deliver runs")
    return found()[0]


def rights(pid: int) -> dict[str, str]:
    """Return what a process may do, as far as it is not who it is."""
    return {name: value for name, value in status(pid).items() if name in NOTHING}


def ids(pid: int) -> list[str]:
    """Return real, effective, saved and file system ids, of user and group; and the groups."""
    found = status(pid)
    return [*found["Uid"].split(), *found["Gid"].split(), *found["Groups"].split()]


def test_root_is_given_up(live: Live) -> None:
    """All ids, groups and sets of capabilities, and the way back; what they write is theirs alone."""
    run = live.start()
    deliver = deliver_of(run)
    wait_for((live.state_dir / "delivery.db").exists, "deliver has its database")
    own = [str(live.bell.pw_uid)] * 4 + [str(live.bell.pw_gid)] * 5
    for pid in (run.pid, deliver):
        assert ids(pid) == own
        assert rights(pid) == NOTHING
    assert run.send(ours("Failed password for root from 192.0.2.9 port 9 ssh2")) == b"OK\n"
    seen = set()
    for path in (live.state_dir, *live.state_dir.rglob("*")):
        found = path.lstat()
        assert (found.st_uid, found.st_gid) == (live.bell.pw_uid, live.bell.pw_gid), path
        assert stat.S_IMODE(found.st_mode) == (0o700 if path.is_dir() else 0o600), path
        seen.add(path.name)
    assert {"state.db", "delivery.db", "run.lock", "deliver.lock", KEYS_SOCKET, "00000001.journal"} <= seen
    assert run.end()[0] == 0


def test_started_by_the_user(live: Live) -> None:
    """Who never was root keeps no capability that was left to them, and all works."""
    live.state_dir.mkdir(mode=0o700)
    os.chown(live.state_dir, live.bell.pw_uid, live.bell.pw_gid)
    left = ["--inh-caps=+net_raw", "--ambient-caps=+net_raw"]
    run = live.start(prefix=["setpriv", f"--reuid={live.bell.pw_uid}", f"--regid={live.bell.pw_gid}", "--clear-groups", *left])
    # Only root may lower its bounds; with no_new_privs they let nothing in.
    expected = {name: value for name, value in NOTHING.items() if name != "CapBnd"}
    for pid in (run.pid, deliver_of(run), keys_of(run)):
        wait_for(lambda: status(pid)["NoNewPrivs"] == "1", "it has begun")  # noqa: B023
        assert rights(pid).items() >= expected.items()
        assert ids(pid)[:8] == [str(live.bell.pw_uid)] * 4 + [str(live.bell.pw_gid)] * 4
    assert run.end()[0] == 0


def test_secrets_are_read_in_deliver_alone(live: Live) -> None:
    """The command that prints a secret has one parent, whatever else runs; nobody else can even import what reads secrets."""
    asked = live.folder / "asked"
    script = live.folder / "secret"
    script.write_text(f"#!/bin/sh\necho $PPID >> {asked}\necho secret\n")
    script.chmod(0o755)
    asked.touch()
    asked.chmod(0o666)
    with PostOffice(live.folder) as post:
        more = f'username = "ops"\npassword = {{ command = ["{script}"] }}\nallow_plaintext = true\n'
        live.config.write_text(live.config.read_text() + CHANNEL.format(port=post.port, more=more))
        run = live.start()
        deliver = deliver_of(run)
        assert run.send(ours("Accepted publickey for root from 192.0.2.7 port 4711 ssh2: ED25519 SHA256:abc")) == b"OK\n"
        assert run.send(ours("pam_unix(sshd:session): session opened for user root(uid=0) by (uid=0)", number=1)) == b"OK\n"
        wait_for(lambda: asked.read_text() != "", "the secret is asked for")
        assert run.end()[0] == 0
    assert set(asked.read_text().split()) == {str(deliver)}
    loaded = "import json, sys, consumer.run.service, consumer.keys.process; print(json.dumps(sorted(sys.modules)))"
    said = subprocess.run([sys.executable, "-c", loaded], cwd=PROJECT_DIR, capture_output=True, check=True).stdout
    assert [name for name in json.loads(said) if name.startswith("consumer.deliver")] == []


@pytest.mark.parametrize("how", ["fifo", "fuse"])
def test_hung_home_delays_no_line_and_no_notice(live: Live, how: str) -> None:
    """
    Somebody whose home hangs logs in: their lines are confirmed as all others are, the notice comes within the limit.

    So does that of another user behind it.
    """
    victim, fingerprint = live.user("victim")
    other, other_fingerprint = live.user("laptop")
    with PostOffice(live.folder) as post, ExitStack() as homes:
        live.config.write_text(live.config.read_text() + CHANNEL.format(port=post.port, more=""))
        run = live.start()
        deliver_of(run)
        if how == "fuse":
            homes.enter_context(hung(Path(victim.pw_dir)))
        else:
            file = Path(victim.pw_dir) / ".ssh/authorized_keys"
            file.unlink()
            os.mkfifo(file)
        began_s = time.monotonic()
        longest_s = 0.0
        for number, (account, mark) in enumerate([(victim, fingerprint), (other, other_fingerprint)]):
            for text in (
                f"Accepted publickey for {account.pw_name} from 192.0.2.7 port 4711 ssh2: ED25519 {mark}",
                f"pam_unix(sshd:session): session opened for user {account.pw_name}(uid={account.pw_uid}) by (uid=0)",
            ):
                sent_s = time.monotonic()
                assert run.send(ours(text, number=number, pid=number + 7).replace(b'"web1"', host())) == b"OK\n"
                longest_s = max(longest_s, time.monotonic() - sent_s)
        wait_for(lambda: len(post.mails()) == 2, "both are told")
        assert time.monotonic() - began_s < LIMIT_S + PATIENCE_S
        assert longest_s < 1
        assert [str(mail.message["Subject"]).split()[0] for mail in post.mails()] == [victim.pw_name, other.pw_name]
        bodies = [mail.message.get_body(("plain",)).get_content() for mail in post.mails()]  # type: ignore[union-attr]
        # The name is missing, or there.
        assert ["victim" in bodies[0], "laptop" in bodies[1]] == [False, True]
        keys = keys_of(run)
        assert run.end()[0] == 0
        wait_for(lambda: not is_alive(keys), "keys does not wait for what hangs")


def host() -> bytes:
    """Return this host's name, as a line has it."""
    return json.dumps(os.uname().nodename).encode()
