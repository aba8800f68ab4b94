"""What the mail about a login advises, against the real sshd: the commands do what they are for, and by themselves nothing."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from consumer.deliver.facts import facts_of
from consumer.deliver.sentences import sentences_of
from tests import needs
from tests.ecs_events import ecs
from tests.integration.sshd import key, sshd
from tests.integration.system_user import folder, is_at_work, user
from tests.waiting import wait_for

pytestmark = needs.CHANGES_THE_MACHINE

LOGIN = {"event": {"action": "ssh_login"}, "user": {"name": "deploy"}, "ssh": {"method": "publickey"}}
ROOT = LOGIN | {"user": {"name": "root"}}
FORGED = {"event": {"action": "ssh_forged"}, "ssh": {"claimed_by_uid": 1000}}


def commands(event: dict[str, Any]) -> list[str]:
    """Return the commands of an advice."""
    return re.findall("`([^`]*)`", "\n".join(sentences_of(facts_of(ecs(event), None)).advice))


def run(command: str) -> subprocess.CompletedProcess[str]:
    """Do what somebody does who pastes a command."""
    return subprocess.run(["sh", "-c", command], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)  # noqa: S607


@pytest.mark.parametrize("event", [LOGIN, ROOT, FORGED])
def test_pasted_as_they_are(event: dict[str, Any]) -> None:
    """A command that somebody pastes in a hurry, without the account, changes nothing: it fails, or shows processes."""
    before = Path("/etc/shadow").read_bytes()
    assert commands(event)
    for command in commands(event):
        done = run(command)
        assert ("ACCOUNT" in done.stderr) == ("ACCOUNT" in command)
        assert done.returncode > 1 if "ACCOUNT" in command else done.returncode in {0, 1}
    assert Path("/etc/shadow").read_bytes() == before


def test_an_account_is_locked() -> None:
    """The account is locked, also for its key. What it runs ends, also what has no terminal."""
    lock, kill = commands(LOGIN)
    with folder() as place, user(place / "home") as account:
        key(place / "user_key")
        run(f"usermod --shell /bin/sh {account.pw_name}").check_returncode()
        with sshd(place, place / "nowhere") as ssh:
            log_in = [*ssh[:-1], f"{account.pw_name}@127.0.0.1"]
            command = [*log_in, "echo in; exec sleep 600"]
            with subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            ) as session:
                assert session.stdout is not None
                assert session.stdout.readline() == b"in\n"
                run(lock.replace("ACCOUNT", account.pw_name)).check_returncode()
                refused = subprocess.run([*log_in, "true"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
                assert refused.returncode == 255, refused.stderr
                run(kill.replace("ACCOUNT", account.pw_name)).check_returncode()
                assert session.wait() == 255
        wait_for(lambda: not is_at_work(account), "all that it runs ends")


def test_the_session_of_root_is_found() -> None:
    """Root is neither locked nor killed as a whole: the list shows which process is its session."""
    (find,) = commands(ROOT)
    with folder() as place:
        key(place / "user_key")
        with sshd(place, place / "nowhere") as ssh:
            command = [*ssh, "echo $PPID $$; exec sleep 600"]
            with subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            ) as session:
                assert session.stdout is not None
                pid, asleep = map(int, session.stdout.readline().split())
                assert re.search(rf"^{pid} sshd(?:-session)?: root@notty$", run(find).stdout, re.MULTILINE)
                os.kill(asleep, signal.SIGTERM)
                assert session.wait() != 0
