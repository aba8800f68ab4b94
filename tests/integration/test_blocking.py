"""Blocking from end to end: the real sshd refuses the right password and the right key, and lets in again at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests import needs
from tests.documents import PROJECT_DIR, blocks
from tests.integration import system_user
from tests.integration.guard import GuardProcess
from tests.integration.network import CLIENT, SERVER, Network, network
from tests.integration.rsyslogd import Rsyslogd, entry_point
from tests.integration.sshd import free_port, key
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integration.host import Host

pytestmark = needs.CHANGES_THE_MACHINE

# sshd gets its own PAM service and its own hosts.deny.
OWN_FILES = """
set -e
if [ -n "$3" ]; then
    mount -t tmpfs -o mode=755 none "$3"
    for each in null zero full random urandom tty; do
        touch "$3/$each"
        mount --bind "/dev/$each" "$3/$each"
    done
    ln -s /proc/self/fd "$3/fd"
    ln -s "$4" "$3/log"
    mount --rbind "$3" /dev
fi
mount --bind "$1" /etc/pam.d/sshd
mount --bind "$2" /etc/hosts.deny
shift 4
exec "$@"
"""
SSHD = """
ListenAddress {server}
Port {port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/keys/authorized_keys
PidFile none
StrictModes no
UsePAM yes
PasswordAuthentication yes
KbdInteractiveAuthentication no
UseDNS no
"""


class Login:
    """The client of a user, with the right password and the right key, against a sshd that asks pam_access."""

    def __init__(self, host: Host, net: Network, user: str, port: int) -> None:
        self._host, self._net, self._user, self._port = host, net, user, port

    def lets_in(self, method: str, program: str = "right") -> bool:
        """Log in by ``password`` or ``publickey``; ``program`` prints the password."""
        folder = self._host.folder
        options = [
            "IdentitiesOnly=yes", "StrictHostKeyChecking=no", f"UserKnownHostsFile={folder}/known_hosts", "ConnectTimeout=60",
            "NumberOfPasswordPrompts=1", f"PreferredAuthentications={method}", f"IdentityFile={folder}/user_key",
        ]  # fmt: skip
        command = [
            *self._net.client, needs.program("ssh", "openssh-client"), "-F", "none", "-p", str(self._port),
            *(part for option in options for part in ("-o", option)), f"{self._user}@{SERVER}", "echo in",
        ]  # fmt: skip
        env = os.environ | {"SSH_ASKPASS": f"{folder}/{program}", "SSH_ASKPASS_REQUIRE": "force", "DISPLAY": "none"}
        done = subprocess.run(command, env=env, capture_output=True, check=False, text=True, stdin=subprocess.DEVNULL)
        assert done.returncode in (0, 255), done.stderr
        return done.stdout == "in\n"

    def both(self) -> list[bool]:
        """Log in by password, and by key."""
        return [self.lets_in(method) for method in ("password", "publickey")]


def pam_lines() -> str:
    """Return the lines for Debian that docs/blocking.md shows."""
    page = PROJECT_DIR / "docs" / "blocking.md"
    (found,) = [block.text for block in blocks(page) if block.language == "pam" and "common-auth" in block.text]
    return found


@contextmanager
def serving(host: Host, net: Network, access: Path, deny: str = "", log: Path | None = None) -> Iterator[Login]:
    """Run sshd in the server's namespace, with the PAM lines of the docs; yield a user's client. sshd logs to a socket."""
    folder = host.folder
    account = host.stack.enter_context(system_user.user(folder / "home"))
    subprocess.run(["usermod", "--shell", "/bin/sh", account.pw_name], check=True)  # noqa: S607
    subprocess.run(["chpasswd"], input=f"{account.pw_name}:the right one\n", text=True, check=True)  # noqa: S607
    for name, text in (("right", "the right one"), ("wrong", "a wrong one")):
        (folder / name).write_text(f"#!/bin/sh\necho {text}\n")
        (folder / name).chmod(0o755)
    for name in ("host_key", "user_key"):
        key(folder / name)
    (folder / "keys").mkdir()
    (folder / "keys/authorized_keys").write_text((folder / "user_key.pub").read_text())
    port = free_port()
    (folder / "sshd_config").write_text(SSHD.format(server=SERVER, port=port, folder=folder))
    pam = pam_lines() + "session required pam_permit.so\n"
    (folder / "pam").write_text(pam.replace("/var/lib/sshbell-block/access.conf", str(access)))
    (folder / "deny").write_text(deny)
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    inside = [*net.server, "unshare", "--mount", "--propagation", "private", "sh", "-c", OWN_FILES, "sh"]
    (folder / "dev").mkdir()
    own = [f"{folder}/pam", f"{folder}/deny", *([f"{folder}/dev", str(log)] if log is not None else ["", ""])]
    command = [*inside, *own, needs.program("sshd", "openssh-server"), "-D", "-f", f"{folder}/sshd_config"]
    with (folder / "sshd_said").open("wb") as said:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
    try:
        probe = [*net.server, "python3", "-c", f"import socket; socket.create_connection(({SERVER!r}, {port}), 5)"]
        wait_for(lambda: subprocess.run(probe, capture_output=True, check=False).returncode == 0, "sshd listens")
        yield Login(host, net, account.pw_name, port)
    finally:
        process.terminate()
        process.wait()


@pytest.fixture
def net() -> Iterator[Network]:
    """Return a server and a client."""
    with network() as found:
        yield found


def test_pam_access(host: Host, net: Network) -> None:
    """An entry refuses the right password and the right key; removed, or ended, it lets in at once; a user has exceptions."""
    host.state_dir.mkdir(mode=0o700)
    guard = GuardProcess(host, prefix=net.server)
    with serving(host, net, guard.access) as login:
        assert login.both() == [True, True]
        host.ask("block", "add", CLIENT, "--for", "1h")
        assert login.both() == [False, False]
        host.ask("block", "check", CLIENT, status=1)
        host.ask("block", "remove", CLIENT)
        assert login.both() == [True, True]
        # The end of a block.
        host.ask("block", "add", CLIENT, "--for", "1s")
        wait_for(lambda: guard.denied() == [], "the block ends")
        assert login.both() == [True, True]
        # A user, from elsewhere and from an address that is known.
        user = f"user:{login._user}"
        host.ask("block", "add", user, "--except", "203.0.113.1")
        assert login.both() == [False, False]
        host.ask("block", "remove", user)
        host.ask("block", "add", user, "--except", CLIENT)
        assert login.both() == [True, True]
        # A network, and the panic file.
        host.ask("block", "add", f"{CLIENT}/32", "192.0.2.0/24")
        assert login.both() == [False, False]
        (host.folder / "no-blocking").touch()
        wait_for(lambda: guard.denied() == [], "the panic file is seen")
        assert login.both() == [True, True]


def test_tcp_wrappers(host: Host, net: Network) -> None:
    """Debian's sshd closes the connection of a blocked address before it says anything, with the line of the docs."""
    linked = subprocess.run(["ldd", needs.program("sshd", "openssh-server")], capture_output=True, text=True, check=True).stdout  # noqa: S607
    host.state_dir.mkdir(mode=0o700)
    guard = GuardProcess(host, prefix=net.server, hosts_deny=True)
    page = (PROJECT_DIR / "docs" / "blocking.md").read_text()
    (line,) = [line for line in page.splitlines() if line.startswith("sshd: /var/lib/sshbell-block/hosts.deny")]
    deny = line.replace("/var/lib/sshbell-block", str(guard.access.parent)) + "\n"
    with serving(host, net, guard.access, deny) as login:
        assert login.both() == [True, True]
        host.ask("block", "add", CLIENT)
        # pam_access would refuse, too: look at what the client gets.
        read = f"import socket; print(socket.create_connection(({SERVER!r}, {login._port}), 60).recv(100))"
        greeting = subprocess.run([*net.client, "python3", "-c", read], capture_output=True, text=True, check=False).stdout
        assert ("SSH-2.0" in greeting) is ("libwrap" not in linked), greeting
        host.ask("block", "remove", CLIENT)
        assert login.both() == [True, True]


def test_nftables(host: Host, net: Network) -> None:
    """The kernel drops new connections of a blocked address, keeps those that exist, and lets in again."""
    needs.program("nft", "nftables")
    host.state_dir.mkdir(mode=0o700)
    port = free_port()
    guard = GuardProcess(host, prefix=net.server, nftables=[port])
    listen = f"import socket; s = socket.create_server(({SERVER!r}, {port})); kept = [s.accept() for _ in iter(int, 1)]"
    listener = subprocess.Popen([*net.server, "python3", "-c", listen])
    host.stack.callback(listener.wait)
    host.stack.callback(listener.kill)

    def connects(limit_s: float) -> bool:
        code = f"import socket; socket.create_connection(({SERVER!r}, {port}), {limit_s})"
        return subprocess.run([*net.client, "python3", "-c", code], capture_output=True, check=False).returncode == 0

    wait_for(lambda: connects(60), "the listener listens")
    talk = (
        f"import socket; s = socket.create_connection(({SERVER!r}, {port})); print('in', flush=True);"
        "input(); s.sendall(b'x'); print('sent', flush=True)"
    )
    session = subprocess.Popen(
        [*net.client, "python3", "-c", talk],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    host.stack.callback(session.wait)
    host.stack.callback(session.kill)
    assert session.stdout is not None
    assert session.stdout.readline() == "in\n"
    host.ask("block", "add", CLIENT)

    def is_in_the_kernel() -> bool:
        listing = subprocess.run([*net.server, "nft", "-j", "list", "ruleset"], capture_output=True, check=True).stdout
        sets: list[Any] = [each["set"] for each in json.loads(listing)["nftables"] if "set" in each]
        return any(each["name"] == "blocked_addresses4" and each.get("elem") for each in sets)

    wait_for(is_in_the_kernel, "the kernel has it")
    # A SYN that is dropped is sent again after one second and after three.
    assert not connects(2)
    assert session.communicate("go\n")[0] == "sent\n"
    host.ask("block", "remove", CLIENT)
    wait_for(lambda: connects(5), "the kernel lets in again")
    assert guard.said("nftables_failed") == []


def test_from_guess_to_block(host: Host, net: Network) -> None:
    """
    pam_abl's own job, with the real rsyslogd and sshd: ten wrong passwords block the address.

    Then the right password and the right key are refused, until somebody lifts the block.
    """
    folder = host.folder / "block"
    folder.mkdir(mode=0o755)
    host.state_dir.mkdir(mode=0o700)
    host.configure(
        detect={"guessing": {"host_rule": "*:10/1h"}}, block={"mode": "on", "access_file": str(folder / "access.conf")}
    )
    relay = host.folder / "relay"
    relay.mkdir()

    def denied() -> list[str]:
        path = folder / "access.conf"
        return [line for line in path.read_text().splitlines() if line.startswith("-")] if path.exists() else []

    with (
        Rsyslogd(
            relay, child=entry_point(relay, [sys.executable, "-m", "consumer", "run", "--config", str(host.config)])
        ) as daemon,
        serving(host, net, folder / "access.conf", log=relay / "log") as login,
    ):
        daemon.send("rsyslogd", '[origin software="rsyslogd"] start')  # rsyslogd starts sshbell with the first line
        for _ in range(10):
            assert denied() == []
            assert not login.lets_in("password", "wrong")
        wait_for(lambda: denied() == [f"- : ALL : {CLIENT}"], "the address is blocked")
        assert login.both() == [False, False]
        host.ask("block", "remove", CLIENT)
        assert login.both() == [True, True]
