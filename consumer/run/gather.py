"""
Gathers the events of all shards into one ``run``, which detects, stores and delivers for all of them.

    run --shard 0 ─┐
    run --shard 1 ─┼─▶ Gather ─▶ journal ─▶ pipeline: detect ─▶ store ─▶ deliver
    run --shard 2 ─┘

A batch of events is in the journal before the pipeline takes it. So a crash counts no event twice, and loses none.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from consumer.errors import StoreError
from consumer.events_as_msgpack import EventBatch
from consumer.process.log import get_logger
from consumer.records import Pair
from consumer.state_dir import GATHER_SOCKET, shards_in
from consumer.store.shard_queue import ShardQueue, TakenUpTo

log = get_logger()

# Events of one batch. A login waits for one such batch of each shard at most.
_BATCH = 500


class Gather:
    """
    Reads the queues of all shards.

    Args:
        state_dir: the directory below which the shards have theirs.
        taken: up to where the events of each shard are taken; this changes it.

    Attributes:
        fd: readable when a shard has new events.
    """

    def __init__(self, state_dir: Path, taken: dict[int, TakenUpTo]) -> None:
        self._state_dir = state_dir
        self.taken = taken
        self._queues: dict[int, ShardQueue] = {}
        self._complaints: dict[int, str] = {}
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(0)
        self.fd = self._socket.fileno()
        path = state_dir / GATHER_SOCKET
        try:
            path.unlink(missing_ok=True)
            self._socket.bind(str(path))
            path.chmod(0o600)
        except OSError as error:
            log.error("gather_not_listening", path=str(path), reason=f"{error}; sshbell looks once a second")

    def hear(self) -> None:
        """Empty the socket."""
        with suppress(OSError):
            while self._socket.recv(16):
                pass

    def batches(self) -> Iterator[EventBatch]:
        """Yield the next batch of each shard. Each is taken once the caller asks for the next one."""
        for number, queue in self._found().items():
            try:
                queued = queue.since(self.taken.get(number, TakenUpTo()), _BATCH)
            except StoreError as error:
                if str(error) != self._complaints.get(number):
                    log.error("shard_not_read", shard=number, reason=str(error))
                self._complaints[number] = str(error)
                continue
            self._complaints.pop(number, None)
            if queued is not None:
                yield EventBatch(number, *queued.upto, queued.bodies)
                self.taken[number] = queued.upto

    def senders(self) -> list[Pair]:
        """Return the pairs of host and address that the shards have stored since the last call."""
        pairs: list[Pair] = []
        for queue in self._found().values():
            with suppress(StoreError):  # ``batches`` reports it
                pairs += queue.senders()
        return pairs

    def _found(self) -> dict[int, ShardQueue]:
        for number, folder in shards_in(self._state_dir).items():
            if number not in self._queues:
                self._queues[number] = ShardQueue(folder)
        return self._queues


class Bell:
    """
    Wakes the ``run`` that gathers. If that fails, it finds new events itself within a second.

    Args:
        state_dir: as for ``Gather``.
    """

    def __init__(self, state_dir: Path) -> None:
        self._path = os.fspath(state_dir / GATHER_SOCKET)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(0)

    def ring(self) -> None:
        """Announce new events."""
        with suppress(OSError):
            self._socket.sendto(b"\0", self._path)
