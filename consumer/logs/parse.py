"""``sshbell parse``: what each line says."""

import re
from collections.abc import Callable, Iterator
from datetime import tzinfo

from consumer.clock import isoformat
from consumer.ecs import Object, json_line, known, source_of
from consumer.framing.framer import HINT, Framer
from consumer.framing.timestamps import Timestamps
from consumer.intake.files import LogFile
from consumer.matching.matcher import Found, Matcher, is_unframed
from consumer.matching.messages import AuthMessage, auth_message, origin
from consumer.records import SyslogRecord
from consumer.text import readable, text_of_bytes

_OUTCOMES = {
    "accepted": "success",
    "partial": "unknown",
    "session_opened": "success",
    "pam_success": "success",
    "failed": "failure",
    "invalid_user": "failure",
    "user_denied": "failure",
    "max_attempts": "failure",
    "pam_failure": "failure",
}
_TYPES = {
    "accepted": "start",
    "session_opened": "start",
    "session_started": "start",
    "connection_opened": "start",
    "session_closed": "end",
    "channel_closed": "end",
    "disconnected": "end",
    "received_disconnect": "end",
    "connection_closed": "end",
    "timeout": "end",
    "failed": "denied",
    "invalid_user": "denied",
    "user_denied": "denied",
    "max_attempts": "denied",
    "pam_failure": "denied",
    "connection_dropped": "denied",
}
_SESSION_ACTIONS = frozenset({"session_opened", "session_closed", "session_started", "channel_closed", "child_started"})
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
        report: is told in one line, at the end, where lines were in no framing that is known.

    Raises:
        InputError, DataError: the file cannot be read, or not to its end; what could be read was yielded.
    """
    file = LogFile(path)
    framer = Framer(matcher.is_program, matcher.daemon_of)
    timestamps = Timestamps(file.modified, zone, file.first_year() if year is None else year)
    number = unframed = 0
    is_ours = False
    for block in file.blocks():
        for record, found in records(text_of_bytes(block), framer, matcher, timestamps):
            number += 1
            if found is not None:
                is_ours = True
                yield json_line(said(record, found, matcher, number, path))
            elif is_unframed((record.stamp, record.host, record.program, record.procid, record.msg, "")):
                unframed += 1
    if unframed:
        report(f"{path}: {unframed:,} of {number:,} lines are in no framing that sshbell knows; {HINT}")
    elif number and not is_ours:
        report(f"{path}: no line of sshd, dropbear or PAM was found; if it has some, its framing is not read; {HINT}")


def records(block: str, framer: Framer, matcher: Matcher, timestamps: Timestamps) -> Iterator[tuple[SyslogRecord, Found | None]]:
    """Read a block of whole lines, each with everything that is known of it."""
    lines = block.replace("\r\n", "\n").split("\n")
    for raw, (stamp, host, program, procid, msg, trusted) in zip(lines, framer.rows(block), strict=False):
        found = matcher.find((stamp, host, program, procid, msg, trusted))
        time = found.stamp if found is not None else stamp
        time_us = timestamps.microseconds(time) if time else None
        yield SyslogRecord(time_us, time, host, program, procid, msg, trusted or None, raw), found  # type: ignore[arg-type]


def said(record: SyslogRecord, found: Found, matcher: Matcher, number: int, path: str) -> Object:
    """What a line says, in its outer form."""
    message = auth_message(found)
    word = origin(
        found.trusted, message.action, preauth=message.preauth, family=found.program.family,
        family_of=lambda name: matcher.program(name).family,
    )  # fmt: skip
    return of_message(record, found, message, word, number, path)


def of_message(record: SyslogRecord, found: Found, message: AuthMessage, origin: str, number: int, path: str) -> Object:
    """What one line says: an object of ``sshbell parse``."""
    time_us = record.time_us
    fields = dict(message.fields)
    unknown = {
        "event": {
            "kind": "pipeline_error" if message.action == "unmatched" else "event",
            "category": ["session" if message.action in _SESSION_ACTIONS else "authentication"],
            "type": [_TYPES.get(message.action, "info")],
            "action": message.action,
            "outcome": _OUTCOMES.get(message.action, "unknown"),
            "original": readable(record.raw),
        },
        "host": {"name": readable(found.host) or None},
        "process": {"name": readable(found.program.name), "pid": int(found.procid) if found.procid else None},
        "user": {"name": message.user, "id": fields.pop("user_uid", None)},
        "source": source_of(message.address, message.port),
        "ssh": {
            "method": message.method,
            "submethod": message.submethod,
            "key": {"type": message.key_type, "fingerprint": message.key_fingerprint},
            "certificate": {
                "id": message.certificate_id,
                "serial": message.certificate_serial,
                "ca_fingerprint": message.ca_fingerprint,
            },
            "session": {"kind": message.session_kind, "id": fields.pop("session_id", None)},
            "invalid_user": None if message.user_is_valid else True,
            "preauth": message.preauth or None,
            "count": message.count if message.count != 1 else None,
            "ambiguous": message.ambiguous or None,
            "origin": origin,
            "child_pid": _number(fields.pop("child_pid", None)),
            "connection_pid": _number(fields.pop("connection_pid", None)),
            "disconnect_code": _number(fields.pop("disconnect_code", None)),
            "reason": fields.pop("reason", None),
        },
        "pam": {
            "module": _module(found),
            "service": fields.pop("service", None),
            "type": fields.pop("type", None),
            "by": {"name": fields.pop("by_user", None), "id": fields.pop("by_uid", None)},
        },
        "rule": {"name": message.rule},
        "log": {"file": {"path": path or None, "line": number}},
        "error": {"message": _time_fault(record.stamp, time_us)},
        "labels": fields,
    }
    return {"@timestamp": isoformat(time_us)} | known(unknown) if time_us is not None else known(unknown)


def _time_fault(stamp: str, time_us: int | None) -> str | None:
    return f"the time {readable(stamp)!r} does not exist" if stamp and time_us is None else None


def _module(found: Found) -> str | None:
    if found.rule is None or not found.rule.is_pam:
        return None
    named = _MODULE.match(found.text)
    return named[0] if named else _WITHOUT_MODULE.get(found.rule.name)


def _number(text: str | None) -> int | None:
    return int(text) if text and len(text) < 20 else None
