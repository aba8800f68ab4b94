"""``consumer.process.lock``: one process holds a lock, and others see which."""

import os
from contextlib import closing
from pathlib import Path

import pytest

from consumer.process.lock import Lock, Process, holder_of

NO_PROCESS = Process(is_running=False, pid=0)


def test_the_holder(tmp_path: Path) -> None:
    """A lock has one holder, until that one closes it; the file alone holds nothing."""
    path = tmp_path / "run.lock"
    assert holder_of(path) == NO_PROCESS
    with closing(Lock(path)) as lock, closing(Lock(path)) as other:
        assert holder_of(path) == NO_PROCESS
        assert lock.take()
        assert holder_of(path) == Process(is_running=True, pid=os.getpid())
        assert not other.take()
    assert path.read_text() == f"{os.getpid()}\n"
    assert holder_of(path) == NO_PROCESS


@pytest.mark.parametrize("content", ["", "no number\n", "-1\n"])
def test_a_holder_without_a_pid(tmp_path: Path, content: str) -> None:
    """A process has taken the lock, but not yet written its pid."""
    path = tmp_path / "run.lock"
    with closing(Lock(path)) as lock:
        assert lock.take()
        path.write_text(content)
        assert holder_of(path) == Process(is_running=True, pid=0)


def test_a_lock_that_cannot_be_opened(tmp_path: Path) -> None:
    """A loop of links is an error, also for root."""
    path = tmp_path / "run.lock"
    path.symlink_to(path)
    with pytest.raises(OSError, match="symbolic links"):
        holder_of(path)
