"""A plugin for pytest: the run must test the compiled build."""

from __future__ import annotations

from consumer.matching import matcher


def pytest_sessionstart() -> None:
    """Fail unless the stages are compiled."""
    assert str(matcher.__file__).endswith(".so"), matcher.__file__
