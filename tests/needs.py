"""
The needs of tests, and the tests that CI may skip.

A test that lacks something on this machine skips itself with a reason. With ``CI`` set, a skip is a failure: otherwise CI would
pass on a machine where half of the tests do not run. ``MAY_BE_SKIPPED`` lists the exceptions.
"""

from __future__ import annotations

import os
import re
import shutil
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator

# A pattern for the reason of a skip, and why CI allows it.
MAY_BE_SKIPPED = {
    r"\S+ is Python 3\.(\d|10): sshbell needs 3\.11": "a machine may have older interpreters besides the one that runs the tests",
    r"the corpus of other projects' lines is not beside this project": "those lines belong to others; a clone lacks them",
}


# For modules that create users, or rely on nobody doing so: pytest-xdist runs all of them in one worker, one by one.
CHANGES_THE_MACHINE = pytest.mark.xdist_group("machine")


def program(name: str, package: str) -> str:
    """Return the path of a program from Debian's ``package``, or skip the test."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed; apt install {package}", allow_module_level=True)
    return found


def root(what: str) -> None:
    """Skip the test unless root runs it; ``what`` is the action that only root can do."""
    if os.geteuid() != 0:
        pytest.skip(f"only root can {what}")


def fault_of_skip(reason: str, *, is_ci: bool) -> str | None:
    """Return why CI does not allow a skip for this reason; None if it does."""
    reason = reason.removeprefix("Skipped: ")
    if not is_ci or any(re.fullmatch(pattern, reason) for pattern in MAY_BE_SKIPPED):
        return None
    return f"skipped, which CI does not allow: {reason}\ntests/needs.py lists what CI may skip."


def _strict(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Turn a skip that CI does not allow into a failure."""
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        fault = fault_of_skip(reason, is_ci=bool(os.environ.get("CI")))
        if fault is not None:
            report.outcome, report.longrepr = "failed", fault


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Check each skipped test."""
    report = yield
    _strict(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Check each skipped module."""
    report = yield
    _strict(report)
    return report
