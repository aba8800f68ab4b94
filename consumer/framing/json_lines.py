"""
Framings in which a line is one JSON object: our omprog template, rsyslog's ``%jsonmesg%``, other list templates, journald's.

sshbell recognizes the objects of fluent-bit, vector, syslog-ng, logstash, GELF, ECS and docker's json-file by the names of their
fields.

Values may contain bytes that are not UTF-8 (rsyslog passes them on unchanged), numbers as text, lists of byte values (journald,
for a message with control characters), or nothing.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from consumer.framing.headers import has_year
from consumer.records import Row, Trusted

Json = dict[str, Any]

# rsyslog's name for its input from journald.
_JOURNAL = "imjournal"


class _Template(msgspec.Struct, gc=False):
    """A line of our template in its usual form. A line in any other form is read by the names of its fields."""

    ts: str
    host: str
    tag: str
    prog: str
    procid: str
    msg: str
    input: str = ""
    uid: int | None = None
    exe: str = ""
    j_uid: msgspec.UnsetType = msgspec.UNSET
    j_exe: msgspec.UnsetType = msgspec.UNSET
    # Keys that show that the line is in another framing.
    MESSAGE: msgspec.UnsetType = msgspec.UNSET
    syslogtag: msgspec.UnsetType = msgspec.UNSET
    realtime: msgspec.UnsetType = msgspec.field(name="__REALTIME_TIMESTAMP", default=msgspec.UNSET)


_decode_template = msgspec.json.Decoder(_Template).decode
# rsyslog's %jsonmesg% repeats the message. No log line is nested more deeply than "$!".
_decode = msgspec.json.Decoder().decode


def row_of_json(line: str) -> Row | None:
    """Read one line; None if it is not a JSON object of a known kind."""
    if (row := _usual(line)) is not None:
        return row
    try:
        found = _object(line)
    except (ValueError, RecursionError, UnicodeError):
        return None
    return _by_name(found) if isinstance(found, dict) else None


def _by_name(found: Json) -> Row | None:
    """Read an object by the names of its fields; None if it has no message."""
    if ("MESSAGE" in found and "PROGRAM" not in found) or "__REALTIME_TIMESTAMP" in found:
        return _journal(found)
    if "syslogtag" in found and "timereported" in found:
        return _jsonmesg(found)
    if "tag" in found and not found.keys().isdisjoint(("prog", "program", "msg", "message")):
        return _template(found)
    return _of_another(found)


def _usual(line: str) -> Row | None:
    """Read a line of our template in half the time; None if it might be anything else."""
    try:
        found = _decode_template(line)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return None
    name, pid, text, uid = found.prog, found.procid, found.msg, found.uid
    if found.input == _JOURNAL or not name or not (text + name + found.host + found.ts + pid + found.exe).isascii():
        return None
    trusted: Trusted | str = ""
    if uid is not None:
        if not 0 <= uid < 10**19:
            return None
        trusted = (uid, found.exe)
    return (
        found.ts[:64],
        found.host[:255],
        name[:128],
        pid if pid.isdecimal() and len(pid) <= 10 else "",
        text[1:] if text[:1] == " " else text,
        trusted,
    )


def _object(line: str) -> object:
    raw = line.encode("latin-1")
    try:
        return _decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        # It is not UTF-8, or has control characters in a text.
        return json.loads(raw.decode("utf-8", "surrogateescape"), strict=False)


def _template(found: Json) -> Row:
    """Read an object of our template (rsyslog.d/), or of any with the keys timestamp, host, tag, program, procid, message."""
    # For $!uid and $!exe, rsyslog also takes fields UID and EXE, and everybody can give his entries in the journal such fields.
    # Only journald itself sets _UID and _EXE.
    kernel_s = "j_{}" if "j_uid" in found or found.get("input") == _JOURNAL else "{}"
    uid, exe = _number(found.get(kernel_s.format("uid"))), found.get(kernel_s.format("exe"))
    return _row(
        found.get("ts", found.get("timestamp")),
        found.get("host"),
        found.get("prog", found.get("program")),
        found.get("procid"),
        found.get("msg", found.get("message")),
        None if uid is None else (uid, _text(exe)),
        found.get("tag"),
    )


def _jsonmesg(found: Json) -> Row:
    trusted: Trusted | None = None
    properties = found.get("$!")
    if isinstance(properties, dict) and found.get("inputname") == "imuxsock":
        uid = _number(properties.get("uid"))
        trusted = None if uid is None else (uid, _text(properties.get("exe")))
    elif isinstance(properties, dict) and found.get("inputname") == _JOURNAL:
        uid = _number(properties.get("_UID"))
        trusted = None if uid is None else (uid, _text(properties.get("_EXE")))
    return _row(
        found.get("timereported"),
        found.get("hostname"),
        found.get("programname"),
        found.get("procid"),
        found.get("msg"),
        trusted,
        found.get("syslogtag"),
    )


def _journal(found: Json) -> Row:
    # fluent-bit omits the journal's own time, and adds another one.
    micros = _number(found.get("__REALTIME_TIMESTAMP", found.get("_SOURCE_REALTIME_TIMESTAMP")))
    uid = _number(found.get("_UID"))
    name = _text(found.get("SYSLOG_IDENTIFIER") or found.get("_COMM"))
    return _row(
        _time_of(found) if micros is None else f"{micros // 1_000_000}.{micros % 1_000_000:06d}",
        found.get("_HOSTNAME"),
        name,
        found.get("SYSLOG_PID", found.get("_PID")),
        found.get("MESSAGE"),
        None if uid is None else (uid, _text(found.get("_EXE"))),
        name,
    )


# Other programs' names of each field, the most reliable first: in lower case, "-" as "_", without a leading "_" or "@".
_TIMES = ("realtime_timestamp", "ts", "timestamp", "time", "date", "datetime", "isodate", "eventtime", "event_time")
_HOSTS = ("hostname", "logsource", "syslog_hostname", "host", "host_name", "fromhost")
_PROGRAMS = (
    "syslog_identifier", "prog", "program", "programname", "ident", "appname", "app_name", "application_name", "syslog_program",
    "sourcename", "process_name", "process", "syslogtag", "tag", "comm",
)  # fmt: skip
_PIDS = ("syslog_pid", "procid", "pid", "process_id", "processid", "process")
_MESSAGES = ("msg", "message", "short_message", "log", "line", "text")


def _of_another(found: Json) -> Row | None:
    """Read an object that holds a syslog line, or its parts, under another program's names."""
    message = _first(found, _MESSAGES)
    if message is None:
        return None
    return _row(_time_of(found), _first(found, _HOSTS), "", _first(found, _PIDS), message, None, _first(found, _PROGRAMS))


def _first(found: Json, names: Iterable[str]) -> object:
    """Return the value of the first of ``names`` that the object has; None if it has none of them."""
    return next(_values(found, names), None)


def _values(found: Json, names: Iterable[str]) -> Iterator[object]:
    """Yield the values under ``names``, the most reliable first."""
    known: dict[str, list[object]] = {}
    for name, value in found.items():
        plain = name.lower().lstrip("_@").replace("-", "_")
        one = value
        if isinstance(value, dict):  # ECS and others nest
            one = value.get("pid") if names is _PIDS else value.get("name", value.get("hostname"))
        if isinstance(one, (str, int, float, list)) and one != "":
            known.setdefault(plain, []).append(one)
    for name in names:
        yield from known.get(name, ())


def _time_of(found: Json) -> str:
    """Return the first time that has a year, otherwise the first one."""
    stamps = [_stamp(value) for value in _values(found, _TIMES)]
    return next((stamp for stamp in stamps if has_year(stamp)), stamps[0] if stamps else "")


def _stamp(value: object) -> str:
    """Return a time as text; a number counts seconds, or fractions of a second, since 1970."""
    text = f"{value:.6f}" if isinstance(value, float) and abs(value) < 1e12 else _text(value)
    if not text.isdecimal() or not text.isascii() or len(text) not in _DIGITS_OF_SECOND:
        return text[:64]
    digits = _DIGITS_OF_SECOND[len(text)]
    return f"{text[:-digits]}.{text[-digits:]}"


# Present times in milliseconds, microseconds and nanoseconds: number of digits, and of digits after the second.
_DIGITS_OF_SECOND = {13: 3, 16: 6, 19: 9}


def _row(stamp: object, host: object, program: object, procid: object, msg: object, trusted: Trusted | None, tag: object) -> Row:
    name, text, pid = _text(program), _text(msg), _text(procid)
    if not name:
        # %programname% stops at a slash, so "/usr/sbin/sshd[1265]:" has an empty one.
        name, _, rest = _text(tag).rstrip(":").partition("[")
        pid = pid if pid.isdecimal() else rest.rstrip("]")
    text = text.removeprefix(" ").removeprefix("\xef\xbb\xbf")
    return (
        _text(stamp)[:64],
        _text(host)[:255],
        name[:128],
        pid if pid.isdecimal() and pid.isascii() and len(pid) <= 10 else "",
        text,
        trusted or "",
    )


def _text(value: object) -> str:
    """Return a JSON value as text, one character for each byte."""
    if isinstance(value, str):
        return value if value.isascii() else _bytes_of(value).decode("latin-1")
    if isinstance(value, list) and all(isinstance(byte, int) and 0 <= byte < 256 for byte in value):
        return bytes(value).decode("latin-1")
    if isinstance(value, list) and value and isinstance(value[0], str):
        return _text(value[0])  # journald, for a field that occurs twice
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else ""


def _bytes_of(text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")  # half of a surrogate pair, written as an escape


def _number(value: object) -> int | None:
    text = _text(value)
    return int(text) if text.isdecimal() and len(text) < 20 else None
