"""Changes or checks the blocks for a command while no guard is running."""

import os
from contextlib import closing
from pathlib import Path

import msgspec

from consumer.block.target import target_of
from consumer.clock import now_us
from consumer.config import NO_BLOCKING, Config
from consumer.errors import RightsError
from consumer.guard.allowed import answers
from consumer.guard.enforcer import AccessFiles
from consumer.guard.entries import entries_of
from consumer.guard.ledger import NOTHING_BLOCKED, Ledger, check_of
from consumer.guard.messages import Check, Lift, Purge, Reply
from consumer.process.lock import GUARD_LOCK, locked
from consumer.process.privileges import as_sshbell
from consumer.state_dir import DEFAULT_PATH
from consumer.store.block import StoredBlocks
from consumer.store.lifting import lift_blocks


def done_without_guard(config: Config, config_path: str | None, request: Lift | Purge) -> Reply:
    """
    Do what a command asks for while no guard is running: change the store, and write the file for pam_access.

    With workers, the hosts learn from the list of blocks what was lifted.

    Raises:
        RightsError: only root and sshbell's user may do this.
        StoreError: the store is damaged or busy.
    """
    as_sshbell(config)
    if config.worker.brokers and isinstance(request, Lift):
        return Reply(_lifted_of_workers(config, set(request.targets), now_us()))
    with closing(locked(Path(config.state_dir) / GUARD_LOCK)):
        ledger = Ledger(Path(config.state_dir), now_us())
        with closing(ledger.blocks):
            count = ledger.lift(request.targets, now_us()) if isinstance(request, Lift) else ledger.purge(now_us())
            ledger.allow(answers(config.block.allow, ledger.allowed, now_us(), lambda _text: None, may_wait=False))
            is_on = config.block.mode == "on" and not os.path.lexists(Path(config_path or DEFAULT_PATH).with_name(NO_BLOCKING))
            wanted = ledger.wanted() if is_on else NOTHING_BLOCKED
            fault = AccessFiles(config.block).write(wanted) if Path(config.block.access_file).parent.is_dir() else ""
    if fault:
        raise RightsError(fault)
    return Reply(count, is_enforcing=is_on)


def _lifted_of_workers(config: Config, targets: set[str], now: int) -> int:
    """Lift what the workers have decided to block; return how many targets were blocked."""
    rows = [row for row in entries_of(config) if row.target in targets and row.until_us > now and row.removed_us is None]
    lift_blocks(config.store, [row.id for row in rows], now)
    return len({row.target for row in rows})


def checked_without_guard(config: Config, request: Check) -> Reply:
    """
    Return what ``guard`` would answer. Without it, nothing keeps the blocks up to date, but pam_access goes on with its file.

    Raises:
        StoreError: the store cannot be read.
        UsageError: there is no such address or user.
    """
    reader, now = StoredBlocks(Path(config.state_dir)), now_us()
    rows = [(row, target_of(row.target)) for row in entries_of(config) if row.until_us > now and row.removed_us is None]
    return msgspec.structs.replace(check_of(rows, reader.allowed(), request), is_enforcing=config.block.mode == "on")
