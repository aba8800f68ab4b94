"""Records of all shapes that databases have become the same fields."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.places.geo_record import fields_of
from tests.databases import LYON, LYON_GEO, ORANGE
from tests.ecs_events import fields_of as written

ORANGE_AS = {"number": 3215, "organization": {"name": "Orange S.A."}}
GOOGLE_AS = {"number": 15169, "organization": {"name": "Google LLC"}}


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (LYON, {"geo": LYON_GEO}),
        (ORANGE, {"as": ORANGE_AS}),
        # MaxMind: Country, Enterprise with all of it in traits, Anonymous-IP, ISP.
        (
            {"country": {"iso_code": "FR", "names": {"en": "France"}}, "registered_country": {"iso_code": "DE"}},
            {"geo": {"country_iso_code": "FR", "country_name": "France"}},
        ),
        (
            LYON | {"traits": ORANGE | {"is_anonymous": True, "is_anonymous_vpn": True, "user_type": "residential"}},
            {"geo": LYON_GEO, "as": ORANGE_AS, "anonymous": ["vpn"]},
        ),
        ({"is_anonymous": True, "is_tor_exit_node": True, "is_hosting_provider": True}, {"anonymous": ["tor", "hosting"]}),
        ({"is_anonymous": True}, {"anonymous": ["anonymous"]}),
        ({"is_hosting_provider": True, "is_anonymous": False, "is_public_proxy": False}, {"anonymous": ["hosting"]}),
        ({"is_hosting_provider": True, "is_anonymous": True}, {"anonymous": ["hosting", "anonymous"]}),
        ({**ORANGE, "isp": "Orange", "organization": "A customer"}, {"as": ORANGE_AS}),
        # DB-IP Lite: as MaxMind's, with fewer keys.
        (
            {
                "city": {"names": {"en": "Lyon"}}, "continent": {"code": "EU", "names": {"en": "Europe"}},
                "country": {"iso_code": "FR", "names": {"en": "France"}}, "location": {"latitude": 45.75, "longitude": 4.875},
                "subdivisions": [{"names": {"en": "Auvergne-Rhone-Alpes"}}],
            },
            {"geo": {name: value for name, value in LYON_GEO.items() if name != "timezone"}},
        ),
        # IPinfo, flat: Lite, the older free one, Location (numbers as text), Privacy.
        (
            {
                "asn": "AS15169", "as_name": "Google LLC", "as_domain": "google.com", "continent": "North America",
                "continent_code": "NA", "country": "United States", "country_code": "US",
            },
            {"geo": {"continent_code": "NA", "country_name": "United States", "country_iso_code": "US"}, "as": GOOGLE_AS},
        ),
        (
            {
                "asn": "AS15169", "as_name": "Google LLC", "continent": "NA", "continent_name": "North America", "country": "US",
                "country_name": "United States",
            },
            {"geo": {"continent_code": "NA", "country_name": "United States", "country_iso_code": "US"}, "as": GOOGLE_AS},
        ),
        (
            {
                "city": "Lyon", "country": "FR", "lat": "45.75", "lng": "4.875", "region": "Auvergne-Rhone-Alpes",
                "timezone": "Europe/Paris", "geoname_id": "2996944", "postal_code": "69000",
            },
            {"geo": {name: value for name, value in LYON_GEO.items() if name not in {"country_name", "continent_code"}}},
        ),
        ({"hosting": "true", "proxy": "", "tor": "", "vpn": "true", "service": "A VPN"}, {"anonymous": ["hosting", "vpn"]}),
        # ip-location-db, flat: country, ASN, city.
        ({"country_code": "FR"}, {"geo": {"country_iso_code": "FR"}}),
        (
            {
                "city": "Lyon", "country_code": "FR", "latitude": 45.75, "longitude": 4.875, "postcode": "69000",
                "state1": "Auvergne-Rhone-Alpes", "state2": "Rhone", "timezone": "Europe/Paris",
            },
            {"geo": {name: value for name, value in LYON_GEO.items() if name not in {"country_name", "continent_code"}}},
        ),
        ({"autonomous_system_number": "3215", "autonomous_system_organization": "Orange S.A."}, {"as": ORANGE_AS}),
        ({"asn": {"asn": 3215, "name": "Orange S.A."}}, {"as": ORANGE_AS}),
        ({"autonomous_system_number": 3215}, {"as": {"number": 3215}}),
        # The position of a country is no place: not by itself, not with a large radius, not with a region.
        (
            {"country": {"iso_code": "FR"}, "location": {"latitude": 46.0, "longitude": 2.0}},
            {"geo": {"country_iso_code": "FR"}},
        ),
        (
            {"country": {"iso_code": "FR"}, "location": {"accuracy_radius": 500, "latitude": 46.0, "longitude": 2.0}},
            {"geo": {"country_iso_code": "FR"}},
        ),
        ({"country_code": "FR", "latitude": "46.0", "longitude": "2.0"}, {"geo": {"country_iso_code": "FR"}}),
        ({"country": "FR", "region": "ARA", "lat": 46, "lng": 2}, {"geo": {"country_iso_code": "FR", "region_name": "ARA"}}),
        (
            {"country": {"iso_code": "FR"}, "location": {"accuracy_radius": 20, "latitude": 46.0, "longitude": 2.0}},
            {"geo": {"country_iso_code": "FR", "location": {"lat": 46.0, "lon": 2.0}}},
        ),
        # No English name; no names at all.
        (
            {"city": {"names": {"de": "Lyon"}}, "country": {"iso_code": "fr"}},
            {"geo": {"city_name": "Lyon", "country_iso_code": "FR"}},
        ),
        # What means nothing, or is nothing that there can be.
        ({"city": "-", "country_code": "-", "region": "", "timezone": "unknown", "asn": "-"}, {}),
        ({"country_code": "--", "continent_code": "XX", "latitude": 91.0, "longitude": 4.0}, {}),
        ({"latitude": float("nan"), "longitude": 1.0}, {}),
        ({"latitude": 1.0}, {}),
        ({"autonomous_system_number": 0, "autonomous_system_organization": "nobody"}, {}),
        ({"autonomous_system_number": 2**32}, {}),
        ({"autonomous_system_number": -1}, {}),
        ({"is_anonymous": "no", "vpn": 2, "tor": None}, {}),
        ({"subdivisions": [], "country": [], "traits": "x", "location": None}, {}),
        ({}, {}),
        (None, {}),
        ("FR", {}),
        ([LYON], {}),
    ],
)  # fmt: skip
def test_shapes(record: object, expected: dict[str, Any]) -> None:
    """All that is known is there, by the same names, and nothing else."""
    assert written(fields_of(record)) == expected


def test_long_texts_are_cut() -> None:
    """A name that a database makes up does not fill a mail."""
    assert fields_of({"city": "x" * 100_000}).geo.city_name == "x" * 200


KEYS = st.sampled_from(
    [*LYON, *ORANGE, "traits", "asn", "as", "country_code", "lat", "lng", "vpn", "iso_code", "names", "en", "code"]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)


@given(VALUES | st.dictionaries(KEYS, VALUES))
def test_any_record(record: object) -> None:
    """Whatever a record holds, what is made of it has the types of ECS, and nothing is raised."""
    found = written(fields_of(record))
    assert found.keys() <= {"geo", "as", "anonymous"}
    assert all(found.values())
    for name, value in found.get("geo", {}).items():
        if name == "location":
            assert {key: type(one) for key, one in value.items()} == {"lat": float, "lon": float}
        else:
            assert isinstance(value, str)
            assert value
    assert 0 < found.get("as", {"number": 1})["number"] < 2**32
