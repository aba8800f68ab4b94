"""``sshbell parse``: what each line says."""

from collections.abc import Iterator
from datetime import tzinfo

from consumer.ecs import Object, json_line, of_message
from consumer.framing.framer import Framer
from consumer.framing.timestamps import Timestamps
from consumer.intake.files import LogFile
from consumer.matching.matcher import Found, Matcher
from consumer.matching.messages import auth_message, origin
from consumer.records import SyslogRecord
from consumer.text import text_of_bytes


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
        for record, found in records(text_of_bytes(block), framer, matcher, timestamps):
            number += 1
            if found is not None:
                yield json_line(said(record, found, matcher, number, path))


def records(block: str, framer: Framer, matcher: Matcher, timestamps: Timestamps) -> Iterator[tuple[SyslogRecord, Found | None]]:
    """Read a block of whole lines, each with everything that is known of it."""
    lines = block.replace("\r\n", "\n").split("\n")
    for raw, (stamp, host, program, procid, msg, trusted) in zip(lines, framer.rows(block), strict=False):
        found = matcher.find((stamp, host, program, procid, msg, trusted))
        time_us = timestamps.microseconds(stamp) if stamp else None
        yield SyslogRecord(time_us, stamp, host, program, procid, msg, trusted or None, raw), found  # type: ignore[arg-type]


def said(record: SyslogRecord, found: Found, matcher: Matcher, number: int, path: str) -> Object:
    """What a line says, in its outer form."""
    message = auth_message(found)
    word = origin(
        found.trusted, message.action, preauth=message.preauth, family=found.program.family,
        family_of=lambda name: matcher.program(name).family,
    )  # fmt: skip
    return of_message(record, found, message, word, number, path)
