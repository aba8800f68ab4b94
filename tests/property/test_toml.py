"""Whatever tomllib reads, each of its values has a line, and that is one on which its key stands."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Any

from hypothesis import given, reject
from hypothesis import strategies as st

from consumer.toml import KeyPath, TomlDocument, _Lines

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY = st.sampled_from(["a", "b", "c-1", '"d e"', "'f.g'", "1", "a.b", 'b . "c]"', "true"])
SCALAR = st.sampled_from(
    ["1", "-2.5e3", "true", "inf", "1979-05-27", "1979-05-27T07:32:00Z", "1979-05-27 07:32:00.5", '"x = 1 # y"', r'"\"]\\"',
     "'}'", '"""\nz = 1\n"""', '"""a"b""c"""""', "'''\n[t]'''''", '""', "''"]
)  # fmt: skip
SPACE = st.sampled_from(["", " ", "\n", " # , ]\n", "\t\n\n"])


def within(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Return lists over several lines, and tables in braces."""
    lists = st.tuples(st.lists(st.tuples(SPACE, inner, SPACE).map("".join), max_size=3).map(",".join), SPACE).map(
        lambda parts: f"[{parts[0]}{parts[1]}]"
    )
    tables = st.lists(st.tuples(KEY, inner).map(" = ".join), max_size=3).map(lambda pairs: f"{{ {', '.join(pairs)} }}")
    return st.one_of(lists, tables)


VALUE = st.recursive(SCALAR, within, max_leaves=6)
LINE = st.one_of(
    st.tuples(KEY, VALUE).map(" = ".join), st.tuples(KEY, VALUE).map("=".join),
    KEY.map(lambda key: f"[{key}]"), KEY.map(lambda key: f"[[ {key} ]] # x"), st.sampled_from(["", "# [a]", "  "]),
)  # fmt: skip


def values(found: Any, path: KeyPath = ()) -> Iterator[KeyPath]:
    """Yield the paths of all that is in a table or in a list."""
    inside: Any = found.items() if isinstance(found, dict) else enumerate(found) if isinstance(found, list) else ()
    for key, value in inside:
        yield (*path, key)
        yield from values(value, (*path, key))


@given(st.lists(LINE, max_size=8), st.sampled_from(["\n", "\r\n"]))
def test_each_value_has_its_line(lines: list[str], end: str) -> None:
    """No value is missed, none is made up, and the last part of its path can be read on its line."""
    text = "".join(f"{line}\n" for line in lines).replace("\n", end)
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        reject()
    found = _Lines(text).found
    assert set(values(tables)) == found.keys()
    TomlDocument(text.encode(), "x").end()
    rows = text.split("\n")
    for path, line in found.items():
        if isinstance(path[-1], str):
            assert path[-1] in rows[line - 1]
