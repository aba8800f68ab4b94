"""
The events of a collector's files, which have the lines of many hosts.

One pass reads the lines of each file, and splits them by host. The engine brings the pieces of a host together, in order, and a
second pass joins their lines to events. So a host is the unit of work here, too.
"""

import marshal
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from consumer.archive.host_events import HostReport, ReadingSettings, matcher_of, places_of
from consumer.clock import SECOND_US
from consumer.ecs import EcsEvent
from consumer.errors import SshbellError
from consumer.events import PLACE_STEP, Event
from consumer.events_as_ecs import of_event
from consumer.intake.files import LogFile
from consumer.logs.blocks import LogBlockReader, LogState, first_time, first_year_of
from consumer.records import HOST, Line
from consumer.story.correlate import Correlator
from consumer.story.event_ids import IdentitiesByHost

# Lines of all hosts together that a piece waits for. Their texts take about a megabyte.
_WAITING_LINES = 4096


class HostPiece(NamedTuple):
    """
    Some lines of one host and one file. Its first four fields are the order of the pieces.

    Attributes:
        first_us: the time of the first line of the file.
        file: the number of the file.
        number: counts the pieces of the file.
        lines: as ``marshal`` writes them.
    """

    host: str
    first_us: int
    file: int
    number: int
    lines: bytes


def pieces_of_file(
    number: int, path: str, settings: ReadingSettings, report: Callable[[HostReport], None]
) -> Iterator[HostPiece]:
    """Read a file, and yield its lines by host. ``number``: of the file. ``report``: see ``events_of_host``."""
    errors: list[SshbellError] = []
    place = first_place = number * PLACE_STEP + 1
    waiting: dict[str, list[Line]] = defaultdict(list)
    count = pieces = first_us = 0
    try:
        file = LogFile(path)
        first_us = first_time(file, matcher_of(settings.sshd_programs), settings.zone, settings.year)
        for lines, end in _lines(file, place, settings):
            place = end
            for line in lines:
                waiting[line[HOST]].append(line)
            count += len(lines)
            if count >= _WAITING_LINES:
                for host, some in waiting.items():
                    yield HostPiece(host, first_us, number, pieces, marshal.dumps(some, 2))
                waiting.clear()
                count, pieces = 0, pieces + 1
    except SshbellError as error:
        errors.append(error)
    for host, some in waiting.items():
        yield HostPiece(host, first_us, number, pieces, marshal.dumps(some, 2))
    report(HostReport(place - first_place, 0, tuple(errors)))


def _lines(file: LogFile, place: int, settings: ReadingSettings) -> Iterator[tuple[list[Line], int]]:
    """Yield the lines of each block, and the place behind it."""
    reader = LogBlockReader(matcher_of(settings.sshd_programs), settings.zone, keep_text=True)
    first_year, modified_us = first_year_of(file, settings.year), int(file.modified.timestamp() * SECOND_US)
    state: LogState | None = None
    for block in file.blocks():
        lines, *_, state = reader.read((modified_us, place, block, state or reader.beginning(block, first_year)))
        place += block.count(b"\n")
        yield lines, place


def events_of_pieces(pieces: Iterable[bytes], paths: list[str], settings: ReadingSettings) -> Iterator[EcsEvent]:
    """Yield the events of one host, from the lines of its pieces in order. ``paths``: the files, by number."""
    found: list[Event] = []
    matcher, places = matcher_of(settings.sshd_programs), places_of(settings.geoip)
    correlator = Correlator(
        matcher.rules, lambda name: matcher.program(name).family, found.append, IdentitiesByHost()
    )  # fmt: skip
    for piece in pieces:
        correlator.feed(marshal.loads(piece))  # noqa: S302 - written by pieces_of_file
        yield from [places.add(of_event(event, paths)) for event in found]
        found.clear()
    correlator.settle()
    yield from [places.add(of_event(event, paths)) for event in found]
