"""
A record of a database of any name as fields of ECS.

geoip2's models read the parts of MaxMind's nested shape. It has no model for the flat records of IPinfo, ip-location-db and
others, which spell their keys differently. This module reads those key by key.
"""

from collections.abc import Callable
from contextlib import suppress
from functools import partial

from consumer.ecs import SourceFields
from consumer.places.place_fields import PlaceFields

# The keys with parts of their own in MaxMind's shape.
_NESTED = ("city", "continent", "country", "location", "subdivisions", "traits")


def fields_of(record: object) -> SourceFields:
    """Return ``geo``, ``as_`` and ``anonymous`` as far as a record has them. Never raises."""
    found = PlaceFields()
    if isinstance(record, dict):
        nested: dict[str, object] = {
            key: value for key, value in record.items() if key in _NESTED and isinstance(value, dict | list)
        }
        if nested:
            _add_nested(found, nested)
        _add_flat(found, record)
    return found.source()


def _add_nested(found: PlaceFields, record: dict[str, object]) -> None:
    # Here, because the import takes longer than all of --version.
    from consumer.places.geoip2_models import WRONG_SHAPE, add_model, model_of  # noqa: PLC0415

    with suppress(*WRONG_SHAPE):
        add_model(found, model_of(record))


def _add_flat(found: PlaceFields, record: object) -> None:
    if isinstance(record, dict):
        for key, value in record.items():
            if (add := _FLAT.get(key)) is not None:
                add(found, value)


def _network(found: PlaceFields, value: object) -> None:
    """Add ``3215``, ``"AS3215"``, or an object with the number under ``asn`` and the organization under ``name``."""
    if isinstance(value, dict):
        found.network(value.get("asn"))
        found.organization(value.get("org") or value.get("name"))
    else:
        found.network(value)


_FLAT: dict[str, Callable[[PlaceFields, object], None]] = {
    "city": partial(PlaceFields.text, field="city_name"),
    "city_name": partial(PlaceFields.text, field="city_name"),
    "region": partial(PlaceFields.text, field="region_name"),
    "region_name": partial(PlaceFields.text, field="region_name"),
    "state": partial(PlaceFields.text, field="region_name"),
    "state1": partial(PlaceFields.text, field="region_name"),
    "country": PlaceFields.country,
    "country_code": PlaceFields.country,
    "country_name": partial(PlaceFields.text, field="country_name"),
    "continent": PlaceFields.continent,
    "continent_code": PlaceFields.continent,
    "latitude": PlaceFields.latitude,
    "lat": PlaceFields.latitude,
    "longitude": PlaceFields.longitude,
    "lon": PlaceFields.longitude,
    "lng": PlaceFields.longitude,
    "accuracy_radius": PlaceFields.radius,
    "time_zone": partial(PlaceFields.text, field="timezone"),
    "timezone": partial(PlaceFields.text, field="timezone"),
    "autonomous_system_number": _network,
    "asn": _network,
    "as": _network,
    "autonomous_system_organization": PlaceFields.organization,
    "as_name": PlaceFields.organization,
    "name": PlaceFields.organization,  # counts only beside a number
    "privacy": _add_flat,
}
for _name, _spellings in {
    "vpn": ("anonymous_vpn", "vpn"),
    "tor": ("tor_exit_node", "tor"),
    "proxy": ("public_proxy", "anonymous_proxy", "proxy"),
    "residential proxy": ("residential_proxy",),
    "relay": ("relay",),
    "hosting": ("hosting_provider", "hosting"),
    "anonymous": ("anonymous",),
}.items():
    for _spelling in _spellings:
        _FLAT[_spelling] = _FLAT[f"is_{_spelling}"] = partial(PlaceFields.anonymous, name=_name)
