"""``keys.db`` with values that sshbell never writes: a key loses its owner's name, and nothing else happens."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from consumer.keys.index import KeyIndex
from consumer.store.keys import KeyRow, replace_keys

KEY = KeyRow(f"SHA256:{'a' * 43}", "alice", 1, "MD5:aa", "alice@laptop", ["no-pty"], is_authority=False)


@pytest.mark.parametrize("options", ["[" * 100_000, '{"a":1}', "[1]", "", b"\xff", 1.5])
def test_wrong_options(tmp_path: Path, options: object) -> None:
    """Options that are no list of texts, or nest without end, are reported once."""
    replace_keys(tmp_path, "web1", [KEY], 1, 1, pytest.fail)
    with closing(sqlite3.connect(tmp_path / "keys.db")) as connection:
        connection.execute("UPDATE key SET options = ?", (options,))
        connection.commit()
    said: list[str] = []
    index = KeyIndex(tmp_path, said.append)
    assert index.owners("web1", KEY.sha256) == index.owners("web1", KEY.sha256) == []
    assert len(said) == 1
    assert "keys.db" in said[0]
    assert [comment for *_, comment in index.all_owned()] == ["alice@laptop"]
