"""Log files, packed or not, whole or damaged, are read to the last line that can be read, within a bound of memory."""

from __future__ import annotations

import bz2
import datetime as dt
import gzip
import lzma
import os
import random
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import zstandard

from consumer.errors import DataError, InputError, SshbellError
from consumer.intake.files import LINE_LIMIT, LogFile

if TYPE_CHECKING:
    from collections.abc import Callable


def _zst_stream(data: bytes) -> bytes:
    packer = zstandard.ZstdCompressor().compressobj()  # a frame that does not say how long it is
    return packer.compress(data) + packer.flush()


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "plain": lambda data: data,
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": zstandard.ZstdCompressor(write_checksum=True).compress,  # as zstd's own tool does
    "zst-stream": _zst_stream,
}
ARCHIVES = [name for name in PACKERS if name != "plain"]
# More than one block, and not to be packed well, so that a damaged archive has something readable before the damage.
LINES = b"".join(b"line %d %s\n" % (n, random.Random(n).randbytes(60).hex().encode()) for n in range(4000))  # noqa: S311


def make(folder: Path, data: bytes, name: str = "auth.log") -> LogFile:
    """Write ``data`` into a file, and open that."""
    path = folder / name
    path.write_bytes(data)
    return LogFile(str(path))


def content(file: LogFile) -> bytes:
    """Return all blocks; each must consist of whole lines."""
    blocks = list(file.blocks())
    assert all(block.endswith(b"\n") for block in blocks)
    return b"".join(blocks)


def readable_part(file: LogFile, error: type[SshbellError]) -> bytes:
    """Return what is read of a file before ``error`` is raised."""
    blocks: list[bytes] = []
    with pytest.raises(error):
        blocks.extend(file.blocks())
    return b"".join(blocks)


@pytest.mark.parametrize("packer", PACKERS)
@pytest.mark.parametrize("name", ["auth.log", "auth.log.gz", "auth.log.1.xz"])
def test_what_a_file_is_its_bytes_say(tmp_path: Path, packer: str, name: str) -> None:
    """A file is unpacked by its first bytes, whatever its name."""
    assert content(make(tmp_path, PACKERS[packer](LINES), name)) == LINES


@pytest.mark.parametrize("packer", ARCHIVES)
def test_archive_of_several_members(tmp_path: Path, packer: str) -> None:
    """Archives that were appended to each other are one log, a line across two members is one line, and an empty one nothing."""
    pack = PACKERS[packer]
    parts = [LINES[:1000], b"", LINES[1000:150_007], LINES[150_007:]]
    assert content(make(tmp_path, b"".join(map(pack, parts)))) == LINES


def test_zstd_skippable_frame(tmp_path: Path) -> None:
    """A frame that carries no data (pzstd writes them) hides nothing behind it."""
    pack = PACKERS["zst"]
    skippable = b"\x50\x2a\x4d\x18\x04\x00\x00\x00abcd"
    assert content(make(tmp_path, pack(b"a\n") + skippable + pack(b"b\n"))) == b"a\nb\n"


@pytest.mark.parametrize("packer", PACKERS)
def test_byte_order_mark(tmp_path: Path, packer: str) -> None:
    """A byte order mark before the first line is no part of it."""
    assert content(make(tmp_path, PACKERS[packer](b"\xef\xbb\xbfone\ntwo\n"))) == b"one\ntwo\n"


@pytest.mark.parametrize("packer", PACKERS)
def test_last_line_without_an_end(tmp_path: Path, packer: str) -> None:
    """The last line counts, also without a line feed."""
    assert content(make(tmp_path, PACKERS[packer](b"one\ntwo"))) == b"one\ntwo\n"


def test_carriage_returns_stay(tmp_path: Path) -> None:
    """CRLF is settled by framing; no line is lost or doubled here."""
    assert content(make(tmp_path, b"one\r\ntwo\r\n")).splitlines() == [b"one", b"two"]


@pytest.mark.parametrize("packer", PACKERS)
def test_empty_file(tmp_path: Path, packer: str) -> None:
    """An empty log has no lines; it is no error."""
    assert list(make(tmp_path, PACKERS[packer](b"")).blocks()) == []


def test_empty_lines(tmp_path: Path) -> None:
    """Empty lines are lines: numbers in the output are those of the file."""
    assert content(make(tmp_path, b"\n\none\n\n")) == b"\n\none\n\n"


@pytest.mark.parametrize(
    "length", [LINE_LIMIT - 1, LINE_LIMIT, LINE_LIMIT + 1, 2 * LINE_LIMIT, 2 * LINE_LIMIT + 1, 5 * LINE_LIMIT]
)
@pytest.mark.parametrize("before", [0, 1, 30_000, LINE_LIMIT - 2, LINE_LIMIT])
@pytest.mark.parametrize("end", [b"", b"\n"])
@pytest.mark.parametrize("packer", ["plain", "gz"])
def test_long_lines(tmp_path: Path, length: int, before: int, end: bytes, packer: str) -> None:
    """A line of 64 KiB is whole, a longer one is cut and counted, wherever in the file it stands and whatever follows."""
    first = b"a" * max(before - 1, 0) + b"\n" if before else b""
    after = b"good 1\ngood 2\n" if end else b""
    file = make(tmp_path, PACKERS[packer](first + b"x" * length + end + after))
    expected = first + b"x" * min(length, LINE_LIMIT) + b"\n" + after
    assert content(file) == expected
    assert file.cut_total == (length > LINE_LIMIT)


def test_long_line_among_many(tmp_path: Path) -> None:
    """A line of a mebibyte in the middle changes no other line, and counts as one."""
    file = make(tmp_path, LINES + b"y" * (1 << 20) + b"\n" + LINES)
    assert content(file) == LINES + b"y" * LINE_LIMIT + b"\n" + LINES
    assert file.cut_total == 1


@pytest.mark.parametrize("second", [LINE_LIMIT, 3 * LINE_LIMIT])
@pytest.mark.parametrize("first", [2 * LINE_LIMIT + 10, 3 * LINE_LIMIT])
def test_long_lines_in_a_row(tmp_path: Path, first: int, second: int) -> None:
    """Each long line is one line, cut at its end; no rest of one becomes a line of its own."""
    file = make(tmp_path, b"x" * first + b"\n" + b"y" * second + b"Accepted\n" + b"z" * first + b"\nlast\n")
    assert [len(line) for line in content(file).splitlines()] == [LINE_LIMIT, LINE_LIMIT, LINE_LIMIT, 4]
    assert file.cut_total == 3


@pytest.mark.parametrize("packer", ARCHIVES)
@pytest.mark.parametrize("part", [0.5, 0.9, 0.999])
def test_truncated_archive(tmp_path: Path, packer: str, part: float) -> None:
    """An archive without its end is an error, and what could be read of it was given."""
    packed = PACKERS[packer](LINES)
    read = readable_part(make(tmp_path, packed[: int(len(packed) * part)]), DataError)
    assert LINES.startswith(read.removesuffix(b"\n"))
    assert len(read) > len(LINES) * part / 3 or packer == "bz2"


@pytest.mark.parametrize("packer", ARCHIVES)
def test_damaged_archive(tmp_path: Path, packer: str) -> None:
    """An archive with wrong bytes in its middle is an error."""
    packed = bytearray(PACKERS[packer](LINES))
    middle = len(packed) // 2
    packed[middle : middle + 40] = bytes(byte ^ 0x5A for byte in packed[middle : middle + 40])
    blocks: list[bytes] = []
    file = make(tmp_path, bytes(packed))
    try:
        blocks.extend(file.blocks())
    except DataError:
        return
    assert packer == "zst-stream"  # it has no checksum
    assert b"".join(blocks) != LINES


@pytest.mark.parametrize("packer", ARCHIVES)
def test_head_of_an_archive_alone(tmp_path: Path, packer: str) -> None:
    """A file that is nothing but the first bytes of an archive is an error, not an empty log."""
    readable_part(make(tmp_path, PACKERS[packer](LINES)[:7]), DataError)


def xz(data: bytes, dictionary_bytes: int) -> bytes:
    """Pack with a dictionary of some size, which whoever unpacks has to have in memory."""
    return lzma.compress(data, filters=[{"id": lzma.FILTER_LZMA2, "dict_size": dictionary_bytes}])


def zst(data: bytes, window_log: int) -> bytes:
    """Pack with a window of some size, as zstd --long does."""
    parameters = zstandard.ZstdCompressionParameters(window_log=window_log, write_content_size=False)
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    return packer.compress(data) + packer.flush()


@pytest.mark.parametrize("pack", [lambda: xz(LINES, 64 << 20), lambda: zst(LINES, 26)], ids=["xz", "zst"])
def test_the_largest_archive(tmp_path: Path, pack: Callable[[], bytes]) -> None:
    """As much memory as xz -9 asks for may be had."""
    assert content(make(tmp_path, pack())) == LINES


@pytest.mark.parametrize("before", [b"", b"one\ntwo\n"], ids=["first", "second"])
@pytest.mark.parametrize("pack", [lambda: xz(LINES, 65 << 20), lambda: zst(LINES, 27)], ids=["xz", "zst"])
def test_an_archive_that_wants_much_memory(tmp_path: Path, pack: Callable[[], bytes], before: bytes) -> None:
    """One that wants more is refused before it has it, with what to do; also behind another one that does not."""
    packed = pack()
    file = make(tmp_path, (lzma.compress if packed[:1] == b"\xfd" else zstandard.compress)(before) + packed)
    blocks: list[bytes] = []
    with pytest.raises(DataError, match=r"wants more than 64 MiB of memory; unpack it yourself, with xz -dc /"):
        blocks.extend(file.blocks())
    assert b"".join(blocks) in {before, b""}


def test_xz_padding(tmp_path: Path) -> None:
    """Zeros between streams, and behind them, are no data; anything else there is damage."""
    zeros = bytes(200_000)
    assert content(make(tmp_path, lzma.compress(b"a\n") + zeros + lzma.compress(b"b\n") + zeros)) == b"a\nb\n"
    assert readable_part(make(tmp_path, lzma.compress(b"a\n") + b"garbage"), DataError) in {b"a\n", b""}


def test_directory(tmp_path: Path) -> None:
    """A directory is refused, with what to do instead."""
    with pytest.raises(InputError, match=r"is a directory; name the log files"):
        LogFile(str(tmp_path))


def test_missing_file(tmp_path: Path) -> None:
    """A file that is not there is said by name."""
    with pytest.raises(InputError, match=r"auth\.log: No such file"):
        LogFile(str(tmp_path / "auth.log"))


def test_file_that_vanishes(tmp_path: Path) -> None:
    """Rotation may take a file away between the look at it and its reading: an InputError, wherever it is met."""
    file = make(tmp_path, LINES)
    os.unlink(file.path)  # noqa: PTH108
    readable_part(file, InputError)
    with pytest.raises(InputError):
        file.first_year()


def test_file_without_the_right_to_read(nobody: Path) -> None:
    """A file that we may not read says how to get at it."""
    file = make(nobody, LINES)
    Path(file.path).chmod(0)
    with pytest.raises(InputError, match="run it as root, or as a member of the group"):
        list(file.blocks())
    with pytest.raises(InputError, match="run it as root, or as a member of the group"):
        file.first_year()


def test_fifo(tmp_path: Path) -> None:
    """A named pipe is read to the end that its writers make."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(gzip.compress(LINES),))
    writer.start()
    file = LogFile(str(path))
    assert file.first_year() is None
    assert content(file) == LINES
    writer.join()


def test_null_device() -> None:
    """``/dev/null`` is an empty log."""
    file = LogFile(os.devnull)
    assert list(file.blocks()) == []
    assert file.first_year() is None


def _dated(folder: Path, months: list[tuple[str, int]], modified: dt.datetime) -> LogFile:
    """Make a file with many lines in each of ``months``, last written to at ``modified``."""
    lines = b"".join(
        b"%s %2d 10:00:%02d web1 sshd[%d]: Server listening on 0.0.0.0 port 22.\n"
        % (name.encode(), 1 + n * 28 // count, n % 60, n)
        for name, count in months
        for n in range(count)
    )
    file = make(folder, lines)
    os.utime(file.path, (modified.timestamp(), modified.timestamp()))
    return LogFile(file.path)


ALL_MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()  # noqa: SIM905


def test_first_year_of_a_file_that_spans_two_new_years(tmp_path: Path) -> None:
    """Where the months run through the year twice, the first line is of the year before last."""
    months = [(name, 500) for name in ALL_MONTHS[10:] + ALL_MONTHS + ALL_MONTHS[:3]]
    assert _dated(tmp_path, months, dt.datetime(2026, 3, 28, tzinfo=dt.UTC)).first_year() == 2024


def test_first_year_of_a_file_that_was_copied_later(tmp_path: Path) -> None:
    """A file that ends in November and was last written to in the following January began a year earlier still."""
    months = [(name, 500) for name in ALL_MONTHS * 2 + ALL_MONTHS[:11]]
    assert _dated(tmp_path, months, dt.datetime(2026, 1, 9, tzinfo=dt.UTC)).first_year() == 2023


@pytest.mark.parametrize(
    "months",
    [ALL_MONTHS[3:6], ALL_MONTHS[10:] + ALL_MONTHS[:2], ["Nov"]],
    ids=["spring", "over one new year", "one month"],
)
def test_first_year_of_an_ordinary_file(tmp_path: Path, months: list[str]) -> None:
    """A file of less than a year needs no look at its middle: its last line's time settles the others."""
    assert _dated(tmp_path, [(name, 300) for name in months], dt.datetime(2026, 11, 28, tzinfo=dt.UTC)).first_year() is None


def test_first_year_of_a_full_year(tmp_path: Path) -> None:
    """A file from one March to the next one has its first lines in the year before."""
    months = [(name, 500) for name in ALL_MONTHS[2:] + ALL_MONTHS[:3]]
    assert _dated(tmp_path, months, dt.datetime(2026, 3, 31, tzinfo=dt.UTC)).first_year() == 2025


def test_lines_out_of_order_are_no_new_year(tmp_path: Path) -> None:
    """Two neighbouring months that alternate for a while turn no year."""
    months = [(name, 3) for name in ["May", "Jun"] * 300]
    assert _dated(tmp_path, months, dt.datetime(2026, 6, 28, tzinfo=dt.UTC)).first_year() is None


def test_cut_lines_count_once(tmp_path: Path) -> None:
    """A look at the first block (to put files in order) counts no cut line twice."""
    file = make(tmp_path, b"x" * (LINE_LIMIT + 1) + b"\nlast\n")
    next(file.blocks())
    list(file.blocks())
    assert file.cut_total == 1
