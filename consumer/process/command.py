"""
Run another program: an argument list, no shell, a deadline, and a limit on its output.

The program runs in a new session. When it ends, or its time is over, sshbell kills every process that is left in its process
group, so its children do not stay behind. A child that starts its own session, as daemons do, is out of reach. If such a child
also keeps the output open, the command takes the whole time limit.
"""

import atexit
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, NamedTuple

from consumer.text import N_

_BLOCK = 64 * 1024
# A process that the kernel holds (a dead file system) survives a kill; sshbell waits no longer than this for it.
_KILLED_S = 1.0
# Groups of commands that run: one in a thread that nobody waits for ends with us.
_running: set[int] = set()


class Done(NamedTuple):
    """
    The result of a command.

    Attributes:
        output: its standard output; only a part of it if ``fault`` is set.
        errors: its standard error, cut at the limit; empty unless ``with_errors`` was set.
        fault: why the output does not count, as text to follow the command's name: the command did not start, did not end in
            time, printed too much, or ended with a status other than 0. "" if it succeeded.
        status: the status with which it ended by itself; 0 if it did not.
    """

    output: bytes = b""
    errors: bytes = b""
    fault: str = ""
    status: int = 0


def run_command(
    command: Sequence[str | Path],
    *,
    limit_s: float,
    output_limit: int,
    env: Mapping[str, str] | None = None,
    with_errors: bool = False,
    stdin: bytes = b"",
    uid: int | None = None,
) -> Done:
    """
    Run a command to its end, in the directory "/"; never raises.

    Args:
        command: program and arguments.
        limit_s: seconds for the whole run.
        output_limit: bytes of standard output; one byte more, and the command is killed.
        env: its whole environment; None for ours.
        with_errors: keep standard error; otherwise it is discarded.
        stdin: its standard input.
        uid: run it as this user, which has to be one of ours: real, effective or saved; None for the same as this process.
    """
    end_s = time.monotonic() + limit_s
    try:
        with _file_of(stdin) as given:
            process = subprocess.Popen(  # noqa: S603 - no shell; the caller knows what it runs
                list(command), stdin=given, stdout=subprocess.PIPE,
                stderr=subprocess.PIPE if with_errors else subprocess.DEVNULL, start_new_session=True, cwd="/", env=env, user=uid,
            )  # fmt: skip
    except OSError as error:
        return Done(fault=error.strerror or N_("cannot be run"))
    except (ValueError, subprocess.SubprocessError):  # a NUL in an argument; the child cannot become the user
        return Done(fault=N_("cannot be run"))
    pipes = [pipe for pipe in (process.stdout, process.stderr) if pipe is not None]
    texts: list[bytearray] = [bytearray() for _ in pipes]
    fault = ""
    _running.add(process.pid)
    try:
        if not _read(pipes, texts, output_limit, end_s):
            fault = N_("longer than %(size)s") % {"size": _size(output_limit)} if len(texts[0]) > output_limit else _late(limit_s)
        elif not _has_ended(process.pid, end_s):
            fault = _late(limit_s)
    finally:
        for pipe in pipes:
            pipe.close()
        # The process is not reaped yet, so its number still names its own group.
        _kill(process.pid)
        _running.discard(process.pid)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_KILLED_S)
    output, errors = (*map(bytes, texts), b"")[:2]
    status = process.returncode if not fault and process.returncode else 0
    return Done(output[:output_limit], errors, fault or _status(process.returncode), max(0, status))


def system_path() -> str:
    """Return our search path plus the sbin folders, which the paths of ordinary users, and of some with sudo, lack."""
    return os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))


def _file_of(data: bytes) -> IO[bytes]:
    """Return a file in memory: unlike a pipe, it needs nobody who writes while the command reads."""
    if not data:
        return open(os.devnull, "rb")  # noqa: PTH123 - as below
    file = open(os.memfd_create("stdin"), "w+b", buffering=0)  # noqa: PTH123, SIM115 - of a descriptor; the caller closes it
    file.write(data)
    file.seek(0)
    return file


def _kill(group: int) -> None:
    with suppress(OSError):
        os.killpg(group, signal.SIGKILL)


@atexit.register
def _kill_all() -> None:
    for group in tuple(_running):
        _kill(group)


def _read(pipes: list[IO[bytes]], texts: list[bytearray], limit: int, end_s: float) -> bool:
    """Read all pipes to their ends; False if the time is over first, or if the first pipe has more than ``limit`` bytes."""
    with selectors.DefaultSelector() as selector:
        for pipe, text in zip(pipes, texts, strict=True):
            selector.register(pipe, selectors.EVENT_READ, text)
        while selector.get_map():
            left_s = end_s - time.monotonic()
            ready = selector.select(left_s) if left_s > 0 else []
            if not ready:
                return False
            for key, _ in ready:
                block = os.read(key.fd, _BLOCK)
                text = key.data
                if not block:
                    selector.unregister(key.fileobj)
                elif text is texts[0]:
                    text += block
                    if len(text) > limit:
                        return False
                else:
                    text += block[: max(0, limit - len(text))]
    return True


def _has_ended(pid: int, end_s: float) -> bool:
    """Wait for the end of a child without reaping it; False if the time is over first."""
    pause_s = 0.0005
    try:
        while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            if time.monotonic() >= end_s:
                return False
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, 0.05)
    except ChildProcessError:
        pass  # our parent ignores SIGCHLD, so the kernel has already reaped the child
    return True


def _late(limit_s: float) -> str:
    return N_("no answer within %(seconds)s s") % {"seconds": f"{limit_s:.3g}"}


def _size(limit: int) -> str:
    return f"{limit // 1024} KiB" if limit % 1024 == 0 else f"{limit} bytes"


def _status(returncode: int | None) -> str:
    if not returncode:
        return ""
    if returncode > 0:
        return N_("it ended with %(status)s") % {"status": returncode}
    return N_("signal %(number)s ended it") % {"number": -returncode}
