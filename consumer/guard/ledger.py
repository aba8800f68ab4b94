"""What is blocked now: the entries of ``block.db`` in memory, without those that have ended, and the allow list."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from consumer.block.access_conf import EXCEPTIONS_LIMIT, can_name
from consumer.block.target import Target, covering, is_too_wide, network_target, outermost, target_of, user_target
from consumer.errors import UsageError
from consumer.guard.messages import Check, Order, Reply
from consumer.process.log import get_logger
from consumer.store.block import BLOCK_LIMIT, SHORTEN_AFTER, AllowedRow, BlockRow, Blocks

_log = get_logger()


class BlockedUser(NamedTuple):
    """A blocked user, from where this user may still log in, and whether only other machines have decided that."""

    until_us: int
    exceptions: tuple[Target, ...]
    is_imported: bool = True


class BlockState(NamedTuple):
    """
    What is to be blocked now.

    Attributes:
        outer: addresses and networks in order, none within another one.
        ends: of these, and perhaps of some within them, in microseconds since 1970.
        users: by name; only those that pam_access can name.
        allowed: the allow list, none within another one.
        services: of all targets, for ``%s`` of commands.
    """

    outer: list[Target]
    ends: dict[Target, int]
    users: dict[str, BlockedUser]
    allowed: list[Target]
    services: dict[Target, str]

    @property
    def networks(self) -> dict[Target, int]:
        """The addresses and networks with their ends."""
        return {target: self.ends[target] for target in self.outer}


NOTHING_BLOCKED = BlockState([], {}, {}, [], {})


class Ledger:
    """
    The entries of ``block.db``.

    Attributes:
        next_end_us: when the next entry ends; None if there is none.

    Each method raises a StoreError if the file cannot be read or written; then nothing has changed.

    Args:
        state_dir: its directory.
        now_us: the wall clock.
    """

    def __init__(self, state_dir: Path, now_us: int) -> None:
        self.blocks = Blocks(state_dir)
        # New entries since the last look at how many have ended: so many may have ended before this start.
        self._new_count = SHORTEN_AFTER
        try:
            self.allowed: list[AllowedRow] = self.blocks.allowed()
            self._load(now_us)
        except BaseException:
            self.blocks.close()
            raise

    def _load(self, now_us: int) -> None:
        self._entries = {row.id: (row, target_of(row.target)) for row in self.blocks.active(now_us)}
        self._compute()

    def _compute(self) -> None:
        """Work out what is blocked from all entries."""
        self._allowed = outermost(network_target(row.target) for row in self.allowed)
        self._ends: dict[Target, int] = {}
        self._services: dict[Target, str] = {}
        self._users: dict[str, BlockedUser] = {}
        self.next_end_us: int | None = None
        for row, target in self._entries.values():
            self._count(row, target)
        # Addresses and networks, none within another one.
        self._outer = [target for target in outermost(self._ends) if covering(target, self._allowed) is None]

    def _count(self, row: BlockRow, target: Target) -> None:
        self.next_end_us = row.until_us if self.next_end_us is None else min(self.next_end_us, row.until_us)
        self._services[target] = row.service
        if target.version:
            self._ends[target] = max(row.until_us, self._ends.get(target, 0))
        elif can_name(target.user):
            known, is_imported = self._users.get(target.user, BlockedUser(0, ())), bool(row.imported)
            # Who writes the lists to import may name whom to block, but must not open what this machine blocks.
            froms = dict.fromkeys(known.exceptions if is_imported or not known.is_imported else ())
            if not is_imported or known.is_imported:
                froms |= dict.fromkeys(map(network_target, row.exceptions))
            until_us, is_imported = max(row.until_us, known.until_us), is_imported and known.is_imported
            self._users[target.user] = BlockedUser(until_us, tuple(froms)[:EXCEPTIONS_LIMIT], is_imported)

    def order(self, orders: Iterable[Order], now_us: int, *, are_imported: bool = False) -> int:
        """Add entries; return how many are new. This reports and skips invalid orders."""
        rows = []
        for order in orders:
            try:
                rows.append(_row_of(order, now_us, imported=int(are_imported)))
            except ValueError as error:
                _log.error("not_blocked", id=order.id, target=order.target, reason=str(error))
        new = self.blocks.add(row for row in rows if row.until_us > now_us)
        for row in new:
            target = target_of(row.target)
            self._entries[row.id] = row, target
            self._count(row, target)
            if target.version and covering(target, self._allowed) is None:
                self._insert(target)
        self._new_count += len(new)
        is_full = len(self._entries) > BLOCK_LIMIT
        if is_full or self._new_count > SHORTEN_AFTER:
            self._new_count = 0
            if gone := self.blocks.shorten(now_us):
                _log.error("blocks_forgotten", count=gone, reason=f"there are more than {BLOCK_LIMIT:,}; the oldest have gone")
            if gone or is_full:
                self._load(now_us)
        return len(new)

    def _insert(self, target: Target) -> None:
        """Add an address or a network to those that are blocked: to work out all of them would take too long for one."""
        if covering(target, self._outer) is None:
            at = bisect_left(self._outer, target)
            end = at
            while end < len(self._outer) and target.covers(self._outer[end]):
                end += 1
            self._outer[at:end] = [target]

    def lift(self, targets: Iterable[str], now_us: int) -> int:
        """Remove the entries of these targets; return how many targets were blocked."""
        texts = set(targets)
        count = self.blocks.remove(texts, now_us)
        self._entries = {key: entry for key, entry in self._entries.items() if entry[0].target not in texts}
        self._compute()
        return count

    def purge(self, now_us: int) -> int:
        """Forget the entries that have ended; return how many."""
        self.end(now_us)
        return self.blocks.forget(now_us)

    def end(self, now_us: int) -> None:
        """Drop the entries that have ended from memory."""
        self._entries = {key: entry for key, entry in self._entries.items() if entry[0].until_us > now_us}
        self._compute()

    def allow(self, rows: Sequence[AllowedRow]) -> bool:
        """Replace the allow list; return whether that is a change."""
        found = sorted(rows, key=lambda row: (row.source, row.target))
        if found == self.allowed:
            return False
        self.blocks.set_allowed(found)
        self.allowed = found
        self._compute()
        return True

    def wanted(self) -> BlockState:
        """Return what is to be blocked now."""
        # Each block waits for this: with 20,000 targets, the file for pam_access does not need them as a table.
        return BlockState(list(self._outer), dict(self._ends), dict(self._users), self._allowed, self._services)

    def allowed_by(self, text: str) -> str:
        """Return why a target is never blocked; "" if it may be, or is none."""
        try:
            target = target_of(text)
        except ValueError:
            return ""
        return _allowed_by(target, self.allowed)

    def check(self, asked: Check) -> Reply:
        """Do the same as ``check_of``, with these entries; if no network applies, without a look at each."""
        entries: Iterable[tuple[BlockRow, Target]] = self._entries.values()
        with suppress(ValueError):
            if covering(network_target(asked.address), self._outer) is None:
                entries = [entry for entry in entries if not entry[1].version] if self._users else []
        return check_of(entries, self.allowed, asked)


def check_of(entries: Iterable[tuple[BlockRow, Target]], allowed: Iterable[AllowedRow], asked: Check) -> Reply:
    """
    Return which of some entries apply to an address, to a user, or to a user from an address.

    Raises:
        UsageError: there is no such address or user.
    """
    try:
        address = network_target(asked.address) if asked.address else None
        user = user_target(asked.user) if asked.user else None
    except ValueError as error:
        raise UsageError(str(error)) from error
    if address is not None and (reason := _allowed_by(address, allowed)):
        return Reply(allowed=reason)
    applying = []
    for row, target in entries:
        applies = address is not None and target.covers(address) if target.version else target == user and can_name(target.user)
        if applies:
            applying.append((row, target))
    # pam_access gets one line for a user, so an exception of one order counts for all of them: see ``Ledger``.
    of_user = [row for row, target in applying if not target.version]
    own = [row for row in of_user if not row.imported] or of_user
    is_known = address is not None and any(network_target(text).covers(address) for row in own for text in row.exceptions)
    found: list[dict[str, str | int]] = [
        {"id": row.id, "target": row.target, "until_us": row.until_us, "reason": row.reason}
        for row, target in applying
        if target.version or not is_known
    ]
    return Reply(count=len(found), blocks=found)


def _allowed_by(target: Target, allowed: Iterable[AllowedRow]) -> str:
    for row in allowed:
        if network_target(row.target).covers(target):
            return f"{row.source}: {row.target}{f' ({row.reason})' if row.reason else ''}"
    return ""


def _row_of(order: Order, now_us: int, imported: int) -> BlockRow:
    """Return an order as an entry. Raises a ValueError if it is invalid."""
    target = target_of(order.target)
    if is_too_wide(target):
        raise ValueError(f"{target.text} holds a large part of the world")
    exceptions = [network_target(text).text for text in order.exceptions]
    return BlockRow(order.id, target.text, now_us, order.until_us, order.reason, order.service, exceptions, None, imported)
