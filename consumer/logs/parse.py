"""``sshbell parse``: each line as one event."""

import re
from collections.abc import Callable, Iterator
from datetime import tzinfo

from consumer.actions import LineAction
from consumer.clock import isoformat
from consumer.ecs import (
    NO_PAM,
    CertificateFields,
    CodeFields,
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
# By rule: the module that writes a message without naming itself.
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
        path: the file; ``-`` is standard input.
        matcher: of the chosen engine.
        zone: for time stamps without one.
        year: of the first line, if lines have none; None takes it from the file's modification time.
        report: gets one sentence at the end if sshbell does not know the framing of some lines.

    Raises:
        InputError, DataError: the file cannot be read, or not to its end. All lines before the fault have been yielded.
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
                yield json_line(event_of_line(record, reading, matcher, number, path))
            elif is_unframed((record.stamp, record.host, record.program, record.procid, record.msg, "")):
                unframed += 1
    if unframed:
        report(f"{path}: sshbell does not know the framing of {unframed:,} of {number:,} lines; {HINT}")
    elif number and not is_ours:
        report(f"{path}: no lines of sshd, dropbear or PAM; if there are some, sshbell cannot read their framing; {HINT}")


def records(
    block: str, framer: Framer, matcher: Matcher, timestamps: Timestamps
) -> Iterator[tuple[SyslogRecord, Reading | None]]:
    """Read a block of whole lines; yield the record of each, and its reading if a rule has read it."""
    lines = block.replace("\r\n", "\n").split("\n")
    for raw, row in zip(lines, framer.rows(block), strict=False):
        stamp, host, program, procid, msg, trusted = row
        reading = matcher.find(row)
        stamp = stamp if reading is None else reading.stamp
        time_us = timestamps.microseconds(stamp) if stamp else None
        known_sender = trusted if isinstance(trusted, tuple) else None
        yield SyslogRecord(time_us, stamp, host, program, procid, msg, known_sender, raw), reading


def event_of_line(record: SyslogRecord, reading: Reading, matcher: Matcher, number: int, path: str) -> EcsEvent:
    """Return a line's event in ECS."""
    message = auth_message(reading)
    word = origin(
        reading.trusted, message.action, preauth=message.preauth, program=reading.program.name,
        family_of=lambda name: matcher.program(name).family,
    )  # fmt: skip
    return of_message(record, reading, message, word, number, path)


def of_message(record: SyslogRecord, reading: Reading, message: AuthMessage, origin: str, number: int, path: str) -> EcsEvent:
    """Return the event of a line's message: an object of ``sshbell parse``."""
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
            code=known(
                CodeFields(
                    channel=fields.pop("channel", None),
                    session=fields.pop("code_session", None),
                    after_s=_number(fields.pop("after_s", None)),
                    left=_number(fields.pop("codes_left", None)),
                )
            ),
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
    """Return the group ``pam``, and remove its values from ``fields``."""
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
