"""
What a record of a geographic database says, as fields of ECS.

Databases of one purpose differ in shape: MaxMind's and DB-IP's have nested objects with names by language, others (IPinfo,
ip-location-db) have flat fields of several spellings. So it is the record that is looked at, key by key, and not the name of
its database's type.
"""

import re
from collections.abc import Callable
from functools import partial
from math import isfinite

from consumer.ecs import AsFields, GeoFields, LocationFields, OrganizationFields, SourceFields, known

_TEXT_LIMIT = 200
_UNKNOWN = frozenset({"", "-", "--", "?", "N/A", "n/a", "None", "null", "unknown", "Unknown"})
_CODE = re.compile(r"[A-Za-z]{2}\Z")
_CONTINENTS = frozenset({"AF", "AN", "AS", "EU", "NA", "OC", "SA"})
_AS_NUMBER = re.compile(r"(?:AS)?([1-9][0-9]{0,9})\Z", re.IGNORECASE)
_AS_LAST = 2**32 - 1
_TRUE = frozenset({"true", "True", "1"})


class _Record:
    """What was found so far; of what a record says twice, the first counts."""

    __slots__ = ("anonymous", "geo", "lat", "lon", "number", "organization")

    def __init__(self) -> None:
        self.geo: dict[str, str] = {}  # by the names of GeoFields
        self.lat: float | None = None
        self.lon: float | None = None
        self.number = 0
        self.organization = ""
        self.anonymous: dict[str, None] = {}


def fields_of(record: object) -> SourceFields:
    """Return ``geo``, ``as`` and ``anonymous`` as far as a record has them. Never raises."""
    found = _Record()
    _read_all(found, record)
    has_place = found.lat is not None and found.lon is not None
    location = LocationFields(lat=found.lat, lon=found.lon) if has_place else LocationFields()
    organization = OrganizationFields(name=found.organization or None)
    return known(
        SourceFields(
            geo=known(GeoFields(**found.geo, location=known(location))),
            # A name without its number says nothing: some databases call other things so.
            as_=known(AsFields(number=found.number, organization=known(organization)) if found.number else AsFields()),
            anonymous=_anonymous(found.anonymous),
        )
    )


def _read_all(found: _Record, record: object) -> None:
    if isinstance(record, dict):
        for key, value in record.items():
            if (read := _READERS.get(key)) is not None:
                read(found, value)


def _anonymous(said: dict[str, None]) -> tuple[str, ...]:
    # "anonymous" says nothing where it is said how; a data centre's address alone hides nobody.
    return tuple(name for name in said if name != "anonymous" or said.keys() <= {"anonymous", "hosting"})


# ---------------------------------------------------------------- keys


def _geo_text(field: str, found: _Record, value: object) -> None:
    if text := _name(value):
        found.geo.setdefault(field, text)


def _country(found: _Record, value: object) -> None:
    """``{"iso_code": "FR", "names": {...}}``, ``"FR"`` or ``"France"``."""
    if isinstance(value, dict):
        _country(found, value.get("iso_code"))
    elif code := _code(value):
        found.geo.setdefault("country_iso_code", code)
        return
    _geo_text("country_name", found, value)


def _continent(found: _Record, value: object) -> None:
    code = _code(value.get("code") if isinstance(value, dict) else value)
    if code in _CONTINENTS:
        found.geo.setdefault("continent_code", code)


def _subdivisions(found: _Record, value: object) -> None:
    if isinstance(value, list) and value:
        _geo_text("region_name", found, value[0])  # the largest


def _latitude(found: _Record, value: object) -> None:
    found.lat = _degrees(value, 90)


def _longitude(found: _Record, value: object) -> None:
    found.lon = _degrees(value, 180)


def _as(found: _Record, value: object) -> None:
    """``3215``, ``"AS3215"``, or an object that has it under ``asn`` and what it is called under ``name``."""
    if isinstance(value, dict):
        _as(found, value.get("asn"))
        _organization(found, value.get("org") or value.get("name"))
        return
    match = _AS_NUMBER.match(str(value)) if isinstance(value, int | str) else None
    number = int(match[1]) if match else 0
    if number <= _AS_LAST:
        found.number = found.number or number


def _organization(found: _Record, value: object) -> None:
    found.organization = found.organization or _text(value)


def _flag(name: str, found: _Record, value: object) -> None:
    if value is True or value == 1 or (isinstance(value, str) and value in _TRUE):
        found.anonymous[name] = None


_READERS: dict[str, Callable[[_Record, object], None]] = {
    "city": partial(_geo_text, "city_name"),
    "city_name": partial(_geo_text, "city_name"),
    "subdivisions": _subdivisions,
    "region": partial(_geo_text, "region_name"),
    "region_name": partial(_geo_text, "region_name"),
    "state": partial(_geo_text, "region_name"),
    "state1": partial(_geo_text, "region_name"),
    "country": _country,
    "country_code": _country,
    "country_name": partial(_geo_text, "country_name"),
    "continent": _continent,
    "continent_code": _continent,
    "latitude": _latitude,
    "lat": _latitude,
    "longitude": _longitude,
    "lon": _longitude,
    "lng": _longitude,
    "time_zone": partial(_geo_text, "timezone"),
    "timezone": partial(_geo_text, "timezone"),
    "autonomous_system_number": _as,
    "asn": _as,
    "as": _as,
    "autonomous_system_organization": _organization,
    "as_name": _organization,
    "name": _organization,  # which counts beside a number alone
    "location": _read_all,
    "traits": _read_all,
    "privacy": _read_all,
}
for _told, _names in {
    "vpn": ("anonymous_vpn", "vpn"),
    "tor": ("tor_exit_node", "tor"),
    "proxy": ("public_proxy", "anonymous_proxy", "proxy"),
    "residential proxy": ("residential_proxy",),
    "relay": ("relay",),
    "hosting": ("hosting_provider", "hosting"),
    "anonymous": ("anonymous",),
}.items():
    for _spelled in _names:
        _READERS[_spelled] = _READERS[f"is_{_spelled}"] = partial(_flag, _told)

# ---------------------------------------------------------------- values


def _name(value: object) -> str:
    """Return a name: a text, or an object with names by language, of which English comes first."""
    if not isinstance(value, dict):
        return _text(value)
    names = value.get("names")
    if not isinstance(names, dict):
        return _text(value.get("name"))
    return _text(names.get("en")) or next((text for one in names.values() if (text := _text(one))), "")


def _text(value: object) -> str:
    if not isinstance(value, str):
        return ""
    text = value.strip()
    return "" if text in _UNKNOWN else text[:_TEXT_LIMIT]


def _code(value: object) -> str:
    return value.upper() if isinstance(value, str) and _CODE.match(value) else ""


def _degrees(value: object, most: int) -> float | None:
    try:
        # IPinfo writes them as text.
        number = float(value) if isinstance(value, int | float | str) else most + 1.0
    except (ValueError, OverflowError):
        return None
    return number if isfinite(number) and abs(number) <= most else None
