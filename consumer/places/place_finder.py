"""
Finds the places of addresses for the detectors, which know no files.

The library that reads databases takes as long to load as all the rest of ``run``. So it is loaded only once there is a database.
"""

import time
from collections.abc import Callable, Sequence
from glob import glob, has_magic
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from consumer.detect.findings import Place

if TYPE_CHECKING:
    from consumer.places.geoip import Places

# How often to look for the first database.
_CHECK_S = 10.0


class PlaceFinder:
    """
    Finds places: see ``PlaceOf``. Without databases, nothing has a place. With ``"web"``, nothing has one, either: the detectors
    do not wait for an answer.

    Args:
        geoip: the key of the configuration, as in ``Places``.
        report: gets one line, once, about each database that is missing or damaged.
    """

    def __init__(self, geoip: Sequence[str] | Literal["web"], report: Callable[[str], None]) -> None:
        self._report = report
        self._places: Places | None = None
        self.configure(geoip)

    def configure(self, geoip: Sequence[str] | Literal["web"]) -> None:
        """Use other databases from the next address on."""
        self.close()
        self._geoip: list[str] = [] if geoip == "web" else list(geoip)
        self._open()

    def close(self) -> None:
        """Close the files."""
        if self._places is not None:
            self._places.close()
            self._places = None

    def _open(self) -> None:
        """Load the library if there is a database."""
        self._next_check_s = time.monotonic() + _CHECK_S
        if any(glob(path) if has_magic(path) else Path(path).exists() for path in self._geoip):  # noqa: PTH207 - absolute ones
            from consumer.places.geoip import Places  # noqa: PLC0415 - see above

            self._places = Places(self._geoip, self._report)

    @property
    def has_databases(self) -> bool:
        """Whether there is a database now."""
        return self._places is not None

    def __call__(self, address: str) -> Place | None:
        """Return the place of an address."""
        if self._places is None:
            if not self._geoip or time.monotonic() < self._next_check_s:
                return None
            self._open()
        return None if self._places is None else place_in(self._places, address)


def place_in(places: "Places", address: str) -> Place | None:
    """Return the place of an address, as the detectors need it; None if it has none."""
    found = places.of(address)
    location = found.geo.location
    place = Place(found.as_.number, found.geo.country_iso_code, location.lat, location.lon)
    return None if place == _NOWHERE else place


_NOWHERE = Place(None, None, None, None)
