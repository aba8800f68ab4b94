"""The real rsyslogd in the foreground, with the shipped drop-in, and its own socket and work directory."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from consumer.system.install import _ENTRY_POINT as ENTRY_POINT
from tests import needs
from tests.waiting import DEADLINE_S, wait_for

if TYPE_CHECKING:
    from tests.integration.site import Site

PROJECT_DIR = Path(__file__).parents[2]
SHIPPED = PROJECT_DIR / "rsyslog.d"
DROP_IN = SHIPPED / "30-sshbell.conf"

# Confirms each line once it is in a file.
CHILD = """#!{python} -I
import os, sys
out = os.open({received!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
os.write(1, b"OK\\n")
for line in sys.stdin.buffer:
    os.write(out, line)
    os.write(1, b"OK\\n")
"""

MAIN = """
global(workDirectory="{folder}/work" processInternalMessages="on")
module(load="imuxsock" SysSock.Use="off")
input(type="imuxsock" Socket="{folder}/log" Annotate="on" ParseTrusted="on" UsePIDFromSystem="on"{limit})
{more}
include(file="{folder}/30-sshbell.conf")
action(type="omfile" file="{folder}/all.log" template="RSYSLOG_FileFormat")
"""


def entry_point(folder: Path, command: list[str]) -> Path:
    """Write the script that rsyslogd starts, as ``install`` writes it, but with another command."""
    installed = ENTRY_POINT.format(drop_in="", interpreter="PYTHON")
    assert "PYTHON -I -m consumer run" in installed
    where = f"export TZ=UTC PYTHONPATH={shlex.quote(str(PROJECT_DIR))}\n"
    script = folder / "sshbell"
    script.write_text(installed.replace("exec PYTHON -I -m consumer run", f"{where}exec {shlex.join(command)}"))
    script.chmod(0o755)
    return script


def child(site: Site) -> Path:
    """Write the script that starts a site's ``run``."""
    return entry_point(site.folder, [*site.python, "-m", "consumer", "run", "--config", str(site.config)])


class Rsyslogd:
    """
    One rsyslogd, with a child that keeps its input.

    Args:
        folder: an empty directory.
        limit: further parameters of the input.
        more: further statements, before the drop-in.
        slowdown_us: the pause between two lines that decide no login; None for that of the drop-in.
        child: another child.
    """

    def __init__(
        self, folder: Path, limit: str = "", *, more: str = "", child: Path | None = None, slowdown_us: int | None = None
    ) -> None:
        self.folder = folder
        self._received = folder / "received"
        (folder / "work").mkdir()
        if child is None:
            child = folder / "child"
            child.write_text(CHILD.format(python=sys.executable, received=str(self._received)))
            child.chmod(0o755)
        drop_in = DROP_IN.read_text()
        for was, now in (("/usr/libexec/rsyslog/sshbell", child), ("/var/log/sshbell.err", folder / "err")):
            assert f'"{was}"' in drop_in
            drop_in = drop_in.replace(was, str(now))
        if slowdown_us is not None:
            drop_in, replaced = re.subn(r'(dequeueSlowDown=)"\d+"', rf'\1"{slowdown_us}"', drop_in)
            assert replaced == 1
        (folder / DROP_IN.name).write_text(drop_in)
        (folder / "main.conf").write_text(MAIN.format(folder=folder, limit=limit, more=more))
        self._said = (folder / "said").open("wb")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._launch()

    def _launch(self) -> None:
        self._process = subprocess.Popen(
            [needs.program("rsyslogd", "rsyslog"), "-n", "-f", self.folder / "main.conf", "-i", self.folder / "pid"],
            stdin=subprocess.DEVNULL, stdout=self._said, stderr=self._said,
        )  # fmt: skip

    def __enter__(self) -> Self:
        try:
            wait_for(self._connected, "rsyslogd listens")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_details: object) -> None:
        self._socket.close()
        try:
            self._stop()
        finally:
            self._said.close()

    def _stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(DEADLINE_S)
        finally:
            self._process.kill()
            self._process.wait()

    def restart(self, *, may_hang: bool = False) -> bool:
        """
        Stop it as an init system does, and start it again.

        Args:
            may_hang: kill it if it does not stop, as an init system does.

        Returns:
            Whether it stopped by itself.
        """
        has_stopped = True
        try:
            self._stop()
        except subprocess.TimeoutExpired:
            if not may_hang:
                raise
            has_stopped = False
        self._launch()
        wait_for(self._connected, "rsyslogd listens again")
        return has_stopped

    def hang_up(self) -> None:
        """Send it HUP, as logrotate does."""
        self._process.send_signal(signal.SIGHUP)

    def _connected(self) -> bool:
        assert self._process.poll() is None, (self.folder / "said").read_text()
        try:
            self._socket.connect(str(self.folder / "log"))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        return True

    def send(self, tag: str, text: str) -> None:
        """Log a line like a program that calls syslog()."""
        self._socket.send(f"<86>Nov 22 10:00:00 {tag}: {text}".encode("latin-1"))

    def send_as(self, uid: int, tag: str, text: str, pid: int | None = None) -> None:
        """Log a line as another user does, or another process."""
        self.send_raw_as(uid, f"<86>{tag}: {text}".encode("latin-1"), pid)

    def send_raw_as(self, uid: int, packet: bytes, pid: int | None = None) -> None:
        """Send any bytes likewise: the kernel lets root name any uid and any living process, and rsyslogd gets those."""
        credentials = struct.pack("iII", os.getpid() if pid is None else pid, uid, uid)
        ancillary = [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, credentials)]
        self._socket.sendmsg([packet], ancillary)

    def received(self) -> list[dict[str, Any]]:
        """Return the lines that the child has received so far."""
        if not self._received.exists():
            return []
        whole, _, _torn = self._received.read_bytes().rpartition(b"\n")
        return [json.loads(line) for line in whole.splitlines()]

    def until(self, text: str) -> list[dict[str, Any]]:
        """Wait for a line that contains ``text``; return all lines so far."""
        wait_for(lambda: any(text in line["msg"] for line in self.received()), f"sshbell receives {text!r}")
        return self.received()
