"""``sshbell pam try`` and ``sshbell pam check`` on a host that asks for codes."""

from __future__ import annotations

import json
import re
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests import needs
from tests.integration.code_host import CODE_PROMPT, CodeHost
from tests.integration.site import Site
from tests.integration.ssh_client import SshClient

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = needs.CHANGES_THE_MACHINE


@pytest.fixture
def host(open_folder: Path) -> Iterator[CodeHost]:
    """Return a host that asks for codes, without ``deliver``."""
    with Site(open_folder) as site, ExitStack() as stack:
        yield CodeHost(site, stack)


def tried(host: CodeHost, *arguments: str) -> SshClient:
    """Start ``sshbell pam try`` on a terminal."""
    command = [
        sys.executable,
        "-m",
        "consumer",
        "pam",
        "try",
        host.account.pw_name,
        "--config",
        str(host.site.config),
        *arguments,
    ]
    return SshClient(command)


def test_right(host: CodeHost) -> None:
    """The code arrives, and is right. The log has lines, but no login."""
    host.start_deliver()
    client = tried(host, "--from", "192.0.2.7")
    assert client.until(CODE_PROMPT), client.said
    (message,) = host.messages()
    assert (message["user"], message["address"], message["service"]) == (host.account.pw_name, "192.0.2.7", "sshd")
    assert message["trial"] is True
    client.type(message["code"])
    assert client.end() == 0, client.said
    assert f"right: {host.account.pw_name} would get in" in client.said
    assert re.search(r"sshbell-pam\[\d+\]: Code sent: session \d+ by phone, sshbell-try \d+, from 192\.0\.2\.7 for ", client.said)
    assert message["code"] not in client.said


def test_wrong(host: CodeHost) -> None:
    """After a wrong code it asks again, as sshd does, and Enter alone ends it."""
    host.start_deliver()
    client = tried(host)
    assert client.until(CODE_PROMPT), client.said
    (message,) = host.messages()
    client.type(f"{(int(message['code']) + 1) % 10**8:08}")
    assert client.until(CODE_PROMPT), client.said
    assert "Tries left: 2" in client.said
    client.type("")
    assert client.end() == 1
    assert "would not get in" in client.said


def test_without_a_terminal(host: CodeHost) -> None:
    """A script may pipe the code: no warning about the echo of a terminal."""
    host.start_deliver()
    asked = host.site.ask("pam", "try", host.account.pw_name, "--config", str(host.site.config), stdin="1234567\n\n", status=1)
    assert "Tries left: 2" in asked.stdout
    assert "GetPassWarning" not in asked.stderr


def test_no_channel(host: CodeHost) -> None:
    """Without ``deliver`` it says why nobody gets in; with ``safe`` it lets in, and asks for nothing."""
    client = tried(host)
    assert client.end() == 1
    assert "Code not delivered: sshbell-try" in client.said
    assert "Code refused (not sent)" in client.said
    host.configure(on_failure="safe")
    client = tried(host)
    assert client.end() == 0
    assert "Let in without a code" in client.said


def test_check(host: CodeHost) -> None:
    """It misses ``deliver``, and finds it once it takes codes."""
    asked = host.site.ask(
        "pam", "check", "--config", str(host.site.config), "--sshd-config", str(host.folder / "sshd_config"), "--connect",
        "--json", status=78,
    )  # fmt: skip
    found = {(row["name"], row["state"]): row["text"] for row in map(json.loads, asked.stdout.splitlines())}
    assert "deliver is not running" in found["deliver", "fault"]
    assert ("codes", "ok") in found
    host.start_deliver()
    asked = host.site.ask("pam", "check", "--config", str(host.site.config), "--json")
    assert "deliver.sock answers" in asked.stdout
