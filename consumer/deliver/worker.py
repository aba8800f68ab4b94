"""Sends the waiting messages of one channel: acts on ``decide``, renders the messages, and records the outcomes."""

import asyncio
import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from hashlib import sha256
from zoneinfo import ZoneInfo

import msgspec

from consumer.channel_settings import ChannelSettings
from consumer.clock import now_us
from consumer.deliver.channels import Channel, Delivered, Message, Rejected, RetryLater, SendResult
from consumer.deliver.decide import Fold, Send, Wait, Waiting, decide, tokens_of
from consumer.deliver.digest import Cause
from consumer.deliver.hours import quiet_until_us
from consumer.deliver.language import Language, language_of
from consumer.deliver.recipients import Recipients
from consumer.deliver.rendering import Renderer
from consumer.deliver.steps import in_steps
from consumer.ecs import NoEventError, event_of
from consumer.enrich.enricher import Enricher
from consumer.errors import NewerStoreError, StoreError
from consumer.people.people import People
from consumer.process.log import get_logger
from consumer.store.delivery import Delivery
from consumer.store.delivery_rows import Hold, Pending
from consumer.text import N_

# Waits between tries: each is twice as long as the one before, up to the longest. Random cuts of up to a quarter spread them.
FIRST_WAIT_S, LONGEST_WAIT_S = 5.0, 30 * 60.0
_JITTER = 0.25
# The wait after a failure that the message did not cause, such as a write to a full disk.
AGAIN_S = 1.0
# The most messages of a channel whose look-ups run at the same time.
_AHEAD_LIMIT = 64

_log = get_logger()


def wait_s(failures: int) -> float:
    """Return the wait in seconds after ``failures`` failures in a row."""
    longest = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** min(failures - 1, 30))
    return longest * (1 - _JITTER * random.random())  # noqa: S311 - no secret


class Common(msgspec.Struct, frozen=True, kw_only=True):
    """
    The settings that all channels share.

    Attributes:
        give_up_s: sshbell retries a message for this many seconds.
        map_url: as configured; "" means no link to a map.
        recipients: chooses the recipients of each message; with None, all messages go to the channel's own.
        people: the owners of keys and accounts, for digests.
        health: returns sentences about sshbell itself, for scheduled digests.
    """

    give_up_s: float
    map_url: str = ""
    recipients: Recipients | None = None
    people: People = People()
    health: Callable[[Language], tuple[str, ...]] = lambda _language: ()


class Worker:
    """
    Sends the waiting messages of one channel.

    Args:
        settings: of the channel.
        channel: sends the messages.
        delivery, renderer, enricher: shared by all workers.
        common: the current settings; ``configure`` replaces them.
        clock: the wall clock, in microseconds.

    Attributes:
        is_recording: the channel has sent a message, and the disk does not take the outcome yet.
    """

    def __init__(
        self, settings: ChannelSettings, channel: Channel, delivery: Delivery, renderer: Renderer, enricher: Enricher,
        common: Common, *, clock: Callable[[], int] = now_us,
    ) -> None:  # fmt: skip
        self.settings = settings
        self._common = common
        self._renderer = renderer
        self._enricher = enricher
        self._zone = ZoneInfo(settings.timezone) if settings.timezone else None
        self._channel = channel
        self._name = settings.name
        self._delivery = delivery
        self._clock = clock
        self._call = asyncio.Event()
        self._is_stopping = False
        self.is_recording = False
        self._holding_back: set[str] = set()  # budgets

    def configure(self, common: Common) -> None:
        """Use new settings from the next message on."""
        self._common = common
        self.call()

    def call(self) -> None:
        """Wake the worker: there may be something to do."""
        self._call.set()

    def stop(self) -> None:
        """Let the worker end after its current message."""
        self._is_stopping = True
        self._call.set()

    async def run(self) -> None:
        """Send until ``stop``."""
        try:
            while not self._is_stopping:
                self._call.clear()
                try:
                    pause_s = await self.step()
                except StoreError as error:
                    _log.error("delivery_failed", channel=self._name, reason=str(error))
                    pause_s = AGAIN_S
                except Exception:  # noqa: BLE001 - logged with its traceback
                    # The outermost loop of the channel. It must not end while those of other channels continue.
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
        Send the next message, if one is due.

        Returns:
            The seconds to wait until the next step; None to wait for ``call``.
        """
        now_us = self._clock()
        quiet_end_us = quiet_until_us(self.settings.quiet, now_us, self._zone)
        waiting = self._waiting(now_us, is_quiet=quiet_end_us is not None)
        decision = decide(
            now_us, self._delivery.standing(self._name), waiting, max_per_hour=self.settings.max_per_hour,
            is_holding_back=waiting.budget.name in self._holding_back, quiet_end_us=quiet_end_us,
        )  # fmt: skip
        match decision:
            case Wait(seconds):
                return seconds
            case Send(message, tokens):
                if waiting.hold is not None:
                    self._delivery.close_hold(self._name, waiting.hold, None, now_us, [message.event_id])
                await self._attempt_next(message, tokens)
            case Fold(first, tokens):
                if (folded := await self._folded(first, waiting.hold, now_us)) is not None:
                    await self._attempt_next(folded, tokens)
        return 0

    def _waiting(self, now_us: int, *, is_quiet: bool) -> Waiting:
        max_per_hour = self.settings.max_per_hour
        spent = {
            budget.name: budget for budget in self._delivery.spent(self._name) if tokens_of(budget, max_per_hour, now_us) < 1
        }
        held = tuple(spent[name] for name in sorted(self._delivery.held(self._name, spent, now_us)))
        for budget in held:
            if budget.name not in self._holding_back:
                _log.warning("holding_back", channel=self._name, max_per_hour=max_per_hour, of=budget.name or "noise")
                self._holding_back.add(budget.name)
        self._delivery.forget_holds(self._name, now_us)
        first = self._delivery.due(self._name, now_us, spent, only_urgent=is_quiet)
        # Noise goes last.
        if first is None or (first.seq and not first.budget):
            found = self._delivery.due_hold(self._name, now_us, spent, only_urgent=is_quiet)
            if found is not None:
                hold, first = found
                budget = self._delivery.budget(self._name, first.budget)
                return Waiting(first, budget, held, is_crowded=self._delivery.is_hold_crowded(self._name, hold), hold=hold)
        if first is None:
            times = (
                self._delivery.next_us(self._name, spent, only_urgent=is_quiet),
                self._delivery.next_hold_us(self._name, now_us),
            )
            return Waiting(held=held, next_us=min((time_us for time_us in times if time_us is not None), default=None))
        is_crowded = first.budget in self._holding_back and self._delivery.is_crowded(self._name, first.budget, now_us)
        return Waiting(first, self._delivery.budget(self._name, first.budget), held, is_crowded=is_crowded)

    async def _attempt_next(self, message: Pending, tokens: float) -> None:
        if message.seq:
            self._holding_back.discard(message.budget)
        await self.attempt(message, tokens)

    async def _folded(self, message: Pending, hold: Hold | None, now_us: int) -> Pending | None:
        """
        Fold all messages of a hold, or all due ones of a budget, to the same people into one; return None if sshbell has dropped
        all of them in the meantime.
        """
        only = None
        if (recipients := self._mixed()) is not None:
            # A digest must not show a message to other people. So it has only messages with the same recipients as the first one.
            wanted = self._recipients_of(recipients, message.body)
            if hold is None:
                bodies = self._delivery.loose(self._name, message.budget, now_us)
            else:
                bodies = self._delivery.held_bodies(self._name, hold.name)
            only = [id_ async for id_, body in in_steps(bodies) if self._recipients_of(recipients, body) == wanted]
            if len(only) < 2 and not (hold is not None and hold.omitted):
                if hold is not None:
                    self._delivery.close_hold(self._name, hold, None, now_us, only)
                return message if only else None
        # The id depends on the time. sshbell stores it with the messages, so a second try sends the same message.
        cause = Cause.CAP if hold is None else Cause(hold.name.partition(" ")[0])
        digest = f"{cause}-" + sha256(f"{self._name} {message.event_id} {now_us}".encode()).hexdigest()[:27]
        if hold is None:
            count = self._delivery.fold(self._name, message.budget, digest, now_us, only)
        else:
            count = self._delivery.close_hold(self._name, hold, digest, now_us, only)
        return message._replace(digest=digest, hold="") if count else None

    async def attempt(self, pending: Pending, tokens: float) -> SendResult:
        """Send one message, and record the outcome. Its budget has ``tokens`` left afterwards."""
        try:
            result = await self._channel.send(await self._message(pending, tokens))
        except NoEventError as error:
            result = Rejected(str(error))
        except StoreError:
            raise  # the message is not the cause
        except Exception as error:  # noqa: BLE001 - logged with its traceback
            # An error in sshbell must not lose the message. A message that sshbell cannot render must not block later ones.
            _log.exception("fault", channel=self._name, event_id=pending.event_id)
            result = RetryLater(N_("a fault of sshbell: %(fault)s") % {"fault": type(error).__name__}, alone=True)
        try:
            while True:
                try:
                    self._write_down(pending, result, tokens)
                except StoreError as error:
                    # A full disk must not make sshbell send the message twice. So wait until sshbell can record the outcome.
                    self.is_recording = not isinstance(error, NewerStoreError)
                    _log.error("outcome_not_written", channel=self._name, event_id=pending.event_id, reason=str(error))
                    await asyncio.sleep(AGAIN_S)
                else:
                    return result
        finally:
            self.is_recording = False

    async def _message(self, pending: Pending, tokens: float) -> Message:
        if pending.digest:
            return await self._digest(pending.digest)
        event = event_of(pending.body)
        if not self._enricher.knows(pending.event_id):
            self._ask_ahead(pending, min(_AHEAD_LIMIT, 1 + int(tokens)))
        enriched = await self._enricher.enrich(event)
        recipients = self._mixed()
        made = self._renderer.message(
            pending.event_id, enriched, queued_us=pending.queued_us, now_us=self._clock(), zone=self._zone,
            map_url=self._common.map_url, medium=self._channel.medium, language=self._language_of(recipients, pending.body),
        )  # fmt: skip
        return msgspec.structs.replace(made, recipients=self._recipients_of(recipients, pending.body))

    async def _digest(self, digest: str) -> Message:
        recipients = self._mixed()
        found: set[tuple[str, ...]] = set()

        def folded() -> Iterator[tuple[int, bytes]]:
            # In one pass, so that the digest has exactly the messages whose recipients are known, even if sshbell drops some
            # in the meantime.
            for queued_us, body in self._delivery.folded(self._name, digest):
                found.add(self._recipients_of(recipients, body))
                yield queued_us, body

        # All of a digest's messages have the same recipients, and so the same language.
        first = next(iter(self._delivery.folded(self._name, digest)), None) if recipients is not None else None
        language = self._language_of(recipients, b"" if first is None else first[1])
        cause = Cause(digest.partition("-")[0])
        made = await self._renderer.digest(
            digest, folded(), max_per_hour=self.settings.max_per_hour, now_us=self._clock(), zone=self._zone,
            medium=self._channel.medium, omitted=self._delivery.omitted(self._name, digest), named=self._common.people.of,
            health=self._common.health(language) if cause.is_scheduled else (), language=language,
        )  # fmt: skip
        # If a change in people.toml has given the messages different recipients, the digest goes to the channel's own.
        return msgspec.structs.replace(made, recipients=found.pop()) if len(found) == 1 else made

    def _ask_ahead(self, message: Pending, limit: int) -> None:
        """Start the look-ups for the next messages together, so that slow look-ups do not add up."""
        for body in self._delivery.next_bodies(message, self._name, limit):
            with suppress(NoEventError):  # sshbell reports it at the message's turn
                self._enricher.begin(event_of(body))

    def _mixed(self) -> Recipients | None:
        """
        Return the object that chooses the recipients of each message; None if all messages go to the channel's own.

        Use the same object for all messages of a digest, because people.toml may change between two steps.
        """
        recipients = self._common.recipients
        return recipients if recipients is not None and recipients.are_mixed(self._name) else None

    def _recipients_of(self, recipients: Recipients | None, body: bytes) -> tuple[str, ...]:
        """Return the recipients of a message; () for the channel's own."""
        if recipients is None:
            return ()
        try:
            return recipients.of(self._name, event_of(body))
        except NoEventError:
            return ()  # not an event; the renderer reports that

    def _language_of(self, recipients: Recipients | None, body: bytes) -> Language:
        """Return the language of a message."""
        code: str = self.settings.language
        if recipients is not None:
            with suppress(NoEventError):  # the renderer reports that
                code = recipients.language_of(self._name, event_of(body))
        return language_of(code)

    def _write_down(self, pending: Pending, result: SendResult, tokens: float) -> None:
        now_us = self._clock()
        message = {"channel": self._name, "event_id": pending.digest or pending.event_id}
        match result:
            case Delivered(note):
                self._delivery.sent(self._name, pending, now_us, tokens, note or None)
                _log.info("sent", **message, **({"note": note} if note else {}))
            case Rejected(reason):
                self._delivery.rejected(self._name, pending, now_us, reason)
                _log.error("rejected", **message, reason=reason)
            case RetryLater(reason, after_s, alone):
                failures = pending.attempts + 1 if alone else self._delivery.standing(self._name).failures + 1
                pause_s = max(wait_s(failures), min(after_s, LONGEST_WAIT_S))
                self._delivery.retry_later(self._name, pending, now_us, reason, int(pause_s * 1e6), alone=alone)
                _log.warning("retry_later", **message, reason=reason, after_s=round(pause_s))
                before_us = now_us - int(self._common.give_up_s * 1e6)
                if dead := self._delivery.give_up(self._name, before_us, now_us, reason):
                    _log.error("given_up", channel=self._name, messages=dead, reason=reason)
