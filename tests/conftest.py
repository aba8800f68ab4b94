"""What all tests share: how much Hypothesis tries, what CI may skip, folders and users, and the line about what was left out."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.budget import register_profiles
from tests.databases import free_database, free_package
from tests.integration.site import Site
from tests.needs import pytest_make_collect_report, pytest_runtest_makereport

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from _pytest.terminal import TerminalReporter

    from tests.integration.host import Host
    from tests.integration.mail_server import Post

__all__ = ["free_database", "free_package", "pytest_make_collect_report", "pytest_runtest_makereport"]

INTEGRATION = Path(__file__).parent / "integration"
NOBODY = 65534

register_profiles()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what starts real processes, before ``-m`` chooses."""
    for item in items:
        if item.path.is_relative_to(INTEGRATION):
            item.add_marker(pytest.mark.integration)


class LeftOut:
    """Counts the tests that ``-m`` leaves out, here or in a worker of xdist, and says so at the end."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._count = 0

    def pytest_deselected(self, items: Sequence[pytest.Item]) -> None:
        """Count here. A worker hands its count to whoever started it."""
        self._count += len(items)
        if hasattr(self._config, "workeroutput"):
            self._config.workeroutput["left_out"] = self._count

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: object) -> None:
        """Take a worker's count; all workers count the same tests."""
        self._count = getattr(node, "workeroutput", {}).get("left_out", self._count)

    def pytest_unconfigure(self) -> None:
        """Say what was left out, and how to run it: the last line."""
        reporter: TerminalReporter | None = self._config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None and self._config.getoption("markexpr") == "not integration":
            left_out = f"{self._count} tests that start real processes, and most of what Hypothesis would try"
            reporter.write_line(f"left out: {left_out}; make test-all runs all of it")


def pytest_configure(config: pytest.Config) -> None:
    """Count what is left out."""
    config.pluginmanager.register(LeftOut(config))


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Return a folder that every user can enter; pytest's own are closed to others."""
    with tempfile.TemporaryDirectory(prefix="sshbell-") as made:
        Path(made).chmod(0o755)
        yield Path(made)


@pytest.fixture
def nobody(open_folder: Path) -> Iterator[Path]:
    """Be a user who has no rights but by the modes of files, and return a folder of this user. Root becomes nobody meanwhile."""
    if os.geteuid() != 0:
        yield open_folder
        return
    os.chown(open_folder, NOBODY, NOBODY)
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield open_folder
    finally:
        os.seteuid(0)
        os.setegid(0)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """Return a temporary sshbell, of which nothing runs yet; what a test starts ends with the test."""
    with Site(tmp_path) as made:
        yield made


@pytest.fixture
def post(site: Site) -> Post:
    """Return the site's mail server."""
    return site.post


@pytest.fixture
def host(open_folder: Path) -> Iterator[Host]:
    """Return a host on which root starts ``run``; it has users of its own, who are gone with it."""
    from tests.integration.host import Host  # noqa: PLC0415 - few need it

    with Host(open_folder) as made:
        yield made
