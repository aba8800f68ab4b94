"""
Routes the outbox to channels.

Each channel has its own worker and task, so a channel that is down does not delay the others. Within a channel, messages about
logins go in order, and before those about noise, which also go in order. sshbell also routes them in this order, so that a login
does not wait until a flood of noise is routed.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from zoneinfo import ZoneInfo

from consumer.channel_settings import ChannelSettings
from consumer.clock import now_us
from consumer.config import Config
from consumer.deliver.channels import channel_of
from consumer.deliver.decide import budget_of, plan_of
from consumer.deliver.health import health_of
from consumer.deliver.recipients import Recipients
from consumer.deliver.rendering import Renderer
from consumer.deliver.route_facts import RouteFacts
from consumer.deliver.routing import Router
from consumer.deliver.worker import Common, Worker
from consumer.ecs import NoEventError, event_of, json_line
from consumer.enrich.enricher import Enricher, parts_of
from consumer.errors import StoreError
from consumer.people.people import People
from consumer.process.log import get_logger
from consumer.spans import micros_of, seconds_of
from consumer.store.delivery import Delivery
from consumer.store.delivery_rows import Routed, Way
from consumer.store.outbox import Outbox, OutboxPosition, Queued

# Finished messages are deleted after this many seconds or routed messages, so that a flood need not wait for the time.
_KEEP_EVERY_S, _KEEP_EVERY = 600.0, 50_000
# How long a channel may finish its current message at the end.
STOP_S = 3.0
# Messages that are routed at once. The connections of the channels wait meanwhile.
_BATCH = 50
# Messages among which sshbell looks for logins at once, before it routes noise.
_LOOK_AHEAD = 2_000

_log = get_logger()


class Dispatcher:
    """
    Routes the outbox to workers.

    Args:
        config: the current configuration; ``configure`` takes another one.
        delivery, outbox: the two databases.
        renderer: shared by all workers.
        people: the current owners of keys and accounts.
        clock: the wall clock, in microseconds.

    Attributes:
        enricher: asks for further facts about events.
    """

    def __init__(
        self, config: Config, delivery: Delivery, outbox: Outbox, renderer: Renderer, *, people: People | None = None,
        clock: Callable[[], int] = now_us,
    ) -> None:  # fmt: skip
        self._delivery = delivery
        self._outbox = outbox
        self._renderer = renderer
        self.enricher = Enricher()
        self._clock = clock
        self._workers: dict[str, Worker] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._ending: dict[asyncio.Task[None], Worker] = {}
        self._kept_s = -_KEEP_EVERY_S
        self._routed = 0  # since then
        self._config = config
        self._router = Router((), ())
        self._facts: RouteFacts | None = None
        self._hours: dict[str, tuple[str, ZoneInfo | None]] = {}
        self.people = people or People()
        self._complaint = ""
        self._next_route: asyncio.Handle | None = None
        self.configure(config, self.people)

    def configure(self, config: Config, people: People) -> None:
        """Use another configuration. Unchanged channels go on."""
        self._config = config
        self.enricher.configure(parts_of(config, people))
        self.people = people
        self._router = Router((settings.name for settings in config.channel), config.route, people)
        if self._facts is not None:
            self._facts.close()
        self._facts = RouteFacts(config, people, self._router.keys, lambda what: _log.error("route_facts", reason=what))
        common = Common(
            give_up_s=seconds_of(config.give_up),
            map_url=config.map_url,
            recipients=Recipients(self._router, people, config.channel),
            people=people,
            health=partial(health_of, config.store),
        )
        wanted = {settings.name: settings for settings in config.channel}
        languages = {settings.language for settings in config.channel} | {person.language for person in people.persons}
        self._renderer.prepare(code for code in languages if code)
        # The quiet hours of each channel, and the zone of its reader.
        self._hours = {
            name: (settings.quiet, ZoneInfo(settings.timezone) if settings.timezone else None)
            for name, settings in wanted.items()
        }
        for name, worker in list(self._workers.items()):
            if wanted.get(name) == worker.settings:
                worker.configure(common)
            else:
                worker.stop()
                del self._workers[name]
                task = self._tasks.pop(name)
                self._ending[task] = worker
                task.add_done_callback(self._ending.pop)
        for name, settings in wanted.items():
            if name not in self._workers:
                self._start(settings, common)

    def _start(self, settings: ChannelSettings, common: Common) -> None:
        worker = Worker(
            settings, channel_of(settings), self._delivery, self._renderer, self.enricher, common, clock=self._clock,
        )  # fmt: skip
        before = [task for task in self._ending if task.get_name() == settings.name]
        self._workers[settings.name] = worker
        self._tasks[settings.name] = asyncio.create_task(_after(before, worker), name=settings.name)

    def route(self) -> None:
        """Assign new messages in the outbox to channels. A failure is logged once; the next call tries again."""
        if self._next_route is not None:
            self._next_route.cancel()
            self._next_route = None
        try:
            if self._route_some():
                # However much is new, the workers get their turn between two batches.
                self._next_route = asyncio.get_running_loop().call_soon(self.route)
        except StoreError as error:
            if str(error) != self._complaint:
                _log.error("outbox_not_read", reason=str(error))
            self._complaint = str(error)
        else:
            self._complaint = ""

    def _route_some(self) -> bool:
        """
        Route a batch; return whether there may be more.

        Logins, logouts and notices go ahead of noise. One cursor moves over all messages in order. A second one moves ahead of it
        and takes only what is no noise, so the first one skips that.
        """
        everything, ahead = self._delivery.cursors()
        first, seen = self._outbox.ahead(max(everything.seq, ahead.seq), _LOOK_AHEAD)
        queued = self._outbox.since(everything.seq, _BATCH)
        # Rows without a gap come from the same file, so only the first of a batch needs a look.
        if self._outbox.is_behind(everything) or self._outbox.is_behind(ahead):
            _log.warning("outbox_replaced", reason="state.db is a new one; sshbell reads its outbox from the beginning")
            self._delivery.restart()
            return True
        if first:
            if len(first) > _BATCH:
                first = first[:_BATCH]
                seen = OutboxPosition(first[-1].seq, first[-1].event_id)
            self._queue(first, ahead=seen)
            return True
        if not queued:
            return False
        seen = seen or ahead
        last = OutboxPosition(queued[-1].seq, queued[-1].event_id)
        self._queue([message for message in queued if message.is_noise or message.seq > seen.seq], until=last, ahead=seen)
        return len(queued) == _BATCH

    def _queue(self, queued: Sequence[Queued], *, ahead: OutboxPosition | None, until: OutboxPosition | None = None) -> None:
        self._routed += len(queued)
        before_us = self._clock() - micros_of(self._config.give_up)
        routed = [self._with_channels(message) for message in queued]
        for name in self._delivery.route(routed, before_us, until=until, ahead=ahead):
            if name in self._workers:
                self._workers[name].call()

    def _with_channels(self, message: Queued) -> Routed:
        try:
            event = event_of(message.body)
        except NoEventError as error:
            _log.error("no_event", event_id=message.event_id, reason=str(error))
            return Routed(message, ())
        known = event if self._facts is None else self._facts.added(event)
        if known is not event:
            message = message._replace(body=json_line(known))
        now_us = self._clock()
        ways = {
            lead.channel: Way(lead.is_urgent, plan_of(known, lead, now_us, *self._hours[lead.channel]))
            for lead in self._router.leads(known)
        }
        return Routed(message, list(ways), budget_of(known), ways)

    def poll(self) -> None:
        """Check for missed work. Call it every second."""
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
        self._delivery.forget(now_us - micros_of(self._config.keep))
        self._delivery.forget_budgets(now_us)
        self._delivery.forget_bytes()
        before_us = now_us - micros_of(self._config.give_up)
        if dead := self._delivery.give_up_of_removed(self._workers, before_us, now_us):
            _log.error("given_up", messages=dead, reason="the configuration no longer has this channel")

    async def stop(self, terminated: asyncio.Event) -> None:
        """
        Let each channel finish its current message, and end.

        A channel that is still sending after ``STOP_S`` stops. One that cannot record what it has sent waits until the disk is
        back, because otherwise the next process would send the message again.

        Args:
            terminated: a service manager stops this process, and would kill it. So no channel waits for the disk any longer.
        """
        if self._next_route is not None:
            self._next_route.cancel()
        for worker in self._workers.values():
            worker.stop()
        workers = {self._tasks[name]: worker for name, worker in self._workers.items()} | self._ending
        late = set(workers)
        while late:
            _, late = await asyncio.wait(late, timeout=STOP_S)
            for task in late:
                if terminated.is_set() or not workers[task].is_recording:
                    task.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
        self.enricher.close()


async def _after(before: Iterable[asyncio.Task[None]], worker: Worker) -> None:
    """Run a worker once its predecessor has ended, so that they do not send the same message."""
    if tasks := list(before):
        await asyncio.wait(tasks)  # unlike gather, it leaves them alone if this task is cancelled
    await worker.run()
