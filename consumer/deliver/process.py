"""The process ``sshbell deliver``: its lock, its signals, the socket to ``sshbell run``, and the one for one-time codes."""

import asyncio
import gc
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path

from consumer.config import Config
from consumer.config_file import reloaded
from consumer.deliver.code_socket import CodeSocket
from consumer.deliver.codes import CodeSender
from consumer.deliver.dispatcher import Dispatcher
from consumer.deliver.rendering import Renderer
from consumer.errors import ConfigError, StoreError, TryLaterError
from consumer.people.people import People
from consumer.process.core_files import forbid_core
from consumer.process.lock import DELIVER_LOCK, Lock
from consumer.process.log import get_logger
from consumer.state_dir import DEFAULT_PATH, DELIVER_SOCKET
from consumer.store.deliveries import delivery_of, outbox_of
from consumer.store.delivery import Delivery

_LOCK_POLL_S = 0.1
# Polling, in case the byte from `run` gets lost.
_POLL_S = 1.0
_log = get_logger()


def renderer_of(config_path: str | None) -> Renderer:
    """Return the renderer, with the user's own templates from beside the configuration."""
    own = Path(config_path or DEFAULT_PATH).parent / "templates"
    return Renderer(own, lambda fault: _log.error("template_broken", reason=fault))


def opened(config: Config) -> Delivery:
    """Open ``delivery.db``, or its tables in PostgreSQL."""
    return delivery_of(config.store, lambda what: _log.error("store_damaged", reason=what))


async def serve(config: Config, config_path: str | None, wake: socket.socket | None) -> None:
    """
    Deliver until the other end of ``wake`` closes or, without it, until TERM or INT.

    Raises:
        TryLaterError: without ``wake``, if another process delivers.
        StoreError: ``delivery.db`` cannot be opened.
    """
    forbid_core()
    loop = asyncio.get_running_loop()
    ended, terminated, changed = asyncio.Event(), asyncio.Event(), asyncio.Event()
    loop.add_signal_handler(signal.SIGHUP, changed.set)
    for number in (signal.SIGTERM, signal.SIGINT):
        # With a parent, only its end stops this process: systemd sends signals to the whole unit.
        loop.add_signal_handler(number, partial(_terminate, terminated, ended if wake is None else None))
    with closing(Lock(Path(config.state_dir) / DELIVER_LOCK)) as lock:
        if not await _locked(lock, wake, ended):
            return
        found = await _opened(config, wake, ended)
        if found is None:
            return
        with closing(found) as delivery, closing(outbox_of(config.store, delivery)) as outbox:
            renderer = renderer_of(config_path)
            dispatcher = Dispatcher(config, delivery, outbox, renderer, people=_people_of(config, People()))
            codes = CodeSender(config, dispatcher.people, renderer, dispatcher.enricher)
            code_socket = CodeSocket(Path(config.state_dir) / DELIVER_SOCKET, codes)
            await code_socket.open()
            if wake is not None:
                loop.add_reader(wake, _woken, wake, dispatcher, ended)
            # Loaded modules stay, and a collection that visited all of them would delay a message.
            gc.collect()
            gc.freeze()
            _log.info("delivering", channels=[channel.name for channel in config.channel], pid=os.getpid())
            while not ended.is_set():
                if changed.is_set():
                    changed.clear()
                    config = _reconfigured(config, config_path, dispatcher, codes)
                dispatcher.poll()
                with suppress(TimeoutError):
                    async with asyncio.timeout(_POLL_S):
                        await ended.wait()
            if wake is not None:
                loop.remove_reader(wake)
            code_socket.close()
            codes.close()
            await dispatcher.stop(terminated)
    _log.info("ended")


async def _opened(config: Config, wake: socket.socket | None, ended: asyncio.Event) -> Delivery | None:
    """
    Open the store of deliveries. In PostgreSQL, wait until no other ``deliver`` has its lock; None if ``ended`` comes first.

    Raises:
        StoreError: ``delivery.db`` cannot be opened.
    """
    complaint = ""
    with _watched(wake, ended):
        while not ended.is_set():
            try:
                return opened(config)
            except StoreError as error:
                if isinstance(config.store, Path):
                    raise
                if str(error) != complaint:
                    complaint = str(error)
                    _log.warning("waiting", reason=complaint)
            with suppress(TimeoutError):
                async with asyncio.timeout(_POLL_S):
                    await ended.wait()
    return None


@contextmanager
def _watched(wake: socket.socket | None, ended: asyncio.Event) -> Iterator[None]:
    """Set ``ended`` when the parent ends."""
    loop = asyncio.get_running_loop()
    if wake is not None:
        loop.add_reader(wake, _woken, wake, None, ended)
    try:
        yield
    finally:
        if wake is not None:
            loop.remove_reader(wake)


def _people_of(config: Config, before: People) -> People:
    """Return the owners; those known before if the file is broken. A broken file costs names, but no message."""
    try:
        return People.load(config.people)
    except ConfigError as error:
        _log.error("people_refused", reason=f"{error}; sshbell keeps the {len(before.persons)} people that it knew before")
        return before


async def _locked(lock: Lock, wake: socket.socket | None, ended: asyncio.Event) -> bool:
    """Wait until the predecessor has ended; return whether this process is still needed."""
    if lock.take():
        return True
    if wake is None:
        raise TryLaterError("another sshbell deliver is running, and sends the messages")
    _log.warning("waiting", reason="another sshbell deliver has not ended yet")
    with _watched(wake, ended):
        while not ended.is_set():
            if lock.take():
                return True
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOCK_POLL_S):
                    await ended.wait()
    return False


def _terminate(terminated: asyncio.Event, ended: asyncio.Event | None) -> None:
    """Handle TERM or INT: end now, or without ``ended`` as soon as ``run`` has ended."""
    terminated.set()
    if ended is None:
        _log.info("signal_ignored", reason="sshbell deliver stops when sshbell run ends")
    else:
        ended.set()


def _woken(wake: socket.socket, dispatcher: Dispatcher | None, ended: asyncio.Event) -> None:
    """Handle a byte, which announces messages in the outbox, or the end of the parent."""
    try:
        received = wake.recv(4096)
    except BlockingIOError:
        return
    except OSError:
        received = b""
    if not received:
        asyncio.get_running_loop().remove_reader(wake)
        ended.set()
    elif dispatcher is not None:
        dispatcher.route()


def _reconfigured(config: Config, path: str | None, dispatcher: Dispatcher, codes: CodeSender) -> Config:
    """Read the configuration again; refuse a broken one, and keep the old one."""
    try:
        found = reloaded(path, config)
    except ConfigError as error:
        _log.error("configuration_refused", reason=f"{error}; sshbell keeps the old one")
        return config
    dispatcher.configure(found, _people_of(found, dispatcher.people))
    codes.configure(found, dispatcher.people)
    _log.info("configured", channels=[channel.name for channel in found.channel])
    return found
