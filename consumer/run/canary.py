"""``sshbell canary``: makes a failed login through sshd on loopback, and waits until the store has it."""

import os
import secrets
import shutil
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from consumer.clock import now_us
from consumer.config import Config
from consumer.errors import InputError, StoreError, TryLaterError, UnavailableError
from consumer.process.command import run_command
from consumer.process.lock import RUN_LOCK, Lock, holder_of
from consumer.run.announcement import announce, forget_announcement
from consumer.store.queries import has_canary
from consumer.story.canaries import CANARY_PREFIX

_LOCK = "canary.lock"
_POLL_S = 0.1
_OUTPUT_LIMIT = 16 * 1024
# The event's time is the log's, in whole seconds for some formats.
_BEFORE_US = 60 * 1_000_000
_LOST = "its lines did not reach the store"
# What ssh(1) prints when sshd has refused all methods: what is meant to happen.
_REFUSED = "Permission denied"
# The name is not on the command line, where every local user could read it.
_SSH_CONFIG = """\
Host canary
HostName 127.0.0.1
Port {port}
User {user}
PreferredAuthentications none
BatchMode yes
IdentityAgent none
ForwardAgent no
ForwardX11 no
ControlMaster no
ControlPath none
StrictHostKeyChecking no
UserKnownHostsFile /dev/null
GlobalKnownHostsFile /dev/null
UpdateHostKeys no
ConnectTimeout {limit_s}
LogLevel ERROR
"""


def sent_canary(config: Config, port: int, limit_s: float) -> float:
    """
    Make the login, and return after how many seconds the store had it. Call it as sshbell's user.

    Args:
        config: has the state directory.
        port: of sshd on 127.0.0.1.
        limit_s: seconds for everything.

    Raises:
        InputError: there is no ssh.
        UnavailableError: ``run`` or sshd does not answer, or the login did not arrive in time.
        TryLaterError: another canary is on its way.
        StoreError: the state directory cannot be used.
    """
    begun_s = time.monotonic()
    state_dir = Path(config.state_dir)
    program = shutil.which("ssh")
    if program is None:
        raise InputError("there is no ssh to log in with; on Debian and Ubuntu: apt install openssh-client")
    _want_run(state_dir)
    with closing(Lock(state_dir / _LOCK)) as lock:
        if not lock.take():
            raise TryLaterError("another canary is on its way; wait for it")
        token = secrets.token_hex(16)
        user = f"{CANARY_PREFIX}{token}"

        def wait(condition: Callable[[], bool], what: str) -> None:
            while not condition():
                if time.monotonic() - begun_s > limit_s:
                    raise UnavailableError(f"{what} within {limit_s:g} s")
                time.sleep(_POLL_S)

        try:
            announcement = announce(state_dir, token)
            wait(lambda: not announcement.exists(), "sshbell run did not take the announcement")
        except OSError as error:
            raise StoreError(f"{state_dir}: {error.strerror}") from error
        finally:
            forget_announcement(state_dir)
        _log_in(program, user, port, max(1.0, limit_s - (time.monotonic() - begun_s)))
        since_us = now_us() - _BEFORE_US
        wait(lambda: has_canary(state_dir, user, since_us), f"sshd refused the login, but {_LOST}")
    return time.monotonic() - begun_s


def _want_run(state_dir: Path) -> None:
    """
    Check that ``run`` is running.

    Raises:
        UnavailableError: it is not.
    """
    try:
        is_running = holder_of(state_dir / RUN_LOCK).is_running
    except OSError:
        is_running = False
    if is_running is False:
        raise UnavailableError("sshbell run is not running; rsyslogd starts it: restart rsyslog")


def _log_in(program: str, user: str, port: int, limit_s: float) -> None:
    """
    Let ssh try to log in.

    Raises:
        UnavailableError: sshd did not get as far as refusing the user.
    """
    text = _SSH_CONFIG.format(port=port, user=user, limit_s=max(1, int(limit_s)))
    done = run_command(
        [program, "-F", "/dev/stdin", "-T", "canary"], limit_s=limit_s, output_limit=_OUTPUT_LIMIT, with_errors=True,
        stdin=text.encode(), env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
    )  # fmt: skip
    errors = done.errors.decode("utf-8", "backslashreplace").strip()
    if _REFUSED not in errors:
        reason = errors.rpartition("\n")[2] or done.fault or "ssh was let in"
        raise UnavailableError(f"sshd on 127.0.0.1 port {port} did not get as far as refusing the canary: {reason}")
