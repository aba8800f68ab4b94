"""``sshbell route``: what the routes do with an event, and its messages, without sending anything."""

from collections.abc import Callable
from contextlib import closing
from copy import deepcopy
from datetime import tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from consumer.actions import SESSION_ACTIONS, EventAction
from consumer.channel_settings import ChannelSettings
from consumer.clock import now_us, utc
from consumer.config import Config
from consumer.deliver.channels import Message, channel_of
from consumer.deliver.decide import plan_of
from consumer.deliver.language import language_of
from consumer.deliver.process import renderer_of
from consumer.deliver.recipients import Recipients
from consumer.deliver.route_facts import RouteFacts
from consumer.deliver.routing import Lead, Router, RouteResult
from consumer.ecs import EcsEvent
from consumer.enrich.enricher import Enricher, parts_of
from consumer.people.people import People
from consumer.process.log import silence
from consumer.process.threads import run_async
from consumer.store.delivery_rows import HoldPlan


class PreviewedMessage(msgspec.Struct, frozen=True):
    """A message that a channel would send, when, and to whom."""

    channel: str
    when: str
    recipients: tuple[str, ...]
    message: Message


class Preview(msgspec.Struct, frozen=True):
    """The result of each route for an event, with the fields that they use, and the messages of the channels."""

    event: EcsEvent
    routes: list[RouteResult]
    messages: list[PreviewedMessage]


def previewed(config: Config, config_path: str | None, people: People, event: EcsEvent, report: Callable[[str], None]) -> Preview:
    """
    Return what ``deliver`` would do with an event. This asks no server: neither a name server nor a web service.

    Raises:
        StoreError: ``state.db`` cannot be read.
    """
    silence()  # a missing field is no news here
    router = Router((settings.name for settings in config.channel), config.route, people)
    with closing(RouteFacts(config, people, router.keys, report)) as facts:
        event = facts.added(event)
    offline = msgspec.structs.replace(config, reverse_dns=False, geoip=[] if config.geoip == "web" else config.geoip)
    with closing(Enricher(parts_of(offline, people))) as enricher:
        enriched = run_async(enricher.enrich(event))
    recipients = Recipients(router, people, config.channel)
    renderer = renderer_of(config_path)
    settings_of = {settings.name: settings for settings in config.channel}

    def previewed_on(lead: Lead) -> PreviewedMessage:
        name, now = lead.channel, now_us()
        settings = settings_of[name]
        zone = ZoneInfo(settings.timezone) if settings.timezone else None
        message = renderer.message(
            event.event.id or "preview", enriched, queued_us=now, now_us=now, map_url=config.map_url,
            zone=zone, medium=_medium_of(settings), language=language_of(recipients.language_of(name, event)),
        )  # fmt: skip
        when = _when(plan_of(event, lead, now, settings.quiet, zone), lead, zone)
        return PreviewedMessage(name, when, recipients.of(name, event) or settings.recipients, message)

    return Preview(event, list(router.results(event)), [previewed_on(lead) for lead in router.leads(event)])


def _when(plan: HoldPlan | None, lead: Lead, zone: tzinfo | None) -> str:
    """Return in words when a message would go."""
    if plan is None:
        return "at once"
    if plan.window_us:
        return f"at once, or within {lead.window} together with others of its kind"
    return f"together with others at {utc(plan.due_us).astimezone(zone):%Y-%m-%d %H:%M %Z}"


def _medium_of(settings: ChannelSettings) -> Any:
    channel = channel_of(settings)
    channel.close()
    return channel.medium


# Keys of --like, and the fields of ECS that they set.
LIKE_KEYS: dict[str, tuple[str, ...]] = {
    "event": ("event", "action"),
    "user": ("user", "name"),
    "uid": ("user", "id"),
    "host": ("host", "name"),
    "ip": ("source", "ip"),
    "port": ("source", "port"),
    "method": ("ssh", "method"),
    "key": ("ssh", "key", "fingerprint"),
    "certificate": ("ssh", "certificate", "id"),
    "session": ("ssh", "session", "kind"),
    "origin": ("ssh", "origin"),
    "time": ("@timestamp",),
}
_KINDS = {"interactive": "shell"}
# A made-up finding has these fields besides, so that its sentence has figures.
_FIGURES: dict[str, dict[str, Any]] = {
    EventAction.GUESSING: {"ssh": {"count": 12}, "rule": {"description": "12/10m"}, "labels": {"by": "host"}},
    EventAction.MANY_ADDRESSES: {"ssh": {"count": 80}, "labels": {"addresses": "50"}},
    EventAction.MANY_ACCOUNTS: {"ssh": {"count": 10}},
    EventAction.SLOW_GUESSING: {"ssh": {"count": 50}},
    EventAction.SCANNING: {"ssh": {"count": 5}, "labels": {"by": "faults", "kinds": "2"}},
    EventAction.SUCCESS_AFTER_FAILURES: {"ssh": {"count": 10}, "labels": {"from": "address"}},
    EventAction.FIRST_SEEN: {"labels": {"new": "country", "logins": "40", "days": "90"}},
    EventAction.IMPOSSIBLE_TRAVEL: {"labels": {"km": "1200", "minutes": "30"}},
    EventAction.KEY_IN_TWO_PLACES: {"labels": {"km": "600", "other": "198.51.100.23"}},
    EventAction.SSHD_HEALTH: {"labels": {"what": "account_expired"}},
    EventAction.HOST_SILENT: {"labels": {"silent_s": "28800", "factor": "3"}},
    EventAction.HOST_CHANGED_WORDING: {"labels": {"share": "40 %", "usual": "2 %"}},
    EventAction.CLOCK_SKEW: {"labels": {"direction": "ahead", "skew_s": "300"}},
}


def event_like(words: str, now: str) -> EcsEvent:
    """
    Return the event of a text such as ``user=root ip=203.0.113.7``: a login, now, unless the text has something else.

    A finding has made-up figures, and a block has the address or else the user as its target.

    Raises:
        ValueError: the text has an unknown key or an invalid value.
    """
    values = {"event": str(EventAction.LOGIN), "time": now, "origin": "verified"}
    for word in words.split():
        key, equals, value = word.partition("=")
        if not equals or key not in LIKE_KEYS:
            raise ValueError(f"{word!r} is not one of {', '.join(f'{name}=...' for name in LIKE_KEYS)}")
        values[key] = value
    if "session" in values:
        values["session"] = _KINDS.get(values["session"], values["session"])
    try:
        return msgspec.convert(_fields_of(values), EcsEvent, strict=False)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from error


def _fields_of(values: dict[str, str]) -> dict[str, Any]:
    """Return the fields of ECS for the values of ``LIKE_KEYS``."""
    if values["event"] in SESSION_ACTIONS:
        values = {"method": "publickey"} | values
    fields: dict[str, Any] = deepcopy(_FIGURES.get(values["event"], {}))
    for key, text in values.items():
        *groups, last = LIKE_KEYS[key]
        group = fields
        for name in groups:
            group = group.setdefault(name, {})
        group[last] = text
    if "ip" in values:
        fields["source"]["address"] = values["ip"]
    if "method" in values:
        method, _, submethod = values["method"].partition("/")
        fields["ssh"] |= {"method": method} | ({"submethod": submethod} if submethod else {})
    if values["event"] == EventAction.BLOCK:
        fields["sshbell"] = {"block": {"target": values.get("ip") or values.get("user")}}
    return fields
