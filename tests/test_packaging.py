"""The wheel holds everything that is needed: built and installed elsewhere, it reads a line."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from consumer import __version__

PROJECT_DIR = Path(__file__).parents[1]
SAMPLE = b"Nov 22 10:00:00 web1 sshd[1]: Accepted password for alice from 192.0.2.7 port 4711 ssh2\n"


def pip(*arguments: str | Path) -> None:
    """Run pip without a network."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, check=False, text=True, env={**os.environ, "PIP_NO_INDEX": "1"})
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from a copy, so that nothing is left in the project."""
    needed = ["setuptools"]
    if importlib.util.find_spec("setuptools") is not None:
        import setuptools  # noqa: PLC0415 - where it is there

        # From 70.1 it makes wheels itself.
        needed += ["wheel"] if tuple(map(int, setuptools.__version__.split(".")[:2])) < (70, 1) else []
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        pytest.fail(f"not installed here, and needed to build the wheel: {', '.join(missing)}")
    folder = tmp_path_factory.mktemp("project")
    for name in ("consumer", "grammars"):
        shutil.copytree(PROJECT_DIR / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(PROJECT_DIR / name, folder / name)
    out = tmp_path_factory.mktemp("wheel")
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", out, folder)
    (found,) = out.glob("*.whl")
    return found


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel alone into a folder."""
    folder = tmp_path_factory.mktemp("installed")
    pip("install", "--no-deps", "--target", folder, wheel)
    return folder


def run(installed: Path, *command: str | Path, stdin: bytes = SAMPLE) -> bytes:
    """Run a command that sees the installed files, and not the project."""
    env = {**os.environ, "PYTHONPATH": str(installed), "TZ": "UTC"}
    return subprocess.run(list(map(str, command)), cwd=installed, env=env, input=stdin, capture_output=True, check=True).stdout


def test_contents(wheel: Path) -> None:
    """The wheel has every module of the two packages, the data they read, the licence, and nothing of the tests."""
    names = zipfile.ZipFile(wheel).namelist()
    modules = {
        str(path.relative_to(PROJECT_DIR))
        for package in ("consumer", "grammars")
        for path in (PROJECT_DIR / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    modules |= {f"consumer/rsyslog.d/{path.name}" for path in (PROJECT_DIR / "rsyslog.d").iterdir()}
    assert {name for name in names if ".dist-info/" not in name} == modules
    assert any(name.endswith("LICENSE") for name in names)
    assert wheel.name.startswith(f"sshbell-{__version__}-py3-none-any")


def test_installed_module_reads_a_line(installed: Path) -> None:
    """``python -m consumer`` from the wheel parses a sample."""
    said = json.loads(run(installed, sys.executable, "-m", "consumer", "parse", "--year", "2026"))
    assert (said["@timestamp"], said["event"]["action"], said["user"]) == (
        "2026-11-22T10:00:00.000000Z", "accepted", {"name": "alice"},
    )  # fmt: skip


def test_installed_command_is_the_same(installed: Path) -> None:
    """The script that pip makes does what the module does."""
    script = [sys.executable, str(installed / "bin" / "sshbell")]
    assert run(installed, *script, "--version") == f"sshbell {__version__}\n".encode()
    for command in (["parse"], ["replay", "--format", "json", "-"], ["replay", "-"], ["completion", "bash"]):
        assert run(installed, *script, *command) == run(installed, sys.executable, "-m", "consumer", *command) != b""
