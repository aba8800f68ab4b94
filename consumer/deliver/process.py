"""The process ``sshbell deliver``: its lock, its signals, and the socket to ``sshbell run``."""

import asyncio
import gc
import os
import signal
import socket
from contextlib import closing, suppress
from pathlib import Path

import structlog

from consumer.config import DEFAULT_PATH, Config, load
from consumer.deliver.dispatcher import Dispatcher
from consumer.deliver.rendering import Renderer
from consumer.errors import ConfigError, TryLaterError
from consumer.people.people import People
from consumer.process.lock import Lock
from consumer.store.delivery import Delivery
from consumer.store.outbox import Outbox

_LOCK_POLL_S = 0.1
# The net under the byte that `run` writes.
_POLL_S = 1.0
# In the state directory: only who has it sends.
LOCK = "deliver.lock"
_log = structlog.get_logger()


def renderer_of(config_path: str | None) -> Renderer:
    """Return the renderer with the user's own templates, which are beside the configuration."""
    own = Path(config_path or DEFAULT_PATH).parent / "templates"
    return Renderer(own, lambda fault: _log.error("template_broken", reason=fault))


def opened(config: Config) -> Delivery:
    """Open ``delivery.db``."""
    return Delivery(Path(config.state_dir), lambda what: _log.error("store_damaged", reason=what))


async def serve(config: Config, config_path: str | None, wake: socket.socket | None) -> None:
    """
    Deliver until the other end of ``wake`` is closed or, without it, until TERM or INT.

    Raises:
        TryLaterError: without ``wake``: another process delivers.
        StoreError: ``delivery.db`` cannot be opened.
    """
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    changed = asyncio.Event()
    loop.add_signal_handler(signal.SIGHUP, changed.set)
    for number in (signal.SIGTERM, signal.SIGINT):
        # With a parent, its end is the only order to stop: systemd signals all of us.
        loop.add_signal_handler(number, ended.set if wake is None else _note)
    with closing(Lock(Path(config.state_dir) / LOCK)) as lock:
        if not await _locked(lock, wake, ended):
            return
        with closing(opened(config)) as delivery, closing(Outbox(Path(config.state_dir))) as outbox:
            dispatcher = Dispatcher(config, delivery, outbox, renderer_of(config_path), people=_people_of(config, People()))
            if wake is not None:
                loop.add_reader(wake, _woken, wake, dispatcher, ended)
            # What is loaded stays: a collection that walked through all of it would hold up a message.
            gc.collect()
            gc.freeze()
            _log.info("delivering", channels=[channel.name for channel in config.channel], pid=os.getpid())
            while not ended.is_set():
                if changed.is_set():
                    changed.clear()
                    config = _reconfigured(config, config_path, dispatcher)
                dispatcher.poll()
                with suppress(TimeoutError):
                    async with asyncio.timeout(_POLL_S):
                        await ended.wait()
            if wake is not None:
                loop.remove_reader(wake)
            await dispatcher.stop()
    _log.info("ended")


def _people_of(config: Config, before: People) -> People:
    """Return who owns what; who was known before, where the file is broken: that costs names, and no message."""
    try:
        return People.load(config.people)
    except ConfigError as error:
        _log.error("people_refused", reason=f"{error}; {len(before.persons)} people are known from before")
        return before


async def _locked(lock: Lock, wake: socket.socket | None, ended: asyncio.Event) -> bool:
    """Wait until a predecessor has ended; tell whether we are still wanted."""
    if lock.take():
        return True
    if wake is None:
        raise TryLaterError("another sshbell deliver is running; that one sends")
    _log.warning("waiting", reason="another sshbell deliver has not ended yet")
    loop = asyncio.get_running_loop()
    loop.add_reader(wake, _woken, wake, None, ended)
    try:
        while not ended.is_set():
            if lock.take():
                return True
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOCK_POLL_S):
                    await ended.wait()
    finally:
        loop.remove_reader(wake)
    return False


def _note() -> None:
    _log.info("signal_ignored", reason="the end of sshbell run is the order to stop")


def _woken(wake: socket.socket, dispatcher: Dispatcher | None, ended: asyncio.Event) -> None:
    """Something is in the outbox, or the parent has ended."""
    try:
        said = wake.recv(4096)
    except BlockingIOError:
        return
    except OSError:
        said = b""
    if not said:
        asyncio.get_running_loop().remove_reader(wake)
        ended.set()
    elif dispatcher is not None:
        dispatcher.route()


def _reconfigured(config: Config, path: str | None, dispatcher: Dispatcher) -> Config:
    """Read the configuration again; a broken one is refused, and the old one kept."""
    try:
        found = load(path)
        if found.state_dir != config.state_dir or found.user != config.user:
            raise ConfigError("state_dir and user take effect at the next start of sshbell only")  # noqa: TRY301
    except ConfigError as error:
        _log.error("configuration_refused", reason=f"{error}; the one before is kept")
        return config
    dispatcher.configure(found, _people_of(found, dispatcher.people))
    _log.info("configured", channels=[channel.name for channel in found.channel])
    return found
