"""
The children of ``run``. It restarts ``deliver`` as often as necessary, and starts ``keys`` once, while it is root.

It restarts ``guard``, too, unless that needs rights that only root can give.

A shard has none of them. The first shard has one child: the ``run`` that gathers the events of all shards, and that has them.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from consumer.clock import now_us
from consumer.config import Config
from consumer.errors import StoreError
from consumer.events import Block
from consumer.guard.client import OrderQueue, order_of
from consumer.guard.messages import Order
from consumer.process.log import get_logger
from consumer.run.gather import Bell
from consumer.store.block import BLOCK_LIMIT
from consumer.store.earlier_logins import EarlierLogins

log = get_logger()

# The pause before a child is restarted: the first, and the longest. It doubles each time.
_RESTART_S, _RESTART_LIMIT_S = 1.0, 60.0
# Questions that wait until keys accepts them.
_BACKLOG = 128


def _started(
    module: str,
    arguments: list[str],
    theirs: socket.socket,
    env: Mapping[str, str] | None,
    *,
    ignores_signals: bool = False,
    is_input: bool = False,
) -> "subprocess.Popen[bytes]":
    """
    Start a module of sshbell with only one socket: without descriptor 0, replies and lock.

    Args:
        module: to run.
        arguments: of the module.
        theirs: the socket.
        env: the whole environment; None for ours.
        ignores_signals: a signal to the whole unit does not kill the child before it ignores signals itself.
        is_input: the socket is the child's standard input.

    Raises:
        OSError: it cannot be started.
    """
    if ignores_signals:
        before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT)}
        try:
            return _started(module, arguments, theirs, env, is_input=is_input)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
    # Do not import from the current directory: its owner could put modules there, and keys runs as root.
    flags = ["-I"] if sys.flags.isolated else ["-P"]
    return subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, *flags, "-m", module, *arguments],
        stdin=theirs.fileno() if is_input else subprocess.DEVNULL, stdout=2, pass_fds=() if is_input else (theirs.fileno(),),
        process_group=0, env=env,
    )  # fmt: skip


def _environment() -> dict[str, str]:
    """Return what a child with rights gets of rsyslogd's environment: nothing that may be secret."""
    return {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "TZ") if name in os.environ}


class _Restarted:
    """
    A child that ``run`` starts again after a pause, and the socket that ends it when it closes.

    Attributes:
        socket: our end; None if the last start failed.
        pause_s: the pause after the last end, in seconds; 0 if the child has run for long since.
    """

    def __init__(self) -> None:
        self.socket: socket.socket | None = None
        self.pause_s = 0.0
        self._process: subprocess.Popen[bytes] | None = None
        self._next_s = self._begun_s = 0.0

    @property
    def is_started(self) -> bool:
        """Whether it runs, as far as ``ended`` has noticed."""
        return self._process is not None

    @property
    def is_alive(self) -> bool:
        """Whether it runs now."""
        return self._process is not None and self._process.poll() is None

    @property
    def is_due(self) -> bool:
        """Whether it is not running and its pause is over."""
        return self._process is None and time.monotonic() >= self._next_s

    def ended(self) -> int | None:
        """Return the exit code if it has ended since the last call; None if it has not."""
        if self._process is None:
            return None
        code, now_s = self._process.poll(), time.monotonic()
        if code is not None:
            self._process = None
            self.pause_s = self._longer_s()
            self._next_s = now_s + self.pause_s
        elif now_s - self._begun_s > _RESTART_LIMIT_S:
            self.pause_s = 0.0
        return code

    def _longer_s(self) -> float:
        return min(2 * self.pause_s, _RESTART_LIMIT_S) or _RESTART_S

    def start(
        self, start: Callable[[socket.socket], "subprocess.Popen[bytes]"], kind: socket.SocketKind = socket.SOCK_STREAM
    ) -> None:
        """
        Start it.

        Args:
            start: starts a process with the other end of the socket.
            kind: of the socket.

        Raises:
            OSError: it cannot be started.
        """
        self.let_go()
        ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
        ours.settimeout(0)
        try:
            self._process = start(theirs)
        except OSError:
            self._next_s = time.monotonic() + self._longer_s()
            ours.close()
            raise
        finally:
            theirs.close()
        self.socket, self._begun_s = ours, time.monotonic()

    def hang_up(self) -> None:
        """Make it read the configuration again."""
        if self._process is not None:
            self._process.send_signal(signal.SIGHUP)

    def let_go(self) -> None:
        """Close the socket: it ends by itself."""
        if self.socket is not None:
            self.socket.close()
            self.socket = None


def _config_option(path: str | None) -> list[str]:
    return [] if path is None else ["--config", path]


class DeliverChild:
    """Starts ``sshbell deliver`` and keeps it running. It ends when its socket closes."""

    def __init__(self, config_path: str | None) -> None:
        self._config_path = config_path
        self._child = _Restarted()
        self.tend()

    def tend(self) -> None:
        """Start it if it is not running and its pause is over."""
        if (code := self._child.ended()) is not None:
            log.error("deliver_ended", code=code, again_in_s=self._child.pause_s)
        if self._child.is_due:
            try:
                self._child.start(self._process)
            except OSError as error:
                log.error("deliver_not_started", reason=error.strerror)

    def _process(self, theirs: socket.socket) -> "subprocess.Popen[bytes]":
        arguments = ["deliver", "--wake", str(theirs.fileno()), *_config_option(self._config_path)]
        return _started("consumer", arguments, theirs, None)

    def wake(self) -> None:
        """Announce new messages in the outbox; if that fails, ``deliver`` finds them itself within a second."""
        if self._child.socket is not None:
            with suppress(OSError):
                self._child.socket.send(b"\0")

    def hang_up(self) -> None:
        """Make it read the configuration again."""
        self._child.hang_up()

    def let_go(self) -> None:
        """Close the socket: it ends by itself, after the messages that it is sending."""
        self._child.let_go()


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
        try:
            arguments = [str(theirs.fileno()), str(uid)]
            self._child = _started("consumer.keys.process", arguments, theirs, _environment(), ignores_signals=True)
        except OSError as error:
            log.error("keys_not_started", reason=error.strerror)
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


class GuardChild:
    """
    Starts ``consumer.guard.process``, which blocks, and sends it orders. It ends when its socket closes.

    Args:
        config: whether sshbell blocks, or has blocked.
        config_path: as in ``consumer.config_file.load``.
    """

    def __init__(self, config: Config, config_path: str | None) -> None:
        self._config, self._config_path = config, config_path
        self._child = _Restarted()
        self._has_rights = os.geteuid() == 0
        self._earlier = EarlierLogins(Path(config.state_dir))
        self._orders = OrderQueue(BLOCK_LIMIT, self._order_of)
        # It has just been started, and does not know the blocks that began while it was away.
        self._is_new = False
        if self._is_wanted():
            self._start()

    def _is_wanted(self) -> bool:
        # Once sshbell has blocked something, guard keeps the file empty after blocking is turned off.
        return self._config.block.mode == "on" or os.path.lexists(self._config.block.access_file)

    def has_ended(self) -> bool:
        """Return whether it has ended, and only a new ``run`` can start it with its rights."""
        return self._is_wanted() and self._has_rights and not self._child.is_alive and self._config.block.needs_rights

    def tend(self) -> None:
        """Start it if it is not running, its pause is over, and it needs no rights; send the orders that wait."""
        if (code := self._child.ended()) is not None:
            log.error("guard_ended", code=code, again_in_s=self._child.pause_s)
        is_possible = not (self._has_rights and self._config.block.needs_rights) or os.geteuid() == 0
        if self._child.is_due and is_possible and self._is_wanted():
            self._start()
        if self._is_new:
            self._catch_up()
        self._send()

    def _catch_up(self) -> None:
        """Send a new guard all blocks that have not ended: it may have missed some."""
        from consumer.store.queries import blocks_after  # noqa: PLC0415 - a run that does not block starts without it

        try:
            blocks = blocks_after(Path(self._config.state_dir), now_us(), BLOCK_LIMIT)
        except StoreError:
            return  # run has not written its store yet
        self._is_new = False
        self.order(blocks)

    def _start(self) -> None:
        try:
            self._child.start(self._process, socket.SOCK_SEQPACKET)
        except OSError as error:
            log.error("guard_not_started", reason=error.strerror)
        else:
            self._is_new = True
            self._orders.clear()

    def _process(self, theirs: socket.socket) -> "subprocess.Popen[bytes]":
        arguments = [str(theirs.fileno()), *([self._config_path] if self._config_path is not None else [])]
        return _started("consumer.guard.process", arguments, theirs, _environment(), ignores_signals=True)

    def order(self, blocks: Iterable[Block]) -> None:
        """Send orders to block; what it does not take at once follows later."""
        if self._config.block.mode == "on" and self._child.is_started:
            self._orders.put(block for block in blocks if not block.is_dry_run)
            self._send()

    def _order_of(self, block: Block) -> Order:
        return order_of(block, self._earlier, self._config.block, now_us())

    def _send(self) -> None:
        if self._child.socket is not None and self._orders:
            with suppress(OSError):  # it has ended; its successor gets all blocks that have not ended
                self._orders.send(self._child.socket)

    def hang_up(self, config: Config) -> None:
        """Use another configuration, and make it read that again."""
        self._config = config
        self._child.hang_up()
        self.tend()

    def let_go(self) -> None:
        """Close the socket: it ends by itself."""
        self._child.let_go()


class GatherChild:
    """
    Starts the ``run`` that gathers the events of all shards, and keeps it running. It ends at the end of its input.

    Only root can give it the rights for ``keys`` and ``guard``, so a later one lacks them.
    """

    def __init__(self, config_path: str | None) -> None:
        self._config_path = config_path
        self._child = _Restarted()
        self._had_rights = os.geteuid() == 0
        self._lacks_rights = False
        self._start()

    def tend(self) -> None:
        """Start it if it is not running and its pause is over."""
        if (code := self._child.ended()) is not None:
            log.error("gather_ended", code=code, again_in_s=self._child.pause_s)
        if self._child.is_due:
            self._start()
            self._lacks_rights = self._had_rights and os.geteuid() != 0

    def _start(self) -> None:
        try:
            self._child.start(self._process)
        except OSError as error:
            log.error("gather_not_started", reason=error.strerror)

    def _process(self, theirs: socket.socket) -> "subprocess.Popen[bytes]":
        arguments = ["run", "--plain", "--gather", *_config_option(self._config_path)]
        return _started("consumer", arguments, theirs, None, ignores_signals=True, is_input=True)

    def has_ended(self) -> bool:
        """Return whether the one that had the rights has ended, and only a new ``run`` of the shard can start it with them."""
        return self._lacks_rights

    def hang_up(self) -> None:
        """Make it read the configuration again."""
        self._child.hang_up()

    def let_go(self) -> None:
        """Close the socket, which ends its input."""
        self._child.let_go()


class OwnChildren:
    """
    The children of a ``run`` that is no shard.

    Args:
        config, config_path: as for ``GuardChild``.
        uid: as for ``KeysChild``.
    """

    def __init__(self, config: Config, config_path: str | None, uid: int) -> None:
        self._config_path = config_path
        self._keys = KeysChild(uid)
        self._guard = GuardChild(config, config_path)
        self._deliver: DeliverChild | None = None

    def listen(self, path: Path) -> None:
        """Let ``keys`` answer: see ``KeysChild.listen``."""
        self._keys.listen(path)

    def begin(self) -> None:
        """Start ``deliver``, after the store is open."""
        self._deliver = DeliverChild(self._config_path)

    def tend(self) -> None:
        """Start those that are not running and can be started."""
        if self._deliver is not None:
            self._deliver.tend()
        self._guard.tend()

    def wake(self) -> None:
        """Announce new messages in the outbox."""
        if self._deliver is not None:
            self._deliver.wake()

    def order(self, blocks: Iterable[Block]) -> None:
        """Send orders to block."""
        self._guard.order(blocks)

    def hang_up(self, config: Config) -> None:
        """Make them read the configuration again."""
        if self._deliver is not None:
            self._deliver.hang_up()
        self._guard.hang_up(config)

    def has_ended(self) -> bool:
        """Return whether one has ended that only root can start."""
        has_ended = self._keys.has_ended()
        return self._guard.has_ended() or has_ended

    def let_go(self) -> None:
        """Let them end."""
        if self._deliver is not None:
            self._deliver.let_go()
        self._keys.let_go()
        self._guard.let_go()


class ShardChildren:
    """
    What a shard has in place of ``OwnChildren``.

    Args:
        state_dir: of the ``run`` that gathers.
        gather: only of the first shard.
    """

    def __init__(self, state_dir: Path, gather: GatherChild | None) -> None:
        self._gather = gather
        self._bell = Bell(state_dir)

    def begin(self) -> None:
        """Do nothing: the child runs already."""

    def tend(self) -> None:
        """Start the ``run`` that gathers if it is not running."""
        if self._gather is not None:
            self._gather.tend()

    def wake(self) -> None:
        """Announce new events in the queue."""
        self._bell.ring()

    def order(self, blocks: Iterable[Block]) -> None:
        """Do nothing: the ``run`` that gathers blocks."""

    def hang_up(self, config: Config) -> None:  # noqa: ARG002 - as OwnChildren
        """Make the ``run`` that gathers read the configuration again."""
        if self._gather is not None:
            self._gather.hang_up()

    def has_ended(self) -> bool:
        """Return whether the ``run`` that gathers lacks rights that only root can give."""
        return self._gather is not None and self._gather.has_ended()

    def let_go(self) -> None:
        """End the ``run`` that gathers."""
        if self._gather is not None:
            self._gather.let_go()
