"""``sshbell explain ID``: shows what a finding rests on: the rule, the time, the events, and their lines if a file has them."""

from collections.abc import Iterator, Sequence
from datetime import tzinfo

from consumer.actions import SEVERITIES
from consumer.clock import utc
from consumer.deliver.facts import facts_of
from consumer.deliver.sentences import sentences_of
from consumer.errors import SshbellError, UsageError
from consumer.events import PLACE_STEP, Event, Finding
from consumer.events_as_ecs import of_event
from consumer.logs.replay import Replay
from consumer.matching.matcher import Matcher
from consumer.records import HOST, PLACE, PROCID, PROGRAM, TEXT, TIME
from consumer.show.table import EVENTS, Table
from consumer.store.queries import event_of_id
from consumer.store.reader import Store
from consumer.text import counted, harmless, listed, readable


class LoggedLines:
    """
    The lines of events in log files. The same line gives an event the same id, however sshbell read it.

    Args:
        matcher: reads the lines.
        paths: the files.
        zone: for time stamps without one.
        year: of the first line of each file without years; None takes it from the files' modification times.

    Attributes:
        errors: a fault for each file that could not be read, or not to its end.
    """

    def __init__(self, matcher: Matcher, paths: Sequence[str], zone: tzinfo, year: int | None) -> None:
        self.paths = paths
        self.errors: list[SshbellError] = []
        self._matcher, self._zone, self._year = matcher, zone, year

    def shown(self, events: Sequence[Event]) -> Iterator[str]:
        """Yield the line that decided each event, with its place; nothing without files."""
        if not self.paths or not events:
            return
        yield ""
        yield "The lines that decided:"
        yield from (harmless(readable(text)) for text in self._of(events))

    def _of(self, events: Sequence[Event]) -> Iterator[str]:
        wanted = {event.id for event in events}
        found: list[Event] = []
        paths: list[str] = []
        replay = Replay(
            self._matcher, zone=self._zone, year=self._year, tell=found.append, paths=paths,
            takes=lambda event: event.id in wanted,
        )  # fmt: skip
        replay.run(list(self.paths))
        self.errors += replay.errors
        for event in sorted(found, key=lambda each: each.time_us):
            line = event.line
            file, number = divmod(line[PLACE], PLACE_STEP)
            program = f"{line[PROGRAM]}[{line[PROCID]}]" if line[PROCID] else line[PROGRAM]
            moment = _moment(line[TIME] or 0, self._zone)
            yield f"{paths[file]}:{number}: {' '.join(filter(None, (moment, line[HOST], f'{program}:', line[TEXT])))}"
        if missing := len(wanted - {event.id for event in found}):
            yield f"{counted(missing, 'line')} {'is' if missing == 1 else 'are'} not in these files"


def explained(store: Store, event_id: str, zone: tzinfo, width: int | None, lines: LoggedLines) -> Iterator[str]:
    """
    Yield lines of text about an event of the store, and about the events that it rests on if it is a finding.

    Args:
        store: has the events.
        event_id: the id, or its beginning.
        zone: of the times shown.
        width: of the terminal, in cells; None cuts nothing.
        lines: the files that may have the lines of the events.

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
        yield from lines.shown([event])
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
    yield from lines.shown(rests_on)


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
