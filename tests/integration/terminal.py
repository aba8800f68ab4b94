"""Commands at a terminal of their own."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path

PROJECT_DIR = Path(__file__).parents[2]


def on_a_terminal(*arguments: str | Path, columns: int = 80, **env: str) -> str:
    """
    Return what a command writes to a terminal, with plain line feeds.

    Args:
        arguments: of sshbell.
        columns: the width of the terminal.
        env: further variables of its environment.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, columns, 0, 0))
    inherited = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "NO_COLOR"}}
    process = subprocess.Popen(
        [sys.executable, "-m", "consumer", *map(str, arguments)], cwd=PROJECT_DIR, stdin=theirs, stdout=theirs, stderr=theirs,
        env={**inherited, "TZ": "UTC", "TERM": "xterm", **env},
    )  # fmt: skip
    os.close(theirs)
    output = b""
    try:
        while chunk := os.read(ours, 65536):
            output += chunk
    except OSError:
        pass  # EIO: the other side is closed
    os.close(ours)
    process.wait(60)
    return output.decode().replace("\r\n", "\n")
