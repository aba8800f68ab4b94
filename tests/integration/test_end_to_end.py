"""From the key to the mail: real ssh client, sshd, rsyslogd, ``sshbell run`` and ``deliver``, and mail server."""

from __future__ import annotations

import re
import socket
import subprocess
from typing import TYPE_CHECKING

from tests import needs
from tests.integration.rsyslogd import Rsyslogd, child
from tests.integration.sshd import key, sshd
from tests.waiting import wait_for

if TYPE_CHECKING:
    from email.message import EmailMessage
    from pathlib import Path

    from tests.integration.site import Site


def test_login_becomes_mail(site: Site, tmp_path: Path) -> None:
    """Somebody logs in with a key: a mail names user, host, address, port, method and key; another tells of the end."""
    needs.root("run an sshd that logs in")
    fingerprint = key(tmp_path / "user_key")
    site.configure(catch_up=f"{tmp_path}/all.log", channel=site.channels())

    def taken(count: int) -> list[EmailMessage]:
        wait_for(lambda: len(site.post.inbox.mails) >= count, f"{count} mails arrive")
        return site.post.inbox.mails

    with Rsyslogd(tmp_path, child=child(site)), sshd(tmp_path, tmp_path / "log") as ssh:
        done = subprocess.run(
            [*ssh, "echo $SSH_CONNECTION"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        address, port, _, _ = done.stdout.split()
        told, left = taken(2)[:2]
        subprocess.run([*ssh, "true"], stdin=subprocess.DEVNULL, capture_output=True, check=True)
        assert len({mail["Message-ID"] for mail in taken(4)}) == 4
    host = socket.gethostname().partition(".")[0]
    assert told["Subject"] == f"root logged in to {host} from the host itself (127.0.0.1)"
    assert str(left["Subject"]).startswith(f"root logged out of {host} after ")
    assert left["References"] == told["Message-ID"]
    text = told.get_body(("plain",)).get_content().replace("\r", "")  # type: ignore[union-attr]
    shown = dict(re.findall(r"^([A-Z][a-z]+): +(.*)$", text, re.MULTILINE))
    assert (shown["User"], shown["Host"], shown["From"]) == ("root", host, f"{address} port {port}")
    assert (shown["Method"], shown["Key"]) == ("publickey", f"ED25519 {fingerprint}")
    assert shown["Origin"].startswith("verified")  # by the kernel: this was sshd
