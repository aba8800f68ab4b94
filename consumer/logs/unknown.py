"""``sshbell unknown``: counts the lines that no rule reads, in files, or from the notes of ``run``."""

from datetime import tzinfo
from pathlib import Path

import msgspec

from consumer.errors import StoreError
from consumer.framing.framer import Framer
from consumer.framing.timestamps import Timestamps
from consumer.intake.files import LogFile
from consumer.logs.parse import records
from consumer.matching.matcher import Matcher
from consumer.matching.unknown_lines import UNKNOWN_NOTE, UnknownLines, UnknownState
from consumer.state_dir import shards_in
from consumer.store.database import STATE_DB
from consumer.store.queries import stored
from consumer.text import text_of_bytes


def unknown_of_file(found: UnknownLines, path: str, matcher: Matcher, zone: tzinfo, year: int | None) -> None:
    """
    Count the lines of a file; ``-`` is standard input.

    Lines that the kernel traces to another user than root do not count: any local user can write such lines.

    Raises:
        InputError, DataError: the file cannot be read, or not to its end. The lines before the fault count.
    """
    file = LogFile(path)
    framer = Framer(matcher.is_program, matcher.daemon_of)
    timestamps = Timestamps(file.modified, zone, file.first_year() if year is None else year)
    for block in file.blocks():
        for _record, reading in records(text_of_bytes(block), framer, matcher, timestamps):
            if reading is None or (reading.trusted is not None and reading.trusted[0] != 0):
                continue
            if reading.rule is None:
                found.add(reading.host, reading.text)
            else:
                found.add_read(reading.host, reading.program.name)


def unknown_of_run(state_dir: Path) -> UnknownState:
    """
    Return the lines that ``run`` has counted, as of its last note, at most a minute ago.

    Raises:
        StoreError: the store does not exist or cannot be read.
    """
    found: UnknownState = {}
    # With shards, each has counted the lines of its own hosts.
    for folder in (state_dir, *shards_in(state_dir).values()):
        note = stored(folder, 0).notes.get(UNKNOWN_NOTE, "{}")
        try:
            found |= msgspec.json.decode(note, type=UnknownState)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            raise StoreError(f"{folder / STATE_DB}: it has counts that sshbell never writes: {error}") from error
    return found
