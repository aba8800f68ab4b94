"""Text of a log for people: nothing that a terminal obeys, and nothing that nobody sees."""

from __future__ import annotations

import pytest

from consumer.text import counted, harmless, listed, quoted


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


def test_words_of_a_sentence() -> None:
    """Numbers have their plural, lists their "and", and only a comma needs quotes."""
    assert [counted(number, "line") for number in (0, 1, 2000)] == ["0 lines", "1 line", "2,000 lines"]
    assert [counted(number, "person", "people") for number in (1, 2)] == ["1 person", "2 people"]
    assert [listed("abc"[:number]) for number in range(4)] == ["", "a", "a and b", "a, b and c"]
    assert [quoted(text) for text in ("alice's key", "alice, verified", "")] == ["alice's key", "'alice, verified'", ""]
