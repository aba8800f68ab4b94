"""A database in memory says what maxminddb says of it."""

from __future__ import annotations

import struct
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Any

import maxminddb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.ecs import NO_SOURCE, GeoFields
from consumer.places import mmdb_in_memory
from consumer.places.geo_record import fields_of
from consumer.places.geoip import Database, open_database
from consumer.places.mmdb_in_memory import InMemory, _tree
from tests.databases import LYON, ORANGE, made_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

RECORDS = {
    "193.252.0.0/16": LYON, "8.8.8.0/24": {"country_code": "US"}, "8.8.8.8/32": {"country_code": "US", "asn": "AS15169"},
    "0.0.0.0/5": {"city": "first"}, "223.255.255.255/32": {"city": "last"}, "2a01:c000::/19": ORANGE,
    "2001::/16": {"city": "x" * 30},
    "2600::/12": {"city": "x" * 285, "lat": -1.5, "lon": 2.5}, "2606::1/128": {"vpn": True, "is_tor": False},
}  # fmt: skip


def addresses() -> Iterator[IPv4Address | IPv6Address]:
    """Yield addresses all over, and those beside the networks above."""
    for first in range(256):
        yield IPv4Address(first << 24 | 0x010101)
        yield IPv6Address((0x2000 + first << 16) << 96 | 1)
        yield IPv6Address((0x2A00 << 16 | first << 8) << 96 | 1)
    for text in ("193.252.0.0", "193.251.255.255", "193.253.0.0", "8.8.8.7", "8.8.8.8", "8.8.8.9", "223.255.255.255", "0.0.0.0"):  # noqa: S104
        yield IPv4Address(text)
    for text in ("2606::1", "2606::2", "2a01:c000::", "2a01:dfff::1", "2a01:e000::1", "::", "::8.8.8.8"):
        yield IPv6Address(text)


def same(database: Database) -> int:
    """Compare what both say of all addresses; return of how many they say something."""
    database.load()
    assert database.memory is not None
    known = 0
    for ip in addresses():
        if ip.version == 6 and not database.has_ipv6:
            continue
        expected = fields_of(database.reader.get(ip))
        assert database.memory.fields(int(ip), ip.max_prefixlen) == expected, ip
        known += expected != NO_SOURCE
    database.reader.close()
    return known


def with_records_of(path: Path, bits: int) -> Path:
    """Write the search tree of a database anew, with records of another size."""
    data = path.read_bytes()
    with maxminddb.open_database(path, maxminddb.MODE_MEMORY) as reader:
        nodes, size = reader.metadata().node_count, reader.metadata().record_size
    tree = _tree(data[: nodes * size // 4], nodes, size)
    written = b""
    for left, right in zip(tree[::2], tree[1::2], strict=True):
        if bits == 28:
            shared = bytes([left >> 24 << 4 | right >> 24])
            written += left.to_bytes(4, "big")[1:] + shared + right.to_bytes(4, "big")[1:]
        else:
            written += left.to_bytes(bits // 8, "big") + right.to_bytes(bits // 8, "big")
    rest = data[nodes * size // 4 :]
    at = rest.rindex(b"Krecord_size") + 12
    assert rest[at : at + 2] == bytes([0xA1, size])
    path.write_bytes(written + rest[: at + 1] + bytes([bits]) + rest[at + 2 :])
    return path


@pytest.mark.parametrize("bits", [24, 28, 32])
@pytest.mark.parametrize("ip_version", [4, 6])
def test_all_sizes_of_records(tmp_path: Path, bits: int, ip_version: int) -> None:
    """Trees of all three sizes, of IPv4 alone and of both."""
    records = {network: record for network, record in RECORDS.items() if ip_version == 6 or ":" not in network}
    database = open_database(str(with_records_of(made_of(tmp_path / "x.mmdb", records, ip_version=ip_version), bits)))
    assert database.reader.metadata().record_size == bits
    assert same(database) > 8


def test_high_bits_of_28() -> None:
    """The nibbles that both records of a node share are each put where they belong."""
    raw = bytes([0x12, 0x34, 0x56, 0xAB, 0x78, 0x9A, 0xBC])
    assert list(_tree(raw, 1, 28)) == [0xA123456, 0xB789ABC]


def test_a_real_database(free_database: Path) -> None:
    """All over the world."""
    assert same(open_database(str(free_database))) > 200


def encoded(value: Any) -> bytes:  # noqa: PLR0911 - a case returns what it knows
    """Encode a value, as the format's description says; without pointers."""
    match value:
        case bool():
            return bytes([int(value), 14 - 7])
        case str():
            raw, kind = value.encode(), 2
        case bytes():
            raw, kind = value, 4
        case float():
            return bytes([3 << 5 | 8]) + struct.pack(">d", value)
        case int() if value < 0:
            return bytes([4, 8 - 7]) + value.to_bytes(4, "big", signed=True)
        case int():
            raw = value.to_bytes((value.bit_length() + 7) // 8, "big")
            return bytes([len(raw), 10 - 7]) + raw
        case list():
            return head(11, len(value)) + b"".join(map(encoded, value))
        case _:
            return head(7, len(value)) + b"".join(encoded(key) + encoded(one) for key, one in value.items())
    return head(kind, len(raw)) + raw


def head(kind: int, size: int) -> bytes:
    """Encode type and size."""
    less = 29 if size < 285 else 285 if size < 65_821 else 65_821
    width = 0 if size < 29 else {29: 1, 285: 2, 65_821: 3}[less]
    first = size if not width else 28 + width
    more = (size - less).to_bytes(width, "big") if width else b""
    return (bytes([kind << 5 | first]) if kind <= 7 else bytes([first, kind - 7])) + more


def in_memory(data: bytes) -> InMemory:
    """Return a database without a tree."""
    rest = [b"", bytes(16), data]
    return InMemory(lambda _size: rest.pop(0), 0, 24, 4, 16 + len(data))


VALUES = st.recursive(
    st.booleans()
    | st.integers(-(2**31), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=300)
    | st.binary(max_size=40),
    lambda inner: st.lists(inner, max_size=35) | st.dictionaries(st.text(max_size=5), inner, max_size=35),
    max_leaves=40,
)


@given(VALUES)
def test_any_value(value: object) -> None:
    """What was encoded is decoded, and maxminddb agrees."""
    data = encoded(value)
    assert in_memory(data)._decoded(0) == (value, len(data))
    assert maxminddb.decoder.Decoder(data).decode(0) == (value, len(data))


@pytest.mark.parametrize("size", [28, 29, 284, 285, 65_820, 65_821, 65_822])
def test_sizes(size: int) -> None:
    """At the bounds of each way to write a size."""
    data = encoded("x" * size)
    assert in_memory(data)._decoded(0) == ("x" * size, len(data))
    assert maxminddb.decoder.Decoder(data).decode(0) == ("x" * size, len(data))


@pytest.mark.parametrize("at", [0, 2_047, 2_048, 526_335, 526_336, 2_000_000])
def test_pointers(at: int) -> None:
    """Of all widths, each to a text."""
    writers: list[tuple[int, int, Callable[[int], bytes]]] = [
        (0, 2_048, lambda to: bytes([1 << 5 | to >> 8, to & 255])),
        (2_048, 526_336, lambda to: bytes([1 << 5 | 1 << 3 | to - 2_048 >> 16]) + (to - 2_048 & 0xFFFF).to_bytes(2, "big")),
        (
            526_336,
            134_744_064,
            lambda to: bytes([1 << 5 | 2 << 3 | to - 526_336 >> 24]) + (to - 526_336 & 0xFFFFFF).to_bytes(3, "big"),
        ),
        (0, 2**32, lambda to: bytes([1 << 5 | 3 << 3]) + to.to_bytes(4, "big")),
    ]
    for least, most, write in writers:
        if least <= at < most:
            data = bytes(at) + encoded("found")
            pointer = write(at)
            assert in_memory(data + pointer)._decoded(len(data)) == ("found", len(data) + len(pointer))
            assert maxminddb.decoder.Decoder(data + pointer).decode(len(data)) == ("found", len(data) + len(pointer))


@given(st.binary(min_size=1, max_size=60))
def test_any_data(data: bytes) -> None:
    """Bytes that mean nothing end in a value or an exception, and soon: no pointer leads round for ever."""
    with suppress(ValueError, IndexError, TypeError, RecursionError, struct.error):
        in_memory(data)._decoded(0)


def test_a_bomb_of_pointers() -> None:
    """Lists of pointers to lists of pointers are decoded once each, not once for each way that leads there."""
    data = encoded("x")
    at = 0
    for _ in range(40):
        pointer = bytes([1 << 5 | at >> 8, at & 255])
        at = len(data)
        data += head(11, 20) + pointer * 20
    value, _ = in_memory(data)._decoded(at)
    assert len(value) == 20


def test_remembered_values_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many records are asked."""
    monkeypatch.setattr(mmdb_in_memory, "VALUES_LIMIT", 5)
    database = open_database(
        str(made_of(tmp_path / "x.mmdb", {f"193.{number}.0.0/16": {"city": f"{number}"} for number in range(50)}))
    )
    database.load()
    assert database.memory is not None
    for number in range(50):
        assert database.memory.fields(193 << 24 | number << 16, 32).geo == GeoFields(city_name=f"{number}")
        assert len(database.memory._fields) <= 5
        assert len(database.memory._values) <= 5
    database.reader.close()
