"""``consumer.detect.bounded_table``: bounded, oldest first, and the same after a restart."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.detect.bounded_table import BoundedTable


def test_the_oldest_goes_first() -> None:
    """In a table of one bucket the order is exact; a ``put`` makes an entry the newest."""
    table = BoundedTable(str, int, 3)
    for number, key in enumerate("abc"):
        table.put(key, number)
    table.put("a", 9)
    table.put("d", 4)
    assert dict(table.items()) == {"c": 2, "a": 9, "d": 4}
    assert (len(table), table.evicted_total, table.get("b"), table.pop("c"), table.pop("c")) == (3, 1, None, 2, None)


def test_limit() -> None:
    """A table of many buckets never has more entries than its limit, and keeps most of the newest."""
    table = BoundedTable(bytes, bytes, 10_000)
    keys = [f"{number}".encode() for number in range(40_000)]
    for key in keys:
        table.put(key, b"x")
    assert len(table) == len(dict(table.items())) == 10_000
    assert table.evicted_total == 30_000
    kept = {key for key, _value in table.items()}
    assert len(kept & set(keys[-5_000:])) == 5_000


def test_a_snapshot_has_what_has_changed() -> None:
    """One changed entry writes one bucket; a bucket that became empty is gone; ``forget_snapshot`` writes all."""
    table = BoundedTable(bytes, bytes, 4 * 1024)
    for number in range(100):
        table.put(b"%d" % number, b"x")
    assert len(list(table.changed())) == 4
    table.kept()
    assert list(table.changed()) == []
    table.put(b"7", b"y")
    ((_name, body),) = table.changed("hosts.")
    assert msgspec.msgpack.decode(body, type=dict[bytes, bytes])[b"7"] == b"y"
    for number in range(100):
        table.pop(b"%d" % number)
    assert {body for _name, body in table.changed()} == {b""}
    table.kept()
    table.forget_snapshot()
    assert len(list(table.changed())) == 4


@given(st.lists(st.tuples(st.text(max_size=3), st.integers(0, 9)), max_size=60), st.integers(1, 20))
def test_restored(entries: list[tuple[str, int]], limit: int) -> None:
    """A restored table has the same entries in the same order, so that it forgets the same ones next."""
    table = BoundedTable(str, int, limit)
    for key, value in entries:
        table.put(key, value)
    again = BoundedTable(str, int, limit)
    for _name, body in table.changed():
        if body:
            again.restore(body)
    assert list(again.items()) == list(table.items())


def test_another_limit() -> None:
    """With another limit, entries are in other buckets; none is lost that there is room for."""
    table, larger = BoundedTable(str, int, 2048), BoundedTable(str, int, 8192)
    for number in range(2_000):
        table.put(str(number), number)
    for _name, body in table.changed():
        larger.restore(body)
    assert dict(larger.items()) == dict(table.items())


def test_damage() -> None:
    """Bytes of something else are refused."""
    table = BoundedTable(str, int, 5)
    for body in (b"\xc1", msgspec.msgpack.encode({"a": "b"}), msgspec.msgpack.encode([1])):
        with pytest.raises(msgspec.MsgspecError):
            table.restore(body)
