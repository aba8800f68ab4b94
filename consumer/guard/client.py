"""
Asks ``guard`` to block, or whether something is blocked. If no guard is running, a command does what it can by itself.

``sshbell block check`` asks in its own, lighter way: the types of the messages take longer to load than the answer.
"""

import os
import socket
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import msgspec

from consumer.clock import now_us
from consumer.config import NO_BLOCKING, Config
from consumer.errors import RightsError, StoreError, TryLaterError
from consumer.guard.allowed import answers
from consumer.guard.enforcer import AccessFiles
from consumer.guard.ledger import NOTHING_BLOCKED, Ledger, check_of
from consumer.guard.messages import MESSAGE_LIMIT, ORDERS_LIMIT, Check, Lift, Order, Purge, Reply, Request
from consumer.process.lock import GUARD_LOCK, Lock
from consumer.process.privileges import as_sshbell
from consumer.state_dir import DEFAULT_PATH, GUARD_SOCKET
from consumer.store.block import BlockReader

# For one answer; guard takes less, or gives none.
GUARD_LIMIT_S = 10.0
_encode = msgspec.json.Encoder().encode
_reply = msgspec.json.Decoder(Reply)


class OrderQueue:
    """
    Orders on their way to ``guard``. ``run`` never waits for it: what the socket does not take stays here for the next try.

    Attributes:
        limit: how many orders may wait; beyond it, the oldest go.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._orders: list[Order] = []

    def __len__(self) -> int:
        return len(self._orders)

    def put(self, orders: Iterable[Order]) -> None:
        """Add orders."""
        self._orders += orders
        del self._orders[: -self.limit]

    def send(self, to: socket.socket) -> None:
        """
        Send as many orders as a non-blocking socket takes.

        Raises:
            OSError: the other end has gone.
        """
        while self._orders:
            some = self._orders[:ORDERS_LIMIT]
            while len(message := _encode(some)) > MESSAGE_LIMIT:
                some = some[: len(some) // 2]
            try:
                to.send(message)
            except BlockingIOError:
                return
            del self._orders[: len(some)]


def connected(state_dir: Path) -> socket.socket | None:
    """Return a connection to ``guard``, which takes commands only from root; None if it is not running."""
    asking = socket.socket(socket.AF_UNIX)
    asking.settimeout(GUARD_LIMIT_S)
    try:
        asking.connect(str(state_dir / GUARD_SOCKET))
    except OSError:
        asking.close()
        return None
    return asking


def ask(guard: socket.socket, request: Request) -> Reply:
    """
    Return the answer to a command.

    Raises:
        TryLaterError: guard does not answer, or cannot do this.
    """
    with closing(guard):
        try:
            guard.sendall(_encode(request) + b"\n")
            said = b""
            while not said.endswith(b"\n") and (block := guard.recv(MESSAGE_LIMIT)):
                said += block
            reply = _reply.decode(said)
        except (OSError, msgspec.MsgspecError) as error:
            raise TryLaterError(f"guard does not answer: {error}; see its log, /var/log/sshbell.err") from error
    if reply.fault:
        raise TryLaterError(reply.fault)
    return reply


def done_without_guard(config: Config, config_path: str | None, request: Lift | Purge) -> Reply:
    """
    Do what a command asks for while no guard is running: change the store, and write the file for pam_access.

    Raises:
        RightsError: only root and sshbell's user may do this.
        StoreError: the store is damaged or busy.
    """
    as_sshbell(config)
    lock = Lock(Path(config.state_dir) / GUARD_LOCK)
    try:
        if not lock.take():
            raise StoreError(f"another process holds {config.state_dir}/{GUARD_LOCK}; try again")
        ledger = Ledger(Path(config.state_dir), now_us())
        with closing(ledger.blocks):
            count = ledger.lift(request.targets, now_us()) if isinstance(request, Lift) else ledger.purge(now_us())
            ledger.allow(answers(config.block.allow, ledger.allowed, now_us(), lambda _text: None, may_wait=False))
            is_on = config.block.mode == "on" and not os.path.lexists(Path(config_path or DEFAULT_PATH).with_name(NO_BLOCKING))
            wanted = ledger.wanted() if is_on else NOTHING_BLOCKED
            fault = AccessFiles(config.block).write(wanted) if Path(config.block.access_file).parent.is_dir() else ""
    finally:
        lock.close()
    if fault:
        raise RightsError(fault)
    return Reply(count, is_enforcing=is_on)


def checked_without_guard(config: Config, request: Check) -> Reply:
    """
    Return what ``guard`` would answer. Without it, nothing keeps the blocks up to date, but pam_access goes on with its file.

    Raises:
        StoreError: the store cannot be read.
        UsageError: there is no such address or user.
    """
    reader, now = BlockReader(Path(config.state_dir)), now_us()
    rows = [row for row in reader.entries() if row.until_us > now and row.removed_us is None]
    return msgspec.structs.replace(check_of(rows, reader.allowed(), request), is_enforcing=config.block.mode == "on")
