"""``consumer.places.place_finder``: places for detectors, which cost nothing where there are no databases."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from consumer.detect.findings import Place
from consumer.places.place_finder import PlaceFinder
from tests.databases import ADDRESS, LYON, ORANGE, made

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_place(tmp_path: Path) -> None:
    """The databases' values are merged into one place; an address without any has none."""
    made(tmp_path / "city.mmdb", LYON, kind="Test-City")
    made(tmp_path / "asn.mmdb", ORANGE, kind="Test-ASN")
    reports: list[str] = []
    finder = PlaceFinder([str(tmp_path / "*.mmdb")], reports.append)
    assert finder.has_databases
    assert finder(ADDRESS) == Place(3215, "FR", 45.75, 4.875)
    assert [finder(address) for address in ("198.51.100.7", "127.0.0.1", "gate", "")] == [None] * 4
    assert reports == []
    finder.close()


def test_web() -> None:
    """Detectors do not wait for a web service."""
    finder = PlaceFinder("web", lambda _text: None)
    assert (finder.has_databases, finder(ADDRESS)) == (False, None)


def test_a_first_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that is installed later is found within some seconds; another configuration is used at once."""
    now_s = 1000.0
    monkeypatch.setattr("consumer.places.place_finder.time.monotonic", lambda: now_s)
    finder = PlaceFinder([str(tmp_path / "*.mmdb")], lambda _text: None)
    assert finder(ADDRESS) is None
    made(tmp_path / "asn.mmdb", ORANGE, kind="Test-ASN")
    assert finder(ADDRESS) is None
    now_s += 11
    assert finder(ADDRESS) == Place(3215, None, None, None)
    finder.configure([])
    assert finder(ADDRESS) is None


def test_nothing_is_loaded_without_databases(tmp_path: Path) -> None:
    """Without databases, the library that reads them is not even imported, so ``run`` starts as fast as before."""
    program = (
        "import sys; from consumer.places.place_finder import PlaceFinder; "
        f"finder = PlaceFinder([{str(tmp_path / '*.mmdb')!r}], print); finder('192.0.2.7'); "
        "sys.exit(bool({'consumer.places.geoip', 'maxminddb', 'geoip2'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
