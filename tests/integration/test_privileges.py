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
from typing import Any

import pytest

from consumer.config import KEYS_SOCKET
from consumer.keys.client import LIMIT_S
from tests import needs
from tests.integration.host import PATIENCE_S, Host, as_user, deliver_of, is_alive, keys_of, status
from tests.integration.hung_home import hung
from tests.integration.lines import ours
from tests.integration.site import PROJECT_DIR
from tests.waiting import wait_for

pytestmark = needs.CHANGES_THE_MACHINE

NOTHING = dict.fromkeys(("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"), "0" * 16) | {"NoNewPrivs": "1", "Umask": "0077"}


def rights(pid: int) -> dict[str, str]:
    """Return what a process may do, as far as it is not who it is."""
    return {name: value for name, value in status(pid).items() if name in NOTHING}


def ids(pid: int) -> list[str]:
    """Return real, effective, saved and file system ids, of user and group; and the groups."""
    found = status(pid)
    return [*found["Uid"].split(), *found["Gid"].split(), *found["Groups"].split()]


def test_root_is_given_up(host: Host) -> None:
    """All ids, groups and sets of capabilities, and the way back; what they write is theirs alone."""
    run = host.start()
    deliver = deliver_of(run.pid)
    wait_for((host.state_dir / "delivery.db").exists, "deliver has its database")
    own = [str(host.bell.pw_uid)] * 4 + [str(host.bell.pw_gid)] * 5
    for pid in (run.pid, deliver):
        assert ids(pid) == own
        assert rights(pid) == NOTHING
    assert run.send(ours("Failed password for root from 192.0.2.9 port 9 ssh2")) == b"OK\n"
    seen = set()
    for path in (host.state_dir, *host.state_dir.rglob("*")):
        found = path.lstat()
        assert (found.st_uid, found.st_gid) == (host.bell.pw_uid, host.bell.pw_gid), path
        assert stat.S_IMODE(found.st_mode) == (0o700 if path.is_dir() else 0o600), path
        seen.add(path.name)
    assert {"state.db", "delivery.db", "run.lock", "deliver.lock", KEYS_SOCKET, "00000001.journal"} <= seen
    assert run.end()[0] == 0


def test_started_by_the_user(host: Host) -> None:
    """Who never was root keeps no capability that was left to them, and all works."""
    host.state_dir.mkdir(mode=0o700)
    os.chown(host.state_dir, host.bell.pw_uid, host.bell.pw_gid)
    left = ["--inh-caps=+net_raw", "--ambient-caps=+net_raw"]
    run = host.start(prefix=[*as_user(host.bell), *left])
    # Only root may lower its bounds; with no_new_privs they let nothing in.
    expected = {name: value for name, value in NOTHING.items() if name != "CapBnd"}
    for pid in (run.pid, deliver_of(run.pid), keys_of(run.pid)):
        wait_for(lambda: status(pid)["NoNewPrivs"] == "1", "it has begun")  # noqa: B023
        assert rights(pid).items() >= expected.items()
        assert ids(pid)[:8] == [str(host.bell.pw_uid)] * 4 + [str(host.bell.pw_gid)] * 4
    assert run.end()[0] == 0


def test_secrets_are_read_in_deliver_alone(host: Host) -> None:
    """The command that prints a secret has one parent, whatever else runs; nobody else can even import what reads secrets."""
    asked = host.folder / "asked"
    script = host.folder / "secret"
    script.write_text(f"#!/bin/sh\necho $PPID >> {asked}\necho secret\n")
    script.chmod(0o755)
    asked.touch()
    asked.chmod(0o666)
    secret: dict[str, Any] = {"username": "ops", "password": {"command": [str(script)]}, "allow_plaintext": True}
    host.configure(user=host.bell.pw_name, channel=host.channels(**secret))
    run = host.start()
    deliver = deliver_of(run.pid)
    assert run.send(ours("Accepted publickey for root from 192.0.2.7 port 4711 ssh2: ED25519 SHA256:abc")) == b"OK\n"
    assert run.send(ours("pam_unix(sshd:session): session opened for user root(uid=0) by (uid=0)", number=1)) == b"OK\n"
    wait_for(asked.read_text, "the secret is asked for")
    assert run.end()[0] == 0
    assert set(asked.read_text().split()) == {str(deliver)}
    loaded = "import json, sys, consumer.run.service, consumer.keys.process; print(json.dumps(sorted(sys.modules)))"
    said = subprocess.run([sys.executable, "-c", loaded], cwd=PROJECT_DIR, capture_output=True, check=True).stdout
    assert [name for name in json.loads(said) if name.startswith("consumer.deliver")] == []


@pytest.mark.parametrize("how", ["fifo", "fuse"])
def test_hung_home_delays_no_line_and_no_notice(host: Host, how: str) -> None:
    """
    Somebody whose home hangs logs in: their lines are confirmed as all others are, the notice comes within the limit.

    So does that of another user behind it.
    """
    victim, fingerprint = host.user("victim")
    other, other_fingerprint = host.user("laptop")
    host.configure(user=host.bell.pw_name, channel=host.channels())
    with ExitStack() as homes:
        run = host.start()
        deliver_of(run.pid)
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
                assert run.send(ours(text, number=number, pid=number + 7, host=os.uname().nodename)) == b"OK\n"
                longest_s = max(longest_s, time.monotonic() - sent_s)
        wait_for(lambda: len(host.post.inbox.mails) == 2, "both are told")
        assert time.monotonic() - began_s < LIMIT_S + PATIENCE_S
        assert longest_s < 1
        mails = host.post.inbox.mails
        assert [str(mail["Subject"]).split()[0] for mail in mails] == [victim.pw_name, other.pw_name]
        bodies = [mail.get_body(("plain",)).get_content() for mail in mails]  # type: ignore[union-attr]
        # The name is missing, or there.
        assert ["victim" in bodies[0], "laptop" in bodies[1]] == [False, True]
        keys = keys_of(run.pid)
        assert run.end()[0] == 0
        wait_for(lambda: not is_alive(keys), "keys does not wait for what hangs")
