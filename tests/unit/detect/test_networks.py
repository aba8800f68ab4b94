"""``consumer.detect.networks``: prefixes, known networks and distances."""

from __future__ import annotations

import pytest

from consumer.detect.findings import Place
from consumer.detect.networks import KnownNetworks, distance_km, prefix_of


@pytest.mark.parametrize(
    ("address", "prefix"),
    [
        ("192.0.2.7", "192.0.2.0/24"),
        ("2001:db8:1:2::3", "2001:db8:1::/48"),
        ("::ffff:192.0.2.7", "192.0.2.0/24"),
        ("fe80::1%eth0", "fe80::/48"),
        ("gate.example.net", "gate.example.net"),
    ],
)
def test_prefix(address: str, prefix: str) -> None:
    """An address belongs to a /24 or a /48; a name stays as it is."""
    assert prefix_of(address) == prefix


def test_known_networks() -> None:
    """Addresses of both kinds are found in the networks; a name is in none."""
    known = KnownNetworks(["192.0.2.0/24", "2001:db8::/32"])
    assert [known.has(each) for each in ("192.0.2.9", "2001:db8:5::1", "192.0.3.1", "gate")] == [True, True, False, False]


def test_distance() -> None:
    """Lyon and Sydney are 16,883 km apart; the antipodes are half of the way around the globe."""
    lyon, sydney = Place(None, "FR", 45.75, 4.85), Place(None, "AU", -33.87, 151.21)
    assert distance_km(lyon, sydney) == pytest.approx(16883, abs=1)
    assert distance_km(Place(None, None, 0, 0), Place(None, None, 0, 180)) == pytest.approx(20015, abs=1)
    assert distance_km(lyon, lyon) == 0
    assert distance_km(lyon, Place(3215, "FR", None, None)) is None
