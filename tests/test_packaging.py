"""The wheel holds everything that is needed: built and installed elsewhere, it reads a line."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from email import message_from_bytes
from typing import TYPE_CHECKING

import pytest

from consumer import __version__
from tests import wheels
from tests.bare_machine import on_a_bare_machine
from tests.wheels import PLAIN, PROJECT_DIR

if TYPE_CHECKING:
    from pathlib import Path

SAMPLE = b"Nov 22 10:00:00 web1 sshd[1]: Accepted password for alice from 192.0.2.7 port 4711 ssh2\n"


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the plain wheel."""
    return wheels.built(tmp_path_factory.mktemp("wheel"), PLAIN)[0]


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel alone into a folder."""
    return wheels.installed(wheel, tmp_path_factory.mktemp("installed"))


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
    assert {name for name in names if ".dist-info/" not in name} == modules | {"consumer/matching/lowered_rules.json"}
    assert any(name.endswith("LICENSE") for name in names)
    assert wheel.name.startswith(f"sshbell-{__version__}-py3-none-any")


def test_a_plain_install_brings_no_engine(wheel: Path) -> None:
    """Spark, Kafka's client, PostgreSQL's and their libraries come with an extra alone."""
    (name,) = [name for name in zipfile.ZipFile(wheel).namelist() if name.endswith("/METADATA")]
    needed = message_from_bytes(zipfile.ZipFile(wheel).read(name)).get_all("Requires-Dist", [])
    engines = {"confluent-kafka", "duckdb", "pandas", "psycopg", "pyarrow", "pyspark"}
    extras = {re.split(r"[^\w-]", line, maxsplit=1)[0] for line in needed if "extra ==" in line}
    assert engines <= extras
    assert not engines & {re.split(r"[^\w-]", line, maxsplit=1)[0] for line in needed if "extra ==" not in line}


def test_a_start_lowers_no_rule(installed: Path) -> None:
    """The build of the wheel has done that, so a start does not even import pyparsing; ``--engine pyparsing`` still does."""
    check = "import sys; from consumer.matching.matcher import Matcher; Matcher(); print('pyparsing' in sys.modules)"
    assert run(installed, sys.executable, "-c", check) == b"False\n"
    command = [sys.executable, "-m", "consumer", *on_a_bare_machine("parse"), "--year", "2026"]
    assert run(installed, *command, "--engine", "pyparsing") == run(installed, *command)


def test_installed_module_reads_a_line(installed: Path) -> None:
    """``python -m consumer`` from the wheel parses a sample."""
    said = json.loads(run(installed, sys.executable, "-m", "consumer", *on_a_bare_machine("parse"), "--year", "2026"))
    assert (said["@timestamp"], said["event"]["action"], said["user"]) == (
        "2026-11-22T10:00:00.000000Z", "accepted", {"name": "alice"},
    )  # fmt: skip


def test_installed_command_is_the_same(installed: Path) -> None:
    """The script that pip makes does what the module does."""
    script = [sys.executable, str(installed / "bin" / "sshbell")]
    assert run(installed, *script, "--version") == f"sshbell {__version__}\n".encode()
    for command in (["parse"], ["replay", "--format", "json", "-"], ["replay", "-"], ["completion", "bash"]):
        words = on_a_bare_machine(*command)
        assert run(installed, *script, *words) == run(installed, sys.executable, "-m", "consumer", *words) != b""


def test_without_a_compiler_the_wheel_is_plain(tmp_path: Path) -> None:
    """The build says why, and does not fail."""
    found, said = wheels.built(tmp_path, {"CC": str(tmp_path / "no-compiler")})
    assert found.name.endswith("-py3-none-any.whl")
    assert not [name for name in zipfile.ZipFile(found).namelist() if name.endswith(".so")]
    assert "sshbell is built without compiled modules: there is no C compiler" in said


def test_an_editable_install_is_plain(tmp_path: Path) -> None:
    """A compiled module beside its source would hide later edits."""
    (tmp_path / "project").mkdir()
    project = wheels.copied(tmp_path / "project")
    build = "import sys, setuptools.build_meta as backend; backend.build_editable(sys.argv[1])"
    subprocess.run([sys.executable, "-c", build, tmp_path], cwd=project, capture_output=True, check=True)
    assert list(tmp_path.glob("*.whl"))
    assert not list(project.rglob("*.so"))
