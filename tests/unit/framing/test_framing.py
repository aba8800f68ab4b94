"""``consumer.framing``: a line of any framing becomes the same row."""

from __future__ import annotations

import json
from datetime import UTC
from typing import TYPE_CHECKING

import pytest

from consumer.framing.framer import Framer
from consumer.framing.headers import mended
from consumer.framing.timestamps import Timestamps
from consumer.matching.matcher import Matcher
from tests.unit.framing.test_timestamps import NOW, us

if TYPE_CHECKING:
    from consumer.records import Row

MATCHER = Matcher()
MSG = "Accepted password for ann marie from 192.0.2.1 port 5 ssh2"
TEN = us(2026, 11, 22, 10, 0, 7)
MICROS = TEN + 892_585


def rows(text: str) -> list[Row]:
    """Read a block, one character a byte."""
    return Framer(MATCHER.is_program, MATCHER.daemon_of).rows(text)


def row(line: str) -> Row:
    """Read one line, header parts put back."""
    (found,) = rows(line + "\n")
    return mended(found, MATCHER.is_program)


def time_of(found: Row) -> int | None:
    """Return the time of a row in a file of now, in UTC."""
    return Timestamps(NOW, UTC).microseconds(found[0])


def template(**changes: object) -> str:
    """Return a line of our own template (rsyslog.d), as rsyslog 8.2302 writes it."""
    fields: dict[str, object] = {
        "v": "1", "ts": "2026-11-22T10:00:07.892585+00:00", "rcvd": "2026-11-22T10:00:07.892600+00:00", "host": "bastion1",
        "from_ip": "127.0.0.1", "input": "imuxsock", "tag": "sshd[42]:", "prog": "sshd", "procid": "42", "sev": 6, "fac": 4,
        "msg": f" {MSG}", "pid": 42, "uid": 0, "gid": 0, "exe": "/usr/sbin/sshd", "comm": "sshd",
    }  # fmt: skip
    return json.dumps({name: value for name, value in (fields | changes).items() if value is not ...})


def jsonmesg(**changes: object) -> str:
    """Return a line of ``%jsonmesg%``."""
    fields: dict[str, object] = {
        "msg": f" {MSG}", "rawmsg": f"<38>Nov 22 10:00:07 sshd[42]: {MSG}", "timereported": "2026-11-22T10:00:07.892585+00:00",
        "hostname": "bastion1", "syslogtag": "sshd[42]:", "inputname": "imuxsock", "fromhost": "bastion1",
        "fromhost-ip": "127.0.0.1",
        "pri": "38", "syslogfacility": "4", "syslogseverity": "6", "timegenerated": "2026-11-22T10:00:07.892600+00:00",
        "programname": "sshd", "protocol-version": "0", "structured-data": "-", "app-name": "sshd", "procid": "42", "msgid": "-",
        "uuid": None, "$!": None,
    }  # fmt: skip
    return json.dumps(fields | changes)


def journal(**changes: object) -> str:
    """Return a line of ``journalctl -o json``."""
    fields: dict[str, object] = {
        "__REALTIME_TIMESTAMP": "1795341607892585", "_HOSTNAME": "bastion1", "SYSLOG_IDENTIFIER": "sshd", "SYSLOG_PID": "42",
        "_PID": "42", "_UID": "0", "_COMM": "sshd", "_EXE": "/usr/sbin/sshd", "MESSAGE": MSG,
    }  # fmt: skip
    return json.dumps({name: value for name, value in (fields | changes).items() if value is not ...})


def latin(text: str) -> str:
    """Return a text as a log has it, one character a byte."""
    return text.encode().decode("latin-1")


#: A line of each framing, and the moment it names. All say the same: bastion1, sshd, 42, MSG.
FRAMED: dict[str, tuple[str, int]] = {
    "RSYSLOG_TraditionalFileFormat": (f"Nov 22 10:00:07 bastion1 sshd[42]: {MSG}", TEN),
    "RSYSLOG_FileFormat": (f"2026-11-22T10:00:07.892585+00:00 bastion1 sshd[42]: {MSG}", MICROS),
    "RSYSLOG_FileFormat of another zone": (f"2026-11-22T11:00:07.892585+01:00 bastion1 sshd[42]: {MSG}", MICROS),
    "RFC 5424 with PRI": (f"<38>1 2026-11-22T10:00:07.892585+00:00 bastion1 sshd 42 - - {MSG}", MICROS),
    "RSYSLOG_SyslogProtocol23Format": (f"<38>1 2026-11-22T10:00:07.892585+00:00 bastion1 sshd 42 - -  {MSG}", MICROS),
    "RFC 5424 without PRI": (f"1 2026-11-22T10:00:07.892585Z bastion1 sshd 42 - - {MSG}", MICROS),
    "RFC 5424 without PRI and version": (f"2026-11-22T10:00:07.892585Z bastion1 sshd 42 - - {MSG}", MICROS),
    "RFC 5424 with structured data": (
        f'<38>1 2026-11-22T10:00:07.892585Z bastion1 sshd 42 ID47 [a@1 x="1"][b y="] \\" \\] \\\\" z=""] {MSG}', MICROS,
    ),
    "RFC 5424 with a byte order mark": (f"<38>1 2026-11-22T10:00:07.892585Z bastion1 sshd 42 - - \xef\xbb\xbf{MSG}", MICROS),
    "journalctl short": (f"Nov 22 10:00:07 bastion1 sshd[42]: {MSG}", TEN),
    "journalctl short-precise": (f"Nov 22 10:00:07.892585 bastion1 sshd[42]: {MSG}", MICROS),
    "journalctl short-iso of 252": (f"2026-11-22T10:00:07+0000 bastion1 sshd[42]: {MSG}", TEN),
    "journalctl short-iso, newer": (f"2026-11-22T10:00:07+00:00 bastion1 sshd[42]: {MSG}", TEN),
    "journalctl short-iso-precise": (f"2026-11-22T10:00:07.892585+0000 bastion1 sshd[42]: {MSG}", MICROS),
    "journalctl short-unix": (f"1795341607.892585 bastion1 sshd[42]: {MSG}", MICROS),
    "journalctl short-full": (f"Sun 2026-11-22 10:00:07 UTC bastion1 sshd[42]: {MSG}", TEN),
    "journalctl short-full, zone without letters": (f"Sun 2026-11-22 07:00:07 -03 bastion1 sshd[42]: {MSG}", TEN),
    "journalctl short-full, Kathmandu": (f"Sun 2026-11-22 15:45:07 +0545 bastion1 sshd[42]: {MSG}", TEN),
    "journalctl json": (journal(), MICROS),
    "journalctl json, bytes": (journal(MESSAGE=list(MSG.encode())), MICROS),
    "journalctl json, a field that occurs twice": (journal(SYSLOG_IDENTIFIER=["sshd", "x"]), MICROS),
    "BusyBox": (f"Nov 22 10:00:07 bastion1 auth.info sshd[42]: {MSG}", TEN),
    "FreeBSD, syslogd -v": (f"Nov 22 10:00:07 <auth.info> bastion1 sshd[42]: {MSG}", TEN),
    "FreeBSD, syslogd -v with micros": (f"Nov 22 10:00:07.892585 <authpriv.notice> bastion1 sshd[42]: {MSG}", MICROS),
    "macOS": (f"2026-11-22 10:00:07.892585+0000  bastion1 sshd[42]: {MSG}", MICROS),
    "a year before the time": (f"Nov 22 2026 10:00:07 bastion1 sshd[42]: {MSG}", TEN),
    "a year behind the time": (f"Nov 22 10:00:07 2026 bastion1 sshd[42]: {MSG}", TEN),
    "traditional with PRI": (f"<38>Nov 22 10:00:07 bastion1 sshd[42]: {MSG}", TEN),
    "relayed as RFC 5424, colon lost": (f"2026-11-22T10:00:07.892585+00:00 bastion1 sshd[42] {MSG}", MICROS),
    "relayed, traditional, colon lost": (f"Nov 22 10:00:07 bastion1 sshd[42] {MSG}", TEN),
    "a byte order mark before the text": (f"Nov 22 10:00:07 bastion1 sshd[42]: \xef\xbb\xbf{MSG}", TEN),
    "one blank before the line": (f" Nov 22 10:00:07 bastion1 sshd[42]: {MSG}", TEN),
    "CRLF": (f"Nov 22 10:00:07 bastion1 sshd[42]: {MSG}\r", TEN),
    "our template": (template(), MICROS),
    "our template, from imjournal": (template(uid=..., exe=..., j_uid=0, j_exe="/usr/sbin/sshd"), MICROS),
    "our template, without a blank": (template(msg=MSG), MICROS),
    "our template, long names": (
        template(timestamp="2026-11-22T10:00:07.892585+00:00", program="sshd", message=f" {MSG}", ts=..., prog=..., msg=...),
        MICROS,
    ),
    "our template, a path as tag": (template(tag="sshd[42]:", prog=""), MICROS),
    "%jsonmesg%": (jsonmesg(), MICROS),
    "a year before the month": (f"2026 Nov 22 10:00:07 bastion1 sshd[42]: {MSG}", TEN),
    "journalctl short, in German": (f"nov. 22 10:00:07 bastion1 sshd[42]: {MSG}", TEN),
    "journalctl short-precise, in Polish": (f"lis 22 10:00:07.892585 bastion1 sshd[42]: {MSG}", MICROS),
    "journalctl short, in Russian": (f"{latin('ноя')} 22 10:00:07 bastion1 sshd[42]: {MSG}", TEN),
    "journalctl short, in Japanese": (f"{latin('11月')} 22 10:00:07 bastion1 sshd[42]: {MSG}", TEN),
    "journalctl short, in Catalan": (f"de nov. 22 10:00:07 bastion1 sshd[42]: {MSG}", TEN),
    "journalctl short, in Vietnamese": (f"Thg 11 22 10:00:07 bastion1 sshd[42]: {MSG}", TEN),
    "the day of the week first": (f"Sun Nov 22 10:00:07 bastion1 sshd[42]: {MSG}", TEN),
    "SONiC: the severity before the tag": (f"Nov 22 10:00:07.892585 bastion1 INFO sshd[42]: {MSG}", MICROS),
    "the severity before the host": (f"2026-11-22T10:00:07.892585+00:00 info bastion1 sshd[42]: {MSG}", MICROS),
    "facility and severity in words": (f"2026 Nov 22 10:00:07 bastion1  authpriv info  sshd[42]: {MSG}", TEN),
    "facility and severity in brackets": (f"Nov 22 10:00:07 bastion1 [auth.info] sshd[42]: {MSG}", TEN),
    "PRI before the tag": (f"Nov 22 10:00:07 bastion1 <38> sshd[42]: {MSG}", TEN),
    "AIX": (f"Nov 22 10:00:07 bastion1 auth|security:info sshd[42]: {MSG}", TEN),
    "AIX, forwarded": (f"Nov 22 10:00:07 relay1 Message forwarded from bastion1: sshd[42]: {MSG}", TEN),
    "a host in brackets": (f"Nov 22 10:00:07 [bastion1] sshd[42]: {MSG}", TEN),
    "a host in brackets, rfc3339": (f"2026-11-22T10:00:07.892585+00:00 [bastion1] sshd[42]: {MSG}", MICROS),
    "CloudWatch": (f"2026-11-22T10:00:07.892585Z Nov 22 10:00:07 bastion1 sshd[42]: {MSG}", MICROS),
    "CloudWatch, with the stream": (f"2026-11-22T10:00:07+00:00 i-0abc12 Nov 22 10:00:07 bastion1 sshd[42]: {MSG}", TEN),
    "a bar behind an exporter's time": (f"2026-11-22 10:00:07 | Nov 22 11:00:09 bastion1 sshd[42]: {MSG}", TEN),
    "Wazuh's archives": (
        f"2026 Nov 22 10:00:07 (web) 192.0.2.9->/var/log/auth.log Nov 22 10:00:07 bastion1 sshd[42]: {MSG}", TEN,
    ),
    "a header before the header": (f"Nov 22 10:00:07 relay1 Nov 22 10:00:07 bastion1 sshd[42]: {MSG}", TEN),
    "a header before one that is more exact": (
        f"Nov 22 11:00:09 relay1 2026-11-22T10:00:07.892585+00:00 bastion1 sshd[42]: {MSG}", MICROS,
    ),
    "grep": (f"/var/log/auth.log:Nov 22 10:00:07 bastion1 sshd[42]: {MSG}", TEN),
    "grep -n": (f"/var/log/auth.log.1:1234:Nov 22 10:00:07 bastion1 sshd[42]: {MSG}", TEN),
    "docker compose logs of a syslogd": (f"syslog-1  | Nov 22 10:00:07 bastion1 sshd[42]: {MSG}", TEN),
}  # fmt: skip


WHOLE = f"Nov 22 10:00:07 bastion1 sshd[42]: {MSG}"
ISO = "2026-11-22T10:00:07Z"

#: What others make of a line of syslog, as JSON, and the moment it names.
EXPORTED: dict[str, tuple[dict[str, object], int]] = {
    "fluent-bit, systemd": (
        {"date": 1795341607.892585, "SYSLOG_IDENTIFIER": "sshd", "_PID": "42", "_HOSTNAME": "bastion1", "MESSAGE": MSG},
        MICROS,
    ),
    "fluent-bit, tail": ({"date": 1795341607.892585, "log": WHOLE}, MICROS),
    "fluentd, syslog": ({"time": ISO, "host": "bastion1", "ident": "sshd", "pid": "42", "message": MSG}, TEN),
    "vector, syslog": ({"appname": "sshd", "host": "bastion1", "message": MSG, "procid": 42, "timestamp": ISO}, TEN),
    "vector, journald": (
        {"SYSLOG_IDENTIFIER": "sshd", "_PID": "42", "host": "bastion1", "message": MSG, "timestamp": ISO, "_UID": "0"},
        TEN,
    ),
    "filebeat": ({"@timestamp": ISO, "message": WHOLE, "host": {"name": "relay1"}}, TEN),
    "ECS": ({"@timestamp": ISO, "host": {"name": "bastion1"}, "process": {"name": "sshd", "pid": 42}, "message": MSG}, TEN),
    "logstash": (
        {
            "timestamp": "Nov 22 10:00:09", "@timestamp": ISO, "logsource": "bastion1", "host": "192.0.2.9",
            "program": "sshd", "pid": "42", "message": MSG,
        },
        TEN,
    ),
    "GELF": (
        {
            "version": "1.1", "host": "bastion1", "short_message": MSG, "timestamp": 1795341607.892585,
            "_application_name": "sshd", "_process_id": "42",
        },
        MICROS,
    ),
    "syslog-ng": ({"PROGRAM": "sshd", "PID": "42", "MESSAGE": MSG, "HOST": "bastion1", "ISODATE": ISO}, TEN),
    "NXLog": ({"EventTime": ISO, "Hostname": "bastion1", "SourceName": "sshd", "ProcessID": 42, "Message": MSG}, TEN),
    "CloudWatch, JSON": ({"timestamp": 1795341607892, "message": WHOLE}, TEN + 892_000),
    "Loki": ({"timestamp": "1795341607892585123", "line": WHOLE, "fields": {"job": "auth"}}, MICROS),
    "JSON around RFC 5424": ({"message": f"<38>1 {ISO} bastion1 sshd 42 - - {MSG}", "host": "relay1"}, TEN),
}  # fmt: skip
FRAMED |= {name: (json.dumps(fields), moment) for name, (fields, moment) in EXPORTED.items()}


@pytest.mark.parametrize(("line", "moment"), FRAMED.values(), ids=FRAMED)
def test_every_framing_says_the_same(line: str, moment: int) -> None:
    """Host, program, PID, text and time of a message do not depend on the framing it came in."""
    found = row(line)
    assert found[1:5] == ("bastion1", "sshd", "42", MSG)
    assert time_of(found) == moment


#: Headers that say less, or something odd: host, program, PID.
ODD: dict[str, tuple[str, tuple[str, str, str]]] = {
    "macOS, as Apple writes it": (f"2020-03-23 06:47:42.801612-0700  localhost sshd[3186]: {MSG}", ("localhost", "sshd", "3186")),
    "no PID": (f"Nov 22 10:00:07 bastion1 sshd: {MSG}", ("bastion1", "sshd", "")),
    "no PID, no colon": (f"Nov 22 10:00:07 bastion1 sshd {MSG}", ("bastion1", "sshd", "")),
    "no host": (f"Nov 22 10:00:07 sshd[42]: {MSG}", ("", "sshd", "42")),
    "OpenWrt's logread": (f"Sun Nov 22 10:00:07 2026 authpriv.info sshd[42]: {MSG}", ("", "sshd", "42")),
    "no host, no PID": (f"Nov 22 10:00:07 sshd: {MSG}", ("", "sshd", "")),
    "a path": (f"Nov 22 10:00:07 bastion1 /usr/sbin/sshd[42]: {MSG}", ("bastion1", "/usr/sbin/sshd", "42")),
    "a module in the tag": (f"Nov 22 10:00:07 bastion1 sshd(pam_unix)[42]: {MSG}", ("bastion1", "sshd(pam_unix)", "42")),
    "an IPv6 host": (f"2026-11-22T10:00:07Z 2001:db8::7 sshd[42]: {MSG}", ("2001:db8::7", "sshd", "42")),
    "an IPv6 host that rsyslog tore": (f"Nov 22 10:00:07 relay1 2001: db8::7 sshd[42]: {MSG}", ("2001:db8::7", "sshd", "42")),
    "an IPv4 host": (f"Nov 22 10:00:07 192.0.2.9 sshd[42]: {MSG}", ("192.0.2.9", "sshd", "42")),
    "a nil host": (f"<38>1 2026-11-22T10:00:07Z - sshd 42 - - {MSG}", ("-", "sshd", "42")),
    "a nil PID": (f"<38>1 2026-11-22T10:00:07Z bastion1 sshd - - - {MSG}", ("bastion1", "sshd", "")),
    "a PID that is none": (f"<38>1 2026-11-22T10:00:07Z bastion1 sshd main - - {MSG}", ("bastion1", "sshd", "")),
    "a nil time": (f"<38>1 - bastion1 sshd 42 - - {MSG}", ("bastion1", "sshd", "42")),
    "a host with an odd character": (f"Nov 22 10:00:07 relay1 web_1!: sshd[42]: {MSG}", ("web_1!:", "sshd", "42")),
    "no header but the tag": (f"sshd[42]: {MSG}", ("", "sshd", "42")),
    "no time": (f"bastion1 sshd[42]: {MSG}", ("bastion1", "sshd", "42")),
    "Solaris' two blanks": (f"Nov 22 10:00:07  bastion1 sshd[42]: {MSG}", ("bastion1", "sshd", "42")),
    "journal without SYSLOG_PID": (journal(SYSLOG_PID=...), ("bastion1", "sshd", "42")),
    "journal without identifier": (journal(SYSLOG_IDENTIFIER=...), ("bastion1", "sshd", "42")),
    "template, a path as tag": (template(tag="/usr/sbin/sshd[42]:", prog="", procid="-"), ("bastion1", "/usr/sbin/sshd", "42")),
    "template, a PID that is none": (template(procid="-"), ("bastion1", "sshd", "")),
    "logread -t": (f"Sun Nov 22 10:00:07 2026 [1795341607.892] authpriv.info sshd[42]: {MSG}", ("", "sshd", "42")),
    "socklog": (f"2026-11-22T10:00:07.89258 auth.info: Nov 22 10:00:07 sshd[42]: {MSG}", ("", "sshd", "42")),
    "socklog, without its time": (f"auth.info: Nov 22 10:00:07 sshd[42]: {MSG}", ("", "sshd", "42")),
    "ESXi": (f"2026-11-22T10:00:07.892Z In(38) sshd[42]: {MSG}", ("", "sshd", "42")),
    "metalog": (f"Nov 22 10:00:07 [sshd] {MSG}", ("", "sshd", "")),
    "metalog, with a colon": (f"Nov 22 10:00:07 [sshd]: {MSG}", ("", "sshd", "")),
    "a host with a part in brackets": (f"Nov 22 10:00:07 web1[prod] sshd[42]: {MSG}", ("web1[prod]", "sshd", "42")),
    "a host, its address in brackets": (f"Nov 22 10:00:07 web1 [192.0.2.9] sshd[42]: {MSG}", ("web1[192.0.2.9]", "sshd", "42")),
    "journalctl with-unit": (f"Sun 2026-11-22 10:00:07 UTC bastion1 ssh.service[42]: {MSG}", ("bastion1", "ssh.service", "42")),
    "journalctl with-unit, by a socket": (
        f"Sun 2026-11-22 10:00:07 UTC bastion1 sshd@1-192.0.2.9:22-2001:db8::7:5.service[42]: {MSG}",
        ("bastion1", "sshd@1-192.0.2.9:22-2001:db8::7:5.service", "42"),
    ),
    "docker's json-file": (
        json.dumps({"log": f"{MSG}\r\n", "stream": "stderr", "time": "2026-11-22T10:00:07Z"}), ("", "sshd", ""),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("line", "header"), ODD.values(), ids=ODD)
def test_odd_headers(line: str, header: tuple[str, str, str]) -> None:
    """What a header leaves out is empty, and what rsyslog moved about is put back; the text is always whole."""
    found = row(line)
    assert (*(found[1].rstrip(":"), found[2], found[3]), found[4]) == (*(header[0].rstrip(":"), *header[1:]), MSG)


def test_time_of_logread() -> None:
    """OpenWrt's logread writes the day of the week before the time, and the year behind it; with -t, it is exact and in UTC."""
    assert time_of(row(f"Sun Nov 22 10:00:07 2026 authpriv.info sshd[42]: {MSG}")) == TEN
    assert time_of(row(f"Sun Nov 22 11:00:07 2026 [1795341607.892] authpriv.info sshd[42]: {MSG}")) == TEN + 892_000


#: What a daemon in a container writes to standard error: program, PID, message and moment.
BARE: dict[str, tuple[str, tuple[str, str], int | None]] = {
    "sshd -e": (MSG, ("sshd", ""), None),
    "docker logs": (f"{MSG}\r", ("sshd", ""), None),
    "docker logs --timestamps": (f"2026-11-22T10:00:07.892585123Z {MSG}", ("sshd", ""), MICROS),
    "podman logs --timestamps": (f"2026-11-22T10:00:07+00:00 {MSG}", ("sshd", ""), TEN),
    "CRI": (f"2026-11-22T10:00:07.892585123Z stderr F {MSG}", ("sshd", ""), MICROS),
    "docker compose logs": (f"sshd-1  | {MSG}", ("sshd", ""), None),
    "docker compose logs --timestamps": (f"sshd-1  | 2026-11-22T10:00:07.892585123Z {MSG}", ("sshd", ""), MICROS),
    "kubectl logs --prefix": (f"[pod/sshd-0/sshd] {MSG}", ("sshd", ""), None),
    "dropbear -E": ("[42] Nov 22 10:00:07 Bad password attempt for 'ann marie' from 192.0.2.1:5", ("dropbear", "42"), TEN),
    "dropbear -E, docker logs --timestamps": (
        "2026-11-22T10:00:07.892585123Z [42] Nov 22 10:00:07 Bad password attempt for 'ann marie' from 192.0.2.1:5",
        ("dropbear", "42"), MICROS,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("line", "header", "moment"), BARE.values(), ids=BARE)
def test_messages_without_a_header(line: str, header: tuple[str, str], moment: int | None) -> None:
    """A message of a daemon that stands alone, or behind a time alone, is the daemon's that writes such messages."""
    found = row(line)
    assert found[1:4] == ("", *header)
    assert found[4].endswith(" from 192.0.2.1 port 5 ssh2" if header[0] == "sshd" else " from 192.0.2.1:5")
    assert found[4].startswith(("Accepted password for ", "Bad password attempt for "))
    assert time_of(found) == moment


@pytest.mark.parametrize("line", ["Generating keys...", "2026-11-22T10:00:07.123456789Z Generating keys...", ""])
def test_messages_without_a_header_behind_others(line: str) -> None:
    """What a container writes before its daemon starts changes nothing."""
    stamped = f"2026-11-22T10:00:07.892585123Z {MSG}"
    found = [MATCHER.find(one) for one in rows(f"{line}\n{stamped}\n{MSG if not line.startswith('2') else stamped}\n")]
    assert [one.text for one in found if one is not None] == [MSG, MSG]
    assert {one.stamp for one in found if one is not None} <= {stamped[:30], ""}


def test_a_message_without_a_header_counts_only_where_no_line_has_one() -> None:
    """Among lines with headers, one without is a part of another's message, which anybody may have chosen."""
    found = rows(f"Nov 22 10:00:07 bastion1 app[9]: x\n{MSG}\nsshd-1  | {MSG}\n")
    assert [MATCHER.find(one) for one in found] == [None, None, None]


#: Lines of other programs whose text looks like one of ours: a header part is put back only among known words.
NOT_PUT_BACK = [
    f"Nov 22 10:00:07 bastion1 app: sshd[42]: {MSG}",
    f"Nov 22 10:00:07 bastion1 app: bastion1 sshd[42]: {MSG}",
    f"Nov 22 10:00:07 bastion1 app: INFO sshd[42]: {MSG}",
    f"Nov 22 10:00:07 bastion1 app: Nov 22 10:00:07 bastion1 sshd[42]: {MSG}",
    f"Nov 22 10:00:07 bastion1 app[7]: Nov 22 10:00:07 bastion1 sshd[42]: {MSG}",
    f"2026-11-22T10:00:07Z bastion1 app: 2026-11-22T10:00:07Z bastion1 sshd[42]: {MSG}",
    f"Nov 22 10:00:07 bastion1 cron: sshd[42]: {MSG}",
    f"Nov 22 10:00:07 bastion1 app: | Nov 22 10:00:07 bastion1 sshd[42]: {MSG}",
    f"Nov 22 10:00:07 bastion1 app: {MSG}",
    f"Nov 22 10:00:07 bastion1 Accepted: {MSG}",
    f"   bastion1 sshd[42]: {MSG}",
    json.dumps({"message": f"Nov 22 10:00:07 bastion1 app[7]: sshd[42]: {MSG}"}),
    json.dumps({"message": f"GET /?sshd[42]: {MSG} HTTP/1.1", "program": "nginx"}),
    json.dumps({"message": MSG, "program": "nginx"}),
]


@pytest.mark.parametrize("line", NOT_PUT_BACK)
def test_another_programs_text_is_no_header(line: str) -> None:
    """A whole line of ours within another program's message stays that program's."""
    assert [MATCHER.find(one) for one in rows(f"Nov 22 10:00:06 bastion1 app[9]: x\n{line}\n")] == [None, None]


FAILED = "Failed password for root from 192.0.2.1 port 5 ssh2"
REPETITIONS = {
    "FreeBSD": "Nov 22 10:00:09 bastion1 syslogd: last message repeated 2 times",
    "FreeBSD, with a PID": "Nov 22 10:00:09 bastion1 syslogd[99]: last message repeated 2 times",
    "OpenBSD, sysklogd, Solaris": "Nov 22 10:00:09 bastion1 last message repeated 2 times",
    "macOS": "Nov 22 10:00:09 bastion1 --- last message repeated 2 times ---",
    "macOS, without a host": "Nov 22 10:00:09 --- last message repeated 2 times ---",
    "without a host": "Nov 22 10:00:09 last message repeated 2 times",
    "syslog-ng": (
        "Nov 22 10:00:09 bastion1 syslog-ng[3]: Last message 'Failed password for ' repeated 2 times, suppressed by syslog-ng on "
        "bastion1"
    ),
}


@pytest.mark.parametrize("line", REPETITIONS.values(), ids=REPETITIONS)
def test_repetitions(line: str) -> None:
    """What syslogd folds reads as rsyslog writes it: the line before it, so many times more, at its own time."""
    first = f"Nov 22 10:00:07 bastion1 sshd[42]: {FAILED}"
    found = rows(f"{first}\n{line}\n")
    assert found[1] == ("Nov 22 10:00:09", "bastion1", "sshd", "42", f"message repeated 2 times: [ {FAILED}]", "")
    framer = Framer(MATCHER.is_program, MATCHER.daemon_of)
    assert framer.rows(f"{first}\n") + framer.rows(f"{line}\n") == found
    told = framer.rows(f"{line.replace('2 times', '1 time').replace('1 times', '1 time')}\n")
    assert told[0][4].startswith("message repeated 1 times: ") or "syslog-ng" in line


def test_a_repetition_belongs_to_the_line_before_it() -> None:
    """Another program's line, another host's, or none before it: then it says nothing of sshd."""
    again = "Nov 22 10:00:09 bastion1 last message repeated 2 times"
    first = f"Nov 22 10:00:07 bastion1 sshd[42]: {FAILED}"
    for before in (f"{first}\nNov 22 10:00:08 bastion1 cron[1]: x", f"{first}\n", f"{first.replace('bastion1', 'web1')}", ""):
        assert MATCHER.find(rows(f"{before}\n{again}\n")[-1]) is None
    chained = rows(f"{first}\n{again}\n{again}\n")
    assert chained[1] == chained[2]
    said = rows(f"{first}\nNov 22 10:00:08 bastion1 app[1]: last message repeated 9 times\n")
    assert said[1][2] == "app"


DAMAGED = {
    "a fraction of nine digits": "2026-11-22T10:00:00.\xb289Z",
    "a fraction of nine digits, another byte": "2026-11-22T10:00:00.\xe789+00:00",
    "a leap day": "2026-02-29T10:00:00+00:00",
}


@pytest.mark.parametrize("stamp", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_time_loses_only_the_time(stamp: str) -> None:
    """A time that does not exist, or is no text, costs the line its time and nothing else."""
    found = row(f"{stamp} bastion1 sshd[42]: {MSG}")
    assert found == (stamp, "bastion1", "sshd", "42", MSG, "")
    assert time_of(found) is None


def test_trusted_fields() -> None:
    """The kernel's word comes from rsyslog's own fields and the journal's, and only where rsyslog itself has it."""
    assert row(template())[5] == (0, "/usr/sbin/sshd")
    assert row(template(uid=1012, exe="/usr/bin/logger"))[5] == (1012, "/usr/bin/logger")
    assert row(template(uid=..., exe=...))[5] == ""
    assert row(template(uid=..., exe=..., j_uid=1012, j_exe="/usr/bin/logger"))[5] == (1012, "/usr/bin/logger")
    assert row(journal())[5] == (0, "/usr/sbin/sshd")
    assert row(journal(_UID=...))[5] == ""
    assert row(jsonmesg())[5] == ""
    assert row(jsonmesg(**{"$!": {"uid": 1012, "exe": "/usr/bin/logger"}}))[5] == (1012, "/usr/bin/logger")
    # mmjsonparse fills "$!" with what a sender on the network wrote.
    assert row(jsonmesg(inputname="imtcp", **{"$!": {"uid": 0}}))[5] == ""
    assert row(jsonmesg(inputname="imtcp", **{"$!": {"_UID": 0}}))[5] == ""


TEXTS: dict[str, tuple[str, str]] = {
    "journal, null": (journal(MESSAGE=None), ""),
    "journal, no message": (journal(MESSAGE=...), ""),
    "journal, bytes that are not UTF-8": (journal(MESSAGE=[120, 233, 10, 0]), "x\xe9\n\0"),
    "journal, twice": (journal(MESSAGE=["a", "b"]), "a"),
    "journal, UTF-8": (journal(MESSAGE="zoë"), "zo\xc3\xab"),
    "template, UTF-8": (template(msg=" zoë"), "zo\xc3\xab"),
    "template, a raw byte": (template(msg=" zo!").replace("!", "\xe9"), "zo\xe9"),
    "template, a raw control character": (template(msg=" zo!").replace("!", "\t"), "zo\t"),
    "template, an escaped line feed": (template(msg=" a\nb"), "a\nb"),
    "template, two blanks": (template(msg="  a"), " a"),
    "template, a byte order mark": (template(msg=" \ufeffa"), "a"),
    "template, no message": (template(msg=...), ""),
    "template, a number": (template(msg=5), "5"),
    "traditional, two blanks": ("Nov 22 10:00:07 bastion1 sshd[42]:  a", " a"),
    "traditional, trailing blanks": ("Nov 22 10:00:07 bastion1 sshd[42]: a  ", "a  "),
    "traditional, nothing": ("Nov 22 10:00:07 bastion1 sshd[42]:", ""),
    "traditional, raw bytes": ("Nov 22 10:00:07 bastion1 sshd[42]: \xff\x80\x85\x0b\x0c\x1c", "\xff\x80\x85\x0b\x0c\x1c"),
    "traditional, a form feed": ("Nov 22 10:00:07 bastion1 sshd[42]: a\x0cb\x85c\xa0", "a\x0cb\x85c\xa0"),
    "RFC 5424, no text": ("<38>1 2026-11-22T10:00:07Z bastion1 sshd 42 - -", ""),
}


@pytest.mark.parametrize(("line", "text"), TEXTS.values(), ids=TEXTS)
def test_texts_come_through_unchanged(line: str, text: str) -> None:
    """A text loses one leading blank and a byte order mark and nothing else; it is bytes, whatever the encoding was."""
    found = row(line)
    assert (found[2], found[3], found[4]) == ("sshd", "42", text)


@pytest.mark.parametrize(
    "line",
    [
        template(msg="@").replace("@", "\\ud800"),
        template(procid="@").replace("@", "\xb2"),
        template(uid="@").replace("@", "\xb2"),
        journal(__REALTIME_TIMESTAMP="@").replace("@", "\xb2"),
        template(ts="@").replace("@", "\xb2"),
        '{"tag":"sshd","msg":' + "[" * 400 + "1" + "]" * 400 + "}",
        '{"MESSAGE":' + "[" * 100_000,
        '{"tag":' + "9" * 5000 + "}",
        '{"tag":"x","procid":' + "9" * 400 + "}",
        '{"tag":1e999,"msg":NaN,"uid":-1}',
        '{"tag":true,"msg":{"a":1},"uid":[],"host":[[]],"ts":[300]}',
        "{}",
        "{",
        "[]",
        '"sshd"',
        "{\xff}",
        "\x00",
        "",
        " ",
        "<38>",
        "<38>1 ",
        "<38>1 - - - - - -",
    ],
)
def test_nothing_raises(line: str) -> None:
    """A line that is damaged in any way is one row, and never an exception; its PID is a number or nothing."""
    (found,) = rows(line + "\n")
    assert found[3] == "" or int(found[3]) >= 0
    time_of(found)


@pytest.mark.parametrize(
    "line", ["no header at all", "2026-11-22", "Nov 22", "-- Boot 0123456789abcdef --", "x: y", "nginx[1]: x"]
)
def test_a_line_of_no_framing_stands_in_its_message(line: str) -> None:
    """What no framing fits is kept whole, with an empty program."""
    assert row(line) == ("", "", "", "", line, "")


def test_continuation_lines_of_journalctl_are_no_messages() -> None:
    """Journalctl indents the further lines of a text: a line feed in it does not begin a message of sshd."""
    text = f"Nov 22 10:00:07 bastion1 app[9]: x\n{' ' * 33}sshd[42]: {MSG}\n                sshd[42]: {MSG}\n"
    found = rows(text)
    assert [MATCHER.find(one) for one in found] == [None, None, None]
    assert [one[2] for one in found] == ["app", "", ""]


def test_one_row_a_line_in_order() -> None:
    """A block of mixed framings gives one row for each line, in order, with nothing between them."""
    lines = [line.rstrip("\r") for line, _ in FRAMED.values()]
    found = [mended(one, MATCHER.is_program) for one in rows("\n".join(lines) + "\n")]
    assert [one[1:5] for one in found] == [("bastion1", "sshd", "42", MSG)] * len(lines)


def test_empty_lines_are_rows_too() -> None:
    """Empty lines have rows of their own, so that line numbers hold."""
    line = f"Nov 22 10:00:07 bastion1 sshd[42]: {MSG}"
    empty = ("", "", "", "", "", "")
    full = ("Nov 22 10:00:07", "bastion1", "sshd", "42", MSG, "")
    assert rows(f"\n{line}\n\n\n{line}\n\n") == [empty, full, empty, empty, full, empty]
    framer = Framer(MATCHER.is_program, MATCHER.daemon_of)
    assert framer.rows(f"{line}\n") == [full]
    assert framer.rows(f"\n{line}\n\n\n") == [empty, full, empty, empty]


def test_the_framing_is_told() -> None:
    """The framing that fitted last has a name, for whoever asks."""
    framer = Framer(MATCHER.is_program, MATCHER.daemon_of)
    assert framer.name == "none"
    framer.rows(f"Nov 22 10:00:07 bastion1 sshd[42]: {MSG}\n")
    assert framer.name == "traditional"
    framer.rows(template() + "\n")
    assert framer.name == "json"
