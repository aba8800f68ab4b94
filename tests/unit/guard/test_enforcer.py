"""The files that guard writes: what happens when somebody else changes one at the worst moment."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from consumer.config import Blocking
from consumer.guard import enforcer
from consumer.guard.ledger import NOTHING_BLOCKED

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("is_deleted", [True, False])
def test_a_change_right_after_the_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_deleted: bool) -> None:
    """Between the write and the look at the file's stamp, somebody deletes or edits it: the file still comes back."""
    path = tmp_path / "access.conf"
    write = enforcer.write_atomically

    def write_and_change(written: Path, data: bytes) -> None:
        write(written, data)
        if is_deleted:
            written.unlink()
        else:
            written.write_text("- : ALL : ALL\n")

    files = enforcer.AccessFiles(Blocking(access_file=str(path)))
    monkeypatch.setattr(enforcer, "write_atomically", write_and_change)
    assert files.write(NOTHING_BLOCKED) == ""
    monkeypatch.undo()
    assert files.have_changed()
    assert files.write(NOTHING_BLOCKED) == ""
    assert "ALL : ALL\n" not in path.read_text()
    assert not files.have_changed()
