"""
The fields of one address, from the values of a database or of the web service.

A source may hold anything, so this module checks type, range and length of each value before it becomes a field.
"""

import re
from math import isfinite

from consumer.ecs import AsFields, GeoFields, LocationFields, OrganizationFields, SourceFields, known

_TEXT_LIMIT = 200
# A position without a city counts up to this radius. Beyond it, the position is the middle of a country.
_ACCURATE_KM = 100
_UNKNOWN = frozenset({"", "-", "--", "?", "N/A", "n/a", "None", "null", "unknown", "Unknown"})
_CODE = re.compile(r"[A-Za-z]{2}\Z")
_CONTINENTS = frozenset({"AF", "AN", "AS", "EU", "NA", "OC", "SA"})
_AS_NUMBER = re.compile(r"(?:AS)?([1-9][0-9]{0,9})\Z", re.IGNORECASE)
_AS_LAST = 2**32 - 1
_TRUE = frozenset({"true", "True", "1"})


class PlaceFields:
    """Collects the values of one address. It skips values that mean nothing; the first value of a field counts."""

    __slots__ = ("_anonymous", "_geo", "_lat", "_lon", "_number", "_organization", "_radius_km")

    def __init__(self) -> None:
        self._geo: dict[str, str] = {}  # by the names of GeoFields
        self._lat: float | None = None
        self._lon: float | None = None
        self._radius_km: float | None = None
        self._number = 0
        self._organization = ""
        self._anonymous: dict[str, None] = {}

    def text(self, value: object, field: str) -> None:
        """Add a name as a field of ``GeoFields``."""
        if text := _text(value):
            self._geo.setdefault(field, text)

    def country(self, value: object) -> None:
        """Add ``"FR"`` or ``"France"``."""
        if isinstance(value, str) and _CODE.match(value):
            self._geo.setdefault("country_iso_code", value.upper())
        else:
            self.text(value, "country_name")

    def continent(self, value: object) -> None:
        """Add a continent's code."""
        if isinstance(value, str) and value.upper() in _CONTINENTS:
            self._geo.setdefault("continent_code", value.upper())

    def latitude(self, value: object) -> None:
        """Add degrees, as a number or a text."""
        if self._lat is None:
            self._lat = _number(value, -90, 90)

    def longitude(self, value: object) -> None:
        """Add degrees, as a number or a text."""
        if self._lon is None:
            self._lon = _number(value, -180, 180)

    def radius(self, value: object) -> None:
        """Add the radius, in kilometres, within which the address is likely to be."""
        if self._radius_km is None:
            self._radius_km = _number(value, 0, 25_000)

    def network(self, value: object) -> None:
        """Add ``3215`` or ``"AS3215"``."""
        match = _AS_NUMBER.match(str(value)) if isinstance(value, int | str) else None
        number = int(match[1]) if match else 0
        if number <= _AS_LAST:
            self._number = self._number or number

    def organization(self, value: object) -> None:
        """Add the name of the network's organization."""
        self._organization = self._organization or _text(value)

    def anonymous(self, value: object, name: str) -> None:
        """Add a way in which the address hides its user, if the flag is set."""
        if value is True or value == 1 or (isinstance(value, str) and value in _TRUE):
            self._anonymous[name] = None

    def source(self) -> SourceFields:
        """Return ``geo``, ``as_`` and ``anonymous``."""
        return known(
            SourceFields(
                geo=known(GeoFields(**self._geo, location=known(self._location()))),
                # A name without a number means nothing: some databases use that key for other things.
                as_=known(AsFields(number=self._number, organization=self._named()) if self._number else AsFields()),
                anonymous=self._hidden(),
            )
        )

    def _location(self) -> LocationFields:
        """Return the position, unless it is only the middle of a country: a pin on a map would be wrong there."""
        is_accurate = self._radius_km is not None and self._radius_km <= _ACCURATE_KM
        if self._lat is None or self._lon is None or not (is_accurate or "city_name" in self._geo):
            return LocationFields()
        return LocationFields(lat=self._lat, lon=self._lon)

    def _named(self) -> OrganizationFields:
        return known(OrganizationFields(name=self._organization or None))

    def _hidden(self) -> tuple[str, ...]:
        # "anonymous" adds nothing to a flag that names the way. The address of a data centre alone hides nobody.
        said = self._anonymous
        return tuple(name for name in said if name != "anonymous" or said.keys() <= {"anonymous", "hosting"})


def _text(value: object) -> str:
    if not isinstance(value, str):
        return ""
    text = value.strip()
    return "" if text in _UNKNOWN else text[:_TEXT_LIMIT]


def _number(value: object, least: float, most: float) -> float | None:
    try:
        # IPinfo writes numbers as text.
        number = float(value) if isinstance(value, int | float | str) else most + 1.0
    except (ValueError, OverflowError):
        return None
    return number if isfinite(number) and least <= number <= most else None
