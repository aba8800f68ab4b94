"""
A temporary sshbell: one folder with a configuration, a state directory and a mail server, and its processes.

``tests/conftest.py`` has the fixture ``site``. A test plays the part of rsyslogd (``start_run``), of ``sshbell run``
(``start_deliver``), or of a user at a terminal (``ask``).
"""

from __future__ import annotations

import json
import os
import select
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import ExitStack, closing
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pytest
import tomli_w

from consumer.store.state import State
from tests.integration.mail_server import Post
from tests.store_events import events_of
from tests.waiting import DEADLINE_S

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from consumer.events import Event

PROJECT_DIR = Path(__file__).parents[2]


def configuration(state_dir: Path, **keys: Any) -> str:
    """
    Return the text of a configuration.

    Args:
        state_dir: where sshbell keeps its state.
        keys: as in the file; ``channel`` is a list of results of ``mail_channel``. Without a ``route``, all logins and logouts go
            to all channels.
    """
    known: dict[str, Any] = {"state_dir": str(state_dir), "user": "", "catch_up": ""}
    # Tests must not depend on name servers, databases or people of this machine.
    known |= {"reverse_dns": False, "geoip": [f"{state_dir}/geoip/*.mmdb"], "people": os.devnull}
    if names := [channel["name"] for channel in keys.get("channel", ())]:
        known["route"] = [{"events": ["ssh_login", "ssh_logout"], "channels": names}]
    return tomli_w.dumps(known | keys)


def mail_channel(port: int, name: str = "ops", **keys: Any) -> dict[str, Any]:
    """Return a channel to a mail server on loopback, for ``configuration``; ``keys`` replace or add to its keys."""
    known = {"name": name, "type": "email", "server": "127.0.0.1", "port": port, "security": "none"}
    return known | {"from": "sshbell@example.org", "to": [f"{name}@example.org"], "max_per_hour": 100_000} | keys


class Run:
    """A running ``sshbell run``; the test plays the part of rsyslogd."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str]) -> None:
        self.process = subprocess.Popen(
            command, cwd=PROJECT_DIR, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self.pid = self.process.pid

    def is_waiting(self) -> bool:
        """Return whether the next byte of its replies is a dot, which asks for patience."""
        assert self.process.stdout is not None
        assert select.select([self.process.stdout], [], [], DEADLINE_S)[0], "no reply"
        return os.read(self.process.stdout.fileno(), 1) == b"."

    def reply(self) -> bytes:
        """Return the next reply without its dots; b"" if the process has died."""
        assert self.process.stdout is not None
        assert select.select([self.process.stdout], [], [], DEADLINE_S)[0], "no reply"
        return self.process.stdout.readline().lstrip(b".")

    def write(self, data: bytes) -> None:
        """Write to its input without waiting for a reply."""
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def send(self, line: bytes) -> bytes:
        """Send a line, and return the reply; b"" if the process has died."""
        try:
            self.write(line)
        except BrokenPipeError:
            return b""
        return self.reply()

    def end(self) -> tuple[int, bytes]:
        """Close its input; return its exit code and its standard error."""
        _out, said = self.process.communicate(timeout=DEADLINE_S)
        return self.process.returncode, said

    def kill(self) -> None:
        """Kill it with signal 9."""
        self.process.kill()
        self.process.communicate()


class Site:
    """
    One sshbell in its own folder. All of its processes end with it.

    Attributes:
        folder: has all files.
        config: the configuration, which ``configure`` writes.
        state_dir: the state directory, which ``sshbell install`` or ``run`` would create.
        people, log: paths for ``people.toml`` and a log file; a configuration has to name them.
        python, env: the command and the environment that run sshbell.
    """

    def __init__(self, folder: Path, *, has_state_dir: bool = True) -> None:
        self.folder = folder
        self.config = folder / "sshbell.toml"
        self.state_dir = folder / "state"
        self.people = folder / "people.toml"
        self.log = folder / "auth.log"
        self.python = [sys.executable]
        self.env = os.environ | {"TZ": "UTC", "PYTHONPATH": str(PROJECT_DIR)}
        self.stack = ExitStack()
        if has_state_dir:
            self.state_dir.mkdir(mode=0o700)
        self.configure()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_details: object) -> None:
        self.stack.close()

    # Files

    def configure(self, **keys: Any) -> None:
        """Write the configuration; ``keys`` are those of ``configuration``."""
        self.config.write_text(configuration(self.state_dir, **keys), encoding="utf-8")

    @cached_property
    def post(self) -> Post:
        """A mail server, started at its first use."""
        return self.stack.enter_context(closing(Post()))

    def channels(self, *names: str, port: int | None = None, **keys: Any) -> list[dict[str, Any]]:
        """Return channels, by default only ``ops``, to the mail server or to another port, for ``configure``."""
        return [mail_channel(port or self.post.port, name, **keys) for name in names or ("ops",)]

    def state(self) -> closing[State]:
        """Open the store as ``run`` does; ``run`` must not be running."""
        return closing(State(self.state_dir, pytest.fail))

    def fill(self, *lines: bytes) -> list[Event]:
        """Record the events of whole lines; return them."""
        events = events_of(*lines)
        with self.state() as state:
            state.record(events, frozenset({"ssh_login"}), time.time_ns() // 1000)
        return events

    def query(self, statement: str, database: str = "state") -> list[Any]:
        """Query one of the databases."""
        with closing(sqlite3.connect(f"file:{self.state_dir}/{database}.db?mode=ro", uri=True)) as connection:
            return connection.execute(statement).fetchall()

    def events(self) -> list[tuple[str, str | None, str | None, str]]:
        """Return the stored events: action, user, address and id, in order of time."""
        return self.query("SELECT action, user, address, id FROM event ORDER BY time_us, id")

    # Processes

    def start_run(
        self, *arguments: str, is_ready: bool = True, prefix: Sequence[str] = (), script: Sequence[str] = ("-m", "consumer")
    ) -> Run:
        """
        Start ``run``.

        Args:
            arguments: further arguments.
            is_ready: wait for its first OK; it sends none in plain mode.
            prefix: a command that runs it.
            script: a script that Python runs in place of sshbell.
        """
        run = Run([*prefix, *self.python, *script, "run", "--config", str(self.config), *arguments], self.env)
        self.stack.callback(run.kill)
        if is_ready and "--plain" not in arguments:
            assert run.reply() == b"OK\n"
        return run

    def start_deliver(self, *, wake: bool = True) -> tuple[subprocess.Popen[bytes], socket.socket]:
        """Start ``deliver`` as ``run`` does, or without ``wake``; return it, and our end of the socket: closing that ends it."""
        ours, theirs = socket.socketpair()
        self.stack.callback(ours.close)
        with theirs, (self.folder / "deliver.log").open("ab") as log:
            arguments = ["--wake", str(theirs.fileno())] if wake else []
            process = subprocess.Popen(
                [*self.python, "-m", "consumer", "deliver", "--config", str(self.config), *arguments],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log, cwd=PROJECT_DIR, env=self.env,
                pass_fds=[theirs.fileno()] if wake else [],
            )  # fmt: skip
        self.stack.callback(process.wait)
        self.stack.callback(process.kill)
        return process, ours

    def said(self, event: str) -> list[dict[str, Any]]:
        """Return the log lines of ``deliver`` about one kind of event."""
        path = self.folder / "deliver.log"
        lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        return [line for line in lines if line["event"] == event]

    def ask(
        self, *arguments: str | Path, status: int = 0, prefix: Sequence[str] = (), env: Mapping[str, str] | None = None,
        stdin: str = "",
    ) -> subprocess.CompletedProcess[str]:  # fmt: skip
        """Run another command to its end; check that it reports no error in sshbell itself, and ends with ``status``."""
        done = subprocess.run(
            [*prefix, *self.python, "-m", "consumer", *map(str, arguments), "--config", str(self.config)],
            cwd=PROJECT_DIR, env={**self.env, **(env or {})}, input=stdin, text=True, check=False, capture_output=True,
            timeout=DEADLINE_S,
        )  # fmt: skip
        assert "Traceback" not in done.stderr
        assert "a fault of sshbell" not in done.stderr
        assert done.returncode == status, (done.stdout, done.stderr)
        return done

    def objects(self, *arguments: str) -> list[dict[str, Any]]:
        """Return the objects that a command prints with ``--json``."""
        return [json.loads(text) for text in self.ask(*arguments, "--json").stdout.splitlines()]
