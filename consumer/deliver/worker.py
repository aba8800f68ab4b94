"""Sends what waits for one channel: does what ``decide`` says, makes the messages, and writes down what becomes of them."""

import asyncio
import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from hashlib import sha256
from zoneinfo import ZoneInfo

import msgspec
import structlog

from consumer.clock import now_us
from consumer.config import ChannelSettings
from consumer.deliver.channels import Channel, Delivered, Message, Rejected, RetryLater, SendResult
from consumer.deliver.decide import Fold, Send, Wait, Waiting, decide, tokens_of
from consumer.deliver.recipients import Recipients
from consumer.deliver.rendering import Renderer
from consumer.deliver.steps import in_steps
from consumer.ecs import NoEventError, event_of
from consumer.enrich.enricher import Enricher
from consumer.errors import StoreError
from consumer.store.delivery import Delivery, Pending

# Waits between tries: doubled each time, up to the last; each is shortened by up to a quarter, so that not all come at once.
FIRST_WAIT_S, LONGEST_WAIT_S = 5.0, 30 * 60.0
_JITTER = 0.25
# Until what failed for no fault of a message's is tried again, such as a write to a full disk.
AGAIN_S = 1.0
# Messages of a channel that are asked about at the same time.
_AHEAD_LIMIT = 64

_log = structlog.get_logger()


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
        self._holding_back: set[str] = set()  # budgets

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
                    pause_s = AGAIN_S
                except Exception:  # noqa: BLE001 - logged with its traceback
                    # The outermost loop of a channel: it must not end while others go on.
                    _log.exception("fault", channel=self._name)
                    pause_s = AGAIN_S
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
        waiting = self._waiting(now_us)
        decision = decide(
            now_us, self._delivery.standing(self._name), waiting,
            max_per_hour=self.settings.max_per_hour, is_holding_back=waiting.budget.name in self._holding_back,
        )  # fmt: skip
        match decision:
            case Wait(seconds):
                return seconds
            case Send(message, tokens):
                await self._attempt_next(message, tokens)
            case Fold(first, tokens):
                if (folded := await self._folded(first, now_us)) is not None:
                    await self._attempt_next(folded, tokens)
        return 0

    def _waiting(self, now_us: int) -> Waiting:
        max_per_hour = self.settings.max_per_hour
        spent = {
            budget.name: budget for budget in self._delivery.spent(self._name) if tokens_of(budget, max_per_hour, now_us) < 1
        }
        held = tuple(spent[name] for name in sorted(self._delivery.held(self._name, spent)))
        for budget in held:
            if budget.name not in self._holding_back:
                _log.warning("holding_back", channel=self._name, max_per_hour=max_per_hour, of=budget.name or "noise")
                self._holding_back.add(budget.name)
        first = self._delivery.due(self._name, now_us, spent)
        if first is None:
            return Waiting(held=held, next_us=self._delivery.next_us(self._name, spent))
        is_crowded = first.budget in self._holding_back and self._delivery.is_crowded(self._name, first.budget, now_us)
        return Waiting(first, self._delivery.budget(self._name, first.budget), held, is_crowded=is_crowded)

    async def _attempt_next(self, message: Pending, tokens: float) -> None:
        if message.seq:
            self._holding_back.discard(message.budget)
        await self.attempt(message, tokens)

    async def _folded(self, message: Pending, now_us: int) -> Pending | None:
        """Make one message of all that wait and go to the same people; None where they have all been dropped meanwhile."""
        only = None
        if (recipients := self._mixed()) is not None:
            # Nobody is told what another one's message says: a digest is of those that go to the same people as the first.
            wanted = self._recipients_of(recipients, message.body)
            loose = in_steps(self._delivery.loose(self._name, message.budget, now_us))
            only = [id_ async for id_, body in loose if self._recipients_of(recipients, body) == wanted]
            if len(only) < 2:
                return message
        # The id is of this moment, and kept with the messages: a second try is the same message.
        digest = "held-" + sha256(f"{self._name} {message.event_id} {now_us}".encode()).hexdigest()[:27]
        is_folded = self._delivery.fold(self._name, message.budget, digest, now_us, only)
        return message._replace(digest=digest) if is_folded else None

    async def attempt(self, pending: Pending, tokens: float) -> SendResult:
        """Send one message, and write down what became of it; ``tokens``: what is left of its budget once it is sent."""
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
                await asyncio.sleep(AGAIN_S)
            else:
                return result

    async def _message(self, pending: Pending, tokens: float) -> Message:
        if pending.digest:
            return await self._digest(pending.digest)
        event = event_of(pending.body)
        if not self._enricher.knows(pending.event_id):
            self._ask_ahead(pending, min(_AHEAD_LIMIT, 1 + int(tokens)))
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

    def _ask_ahead(self, message: Pending, limit: int) -> None:
        """Ask about all that is sent next: what hangs delays many messages as long as one."""
        for body in self._delivery.next_bodies(message, self._name, limit):
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
                self._delivery.sent(self._name, pending, now_us, tokens, note or None)
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
