"""``consumer.process.command``: whatever a command does, it is over in time, and so is all that it has started."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from consumer.process.command import Done, run_command
from tests.waiting import wait_for

if TYPE_CHECKING:
    from pathlib import Path


def run(*command: str, limit_s: float = 30.0, limit: int = 1024, with_errors: bool = False) -> Done:
    """Run a command; where it has less time than here, it never ends by itself."""
    return run_command(command, limit_s=limit_s, output_limit=limit, with_errors=with_errors)


def test_output_and_errors() -> None:
    """Both are there in full, whatever bytes they are; errors only where somebody wants them."""
    both = ("sh", "-c", r"printf '\377\0a\n'; printf 'b' >&2")
    assert run(*both) == Done(b"\xff\0a\n")
    assert run(*both, with_errors=True) == Done(b"\xff\0a\n", b"b")
    assert run("sh", "-c", "echo out; echo why >&2; exit 3", with_errors=True) == Done(b"out\n", b"why\n", "it ended with 3", 3)


@pytest.mark.parametrize(
    ("command", "fault"),
    [
        (("sh", "-c", "exit 7"), "it ended with 7"),
        (("sh", "-c", "kill -TERM $$"), "signal 15 ended it"),
        (("/no/such/command", "x"), "No such file or directory"),
        (("/dev/null",), "Permission denied"),
        (("sh", "a\0b"), "cannot be run"),
    ],
)
def test_faults(command: tuple[str, ...], fault: str) -> None:
    """A command that fails, or cannot be started, is a value and no exception."""
    assert run(*command).fault == fault


def test_nothing_is_inherited_but_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No terminal, no input, no directory of ours; and only the environment that is given, where one is."""
    monkeypatch.setenv("BELL_HERE", "1")
    text = "import os, sys; print(os.getcwd(), sys.stdin.read() == '', os.getsid(0) == os.getpid(), 'BELL_HERE' in os.environ)"
    assert run(sys.executable, "-c", text) == Done(b"/ True True True\n")
    alone = run_command([sys.executable, "-I", "-c", text], limit_s=30, output_limit=1024, env={"PATH": os.defpath})
    assert alone == Done(b"/ True True False\n")


def test_bounds() -> None:
    """As many bytes as the limit are taken, one more is a fault; errors are cut, and cost nothing else."""
    assert run("head", "-c", "1024", "/dev/zero") == Done(b"\0" * 1024)
    assert run("head", "-c", "1025", "/dev/zero").fault == "longer than 1 KiB"
    assert run("yes", limit=1000).fault == "longer than 1000 bytes"
    assert run("sh", "-c", "head -c 5000000 /dev/zero >&2; echo well", with_errors=True) == Done(b"well\n", b"\0" * 1024)


@pytest.mark.parametrize(
    "text",
    [
        "sleep 1000",
        "exec >&-; sleep 1000",
        "setsid sleep 2 & exit 0",
        "while :; do echo x; sleep 0.01; done",
        "trap '' TERM; sleep 99",
    ],
)
def test_time(text: str) -> None:
    """One that hangs, trickles, or leaves its output to somebody else has its time, and no more."""
    started = time.monotonic()
    assert run("sh", "-c", text, limit_s=0.2, limit=1 << 20).fault == "no answer within 0.2 s"
    # Not a bound of ours, but far less than any of these takes.
    assert time.monotonic() - started < 60


def lives(pid: int) -> bool:
    """Tell whether a process is there and no zombie."""
    with suppress(OSError), open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123
        return file.read().rpartition(b") ")[2][:1] != b"Z"
    return False


@pytest.mark.parametrize(
    ("rest", "fault"), [("exit 0", ""), ("exit 1", "it ended with 1"), ("wait", "no answer within"), ("yes", "longer than 1 KiB")]
)
def test_what_it_has_started_ends_with_it(tmp_path: Path, rest: str, fault: str) -> None:
    """Whether it ends well, fails, hangs or floods."""
    note = tmp_path / "pid"
    limit_s = 0.3
    # A slow machine needs longer to come so far.
    while not (note.exists() and note.read_text().endswith("\n")):
        limit_s = limit_s * 2 if rest == "wait" else 60.0
        done = run("sh", "-c", f"sleep 1000 >/dev/null 2>&1 & echo $! > {note}; {rest}", limit_s=limit_s)
    assert done.fault.startswith(fault)
    assert bool(done.fault) == bool(fault)
    pid = int(note.read_text())
    wait_for(lambda: not lives(pid), "what it has started is gone")


def test_where_sigchld_is_ignored() -> None:
    """Whoever starts us may ignore it: the kernel then keeps no status, and the output counts."""
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        assert run("echo", "x") == Done(b"x\n")
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_no_descriptor_is_left() -> None:
    """However it ends."""
    before = sorted(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for command in (["true"], ["yes"], ["/no/such/command"]):
        run(*command)
    run("sleep", "1000", limit_s=0.1)
    assert sorted(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
