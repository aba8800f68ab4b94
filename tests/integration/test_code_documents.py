"""The lines of docs/codes.md for Debian, on a second sshd as the page describes it: with a real client, key and password."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from consumer.system.code_stack import stack
from tests import needs
from tests.documents import PROJECT_DIR, blocks
from tests.integration.code_host import CodeHost, sshbell
from tests.integration.site import Site
from tests.integration.sshd import OWN_DEV, free_port, key, listening

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = needs.CHANGES_THE_MACHINE

PAGE = PROJECT_DIR / "docs/codes.md"
DEBIAN, RHEL, ALPINE = (block.text for block in blocks(PAGE, "pam"))
MAIN, SECOND = (block.text for block in blocks(PAGE, "sshconfig"))
# What an authselect host and Alpine have in the stacks that the lines name.
AUTHSELECT = """
auth required pam_env.so
auth required pam_faildelay.so delay=2000000
auth [default=1 ignore=ignore success=ok] pam_usertype.so isregular
auth [default=1 ignore=ignore success=ok] pam_localuser.so
auth sufficient pam_unix.so nullok
auth [default=1 ignore=ignore success=ok] pam_usertype.so isregular
auth sufficient pam_sss.so forward_pass
auth required pam_deny.so
"""
BASE_AUTH = "auth required pam_env.so\nauth required pam_nologin.so successok\nauth required pam_unix.so nullok_secure\n"


class SecondSshd(CodeHost):
    """A host whose second sshd follows the page. The program's name is that of its PAM service."""

    def _start_sshd(self) -> None:
        folder = self.folder
        self.service = f"sshd-codes-{os.getpid()}"
        self.program, self.config = folder / self.service, folder / "sshd_config_codes"
        shutil.copy(needs.program("sshd", "openssh-server"), self.program)
        for name in ("host_key", "user_key"):
            key(folder / name)
        (folder / "keys").mkdir()
        (folder / "keys/authorized_keys").write_text((folder / "user_key.pub").read_text())
        (folder / "dev").mkdir()
        self.port = free_port()
        self.config.write_text(self._of_the_page())
        service = Path("/etc/pam.d", self.service)
        self._stack.callback(service.unlink)
        lines = Path("/etc/pam.d/sshd").read_text()
        assert "\n@include common-auth\n" in lines
        own = DEBIAN.replace("/opt/sshbell/bin/sshbell", str(sshbell()))
        for half in ("challenge", "verify"):
            own = own.replace(f"pam {half}", f"pam {half} --config {self.site.config}")
        service.write_text(lines.replace("\n@include common-auth\n", f"\n{own}"))
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        command = [str(self.program), "-D", "-f", str(self.config)]
        self._stack.enter_context(listening(OWN_DEV, [str(folder / "dev"), str(folder / "log")], command, folder, self.port))

    def _of_the_page(self) -> str:
        """Return the configuration of the page, with the port and the files of the test."""
        text = SECOND
        for was, now in (("Port 2222", f"Port {self.port}"), ("/run/sshd-codes.pid", f"{self.folder}/pid")):
            assert was in text
            text = text.replace(was, now)
        files = f"HostKey {self.folder}/host_key\nAuthorizedKeysFile {self.folder}/keys/authorized_keys\nStrictModes no\n"
        return f"ListenAddress 127.0.0.1\n{files}PasswordAuthentication yes\n{text}"


@pytest.fixture
def host(open_folder: Path) -> Iterator[SecondSshd]:
    """Run the second sshd, and ``deliver``."""
    with Site(open_folder) as site, ExitStack() as ends:
        made = SecondSshd(site, ends)
        made.start_deliver()
        yield made


@pytest.mark.parametrize("method", ["publickey", "password"])
def test_debian(host: SecondSshd, method: str) -> None:
    """After the key or the password, the right code lets in, and a wrong one does not."""
    client = host.asked(method=method)
    assert client.said.count("Session ") == 1
    assert host.lets_in(client, host.code(client)), (client.said, host.lines)
    client = host.asked(method=method)
    assert not host.lets_in(client, f"{(int(host.code(client)) + 1) % 10**8:08}")


def test_debian_without_a_code(host: SecondSshd) -> None:
    """A rule that never asks lets in with the first factor, and no prompt appears."""
    host.configure(rule=[{"ask": "never"}])
    client = host.client()
    assert client.until("(?m)^in$"), client.said
    client.end()
    assert "Password" not in client.said


def test_check(host: SecondSshd) -> None:
    """``sshbell pam check`` finds nothing wrong, as step 4 of the page."""
    asked = host.site.ask(
        "pam", "check", "--config", str(host.site.config), "--service", host.service, "--sshd-config", str(host.config), "--json",
    )  # fmt: skip
    found = {row["name"]: row["state"] for row in map(json.loads, asked.stdout.splitlines())}
    assert (found["PAM"], found["sshd"], found["deliver"]) == ("ok", "ok", "ok"), asked.stdout


def test_both_sshds_of_the_page() -> None:
    """The second sshd tries what the first one gets."""
    assert all(line in SECOND.splitlines() for line in MAIN.splitlines())


@pytest.mark.parametrize(
    ("lines", "name", "included"),
    [(RHEL, "password-auth", AUTHSELECT), (ALPINE, "base-auth", BASE_AUTH)],
    ids=["RHEL", "Alpine"],
)
def test_other_systems(tmp_path: Path, lines: str, name: str, included: str) -> None:
    """The check finds nothing wrong with the lines for systems that the tests do not have, but for the program."""
    (tmp_path / name).write_text(included)
    (tmp_path / "sshd").write_text(lines.replace("/opt/sshbell/bin/sshbell", "/bin/true"))
    assert [outcome.state for outcome in stack("sshd", tmp_path)] == ["ok"]
