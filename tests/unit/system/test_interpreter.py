"""``consumer.system.interpreter``: which Python to take where the one that runs us will not do."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from consumer.system import interpreter as module
from consumer.system.interpreter import code_of, how_to_install


@pytest.fixture
def pythons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder that is searched for the system's Python, and that everybody may read and root alone can write."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setattr(module, "_FOLDERS", (tmp_path / "missing", folder))
    monkeypatch.setattr(module, "_HOME", tmp_path / "opt")
    monkeypatch.setattr(module, "untrusted", lambda path: "no" if "open" in path.read_text() else None)
    monkeypatch.setattr(module, "unreachable", lambda path: "no" if "closed" in path.read_text() else None)
    return folder


def python(folder: Path, name: str, status: int, note: str = "") -> Path:
    """Write one that ends with a status when it is asked whether it is fit."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n# {note}\nexit {status}\n")
    path.chmod(0o755)
    return path


def advised(mine: Path) -> str:
    """Return the Python that is to make the environment."""
    (found,) = re.findall(r"in a clone of it: (\S+) -m venv ", how_to_install(mine))
    return str(found)


def test_the_systems_own(pythons: Path, tmp_path: Path) -> None:
    """The one that is called python3, if it is new enough; the one that is in use is named, since it is another."""
    mine = python(tmp_path, "python3.11", 0)
    own = python(pythons, "python3", 0)
    python(pythons, "python3.13", 0)
    said = how_to_install(mine)
    assert said.startswith(f"it runs with {mine}; use {own} instead, whatever python3 is in your path; install sshbell where")
    assert f"{own} -m venv {tmp_path}/opt; {tmp_path}/opt/bin/pip install .; {tmp_path}/opt/bin/sshbell install" in said
    # Where the right one made an environment in the wrong place, there is nothing to say of it.
    assert how_to_install(own).startswith("install sshbell where only root can write")


def test_the_newest_that_is_fit(pythons: Path, tmp_path: Path) -> None:
    """Not one that is too old, that others can change, that nobody else can run, or that is none."""
    mine = python(tmp_path, "python3.11", 0)
    python(pythons, "python3", 1)
    python(pythons, "python3.9", 1)
    python(pythons, "python3.14", 0, "open")
    python(pythons, "python3.13", 0, "closed")
    python(pythons, "python3.12-config", 0)
    python(pythons, "python3.11", 0)
    assert advised(mine).endswith("/python3.11")
    python(pythons, "python3.12", 0)
    assert advised(mine).endswith("/python3.12")


def test_none(pythons: Path, tmp_path: Path) -> None:
    """Where there is none it has to be installed."""
    python(pythons, "python3", 1)
    said = how_to_install(python(tmp_path, "python3.11", 0))
    assert said.startswith("install your system's own Python, 3.11 or later")
    assert "/usr/bin/python3 -m venv" in said


def test_what_is_missing_and_what_is_in_the_way(pythons: Path, tmp_path: Path) -> None:
    """Debian has venv in a package of its own; an environment that is there would keep its Python."""
    own = pythons / "python3"
    own.write_text('#!/bin/sh\ncase "$3" in *ensurepip*) exit 1 ;; esac\n')
    own.chmod(0o755)
    assert "; apt install python3-venv; install sshbell" in how_to_install(python(tmp_path, "python3.11", 0))
    (tmp_path / "opt").mkdir()
    (tmp_path / "opt/pyvenv.cfg").touch()
    assert f"{own} -m venv {tmp_path}/opt --clear; " in how_to_install(own)


def test_code_of(tmp_path: Path) -> None:
    """An interpreter that has no sshbell, fails or is none has no code; one that has it says where."""
    for status in (0, 1):
        assert not code_of(python(tmp_path, f"python{status}", status))
    assert code_of(tmp_path / "missing") is None
    found = code_of(Path(sys.executable))
    assert found is None or any((path / "__init__.py").is_file() or path.is_dir() for path in found)
