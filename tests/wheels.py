"""Wheels of this project, built from a copy of it and without a network, and installed alone."""

from __future__ import annotations

import ast
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT_DIR = Path(__file__).parents[1]
PLAIN = {"SSHBELL_PURE": "1"}


def stages() -> list[str]:
    """Return the files that setup.py compiles. To import setup.py would run it."""
    tree = ast.parse((PROJECT_DIR / "setup.py").read_text())
    (found,) = (node.value for node in tree.body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "STAGES")
    return list(ast.literal_eval(found))


def pip(*arguments: str | Path, env: dict[str, str] | None = None) -> str:
    """Run pip without a network, and return its output."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *map(str, arguments)]
    done = subprocess.run(
        command, capture_output=True, check=False, text=True, env={**os.environ, "PIP_NO_INDEX": "1", **(env or {})}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def copied(folder: Path) -> Path:
    """Copy the project to a folder, so that a build leaves nothing in the project."""
    for name in ("consumer", "grammars"):
        shutil.copytree(PROJECT_DIR / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(PROJECT_DIR / name, folder / name)
    return folder


def built(folder: Path, env: dict[str, str]) -> tuple[Path, str]:
    """Build a wheel below an empty folder; return its path and pip's output."""
    needed = ["setuptools"]
    if importlib.util.find_spec("setuptools") is not None:
        import setuptools  # noqa: PLC0415 - where it is there

        # From 70.1 it makes wheels itself.
        needed += ["wheel"] if tuple(map(int, setuptools.__version__.split(".")[:2])) < (70, 1) else []
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        pytest.fail(f"not installed here, and needed to build the wheel: {', '.join(missing)}")
    (folder / "project").mkdir()
    project = copied(folder / "project")
    said = pip("wheel", "--verbose", "--no-deps", "--no-build-isolation", "--wheel-dir", folder / "wheel", project, env=env)
    (found,) = (folder / "wheel").glob("*.whl")
    return found, said


def installed(wheel: Path, folder: Path) -> Path:
    """Install a wheel alone into a folder, and return the folder."""
    pip("install", "--no-deps", "--target", folder, wheel)
    return folder
