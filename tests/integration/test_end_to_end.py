"""From the key to the mail: real ssh client, sshd, rsyslogd, ``sshbell run`` and ``deliver``, and mail server."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.integration.post_office import Mail, PostOffice
from tests.integration.rsyslogd import Rsyslogd, entry_point, program, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

# sshd writes to /dev/log: here it has a /dev of its own, in which that is rsyslogd's socket.
OWN_DEV = """
set -e
mount -t tmpfs -o mode=755 none "$1"
for each in null zero full random urandom tty; do
    touch "$1/$each"
    mount --bind "/dev/$each" "$1/$each"
done
ln -s /proc/self/fd "$1/fd"
ln -s "$2" "$1/log"
mount --rbind "$1" /dev
shift 2
exec "$@"
"""

SSHD = """
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
PidFile none
StrictModes no
PermitRootLogin yes
UsePAM yes
"""

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


def key(path: Path) -> str:
    """Make a key; return its fingerprint."""
    keygen = program("ssh-keygen", "openssh-client")
    subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    shown = subprocess.run([keygen, "-l", "-f", path], check=True, capture_output=True, text=True)
    return shown.stdout.split()[1]


def free_port() -> int:
    """Return a port that nobody has now; sshd cannot choose one itself."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
    return port


@contextmanager
def sshd(folder: Path, log: Path) -> Iterator[list[str]]:
    """Run sshd, which logs to a socket; yield how to log in."""
    daemon, client = program("sshd", "openssh-server"), program("ssh", "openssh-client")
    key(folder / "host_key")
    (folder / "authorized_keys").write_text((folder / "user_key.pub").read_text())
    (folder / "dev").mkdir()
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    port = free_port()
    (folder / "sshd_config").write_text(SSHD.format(port=port, folder=folder))
    unshare = [program("unshare", "util-linux"), "--mount", "--propagation", "private", "sh", "-c", OWN_DEV, "sh"]
    command = [*unshare, str(folder / "dev"), str(log), daemon, "-D", "-f", str(folder / "sshd_config")]
    with (folder / "sshd_said").open("wb") as said:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
        try:

            def listens() -> bool:
                assert process.poll() is None, (folder / "sshd_said").read_text()
                with socket.socket() as probe:
                    return probe.connect_ex(("127.0.0.1", port)) == 0

            wait_for(listens, "sshd listens")
            yield [
                client, "-F", "none", "-p", str(port), "-i", str(folder / "user_key"), "-o", "IdentitiesOnly=yes",
                "-o", "StrictHostKeyChecking=no", "-o", f"UserKnownHostsFile={folder}/known_hosts", "root@127.0.0.1",
            ]  # fmt: skip
        finally:
            process.terminate()
            process.wait()


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
    assert told["Subject"] == f"root@{host} from 127.0.0.1 (publickey)"
    assert str(left["Subject"]).startswith(f"{told['Subject']}: logged out after ")
    assert left["References"] == told["Message-ID"]
    text = told.get_body(("plain",)).get_content().replace("\r", "")  # type: ignore[union-attr]
    shown = dict(re.findall(r"^([a-z]+): +(.*)$", text, re.MULTILINE))
    assert (shown["user"], shown["host"], shown["from"]) == ("root", host, f"{address} port {port}")
    assert (shown["method"], shown["key"]) == ("publickey", f"ED25519 {fingerprint}")
    assert shown["origin"].startswith("verified")  # by the kernel: this was sshd
