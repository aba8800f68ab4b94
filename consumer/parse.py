"""``sshbell parse``: what each line says."""

from collections.abc import Iterator
from datetime import tzinfo

from consumer.ecs import json_line, of_message
from consumer.framing.framer import Framer
from consumer.framing.timestamps import Timestamps
from consumer.intake.files import LogFile
from consumer.matching.matcher import Matcher
from consumer.messages import auth_message
from consumer.records import text_of_bytes


def parse_file(path: str, matcher: Matcher, zone: tzinfo, year: int | None) -> Iterator[bytes]:
    """
    Yield one line of JSON for each line of sshd, PAM or dropbear.

    Raises:
        InputError, DataError: the file cannot be read, or not to its end; what could be read was yielded.
    """
    file = LogFile(path)
    framer = Framer(matcher.is_program)
    timestamps = Timestamps(file.modified, zone, file.first_year() if year is None else year)
    number = 0
    for block in file.blocks():
        for row in framer.rows(text_of_bytes(block)):
            number += 1
            found = matcher.find(row)
            if found is not None:
                time_us = timestamps.microseconds(row[0]) if row[0] else None
                yield json_line(of_message(row, found, auth_message(found), time_us, number, path))
