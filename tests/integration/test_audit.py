"""``sshbell audit`` with the real ``sshd -T``: its defaults, its ``Match`` blocks, and who really logs in."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from consumer.config import Config
from consumer.config_file import load
from consumer.keys.sshd_config import SshdConfig
from consumer.system.audit import AuditPlaces, audit_rows
from tests import needs
from tests.store_events import DAY_US, line, session_lines

if TYPE_CHECKING:
    from consumer.system.audit_row import AuditRow
    from tests.integration.site import Site

NOW_US = time.time_ns() // 1_000_000_000 * 1_000_000
HERE = socket.gethostname()
HARDENED = """
PermitRootLogin no
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM yes
MaxAuthTries 4
AllowUsers alice
AllowTcpForwarding no
AllowAgentForwarding no
X11Forwarding no
PermitUserRC no
RequiredRSASize 2048
MACs hmac-sha2-256-etm@openssh.com,hmac-sha2-512-etm@openssh.com
"""


class Audited:
    """A store with the logins of a month, and a configuration of sshd."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self.sshd_config = site.folder / "sshd_config"
        self.pam = site.folder / "pam.d"
        self.pam.mkdir()
        (self.pam / "sshd").write_text("auth required pam_unix.so\n")

    def rows(self, text: str) -> list[AuditRow]:
        """Write the configuration, and return the rows."""
        self.sshd_config.write_text(text)
        config = load(str(self._site.config))
        return list(audit_rows(config, NOW_US, AuditPlaces(str(self.sshd_config), self.pam)))

    def row(self, text: str, name: str) -> AuditRow:
        """Return the only row of a name."""
        (row,) = [row for row in self.rows(text) if row.name == name]
        return row


def logins() -> list[bytes]:
    """Return the lines of a month: some logins, tries before one of them, and those of long ago and of another host."""
    begin_us = NOW_US - 10 * DAY_US
    return [
        *session_lines(1, "old", at_us=NOW_US - 40 * DAY_US, method="password", info="", host=HERE),
        *(one for number in range(3) for one in session_lines(
            10 + number, "root", at_us=begin_us + number * 60_000_000, method="password", info="", host=HERE, lasts_s=9)),
        *session_lines(20, "root", at_us=begin_us + DAY_US, host=HERE),
        *(line(begin_us + 2 * DAY_US + number * 1_000_000, 30,
               "Failed password for alice from 192.0.2.7 port 30 ssh2", host=HERE) for number in range(5)),
        *session_lines(30, "alice", at_us=begin_us + 2 * DAY_US + 9_000_000, method="password", info="", host=HERE),
        *session_lines(40, "backup", at_us=begin_us + 3 * DAY_US, address="10.1.2.3", method="password", info="", host=HERE),
        *session_lines(50, "elsewhere", at_us=begin_us + 4 * DAY_US, method="password", info="", host="another"),
    ]  # fmt: skip


@pytest.fixture
def audited(site: Site) -> Audited:
    """Return a filled store beside a configuration of sshd, which root alone can ask."""
    needs.root("ask sshd")
    needs.program("sshd", "openssh-server")
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    site.fill(*logins())
    return Audited(site)


def test_who_would_be_locked_out(audited: Audited) -> None:
    """Of each line it is known which of this host's logins of the last 30 days it would have prevented."""
    text = "UsePAM yes\nPermitRootLogin yes\nKbdInteractiveAuthentication no\nAllowTcpForwarding yes\n"
    row = audited.row(text, "root login")
    assert (row.state, row.logins, row.accounts) == ("fault", 3, ["root"])
    assert [(mend.line, mend.place) for mend in row.mend] == [
        ("PermitRootLogin prohibit-password", f"in place of {audited.sshd_config}:2")
    ]
    row = audited.row(text, "passwords")
    assert (row.logins, row.accounts) == (5, ["root", "alice", "backup"])
    assert row.text == "PasswordAuthentication yes; in use by root (3), alice (1) and backup (1)"
    assert row.mend[0].place == f"in {audited.sshd_config}, above the first Match"
    row = audited.row(text, "MaxAuthTries")
    assert (row.logins, row.accounts) == (1, ["alice"])
    assert audited.row(text, "TCP forwarding").logins is None


def test_hardened(audited: Audited) -> None:
    """A configuration that follows all of the advice has no other row than those about keys."""
    assert [row for row in audited.rows(HARDENED) if row.state != "ok" and "keys" not in row.name] == []


def test_every_line_is_one_that_sshd_takes(audited: Audited) -> None:
    """The lines for a bad configuration, put where they belong, mend it: sshd accepts them, and no row wants another."""
    bad = (
        "PermitRootLogin yes\nPermitEmptyPasswords yes\nMaxAuthTries 20\nLoginGraceTime 0\nMaxStartups 500:10:900\n"
        "X11Forwarding yes\n"
        "GatewayPorts yes\nPermitTunnel yes\nLogLevel QUIET\nPermitUserEnvironment yes\nStrictModes no\nUsePAM no\n"
        "Ciphers aes128-cbc,aes256-ctr\nMACs hmac-md5,hmac-sha2-256\nKexAlgorithms diffie-hellman-group1-sha1,curve25519-sha256\n"
        "HostKeyAlgorithms ssh-rsa,ssh-ed25519\nPubkeyAcceptedAlgorithms ssh-rsa,ssh-ed25519\n"
    )
    found = [row for row in audited.rows(bad) if row.state != "ok" and "keys" not in row.name.split()[-1:]]
    names = {row.name for row in found}
    assert {"root login", "empty passwords", "ciphers", "MACs", "key exchange", "signatures", "StrictModes", "LogLevel"} <= names
    text = bad
    for row in found:
        for mend in row.mend:
            keyword = mend.line.partition(" ")[0]
            kept = [one for one in text.splitlines() if one.partition(" ")[0] != keyword]
            # root's password would be allowed first; the stricter line of the next round replaces it.
            text = "\n".join([mend.line, *kept]) + "\n"
    audited.sshd_config.write_text(text)
    assert SshdConfig(str(audited.sshd_config)).can_ask()
    again = {row.name: row for row in audited.rows(text) if row.state != "ok" and "keys" not in row.name}
    assert again.keys() <= {"root login", "AllowUsers"}


def test_match(audited: Audited) -> None:
    """A block that is worse than the rest has a row of its own, which counts its own logins only."""
    text = (
        HARDENED
        + "Match Address 10.0.0.0/8\n PasswordAuthentication yes\nMatch User root\n PermitRootLogin yes\n X11Forwarding yes\n"
    )
    rows = {row.name: row for row in audited.rows(text) if row.state != "ok" and "keys" not in row.name}
    assert rows.keys() == {"passwords", "root login", "X11 forwarding"}
    row = rows["passwords"]
    assert row.text == "PasswordAuthentication yes; in use by backup (1) (Match address 10.0.0.0/8)"
    assert (row.logins, row.accounts) == (1, ["backup"])
    assert row.mend[0].place == f"in place of {audited.sshd_config}:15"
    assert (rows["root login"].state, rows["root login"].logins) == ("warning", 4)


def test_match_without_a_visit(audited: Audited) -> None:
    """A block that applies to nobody that sshbell can think of is named, with the command that asks sshd."""
    row = audited.row(HARDENED + "Match LocalPort 2222\n X11Forwarding yes\n", "Match")
    assert row.text == "Match localport 2222: sshbell knows no user and address to which it applies"
    assert row.mend[0].line.startswith("sshd -T ")


def test_second_factor(audited: Audited) -> None:
    """A module that asks for a code is no use where a key alone is enough."""
    (audited.pam / "sshd").write_text("auth required pam_unix.so\nauth required pam_oath.so\n")
    text = "UsePAM yes\nPasswordAuthentication no\nKbdInteractiveAuthentication yes\n"
    row = audited.row(text, "second factor")
    assert (row.state, row.logins, row.accounts) == ("warning", 1, ["root"])
    assert audited.row(text + row.mend[0].line + "\n", "second factor").state == "ok"


def test_hostile_names(site: Site, audited: Audited) -> None:
    """Names of accounts are a stranger's text: none of them reaches a terminal, or a line to copy, as it is."""
    name = "x\\033[2J,-o"
    site.fill(*session_lines(70, name, at_us=NOW_US - DAY_US, method="password", info="", host=HERE))
    rows = audited.rows("UsePAM yes\n")
    assert any("x\x1b[2J,-o" in row.accounts for row in rows)
    assert not any("x\x1b" in mend.line for row in rows for mend in row.mend)
    site.configure(geoip=[])
    shown = site.ask("audit", status=78 if any(row.state == "fault" for row in audited.rows("")) else 0)
    assert "\x1b" not in shown.stdout


def test_command(site: Site) -> None:
    """It prints a row for each piece of advice, as a table and as JSON; without a store it says that it counts nothing."""
    needs.program("sshd", "openssh-server")
    done = [site.ask("audit", *options, status=78 if is_faulty(site) else 0) for options in ((), ("--json",))]
    rows = [json.loads(text) for text in done[1].stdout.splitlines()]
    assert rows[0]["name"] == "logins"
    assert {row["name"] for row in rows} >= {"root login", "passwords", "PermitUserRC"}
    assert all(row["logins"] is None for row in rows if row["name"] == "root login")
    assert "would have prevented" not in done[0].stdout
    assert [text.split()[0] for text in done[0].stdout.splitlines() if not text.startswith(" ")] == [row["state"] for row in rows]


def is_faulty(site: Site) -> bool:
    """Return whether this machine's own sshd has a fault."""
    return any(row.state == "fault" for row in audit_rows(load(str(site.config)), NOW_US, AuditPlaces()))


def test_without_root(nobody: Path) -> None:
    """A user without rights gets the rows that the files alone can tell, and the names of what is missing."""
    needs.program("sshd", "openssh-server")
    path = nobody / "sshd_config"
    path.write_text("PermitRootLogin yes\n")
    places = AuditPlaces(str(path), nobody / "pam.d")
    rows = {row.name: row for row in audit_rows(Config(state_dir=str(nobody / "state")), NOW_US, places)}
    assert rows["root login"].state == "fault"
    assert rows["sshd"].text == "sshd -T gave no answer; sshbell read the files, and knows no default algorithms"
    assert rows["keys"].text == "only root can read the authorized_keys of all accounts"
    assert "ciphers" not in rows
    path.chmod(0)
    names = [row.name for row in audit_rows(Config(state_dir=str(nobody / "state")), NOW_US, places)]
    assert names == ["logins", "sshd", "keys"]
