#!/usr/bin/env python3
"""
Measure what a token server that never ends its answer costs the other channels, and the end of ``sshbell deliver``.

Forty channels wait for their tokens from it; one more channel needs a command for its password. sshbell reports a login to all of
them: how long until the mail of the healthy channel arrives, and how long does ``deliver`` outlive ``run`` after that?::

    bench/tokens.py --channels 40
"""

import argparse
import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from socketserver import BaseRequestHandler, ThreadingTCPServer
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult
from latency import LINE, stamp, wait_for
from measure import ROOT

CHANNEL = """
[[channel]]
name = "{name}"
type = "email"
server = "127.0.0.1"
port = {port}
security = "none"
from = "sshbell@example.org"
to = ["{name}@example.org"]
username = "bell"
{secret}
"""
HELD = 'oauth2 = {{ token_url = "http://127.0.0.1:{port}/", client_id = "x", refresh_token = {{ file = "{file}" }} }}'
HEALTHY = 'password = { command = ["printf", "x"] }'
# The longest wait for each of the two.
LIMIT_S = 60.0


class Trickle(BaseRequestHandler):
    """Answers with a header line that never ends."""

    def handle(self) -> None:
        """Send a byte now and then."""
        self.request.recv(65536)
        with suppress(OSError):
            self.request.sendall(b"HTTP/1.1 200 OK\r\nX: ")
            while True:
                self.request.sendall(b"x")
                time.sleep(0.2)


class Tokens(ThreadingTCPServer):
    """The token server."""

    daemon_threads = True
    request_queue_size = 128


class Handler:
    """A mail server that accepts every login, and notes when a mail comes."""

    def __init__(self) -> None:
        self.come = threading.Event()

    async def auth_XOAUTH2(self, _server: SMTP, _arguments: list[str]) -> AuthResult:  # noqa: N802 - aiosmtpd's name
        """Accept a token."""
        return AuthResult(success=True)

    async def handle_DATA(self, _server: SMTP, _session: Any, _envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        """Accept a mail."""
        self.come.set()
        return "250 OK"


def serve(handler: Handler, ports: list[int]) -> None:
    """Run the mail server for ever; first note its port."""

    def smtp() -> SMTP:
        return SMTP(handler, auth_require_tls=False, authenticator=lambda *_: AuthResult(success=True))

    async def forever() -> None:
        server = await asyncio.get_running_loop().create_server(smtp, "127.0.0.1", 0)
        ports.append(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(forever())


def is_running(pid: int) -> bool:
    """Return whether a process has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][:1] != "Z"
    except OSError:
        return False


def main() -> None:
    """Read the command line, and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--channels", type=int, default=40, help="that wait for a token")
    options = parser.parse_args()
    handler, ports = Handler(), list[int]()
    threading.Thread(target=serve, args=(handler, ports), daemon=True).start()
    with tempfile.TemporaryDirectory() as name, Tokens(("127.0.0.1", 0), Trickle) as tokens:
        threading.Thread(target=tokens.serve_forever, daemon=True).start()
        wait_for(lambda: ports)
        folder = Path(name)
        text = f'state_dir = "{folder}/state"\nuser = ""\ncatch_up = ""\nreverse_dns = false\n'
        (folder / "refresh").touch(mode=0o600)
        (folder / "refresh").write_text("x")
        token = HELD.format(port=tokens.server_address[1], file=folder / "refresh")
        names = [f"held{number}" for number in range(options.channels)]
        for channel in names:
            text += CHANNEL.format(name=channel, port=ports[0], secret=token)
        text += CHANNEL.format(name="healthy", port=ports[0], secret=HEALTHY)
        text += f"[[route]]\nchannels = {[*names, 'healthy']}\n".replace("'", '"')
        (folder / "sshbell.toml").write_text(text)
        command = [sys.executable, "-m", "consumer", "run", "--plain", "--config", str(folder / "sshbell.toml")]
        run = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=ROOT)
        assert run.stdin is not None
        lock = folder / "state" / "deliver.lock"
        wait_for(lambda: lock.exists() and lock.read_text())
        for login in (
            "Accepted password for alice from 203.0.113.7 port 4711 ssh2",
            "pam_unix(sshd:session): session opened for user alice(uid=1001) by (uid=0)",
        ):
            run.stdin.write(LINE.format(now=stamp(), pid=7, text=login).encode())
        run.stdin.flush()
        begun_s = time.monotonic()
        has_come = handler.come.wait(LIMIT_S)
        mail_s = time.monotonic() - begun_s
        pid = int(lock.read_text())
        run.stdin.close()
        run.wait()
        begun_s = time.monotonic()
        while is_running(pid) and time.monotonic() - begun_s < LIMIT_S:
            time.sleep(0.02)
        end_s = time.monotonic() - begun_s
        has_ended = not is_running(pid)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    mail = f"came after {mail_s:.2f} s" if has_come else f"had not come after {mail_s:.0f} s"
    print(f"beside {options.channels} channels that wait for tokens, the mail of the healthy channel {mail}")
    print(f"deliver outlived run by {end_s:.1f} s{'' if has_ended else ', and was killed then'}")
    sys.stdout.flush()
    os._exit(0)  # without waiting for the server's threads


if __name__ == "__main__":
    main()
