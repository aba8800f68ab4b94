"""``sshbell unknown``: counts the lines that no rule reads, in files, or from the notes in the store."""

from datetime import tzinfo
from pathlib import Path

import msgspec

from consumer.errors import StoreError
from consumer.framing.framer import Framer
from consumer.framing.timestamps import Timestamps
from consumer.intake.files import LogFile
from consumer.logs.parse import records
from consumer.matching.matcher import Matcher
from consumer.matching.unknown_lines import UnknownLines, UnknownState, added_up
from consumer.state_dir import shards_in
from consumer.store.reader import Store, path_of
from consumer.store.status_queries import notes_of_unknown
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


def unknown_of_store(store: Store) -> UnknownState:
    """
    Return the lines that ``run``, its shards or the workers have counted, as of their last notes, at most a minute ago.

    Raises:
        StoreError: the store does not exist or cannot be read.
    """
    found: list[UnknownState] = []
    for each in (store, *(shards_in(store).values() if isinstance(store, Path) else ())):
        try:
            found += [msgspec.json.decode(note, type=UnknownState) for note in notes_of_unknown(each)]
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            raise StoreError(f"{path_of(each)}: it has counts that sshbell never writes: {error}") from error
    return added_up(found)
