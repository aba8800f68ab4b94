"""``sshbell explain ID``: shows what a finding rests on: the rule, the time, and the events themselves."""

from collections.abc import Iterator
from datetime import tzinfo

from consumer.actions import SEVERITIES
from consumer.clock import utc
from consumer.deliver.facts import facts_of
from consumer.deliver.sentences import sentences_of
from consumer.errors import UsageError
from consumer.events import Event, Finding
from consumer.events_as_ecs import of_event
from consumer.show.table import EVENTS, Table
from consumer.store.queries import event_of_id
from consumer.store.reader import Store
from consumer.text import harmless, listed


def explained(store: Store, event_id: str, zone: tzinfo, width: int | None) -> Iterator[str]:
    """
    Yield lines of text about an event of the store, and about the events that it rests on if it is a finding.

    Args:
        store: has the events.
        event_id: the id, or its beginning.
        zone: of the times shown.
        width: of the terminal, in cells; None cuts nothing.

    Raises:
        UsageError: there is no such event, or several.
        StoreError: the store does not exist or cannot be read.
    """
    event = event_of_id(store, event_id)
    if event is None:
        raise UsageError(f"no event, or more than one, has an id that begins with {event_id}")
    table = Table(EVENTS, zone, color=False, width=width, noise=True)
    if not isinstance(event, Finding):
        yield from table.row(event).split("\n")
        return
    yield harmless(sentences_of(facts_of(of_event(event, []), zone)).headline)
    yield ""
    for name, value in _facts(event, zone):
        if value:
            yield f"{name + ':':<10} {harmless(value)}"
    yield ""
    rests_on = [found for each in event.event_ids if (found := event_of_id(store, each)) is not None]
    missing = len(event.event_ids) - len(rests_on)
    yield from _shown(rests_on, table, event.count)
    if missing:
        yield f"{missing} more of its events are no longer in the store."


def _facts(finding: Finding, zone: tzinfo) -> Iterator[tuple[str, str]]:
    technique = finding.action.technique
    yield "detector", f"{finding.action}{f' ({technique})' if technique else ''}"
    yield "severity", f"{finding.severity} ({SEVERITIES[finding.severity]})"
    yield "origin", finding.origin
    yield "rule", finding.rule
    yield "count", str(finding.count)
    yield "from", _moment(finding.since_us, zone)
    yield "until", _moment(finding.last_us, zone)
    yield "users", listed([user for user in finding.users if user])
    yield "addresses", listed(finding.addresses)
    yield "hosts", listed(finding.hosts)
    yield from finding.labels.items()
    yield "id", finding.id


def _shown(events: list[Event], table: Table, count: int) -> Iterator[str]:
    """Yield a table of the events that a finding rests on."""
    if not events:
        return
    more = f", the newest {len(events)} of {count}" if count > len(events) > 1 else ""
    yield f"It rests on these events{more}:"
    for event in sorted(events, key=lambda each: each.time_us):
        yield from table.row(event).split("\n")


def _moment(time_us: int, zone: tzinfo) -> str:
    if not time_us:
        return ""
    return utc(time_us).astimezone(zone).strftime("%Y-%m-%d %H:%M:%S %Z")
