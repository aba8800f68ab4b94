"""
The outer form of everything: Elastic Common Schema, nested JSON objects, one a line.

Only what is known is written; there are no nulls.
"""

import json
from typing import Any

import msgspec

from consumer.addresses import ip_of
from consumer.clock import isoformat
from consumer.events import PLACE_STEP, Attempt, Event, Forged, Login, Logout, Probe
from consumer.matching.matcher import Found
from consumer.matching.messages import METHODS, AuthMessage, method_info, sshd_name
from consumer.records import TEXT, Line, SyslogRecord
from consumer.text import readable

Object = dict[str, Any]

_encode = msgspec.json.Encoder(order=None).encode

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


def json_line(found: Object) -> bytes:
    """One line of JSON, with its line feed; what a terminal obeys is written as an escape."""
    line: bytes = _encode(found)
    text = line.decode()
    if not text.isprintable():
        line = "".join(char if char.isprintable() else _escaped(char) for char in text).encode()
    return line + b"\n"


def _escaped(char: str) -> str:
    """Write a character as JSON does: of those beyond U+FFFF, both surrogates."""
    return json.dumps(char)[1:-1] if char != "\x7f" else "\\u007f"


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
        "source": _source(message.address, message.port),
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
    return {"@timestamp": isoformat(time_us)} | _known(unknown) if time_us is not None else _known(unknown)


def _time_fault(stamp: str, time_us: int | None) -> str | None:
    return f"the time {readable(stamp)!r} does not exist" if stamp and time_us is None else None


def _module(found: Found) -> str | None:
    if found.rule is None or not found.rule.is_pam:
        return None
    return found.text.partition("(")[0] if found.text.startswith("pam_") else "pam_unix"


def of_event(event: Event, paths: list[str]) -> Object:
    """What happened: an object of ``sshbell replay``. ``paths``: of the files, in the order in which they were read."""
    line = Line(*event.line)
    file, number = divmod(line.place, PLACE_STEP)
    own: Object = {}
    login: Login | None = None
    method = None
    match event:
        case Login():
            login, method = event, event.method
            own["event"] = _event(event, "event", ["authentication", "session"], "start", "success")
            own["event"]["start"] = _moment(event.time_us)
        case Logout():
            login, method = event.login, event.login.method
            own["event"] = _event(event, "event", ["session"], "end", "success") | {
                "start": _moment(login.time_us),
                "end": _moment(event.end_us),
                "duration": (event.end_us - login.time_us) * 1000 if login.time_us else None,
            }
            own["ssh"] = {"login_id": login.id or None}
        case Attempt():
            method = event.method
            own["event"] = _event(event, "event", ["authentication"], "denied", "failure")
            own["ssh"] = {
                "invalid_user": None if event.user_is_valid else True,
                "count": event.count if event.count != 1 else None,
                "reason": event.reason,
            }
        case Probe():
            own["event"] = _event(event, "event", ["authentication"], "info", "unknown")
            own["ssh"] = {"reason": sshd_name(event.reason) if event.reason else None}
        case Forged():
            own["event"] = _event(event, "alert", ["authentication"], "info", "unknown")
            own["ssh"] = {"claim": event.claim, "claimed_by_uid": event.uid}
            own["rule"] = {"name": "forged"}
    name, _, submethod = (method or "").partition("/")
    info = method_info(login.info) if login is not None and login.info is not None else {}
    certificate = info.get("certificate_id")
    logged = Line(*login.line) if login is not None else line
    unknown = own | {
        "host": {"name": readable(event.host) or None},
        "process": {"name": readable(logged.program) or None, "pid": int(logged.procid) if logged.procid else None},
        "user": {"name": event.user, "id": str(login.uid) if login is not None and login.uid is not None else None},
        "source": _source(
            None if event.address is None else readable(event.address), None if event.port is None else int(event.port)
        ),
        "ssh": {
            "method": METHODS.get(name, name) or None,
            "submethod": submethod or None,
            "key": {"type": info.get("key_type"), "fingerprint": info.get("key_fingerprint")},
            "certificate": {
                "id": None if certificate is None else sshd_name(certificate),
                "serial": int(info["certificate_serial"]) if certificate is not None else None,
                "ca_fingerprint": info.get("ca_fingerprint"),
            },
            "principal": info.get("principal"),
            "session": {"kind": login.session_kind if login is not None else None},
            "ambiguous": line.ambiguous or None,
            "origin": event.origin,
        }
        | own.get("ssh", {}),
        "log": {"file": {"path": paths[file] if paths else None, "line": (number or None) if paths else None}},
    }
    known = _known(unknown)
    return {"@timestamp": isoformat(event.time_us)} | known if event.time_us else known


def of_session(login: Login, closed_us: int | None) -> Object:
    """A login and its end, where it has one: an object of ``sshbell who`` and ``sshbell history``."""
    found = of_event(login, [])
    if closed_us is not None:
        found["event"]["end"] = _moment(closed_us)
        if login.time_us:
            found["event"]["duration"] = (closed_us - login.time_us) * 1000
    return found


def _event(event: Event, kind: str, category: list[str], type_: str, outcome: str) -> Object:
    return {
        "kind": kind,
        "category": category,
        "type": [type_],
        "action": event.__struct_config__.tag,
        "outcome": outcome,
        "id": event.id or None,
        "original": readable(event.line[TEXT]) or None,
    }


def _moment(time_us: int) -> str | None:
    return isoformat(time_us) if time_us else None


def _source(address: str | None, port: int | None) -> Object:
    ip = ip_of(address)
    return {"ip": None if ip is None else str(ip), "port": port, "address": address}


def _number(text: str | None) -> int | None:
    return int(text) if text and len(text) < 20 else None


def _known(found: Object) -> Object:
    """Leave out what is not known."""
    known = {}
    for name, value in found.items():
        inner = _known(value) if isinstance(value, dict) else value
        if inner is not None and inner != {}:
            known[name] = inner
    return known
