"""
A database in MaxMind's format, in memory, for thousands of addresses: what ``maxminddb`` says, several times as fast.

maxminddb's compiled reader is faster still. But damaged records crash it (3.2.0, one file in fifty of which a few bytes were
changed), and a file that is overwritten in place kills whoever has mapped it. Here the search tree is an array, and what several
records share is decoded once. The format: https://maxmind.github.io/MaxMind-DB/
"""

import sys
from array import array
from collections.abc import Callable
from struct import unpack
from typing import Any

from consumer.ecs import NO_SOURCE, SourceFields
from consumer.places.geo_record import fields_of

# Decoded values that are remembered, and records.
VALUES_LIMIT = 65_536
# Between the tree and the records.
_SEPARATOR = 16
_HIGH_NIBBLES = bytes(byte >> 4 for byte in range(256))
_LOW_NIBBLES = bytes(byte & 15 for byte in range(256))
_POINTER, _TEXT, _DOUBLE, _BYTES, _MAP, _INT32, _ARRAY, _BOOLEAN, _FLOAT = 1, 2, 3, 4, 7, 8, 11, 14, 15
_UNSIGNED = frozenset({5, 6, 9, 10})


class InMemory:
    """
    The whole of a database.

    Args:
        read: gives so many bytes of the file from the current place on.
        nodes: of its search tree; all that follow are its metadata's.
        record_size: 24, 28 or 32, in bits.
        ip_version: 4 or 6.
        size_bytes: of the file.
    """

    def __init__(self, read: Callable[[int], bytes], nodes: int, record_size: int, ip_version: int, size_bytes: int) -> None:
        tree_bytes = nodes * record_size // 4
        self._nodes = nodes
        self._tree = _tree(read(tree_bytes), nodes, record_size)
        # Offsets in the data, and pointers, count from behind the separator.
        read(_SEPARATOR)
        self._data = read(size_bytes - tree_bytes - _SEPARATOR)
        self._values: dict[bytes, Any] = {}
        self._fields: dict[int, SourceFields] = {}
        self._ipv4_root = 0
        if ip_version == 6:
            self._ipv4_root = self._found(0, 0, 96)

    def fields(self, number: int, bits: int) -> SourceFields:
        """
        Return what the record of an address has, as ``fields_of`` does.

        Raises:
            Exception: whatever damaged data make of it.
        """
        node = self._found(self._ipv4_root if bits == 32 else 0, number, bits)
        if node < self._nodes:
            raise ValueError("a search tree that does not end")
        if node == self._nodes:
            return NO_SOURCE
        found = self._fields.get(node)
        if found is None:
            found = fields_of(self._decoded(node - self._nodes - _SEPARATOR)[0])
            if len(self._fields) >= VALUES_LIMIT:
                self._fields.clear()
            self._fields[node] = found
        return found

    def _found(self, node: int, number: int, bits: int) -> int:
        """Follow the first ``bits`` of a number; return a node, how many there are for "nothing", or above that a record's."""
        tree, nodes = self._tree, self._nodes
        while bits and node < nodes:
            bits -= 1
            node = tree[node << 1 | number >> bits & 1]
        return node

    def _decoded(self, at: int) -> tuple[Any, int]:
        """Return the value at an offset, and where it ends."""
        if at < 0:
            raise ValueError("a record before the data")
        data = self._data
        control = data[at]
        at += 1
        kind = control >> 5
        if kind == _POINTER:
            end = at + 1 + (control >> 3 & 3)
            return self._pointed_to(data[at - 1 : end]), end
        if kind == 0:
            kind = data[at] + 7
            at += 1
        size = control & 31
        if size >= 29:
            # 29 and a byte, 285 and two bytes, 65,821 and three bytes.
            width = size - 28
            size = (29, 285, 65_821)[width - 1] + int.from_bytes(data[at : at + width], "big")
            at += width
        if kind == _MAP:
            return self._map(size, at)
        if kind == _ARRAY:
            values = []
            for _ in range(size):
                value, at = self._decoded(at)
                values.append(value)
            return values, at
        if kind == _BOOLEAN:
            return size != 0, at
        return _scalar(kind, data[at : at + size]), at + size

    def _map(self, size: int, at: int) -> tuple[Any, int]:
        found = {}
        key: Any = None
        for number in range(2 * size):
            control = self._data[at]
            # Most are pointers, and a call takes longer than all else.
            if control >> 5 == _POINTER:
                end = at + 2 + (control >> 3 & 3)
                pointer = self._data[at:end]
                value = self._values.get(pointer) or self._pointed_to(pointer)
                at = end
            else:
                value, at = self._decoded(at)
            if number & 1:
                found[key] = value
            else:
                key = value
        return found, at

    def _pointed_to(self, pointer: bytes) -> Any:
        """Return the value to which a pointer leads; values are remembered by the bytes of their pointers."""
        value = self._values.get(pointer)
        if value is None:
            width = len(pointer) - 1
            target = int.from_bytes(pointer[1:], "big")
            if width < 4:
                target += ((pointer[0] & 7) << 8 * width) + (0, 2_048, 526_336)[width - 1]
            value = self._decoded(target)[0]
            if len(self._values) >= VALUES_LIMIT:
                self._values.clear()
            self._values[pointer] = value
        return value


def _scalar(kind: int, raw: bytes) -> object:
    if kind == _TEXT:
        return raw.decode()
    if kind in _UNSIGNED:
        return int.from_bytes(raw, "big")
    if kind == _INT32:
        return int.from_bytes(raw.rjust(4, b"\0"), "big", signed=True)
    if kind == _DOUBLE:
        return unpack(">d", raw)[0]
    if kind == _FLOAT:
        return unpack(">f", raw)[0]
    if kind == _BYTES:
        return raw
    raise ValueError(f"a value of type {kind}")


def _tree(raw: bytes, nodes: int, record_size: int) -> "array[int]":
    """Return left and right of each node in turn, whatever their size in the file."""
    if len(raw) != nodes * record_size // 4:
        raise ValueError("a search tree that is cut off")
    words = bytearray(nodes * 8)
    match record_size:
        case 24:
            for byte in range(3):
                words[byte + 1 :: 4] = raw[byte::3]
        case 28:
            # Three bytes of the left one, one that both share, three of the right one.
            words[0::8], words[4::8] = raw[3::7].translate(_HIGH_NIBBLES), raw[3::7].translate(_LOW_NIBBLES)
            for byte in range(3):
                words[byte + 1 :: 8], words[byte + 5 :: 8] = raw[byte::7], raw[byte + 4 :: 7]
        case 32:
            words[:] = raw
        case _:
            raise ValueError(f"records of {record_size} bits")
    tree = array("I", bytes(words))
    if sys.byteorder == "little":
        tree.byteswap()
    return tree
