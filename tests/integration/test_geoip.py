"""Places as people see them: ``geoip ADDRESS``, ``replay``, ``who``, ``history``, ``check``."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import time

import pytest
from click.testing import CliRunner

from consumer.commands.geoip import geoip
from tests.databases import ADDRESS, LYON, LYON_GEO, ORANGE, made, made_of
from tests.integration.site import PROJECT_DIR, Site
from tests.store_events import session_lines

OK, USAGE, CONFIG = 0, 64, 78
AS = {"number": 3215, "organization": {"name": "Orange S.A."}}
AT_US = (time.time_ns() // 1_000_000_000 - 3600) * 1_000_000
LOG = f"""\
2026-11-22T10:00:00.000000+00:00 web1 sshd[1]: Accepted password for alice from {ADDRESS} port 4711 ssh2
2026-11-22T10:00:00.100000+00:00 web1 sshd[1]: pam_unix(sshd:session): session opened for user alice(uid=1000) by (uid=0)
2026-11-22T10:00:01.000000+00:00 web1 sshd[2]: Failed password for root from 8.8.8.8 port 1 ssh2
2026-11-22T10:00:02.000000+00:00 web1 sshd[3]: Accepted password for bob from 127.0.0.1 port 22 ssh2
2026-11-22T10:00:02.100000+00:00 web1 sshd[3]: pam_unix(sshd:session): session opened for user bob(uid=1001) by (uid=0)
2026-11-22T10:00:09.000000+00:00 web1 sshd[1]: pam_unix(sshd:session): session closed for user alice
"""


@pytest.fixture
def site(site: Site) -> Site:
    """Return a site with databases and a log."""
    site.log.write_text(LOG)
    made(site.folder / "city.mmdb", LYON, kind="DBIP-City-Lite")
    made(site.folder / "asn.mmdb", ORANGE)
    site.configure(geoip=[f"{site.folder}/*.mmdb"])
    return site


def test_geoip(site: Site) -> None:
    """A row for each address; from which databases it is, on standard error."""
    done = site.ask("geoip", ADDRESS, "127.0.0.1", "8.8.8.8")
    assert done.stdout.startswith("address ")
    first, second, third = done.stdout.splitlines()[1:]
    assert " ".join(first.split()) == f"{ADDRESS} Lyon, Auvergne-Rhone-Alpes, FR France AS3215 Orange S.A."
    assert (second.split(), third.split()) == (["127.0.0.1", "loopback"], ["8.8.8.8"])
    assert [line.split(" (")[0] for line in done.stderr.splitlines()] == [
        f"from {site.folder / 'asn.mmdb'}", f"from {site.folder / 'city.mmdb'}",
    ]  # fmt: skip


def test_geoip_in_columns(site: Site) -> None:
    """They are as wide as what is in them, so that a long address or a long name moves nothing."""
    long = "2001:db8:1111:2222:3333:4444:5555:6666"
    head, *rows = site.ask("geoip", ADDRESS, long, "127.0.0.1").stdout.splitlines()
    for column, cells in {
        "place": ["Lyon, Auvergne-Rhone-Alpes, FR France", "", ""],
        "network": ["AS3215 Orange S.A.", "", ""],
        "what": ["", "documentation", "loopback"],
    }.items():
        assert [row[head.index(column) :].partition("  ")[0] for row in rows] == cells


def test_geoip_help() -> None:
    """The options of what needs no verb can be found."""
    said = CliRunner().invoke(geoip, ["--help"]).stdout.partition("Options with ADDRESS")[2]
    assert "--json" in said
    assert "--config" in said


def test_geoip_json(site: Site) -> None:
    """ECS, one object a line."""
    said = [json.loads(line) for line in site.ask("geoip", "--json", ADDRESS, "::1", f"::ffff:{ADDRESS}").stdout.splitlines()]
    assert said == [
        {"source": {"ip": ADDRESS, "address": ADDRESS, "geo": LYON_GEO, "as": AS}},
        {"source": {"ip": "::1", "address": "::1", "geo": {"name": "loopback"}}},
        {"source": {"ip": ADDRESS, "address": f"::ffff:{ADDRESS}", "geo": LYON_GEO, "as": AS}},
    ]


def test_geoip_of_what_is_none(site: Site) -> None:
    """What is no address is a usage error that shows no control characters."""
    done = site.ask("geoip", "fecth", status=USAGE)
    assert "sshbell geoip fetch" in done.stderr
    site.configure(geoip=[])
    assert site.ask("geoip", "192.0.2.1").stderr.startswith("geoip = []: sshbell uses no databases; ")
    assert "\x1b" not in site.ask("geoip", "\x1b[2J", status=USAGE).stderr


def test_names_in_a_database_are_hostile(site: Site) -> None:
    """What a terminal would obey is shown as an escape, and JSON stays one line."""
    made(site.folder / "a.mmdb", {"city": "\x1b[2J\n\u202ex", "as_name": "a\rb", "asn": "AS1"})
    for arguments in (
        ["geoip", ADDRESS],
        ["geoip", "--json", ADDRESS],
        ["replay", site.log],
        ["replay", "--format", "json", site.log],
    ):
        done = site.ask(*arguments)
        assert all(line.isprintable() for line in done.stdout.split("\n"))
        assert "x1b[2J" in done.stdout or "u001b[2J" in done.stdout


def test_replay(site: Site) -> None:
    """The table has a column for places; where there is no database, it has none."""
    head, *rows = site.ask("replay", site.log).stdout.splitlines()[:4]
    assert head.split() == ["time", "what", "user", "from", "place", "host", "who", "and", "how"]
    where = head.index("place")
    assert [row[where:].split("  ")[0] for row in rows] == ["Lyon, FR, AS3215", "loopback", "Lyon, FR, AS3215"]
    site.configure(geoip=[f"{site.folder}/none/*.mmdb"])
    assert "place" not in site.ask("replay", site.log).stdout.splitlines()[0]


def test_replay_json(site: Site) -> None:
    """Each event with an address has its place; without a database what needs none; switched off, nothing."""

    def sources() -> list[object]:
        return [
            json.loads(line)["source"].get("geo") for line in site.ask("replay", "--format", "json", site.log).stdout.splitlines()
        ]

    assert sources() == [LYON_GEO, None, {"name": "loopback"}, LYON_GEO]
    site.configure(geoip=[f"{site.folder}/none/*.mmdb"])
    assert sources() == [None, None, {"name": "loopback"}, None]
    site.configure(geoip=[])
    assert sources() == [None] * 4


def test_replay_with_a_damaged_database(site: Site) -> None:
    """It is said once, and all else is told."""
    whole = site.ask("replay", site.log).stdout
    (site.folder / "bad.mmdb").write_bytes(b"x" * 1000)
    done = site.ask("replay", site.log)
    assert done.stdout == whole
    assert done.stderr.splitlines() == [f"sshbell: {site.folder}/bad.mmdb: not a database in MaxMind's format, or a damaged one"]


def test_many_addresses(site: Site) -> None:
    """Where so many are asked that databases are read into memory, the places are the same."""
    made_of(site.folder / "b.mmdb", {f"193.{second}.0.0/16": {"city": f"city {second}"} for second in range(200)})
    lines = LOG.splitlines(keepends=True)[:2]
    with site.log.open("w") as log:
        for number in range(1000):
            for line in lines:
                log.write(line.replace("[1]", f"[{number + 10}]").replace(ADDRESS, f"193.{number % 200}.{number // 200}.9"))
    found = [json.loads(line)["source"] for line in site.ask("replay", "--format", "json", site.log).stdout.splitlines()]
    assert len(found) == 1000
    assert {source["ip"].split(".")[1]: source["geo"]["city_name"] for source in found} == {
        f"{one}": f"city {one}" for one in range(200)
    }


def test_who_and_history(site: Site) -> None:
    """The store keeps no places; they are told as the databases are now."""
    from tests.store_events import events_of  # noqa: PLC0415

    lines = [line.replace(b"192.0.2.7", ADDRESS.encode()) for line in session_lines(3, "alice", at_us=AT_US, lasts_s=None)]
    with site.state() as state:
        state.record(events_of(*lines), frozenset(), AT_US)
    for arguments in (["who"], ["history"], ["history", "--events"]):
        assert "  Lyon, FR, AS3215  " in site.ask(*arguments).stdout
        source = json.loads(site.ask(*arguments, "--json").stdout.splitlines()[0])["source"]
        assert (source["geo"], source["as"]) == (LYON_GEO, AS)
    (row,) = csv.DictReader(site.ask("history", "--csv", "--all-columns").stdout.splitlines())
    assert {name: value for name, value in row.items() if name.startswith(("source.geo.", "source.as."))} == {
        "source.geo.name": "", "source.geo.city_name": "Lyon", "source.geo.country_iso_code": "FR", "source.as.number": "3215",
        "source.as.organization.name": "Orange S.A.",
    }  # fmt: skip


def test_check(site: Site) -> None:
    """A row for each database, and one for what is wrong with one."""
    (site.folder / "bad.mmdb").write_bytes(b"x")
    done = subprocess.run(
        [sys.executable, "-m", "consumer", "check", "--json", "--config", str(site.config)], cwd=PROJECT_DIR, text=True,
        check=False, capture_output=True, timeout=60,
    )  # fmt: skip
    rows = [row for row in map(json.loads, done.stdout.splitlines()) if row["name"] == "places"]
    assert [(row["state"], row["text"].split(":")[0]) for row in rows] == [
        ("warning", f"{site.folder}/bad.mmdb"), ("ok", f"{site.folder}/asn.mmdb"), ("ok", f"{site.folder}/city.mmdb"),
    ]  # fmt: skip


@pytest.mark.parametrize("value", ['["geoip/*.mmdb"]', '"/x.mmdb"', "[1]"])
def test_configuration(site: Site, value: str) -> None:
    """Absolute paths alone."""
    site.config.write_text(f"geoip = {value}\n")
    assert "geoip" in site.ask("replay", site.log, status=CONFIG).stderr


IMPORTED = """
import sys
from consumer.cli import main
try:
    main()
except SystemExit as end:
    print("status", end.code)
print("loaded", sorted({"maxminddb", "multiprocessing", "urllib.request"} & sys.modules.keys()))
"""


@pytest.mark.parametrize(
    "arguments", [["--version"], ["completion", "bash"], ["replay", "LOG"], ["replay", "--format", "json", "LOG"]]
)
def test_what_is_not_needed_is_not_loaded(site: Site, arguments: list[str]) -> None:
    """Without a database nothing is loaded that reads one; with one it is."""
    command = [sys.executable, "-c", IMPORTED, *(str(site.log) if name == "LOG" else name for name in arguments)]
    is_replay = "replay" in arguments
    more = ["--config", str(site.config)] if is_replay else []
    site.configure(geoip=[f"{site.folder}/none/*.mmdb"])
    done = subprocess.run([*command, *more], cwd=PROJECT_DIR, text=True, check=True, capture_output=True, timeout=60)
    assert done.stdout.splitlines()[-2:] == ["status 0", "loaded []"]
    if is_replay:
        site.configure(geoip=[f"{site.folder}/*.mmdb"])
        done = subprocess.run([*command, *more], cwd=PROJECT_DIR, text=True, check=True, capture_output=True, timeout=60)
        assert "'maxminddb'" in done.stdout.splitlines()[-1]
