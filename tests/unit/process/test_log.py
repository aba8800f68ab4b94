"""What ``run`` and ``deliver`` say about themselves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from consumer.process import log

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def logger() -> Iterator[Any]:
    """Return a logger as the processes have it; other tests get theirs back."""
    log.configure()
    yield structlog.get_logger()
    structlog.reset_defaults()


def test_fault_has_its_traceback(logger: Any, capfd: pytest.CaptureFixture[str]) -> None:
    """A fault of ours says where it came from, in the one line."""
    try:
        os.fspath(1)  # type: ignore[call-overload]
    except TypeError:
        logger.exception("fault", channel="ops")
    (line,) = capfd.readouterr().err.splitlines()
    said = json.loads(line)
    assert (said["event"], said["channel"], said["level"]) == ("fault", "ops", "error")
    assert "test_log.py" in said["traceback"]
    assert said["traceback"].endswith("TypeError: expected str, bytes or os.PathLike object, not int\n")
    assert "exc_info" not in said


def test_long_texts(logger: Any, capfd: pytest.CaptureFixture[str]) -> None:
    """Each event stays one line, short enough not to be torn, whatever a text from the network holds."""
    for text in ("x" * 10_000, "\U0001f514" * 10_000, "\n\r\x1b" * 10_000):
        logger.info("said", text=text, more=text)
        logger.info("next")
        first, second = capfd.readouterr().err.splitlines()
        assert len(first) < 4096
        assert json.loads(second)["event"] == "next"


def test_run_starts_without_rich() -> None:
    """The printer of structlog that wants rich is not used. Other modules still get rich."""
    code = "import sys, consumer.run.service, consumer.keys.process; print('rich' in sys.modules); import rich.text"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout == "False\n"
