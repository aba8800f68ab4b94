"""What PAM says about a login, where a stranger chooses the name."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from pathlib import Path

import pytest

from consumer.codes.pam_login import NoLoginError, pam_login
from tests.waiting import wait_for

ENVIRONMENT = {"PAM_TYPE": "auth", "PAM_USER": "alice", "PAM_RHOST": "192.0.2.7", "PAM_SERVICE": "sshd"}
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti"


def test_a_login() -> None:
    """Each field comes from its variable; the process is the one that asks, with its start."""
    found = pam_login(ENVIRONMENT, os.getpid())
    assert (found.user, found.service, found.address, found.pid) == ("alice", "sshd", "192.0.2.7", os.getpid())
    assert found.started == pam_login(ENVIRONMENT, os.getpid()).started > 0
    # This process is not sshd.
    assert (found.asker.service, found.asker.pid) == ("sshd", os.getpid())
    assert (found.method, found.key) == ("", "")


@pytest.mark.parametrize(
    ("raw", "address"),
    [
        ("", ""), ("::ffff:192.0.2.7", "192.0.2.7"), ("2001:DB8::1", "2001:db8::1"), ("fe80::1%eth0", "fe80::1"),
        ("host.example.org", "host.example.org"), ("UNKNOWN", "UNKNOWN"), ("\udcff'--", "\\xff'--"),
    ],
)  # fmt: skip
def test_addresses(raw: str, address: str) -> None:
    """Without an address, as on a console, nothing breaks; one address has one form."""
    assert pam_login(ENVIRONMENT | {"PAM_RHOST": raw}, os.getpid()).address == address


@pytest.mark.parametrize("name", ["; rm -rf /", "a\nb", "\x1b[2J", "\udcff\udcfe", "x" * 255, "' OR 1=1 --", "--config"])
def test_hostile_names(name: str) -> None:
    """Any name is a name; what is no UTF-8 stays distinct."""
    found = pam_login(ENVIRONMENT | {"PAM_USER": name}, os.getpid())
    assert found.user.encode()
    assert found.asker.user == name


def test_other_names_of_an_account(monkeypatch: pytest.MonkeyPatch) -> None:
    """An account that NSS knows by several names is one user, so that each name does not get guesses of its own."""

    def getpwnam(name: str) -> pwd.struct_passwd:
        if name.partition("@")[0].lower() != "alice":
            raise KeyError(name)
        return pwd.struct_passwd(("alice", "x", 1001, 1001, "", "/", "/bin/sh"))

    monkeypatch.setattr(pwd, "getpwnam", getpwnam)
    for name, user in (("ALICE", "alice"), ("alice@example.org", "alice"), ("BOB", "BOB")):
        found = pam_login(ENVIRONMENT | {"PAM_USER": name}, os.getpid())
        assert (found.user, found.asker.user) == (user, name)


def test_su_under_the_name_of_sshd(tmp_path: Path) -> None:
    """A local user runs su through a link named sshd, with the title of sshd's process for PAM: its line is not one of sshd."""
    (tmp_path / "sshd").symlink_to(shutil.which("sleep") or "")
    with subprocess.Popen(["sshd: alice [pam]", "60"], executable=tmp_path / "sshd") as su:  # noqa: S607 - a title
        wait_for(lambda: Path(f"/proc/{su.pid}/comm").read_bytes() == b"sshd\n", "su runs")
        found = pam_login(ENVIRONMENT | {"PAM_SERVICE": "su"}, su.pid)
        su.kill()
    assert (found.asker.service, found.asker.pid) == ("su", su.pid)


@pytest.mark.parametrize("kind", ["setuid", "of a user"])
def test_a_hard_link_with_the_name_of_sshd(tmp_path: Path, kind: str) -> None:
    """Where the kernel lets users make hard links to any file: one to su, or a program of the user's own, is not sshd."""
    link = tmp_path / "sshd"
    shutil.copy(shutil.which("sleep") or "", link)
    if kind == "of a user":
        os.chown(link, 65534, 65534)
    link.chmod(0o4755 if kind == "setuid" else 0o755)
    with subprocess.Popen(["sshd: alice [pam]", "60"], executable=link) as su:  # noqa: S607 - a title
        wait_for(lambda: Path(f"/proc/{su.pid}/comm").read_bytes() == b"sshd\n", "su runs")
        found = pam_login(ENVIRONMENT | {"PAM_SERVICE": "su"}, su.pid)
        su.kill()
    assert (found.asker.service, found.asker.pid) == ("su", su.pid)


@pytest.mark.parametrize(
    "change",
    [
        {"PAM_TYPE": "account"}, {"PAM_TYPE": "open_session"}, {"PAM_TYPE": ""}, {"PAM_USER": ""}, {"PAM_USER": "x" * 256},
        {"PAM_RHOST": "x" * 256}, {"PAM_SERVICE": "x" * 256},
    ],
)  # fmt: skip
def test_what_is_no_login(change: dict[str, str]) -> None:
    """Outside of an auth line nothing happens, and a text has a bound."""
    with pytest.raises(NoLoginError):
        pam_login(ENVIRONMENT | change, os.getpid())


def test_a_process_that_has_ended() -> None:
    """Without the process that asks, nobody can be let in: its number may soon be that of another one."""
    for pid in (0, 1, 2**22 + 1):
        with pytest.raises(NoLoginError):
            pam_login(ENVIRONMENT, pid)


@pytest.mark.parametrize(
    ("info", "method", "key"),
    [
        (f"publickey {KEY}\n", "publickey", "SHA256:UCUiLr7Pjs9wFFJMDByLgc3NrtdU344OgUM45wZPcIQ"),
        ("password\n", "password", ""),
        (f"password\npublickey {KEY}", "password, publickey", "SHA256:UCUiLr7Pjs9wFFJMDByLgc3NrtdU344OgUM45wZPcIQ"),
        ("publickey ssh-ed25519-cert-v01@openssh.com AAAA", "publickey", ""),
        ("publickey ssh-rsa A", "publickey", ""),
        ("publickey", "publickey", ""),
        ("\n \n", "", ""),
    ],
)
def test_what_sshd_has_checked(info: str, method: str, key: str) -> None:
    """The factors before the code, and the key, come from sshd; a certificate has another fingerprint."""
    found = pam_login(ENVIRONMENT | {"SSH_AUTH_INFO_0": info}, os.getpid())
    assert (found.method, found.key) == (method, key)
