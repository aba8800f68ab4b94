"""Secrets: read when they are needed, from a file, the environment or a command; never shown, whatever goes wrong."""

import os
import selectors
import signal
import stat
import subprocess
import time

from consumer.config import Secret
from consumer.errors import SecretError
from consumer.text import harmless

COMMAND_LIMIT_S = 10
_SIZE_LIMIT = 64 * 1024
_OTHERS = stat.S_IROTH | stat.S_IWOTH


def read_secret(secret: Secret) -> str:
    """
    Return a secret, without the line end that editors and commands leave behind it. It may wait for a command.

    Raises:
        SecretError: there is none, or others can read it; the text never holds any of it.
    """
    if secret.file:
        raw, where = _of_file(secret.file), harmless(secret.file)
    elif secret.env:
        raw, where = os.environb.get(os.fsencode(secret.env), b""), f"environment variable {harmless(secret.env)}"
    else:
        raw, where = _of_command(secret.command), f"command {harmless(secret.command[0])}"
    try:
        text = raw.removesuffix(b"\n").removesuffix(b"\r").decode()
    except UnicodeDecodeError:
        text = None
    # Outside, so that the bytes are not in the error's context.
    if text is None:
        raise SecretError(f"{where}: not UTF-8")
    if not text:
        raise SecretError(f"{where}: empty")
    return text


def _of_file(path: str) -> bytes:
    shown = harmless(path)
    try:
        # Not to wait for a writer, where it is a pipe.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(descriptor, "rb", buffering=0) as file:  # noqa: PTH123 - of a descriptor
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise SecretError(f"{shown}: no regular file")
            if found.st_mode & _OTHERS:
                raise SecretError(f"{shown}: everybody on this machine can read or write it; run: chmod o-rw {shown}")
            raw = file.read(_SIZE_LIMIT + 1)
    except OSError as error:
        raise SecretError(f"{shown}: {error.strerror}") from None
    return _bounded(raw, shown)


def _of_command(command: list[str]) -> bytes:
    shown = f"command {harmless(command[0])}"
    fault = ""
    raw = b""
    try:
        # A session of its own, so that what it has started ends with it.
        with subprocess.Popen(  # noqa: S603 - the administrator's own
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
        ) as process:
            try:
                raw = _printed(process)
            except subprocess.TimeoutExpired:
                fault = f"no answer within {COMMAND_LIMIT_S} s"
            if fault or len(raw) > _SIZE_LIMIT:
                os.killpg(process.pid, signal.SIGKILL)
        if not fault and process.returncode and len(raw) <= _SIZE_LIMIT:
            fault = f"it ended with {process.returncode}"
    except OSError as error:
        fault = error.strerror or "cannot be run"
    except ValueError:
        fault = "cannot be run"
    if fault:
        raise SecretError(f"{shown}: {fault}")
    return _bounded(raw, shown)


def _printed(process: subprocess.Popen[bytes]) -> bytes:
    """
    Return what a command prints; a little more than the bound of what prints without end.

    Raises:
        subprocess.TimeoutExpired: it goes on for too long.
    """
    assert process.stdout is not None
    end_s = time.monotonic() + COMMAND_LIMIT_S
    raw = b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while len(raw) <= _SIZE_LIMIT:
            if not selector.select(max(0.0, end_s - time.monotonic())):
                raise subprocess.TimeoutExpired(process.args, COMMAND_LIMIT_S)
            if not (some := os.read(process.stdout.fileno(), _SIZE_LIMIT)):
                process.wait(max(0.0, end_s - time.monotonic()))
                break
            raw += some
    return raw


def _bounded(raw: bytes, shown: str) -> bytes:
    if len(raw) > _SIZE_LIMIT:
        raise SecretError(f"{shown}: longer than {_SIZE_LIMIT // 1024} KiB")
    return raw
