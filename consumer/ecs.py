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
from consumer.matching.messages import METHODS, method_info, sshd_name
from consumer.records import TEXT, Line
from consumer.text import readable

Object = dict[str, Any]

_encode = msgspec.json.Encoder(order=None).encode


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
                "duration": (event.end_us - login.time_us) * 1000 if login.time_us and event.end_us else None,
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
        "source": source_of(
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
    found = known(unknown)
    return {"@timestamp": isoformat(event.time_us)} | found if event.time_us else found


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


def source_of(address: str | None, port: int | None) -> Object:
    """Return the field ``source``."""
    ip = ip_of(address)
    return {"ip": None if ip is None else str(ip), "port": port, "address": address}


def known(found: Object) -> Object:
    """Leave out what is not known."""
    kept = {}
    for name, value in found.items():
        inner = known(value) if isinstance(value, dict) else value
        if inner is not None and inner != {}:
            kept[name] = inner
    return kept
