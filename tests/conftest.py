"""Shared by all tests: Hypothesis's profiles, the check of skips, folders and users, and the report of left-out tests."""

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
    from collections.abc import Generator, Iterator, Sequence

    from _pytest.terminal import TerminalReporter

    from tests.integration.host import Host
    from tests.integration.kafka import Postgres
    from tests.integration.mail_server import Post

__all__ = ["free_database", "free_package", "pytest_make_collect_report", "pytest_runtest_makereport"]

INTEGRATION = Path(__file__).parent / "integration"
NOBODY = 65534

register_profiles()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Generator[None]:
    """Mark the tests that start real processes, before ``-m`` selects; put the long ones first, after pytest-randomly."""
    for item in items:
        if item.path.is_relative_to(INTEGRATION):
            item.add_marker(pytest.mark.integration)
    yield
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


class LeftOut:
    """Counts the tests that ``-m`` leaves out, here or in a worker of xdist, and reports the number at the end."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._count = 0

    def pytest_deselected(self, items: Sequence[pytest.Item]) -> None:
        """Count here. A worker passes its count to the main process."""
        self._count += len(items)
        if hasattr(self._config, "workeroutput"):
            self._config.workeroutput["left_out"] = self._count

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: object) -> None:
        """Take a worker's count; all workers count the same tests."""
        self._count = getattr(node, "workeroutput", {}).get("left_out", self._count)

    def pytest_unconfigure(self) -> None:
        """Report the left-out tests, and how to run them, in the last line."""
        reporter: TerminalReporter | None = self._config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None and self._config.getoption("markexpr") == "not integration":
            left_out = f"{self._count} tests that start real processes, and most of Hypothesis's examples"
            reporter.write_line(f"left out: {left_out}; make test-all runs all of them")


def pytest_configure(config: pytest.Config) -> None:
    """Count the left-out tests."""
    config.pluginmanager.register(LeftOut(config))


@pytest.fixture(autouse=True)
def _umask() -> Iterator[None]:
    """Undo what a command does to the whole process: files of later tests must be readable for other users."""
    before = os.umask(0o022)
    os.umask(before)
    yield
    os.umask(before)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Return a folder that every user can enter; pytest's own folders are closed to other users."""
    with tempfile.TemporaryDirectory(prefix="sshbell-") as made:
        Path(made).chmod(0o755)
        yield Path(made)


@pytest.fixture
def nobody(open_folder: Path) -> Iterator[Path]:
    """Run as a user whose rights come only from the modes of files, and return this user's folder. Root becomes ``nobody``."""
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
    """Return a temporary sshbell that is not running yet. Its processes end with the test."""
    with Site(tmp_path) as made:
        yield made


@pytest.fixture
def post(site: Site) -> Post:
    """Return the site's mail server."""
    return site.post


@pytest.fixture
def host(open_folder: Path) -> Iterator[Host]:
    """Return a host on which root starts ``run``, with its own users, which are deleted with it."""
    from tests.integration.host import Host  # noqa: PLC0415 - few need it

    with Host(open_folder) as made:
        yield made


@pytest.fixture(scope="module")
def postgres_server() -> Iterator[Postgres]:
    """Return a database server. Pytest's own paths are too long for its socket."""
    from tests.integration.kafka import Postgres  # noqa: PLC0415 - few need it

    with tempfile.TemporaryDirectory(prefix="sshbell-") as made:
        Path(made).chmod(0o755)
        (Path(made) / "d").mkdir()
        with Postgres(Path(made) / "d") as running:
            yield running


@pytest.fixture
def postgres(postgres_server: Postgres) -> Postgres:
    """Return the server without tables."""
    postgres_server.empty()
    return postgres_server
