"""Places: databases are merged, opened anew when replaced, and lived without where they are missing or damaged."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pytest

from consumer.ecs import NO_SOURCE
from consumer.places import database as database_module
from consumer.places import geoip
from consumer.places.database import Database
from consumer.places.geoip import CACHE_LIMIT, DATABASES_LIMIT, Places, place_text
from tests.databases import ADDRESS, ADDRESS_6, LYON, LYON_GEO, ORANGE, made, made_of
from tests.ecs_events import ecs, fields_of

if TYPE_CHECKING:
    from collections.abc import Iterator

PROJECT_DIR = Path(__file__).parents[3]
ORANGE_AS = {"number": 3215, "organization": {"name": "Orange S.A."}}


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def monotonic(self) -> float:
        """Return the time."""
        return self.now_s


@pytest.fixture(params=[False, True], ids=["few", "many"])
def many(request: pytest.FixtureRequest) -> bool:
    """Read from the disk, or from memory."""
    return bool(request.param)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Return the clock that places look at."""
    found = Clock()
    monkeypatch.setattr(geoip, "time", found)
    return found


class Opened:
    """Places, and what they reported."""

    def __init__(self, *patterns: Path | str, many: bool = False) -> None:
        self.reports: list[str] = []
        self.places = Places(list(map(str, patterns)), self.reports.append, many=many)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_details: object) -> None:
        self.places.close()


def test_several_are_merged_in_order(tmp_path: Path, *, many: bool) -> None:
    """The first database that says something counts; what it does not say the others may."""
    city = made(tmp_path / "city.mmdb", LYON, kind="DBIP-City-Lite")
    asn = made(tmp_path / "asn.mmdb", ORANGE)
    other = made(tmp_path / "other.mmdb", {"country_code": "FR", "city": "Villeurbanne", "asn": "AS1", "vpn": True})
    with Opened(city, asn, other, many=many) as opened:
        for address in (ADDRESS, ADDRESS_6, f"::ffff:{ADDRESS}"):
            assert fields_of(opened.places.of(address)) == {"geo": LYON_GEO, "as": ORANGE_AS, "anonymous": ["vpn"]}
        assert opened.places.text(ADDRESS) == "Lyon, FR, AS3215, vpn"
        assert (opened.places.databases[0].path, opened.places.databases[0].type) == (str(city), "DBIP-City-Lite")
        assert [one.in_memory for one in opened.places.databases] == [many] * 3
    with Opened(other, city, asn, many=many) as opened:
        assert opened.places.text(ADDRESS) == "Villeurbanne, FR, AS1, vpn"
        assert fields_of(opened.places.of(ADDRESS))["geo"]["location"] == LYON_GEO["location"]
    assert opened.reports == []


COUNTRY = {"country": {"iso_code": "FR", "names": {"en": "France"}}, "location": {"latitude": 46.0, "longitude": 2.0}}


@pytest.mark.parametrize(
    ("kind", "record", "expected"),
    [
        ("GeoLite2-City", LYON, {"geo": LYON_GEO}),
        ("GeoLite2-City", COUNTRY, {"geo": {"country_iso_code": "FR", "country_name": "France"}}),
        ("DBIP-City-Lite", LYON, {"geo": LYON_GEO}),
        (
            "GeoIP2-Enterprise",
            LYON | {"traits": ORANGE | {"is_anonymous_vpn": True}},
            {"geo": LYON_GEO, "as": ORANGE_AS, "anonymous": ["vpn"]},
        ),
        ("GeoLite2-Country", COUNTRY, {"geo": {"country_iso_code": "FR", "country_name": "France"}}),
        ("GeoLite2-ASN", ORANGE, {"as": ORANGE_AS}),
        ("GeoIP2-ISP", ORANGE | {"isp": "Orange"}, {"as": ORANGE_AS}),
        ("GeoIP2-Anonymous-IP", {"is_anonymous": True, "is_tor_exit_node": True}, {"anonymous": ["tor"]}),
        ("GeoIP-Anonymous-Plus", {"is_anonymous": True, "is_anonymous_vpn": True}, {"anonymous": ["vpn"]}),
    ],
)
def test_types_that_geoip2_knows(tmp_path: Path, kind: str, record: object, expected: dict[str, Any]) -> None:
    """geoip2 reads them, and finds nothing for other addresses."""
    with Opened(made(tmp_path / "x.mmdb", record, kind=kind)) as opened:
        assert opened.places.databases[0].models is not None
        assert fields_of(opened.places.of(ADDRESS)) == fields_of(opened.places.of(ADDRESS_6)) == expected
        assert fields_of(opened.places.of("8.8.8.8")) == {}
        assert opened.reports == []


@pytest.mark.parametrize(
    ("kind", "record", "expected"),
    [
        # ip-location-db and IPinfo call their flat databases by such names, too.
        ("City", {"city": "Lyon", "country_code": "FR"}, {"geo": {"city_name": "Lyon", "country_iso_code": "FR"}}),
        ("ipinfo Country", {"country": "FR", "asn": "AS3215"}, {"geo": {"country_iso_code": "FR"}, "as": {"number": 3215}}),
        ("GeoLite2-ASN", {"asn": 3215}, {"as": {"number": 3215}}),
        ("GeoLite2-City", {"subdivisions": {"x": 1}, "country": {"iso_code": "FR"}}, {}),
    ],
)
def test_another_shape_than_the_type_suggests(tmp_path: Path, kind: str, record: object, expected: dict[str, Any]) -> None:
    """The record counts, not the name of the database. A shape that nobody has is no fault."""
    with Opened(made(tmp_path / "x.mmdb", record, kind=kind)) as opened:
        assert fields_of(opened.places.of(ADDRESS)) == expected
        assert opened.reports == []


def test_two_that_disagree_are_not_mixed(tmp_path: Path) -> None:
    """No city of one country stands beside another country's name."""
    country = made(tmp_path / "country.mmdb", {"country_code": "DE"})
    city = made(tmp_path / "city.mmdb", LYON)
    with Opened(country, city) as opened:
        assert fields_of(opened.places.of(ADDRESS)) == {"geo": {"country_iso_code": "DE"}}


def test_a_pattern_finds_them_in_the_order_of_their_names(tmp_path: Path) -> None:
    """As a shell does; one that two patterns find is asked once."""
    for name in ("b", "a", "c"):
        made(tmp_path / f"{name}.mmdb", {"city": name})
    with Opened(tmp_path / "b.mmdb", tmp_path / "*.mmdb") as opened:
        assert [Path(one.path).stem for one in opened.places.databases] == ["b", "a", "c"]
        assert opened.places.text(ADDRESS) == "b"


def test_addresses_that_are_no_place(tmp_path: Path, *, many: bool) -> None:
    """They are named without a database, and no database that knows better is asked."""
    everywhere = made(tmp_path / "x.mmdb", {"country_code": "FR"}, networks=("0.0.0.0/0", "2000::/3"))
    for patterns in ([tmp_path / "none*.mmdb"], [everywhere]):
        with Opened(*patterns, many=many) as opened:
            assert fields_of(opened.places.of("127.0.0.1")) == {"geo": {"name": "loopback"}}
            assert fields_of(opened.places.of("::ffff:10.0.0.1")) == {"geo": {"name": "private network"}}
            assert fields_of(opened.places.of("fe80::1%eth0")) == {"geo": {"name": "link-local"}}
            assert fields_of(opened.places.of("2002:c0a8:101::1")) == {"geo": {"name": "6to4, private network"}}
    with Opened(everywhere, many=many) as opened:
        assert fields_of(opened.places.of("64:ff9b::808:808")) == {"geo": {"name": "NAT64", "country_iso_code": "FR"}}
        assert opened.places.text("2002:808:808::1") == "FR, 6to4"


@pytest.mark.parametrize("address", [None, "", "UNKNOWN", "client.example.org", "1.2.3", "1.2.3.4.5", "x" * 70_000, "1.2.3.4\n"])
def test_what_is_no_address_has_no_place(tmp_path: Path, address: str | None) -> None:
    """Nothing is known of it, and nothing is raised."""
    with Opened(made(tmp_path / "x.mmdb", LYON)) as opened:
        assert fields_of(opened.places.of(address)) == {}
        assert opened.places.text(address) == ""


def test_off() -> None:
    """Without any pattern not even a loopback address is named."""
    with Opened() as opened:
        assert fields_of(opened.places.of("127.0.0.1")) == {}
        event = ecs({"source": {"ip": "127.0.0.1"}})
        assert opened.places.add(event) == event


def test_add(tmp_path: Path) -> None:
    """An event gets it under its source; one without an address stays as it is."""
    with Opened(made(tmp_path / "x.mmdb", ORANGE)) as opened:
        found = opened.places.add(ecs({"source": {"ip": ADDRESS, "port": 22}, "host": {"name": "web1"}}))
        assert fields_of(found) == {"source": {"ip": ADDRESS, "port": 22, "as": ORANGE_AS}, "host": {"name": "web1"}}
        for other in ({"source": {"address": "UNKNOWN"}}, {"host": {"name": "web1"}}):
            assert fields_of(opened.places.add(ecs(other))) == other


def test_ipv4_alone(tmp_path: Path, *, many: bool) -> None:
    """A database of IPv4 alone says nothing of IPv6, and is not damaged for that."""
    with Opened(made(tmp_path / "x.mmdb", LYON, networks=("193.252.0.0/16",), ip_version=4), many=many) as opened:
        assert fields_of(opened.places.of(ADDRESS_6)) == {}
        assert opened.places.text(ADDRESS) == "Lyon, FR"
        assert opened.reports == []


def test_replaced_by_a_rename(tmp_path: Path, clock: Clock, *, many: bool) -> None:
    """What replaces a database is used after a while, without a look at the file for each address."""
    path = made(tmp_path / "x.mmdb", {"city": "old"})
    with Opened(tmp_path / "*.mmdb", many=many) as opened:
        assert opened.places.text(ADDRESS) == "old"
        made(path, {"city": "new"})
        clock.now_s += 9
        assert opened.places.text(ADDRESS) == "old"
        clock.now_s += 2
        assert opened.places.text(ADDRESS) == "new"
        made(tmp_path / "a.mmdb", {"city": "added"})
        clock.now_s += 11
        assert opened.places.text(ADDRESS) == "added"
        for one in tmp_path.iterdir():
            one.unlink()
        clock.now_s += 11
        assert fields_of(opened.places.of(ADDRESS)) == {}
        assert (opened.places.databases, opened.reports) == ((), [])


def test_missing(tmp_path: Path, clock: Clock) -> None:
    """One that is named and is not there is reported once, until it has been there; one that a pattern would find is not."""
    path = tmp_path / "x.mmdb"
    asn = made(tmp_path / "asn.mmdb", ORANGE)
    with Opened(path, asn, tmp_path / "y*.mmdb", tmp_path / "nowhere" / "*.mmdb") as opened:
        for _ in range(3):
            assert opened.places.text(ADDRESS) == "AS3215"
            clock.now_s += 11
        assert opened.reports == [f"{path}: No such file or directory"]
        made(path, LYON)
        clock.now_s += 11
        assert opened.places.text(ADDRESS) == "Lyon, FR, AS3215"
        path.unlink()
        clock.now_s += 11
        assert opened.places.text(ADDRESS) == "AS3215"
        assert opened.reports == [f"{path}: No such file or directory"] * 2


def test_damaged(tmp_path: Path, clock: Clock, *, many: bool) -> None:
    """It is reported once in one line and lived without; once it is mended it is used."""
    path = tmp_path / "x.mmdb"
    path.write_bytes(b"<html>\nnot found")
    asn = made(tmp_path / "asn.mmdb", ORANGE)
    with Opened(path, asn, many=many) as opened:
        for _ in range(3):
            assert opened.places.text(ADDRESS) == "AS3215"
            clock.now_s += 11
        path.write_bytes(b"<html>\nanother one")
        assert opened.places.text(ADDRESS) == "AS3215"
        assert opened.reports == [f"{path}: not a database in MaxMind's format, or a damaged one"]
        made(path, LYON)
        clock.now_s += 11
        assert opened.places.text(ADDRESS) == "Lyon, FR, AS3215"


def cut(data: bytes, start: int) -> dict[str, bytes]:
    """Return bad databases that were made of a good one, whose metadata are at ``start``."""
    nodes, record_size = data.index(b"Jnode_count", start) + 11, data.index(b"Krecord_size", start) + 12
    width = data[nodes] & 0x1F
    return {
        "empty": b"",
        "half": data[: len(data) // 2],
        "magic": data.replace(b"MaxMind.com", b"MaxMind.org"),
        "tree cut out": data[start - 1 :],
        "metadata alone": data[start:],
        "metadata cut": data[: start + 20],
        "no metadata": data[: start + 14],
        "nodes": data[: nodes + 1] + b"\xff" * width + data[nodes + 1 + width :],
        "record size": data[: record_size + 1] + b"\xff" + data[record_size + 2 :],
    }


def absurd(path: Path, kind: str) -> None:
    """Put something bad in a database's place."""
    data = made(path, LYON).read_bytes()
    path.unlink()
    match kind:
        case "directory":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "link to itself":
            path.symlink_to(path)
        case _:
            path.write_bytes(cut(data, data.rindex(b"\xab\xcd\xefMaxMind.com"))[kind])


KINDS = [
    "empty", "half", "magic", "tree cut out", "metadata alone", "metadata cut", "no metadata", "nodes", "record size",
    "directory", "pipe", "link to itself",
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_absurd(tmp_path: Path, kind: str, *, many: bool) -> None:
    """Whatever stands in a database's place is reported in one line, and the others answer."""
    path = tmp_path / "x.mmdb"
    absurd(path, kind)
    with Opened(path, made(tmp_path / "asn.mmdb", ORANGE), many=many) as opened:
        assert opened.places.text(ADDRESS) == "AS3215"
        (report,) = opened.reports
        assert report.startswith(f"{path}: ")
        assert "\n" not in report
        assert ("/x.mmdb/*.mmdb" in report) is (kind == "directory")


def test_data_that_is_damaged(tmp_path: Path, clock: Clock, *, many: bool) -> None:
    """A database that opens, and whose records cannot be read, is taken out when that is met, and reported once."""
    path = made(tmp_path / "x.mmdb", LYON)
    data = path.read_bytes()
    end = data.rindex(b"\xab\xcd\xefMaxMind.com")
    begin = data.index(bytes(16)) + 16
    path.write_bytes(data[:begin] + b"\xff" * (end - begin) + data[end:])
    with Opened(path, made(tmp_path / "asn.mmdb", ORANGE), many=many) as opened:
        for address in (ADDRESS, ADDRESS_6, "193.252.2.2"):
            assert opened.places.text(address) == "AS3215"
            clock.now_s += 11
        assert opened.reports == [f"{path}: damaged; sshbell uses the others without it"]


# In a process of its own, since what goes wrong here would kill it.
OVERWRITTEN = """
import sys
from consumer.ecs import NO_SOURCE
from consumer.places.geoip import Places
path, many, how = sys.argv[1], sys.argv[2] == "many", sys.argv[3]
reports = []
places = Places([path], reports.append, many=many)
whole = open(path, "rb").read()
assert places.of("193.252.1.1") != NO_SOURCE
if how == "emptied":
    open(path, "wb").close()
elif how == "cut":
    open(path, "r+b").truncate(len(whole) // 3)
else:
    with open(path, "r+b") as file:
        file.write(b"\\xff" * len(whole))
for number in range(256):
    places.of(f"193.252.{number}.2")
print(len(reports))
"""


@pytest.mark.parametrize("how", ["emptied", "cut", "overwritten"])
def test_overwritten_in_place(tmp_path: Path, how: str, *, many: bool) -> None:
    """A file that is not renamed but written over, as curl -o does, kills nobody who reads it."""
    path = made_of(tmp_path / "x.mmdb", {f"193.252.{number}.0/24": {"city": f"city {number}"} for number in range(256)})
    done = subprocess.run(
        [sys.executable, "-c", OVERWRITTEN, str(path), "many" if many else "few", how], cwd=PROJECT_DIR, capture_output=True,
        text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip() == ("0" if many else "1")


MUTATED = """
import random, sys
from pathlib import Path
from consumer.places.geoip import Places
whole, path = Path(sys.argv[1]).read_bytes(), Path(sys.argv[2])
source = random.Random(int(sys.argv[3]))
opened = damaged = 0
for _ in range(150):
    data = bytearray(whole)
    for _ in range(source.choice((1, 3, 30))):
        data[source.randrange(len(data))] = source.choice((0, 0xFF, source.randrange(256)))
    path.write_bytes(data[: source.randrange(len(data))] if source.random() < 0.2 else data)
    for many in (False, True):
        reports = []
        places = Places([str(path)], reports.append, many=many)
        opened += bool(places.databases)
        for number in range(0, 256, 16):
            places.of(f"193.252.{number}.2")
            places.of(f"2a01:c000:{number:x}::1")
        damaged += bool(reports)
        assert len(reports) <= 1, reports
        places.close()
print(opened, damaged)
"""


def test_mutated(tmp_path: Path) -> None:
    """Bytes that were changed anywhere crash nothing; many such files can be opened, and many are reported."""
    records = {f"193.252.{number}.0/24": LYON | {"asn": number + 1} for number in range(0, 256, 16)}
    whole = made_of(tmp_path / "whole.mmdb", records | {"2a01:c000::/19": ORANGE})
    done = subprocess.run(
        [sys.executable, "-c", MUTATED, str(whole), str(tmp_path / "x.mmdb"), "1"], cwd=PROJECT_DIR, capture_output=True,
        text=True, check=False, timeout=120,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert min(map(int, done.stdout.split())) > 30


def test_a_network_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, many: bool) -> None:
    """Another address of a known network gets its place without the file; a network within it, or beside it, has its own."""
    records = {"193.252.0.0/16": LYON, "193.252.128.0/17": {"country_code": "CH"}, "2a01:c000::/19": LYON}
    for kind in ("Test", "Test-City"):
        with Opened(made_of(tmp_path / f"{kind}.mmdb", records, kind=kind), many=many) as opened:
            (database,) = opened.places.databases
            asked = ("193.252.1.1", "193.252.128.1", "193.253.0.1", "2a01:c000::1", "2a02::1")
            codes = [opened.places.of(address).geo.country_iso_code for address in asked]
            assert codes == ["FR", "CH", None, "FR", None]
            monkeypatch.setattr(Database, "_looked_up", lambda _self, _ip: pytest.fail("it reads the file"))
            others = ("193.252.127.255", "193.252.255.255", "193.253.255.255", "2a01:c000:ffff::9", "2a02:ffff::9")
            assert [opened.places.of(address).geo.country_iso_code for address in others] == codes
            monkeypatch.undo()
            assert database.path.endswith(f"{kind}.mmdb")


def test_the_networks_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database remembers as many networks as its limit, and forgets all of them for the next one."""
    monkeypatch.setattr(database_module, "NETWORKS_LIMIT", 4)
    records = {f"193.{number}.0.0/16": {"country_code": "FR" if number % 2 else "CH"} for number in range(9)}
    with Opened(made_of(tmp_path / "x.mmdb", records)) as opened:
        (database,) = opened.places.databases
        for number in range(9):
            assert opened.places.of(f"193.{number}.0.1").geo.country_iso_code == ("FR" if number % 2 else "CH")
            assert sum(map(len, database.networks[32].values())) == number % 4 + 1


def test_the_cache_is_bounded(tmp_path: Path) -> None:
    """However many addresses are asked, only so many places are remembered."""
    with Opened(made(tmp_path / "x.mmdb", LYON), many=True) as opened:
        for number in range(CACHE_LIMIT * 2 + 10):
            opened.places.of(f"193.252.{number >> 8 & 255}.{number & 255}" if number < 65536 else "")
            assert len(opened.places._cache) <= CACHE_LIMIT
        assert len(opened.places._cache) == 10


def test_too_many_databases(tmp_path: Path) -> None:
    """What a pattern finds beyond the bound is reported once, and not opened."""
    first = made(tmp_path / "000.mmdb", ORANGE)
    for number in range(1, DATABASES_LIMIT + 5):
        shutil.copy(first, tmp_path / f"{number:03}.mmdb")
    with Opened(tmp_path / "*.mmdb") as opened:
        assert len(opened.places.databases) == DATABASES_LIMIT
        (report,) = opened.reports
        assert report.startswith(str(tmp_path / f"{DATABASES_LIMIT:03}.mmdb"))


def test_memory_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that does not fit into the memory that all may have is read from the disk, and one behind it may fit again."""
    one, two = made(tmp_path / "1.mmdb", LYON), made(tmp_path / "2.mmdb", LYON)
    three = made(tmp_path / "3.mmdb", ORANGE)
    monkeypatch.setattr(geoip, "MEMORY_LIMIT_BYTES", one.stat().st_size + three.stat().st_size)
    with Opened(one, two, three, many=True) as opened:
        assert [database.in_memory for database in opened.places.databases] == [True, False, True]
        assert opened.places.text(ADDRESS) == "Lyon, FR, AS3215"


def test_descriptors_are_given_back(tmp_path: Path, clock: Clock, *, many: bool) -> None:
    """Opening, replacing and failing leave no file open."""
    path = made(tmp_path / "x.mmdb", LYON)
    bad = tmp_path / "bad.mmdb"
    before = len(list(Path("/proc/self/fd").iterdir()))
    with Opened(path, bad, many=many) as opened:
        for number in range(20):
            bad.write_bytes(b"x" * number)
            made(path, {"city": str(number)})
            clock.now_s += 11
            assert opened.places.text(ADDRESS) == str(number)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.fixture
def known_places(free_database: Path, *, many: bool) -> Iterator[dict[str, Places]]:
    """Return places out of the real database, and out of its part of IPv4."""
    ipv4 = free_database.with_name(free_database.name.replace(".mmdb", "-ipv4.mmdb"))
    with Opened(free_database, many=many) as both, Opened(ipv4, many=many) as ipv4_alone:
        yield {"both": both.places, "IPv4": ipv4_alone.places}
    assert (both.reports, ipv4_alone.reports) == ([], [])


def test_a_real_database(known_places: dict[str, Places]) -> None:
    """Addresses that have been where they are for decades; and two files of one maker say the same of IPv4."""
    both, ipv4 = known_places["both"], known_places["IPv4"]
    expected = {"8.8.8.8": "US", "193.252.1.1": "FR", "2001:4860:4860::8888": "US", "131.188.3.221": "DE", "2001:660::1": "FR"}
    assert {address: both.text(address) for address in expected} == expected
    addresses = [f"{first}.{second}.1.1" for first in range(1, 224) for second in (0, 100, 200)]
    said = [both.of(address) for address in addresses]
    assert said == [ipv4.of(address) for address in addresses]
    assert sum(one.geo.country_iso_code is not None for one in said) > len(said) // 2
    assert ipv4.of("2001:4860:4860::8888") == NO_SOURCE


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ({}, ""),
        ({"geo": {"city_name": "Lyon", "country_iso_code": "FR"}, "as": {"number": 3215}}, "Lyon, FR, AS3215"),
        ({"geo": {"region_name": "Rhone", "country_name": "France"}}, "Rhone, France"),
        ({"geo": {"name": "loopback"}}, "loopback"),
        ({"geo": {"country_iso_code": "FR"}, "anonymous": ["tor", "hosting"]}, "FR, tor, hosting"),
        ({"ip": "192.0.2.1", "port": 22}, ""),
    ],
)
def test_place_text(source: dict[str, Any], text: str) -> None:
    """A place in a few words; what is unknown is left out."""
    assert place_text(ecs({"source": source}).source) == text
