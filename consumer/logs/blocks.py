"""
Reads the blocks of log files, in any process.

What a line says depends on the rest of its file in three ways: the framing that fitted last, the line that "last message
repeated" repeats, and the stamps before it if they have no year. All of that is a ``LogState``, which each block leaves to the
next. A process that reads a block before the blocks in front of it assumes an earlier state. ``state_behind`` then compares that
with the actual one. Nearly always the lines mean the same; otherwise sshbell reads the block again.
"""

from collections.abc import Sequence
from datetime import tzinfo

from consumer.clock import utc
from consumer.errors import SshbellError
from consumer.framing import framer, timestamps
from consumer.framing.timestamps import Timestamps
from consumer.intake.files import LogFile
from consumer.matching.matcher import Matcher
from consumer.pipeline import LineReader
from consumer.records import Line
from consumer.text import text_of_bytes

# Requests and answers go through pipes as ``marshal`` writes them, so they are plain tuples.
LogState = tuple[framer.FramerState, timestamps.StampState]
# When the file was last written to, in microseconds; the place of the first line; the block; the state to assume.
ReadRequest = tuple[int, int, bytes, LogState]
# The lines for the correlator; the counts (see LineReader); whether the first line counts repetitions; what the stamps depended
# on; the state that the block leaves.
ReadAnswer = tuple[list[Line], Sequence[int], bool, timestamps.Needed, LogState]


class LogBlockReader:
    """
    Reads blocks of any file, in any order.

    Args:
        zone: for time stamps without one.
        keep_text: include the text of each line.
    """

    def __init__(self, matcher: Matcher, zone: tzinfo, *, keep_text: bool) -> None:
        self._timestamps = Timestamps(utc(0), zone)
        self._reader = LineReader(matcher, self._timestamps, keep_text=keep_text)
        self._zeros = self._reader.counts

    def read(self, request: ReadRequest) -> ReadAnswer:
        """Read a block."""
        modified_us, first, block, (framing, reached) = request
        self._timestamps.begin(utc(modified_us), reached)
        self._reader.framer.begin(framing)
        self._reader.counts = self._zeros.copy()
        lines = self._reader.lines(block, first)
        state = self._reader.framer.state, self._timestamps.state
        return lines, self._reader.counts, self._reader.framer.is_continued, self._timestamps.needed, state

    def beginning(self, block: bytes, first_year: int | None) -> LogState:
        """Return the state in front of a file, with the framing of its first line. ``first_year``: see ``Timestamps``."""
        self._reader.framer.begin(framer.BEGINNING)
        self._reader.framer.rows(text_of_bytes(block[: block.index(b"\n") + 1]))
        framing, _before = self._reader.framer.state
        reached = None if first_year is None else (first_year, 0, 0, 0)
        return (framing, framer.EMPTY), (reached, frozenset())


def first_year_of(file: LogFile, year: int | None) -> int | None:
    """
    Return the year of a file's first line: ``year`` if it is given, else what the file shows.

    Raises:
        InputError: the file cannot be read.
    """
    return file.first_year() if year is None else year


def first_time(file: LogFile, matcher: Matcher, zone: tzinfo, year: int | None) -> int:
    """Return the time of a file's first line with one, in microseconds; 0 if there is none, or the file cannot be read."""
    try:
        timestamps = Timestamps(file.modified, zone, first_year_of(file, year))
        block = file.first_block() or b"\n"
    except SshbellError:
        return 0  # reported when its turn comes
    rows = LineReader(matcher, timestamps, keep_text=False).framer.rows(text_of_bytes(block))
    times = (timestamps.microseconds(stamp) for stamp, *_ in rows if stamp)
    return next((time for time in times if time is not None), 0)


def state_behind(request: ReadRequest, answer: ReadAnswer, actual: LogState) -> LogState | None:
    """Return the state behind a block that was read from an assumed one; None if sshbell has to read it again from ``actual``."""
    _modified_us, _first, _block, (assumed_framing, assumed_reached) = request
    _lines, _counts, is_continued, needed, (framing, reached) = answer
    if assumed_framing[0] != actual[0][0] or (is_continued and assumed_framing != actual[0]):
        return None
    behind = timestamps.stamp_state_behind(needed, assumed_reached, reached, actual[1])
    return None if behind is None else (framing, behind)
