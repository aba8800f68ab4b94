"""A small run of ``kills.py``; the whole one takes minutes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.integration.rsyslogd import program


def test_nothing_confirmed_is_forgotten() -> None:
    """Whoever is killed: each login is told, twice only where the mail server had it before, and what is known stays the same."""
    program("rsyslogd", "rsyslog")
    command = [sys.executable, Path(__file__).with_name("kills.py"), "--logins", "100", "--lines", "1000", "--kills", "12"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
