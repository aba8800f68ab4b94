"""``consumer.stamp``: a file that was replaced or changed is never taken for the one that was read."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from consumer.stamp import Stamp
from tests.waiting import wait_for

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Write a file with an old time, as one that came out of an archive."""
    made = tmp_path / "file"
    made.write_bytes(b"one")
    os.utime(made, (1, 1))
    return made


def test_the_same_file(file: Path) -> None:
    """By path, by text and by descriptor; reading changes nothing."""
    stamp = Stamp.of(file)
    assert stamp is not None
    file.read_bytes()
    with file.open("rb") as opened:
        assert Stamp.of(str(file)) == Stamp.of(opened.fileno()) == stamp
    assert stamp.size == 3
    assert stamp.is_same_file(stamp)


def test_no_file(file: Path) -> None:
    """None is no stamp, and no file is the same as none."""
    stamp = Stamp.of(file)
    assert stamp is not None
    assert not stamp.is_same_file(None)
    for path in (file.with_name("missing"), file / "x", "\0"):
        assert Stamp.of(path) is None


def test_replaced_and_changed(file: Path) -> None:
    """Another file is never the same; one that is written to is the same file, changed."""
    stamp = Stamp.of(file)
    assert stamp is not None
    other = file.with_name("other")
    # Size and time are those of the old one.
    shutil.copy2(file, other)
    other.replace(file)
    found = Stamp.of(file)
    assert found is not None
    assert (found != stamp, found.is_same_file(stamp)) == (True, False)
    with file.open("ab") as out:
        out.write(b" more")
    changed = Stamp.of(file)
    assert changed is not None
    assert (changed != found, changed.is_same_file(found)) == (True, True)


def test_a_time_that_was_set_back(file: Path) -> None:
    """Whoever writes in place and sets the time back, as rsync --inplace --times does, has changed the file all the same."""
    before = Stamp.of(file)
    assert before is not None

    def is_changed() -> bool:
        file.write_bytes(b"two")
        os.utime(file, (1, 1))
        return Stamp.of(file) != before

    # The clock that the kernel stamps files with ticks some hundred times a second.
    wait_for(is_changed, "the stamp of a changed file differs")
    after = Stamp.of(file)
    assert after is not None
    assert (after.size, after.is_same_file(before)) == (before.size, True)
