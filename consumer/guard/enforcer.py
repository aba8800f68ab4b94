"""Writes what is blocked for pam_access, TCP wrappers and nftables, and runs the commands for changes."""

import asyncio
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import msgspec

from consumer.block.access_conf import Groups, access_conf
from consumer.block.commands import filled_command, split_command
from consumer.block.hosts_deny import patterns
from consumer.block.nftables import changes, no_table, whole_table
from consumer.block.target import Target, target_of, user_target
from consumer.clock import now_us
from consumer.config import Blocking
from consumer.errors import StoreError
from consumer.guard.ledger import NOTHING_BLOCKED, BlockState
from consumer.process.command import run_command, system_path
from consumer.process.log import get_logger
from consumer.process.threads import Threads
from consumer.stamp import Stamp
from consumer.store.block import Blocks

# For one call of nft: a whole table of 20,000 elements takes a second or two.
NFT_LIMIT_S = 30.0
# For one command of pam_abl's kind. No login waits for it, but the next command does.
BLOCK_COMMAND_LIMIT_S = 10.0
_RETRY_S = 30.0
_OUTPUT_LIMIT = 1 << 16
_log = get_logger()
_encode = msgspec.json.Encoder().encode


def write_atomically(path: Path, data: bytes) -> None:
    """
    Replace a file, so that a reader sees the old or the new content, and let everybody read it.

    This does not sync the disk, which may take longer than a guesser needs: guard writes the file anew at each start.

    Raises:
        OSError: it cannot be written.
    """
    new = path.with_name(f".{path.name}.new")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(new, flags, 0o644)
    try:
        os.fchmod(descriptor, 0o644)
        left = data
        while left:
            left = left[os.write(descriptor, left) :]
    finally:
        os.close(descriptor)
    new.rename(path)


def _stamp_of(path: Path, text: bytes) -> Stamp | None:
    """Return the stamp of a file that has just been written; None if somebody has changed or deleted it since."""
    stamp = Stamp.of(path)
    try:
        return stamp if path.read_bytes() == text else None
    except OSError:
        return None


class AccessFiles:
    """
    The file for pam_access, and the lists for TCP wrappers.

    Args:
        settings: ``[block]``.
    """

    def __init__(self, settings: Blocking) -> None:
        self._path = Path(settings.access_file)
        self._with_lists = settings.hosts_deny
        self._groups = Groups()
        self._written: dict[Path, tuple[bytes, Stamp | None]] = {}

    def write(self, wanted: BlockState) -> str:
        """Write the files whose content changes, or that somebody else has changed; return the fault, or ""."""
        users = {user: blocked.exceptions for user, blocked in wanted.users.items()}
        texts = {self._path: access_conf(wanted.outer, users, wanted.allowed, self._groups)}
        if self._with_lists:
            texts[self._path.with_name("hosts.deny")] = patterns(wanted.outer)
            texts[self._path.with_name("hosts.allow")] = patterns(wanted.allowed)
        return self.put_back(texts)

    def _put(self, path: Path, text: bytes) -> None:
        known = self._written.pop(path, None)
        if known is None or known[1] is None or known != (text, Stamp.of(path)):
            write_atomically(path, text)
            known = (text, _stamp_of(path, text))
        self._written[path] = known

    def content(self) -> dict[Path, bytes]:
        """Return the files as they are; without those that cannot be read."""
        found = {}
        for path in (self._path, *(self._path.with_name(name) for name in ("hosts.deny", "hosts.allow") if self._with_lists)):
            with suppress(OSError):
                found[path] = path.read_bytes()
        return found

    def put_back(self, content: Mapping[Path, bytes]) -> str:
        """Write the files as they were; return the fault, or ""."""
        for path, text in content.items():
            try:
                self._put(path, text)
            except OSError as error:
                return f"{path}: {error.strerror}"
        return ""

    def have_changed(self) -> bool:
        """Return whether somebody else has changed or deleted a file."""
        return any(stamp is None or Stamp.of(path) != stamp for path, (_, stamp) in self._written.items())


class Nftables:
    """
    The sets in the kernel, which a task keeps as they should be.

    Args:
        uid: run nft as this user; None for ours.
    """

    def __init__(self, uid: int | None) -> None:
        self._uid = uid
        self._threads = Threads()
        self._changed = asyncio.Event()
        self._wanted, self._ports = NOTHING_BLOCKED, [0]
        self.fault = ""

    def want(self, wanted: BlockState, ports: list[int]) -> None:
        """Set what the kernel should have; without ports, no table at all."""
        self._wanted, self._ports = wanted, ports
        self._changed.set()

    async def keep(self) -> None:
        """Keep the kernel's sets as they are wanted, for ever."""
        done: tuple[BlockState, list[int]] | None = None
        while True:
            await self._changed.wait()
            self._changed.clear()
            wanted, ports = self._wanted, self._ports
            is_done = await self._change(done, wanted, ports)
            done = (wanted, ports) if is_done else None
            if not is_done:
                await asyncio.sleep(_RETRY_S)
                self._changed.set()

    async def _change(self, done: tuple[BlockState, list[int]] | None, wanted: BlockState, ports: list[int]) -> bool:
        if not ports:
            return (done is not None and not done[1]) or await self._run(no_table())
        if done is not None and done[1] == ports and done[0].allowed == wanted.allowed:
            commands = changes(done[0].networks, wanted.networks, now_us())
            if commands is None or await self._run(commands, is_last_try=False):
                return True
        return await self._run(whole_table(wanted.networks, wanted.allowed, ports, now_us()))

    async def _run(self, commands: Mapping[str, object], *, is_last_try: bool = True) -> bool:
        done = await self._threads.run(lambda: run_command(
            ["nft", "-j", "-f", "-"], limit_s=NFT_LIMIT_S, output_limit=_OUTPUT_LIMIT, with_errors=True,
            stdin=_encode(commands), env={"PATH": system_path()}, uid=self._uid,
        ))  # fmt: skip
        if done.fault and is_last_try:
            said = done.errors.decode("utf-8", "replace").partition("\n")[0]
            fault = f"nft: {done.fault}{f' ({said})' if said else ''}"
            if fault != self.fault:
                _log.error("nftables_failed", reason=fault)
            self.fault = fault
        elif not done.fault:
            self.fault = ""
        return not done.fault


class BlockCommands:
    """
    Runs the commands for changes, one after the other, in the order of the changes. ``block.db`` has those that are done.

    Args:
        uid: run them as this user; None for ours.
        report: gets the fault of the store.
    """

    def __init__(self, uid: int | None, report: Callable[[StoreError], None]) -> None:
        self._uid, self._report = uid, report
        self._threads = Threads()
        self._changed = asyncio.Event()
        self._wanted = NOTHING_BLOCKED
        self._settings = Blocking()
        self._blocks: Blocks | None = None

    def want(self, wanted: BlockState, settings: Blocking, blocks: Blocks) -> None:
        """Set what is blocked now."""
        self._wanted, self._settings, self._blocks = wanted, settings, blocks
        self._changed.set()

    async def keep(self) -> None:
        """Run a command for each change, for ever."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            if self._blocks is None:
                continue
            try:
                while (step := self._next(self._blocks)) is not None:
                    target, service, is_blocked = step
                    # If guard is killed meanwhile, the command for a block may be lost, but the one for its end never is: nobody
                    # stays blocked by a command for ever.
                    if is_blocked:
                        self._blocks.set_commanded(target.text, service)
                    await self._command(target, service, is_blocked=is_blocked)
                    if not is_blocked:
                        self._blocks.set_commanded(target.text, None)
            except StoreError as error:
                self._report(error)

    def _next(self, blocks: Blocks) -> tuple[Target, str, bool] | None:
        """Return the next target whose command is due, its service, and whether it is blocked now."""
        settings, wanted = self._settings, self._wanted
        commanded = blocks.commanded()
        if not commanded and not settings.has_commands:
            return None
        now = dict.fromkeys((*wanted.networks, *map(user_target, wanted.users)))
        texts = {target.text for target in now}
        for text, service in commanded.items():
            if text not in texts:
                return target_of(text), service, False
        for target in now if settings.has_commands else ():
            if target.text not in commanded:
                return target, wanted.services.get(target, "sshd"), True
        return None

    async def _command(self, target: Target, service: str, *, is_blocked: bool) -> None:
        kind = "host" if target.version else "user"
        text: str = getattr(self._settings, f"{kind}_{'block' if is_blocked else 'clear'}_cmd")
        if not text:
            return
        host = target.text if target.version else ""
        command = filled_command(split_command(text), {"%h": host, "%u": target.user, "%s": service})
        done = await self._threads.run(lambda: run_command(
            command, limit_s=BLOCK_COMMAND_LIMIT_S, output_limit=_OUTPUT_LIMIT, env={"PATH": system_path()}, uid=self._uid,
        ))  # fmt: skip
        if done.fault:
            _log.error("block_command_failed", command=command, target=target.text, reason=done.fault)
