"""From a relay's lines to the mail: through which host somebody came, and who was on it, with the real processes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from consumer.intake.senders import Senders
from consumer.records import OURS
from tests.integration.lines import ours
from tests.integration.rsyslogd import Rsyslogd
from tests.integration.site import Site
from tests.unit.intake.test_senders import LOGIN
from tests.waiting import wait_for

if TYPE_CHECKING:
    from pathlib import Path


def login(host: str, sender: str, user: str, address: str, at: int) -> bytes:
    """Return the lines of a login."""
    texts = [
        f"Accepted publickey for {user} from {address} port 4711 ssh2: ED25519 SHA256:{'k' * 43}",
        f"pam_unix(sshd:session): session opened for user {user}(uid=1001) by (uid=0)",
    ]
    fields = {"host": host, "from_ip": sender, "input": "imtcp", "uid": None, "exe": None}
    return b"".join(ours(text, at + number, at + number, 100 + at, **fields) for number, text in enumerate(texts))


def shown(site: Site, *lines: bytes, **keys: Any) -> list[dict[str, str]]:
    """Return what the mails about some logins say, line by line, in order; each login is told before the next one comes."""
    site.configure(channel=site.channels(timezone="Europe/Berlin"), **keys)
    run = site.start_run("--plain")
    for number, line in enumerate(lines, 1):
        run.write(line)
        wait_for(lambda: len(site.post.inbox.mails) >= number, f"mail {number} arrives")  # noqa: B023 - used at once
    run.end()
    texts = [mail.get_body(("plain",)).get_content().replace("\r", "") for mail in site.post.inbox.mails]  # type: ignore[union-attr]
    return [dict(re.findall(r"^([A-Z][a-z ]+): +(.*)$", text, re.MULTILINE)) for text in texts]


def test_relay(site: Site) -> None:
    """Nothing is configured: whose an address is, rsyslog has said of the lines that came in."""
    site.env["TZ"] = "America/New_York"
    first, second = shown(
        site,
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
    for name, keys, through in (("without", {}, None), ("with", {"hosts": {"web1": ["10.0.0.9"]}}, "bob@web1")):
        (tmp_path / name).mkdir()
        with Site(tmp_path / name) as site:
            assert shown(site, *lines, **keys)[-1].get("Through") == through


def test_what_rsyslog_says(tmp_path: Path) -> None:
    """The real rsyslogd, with the shipped template, says it as it is read."""
    with Rsyslogd(tmp_path) as daemon:
        daemon.send("sshd[5]", 'x {"v": "1", "ts":"", "rcvd":"", "host":"evil", "from_ip":"10.6.6.6"')
        host = daemon.until("evil")[-1]["host"]
    found = Senders()
    found.note((tmp_path / "received").read_bytes(), [LOGIN])
    assert found.new == {(host, OURS)}
