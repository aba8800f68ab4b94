"""From a relay's lines to the mail: through which host somebody came, and who was on it, with the real processes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

from consumer.intake.senders import Senders
from consumer.records import OURS
from tests.integration.post_office import PostOffice
from tests.integration.rsyslogd import PROJECT_DIR, Rsyslogd, wait_for
from tests.unit.intake.test_senders import LOGIN

if TYPE_CHECKING:
    from pathlib import Path

SSHBELL = """
state_dir = "{folder}/state"
user = ""
catch_up = ""
reverse_dns = false
{more}

[[channel]]
name = "ops"
type = "email"
server = "127.0.0.1"
port = {port}
security = "none"
from = "sshbell@example.org"
to = ["ops@example.org"]
timezone = "Europe/Berlin"

[[route]]
events = ["ssh_login", "ssh_logout"]
channels = ["ops"]
"""
# As rsyslog makes it of our template; the text is ASCII without quotation marks.
LINE = (
    '{{"v": "1", "ts":"2026-11-22T10:00:{at:02}.123456+00:00", "rcvd":"2026-11-22T10:00:{at:02}.{at:06}+00:00", '
    '"host":"{host}", "from_ip":"{sender}", "input":"imtcp", "tag":"sshd[{pid}]:", "prog":"sshd", "procid":"{pid}", '
    '"sev":6, "fac":10, "msg":" {text}"}}\n'
)


def login(host: str, sender: str, user: str, address: str, at: int) -> bytes:
    """Return the lines of a login."""
    texts = [
        f"Accepted publickey for {user} from {address} port 4711 ssh2: ED25519 SHA256:{'k' * 43}",
        f"pam_unix(sshd:session): session opened for user {user}(uid=1001) by (uid=0)",
    ]
    lines = [LINE.format(at=at + number, host=host, sender=sender, pid=100 + at, text=text) for number, text in enumerate(texts)]
    return "".join(lines).encode()


def shown(folder: Path, more: str, *lines: bytes) -> list[dict[str, str]]:
    """Return what the mails about some logins say, line by line, in order; each login is told before the next one comes."""
    with PostOffice(folder) as post:
        (folder / "sshbell.toml").write_text(SSHBELL.format(folder=folder, port=post.port, more=more))
        run = subprocess.Popen(
            [sys.executable, "-m", "consumer", "run", "--plain", "--config", str(folder / "sshbell.toml")],
            cwd=PROJECT_DIR, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env=os.environ | {"TZ": "America/New_York"},
        )  # fmt: skip
        assert run.stdin is not None
        with run:
            try:
                for number, line in enumerate(lines, 1):
                    run.stdin.write(line)
                    run.stdin.flush()
                    wait_for(lambda: len(post.mails()) >= number, f"mail {number} arrives")  # noqa: B023 - used at once
            finally:
                run.stdin.close()
        texts = [mail.message.get_body(("plain",)).get_content().replace("\r", "") for mail in post.mails()]  # type: ignore[union-attr]
    return [dict(re.findall(r"^([A-Z][a-z ]+): +(.*)$", text, re.MULTILINE)) for text in texts]


def test_relay(tmp_path: Path) -> None:
    """Nothing is configured: whose an address is, rsyslog has said of the lines that came in."""
    first, second = shown(
        tmp_path,
        "",
        login("bastion1", "10.0.0.5", "alice", "198.51.100.7", 1),
        login("db3", "10.0.0.6", "root", "10.0.0.5", 5),
    )
    assert "Through" not in first
    assert (second["User"], second["Host"], second["Through"]) == ("root", "db3", "alice@bastion1")
    assert second["Time"] == "2026-11-22 11:00:05 CET (10:00:05 UTC)"


def test_one_relay_for_many(tmp_path: Path) -> None:
    """Where the lines of two hosts come from one address, it is neither's; a table in the configuration says whose it is."""
    lines = [
        login("bastion1", "10.0.0.9", "alice", "198.51.100.7", 1),
        login("web1", "10.0.0.9", "bob", "198.51.100.8", 4),
        login("db3", "10.0.0.6", "root", "10.0.0.9", 8),
    ]
    for name, more, through in (("without", "", None), ("with", 'hosts = { web1 = ["10.0.0.9"] }', "bob@web1")):
        (tmp_path / name).mkdir()
        assert shown(tmp_path / name, more, *lines)[-1].get("Through") == through


def test_what_rsyslog_says(tmp_path: Path) -> None:
    """The real rsyslogd, with the shipped template, says it as it is read."""
    with Rsyslogd(tmp_path) as daemon:
        daemon.send("sshd[5]", 'x {"v": "1", "ts":"", "rcvd":"", "host":"evil", "from_ip":"10.6.6.6"')
        host = daemon.until("evil")[-1]["host"]
    found = Senders()
    found.note((tmp_path / "received").read_bytes(), [LOGIN])
    assert found.new == {(host, OURS)}
