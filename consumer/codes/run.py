"""
``sshbell pam challenge`` and ``sshbell pam verify``, as pam_exec runs them: standard output and the exit code are what PAM gets.

Whatever goes wrong, PAM gets a failure and refuses. Nothing here prints what the user typed.
"""

import os
import stat
from collections.abc import Callable

from consumer.codes import log_lines
from consumer.codes.exchange import Exchange
from consumer.codes.hardening import harden
from consumer.codes.pam_login import NoLoginError, PamLogin, pam_login
from consumer.codes.settings import settings_of
from consumer.errors import RightsError, SshbellError, StoreError, UsageError, complain
from consumer.state_dir import codes_dir_of
from consumer.store.codes import CodeStore

LETS_IN, REFUSES = 0, 1
# PAM_MAX_RESP_SIZE of Linux-PAM; a code is much shorter.
_TYPED_LIMIT_BYTES = 512


def challenge(config: str) -> int:
    """
    Have a code sent to the user who logs in, and print the prompt.

    Args:
        config: the path of the configuration.

    Returns:
        The exit code: 0 if ``verify`` decides, 1 to refuse at once.
    """
    return _run(config, _challenge)


def verify(config: str) -> int:
    """
    Check the code on standard input.

    Args:
        config: the path of the configuration.

    Returns:
        The exit code: 0 lets in, 1 refuses.
    """
    return _run(config, _verify)


def _challenge(exchange: Exchange) -> int:
    prompt = exchange.challenge()
    if prompt:
        os.write(1, prompt.encode() + b"\n")
    return LETS_IN if prompt else REFUSES


def _verify(exchange: Exchange) -> int:
    return LETS_IN if exchange.verify(_typed()) else REFUSES


def _typed() -> bytes | None:
    """Return what PAM passes on; None if it has not asked: without ``expose_authtok``, standard input is /dev/null."""
    if not stat.S_ISFIFO(os.fstat(0).st_mode):
        return None
    typed = b""
    while len(typed) <= _TYPED_LIMIT_BYTES and (part := os.read(0, _TYPED_LIMIT_BYTES + 1)):
        typed += part
    return typed.rstrip(b"\0\r\n")


def _run(config: str, half: Callable[[Exchange], int]) -> int:
    try:
        harden()
        if os.geteuid() != 0:
            raise RightsError("PAM has to run this as root: add seteuid to the line of pam_exec.so")
        login = pam_login(os.environ, os.getppid())
    except NoLoginError as error:
        complain(UsageError(f"{error}; see docs/codes.md"))
        return UsageError.exit_code
    except (SshbellError, OSError) as error:
        complain(error if isinstance(error, SshbellError) else RightsError(str(error)))
        return RightsError.exit_code
    return _guarded(config, login, half)


def _guarded(config: str, login: PamLogin, half: Callable[[Exchange], int]) -> int:
    fault = ""
    try:
        settings = settings_of(config)
        store = CodeStore(codes_dir_of(settings.state_dir))
        return half(Exchange(settings, login, store))
    except StoreError as error:
        fault = str(error)
    except Exception as error:  # noqa: BLE001 - the outermost; its text is left out, because a code could be in it
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        place = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else "?"
        fault = f"a fault of sshbell itself: {type(error).__name__} at {place}; please report it"
    log_lines.write(log_lines.not_delivered(login.asker, fault))
    log_lines.write(log_lines.refused(login.asker, "not sent"))
    return REFUSES
