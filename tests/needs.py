"""
What a test needs of the machine, and which tests may be left out.

A test that lacks something is skipped with a reason. With ``CI`` set a skip is a failure: otherwise CI would pass on a machine
where half of the tests do not run. ``MAY_BE_SKIPPED`` lists the exceptions.
"""

from __future__ import annotations

import os
import re
import shutil
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator

# A pattern for the reason of the skip, and why CI does without that test.
MAY_BE_SKIPPED = {
    r"\S+ is Python 3\.(\d|10): sshbell needs 3\.11": "a machine may have older interpreters beside the one that runs the tests",
    r"the corpus of other projects' lines is not beside this project": "those lines belong to others; a clone lacks them",
}


def program(name: str, package: str) -> str:
    """Return the path of a program, or skip the test: Debian's ``package`` has it."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed; apt install {package}", allow_module_level=True)
    return found


def root(what: str) -> None:
    """Skip the test unless root runs it: ``what`` only root can do."""
    if os.geteuid() != 0:
        pytest.skip(f"only root can {what}")


def fault_of_skip(reason: str, *, is_ci: bool) -> str | None:
    """Return why a test may not be skipped for this reason; None where it may."""
    reason = reason.removeprefix("Skipped: ")
    if not is_ci or any(re.fullmatch(pattern, reason) for pattern in MAY_BE_SKIPPED):
        return None
    return f"skipped, which CI does not allow: {reason}\ntests/needs.py lists what CI may skip."


def _strict(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Turn a skip into a failure where it may not be one."""
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        fault = fault_of_skip(reason, is_ci=bool(os.environ.get("CI")))
        if fault is not None:
            report.outcome, report.longrepr = "failed", fault


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Judge each test that is skipped."""
    report = yield
    _strict(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Judge each module that is skipped as a whole."""
    report = yield
    _strict(report)
    return report
