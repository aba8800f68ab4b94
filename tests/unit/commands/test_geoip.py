"""The table of ``geoip``: columns stay aligned in a terminal, whatever script the names are in."""

from __future__ import annotations

from rich.cells import cell_len

from consumer.commands.geoip import _table


def test_columns_count_cells() -> None:
    """A Chinese character takes two cells, a combining mark none."""
    head, *rows = _table(
        [
            ("address", "place", "network", "what"), ("203.0.113.7", "Lyon, FR France", "AS1", "a"),
            ("2001:db8::1", "東京, JP 日本", "AS2", "b"), ("192.0.2.1", "Ho\u0302\u0301 Chi\u0301 Minh, VN", "AS3", "c"),
        ]
    )  # fmt: skip
    assert {cell_len(row.partition("AS")[0]) for row in rows} == {head.index("network")} == {30}
    assert [row[-1] for row in rows] == ["a", "b", "c"]


def test_a_long_name_moves_only_its_row() -> None:
    """Columns have a limit; the other rows keep to it."""
    head, long, short = _table([("address", "place", "network", "what"), ("::1", "x" * 60, "AS1", ""), ("::1", "y", "AS1", "")])
    assert head.index("network") == short.index("AS1") == len("address  ") + 48 + 2
    assert long.index("AS1") == len("address  ") + 60 + 2
