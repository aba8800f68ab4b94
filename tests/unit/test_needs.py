"""With CI set no test is left out in silence; tests that change the machine run one by one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.needs import fault_of_skip

PROJECT_DIR = Path(__file__).parents[2]
SKIPPING = """
import pytest
from tests import needs

def test_program():
    needs.program("no-such-program", "no-such-package")

@pytest.mark.skipif(True, reason="it is a Tuesday")
def test_mark():
    pass

@pytest.mark.xfail(strict=True)
def test_known_fault():
    raise ValueError
"""

GROUPED = """
from pathlib import Path
import pytest
from tests import needs

pytestmark = needs.CHANGES_THE_MACHINE

@pytest.mark.parametrize("number", range(6))
def test_it(number, worker_id):
    Path(__file__).with_suffix(f".{worker_id}").touch()
"""


def outcome(folder: Path, text: str, ci: str, *options: str) -> str:
    """Run pytest over some tests, with the rules of this project about skips; return its last line."""
    (folder / "test_it.py").write_text(text)
    # Without the options and plug-ins of this run.
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-c",
        os.devnull,
        "--rootdir",
        str(folder),
        "-p",
        "tests.needs",
        *options,
        str(folder),
    ]
    env = os.environ | {"CI": ci, "PYTHONPATH": str(PROJECT_DIR), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env, cwd=folder)
    return done.stdout.rstrip().rpartition("\n")[2].partition(" in ")[0]


@pytest.mark.parametrize(("ci", "expected"), [("", "2 skipped, 1 xfailed"), ("true", "1 failed, 1 xfailed, 1 error")])
def test_a_skip_fails_under_ci(tmp_path: Path, ci: str, expected: str) -> None:
    """A missing program is a skip where somebody works, and a failure where all has to be tested."""
    assert outcome(tmp_path, SKIPPING, ci) == expected


@pytest.mark.parametrize(("ci", "expected"), [("", "1 skipped"), ("true", "1 error")])
def test_a_skipped_module_fails_under_ci(tmp_path: Path, ci: str, expected: str) -> None:
    """A module that needs a program as a whole is not left out either."""
    text = "from tests import needs\nneeds.program('no-such-program', 'no-such-package')\n"
    assert outcome(tmp_path, text, ci) == expected


def test_what_may_be_skipped() -> None:
    """The exceptions are those of the list; a reason that only begins like one of them is none."""
    assert fault_of_skip("Skipped: /usr/bin/python3.9 is Python 3.9: sshbell needs 3.11", is_ci=True) is None
    for reason in (
        "/usr/bin/python3.11 is Python 3.11: sshbell needs 3.11",
        "/usr/bin/python3.9 is Python 3.9: sshbell needs 3.11, or so",
        "sshd is not installed; apt install openssh-server",
    ):
        assert reason in str(fault_of_skip(reason, is_ci=True))
        assert fault_of_skip(reason, is_ci=False) is None


def test_a_group_has_one_worker(tmp_path: Path) -> None:
    """pytest-xdist 3.8.0 cannot group the tests of pytest 9.2.0, and does not say so."""
    assert outcome(tmp_path, GROUPED, "", "-p", "xdist.plugin", "--numprocesses=2", "--dist=loadgroup") == "6 passed"
    assert len(list(tmp_path.glob("test_it.gw*"))) == 1
