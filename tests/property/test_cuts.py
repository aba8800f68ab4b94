"""Lines do not depend on how their bytes were cut on the way: a pipe hands over whatever is there."""

from __future__ import annotations

import bz2
import gzip
import lzma
from typing import TYPE_CHECKING

import pytest
import zstandard
from hypothesis import example, given
from hypothesis import strategies as st

from consumer.intake import files, omprog
from consumer.intake.files import LogFile
from consumer.intake.omprog import Lines
from tests.budget import examples
from tests.helpers import PIECES_LIMIT, feed_every_way, pipe_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# In place of 64 KiB, so that each line is near it.
LIMIT = 8
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": zstandard.ZstdCompressor().compress,
}
BOM = b"\xef\xbb\xbf"
# Lines of every length around the limit and twice the limit; what stands behind the last line feed; a mark at the beginning.
TEXTS = st.builds(
    lambda head, lines, tail: b"".join([head, *(line + b"\n" for line in lines), tail]),
    st.sampled_from([b"", BOM, BOM[:2]]),
    st.lists(st.integers(0, 2 * LIMIT + 3).map(lambda length: b"0123456789abcdefghij"[:length]), max_size=4),
    st.integers(0, 2 * LIMIT + 3).map(lambda length: b"ABCDEFGHIJKLMNOPQRST"[:length]),
)


@pytest.fixture(scope="module", autouse=True)
def _small_limits() -> Iterator[None]:
    """Let lines be long soon."""
    with pytest.MonkeyPatch.context() as patch:
        for module, name in ((omprog, "LINE_LIMIT"), (files, "LINE_LIMIT"), (files, "BLOCK_SIZE")):
            patch.setattr(module, name, LIMIT)
        yield


def expected(text: bytes) -> tuple[list[bytes], bytes, int]:
    """Return a text's lines, what stands behind the last of them, and how many are cut; in the simplest way."""
    *lines, tail = text.split(b"\n")
    cuts = sum(len(line) > LIMIT for line in [*lines, tail])
    return [line[:LIMIT] + b"\n" for line in lines], tail[:LIMIT], cuts


@examples(60)
@given(TEXTS)
@example(b"x" * LIMIT + b"\n" + b"y" * (LIMIT + 1) + b"\n")
@example(b"x" * (LIMIT + 1))
@example(b"\n\n")
def test_lines_of_rsyslog(text: bytes) -> None:
    """
    However they are cut, each line comes once, whole up to its limit, and the same number is counted as cut.

    A torn line at the end is dropped, since rsyslog sends it again, unless it was longer than the limit already.
    """
    lines, tail, cuts = expected(text)
    lines += [tail + b"\n"] * (len(text) - text.rfind(b"\n") - 1 > LIMIT)
    for reading in feed_every_way(text):
        reader = Lines(reading)
        blocks = []
        while not reader.has_ended:
            blocks.append(reader.read())
        assert all(block == b"" or block.endswith(b"\n") for block in blocks)
        assert (b"".join(blocks), reader.cut_total) == (b"".join(lines), cuts)


def content(reading: int) -> tuple[bytes, int]:
    """Return the lines of a log that comes by a pipe, and how many were cut."""
    file = LogFile(f"/dev/fd/{reading}")
    blocks = list(file.blocks())
    assert all(block.endswith(b"\n") for block in blocks)
    return b"".join(blocks), file.cut_total


def lines_of_a_file(text: bytes) -> tuple[bytes, int]:
    """Return what has to be read of a log: its last line may be without its end."""
    lines, tail, cuts = expected(text.removeprefix(BOM))
    return b"".join([*lines, tail + b"\n" if tail else b""]), cuts


@examples(60)
@given(TEXTS)
@example(BOM + b"x" * LIMIT)
@example(b"x" * LIMIT + b"\n" + b"y" * (LIMIT + 1) + b"\n")
def test_lines_of_a_log(text: bytes) -> None:
    """However they are cut, each line comes once, whole up to its limit; the last one may be without its end."""
    for reading in feed_every_way(text, LIMIT):
        assert content(reading) == lines_of_a_file(text)


@pytest.mark.parametrize("packer", PACKERS)
def test_lines_of_an_archive(packer: str) -> None:
    """An archive in pieces is known by its first bytes, wherever they are cut, and its lines are as long as those of a log."""

    @examples(20)
    @given(TEXTS)
    @example(b"first\n" + b"y" * 3 * LIMIT + b"\nlast\n")
    def body(text: bytes) -> None:
        packed = PACKERS[packer](text)
        assert len(packed) <= PIECES_LIMIT
        for reading in feed_every_way(packed):
            assert content(reading) == lines_of_a_file(text)

    body()


def test_pieces_stay_apart() -> None:
    """The pipe of these tests hands over one piece a read; otherwise they would prove nothing."""
    with pipe_of([b"a", b"b\n", b"c"]) as reading:
        reader = Lines(reading)
        assert [reader.read() for _ in range(4)] == [b"", b"ab\n", b"", b""]
