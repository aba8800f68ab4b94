"""``consumer.run.start``: the state directory and its lock."""

from __future__ import annotations

import os
import pwd
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from consumer.errors import StoreError
from consumer.process.lock import locked
from consumer.run.start import _make, _uid_of

if TYPE_CHECKING:
    from pathlib import Path

OTHER = "nobody"
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


def test_the_state_directory_is_made(tmp_path: Path) -> None:
    """With what is above it, and for its owner alone."""
    folder = tmp_path / "a" / "state"
    _make(folder, "")
    _make(folder, "")
    assert folder.stat().st_mode & 0o777 == 0o700


@needs_root
def test_an_empty_one_is_given_to_the_user(tmp_path: Path) -> None:
    """Root gives it away as long as nothing is in it; with something in it, it may be another one's."""
    uid = pwd.getpwnam(OTHER).pw_uid
    for name, content in (("empty", ""), ("full", "x")):
        folder = tmp_path / name
        folder.mkdir()
        if content:
            (folder / "file").write_text(content)
        _make(folder, OTHER)
        assert (folder.stat().st_uid == uid) == (not content)
    # become() says that there is no such user.
    _make(tmp_path / "new", "no-such-user")
    assert (tmp_path / "new").stat().st_uid == os.geteuid()


@needs_root
def test_where_others_lead_root(tmp_path: Path) -> None:
    """Root that stays root makes and writes nothing where another user could have put a link, or may put one."""
    uid = pwd.getpwnam(OTHER).pw_uid
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    folder = shared / "state"
    _make(folder, "")  # what root has made stays there
    _make(folder, "root")

    def refused(reason: str) -> None:
        for user in ("", "root"):
            with pytest.raises(StoreError, match=f"root would write to a place that other users control: .*{reason}"):
                _make(folder, user)

    link = folder / "state.db"
    link.symlink_to(tmp_path / "target")
    _make(folder, "")
    os.chown(link, uid, -1, follow_symlinks=False)
    refused("state.db belongs to uid")
    _make(folder, OTHER)  # who is not root goes nowhere that they may not go themselves
    link.unlink()
    (folder / "journal").mkdir()
    (folder / "journal").chmod(0o777)
    refused("journal is writable by everybody")
    (folder / "journal").rmdir()
    folder.chmod(0o1777)
    refused("state is writable by everybody")
    folder.chmod(0o700)
    _make(folder, "")
    shared.chmod(0o777)
    refused("shared is writable by everybody")
    shared.chmod(0o755)
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    _make(folder, "")
    os.chown(folder, uid, -1, follow_symlinks=False)
    refused("state belongs to uid")


def test_one_that_cannot_be_made(tmp_path: Path) -> None:
    """Says which, and what to do."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"file/state: Not a directory; create it for the current user"):
        _make(tmp_path / "file" / "state", "")


def test_one_instance_has_the_lock(tmp_path: Path) -> None:
    """Another one waits until it is let go of, and nothing is left open by those who tried."""
    path = tmp_path / "run.lock"
    with closing(locked(path)):
        before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names
        for _ in range(3):
            with pytest.raises(StoreError, match=r"another process holds .*run\.lock"):
                locked(path)
        assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208 - names
        assert path.read_text() == f"{os.getpid()}\n"
        with pytest.raises(StoreError, match=r"another process holds .*run\.lock; wait for it$"):
            locked(path, "wait for it")
    locked(path).close()


def test_a_lock_file_that_was_replaced(tmp_path: Path) -> None:
    """Each try opens it anew: a process that holds a deleted file blocks no successor."""
    path = tmp_path / "run.lock"
    with closing(locked(path)):
        path.unlink()
        with closing(locked(path)):
            pass


@needs_root
def test_whom_we_become() -> None:
    """The user's number, where root starts us; with "" our own."""
    assert _uid_of(OTHER) == pwd.getpwnam(OTHER).pw_uid
    assert _uid_of("") == os.geteuid()
