"""The blocks of code in README.md and docs/, which readers copy."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import NamedTuple

PROJECT_DIR = Path(__file__).parents[1]
README = PROJECT_DIR / "README.md"
PAGES = (README, *sorted((PROJECT_DIR / "docs").glob("*.md")))

_BLOCK = re.compile(r"^(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """
    A fenced block of code.

    Attributes:
        language: the word after the fence.
        text: without the indentation of the fence.
        where: page and line, for messages.
    """

    language: str
    text: str
    where: str


def blocks(page: Path, language: str | None = None) -> list[Block]:
    """Return the blocks of a page in order: those in one language, or all."""
    text = page.read_text(encoding="utf-8")
    found = [
        Block(each["language"], textwrap.dedent(each["text"]), f"{page.name}:{text.count(chr(10), 0, each.start()) + 1}")
        for each in _BLOCK.finditer(text)
    ]
    return [block for block in found if language in {None, block.language}]


def without_blocks(page: Path) -> str:
    """Return a page's text without its blocks of code."""
    return _BLOCK.sub("", page.read_text(encoding="utf-8"))
