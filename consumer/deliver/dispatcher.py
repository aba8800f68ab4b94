"""
What ``sshbell deliver`` does all day: routes the outbox, and has each channel send what waits for it.

Each channel has a task of its own, so that one that is down delays no other; within a channel, messages go in order.
"""

import asyncio
import random
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from hashlib import sha256
from itertools import chain
from zoneinfo import ZoneInfo

import msgspec
import structlog

from consumer.clock import now_us
from consumer.config import ChannelSettings, Config, EmailSettings, seconds_of
from consumer.deliver.channels import Channel, Delivered, Message, Rejected, RetryLater, SendResult
from consumer.deliver.channels.email import Email
from consumer.deliver.recipients import Recipients
from consumer.deliver.rendering import Renderer
from consumer.deliver.routing import Router
from consumer.deliver.steps import in_steps
from consumer.ecs import NoEventError, event_of
from consumer.enrich.enricher import Enricher, parts_of
from consumer.errors import StoreError
from consumer.people.people import People
from consumer.store.delivery import Delivery, Pending
from consumer.store.outbox import Outbox, Queued

# Waits between tries: doubled each time, up to the last; each is shortened by up to a quarter, so that not all come at once.
FIRST_WAIT_S, LONGEST_WAIT_S = 5.0, 30 * 60.0
_JITTER = 0.25
# The net under the byte that `run` writes.
POLL_S = 1.0
# How often what is done is forgotten; a flood has to wait for neither.
_KEEP_EVERY_S, _KEEP_EVERY = 600.0, 50_000
# At the end: what is being sent may be finished.
STOP_S = 3.0
_BATCH = 200
# Messages of a channel that are asked about at the same time.
_AHEAD_LIMIT = 64

_log = structlog.get_logger()


def channel_of(settings: ChannelSettings) -> Channel:
    """Make a channel as it is configured."""
    match settings:
        case EmailSettings():
            return Email(settings)


def wait_s(failures: int) -> float:
    """Return how long to wait after so many failures in a row."""
    longest = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** min(failures - 1, 30))
    return longest * (1 - _JITTER * random.random())  # noqa: S311 - no secret


class Worker:
    """
    Sends what waits for one channel.

    Args:
        settings: of the channel.
        channel: the way to people.
        delivery, renderer, enricher: shared with the others.
        give_up_s: how long a message is tried.
        recipients: to whom each message goes; None: to those of the channel.
        clock: the wall clock, in microseconds.
    """

    def __init__(
        self, settings: ChannelSettings, channel: Channel, delivery: Delivery, renderer: Renderer, enricher: Enricher, *,
        give_up_s: float, recipients: Recipients | None = None, clock: Callable[[], int] = now_us,
    ) -> None:  # fmt: skip
        self.settings = settings
        self.give_up_s = give_up_s
        self.recipients = recipients
        self.renderer = renderer
        self._enricher = enricher
        self._zone = ZoneInfo(settings.timezone) if settings.timezone else None
        self._channel = channel
        self._name = settings.name
        self._delivery = delivery
        self._clock = clock
        self._call = asyncio.Event()
        self._is_stopping = False
        self._is_holding_back = False

    def call(self) -> None:
        """Say that there may be something to do."""
        self._call.set()

    def stop(self) -> None:
        """Let it end after the message that it is sending."""
        self._is_stopping = True
        self._call.set()

    async def run(self) -> None:
        """Send until told to stop."""
        try:
            while not self._is_stopping:
                self._call.clear()
                try:
                    pause_s = await self.step()
                except StoreError as error:
                    _log.error("delivery_failed", channel=self._name, reason=str(error))
                    pause_s = POLL_S
                except Exception:  # noqa: BLE001 - logged with its traceback
                    # The outermost loop of a channel: it must not end while others go on.
                    _log.exception("fault", channel=self._name)
                    pause_s = POLL_S
                if pause_s != 0:
                    await self._wait(pause_s)
        finally:
            self._channel.close()

    async def _wait(self, pause_s: float | None) -> None:
        try:
            async with asyncio.timeout(pause_s):
                await self._call.wait()
        except TimeoutError:
            pass

    async def step(self) -> float | None:
        """
        Send what is due, if anything is.

        Returns:
            How many seconds to wait for the next; None until told.
        """
        now_us = self._clock()
        message = self._delivery.due(self._name, now_us)
        if message is None:
            next_us = self._delivery.next_us(self._name)
            return None if next_us is None else _pause_s(now_us, next_us)
        # A test that was not tried goes whatever has happened: somebody is waiting for its outcome.
        if message.seq or message.attempts:
            standing = self._delivery.standing(self._name)
            if now_us < standing.retry_us < now_us + 2 * LONGEST_WAIT_S * 1e6:
                return _pause_s(now_us, standing.retry_us)
        tokens = self.tokens(now_us)
        if message.seq and tokens < 1:
            if not self._is_holding_back:
                _log.warning("holding_back", channel=self._name, max_per_hour=self.settings.max_per_hour)
            self._is_holding_back = True
            return (1 - tokens) * 3600 / self.settings.max_per_hour
        if message.seq and self._is_holding_back and message.digest is None:
            folded = await self._folded(message, now_us)
            if folded is None:
                return 0
            message = folded
        self._is_holding_back = False
        await self.attempt(message, tokens)
        return 0

    def tokens(self, now_us: int) -> float:
        """Return how many messages may be sent now; they come evenly, and as many as an hour has are kept."""
        standing = self._delivery.standing(self._name)
        most = float(self.settings.max_per_hour)
        if standing.tokens is None:
            return most
        elapsed_us = max(0, now_us - standing.tokens_us)
        return min(most, standing.tokens + elapsed_us * most / 3600e6)

    async def _folded(self, message: Pending, now_us: int) -> Pending | None:
        """Make one message of all that wait, where they are several; None where they have all been dropped meanwhile."""
        if not self._delivery.is_crowded(self._name, now_us):
            return message
        only = None
        if (recipients := self._mixed()) is not None:
            # Nobody is told what another one's message says: a digest is of those that go to the same people as the first.
            wanted = self._recipients_of(recipients, message.body)
            loose = in_steps(self._delivery.loose(self._name, now_us))
            only = [id_ async for id_, body in loose if self._recipients_of(recipients, body) == wanted]
            if len(only) < 2:
                return message
        # The id is of this moment, and kept with the messages: a second try is the same message.
        digest = "held-" + sha256(f"{self._name} {message.event_id} {now_us}".encode()).hexdigest()[:27]
        return message._replace(digest=digest) if self._delivery.fold(self._name, digest, now_us, only) else None

    async def attempt(self, pending: Pending, tokens: float) -> SendResult:
        """Send one message, and write down what became of it."""
        try:
            result = await self._channel.send(await self._message(pending, tokens))
        except NoEventError as error:
            result = Rejected(str(error))
        except StoreError:
            raise  # nothing is wrong with this message
        except Exception as error:  # noqa: BLE001 - logged with its traceback
            # A fault of ours must not cost the message, nor may one that cannot be made hold up those behind it.
            _log.exception("fault", channel=self._name, event_id=pending.event_id)
            result = RetryLater(f"a fault of sshbell: {type(error).__name__}", alone=True)
        while True:
            try:
                self._write_down(pending, result, tokens)
            except StoreError as error:
                # Not to be sent again because the disk is full: wait until it can be written.
                _log.error("outcome_not_written", channel=self._name, event_id=pending.event_id, reason=str(error))
                if self._is_stopping:
                    return result
                await asyncio.sleep(POLL_S)
            else:
                return result

    async def _message(self, pending: Pending, tokens: float) -> Message:
        if pending.digest:
            return await self._digest(pending.digest)
        event = event_of(pending.body)
        if not self._enricher.knows(pending.event_id):
            self._ask_ahead(min(_AHEAD_LIMIT, int(tokens)))
        event = await self._enricher.enrich(event)
        made = self.renderer.message(pending.event_id, event, queued_us=pending.queued_us, now_us=self._clock(), zone=self._zone)
        return msgspec.structs.replace(made, recipients=self._recipients_of(self._mixed(), pending.body))

    async def _digest(self, digest: str) -> Message:
        recipients = self._mixed()
        found: set[tuple[str, ...]] = set()

        def folded() -> Iterator[tuple[int, bytes]]:
            # In one pass: what is told is what was asked about, whatever is dropped meanwhile.
            for queued_us, body in self._delivery.folded(self._name, digest):
                found.add(self._recipients_of(recipients, body))
                yield queued_us, body

        made = await self.renderer.digest(
            digest, folded(), max_per_hour=self.settings.max_per_hour, now_us=self._clock(), zone=self._zone
        )
        # Where they are no longer the same for all, since people.toml has changed, it is the channel's own who may read it.
        return msgspec.structs.replace(made, recipients=found.pop()) if len(found) == 1 else made

    def _ask_ahead(self, limit: int) -> None:
        """Ask about all that is sent next: what hangs delays many messages as long as one."""
        for body in self._delivery.next_bodies(self._name, limit):
            with suppress(NoEventError):  # said when its turn comes
                self._enricher.begin(event_of(body))

    def _mixed(self) -> Recipients | None:
        """
        Return who says to whom each message goes; None where all go to the channel's own.

        All messages of a digest are asked of the same: between two steps of it, people.toml may be another one.
        """
        return self.recipients if self.recipients is not None and self.recipients.are_mixed(self._name) else None

    def _recipients_of(self, recipients: Recipients | None, body: bytes) -> tuple[str, ...]:
        """Return to whom a message goes; () for those of the channel."""
        if recipients is None:
            return ()
        try:
            return recipients.of(self._name, event_of(body))
        except NoEventError:
            return ()  # no event; whoever renders it says so

    def _write_down(self, pending: Pending, result: SendResult, tokens: float) -> None:
        now_us = self._clock()
        told = {"channel": self._name, "event_id": pending.digest or pending.event_id}
        match result:
            case Delivered(note):
                self._delivery.sent(self._name, pending, now_us, max(0.0, tokens - bool(pending.seq)), note or None)
                _log.info("sent", **told, **({"note": note} if note else {}))
            case Rejected(reason):
                self._delivery.rejected(self._name, pending, now_us, reason)
                _log.error("rejected", **told, reason=reason)
            case RetryLater(reason, after_s, alone):
                failures = pending.attempts + 1 if alone else self._delivery.standing(self._name).failures + 1
                pause_s = max(wait_s(failures), min(after_s, LONGEST_WAIT_S))
                self._delivery.retry_later(self._name, pending, now_us, reason, int(pause_s * 1e6), alone=alone)
                _log.warning("retry_later", **told, reason=reason, after_s=round(pause_s))
                before_us = now_us - int(self.give_up_s * 1e6)
                if dead := self._delivery.give_up(self._name, before_us, now_us, reason):
                    _log.error("given_up", channel=self._name, messages=dead, reason=reason)


def _pause_s(now_us: int, until_us: int) -> float:
    """Return how long to wait; never long, since the wall clock may be set."""
    return min(60.0, max(0.001, (until_us - now_us) / 1e6))


class Dispatcher:
    """
    Routes the outbox to workers.

    Args:
        config: what is configured now; ``configure`` takes another.
        delivery, outbox: the two databases.
        renderer: shared by all workers.
        people: who keys and accounts belong to, as of now.
        clock: the wall clock, in microseconds.
    """

    def __init__(
        self, config: Config, delivery: Delivery, outbox: Outbox, renderer: Renderer, *, people: People | None = None,
        clock: Callable[[], int] = now_us,
    ) -> None:  # fmt: skip
        self._delivery = delivery
        self._outbox = outbox
        self._renderer = renderer
        self._enricher = Enricher()
        self._clock = clock
        self._workers: dict[str, Worker] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._kept_s = -_KEEP_EVERY_S
        self._routed = 0  # since then
        self._config = config
        self._router = Router((), ())
        self.people = people or People()
        self._recipients: Recipients | None = None
        self._complaint = ""
        self._next_route: asyncio.Handle | None = None
        self.configure(config, self.people)

    def configure(self, config: Config, people: People) -> None:
        """Work by another configuration: channels that are as they were go on."""
        self._config = config
        self._enricher.configure(parts_of(config, people))
        self._renderer.map_url = config.map_url
        self.people = people
        self._router = Router((settings.name for settings in config.channel), config.route)
        self._recipients = Recipients(self._router, people, config.channel)
        wanted = {settings.name: settings for settings in config.channel}
        for name, worker in list(self._workers.items()):
            if wanted.get(name) == worker.settings:
                worker.give_up_s = seconds_of(config.give_up)
                worker.recipients = self._recipients
                worker.call()
            else:
                self._workers.pop(name).stop()
                task = self._tasks.pop(name)
                self._ending.add(task)
                task.add_done_callback(self._ending.discard)
        for name, settings in wanted.items():
            if name not in self._workers:
                self._start(settings)

    def _start(self, settings: ChannelSettings) -> None:
        give_up_s = seconds_of(self._config.give_up)
        worker = Worker(
            settings, channel_of(settings), self._delivery, self._renderer, self._enricher, give_up_s=give_up_s,
            recipients=self._recipients, clock=self._clock,
        )  # fmt: skip
        before = [task for task in self._ending if task.get_name() == settings.name]
        self._workers[settings.name] = worker
        self._tasks[settings.name] = asyncio.create_task(_after(before, worker), name=settings.name)

    def route(self) -> None:
        """Give what is new in the outbox to channels. What goes wrong is logged once, and tried again at the next call."""
        if self._next_route is not None:
            self._next_route.cancel()
            self._next_route = None
        try:
            if self._route_some():
                # The workers have their turn between two batches, however much is new.
                self._next_route = asyncio.get_running_loop().call_soon(self.route)
        except StoreError as error:
            if str(error) != self._complaint:
                _log.error("outbox_not_read", reason=str(error))
            self._complaint = str(error)
        else:
            self._complaint = ""

    def _route_some(self) -> bool:
        """Route a batch; tell whether there may be more."""
        seq, event_id = self._delivery.cursor()
        queued = self._outbox.since(seq, _BATCH)
        # Where rows follow without a gap that is the same file; a look is due at the first of a batch alone.
        if self._outbox.is_behind(seq, event_id):
            _log.warning("outbox_replaced", reason="state.db is a new one; its outbox is read from the beginning")
            self._delivery.restart()
            return True
        if not queued:
            return False
        self._routed += len(queued)
        before_us = self._clock() - int(seconds_of(self._config.give_up) * 1e6)
        for name in self._delivery.route(((message, self._channels_of(message)) for message in queued), before_us):
            if name in self._workers:
                self._workers[name].call()
        return len(queued) == _BATCH

    def _channels_of(self, message: Queued) -> Iterable[str]:
        try:
            return self._router.channels_of(event_of(message.body))
        except NoEventError as error:
            _log.error("no_event", event_id=message.event_id, reason=str(error))
            return ()

    def poll(self) -> None:
        """Look whether something was missed; to be called each second."""
        self.route()
        try:
            if self._delivery.has_changed():
                for worker in self._workers.values():
                    worker.call()
            if time.monotonic() - self._kept_s > _KEEP_EVERY_S or self._routed > _KEEP_EVERY:
                self._kept_s, self._routed = time.monotonic(), 0
                self._keep()
        except StoreError as error:
            _log.error("delivery_failed", reason=str(error))

    def _keep(self) -> None:
        now_us = self._clock()
        self._delivery.forget(now_us - int(seconds_of(self._config.keep) * 1e6))
        before_us = now_us - int(seconds_of(self._config.give_up) * 1e6)
        if dead := self._delivery.give_up_of_removed(self._workers, before_us, now_us):
            _log.error("given_up", messages=dead, reason="the configuration has no such channel any more")

    async def stop(self) -> None:
        """Let each channel finish the message that it is sending, and end."""
        if self._next_route is not None:
            self._next_route.cancel()
        for worker in self._workers.values():
            worker.stop()
        tasks = list(chain(self._tasks.values(), self._ending))
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=STOP_S)
        for task in late:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _after(before: Iterable[asyncio.Task[None]], worker: Worker) -> None:
    """Run a worker when its predecessor has ended, so that no message is sent by both."""
    await asyncio.gather(*before, return_exceptions=True)
    await worker.run()
