"""The children of ``run``: it restarts ``deliver`` as often as necessary, and starts ``keys`` once, while it is root."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from consumer.process.log import get_logger

log = get_logger()

# The pause before deliver is restarted: the first, and the longest. It doubles each time.
_RESTART_S, _RESTART_LIMIT_S = 1.0, 60.0
# Questions that wait until keys accepts them.
_BACKLOG = 128


def _started(
    module: str, arguments: list[str], theirs: socket.socket, env: Mapping[str, str] | None
) -> "subprocess.Popen[bytes]":
    """
    Start a module of sshbell with only one socket: without descriptor 0, replies and lock.

    Raises:
        OSError: it cannot be started.
    """
    # Do not import from the current directory: its owner could put modules there, and keys runs as root.
    flags = ["-I"] if sys.flags.isolated else ["-P"]
    return subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, *flags, "-m", module, *arguments],
        stdin=subprocess.DEVNULL, stdout=2, pass_fds=(theirs.fileno(),), process_group=0, env=env,
    )  # fmt: skip


class DeliverChild:
    """Starts ``sshbell deliver`` and keeps it running. It ends when its socket closes."""

    def __init__(self, config_path: str | None) -> None:
        self._config_path = config_path
        self._child: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._wait_s = _RESTART_S
        self._next_s = 0.0
        self._begun_s = 0.0
        self.tend()

    def tend(self) -> None:
        """Start it if it is not running and its pause is over."""
        now_s = time.monotonic()
        if self._child is not None:
            code = self._child.poll()
            if code is None:
                if now_s - self._begun_s > _RESTART_LIMIT_S:
                    self._wait_s = _RESTART_S
                return
            log.error("deliver_ended", code=code, again_in_s=self._wait_s)
            self._child = None
            self._next_s = now_s + self._wait_s
            self._wait_s = min(2 * self._wait_s, _RESTART_LIMIT_S)
        if now_s < self._next_s:
            return
        if self._socket is not None:
            self._socket.close()
        ours, theirs = socket.socketpair()
        ours.settimeout(0)
        arguments = ["deliver", "--wake", str(theirs.fileno())]
        if self._config_path is not None:
            arguments += ["--config", self._config_path]
        try:
            self._child = _started("consumer", arguments, theirs, None)
        except OSError as error:
            log.error("deliver_not_started", reason=error.strerror)
            self._next_s = now_s + self._wait_s
            ours.close()
        else:
            self._socket = ours
            self._begun_s = now_s
        theirs.close()

    def wake(self) -> None:
        """Announce new messages in the outbox; if that fails, ``deliver`` finds them itself within a second."""
        if self._socket is not None:
            with suppress(OSError):
                self._socket.send(b"\0")

    def hang_up(self) -> None:
        """Make it read the configuration again."""
        if self._child is not None:
            self._child.send_signal(signal.SIGHUP)

    def let_go(self) -> None:
        """Close the socket: it ends by itself, after the messages that it is sending."""
        if self._socket is not None:
            self._socket.close()


class KeysChild:
    """
    Starts ``consumer.keys.process``, which keeps a right that ``run`` gives up: to become other users. It ends when its socket
    closes.

    Args:
        uid: the user that it answers, besides root.
    """

    def __init__(self, uid: int) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self._is_gone = False
        self._socket, theirs = socket.socketpair()
        # Pass on nothing of rsyslogd's environment that may be secret.
        env = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "TZ") if name in os.environ}
        # It cannot be restarted, so a signal to the whole unit must not kill it before it ignores signals itself.
        before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT)}
        try:
            self._child = _started("consumer.keys.process", [str(theirs.fileno()), str(uid)], theirs, env)
        except OSError as error:
            log.error("keys_not_started", reason=error.strerror)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        theirs.close()

    def listen(self, path: Path) -> None:
        """Give it a socket under a path, since it has no right to write there itself. Only the holder of the lock may do this."""
        with socket.socket(socket.AF_UNIX) as listener:
            try:
                path.unlink(missing_ok=True)
                listener.bind(str(path))
                path.chmod(0o600)
                listener.listen(_BACKLOG)
                socket.send_fds(self._socket, [b"\0"], [listener.fileno()])
            except OSError as error:
                log.error("keys_not_listening", path=str(path), reason=str(error))

    def has_ended(self) -> bool:
        """Return whether it has ended, and log that once."""
        if self._is_gone:
            return True
        code = self._child.poll() if self._child is not None else 0
        if code is not None:
            self._is_gone = True
            log.error("keys_ended", code=code, reason="sshbell cannot name the owners of keys")
        return self._is_gone

    def let_go(self) -> None:
        """Close the socket: it ends by itself."""
        self._socket.close()
