#!/usr/bin/env python3
"""
Measure the cost of places: microseconds per event, and a replay with places compared with the same replay without.

The log comes from ``make_log.py``; each client gets one of ``--clients`` addresses. With 0, three of four logins come from a new
address, so caches help little. Without ``--database``, this makes two databases: cities, each with its own position but with
shared countries, and networks, one for each /16. It runs whole replays in turn, and takes the ratio within each round. It
measures processor time, because places cost less than the noise of other programs in wall-clock time::

    bench/places.py --rounds 7 --lines 400000
    bench/places.py --clients 0 --database /var/lib/sshbell/geoip/dbip-city-lite.mmdb
"""

import argparse
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

from make_log import write_log
from measure import ROOT, spread
from mmdb_writer import MMDBWriter
from netaddr import IPSet

sys.path.insert(0, str(Path(__file__).parent.parent))  # the tree this file stands in, installed or not

from consumer.actions import EventAction
from consumer.events import Event
from consumer.events_as_ecs import of_event
from consumer.logs.replay import Replay
from consumer.matching.matcher import Matcher
from consumer.places.geoip import Places

if TYPE_CHECKING:
    from consumer.ecs import EcsEvent

FORMS = ("table", "json")


def make_databases(folder: Path) -> list[Path]:
    """Write databases of cities and networks."""
    cities, networks = (
        MMDBWriter(ip_version=6, ipv4_compatible=True, database_type=kind, languages=["en"], description="made")
        for kind in ("Made-City", "Made-ASN")
    )
    for number in range(128 << 8, 224 << 8):
        network = IPSet([f"{number >> 8}.{number & 255}.0.0/16"])
        cities.insert_network(network, city(number))
        networks.insert_network(
            network, {"autonomous_system_number": number, "autonomous_system_organization": f"Network {number}"}
        )
    paths = [folder / "city.mmdb", folder / "asn.mmdb"]
    for writer, path in zip((cities, networks), paths, strict=True):
        writer.to_db_file(str(path))
    return paths


def city(number: int) -> dict[str, Any]:
    """Return a record in MaxMind's format."""
    country = number % 200
    return {
        "city": {"geoname_id": number, "names": {"en": f"City {number}"}},
        "continent": {"code": "EU", "names": {"en": "Europe"}},
        "country": {
            "iso_code": f"{chr(65 + country // 26)}{chr(65 + country % 26)}", "names": {"en": f"Country {country}"}
        },
        "location": {"latitude": number / 1000, "longitude": -number / 1000, "time_zone": f"Zone/{country}"},
        "subdivisions": [{"iso_code": "X", "names": {"en": f"Region {number % 3000}"}}],
    }  # fmt: skip


def events_of(log: Path) -> list[Event]:
    """Return the events of a log."""
    events: list[Event] = []
    Replay(Matcher(), zone=UTC, tell=events.append, keep_text=False).run([str(log)])
    return events


def looked_up(events: list[Event], databases: list[Path]) -> dict[str, float]:
    """Return the microseconds per event of each kind, including the opening of the databases, with empty caches."""
    by_kind: defaultdict[str, list[EcsEvent]] = defaultdict(list)
    for event in events:
        by_kind[str(event.action)].append(of_event(event, []))
    places = Places(map(str, databases), print, many=True)
    micros = {}
    for action in ("ssh_login", "ssh_logout", "ssh_attempt", "ssh_probe"):
        start = time.process_time()
        for found in by_kind[action]:
            places.add(found)
        micros[action] = (time.process_time() - start) / len(by_kind[action]) * 1e6
    places.close()
    return micros


def with_clients(log: Path, count: int) -> None:
    """Give each client of a log one of ``count`` addresses."""
    source = random.Random(1)
    clients = [b"%d.%d.%d.%d" % (source.randint(128, 223), *source.randbytes(3)) for _ in range(count)]

    def chosen(match: re.Match[bytes]) -> bytes:
        return clients[crc32(match[0]) % count]

    text = log.read_bytes()
    log.write_bytes(re.sub(rb"\b(?:12[89]|1[3-9]\d|2[01]\d|22[0-3])(?:\.\d+){3}\b", chosen, text))


def processor_seconds(command: list[str]) -> float:
    """Run a command to its end, discard the output, and return its processor seconds."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if status:
        raise SystemExit(f"{' '.join(command)}: exit status {process.returncode}")
    return usage.ru_utime + usage.ru_stime


def replays(log: Path, databases: list[Path], folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield names and command lines: each format with and without places."""
    for name, patterns in (("without", []), ("with", databases)):
        config = folder / f"{name}.toml"
        config.write_text(f"geoip = {[str(path) for path in patterns]}\n")
        for form in FORMS:
            yield (
                f"{form} {name}",
                [sys.executable, "-m", "consumer", "replay", "--jobs", "1", "--config", str(config), "--format", form, str(log)],
            )


def main() -> None:
    """Read the command line, make the log and the databases, measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--lines", type=int, default=400_000)
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--database", type=Path, action="append", default=[], metavar="FILE")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        log = folder / "auth.log"
        write_log(log, options.lines, "rfc3339")
        if options.clients:
            with_clients(log, options.clients)
        databases = options.database or make_databases(folder)
        events = events_of(log)
        logins = [event for event in events if event.action is EventAction.LOGIN]
        froms = {event.address for event in logins}
        print(f"{options.lines:,} lines, {len(events):,} events; {len(logins):,} logins from {len(froms):,} addresses")
        print("databases:", *(f"{path.name} ({path.stat().st_size / 1e6:.1f} MB)" for path in databases))
        rounds = [looked_up(events, databases) for _ in range(options.rounds)]
        print(f"us per event, {options.rounds} rounds, median (min-max); lines without an event are not counted")
        for action in rounds[0]:
            print(f"  {action:<14}{spread([one[action] for one in rounds]):>24}")
        seconds: defaultdict[str, list[float]] = defaultdict(list)
        commands = list(replays(log, databases, folder))
        for _ in range(options.rounds):
            for title, command in commands:
                seconds[title].append(processor_seconds(command))
        print("replay --jobs 1: seconds, and ratio to the same replay without places")
        for form in FORMS:
            ratios = [a / b for a, b in zip(seconds[f"{form} with"], seconds[f"{form} without"], strict=True)]
            print(f"  {form:<8}{spread(seconds[f'{form} with']):>24}{spread(ratios):>24}")


if __name__ == "__main__":
    main()
