"""``sshbell canary`` through the real sshd, rsyslogd and ``sshbell run``; and what it says when a part of the way is broken."""

from __future__ import annotations

import re
import secrets
import subprocess
from typing import TYPE_CHECKING

import pytest

from consumer.process.lock import Lock
from consumer.run.announcement import announce, announced
from consumer.story.canaries import CANARY_PREFIX
from tests import needs
from tests.integration.rsyslogd import Rsyslogd, child
from tests.integration.sshd import free_port, key, sshd
from tests.waiting import wait_for

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.site import Site

UNAVAILABLE, LATER = 69, 75
LIMIT = ("--timeout", "120")


@pytest.mark.long
def test_the_whole_way(site: Site, tmp_path: Path) -> None:
    """The login arrives and is marked; no message tells of it. A stranger's name of that form is a failed login like others."""
    needs.root("run an sshd that logs in")
    key(tmp_path / "user_key")
    # To a server that does not answer, so that the messages stay in the outbox.
    channels = site.channels(port=free_port())
    site.configure(channel=channels, route=[{"events": ["ssh_login", "ssh_attempt"], "channels": ["ops"]}])
    with Rsyslogd(tmp_path, child=child(site)), sshd(tmp_path, tmp_path / "log") as ssh:
        port = ssh[ssh.index("-p") + 1]
        wait_for((site.state_dir / "run.lock").exists, "run has begun")
        done = site.ask("canary", "--port", port, *LIMIT)
        assert re.fullmatch(r"the canary's attempt reached the store after [0-9.]+ s\n", done.stdout)
        ((action, user, address, _id),) = [each for each in site.events() if each[1]]
        assert (action, address) == ("ssh_canary", "127.0.0.1")
        assert user is not None
        # The same token again, and a made-up one, as a local user could try.
        for name in (user, CANARY_PREFIX + secrets.token_hex(16)):
            stranger = [*ssh[:-1], "-o", "PreferredAuthentications=none", f"{name}@127.0.0.1"]
            subprocess.run(stranger, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        wait_for(lambda: [each[0] for each in site.events()].count("ssh_attempt") == 2, "two failed logins arrive")
        site.ask("canary", "--port", port, *LIMIT)
    assert [each[0] for each in site.events()].count("ssh_canary") == 2
    assert site.query("SELECT action FROM outbox") == [("ssh_attempt",)] * 2
    shown = site.ask("history", "--events").stdout
    assert shown.count("  canary") == 2


def test_broken_ways(site: Site) -> None:
    """Each part that does not answer is named, with an exit code for cron; and nothing is left behind."""
    assert "sshbell run is not running" in site.ask("canary", status=UNAVAILABLE).stderr
    run = site.start_run()
    port = str(free_port())
    said = site.ask("canary", "--port", port, *LIMIT, status=UNAVAILABLE).stderr
    assert f"sshd on 127.0.0.1 port {port} did not get as far as refusing the canary: ssh: connect" in said
    lock = Lock(site.state_dir / "canary.lock")
    assert lock.take()
    assert "another canary is on its way" in site.ask("canary", "--port", port, status=LATER).stderr
    lock.close()
    run.end()
    assert not (site.state_dir / "canary").exists()


def test_lines_that_do_not_arrive(site: Site, tmp_path: Path) -> None:
    """An sshd whose log goes elsewhere is noticed within the time limit."""
    needs.root("run an sshd that logs in")
    key(tmp_path / "user_key")
    site.start_run()
    with Rsyslogd(tmp_path), sshd(tmp_path, tmp_path / "log") as ssh:
        port = ssh[ssh.index("-p") + 1]
        said = site.ask("canary", "--port", port, "--timeout", "8", status=UNAVAILABLE).stderr
    assert "did not reach the store" in said


def test_announcement(tmp_path: Path) -> None:
    """It is a short regular file; whatever else is in its place is none, and makes nobody wait."""
    assert announced(tmp_path) == ""
    path = announce(tmp_path, "0" * 32)
    assert announced(tmp_path) == "0" * 32
    path.write_bytes(b"\xff" * 999)
    assert announced(tmp_path) == ""
    path.unlink()
    path.symlink_to("/etc/passwd")
    assert announced(tmp_path) == ""
    path.unlink()
    path.mkdir()
    assert announced(tmp_path) == ""
