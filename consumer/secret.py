"""Secrets: sshbell reads them when it needs them, from a file, the environment or a command, and never shows them."""

import os
import stat

from consumer.config_values import Secret
from consumer.errors import SecretError
from consumer.process.command import run_command
from consumer.rights import is_open_to_everybody
from consumer.text import N_, harmless

COMMAND_LIMIT_S = 10
_SIZE_LIMIT = 64 * 1024


def read_secret(secret: Secret) -> str:
    """
    Return a secret, without the line end that editors and commands leave behind it. It may wait for a command.

    Raises:
        SecretError: there is none, or others can read it; the text never holds any of it.
    """
    if secret.file:
        raw, where = _of_file(secret.file), harmless(secret.file)
    elif secret.env:
        raw, where = (
            os.environb.get(os.fsencode(secret.env), b""),
            N_("environment variable %(name)s") % {"name": harmless(secret.env)},
        )
    else:
        raw, where = _of_command(secret.command), _shown(secret.command)
    try:
        text = raw.removesuffix(b"\n").removesuffix(b"\r").decode()
    except UnicodeDecodeError:
        text = None
    # Outside, so that the bytes are not in the error's context.
    if text is None:
        raise SecretError(f"{where}: " + N_("not UTF-8"))
    if not text:
        raise SecretError(f"{where}: " + N_("empty"))
    return text


def _of_file(path: str) -> bytes:
    shown = harmless(path)
    try:
        # O_NONBLOCK, so as not to wait for a writer if it is a pipe.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(descriptor, "rb", buffering=0) as file:  # noqa: PTH123 - of a descriptor
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise SecretError(f"{shown}: " + N_("not a regular file"))
            if is_open_to_everybody(found):
                raise SecretError(
                    f"{shown}: " + N_("everybody on this machine can read or write it") + f"; run: chmod o-rw {shown}"
                )
            raw = file.read(_SIZE_LIMIT + 1)
    except OSError as error:
        raise SecretError(f"{shown}: {error.strerror}") from None
    if len(raw) > _SIZE_LIMIT:
        raise SecretError(f"{shown}: " + N_("longer than %(size)s") % {"size": f"{_SIZE_LIMIT // 1024} KiB"})
    return raw


def _of_command(command: list[str]) -> bytes:
    done = run_command(command, limit_s=COMMAND_LIMIT_S, output_limit=_SIZE_LIMIT)
    if done.fault:
        raise SecretError(f"{_shown(command)}: {done.fault}")
    return done.output


def _shown(command: list[str]) -> str:
    return N_("command %(name)s") % {"name": harmless(command[0])}
