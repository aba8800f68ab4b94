"""A test message through outbox, templates and channels."""

import asyncio
import secrets
import socket
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from consumer.actions import EventAction, OwnAction
from consumer.clock import isoformat, now_us
from consumer.config import Config
from consumer.deliver.channels import LIMIT_S, channel_of
from consumer.deliver.process import opened, renderer_of
from consumer.deliver.worker import Common, Worker
from consumer.ecs import EcsEvent, EventFields, HostFields, KeyFields, SourceFields, SshFields, UserFields, json_line
from consumer.enrich.enricher import Enricher
from consumer.errors import TryLaterError, UndeliveredError
from consumer.process.lock import DELIVER_LOCK, Lock
from consumer.process.log import silence
from consumer.spans import seconds_of
from consumer.store.deliveries import delivery_of
from consumer.store.delivery import Delivery

# A message that is being sent goes first, and each may take up to its limit.
_LIMIT_S = 2 * LIMIT_S + 5
_POLL_S = 0.05


async def ring_channels(config: Config, config_path: str | None, names: list[str], tell: Callable[[str], None]) -> None:
    """
    Send a test to channels and report the outcome. The running ``deliver`` sends it or, without one, this process.

    Raises:
        UndeliveredError: a channel will never accept it.
        TryLaterError: a channel has not accepted it yet.
    """
    silence()  # faults are reported below
    event_id = f"test-{secrets.token_hex(12)}"
    state_dir = Path(config.state_dir)
    with (
        closing(Lock(state_dir / DELIVER_LOCK)) as lock,
        closing(opened(config) if lock.take() and not config.worker.database else delivery_of(config.store, None)) as delivery,
    ):
        delivery.put_test(event_id, names, now_us(), _test(event_id))
        workers: list[asyncio.Task[None]] = []
        started_s = time.monotonic()
        waiting = set(names)
        faults: dict[str, tuple[str, str]] = {}
        try:
            while waiting and time.monotonic() - started_s < _LIMIT_S:
                if not workers and not config.worker.database and lock.take():
                    workers = _workers(config, config_path, delivery, event_id, sorted(waiting))
                for name, (state, attempts, reason) in delivery.outcome(event_id).items():
                    if name in waiting and (state != "pending" or attempts):
                        waiting.discard(name)
                        if state == "sent":
                            tell(
                                f"{name}: delivered after {time.monotonic() - started_s:.1f} s"
                                + (f"; {reason}" if reason else "")
                            )
                        else:
                            faults[name] = state, reason or state
                if waiting:
                    await asyncio.sleep(_POLL_S)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
            # A test that arrives hours later would alarm its reader.
            delivery.drop(event_id, None, now_us())
    for name in sorted(waiting):
        faults[name] = (
            "pending",
            f"no outcome within {_LIMIT_S:.0f} s; does the running sshbell know this channel? It reads the configuration on HUP",
        )
    if faults:
        text = "; ".join(f"{name}: {reason}" for name, (_, reason) in faults.items())
        raise (UndeliveredError if any(state != "pending" for state, _ in faults.values()) else TryLaterError)(text)


def _workers(
    config: Config, config_path: str | None, delivery: Delivery, event_id: str, names: list[str]
) -> list[asyncio.Task[None]]:
    """Send the test from this process, and nothing else."""
    renderer = renderer_of(config_path)
    common = Common(give_up_s=seconds_of(config.give_up))
    return [
        asyncio.create_task(
            _send(Worker(settings, channel_of(settings), delivery, renderer, Enricher(), common), delivery, event_id)
        )
        for settings in config.channel
        if settings.name in names
    ]


async def _send(worker: Worker, delivery: Delivery, event_id: str) -> None:
    message = delivery.due(worker.settings.name, now_us())
    if message is not None and message.event_id == event_id:
        await worker.step()


def _test(event_id: str) -> bytes:
    """Return the event, with an address and a name that are reserved for examples."""
    like = EventAction.LOGIN
    return json_line(
        EcsEvent(
            timestamp=isoformat(now_us()),
            event=EventFields(
                kind=like.kind, category=like.category, type=(like.ecs_type,), action=str(OwnAction.TEST), outcome=like.outcome,
                id=event_id,
            ),
            host=HostFields(name=socket.gethostname()),
            user=UserFields(name="alice"),
            source=SourceFields(ip="203.0.113.7", port=4711, address="203.0.113.7"),
            ssh=SshFields(
                method="publickey", key=KeyFields(type="ED25519", fingerprint="SHA256:" + "x" * 43), origin="verified"
            ),
        )
    )  # fmt: skip
