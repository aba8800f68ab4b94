"""
The columns of a table, and text cut to their widths.

The widths depend on the terminal alone. sshbell writes a row as soon as it is known, so it cannot wait for the widest one as
rich's own tables do. Widths count cells: a Chinese character takes two, a combining mark none.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import click

# Combining marks for one letter, on average. A terminal draws a name with more of them over the rows around it.
_MARKS_LIMIT = 3
# Asks for a coloured picture in place of the character before it.
_EMOJI_SELECTOR = "\ufe0f"


class Column(NamedTuple):
    """
    A column.

    Attributes:
        key: its name in the code.
        head: its heading.
        least: its width in a terminal of 80 columns, in cells.
        full: its least width in a file or a pipe, in cells.
    """

    key: str
    head: str
    least: int
    full: int


class Widths(NamedTuple):
    """The width of each column, and the blanks between two of them. ``last``: of the last column; 0 where nothing is cut."""

    columns: tuple[Column, ...]
    cells: tuple[int, ...]
    gap: str
    last: int


# Where there is room, columns grow in this order: (column, up to so many cells). LAST is the last column.
Growth = Iterable[tuple[str, int]]
LAST = ""
# From this width on, two blanks stand between columns; below, one.
_SPACIOUS = 100


def widths_of(columns: Sequence[Column], last: int, growth: Growth, dropped: Iterable[str], width: int) -> Widths:
    """
    Return the widths of columns in a terminal.

    Args:
        columns: all but the last one.
        last: the least width of the last one.
        growth: the steps of growth, in turn. A step that does not fit is skipped.
        dropped: columns that a narrow terminal leaves out, in turn.
        width: of the terminal, in cells.
    """
    gap = " " if width < _SPACIOUS else "  "
    shown = list(columns)
    for key in dropped:
        if _taken(shown, gap) + last <= width:
            break
        shown = [column for column in shown if column.key != key]
    cells = {column.key: column.least for column in shown} | {LAST: last}
    room = width - _taken(shown, gap) - last
    for key, upto in growth:
        more = upto - cells.get(key, upto)
        if 0 < more <= room:
            cells[key] += more
            room -= more
    return Widths(tuple(shown), tuple(cells[column.key] for column in shown), gap, max(1, cells[LAST] + room))


def _taken(columns: Sequence[Column], gap: str) -> int:
    return sum(column.least + len(gap) for column in columns)


def unbounded(columns: Sequence[Column]) -> Widths:
    """Return the widths for a file or a pipe, where nothing is cut."""
    return Widths(tuple(columns), tuple(column.full for column in columns), "  ", 0)


def row_of(widths: Widths, texts: Sequence[str], last: str) -> str:
    """Return a row: the texts in their columns, cut where a terminal wants it, and the last one as it is."""
    is_cut = widths.last > 0
    parts = [filled(cut(text, cells) if is_cut else text, cells) for text, cells in zip(texts, widths.cells, strict=True)]
    return widths.gap.join([*parts, last]).rstrip()


def painted(text: str, color: str = "", *, bold: bool = False, on: bool) -> str:
    """Return a text in a colour, or bold; as it is where it wants neither, or where colours are not ``on``."""
    return click.style(text, fg=color or None, bold=bold or None) if on and (color or bold) else text


def cells_of(text: str) -> int:
    """Return how many cells a terminal needs for a text."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len  # noqa: PLC0415 - ASCII needs no rich

    return cell_len(text)


def filled(text: str, cells: int) -> str:
    """Return a text, padded with blanks to a width in cells."""
    return text + " " * (cells - (len(text) if text.isascii() else cells_of(text)))


def cut(text: str, cells: int) -> str:
    """Return a text that fits into a width in cells; "…" marks where it is cut."""
    if text.isascii():
        return text if len(text) <= cells else f"{text[: max(0, cells - 1)]}…"
    from rich.cells import cell_len, set_cell_size  # noqa: PLC0415

    # Terminals disagree about the width of a character with a selector.
    text = text.replace(_EMOJI_SELECTOR, "")
    if len(text) > (1 + _MARKS_LIMIT) * max(1, cell_len(text)):
        text = "".join(char for char in text if cell_len(char))
    return text if cell_len(text) <= cells else f"{set_cell_size(text, max(0, cells - 1)).rstrip()}…"
