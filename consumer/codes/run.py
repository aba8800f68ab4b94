"""
``sshbell pam challenge`` and ``sshbell pam verify``, as pam_exec runs them: standard output and the exit code are what PAM gets.

Whatever goes wrong, PAM gets a failure and refuses. Nothing here prints what the user typed.
"""

import os
from collections.abc import Callable
from contextlib import closing

from consumer.codes import log_lines
from consumer.codes.pam_login import NoLoginError, PamLogin, pam_login
from consumer.codes.settings import Settings, settings_of
from consumer.errors import RightsError, SshbellError, StoreError, UsageError, complain
from consumer.process.core_files import forbid_core
from consumer.state_dir import codes_dir_of
from consumer.store.codes import CodeStore

LETS_IN, REFUSES = 0, 1
_Half = Callable[[Settings, PamLogin, CodeStore], int]
# PAM_MAX_RESP_SIZE of Linux-PAM; a code is much shorter.
_TYPED_LIMIT_BYTES = 512
# Nothing is started; if a library ever does, it finds the system's own programs.
_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


def challenge(config: str) -> int:
    """
    Have a code sent to the user who logs in, and print the prompt.

    Args:
        config: the path of the configuration.

    Returns:
        The exit code: 0 if ``verify`` decides, 1 to refuse at once.
    """
    from consumer.codes.challenge import Challenger  # noqa: PLC0415 - verify does not need it, and a login waits

    def half(settings: Settings, login: PamLogin, store: CodeStore) -> int:
        prompt = Challenger(settings, login, store).prompt()
        if prompt:
            os.write(1, prompt.encode() + b"\n")
        return LETS_IN if prompt else REFUSES

    return _run(config, half)


def verify(config: str) -> int:
    """
    Check the code on standard input.

    Args:
        config: the path of the configuration.

    Returns:
        The exit code: 0 lets in, 1 refuses.
    """
    from consumer.codes.verify import Verifier  # noqa: PLC0415 - as above

    def half(settings: Settings, login: PamLogin, store: CodeStore) -> int:
        return LETS_IN if Verifier(settings.codes, login, store).is_right(_typed()) else REFUSES

    return _run(config, half)


def _typed() -> bytes:
    """Return what PAM passes on; b"" without ``expose_authtok``, where standard input is an empty pipe."""
    typed = b""
    while len(typed) <= _TYPED_LIMIT_BYTES and (part := os.read(0, _TYPED_LIMIT_BYTES + 1)):
        typed += part
    return typed.rstrip(b"\0\r\n")


def _harden() -> None:
    """Keep codes out of core files and other processes, and forget the environment but what PAM and sshd say of the login."""
    forbid_core()
    os.umask(0o077)
    os.chdir("/")
    for name in list(os.environ):
        if not name.startswith("PAM_") and name != "SSH_AUTH_INFO_0":
            del os.environ[name]
    os.environ["PATH"] = _PATH


def _run(config: str, half: _Half) -> int:
    try:
        _harden()
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


def _guarded(config: str, login: PamLogin, half: _Half) -> int:
    fault = ""
    try:
        settings = settings_of(config)
        with closing(CodeStore(codes_dir_of(settings.state_dir))) as store:
            return half(settings, login, store)
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
