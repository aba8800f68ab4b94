"""
The process ``guard``, the only one that blocks: orders come from ``run`` through a socket, and commands through another one.

    run, "sshbell block" ─▶ Guard ─▶ Ledger: block.db ─▶ BlockState ─▶ AccessFiles, Nftables, BlockCommands

It acts as sshbell's user, and keeps exactly the rights that ``[block]`` needs: none for the file of pam_access, CAP_NET_ADMIN for
nftables, and root in reserve only if there are commands to run. It ends when its socket to ``run`` closes. It ignores all signals
but 9 and HUP; the latter makes it read the configuration again.

A damaged ``block.db`` stays where it is: then sshbell blocks nothing new, and what is blocked stays blocked.
"""

import asyncio
import gc
import os
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import TypeVar

import msgspec

from consumer.clock import now_us
from consumer.config import NO_BLOCKING, Config
from consumer.config_file import load, reloaded
from consumer.errors import ConfigError, DamagedStoreError, SshbellError, StoreError
from consumer.guard.allowed import answers
from consumer.guard.enforcer import AccessFiles, BlockCommands, Nftables
from consumer.guard.ledger import NOTHING_BLOCKED, Ledger
from consumer.guard.messages import MESSAGE_LIMIT, Check, GuardRequest, Import, Lift, Order, Purge, Reply
from consumer.process.lock import GUARD_LOCK, locked
from consumer.process.log import configure, get_logger
from consumer.process.privileges import CAP_NET_ADMIN, account_of, act_as, become, become_with, end_with_parent
from consumer.process.threads import Threads
from consumer.stamp import Stamp
from consumer.state_dir import DEFAULT_PATH, GUARD_SOCKET
from consumer.store.block import BLOCK_LIMIT, AllowedRow

# How often the sources of the allow list are asked. Files are read again as soon as they change.
ALLOWED_S = 300.0
# A command and its answer.
REQUEST_LIMIT_S = 5.0
_LOCK_POLL_S, _TICK_S = 0.05, 1.0
# A store that cannot be opened is tried again, in case somebody has repaired it or moved it away.
_REOPEN_S = 60.0
_PEER = struct.Struct("3i")  # SO_PEERCRED: pid, uid, gid
_T = TypeVar("_T")

_log = get_logger()
_orders = msgspec.json.Decoder(list[msgspec.Raw])
_order = msgspec.json.Decoder(Order)
_request = msgspec.json.Decoder(GuardRequest)
_encode = msgspec.json.Encoder().encode


class Guard:
    """
    Blocks what ``run`` and root ask for.

    Args:
        config: the settings.
        config_path: as in ``consumer.config_file.load``.
        uid: run programs as this user; None for ours.
    """

    def __init__(self, config: Config, config_path: str | None, uid: int | None) -> None:
        self._config, self._config_path = config, config_path
        self._panic = Path(config_path or DEFAULT_PATH).with_name(NO_BLOCKING)
        self._state_dir = Path(config.state_dir)
        self._files = AccessFiles(config.block)
        self._nftables, self._commands = Nftables(uid), BlockCommands(uid, self._store_failed)
        self._ledger: Ledger | None = None
        self._is_enforcing: bool | None = None  # not known before the start
        self._fault = ""  # of the store or of the files: reported once
        self._reopen_s = 0.0
        # The files before the panic file emptied them, while the store cannot be read.
        self._kept: dict[Path, bytes] = {}
        # Orders that could not be stored yet.
        self._waiting: list[Order] = []
        self._allow_threads = Threads()
        self._allow_changed = asyncio.Event()
        self._allow_stamps: list[Stamp | None] = []
        self._notes: dict[str, str] = {}

    async def serve(self, life: socket.socket) -> None:
        """Block until the other end of ``life`` is closed."""
        loop, over = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(life, self._feed, life, over)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        if not await self._may_begin(over):
            return
        path = self._state_dir / GUARD_SOCKET
        path.unlink(missing_ok=True)
        server = await asyncio.start_unix_server(self._client, path=str(path), limit=MESSAGE_LIMIT)
        tasks = [asyncio.create_task(each) for each in (self._nftables.keep(), self._commands.keep(), self._keep_allowed())]
        gc.collect()
        gc.freeze()
        async with server:
            self._open()
            _log.info("guarding", pid=os.getpid(), mode=self._config.block.mode)
            while not over.is_set():
                self._tick()
                with suppress(TimeoutError):
                    async with asyncio.timeout(_TICK_S):
                        await over.wait()
            for task in tasks:
                task.cancel()
        # Do not wait for programs or name servers that hang.
        os._exit(0)

    async def _may_begin(self, over: asyncio.Event) -> bool:
        """Wait until others have released the lock, and the disk has room for it; return whether this process is still needed."""
        complaint = ""
        while not over.is_set():
            try:
                self._lock = locked(self._state_dir / GUARD_LOCK)
            except StoreError as error:
                if str(error) != complaint:
                    complaint = str(error)
                    _log.warning("waiting", reason=complaint)
                with suppress(TimeoutError):
                    async with asyncio.timeout(_LOCK_POLL_S):
                        await over.wait()
            else:
                return True
        return False

    # ---------------------------------------------------------------- orders and commands

    def _feed(self, life: socket.socket, over: asyncio.Event) -> None:
        """Take all orders that have come, and write the result once; or note that ``run`` has ended."""
        came = False
        while True:
            try:
                message = life.recv(MESSAGE_LIMIT)
            except BlockingIOError:
                break
            except OSError:
                message = b""
            if not message:
                asyncio.get_running_loop().remove_reader(life)
                over.set()
                break
            try:
                orders = _orders.decode(message)
            except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
                orders = []
                _log.error("not_blocked", reason=f"run has sent an invalid message: {error}")
            for order in orders:
                # One that makes no sense does not take the others with it.
                try:
                    self._waiting.append(_order.decode(order))
                    came = True
                except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
                    _log.error("not_blocked", reason=f"run has sent an invalid order: {error}")
        if came and self._ledger is not None:
            self._take()
            self._enforce()

    def _take(self) -> None:
        """Store the orders that wait. Beyond the limit, the oldest go, as they would from the store."""
        del self._waiting[:-BLOCK_LIMIT]
        if self._waiting and self._with_ledger(lambda ledger: ledger.order(self._waiting, now_us())) is not None:
            self._waiting.clear()

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one command of root."""
        try:
            peer = writer.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
            _pid, uid, _gid = _PEER.unpack(peer)
            if uid != 0:
                _log.error("not_answered", reason="only root may ask", uid=uid)
                return
            async with asyncio.timeout(REQUEST_LIMIT_S):
                writer.write(_encode(self._answer(_request.decode(await reader.readuntil(b"\n")))) + b"\n")
                await writer.drain()
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError, msgspec.MsgspecError, RecursionError) as error:
            _log.warning("not_answered", reason=type(error).__name__)
        finally:
            writer.close()

    def _answer(self, request: GuardRequest) -> Reply:
        if self._ledger is None:
            return Reply(fault=self._fault or "guard has only just started; try again")
        now, left_out = now_us(), 0
        try:
            match request:
                case Check():
                    return msgspec.structs.replace(self._ledger.check(request), is_enforcing=self._may_enforce())
                case Order() if allowed := self._ledger.allowed_by(request.target):
                    return Reply(allowed=allowed)
                case Order():
                    count = self._ledger.order([request], now)
                case Import():
                    orders = [order for order in request.orders if not self._ledger.allowed_by(order.target)]
                    count, left_out = self._ledger.order(orders, now, are_imported=True), len(request.orders) - len(orders)
                case Lift():
                    count = self._ledger.lift(request.targets, now)
                case Purge():
                    count = self._ledger.purge(now)
                    self._files = AccessFiles(self._config.block)
        except StoreError as error:
            self._store_failed(error)
            return Reply(fault=str(error))
        except SshbellError as error:
            return Reply(fault=str(error))
        return Reply(count, fault=self._enforce(), is_enforcing=self._may_enforce(), left_out=left_out)

    # ---------------------------------------------------------------- the store

    def _open(self) -> None:
        """Open the store, with the last good answers of the allow list."""
        try:
            self._ledger = Ledger(self._state_dir, now_us())
        except StoreError as error:
            self._reopen_s = time.monotonic() + (_REOPEN_S if isinstance(error, DamagedStoreError) else _TICK_S)
            self._store_failed(error)
            return
        self._fault = ""
        # Names and commands may take long; until they have answered, their last good answers count.
        rows = answers(self._config.block.allow, self._ledger.allowed, now_us(), lambda _text: None, may_wait=False)
        self._with_ledger(lambda ledger: ledger.allow(rows))
        self._enforce()
        self._allow_changed.set()

    def _store_failed(self, error: StoreError) -> None:
        """Report a fault once. With a damaged store, sshbell blocks nothing new, and forgets nothing."""
        if isinstance(error, DamagedStoreError) and self._ledger is not None:
            self._ledger.blocks.close()
            self._ledger = None
            self._reopen_s = time.monotonic() + _REOPEN_S
        if str(error) != self._fault:
            advice = "sshbell blocks nothing new, and what is blocked stays blocked; move the file away to begin anew"
            _log.error("block_store_failed", reason=f"{error}{f'; {advice}' if isinstance(error, DamagedStoreError) else ''}")
        self._fault = str(error)

    def _with_ledger(self, action: Callable[[Ledger], _T]) -> _T | None:
        """Return the result of an action; None if there is no store, or it fails."""
        if self._ledger is None:
            return None
        try:
            return action(self._ledger)
        except StoreError as error:
            self._store_failed(error)
            return None

    # ---------------------------------------------------------------- what is enforced

    def _may_enforce(self) -> bool:
        return self._config.block.mode == "on" and not os.path.lexists(self._panic)

    def _enforce(self) -> str:
        """Bring files, kernel and commands up to date; return the fault of the files, or ""."""
        self._is_enforcing, was_enforcing = self._may_enforce(), self._is_enforcing
        if self._is_enforcing != was_enforcing and was_enforcing is not None:
            _log.warning("blocking_changed", is_on=self._is_enforcing, panic_file=str(self._panic))
        if self._ledger is None:
            # Nobody knows what is blocked, but the panic file works.
            if not self._is_enforcing:
                self._kept = self._kept or self._files.content()
                return self._files.write(NOTHING_BLOCKED)
            kept, self._kept = self._kept, {}
            return self._files.put_back(kept)
        wanted = NOTHING_BLOCKED
        if self._is_enforcing:
            wanted = self._ledger.wanted()
        fault = self._files.write(wanted)
        if fault and fault != self._notes.get("files"):
            _log.error("not_written", reason=fault)
        if ports := self._config.block.nftables:
            self._nftables.want(wanted, ports)
        self._commands.want(wanted, self._config.block, self._ledger.blocks)
        self._note(files=fault)
        return fault

    def _tick(self) -> None:
        """Look once a second: at entries that have ended, the panic file, files that others have changed, the allow list."""
        if self._ledger is None and time.monotonic() >= self._reopen_s:
            self._open()
        ledger, is_due = self._ledger, self._may_enforce() != self._is_enforcing or self._files.have_changed()
        if ledger is not None:
            end_us = ledger.next_end_us
            if end_us is not None and end_us <= now_us():
                ledger.end(now_us())
                is_due = True
            is_due |= bool(self._waiting) or bool(self._notes.get("files"))
            self._take()
        if is_due:
            self._enforce()
        if self._allow_stamps != self._stamps():
            self._allow_changed.set()
        self._note(nftables=self._nftables.fault)

    def _note(self, **texts: str) -> None:
        """Store what ``sshbell status`` shows, if it has changed."""
        found = texts | {"enforcing": "yes" if self._is_enforcing else "no"}
        if not found.items() <= self._notes.items() and self._ledger is not None:
            self._with_ledger(lambda ledger: ledger.blocks.set_notes(found))
            self._notes |= found

    # ---------------------------------------------------------------- the allow list, and the configuration

    async def _keep_allowed(self) -> None:
        """Ask the sources of the allow list again and again, for ever."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(ALLOWED_S):
                    await self._allow_changed.wait()
            self._allow_changed.clear()
            if self._ledger is None:
                continue
            self._allow_stamps = self._stamps()
            sources, before = self._config.block.allow, self._ledger.allowed
            faults: list[str] = []
            rows = await self._allow_threads.run(answers, sources, before, now_us(), faults.append)
            self._set_allowed(rows, faults)

    def _set_allowed(self, rows: list[AllowedRow], faults: list[str]) -> None:
        for text in faults:
            if text not in self._notes.get("allow", ""):
                _log.error("allow_list_failed", reason=text)
        if self._with_ledger(lambda ledger: ledger.allow(rows)):
            self._enforce()
        self._note(allow="; ".join(faults))

    def _stamps(self) -> list[Stamp | None]:
        return [Stamp.of(allow.file) for allow in self._config.block.allow if allow.file]

    def _reload(self) -> None:
        """Read the configuration again; refuse a broken one, and keep the old one."""
        try:
            config = reloaded(self._config_path, self._config)
        except ConfigError as error:
            _log.error("configuration_refused", reason=f"{error}; guard keeps the old one")
            return
        if config.block.needs_rights and not self._config.block.needs_rights and os.geteuid() != 0:
            _log.warning("restart_needed", reason="guard gets the rights for nftables and commands at the next start of rsyslog")
        before, self._config = self._config.block, config
        if (config.block.access_file, config.block.hosts_deny) != (before.access_file, before.hosts_deny):
            self._files.write(NOTHING_BLOCKED)
            self._files = AccessFiles(config.block)
        if before.nftables and not config.block.nftables:
            self._nftables.want(NOTHING_BLOCKED, [])
        self._allow_changed.set()
        self._enforce()


# -------------------------------------------------------------------- the process


def _take_rights(config: Config) -> int | None:
    """Become sshbell's user with the least rights that are needed; return the uid for programs, None for our own."""
    if os.geteuid() != 0 or config.user in {"", "root"}:
        become(config.user)
        return None
    account = account_of(config.user)
    if config.block.needs_rights and config.block.has_commands:
        act_as(account)
        return 0
    become_with(account, (CAP_NET_ADMIN,) if config.block.needs_rights else ())
    return None


def main(life_fd: int, config_path: str | None) -> None:
    """
    Run the process ``guard``.

    Args:
        life_fd: a socket to ``run``, which sends orders; if it closes, this ends.
        config_path: as in ``consumer.config_file.load``.
    """
    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    configure()
    os.chdir("/")
    os.umask(0o077)
    try:
        config = load(config_path)
        uid = _take_rights(config)
    except ConfigError as error:
        _log.error("guard_not_started", reason=str(error))
        sys.exit(error.exit_code)
    end_with_parent(signal.SIGKILL)
    with closing(socket.socket(fileno=life_fd)) as life:
        life.set_inheritable(False)
        life.settimeout(0)
        asyncio.run(Guard(config, config_path, uid).serve(life))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None)
