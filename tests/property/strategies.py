"""
What the property tests have in common: hostile texts, the daemons' own formats, and the framings.

A hostile text is what a peer, a name server, a CA operator or a logged-in user may send. ``Daemon`` renders it as sshd does, with
its cuts and encodings (log.c, do_log(); auth.c; packet.c), so that a test knows what was really meant.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Callable

FORGED_ADDRESS = "6.6.6.6"
FRAGMENTS = [
    b" from 6.6.6.6 port 22 ssh2",
    b" from 6.6.6.6 port 22",
    b" from 6.6.6.6",
    b" 6.6.6.6 port 22",
    b" 6.6.6.6 port 22 [preauth]",
    b" port 22 ssh2",
    b" port 22",
    b" from ",
    b" from",
    b"from ",
    b" for ",
    b" for root",
    b"invalid user ",
    b"illegal user ",
    b"authenticating user ",
    b"user ",
    b" [preauth]",
    b"Accepted password for root from 6.6.6.6 port 22 ssh2",
    b"Failed password for root from 6.6.6.6 port 22 ssh2",
    b" (serial 5) CA ED25519 SHA256:x",
    b'" (serial 5) signed by RSA CA SHA256:x via /x',
    b": RSA SHA256:mVPwvezndPv/ARoIadVY98vAC0g+P/5633yTC4d/wXE",
    b": ",
    b":",
    b"\n",
    b"\r\n",
    b"\\",
    b"\\\\",
    b"\\n",
    b"\\303\\253",
    b"\t",
    b"\x01",
    b"\x7f",
    b"\xff",
    b"\xb2",
    b"zo\xc3\xab",
    b"'",
    b'"',
    b'" ',
    b"' from 6.6.6.6 port 22",
    b"' for root from 6.6.6.6 port 22 id 0",
    b"(uid=0) by (uid=0)",
    b" by (uid=0)",
    b" not allowed because listed in DenyUsers",
    b" not allowed because account is locked",
    b" by user root",
    b" failed, subsystem not found",
    b" [6.6.6.6] failed.",
    b" maps to x, but this does not map back to the address.",
    b" rhost=6.6.6.6  user=root",
    b" user=root",
    b" @[_PID=1 _UID=1000 _GID=1 _COMM=x",
    b" @[_PID=1 _UID=0 _GID=0 _COMM=sshd]",
    b"]",
    b"message repeated 5 times: [ ",
    b"#012",
    b"#011",
    b"#",
    b" via 6.6.6.6",
    b" timed out",
    b"x",
    b"root",
    b" ",
    b"  ",
    b"6.6.6.6",
    b"2001:db8::66",
    b"CORP\\bob",
]

USER = b"root"


def hostile(max_size: int = 6, *, without: bytes = b"") -> st.SearchStrategy[bytes]:
    """Return texts of a peer: a few fragments, sometimes long ones, no NUL."""
    allowed = [fragment for fragment in FRAGMENTS if not any(byte in without for byte in fragment)]
    fillers = [filler for filler in (b"x", b"\xff", b"\\", b" ") if filler not in without]
    long = st.builds(lambda byte, length: byte * length, st.sampled_from(fillers), st.integers(1, 220))
    return st.lists(st.one_of(st.sampled_from(allowed), st.sampled_from(allowed), long), max_size=max_size).map(b"".join)


ADDRESSES = st.sampled_from(["192.0.2.10", "198.51.100.7", "2001:db8::10", "2001:db8:1111:2222:3333:4444:5555:6666", "::1"])
PORTS = st.integers(1, 65535).map(str)
NAMES = hostile()
#: Real accounts, so sshd has found them: no control characters, but blanks, letters of any alphabet and backslashes.
ACCOUNTS = st.sampled_from(
    [b"root", b"alice", b"ann marie", b"zo\xc3\xab", b"CORP\\jsmith", b"CORP\\bob", b"a from b", b"x" * 120]
)


def vis(text: bytes) -> bytes:
    """Encode control and 8-bit characters as log.c has it done: C style, else octal."""
    named = {9: b"\\t", 10: b"\\n", 13: b"\\r", 7: b"\\a", 8: b"\\b", 11: b"\\v", 12: b"\\f", 92: b"\\\\"}
    return b"".join(named.get(byte) or (bytes([byte]) if 32 <= byte < 127 else b"\\%03o" % byte) for byte in text)


def in_plain(text: bytes) -> str:
    r"""Return a name as events show it: UTF-8, other bytes as ``\xNN``."""
    return text.decode("utf-8", "backslashreplace")


class Sshd(NamedTuple):
    """One release of sshd: what it is called, and how often it encodes what the worker before authentication says."""

    program: str
    encodes_twice: bool

    def line(self, text: bytes, *, preauth: bool = False) -> str:
        """Write a line: 1024 bytes of buffer, encoded, relayed where it is of the worker, cut to 500."""
        encoded = vis(text[:1023])[:1023]
        if preauth:
            relayed = (encoded + b" [preauth]")[:1023]
            encoded = vis(relayed) if self.encodes_twice else relayed
        return encoded[:500].decode("latin-1")


RELEASES = st.sampled_from(
    [Sshd("sshd", encodes_twice=True), Sshd("sshd-session", encodes_twice=True), Sshd("sshd-session", encodes_twice=False)]
)


def name_as_sent(name: bytes, limit: int = 100) -> bytes:
    """Return what of a name sshd logs: cut at the first colon, then at ``limit`` bytes."""
    return name.partition(b":")[0][:limit]


def escaped_by_rsyslog(text: bytes) -> str:
    """Write control characters as ``#ooo``, as rsyslog does on receipt."""
    return b"".join(b"#%03o" % byte if byte < 32 else bytes([byte]) for byte in text).decode("latin-1")


TIME = "2026-11-22T10:00:07.892585+00:00"


def _json(program: str, pid: str, text: str) -> str:
    fields = {
        "v": "1",
        "ts": TIME,
        "host": "bastion1",
        "tag": f"{program}[{pid}]:",
        "prog": program,
        "procid": pid,
        "msg": f" {text}",
    }
    # Bytes above 0x7f pass as they came: the line may be no UTF-8.
    return json.dumps(fields, ensure_ascii=False)


def _jsonmesg(program: str, pid: str, text: str) -> str:
    fields = {
        "msg": f" {text}", "rawmsg": f"<38>Nov 22 10:00:07 {program}[{pid}]: {text}", "timereported": TIME,
        "hostname": "bastion1",
        "syslogtag": f"{program}[{pid}]:", "inputname": "imuxsock", "programname": program, "procid": pid, "$!": None,
    }  # fmt: skip
    return json.dumps(fields, ensure_ascii=False)


def _journal(program: str, pid: str, text: str) -> str:
    # journald takes white space off the end of a message (journald-syslog.c), and gives bytes where it is not clean.
    stripped = text.rstrip(" \t\n\r")
    message = stripped if stripped.isascii() and stripped.isprintable() else list(stripped.encode("latin-1"))
    fields = {
        "__REALTIME_TIMESTAMP": "1795341607892585", "_HOSTNAME": "bastion1", "SYSLOG_IDENTIFIER": program, "SYSLOG_PID": pid,
        "MESSAGE": message,
    }  # fmt: skip
    return json.dumps(fields)


def _vector(program: str, pid: str, text: str) -> str:
    fields = {"appname": program, "host": "bastion1", "message": text, "procid": int(pid), "timestamp": TIME}
    return json.dumps(fields, ensure_ascii=False)


def _docker(_program: str, _pid: str, text: str) -> str:
    return json.dumps({"log": f"{text}\r\n", "stream": "stderr", "time": TIME}, ensure_ascii=False)


FRAMINGS: dict[str, Callable[[str, str, str], str]] = {
    "traditional": lambda program, pid, text: f"Nov 22 10:00:07 bastion1 {program}[{pid}]: {text}",
    "rfc3339": lambda program, pid, text: f"{TIME} bastion1 {program}[{pid}]: {text}",
    "relayed": lambda program, pid, text: f"{TIME} bastion1 {program}[{pid}] {text}",
    "rfc5424": lambda program, pid, text: f"<38>1 {TIME} bastion1 {program} {pid} - -  {text}",
    "json": _json,
    "jsonmesg": _jsonmesg,
    "short-precise": lambda program, pid, text: f"Nov 22 10:00:07.892585 bastion1 {program}[{pid}]: {text.rstrip()}",
    "journal": _journal,
    "busybox": lambda program, pid, text: f"Nov 22 10:00:07 bastion1 auth.info {program}[{pid}]: {text}",
    "polish": lambda program, pid, text: f"lis 22 10:00:07 bastion1 {program}[{pid}]: {text}",
    "bracketed": lambda program, pid, text: f"Nov 22 10:00:07 [bastion1] {program}[{pid}]: {text}",
    "severity": lambda program, pid, text: f"Nov 22 10:00:07 bastion1 INFO {program}[{pid}]: {text}",
    "exported": lambda program, pid, text: f"{TIME} Nov 22 11:00:07 bastion1 {program}[{pid}]: {text}",
    "vector": _vector,
    "container": lambda _program, _pid, text: f"{TIME} {text}",
    "docker": _docker,
    "repeated": lambda program, pid, text: f"{TIME} bastion1 {program}[{pid}]: message repeated 2 times: [ {text}]",
}

# Where the text stands without a tag, or the tag within the text.
WITHOUT_TAG = frozenset({"container", "docker"})
PUT_BACK = frozenset({"severity", "exported"})
