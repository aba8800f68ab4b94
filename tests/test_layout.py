"""The house: imports run one way, and no stage of the pipeline knows a clock, a file or a network (pyproject.toml)."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT_DIR = Path(__file__).parents[1]
ROOMS = sorted(path.parent for path in (PROJECT_DIR / "consumer").glob("*/__init__.py"))
# Each would break one contract.
SLIPS = [
    ("consumer/story/event_ids.py", "import time"),
    ("consumer/story/event_ids.py", "from consumer.clock import now_us"),
    ("consumer/text.py", "from consumer import records"),
    ("consumer/store/queries.py", "from consumer.deliver import routing"),
    ("consumer/unlisted.py", "x = 1"),
    ("consumer/deliver/decide.py", "import time"),
    ("consumer/keys/index.py", "import sqlite3"),
    ("consumer/keys/index.py", "import psycopg"),
    ("consumer/store/worker.py", "import confluent_kafka"),
    ("consumer/pipeline.py", "import socket"),
    ("consumer/system/check.py", "from consumer.deliver.channels.email import Email"),
    ("consumer/pipeline.py", "import pyspark"),
    ("consumer/story/event_ids.py", "import socket"),
    ("grammars/pam.py", "from consumer import text"),
]


def linted(folder: Path) -> subprocess.CompletedProcess[str]:
    """Hold the imports of a checkout against the contracts."""
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()", "--no-cache", "--no-logo"]
    return subprocess.run(
        command, cwd=folder, env=os.environ | {"PYTHONPATH": str(folder)}, capture_output=True, check=False, text=True
    )


def test_imports() -> None:
    """No import runs upwards, none out of a leaf, and none from a pure stage to the world."""
    done = linted(PROJECT_DIR)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(("path", "slip"), SLIPS, ids=lambda text: text.replace("/", "."))
def test_a_slip_is_found(tmp_path: Path, path: str, slip: str) -> None:
    """The contracts can fail."""
    for name in ("consumer", "grammars"):
        shutil.copytree(PROJECT_DIR / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(PROJECT_DIR / "pyproject.toml", tmp_path)
    with (tmp_path / path).open("a", encoding="utf-8") as file:
        file.write(f"\n{slip}\n")
    assert "BROKEN" in linted(tmp_path).stdout


def test_a_grammar_imports_pyparsing_alone() -> None:
    """A grammar can be read, and run, without sshbell."""
    found = set()
    for path in (PROJECT_DIR / "grammars").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                found.add(f"{node.module}".partition(".")[0])
            elif isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
    assert found - set(sys.stdlib_module_names) == {"grammars", "pyparsing"}


@pytest.mark.parametrize("room", ROOMS, ids=lambda path: path.name)
def test_a_room_says_what_it_is_for(room: Path) -> None:
    """The first line of a room tells a newcomer what stands in it."""
    assert ast.get_docstring(ast.parse((room / "__init__.py").read_text(encoding="utf-8")))


def test_the_pipeline_loads_no_engine() -> None:
    """Nor a broker's client, a database server's, or a socket: it runs in a worker of any of them."""
    engines = {"confluent_kafka", "duckdb", "psycopg", "pyarrow", "pyspark", "socket"}
    check = "import sys, consumer.pipeline; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", check], cwd=PROJECT_DIR, capture_output=True, check=True, text=True)
    assert not engines & set(done.stdout.split())
