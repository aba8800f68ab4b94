"""From the key to the mail: real ssh client, sshd, rsyslogd, ``sshbell run`` and ``deliver``, and mail server."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.integration.post_office import Mail, PostOffice
from tests.integration.rsyslogd import Rsyslogd, entry_point, wait_for
from tests.integration.sshd import key, sshd

if TYPE_CHECKING:
    from pathlib import Path

SSHBELL = """
state_dir = "{folder}/state"
user = ""
catch_up = "{folder}/all.log"

[[channel]]
name = "ops"
type = "email"
server = "127.0.0.1"
port = {port}
security = "none"
from = "sshbell@example.org"
to = ["ops@example.org"]

[[route]]
events = ["ssh_login", "ssh_logout"]
channels = ["ops"]
"""


def child(folder: Path) -> Path:
    """Write what rsyslogd starts."""
    script = folder / "sshbell"
    script.write_text(entry_point([sys.executable, "-m", "consumer", "run", "--config", str(folder / "sshbell.toml")]))
    script.chmod(0o755)
    return script


def test_login_becomes_mail(tmp_path: Path) -> None:
    """Somebody logs in with a key: a mail names user, host, address, port, method and key; another tells of the end."""
    if os.geteuid() != 0:
        assert not os.environ.get("CI"), "only root can run an sshd that logs in"
        pytest.skip("only root can run an sshd that logs in")
    fingerprint = key(tmp_path / "user_key")
    with PostOffice(tmp_path) as post:
        (tmp_path / "sshbell.toml").write_text(SSHBELL.format(folder=tmp_path, port=post.port))

        def taken(count: int) -> list[Mail]:
            wait_for(lambda: len(post.mails()) >= count, f"{count} mails arrive")
            return post.mails()

        with Rsyslogd(tmp_path, child=child(tmp_path)), sshd(tmp_path, tmp_path / "log") as ssh:
            done = subprocess.run(
                [*ssh, "echo $SSH_CONNECTION"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stderr
            address, port, _, _ = done.stdout.split()
            told, left = (mail.message for mail in taken(2)[:2])
            subprocess.run([*ssh, "true"], stdin=subprocess.DEVNULL, capture_output=True, check=True)
            assert len({mail.message["Message-ID"] for mail in taken(4)}) == 4
    host = socket.gethostname().partition(".")[0]
    assert told["Subject"] == f"root logged in to {host} from the host itself (127.0.0.1)"
    assert str(left["Subject"]).startswith(f"root logged out of {host} after ")
    assert left["References"] == told["Message-ID"]
    text = told.get_body(("plain",)).get_content().replace("\r", "")  # type: ignore[union-attr]
    shown = dict(re.findall(r"^([A-Z][a-z]+): +(.*)$", text, re.MULTILINE))
    assert (shown["User"], shown["Host"], shown["From"]) == ("root", host, f"{address} port {port}")
    assert (shown["Method"], shown["Key"]) == ("publickey", f"ED25519 {fingerprint}")
    assert shown["Origin"].startswith("verified")  # by the kernel: this was sshd
