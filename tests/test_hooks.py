"""The hooks that git calls before a commit do what ``make check`` does."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import needs

PROJECT_DIR = Path(__file__).parents[1]
CONFIG = ".pre-commit-config.yaml"


def hooks() -> list[dict[str, Any]]:
    """Return all hooks."""
    (local,) = yaml.safe_load((PROJECT_DIR / CONFIG).read_text(encoding="utf-8"))["repos"]
    assert local["repo"] == "local"
    found: list[dict[str, Any]] = local["hooks"]
    return found


def test_hooks_are_those_of_make_check() -> None:
    """The same commands, in the same order, over all files."""
    makefile = (PROJECT_DIR / "Makefile").read_text(encoding="utf-8")
    (recipe,) = re.findall(r"^check:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    assert [hook["entry"] for hook in hooks()] == recipe.replace("$(VENV)", ".venv").replace("\t", "").splitlines()
    assert {hook["language"] for hook in hooks()} == {"system"}
    assert not any(hook["pass_filenames"] for hook in hooks())


@pytest.mark.parametrize(("text", "status"), [("x = 1\n", 0), ("x =  1\n", 1)])
def test_a_fault_stops_a_commit(tmp_path: Path, text: str, status: int) -> None:
    """Pre-commit reads the configuration, and a commit of a file that ruff would format otherwise is refused."""
    git = needs.program("git", "git")
    shutil.copy(PROJECT_DIR / CONFIG, tmp_path)
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "bin").symlink_to(Path(sys.executable).parent)
    (tmp_path / "module.py").write_text(text)
    # Where the tests are run by a hook themselves, git has named its own repository.
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    for command in (["init", "-q"], ["add", "module.py"]):
        subprocess.run([git, *command], cwd=tmp_path, check=True, env=env)
    done = subprocess.run(
        [sys.executable, "-m", "pre_commit", "run", "format", "--all-files"], cwd=tmp_path, check=False, capture_output=True,
        text=True, env=env | {"PRE_COMMIT_HOME": str(tmp_path / "cache")},
    )  # fmt: skip
    assert done.returncode == status, done.stdout
