"""``sshbell parse``: what each line says."""

import re
from collections.abc import Callable, Iterator
from datetime import tzinfo

from consumer.actions import LineAction
from consumer.clock import isoformat
from consumer.ecs import (
    NO_PAM,
    CertificateFields,
    EcsEvent,
    ErrorFields,
    EventFields,
    FileFields,
    HostFields,
    KeyFields,
    LogFields,
    PamFields,
    ProcessFields,
    RuleFields,
    SessionFields,
    SshFields,
    UserFields,
    json_line,
    known,
)
from consumer.events_as_ecs import source_of
from consumer.framing.framer import HINT, Framer
from consumer.framing.timestamps import Timestamps
from consumer.intake.files import LogFile
from consumer.matching.matcher import Matcher, is_unframed
from consumer.matching.messages import AuthMessage, auth_message, origin
from consumer.matching.rules import Reading
from consumer.records import SyslogRecord
from consumer.text import readable, text_of_bytes

_MODULE = re.compile("pam_[a-z0-9_]+")
# Which module writes the messages that name none, by rule.
_WITHOUT_MODULE = {
    "more_failures": "pam_unix",
    "ignoring_max_retries": "pam_unix",
    "duo_success": "pam_duo",
    "duo_failure": "pam_duo",
}


def parse_file(path: str, matcher: Matcher, zone: tzinfo, year: int | None, report: Callable[[str], None]) -> Iterator[bytes]:
    """
    Yield one line of JSON for each line of sshd, PAM or dropbear.

    Args:
        path: of the file; ``-`` is standard input.
        matcher: of the engine that is asked for.
        zone: of time stamps that name none.
        year: of the first line, where lines have none; None: the file's own time tells.
        report: takes a sentence at the end, if some lines are in no framing that sshbell knows.

    Raises:
        InputError, DataError: the file cannot be read, or not to its end; what could be read was yielded.
    """
    file = LogFile(path)
    framer = Framer(matcher.is_program, matcher.daemon_of)
    timestamps = Timestamps(file.modified, zone, file.first_year() if year is None else year)
    number = unframed = 0
    is_ours = False
    for block in file.blocks():
        for record, reading in records(text_of_bytes(block), framer, matcher, timestamps):
            number += 1
            if reading is not None:
                is_ours = True
                yield json_line(said(record, reading, matcher, number, path))
            elif is_unframed((record.stamp, record.host, record.program, record.procid, record.msg, "")):
                unframed += 1
    if unframed:
        report(f"{path}: {unframed:,} of {number:,} lines are in no framing that sshbell knows; {HINT}")
    elif number and not is_ours:
        report(f"{path}: no line of sshd, dropbear or PAM was found; if it has some, its framing is not read; {HINT}")


def records(
    block: str, framer: Framer, matcher: Matcher, timestamps: Timestamps
) -> Iterator[tuple[SyslogRecord, Reading | None]]:
    """Read a block of whole lines, each with everything that is known of it."""
    lines = block.replace("\r\n", "\n").split("\n")
    for raw, row in zip(lines, framer.rows(block), strict=False):
        stamp, host, program, procid, msg, trusted = row
        reading = matcher.find(row)
        stamp = stamp if reading is None else reading.stamp
        time_us = timestamps.microseconds(stamp) if stamp else None
        known_sender = trusted if isinstance(trusted, tuple) else None
        yield SyslogRecord(time_us, stamp, host, program, procid, msg, known_sender, raw), reading


def said(record: SyslogRecord, reading: Reading, matcher: Matcher, number: int, path: str) -> EcsEvent:
    """What a line says, in its outer form."""
    message = auth_message(reading)
    word = origin(
        reading.trusted, message.action, preauth=message.preauth, family=reading.program.family,
        family_of=lambda name: matcher.program(name).family,
    )  # fmt: skip
    return of_message(record, reading, message, word, number, path)


def of_message(record: SyslogRecord, reading: Reading, message: AuthMessage, origin: str, number: int, path: str) -> EcsEvent:
    """What one line says: an object of ``sshbell parse``."""
    time_us, action = record.time_us, message.action
    fields = dict(message.fields)
    return EcsEvent(
        timestamp=None if time_us is None else isoformat(time_us),
        event=EventFields(
            kind="pipeline_error" if action is LineAction.UNMATCHED else "event",
            category=("session" if action.is_session else "authentication",),
            type=(action.ecs_type,),
            action=str(action),
            outcome=action.outcome,
            original=readable(record.raw),
        ),
        host=known(HostFields(name=readable(reading.host) or None)),
        process=ProcessFields(name=readable(reading.program.name), pid=int(reading.procid) if reading.procid else None),
        user=known(UserFields(name=message.user, id=fields.pop("user_uid", None))),
        source=source_of(message.address, message.port),
        ssh=SshFields(
            method=message.method,
            submethod=message.submethod,
            key=known(KeyFields(type=message.key_type, fingerprint=message.key_fingerprint)),
            certificate=known(
                CertificateFields(
                    id=message.certificate_id, serial=message.certificate_serial, ca_fingerprint=message.ca_fingerprint
                )
            ),
            session=known(SessionFields(kind=message.session_kind, id=fields.pop("session_id", None))),
            invalid_user=not message.user_is_valid,
            preauth=message.preauth,
            count=message.count if message.count != 1 else None,
            ambiguous=message.ambiguous,
            origin=origin,
            child_pid=_number(fields.pop("child_pid", None)),
            connection_pid=_number(fields.pop("connection_pid", None)),
            disconnect_code=_number(fields.pop("disconnect_code", None)),
            reason=fields.pop("reason", None),
        ),
        pam=_pam_fields(reading, fields),
        rule=known(RuleFields(name=message.rule)),
        log=LogFields(file=FileFields(path=path or None, line=number)),
        error=known(ErrorFields(message=_time_fault(record.stamp, time_us))),
        labels=fields or None,
    )


def _time_fault(stamp: str, time_us: int | None) -> str | None:
    return f"the time {readable(stamp)!r} does not exist" if stamp and time_us is None else None


def _pam_fields(reading: Reading, fields: dict[str, str]) -> PamFields:
    """Return the group ``pam``, and take out of ``fields`` what it holds."""
    if reading.rule is None or not reading.rule.is_pam:
        return NO_PAM
    named = _MODULE.match(reading.text)
    return known(
        PamFields(
            module=named[0] if named else _WITHOUT_MODULE.get(reading.rule.name),
            service=fields.pop("service", None),
            type=fields.pop("type", None),
            by=known(UserFields(name=fields.pop("by_user", None), id=fields.pop("by_uid", None))),
        )
    )


def _number(text: str | None) -> int | None:
    return int(text) if text and len(text) < 20 else None
