"""Feeds bytes to a reader in every way in which the kernel may deliver them."""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# The largest size that Linux allows every user. A pipe holds one piece per page.
_PIPE_BYTES = 1 << 20
PIECES_LIMIT = _PIPE_BYTES // os.sysconf("SC_PAGESIZE")


def in_pieces(data: bytes, size: int) -> list[bytes]:
    """Cut bytes into pieces of a size; the last one may be smaller."""
    return [data[at : at + size] for at in range(0, len(data), size)]


def ways_to_cut(data: bytes, most: int) -> Iterator[list[bytes]]:
    """Yield bytes in as few pieces as possible, byte by byte, and cut at every place; no piece is longer than ``most``."""
    yield in_pieces(data, most)
    yield in_pieces(data, 1)
    for at in range(1, len(data)):
        yield in_pieces(data[:at], most) + in_pieces(data[at:], most)


@contextmanager
def pipe_of(pieces: list[bytes]) -> Iterator[int]:
    """
    Yield the end of a real pipe from which each read gets one piece, and the last one the end.

    Args:
        pieces: at most ``PIECES_LIMIT``, none of them empty. A read of less than a piece would lose the rest of that piece.
    """
    # O_DIRECT: "packet mode", in which each read returns one write; see pipe(2).
    reading, writing = os.pipe2(os.O_DIRECT | os.O_CLOEXEC)
    try:
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        for piece in pieces:
            os.write(writing, piece)
        os.close(writing)
        yield reading
    finally:
        os.close(reading)


def feed_every_way(data: bytes, most: int = 1 << 16) -> Iterator[int]:
    """Yield one pipe after the other, with the same bytes cut in another way; the reader asks for ``most`` bytes at once."""
    for pieces in ways_to_cut(data, most):
        with pipe_of(pieces) as reading:
            yield reading
