"""``consumer.rights``: who can read or change a path. Whole trees: tests/integration/test_install.py."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from consumer.rights import (
    ANYBODY,
    Account,
    changeable_by,
    closed_to,
    is_guarded,
    is_open_to_everybody,
    is_private,
    unreachable,
    untrusted,
)

ME, OTHER = os.geteuid(), 4711


def found(mode: int, uid: int = 0, gid: int = 0) -> os.stat_result:
    """Return what stat(2) says of a file or, with its type in the mode, of something else."""
    return os.stat_result((0o100000 | mode, 0, 0, 1, uid, gid, 0, 0, 0, 0))


@pytest.mark.parametrize(
    ("mode", "uid", "gid", "reason"),
    [
        (0o644, 0, 0, ""),
        (0o755, 0, OTHER, ""),
        (0o1777, 0, 0, "is writable by everybody (mode 1777)"),
        (0o602, 0, 0, "is writable by everybody (mode 0602)"),
        (0o664, 0, OTHER, f"is writable by group {OTHER} (mode 0664)"),
        (0o664, 0, 0, "is writable by group 0 (mode 0664)"),
        (0o400, OTHER, 0, f"belongs to uid {OTHER}, not to root"),
    ],
)
def test_who_can_change_it(mode: int, uid: int, gid: int, reason: str) -> None:
    """Anybody but root: the owner, the group, everybody; the sticky bit protects nothing."""
    assert changeable_by(found(mode, uid, gid)) == reason


def test_whom_one_trusts() -> None:
    """Users and groups may be trusted; the others still are not."""
    assert changeable_by(found(0o664, OTHER, 7), (0, OTHER), (7,)) == ""
    assert changeable_by(found(0o664, OTHER, 8), (0, OTHER), (7,))
    assert changeable_by(found(0o666, OTHER, 7), (0, OTHER), (7,))


def test_private_and_open() -> None:
    """A file is one user's alone, or open to everybody, or neither."""
    assert [is_private(found(mode, OTHER), OTHER) for mode in (0o700, 0o600, 0o640, 0o601, 0o620)] == [True, True, *[False] * 3]
    assert not is_private(found(0o600, OTHER), ME)
    assert [is_open_to_everybody(found(mode)) for mode in (0o604, 0o602, 0o601, 0o660)] == [True, True, False, False]


def test_rights_of_a_user(tmp_path: Path) -> None:
    """The owner's bits count for the owner, the group's for the group, the others' for nobody else, and root may all."""
    file = tmp_path / "file"
    file.touch()
    ours = Account(OTHER, file.stat().st_gid)
    mine, others = Account(ME, 1), Account(OTHER, 4712)
    for mode, account, is_closed in (
        (0o640, ours, False), (0o600, ours, True), (0o604, ours, True), (0o640, others, True), (0o604, others, False),
        (0o040, mine, ME != 0), (0o604, ANYBODY, False), (0o640, ANYBODY, True), (0, Account(0, 0), False),
    ):  # fmt: skip
        file.chmod(mode)
        # pytest's folder is closed to others; it counts as "/" here.
        assert closed_to(account, file, tmp_path) == (file if is_closed else None)


def test_directories_and_links(tmp_path: Path) -> None:
    """A directory has to be passed, on the way of the name and on that of what a link leads to."""
    there, here = tmp_path / "there", tmp_path / "here"
    for folder in (there, here):
        folder.mkdir(mode=0o711)
        folder.chmod(0o711)
    (there / "file").touch()
    (there / "file").chmod(0o644)
    (here / "link").symlink_to("../there/file")
    somebody = Account(OTHER, OTHER)
    assert closed_to(somebody, here / "link", tmp_path) is None
    for folder in (there, here):
        folder.chmod(0o744)
        assert closed_to(somebody, here / "link", tmp_path) == folder
        assert unreachable(here / "link", tmp_path) == f"only root can access {folder} (mode 0744)"
        folder.chmod(0o711)
    assert unreachable(here / "missing", tmp_path) is None
    with pytest.raises(FileNotFoundError):
        closed_to(somebody, here / "missing", tmp_path)


def test_guarded(tmp_path: Path) -> None:
    """Up to the top: what others can write on the way counts, above it no more; what is not there is not guarded."""
    file = tmp_path / "a/b/file"
    file.parent.mkdir(parents=True)
    file.touch()
    for path in (tmp_path, tmp_path / "a", tmp_path / "a/b"):
        path.chmod(0o755)
    file.chmod(0o644)
    top = str(tmp_path / "a")
    assert is_guarded(str(file), ME, top)
    for path, mode, guarded in (
        (file, 0o664, False),
        (file.parent, 0o757, False),
        (Path(top), 0o775, False),
        (tmp_path, 0o777, True),
    ):
        before = path.stat().st_mode & 0o7777
        path.chmod(mode)
        assert is_guarded(str(file), ME, top) == guarded
        path.chmod(before)
    assert not is_guarded(str(file.with_name("missing")), ME, top)
    assert not is_guarded("\0", ME, top)
    # Further up are everybody's folders.
    assert not is_guarded(str(file), ME)
    if ME == 0:
        os.chown(file, OTHER, 0)
        assert not is_guarded(str(file), 0, top)
        assert is_guarded(str(file), OTHER, top)


def test_untrusted_names_the_first_place(tmp_path: Path) -> None:
    """A path that need not exist is judged by what is there."""
    tmp_path.chmod(0o777)
    reason = untrusted(tmp_path / "missing/file")
    assert reason is not None
    assert "is writable by everybody" in reason or "not to root" in reason
