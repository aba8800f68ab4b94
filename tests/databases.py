"""Databases in MaxMind's format: generated ones, and a real free one."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tarfile
from typing import TYPE_CHECKING, Any

import pytest
from mmdb_writer import MMDBWriter
from netaddr import IPSet

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

# CC0; the country of each network, as ``country_code``.
FREE = "@ip-location-db/geo-whois-asn-country-mmdb"
FREE_NAME = "geo-whois-asn-country.mmdb"
# MaxMind's and DB-IP's shape.
LYON = {
    "city": {"geoname_id": 2996944, "names": {"de": "Lyon (de)", "en": "Lyon"}},
    "continent": {"code": "EU", "geoname_id": 6255148, "names": {"en": "Europe"}},
    "country": {"geoname_id": 3017382, "is_in_european_union": True, "iso_code": "FR", "names": {"en": "France"}},
    "location": {"accuracy_radius": 20, "latitude": 45.75, "longitude": 4.875, "time_zone": "Europe/Paris"},
    "postal": {"code": "69000"},
    "registered_country": {"iso_code": "DE", "names": {"en": "Germany"}},
    "subdivisions": [
        {"iso_code": "ARA", "names": {"en": "Auvergne-Rhone-Alpes"}}, {"iso_code": "69", "names": {"en": "Rhone"}},
    ],
}  # fmt: skip
LYON_GEO = {
    "city_name": "Lyon", "continent_code": "EU", "country_iso_code": "FR", "country_name": "France",
    "location": {"lat": 45.75, "lon": 4.875}, "region_name": "Auvergne-Rhone-Alpes", "timezone": "Europe/Paris",
}  # fmt: skip
ORANGE = {"autonomous_system_number": 3215, "autonomous_system_organization": "Orange S.A."}
# Addresses in LYON and ORANGE, as ``made`` writes them.
ADDRESS, ADDRESS_6 = "193.252.1.1", "2a01:c000::1"
NETWORKS = ("193.252.0.0/16", "2a01:c000::/19")


def made(path: Path, record: object, *, networks: tuple[str, ...] = NETWORKS, kind: str = "Test", ip_version: int = 6) -> Path:
    """Write a database with the same record for all addresses of some networks."""
    return made_of(path, dict.fromkeys(networks, record), kind=kind, ip_version=ip_version)


def made_of(path: Path, records: Mapping[str, Any], *, kind: str = "Test", ip_version: int = 6) -> Path:
    """Write a database of networks and their records."""
    writer = MMDBWriter(
        ip_version=ip_version, ipv4_compatible=ip_version == 6, database_type=kind, languages=["en"], description="test",
        float_type="f64",
    )  # fmt: skip
    for network, record in records.items():
        writer.insert_network(IPSet([network]), record)
    part = path.with_name(f"{path.name}.part")
    writer.to_db_file(str(part))
    part.replace(path)
    return path


@pytest.fixture(scope="session")
def free_package(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return npm's archive of a real free database, which npm's client downloads once, and pytest's cache keeps."""
    folder: Path = request.config.cache.mkdir("free-database")
    # The workers of pytest-xdist share the folder: the first one downloads, and the others wait for it.
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not list(folder.glob("*.tgz")):
            _download(folder, tmp_path_factory.mktemp("npm"))
    return next(folder.glob("*.tgz"))


def _download(folder: Path, own: Path) -> None:
    """Download the archive by npm's client, which has a folder of its own, or skip the test."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip(f"{FREE}: npm is not installed, so it cannot be downloaded")
    command = [str(npm), "pack", "--silent", "--pack-destination", str(own), f"{FREE}@2"]
    try:
        done = subprocess.run(
            command, cwd=own, capture_output=True, text=True, check=False, timeout=120, stdin=subprocess.DEVNULL,
            env={**os.environ, "npm_config_cache": str(own / "cache"), "npm_config_update_notifier": "false"},
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        pytest.skip(f"{FREE}: npm did not download it within 120 s")
    if done.returncode:
        pytest.skip(f"{FREE}: npm could not download it: {done.stderr[-500:]}")
    (archive,) = own.glob("*.tgz")
    shutil.copy(archive, folder / f"{archive.name}.part")
    (folder / f"{archive.name}.part").replace(folder / archive.name)


@pytest.fixture(scope="session")
def free_database(free_package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a real free database; beside it is the one with only IPv4."""
    folder = tmp_path_factory.mktemp("free")
    with tarfile.open(free_package) as archive:
        for name in (FREE_NAME, FREE_NAME.replace(".mmdb", "-ipv4.mmdb")):
            found = archive.extractfile(f"package/{name}")
            assert found is not None
            (folder / name).write_bytes(found.read())
    return folder / FREE_NAME
