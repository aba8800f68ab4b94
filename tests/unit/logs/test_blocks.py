"""A block read from an assumed state: whether its lines mean the same behind the actual one, and which state it leaves."""

from __future__ import annotations

from datetime import UTC, datetime

from consumer.framing import framer
from consumer.logs.blocks import LogBlockReader, LogState, ReadAnswer, ReadRequest, state_behind
from consumer.matching.matcher import Matcher
from consumer.records import REPEATS, TIME

READER = LogBlockReader(Matcher(), UTC, keep_text=True)
MODIFIED_US = int(datetime(2026, 12, 31, tzinfo=UTC).timestamp()) * 1_000_000
FAILED = "web1 sshd[42]: Failed password for root from 192.0.2.1 port 5 ssh2\n"
JUNE, JANUARY, DECEMBER = f"Jun 15 10:00:00 {FAILED}", f"Jan  1 00:00:01 {FAILED}", f"Dec 31 23:59:59 {FAILED}"


def state(block: str, first_year: int | None = 2024) -> LogState:
    """Return the state behind a file with these lines."""
    *_, found = READER.read(request(block, READER.beginning(block.encode("latin-1"), first_year)))
    return found


def request(block: str, assumed: LogState) -> ReadRequest:
    """Return a request to read a block."""
    return MODIFIED_US, 1, block.encode("latin-1"), assumed


def behind(block: str, assumed: LogState, actual: LogState) -> tuple[LogState | None, ReadAnswer, ReadAnswer]:
    """Return the state behind a block, and what it says behind either state."""
    one, other = (READER.read(request(block, each)) for each in (assumed, actual))
    return state_behind(request(block, assumed), one, actual), one, other


def years(answer: ReadAnswer) -> list[int]:
    """Return the years of the lines."""
    lines, *_ = answer
    return [datetime.fromtimestamp((line[TIME] or 0) / 1e6, UTC).year for line in lines]


def test_a_year_that_has_turned_meanwhile() -> None:
    """The block has to be read again: its first line does not show that a year has gone by."""
    found, one, other = behind(JUNE, state(JUNE), state(DECEMBER + JANUARY + JUNE))
    assert (years(one), years(other)) == ([2024], [2025])
    assert found is None


def test_a_year_that_turns_within_the_block() -> None:
    """December or the November before: January begins the next year either way."""
    found, one, other = behind(JANUARY, state(JUNE + DECEMBER), state(JUNE + DECEMBER + DECEMBER))
    assert years(one) == years(other) == [2025]
    assert found == other[-1]


def test_stamps_with_a_year_need_no_state_and_change_none() -> None:
    """The state behind the block is the actual one before it, not that from which it was read."""
    iso = f"2020-06-15T10:00:00Z {FAILED}"
    found, _one, other = behind(iso, state(JUNE + iso), state(DECEMBER + JANUARY + iso))
    assert found == other[-1]
    assert found[1] == ((2025, 1, 1, 1), frozenset())


def test_a_framing_that_has_changed_meanwhile() -> None:
    """What fitted last decides how lines without a header are read."""
    found, _one, _other = behind(JUNE, state(JUNE), state("web-1  | whatever\n"))
    assert found is None


def test_a_first_line_that_counts_repetitions() -> None:
    """It depends on the line before the block, whatever that is."""
    again = "Jun 15 10:00:09 web1 last message repeated 3 times\n"
    other_line = JUNE.replace("[42]", "[43]")
    found, one, other = behind(again, state(JUNE), state(other_line))
    assert one[0][0][REPEATS] == other[0][0][REPEATS] == 3
    assert one[0] != other[0]
    assert found is None
    found, one, other = behind(again, state(JUNE), state(JUNE + JUNE))
    assert found == other[-1]
    found, one, other = behind(JUNE + again, state(JUNE), state(other_line))
    assert one == other
    assert found == other[-1]


def test_a_month_in_another_language() -> None:
    """The languages of the months so far decide what "maj" is."""
    polish, swedish = f"lut 17 12:00:00 {FAILED}", f"okt 17 12:00:00 {FAILED}"
    assert behind(f"maj 17 12:00:00 {FAILED}", state(polish, None), state(swedish, None))[0] is None
    found, _one, other = behind(JUNE, state(polish, None), state(swedish, None))
    assert found == other[-1]


def test_beginning_knows_the_framing_of_the_first_line() -> None:
    """So the next block need not wait for the first one."""
    assert READER.beginning(JUNE.encode() * 3, None) == ((state(JUNE)[0][0], framer.EMPTY), (None, frozenset()))
