"""
A mail server in its own process, which a test can kill. It writes each message to the disk before it answers.

Its arguments are two folders. In the first, ``port`` has its port, even after a restart, and ``mails`` has each message. The
second one is for ``dying.py``.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from email import message_from_bytes
from email.policy import SMTPUTF8
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

from aiosmtpd.smtp import SMTP, Envelope, Session

from tests.integration.dying import TAKEN, perhaps
from tests.integration.mail_server import Inbox, content_of
from tests.integration.rsyslogd import PROJECT_DIR
from tests.waiting import wait_for

if TYPE_CHECKING:
    from email.message import EmailMessage


class Mail(NamedTuple):
    """A message, and when the server accepted it, in nanoseconds since 1970."""

    taken_ns: int
    message: EmailMessage


class PostOffice:
    """Starts the server, and reads the accepted messages."""

    def __init__(self, folder: Path, armed: Path | None = None) -> None:
        self._folder = folder
        self._arguments = [str(folder), str(armed or folder)]
        self.process = self._started()

    def __enter__(self) -> Self:
        wait_for((self._folder / "port").exists, "the mail server listens")
        return self

    def __exit__(self, *_details: object) -> None:
        self.process.kill()
        self.process.wait()

    def _started(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.integration.post_office", *self._arguments], stdin=subprocess.DEVNULL, cwd=PROJECT_DIR
        )

    @property
    def port(self) -> int:
        """The port on which it listens."""
        return int((self._folder / "port").read_text())

    def revive(self) -> None:
        """Restart it if it has been killed."""
        if self.process.poll() is not None:
            self.process = self._started()

    def mails(self) -> list[Mail]:
        """Return the accepted messages, in order."""
        with suppress(FileNotFoundError):
            rows = [json.loads(line) for line in (self._folder / "mails").read_bytes().splitlines()]
            return [Mail(at, message_from_bytes(text.encode("latin-1"), policy=SMTPUTF8)) for at, text in rows]
        return []


class _Keeper(Inbox):
    """Writes each message to the disk, then answers."""

    def __init__(self, folder: Path, armed: Path) -> None:
        super().__init__()
        self._out = os.open(folder / "mails", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._armed = armed

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        """Accept a message."""
        row = [time.time_ns(), content_of(envelope).decode("latin-1")]
        os.write(self._out, json.dumps(row).encode() + b"\n")
        perhaps(self._armed, "smtp", TAKEN)
        return "250 taken"


async def _serve(folder: Path, armed: Path) -> None:
    known = folder / "port"
    port = int(known.read_text()) if known.exists() else 0
    keeper = _Keeper(folder, armed)
    server = await asyncio.get_running_loop().create_server(lambda: SMTP(keeper), "127.0.0.1", port)
    part = folder / "port.part"
    part.write_text(str(server.sockets[0].getsockname()[1]))
    part.replace(known)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1]), Path(sys.argv[2])))
