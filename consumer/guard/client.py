"""
Asks ``guard`` to block, or whether something is blocked. If no guard is running, a command does what it can by itself.

``sshbell block check`` asks in its own, lighter way: the types of the messages take longer to load than the answer.
"""

import socket
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path

import msgspec

from consumer.addresses import ip_of
from consumer.block.access_conf import EXCEPTIONS_LIMIT, can_name
from consumer.block.target import USER_PREFIX
from consumer.clock import SECOND_US
from consumer.config import Blocking
from consumer.errors import StoreError, TryLaterError
from consumer.events import Block
from consumer.guard.messages import MESSAGE_LIMIT, ORDERS_LIMIT, GuardRequest, Order, Reply
from consumer.spans import seconds_of
from consumer.state_dir import GUARD_SOCKET
from consumer.store.earlier_logins import EarlierLogins

# For one answer; guard takes less, or gives none.
GUARD_LIMIT_S = 10.0
# Messages of one call: to look up the exceptions of many users takes time, and lines wait meanwhile.
_MESSAGES_AT_ONCE = 20
_encode = msgspec.json.Encoder().encode
_reply = msgspec.json.Decoder(Reply)


class OrderQueue:
    """
    Blocks on their way to ``guard``. ``run`` never waits for it: what the socket does not take stays here for the next try.

    Args:
        limit: how many blocks may wait; beyond it, the oldest go.
        order_of: makes the order for a block, right before it is sent; this may read the store.
    """

    def __init__(self, limit: int, order_of: Callable[[Block], Order]) -> None:
        self._limit, self._order_of = limit, order_of
        self._blocks: list[Block] = []

    def __len__(self) -> int:
        return len(self._blocks)

    def put(self, blocks: Iterable[Block]) -> None:
        """Add blocks."""
        self._blocks += blocks
        del self._blocks[: -self._limit]

    def clear(self) -> None:
        """Forget all blocks."""
        self._blocks.clear()

    def send(self, to: socket.socket) -> None:
        """
        Send some messages, as many as a non-blocking socket takes.

        Raises:
            OSError: the other end has gone.
        """
        for _ in range(_MESSAGES_AT_ONCE):
            some = self._blocks[:ORDERS_LIMIT]
            if not some:
                return
            message = _encode([self._order_of(block) for block in some])
            while len(message) > MESSAGE_LIMIT:
                some = some[: len(some) // 2]
                message = _encode([self._order_of(block) for block in some])
            try:
                to.send(message)
            except BlockingIOError:
                return
            del self._blocks[: len(some)]


def known_addresses(earlier: EarlierLogins, user: str, now_us: int, known_us: int, *, is_verified: bool) -> list[str]:
    """
    Return the addresses from which a user has logged in lately; a block of the user leaves those out.

    Args:
        earlier: the logins.
        user: the name.
        now_us: the wall clock.
        known_us: how long a login counts.
        is_verified: only logins that no local user can have forged.
    """
    try:
        logins = earlier.of(user, now_us - known_us, now_us + 1, is_verified=is_verified)
    except (StoreError, ValueError):
        return []  # without the store, no address is known
    addresses = {str(address) for login in logins if (address := ip_of(login.address)) is not None}
    return sorted(addresses)[:EXCEPTIONS_LIMIT]


def order_of(block: Block, earlier: EarlierLogins, settings: Blocking, now_us: int) -> Order:
    """Return the order for a block. A block of a user leaves out the addresses of earlier logins, for which it asks the store."""
    target, exceptions = block.target, list[str]()
    if block.is_user:
        target = f"{USER_PREFIX}{block.target}"
        known_us = round(seconds_of(settings.known_for)) * SECOND_US
        if can_name(block.target):
            exceptions = known_addresses(earlier, block.target, now_us, known_us, is_verified=True)
    reason = f"finding {block.finding_id[:12]}{f', block number {block.step + 1}' if block.step else ''}"
    return Order(block.id, target, block.until_us, reason, "sshd", exceptions)


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


def ask(guard: socket.socket, request: GuardRequest) -> Reply:
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
