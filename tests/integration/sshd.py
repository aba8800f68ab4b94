"""The real sshd on a port of loopback, with its own keys and configuration. It logs to a socket of the test."""

from __future__ import annotations

import random
import socket
import subprocess
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tests import needs
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# sshd writes to /dev/log. It gets its own /dev, where /dev/log is the socket of the test's rsyslogd.
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


def key(path: Path) -> str:
    """Generate a key; return its fingerprint."""
    keygen = needs.program("ssh-keygen", "openssh-client")
    subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    shown = subprocess.run([keygen, "-l", "-f", path], check=True, capture_output=True, text=True)
    return shown.stdout.split()[1]


def free_port() -> int:
    """Return a free port, since sshd cannot choose one itself. The kernel gives these to nobody who asks for any port."""
    first, _last = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    # pytest-randomly gives the usual generator the same seed in each worker.
    for port in random.SystemRandom().sample(range(1024, int(first)), 1000):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no free port")


@contextmanager
def listening(script: str, own: Sequence[str], command: Sequence[str], folder: Path, port: int) -> Iterator[None]:
    """
    Run an sshd in a mount namespace of its own, until it listens and then to the end of the block.

    Args:
        script: prepares the namespace, and then runs the command: ``OWN_DEV``, or one like it.
        own: the arguments of the script, before the command.
        command: sshd, which stays in the foreground.
        folder: for its standard error.
        port: where it listens.
    """
    unshare = [needs.program("unshare", "util-linux"), "--mount", "--propagation", "private", "sh", "-c", script, "sh"]
    with (folder / "sshd_said").open("wb") as said:
        process = subprocess.Popen([*unshare, *own, *command], stdin=subprocess.DEVNULL, stdout=said, stderr=said)
        try:

            def listens() -> bool:
                assert process.poll() is None, (folder / "sshd_said").read_text()
                with socket.socket() as probe:
                    return probe.connect_ex(("127.0.0.1", port)) == 0

            wait_for(listens, "sshd listens")
            yield
        finally:
            process.terminate()
            process.wait()


@contextmanager
def sshd(folder: Path, log: Path) -> Iterator[list[str]]:
    """Run sshd, which logs to a socket; yield the command to log in."""
    daemon, client = needs.program("sshd", "openssh-server"), needs.program("ssh", "openssh-client")
    key(folder / "host_key")
    (folder / "authorized_keys").write_text((folder / "user_key.pub").read_text())
    (folder / "dev").mkdir()
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    port = free_port()
    (folder / "sshd_config").write_text(SSHD.format(port=port, folder=folder))
    command = [daemon, "-D", "-f", str(folder / "sshd_config")]
    with listening(OWN_DEV, [str(folder / "dev"), str(log)], command, folder, port):
        yield [
            client, "-F", "none", "-p", str(port), "-i", str(folder / "user_key"), "-o", "IdentitiesOnly=yes",
            "-o", "StrictHostKeyChecking=no", "-o", f"UserKnownHostsFile={folder}/known_hosts", "root@127.0.0.1",
        ]  # fmt: skip
