"""
The events of one host's files: a plain function, with which any engine can share hosts among its workers.

An archive has events and no findings: the detectors need the events of all hosts in one order.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, tzinfo
from functools import cache
from typing import TYPE_CHECKING, Literal

import msgspec

from consumer.ecs import EcsEvent
from consumer.errors import InputError, SshbellError, complain
from consumer.events_as_ecs import of_event
from consumer.logs.replay import Replay
from consumer.matching.matcher import Matcher
from consumer.places.geoip import Places

if TYPE_CHECKING:
    from consumer.events import Event


class ReadingSettings(msgspec.Struct, frozen=True):
    """
    How to read log files; it can be pickled.

    Attributes:
        sshd_programs: further names of sshd.
        geoip: the databases of places, as in the configuration. They are on the machine that reads.
        zone: for time stamps without one.
        year: of the first line of each file without years; None takes it from the files' modification times.
    """

    sshd_programs: tuple[str, ...] = ()
    geoip: tuple[str, ...] | Literal["web"] = ()
    zone: tzinfo = UTC
    year: int | None = None


class HostReport(msgspec.Struct, frozen=True):
    """What was read of a host: its lines, the events they made, and a fault for each file that could not be read to its end."""

    lines: int
    events: int
    errors: tuple[SshbellError, ...]


def events_of_host(
    paths: Sequence[str],
    settings: ReadingSettings = ReadingSettings(),  # noqa: B008 - it is frozen
    report: Callable[[HostReport], None] = lambda _report: None,
) -> Iterator[EcsEvent]:
    """
    Yield the events of a host, in the order in which ``sshbell replay`` shows them.

    Args:
        paths: all files of the host, with the rotated ones. Like ``replay``, this sorts them by the times of their first lines.
        settings: how to read them.
        report: gets what was read, behind the last event. It alone gets the faults, so this function raises none.
    """
    found: list[Event] = []
    names: list[str] = []
    total = 0
    places = places_of(settings.geoip)
    replay = Replay(matcher_of(settings.sshd_programs), zone=settings.zone, year=settings.year, paths=names, tell=found.append)
    for _ in replay.steps(list(paths)):
        total += len(found)
        for event in found:
            yield places.add(of_event(event, names))
        found.clear()
    report(HostReport(replay.summary.lines, total, tuple(replay.errors)))


# A worker process reads many hosts, one after the other. A matcher remembers no lines.
@cache
def matcher_of(sshd_programs: tuple[str, ...]) -> Matcher:
    """Return the matcher of this process."""
    return Matcher(sshd_programs)


@cache
def places_of(geoip: tuple[str, ...] | Literal["web"]) -> Places:
    """Return the open databases of this process."""
    return Places(geoip, lambda fault: complain(InputError(fault)), many=True)
