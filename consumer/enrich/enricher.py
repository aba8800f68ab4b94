"""
Adds further facts to an event, between routing and rendering: once for all channels, with all parts at the same time.

sshbell asks each part about an event; the part answers with fields. A part that hangs delays a notice by ``Part.limit_s`` and
loses its own fields, nothing else. A part that fails loses its own fields, and sshbell reports it once.
"""

import asyncio
import time
import traceback
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import msgspec

from consumer.config import Config
from consumer.ecs import NOTHING, EcsEvent, joined
from consumer.enrich.jump_hosts import JumpHosts
from consumer.enrich.local_accounts import local_account
from consumer.enrich.reverse_names import ReverseNames
from consumer.keys import client as keys_client
from consumer.keys.client import KeyOwners
from consumer.keys.index import KeyIndex
from consumer.people.people import People
from consumer.places.geoip import Places
from consumer.process.log import get_logger

# How long answers are kept, for all channels and a quick retry. A later retry asks again; slow parts have their own caches.
FRESH_S = 60.0
# Events whose answers are kept.
EVENTS_LIMIT = 500
# Faults to remember, so that sshbell reports each once.
_FAULT_LIMIT = 100
# sshbell reports that a part hangs when it leaves this many events in a row unanswered.
_HANGS = 3

# For parts that wait for nothing outside this process.
_AT_ONCE_S = 1.0
# The client itself gives up a little earlier.
KEYS_LIMIT_S = keys_client.LIMIT_S + 0.1
# The disk of state.db may hang, so a thread reads it.
VIA_LIMIT_S = 1.0
# So may a directory service for accounts.
ACCOUNT_LIMIT_S = 1.0
# Two queries to the name server: see reverse_names.
REVERSE_LIMIT_S = 2.0
# One query to MaxMind's web service, with the connection: see places/web_service.py.
WEB_LIMIT_S = 2.0

_log = get_logger()


class Part(NamedTuple):
    """
    One source of further facts.

    Attributes:
        name: for the log.
        limit_s: a notice waits no longer than this for it.
        of: returns the fields to add to an event, or ``NOTHING``. It may raise anything.
        close: closes its files.
    """

    name: str
    limit_s: float
    of: Callable[[EcsEvent], Awaitable[EcsEvent]]
    close: Callable[[], None] = lambda: None


def parts_of(config: Config, people: People) -> list[Part]:
    """Return the parts that a configuration turns on."""
    state_dir = Path(config.state_dir)
    index = KeyIndex(state_dir, lambda what: _log.error("key_index", reason=what))
    parts = [
        Part("people", _AT_ONCE_S, _at_once(people.of)),
        Part("key owners", KEYS_LIMIT_S, KeyOwners(state_dir).of),
        _places_of(config),
        # For events of other hosts, only the index knows the owners of keys.
        Part("key index", _AT_ONCE_S, _at_once(index.of)),
        Part("jump hosts", VIA_LIMIT_S, JumpHosts(config.store, config.hosts).of),
        Part("local accounts", ACCOUNT_LIMIT_S, local_account),
    ]
    if config.reverse_dns:
        parts.append(Part("reverse names", REVERSE_LIMIT_S, ReverseNames().of))
    return parts


def _places_of(config: Config) -> Part:
    def report(what: str) -> None:
        _log.error("geoip", reason=what)

    if config.geoip == "web" and config.geoip_key is not None:
        # Imported here, because the import takes 20 MB of memory.
        from consumer.places.web_service import WebPlaces  # noqa: PLC0415

        web = WebPlaces(config.geoip_account, config.geoip_key, config.geoip_host, report)
        return Part("places", WEB_LIMIT_S, web.of)
    places = Places(config.geoip, report)
    return Part("places", _AT_ONCE_S, _at_once(lambda event: EcsEvent(source=places.of(event.source.ip))), places.close)


def _at_once(of: Callable[[EcsEvent], EcsEvent]) -> Callable[[EcsEvent], Awaitable[EcsEvent]]:
    """Wrap a function that returns at once as the function of a part."""

    async def answered(event: EcsEvent) -> EcsEvent:
        return of(event)

    return answered


class Enricher:
    """
    Asks all parts about an event.

    Args:
        parts: all run at the same time; if two return the same field, the first in this order counts.
    """

    def __init__(self, parts: Iterable[Part] = ()) -> None:
        self._parts = list(parts)
        # By event id: since when, and what is, or will be, known.
        self._known: OrderedDict[str, tuple[float, asyncio.Task[EcsEvent]]] = OrderedDict()
        # Parts that were not waited for any longer, until they end.
        self._late: set[asyncio.Task[EcsEvent]] = set()
        self._reported: set[tuple[str, str]] = set()
        self._unanswered: dict[str, int] = {}

    def configure(self, parts: Iterable[Part]) -> None:
        """Use other parts from now on, and close the present ones."""
        self.close()
        self._parts = list(parts)
        self._known.clear()
        self._reported.clear()
        self._unanswered.clear()

    def close(self) -> None:
        """Close the files of the parts."""
        for part in self._parts:
            part.close()

    def knows(self, event_id: str) -> bool:
        """Return whether the parts were asked about an event within ``FRESH_S``."""
        found = self._known.get(event_id)
        return found is not None and time.monotonic() - found[0] < FRESH_S

    def begin(self, event: EcsEvent) -> asyncio.Task[EcsEvent]:
        """Ask the parts about an event, unless that happened recently; a later ``enrich`` waits only for the rest."""
        event_id = event.event.id or ""
        if self.knows(event_id):
            return self._known[event_id][1]
        task = asyncio.create_task(self._asked(event))
        if event_id:
            self._known[event_id] = time.monotonic(), task
            self._known.move_to_end(event_id)
            if len(self._known) > EVENTS_LIMIT:
                self._known.popitem(last=False)
        return task

    async def enrich(self, event: EcsEvent) -> EcsEvent:
        """Return the event with all further facts, at the latest after the longest limit."""
        if not self._parts:
            return event
        # Several channels may wait for one task: if one of them is cancelled, the task must go on.
        return await asyncio.shield(self.begin(event))

    async def _asked(self, event: EcsEvent) -> EcsEvent:
        answers = await asyncio.gather(*(self._answer(part, event) for part in self._parts))
        for answer in answers:
            event = joined(event, answer)
        return event

    async def _answer(self, part: Part, event: EcsEvent) -> EcsEvent:
        task = asyncio.create_task(_called(part, event))
        # Not wait_for, which would wait for a task that ignores its cancellation.
        await asyncio.wait({task}, timeout=part.limit_s)
        if not task.done():
            self._late.add(task)
            task.add_done_callback(self._late.discard)
            task.cancel()
            self._left_unanswered(part)
            return NOTHING
        if task.cancelled():
            return NOTHING
        if (fault := task.exception()) is not None:
            if isinstance(fault, TimeoutError):
                self._left_unanswered(part)
            else:
                self._failed(part, fault)
            return NOTHING
        self._unanswered.pop(part.name, None)
        return task.result()

    def _left_unanswered(self, part: Part) -> None:
        """Count late answers. A single one is normal; several in a row are worth a line in the log."""
        self._unanswered[part.name] = count = self._unanswered.get(part.name, 0) + 1
        if count == _HANGS:
            _log.warning("enrichment_hangs", part=part.name, limit_s=part.limit_s, reason="messages are sent without it")

    def _failed(self, part: Part, fault: BaseException) -> None:
        reason = f"{type(fault).__name__}: {fault}"
        if (part.name, reason) not in self._reported and len(self._reported) < _FAULT_LIMIT:
            self._reported.add((part.name, reason))
            frames = traceback.extract_tb(fault.__traceback__)
            place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else None
            _log.error("enrichment_failed", part=part.name, reason=reason, place=place)


async def _called(part: Part, event: EcsEvent) -> EcsEvent:
    """Call a part, and check its answer. This runs as a separate task, so that errors are counted against the part."""
    found = await part.of(event)
    if not isinstance(found, EcsEvent):
        raise TypeError(f"it returned {type(found).__name__} instead of fields")
    # Structs accept any value; one of a wrong type would make rendering fail.
    return msgspec.convert(msgspec.to_builtins(found), EcsEvent)
