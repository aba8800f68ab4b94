"""Text of a log for people: nothing that a terminal obeys, and nothing that nobody sees."""

from __future__ import annotations

import pytest

from consumer.text import harmless


@pytest.mark.parametrize("text", ["", "alice", "Jürgen", "山田", "e\u0301", "a b"])
def test_ordinary_text(text: str) -> None:
    """Names stay as they are."""
    assert harmless(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J", r"\x1b[2J"), ("a\u202eb", r"a\u202eb"), ("\u3164", r"\u3164"), ("root\u2800", r"root\u2800"),
        ("a\ufe0f", r"a\ufe0f"), ("\U000e0101", r"\U000e0101"), ("\u115f\u1160\uffa0", r"\u115f\u1160\uffa0"),
    ],
)  # fmt: skip
def test_what_no_reader_would_see(text: str, shown: str) -> None:
    """Control characters, directions, fillers and variation selectors are shown as numbers."""
    assert harmless(text) == shown
