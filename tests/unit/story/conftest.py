"""One matcher for all pipelines of these tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from consumer.matching.matcher import Matcher

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module", autouse=True)
def _one_matcher() -> Iterator[None]:
    """Share a matcher: it remembers nothing of a line, and takes most of the time that a new pipeline needs."""
    matcher = Matcher()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("consumer.pipeline.Matcher", lambda _programs: matcher)
        yield
