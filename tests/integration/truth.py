"""
The captures, the truth about them, and the command's events.

``tests/samples/captures/README.md`` describes their origin. Everything here is independent of the program under test: the script
that drove the clients wrote the truth, and one plain regular expression counts the lines.
"""

from __future__ import annotations

import datetime as dt
import functools
import gzip
import ipaddress
import json
import re
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from tests.bare_machine import on_a_bare_machine

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Record: TypeAlias = dict[str, Any]
"""One object of a truth file."""

Event: TypeAlias = dict[str, Any]
"""One object of the command's output, with its nested keys joined: ``event["source.ip"]``."""

PROJECT_DIR = Path(__file__).parents[2]
CAPTURES_DIR = Path(__file__).parents[1] / "samples" / "captures"
FORGED_DIR = "forged-by-local-user"
JOURNALD_DIR = "journald-9.2p1-debian12"
FRAMING_DIR = "framing-edge-cases"

#: Formats that cut the fraction off the time.
WHOLE_SECOND_FORMATS = {"traditional", "short", "short-full", "short-iso", "with-unit"}

# A verdict as the file formats show it. The name is greedy, so the address is the one that sshd wrote, at the end.
_VERDICT = re.compile(
    rb"(?P<time>\S+) \S+ sshd[^ \[]*\[\d+\]: "
    rb"(?:message repeated (?P<repeats>\d+) times: \[ )?"
    rb"(?P<result>Accepted|Failed) (?P<method>\S+) for .* from (?P<ip>\S+) port (?P<port>\d+) ssh2(?:: .*)?\]?",
)


class Peer(NamedTuple):
    """A client's end of a connection, as both the truth and an event name it."""

    ip: str
    port: int


@dataclass(frozen=True)
class Capture:
    """One log file of ``tests/samples/captures``."""

    folder: str
    prefix: str
    format: str

    def __str__(self) -> str:
        """Give the test a readable id."""
        return f"{self.folder}/{self.prefix}.{self.format}"

    @property
    def path(self) -> Path:
        """The packed file, which the command reads as it is."""
        return CAPTURES_DIR / f"{self}.log.gz"

    def read(self) -> bytes:
        """Return the log's bytes."""
        return gzip.decompress(self.path.read_bytes())

    @property
    def truth(self) -> list[Record]:
        """The truth, in the order of the start times."""
        return read_truth(self.folder, self.prefix)

    @property
    def accepted(self) -> list[Record]:
        """The records that are logins over SSH."""
        return [record for record in self.truth if record.get("result") == "accepted" and "src_ip" in record]

    @property
    def has_trusted_fields(self) -> bool:
        """Whether each line carries the uid that the kernel gave for its sender."""
        if self.folder == JOURNALD_DIR:
            return self.format == "json"
        return self.folder == FORGED_DIR and (
            self.prefix == "annotate" or (self.prefix, self.format) == ("annotate_parse", "omprog-jsonmesg")
        )

    @property
    def twin(self) -> Capture:
        """The same messages in a format that is easy to read and has the full time."""
        return Capture(self.folder, self.prefix, "short-iso-precise" if self.folder == JOURNALD_DIR else "rfc3339")


def all_captures() -> list[Capture]:
    """Return every log file, in the order of their names."""
    captures = []
    for path in sorted(CAPTURES_DIR.glob("*/*.log.gz")):
        prefix, _, fmt = path.name.removesuffix(".log.gz").rpartition(".")
        captures.append(Capture(path.parent.name, prefix, fmt))
    return captures


@functools.cache
def read_truth(folder: str, prefix: str) -> list[Record]:
    """Return the records of one truth file."""
    text = gzip.decompress((CAPTURES_DIR / folder / f"{prefix}.truth.jsonl.gz").read_bytes())
    return [json.loads(line) for line in text.splitlines()]


@functools.cache
def _verdicts(capture: Capture) -> list[re.Match[bytes]]:
    """Return sshd's ``Accepted`` and ``Failed`` lines of a capture, as its easy twin shows them."""
    lines = capture.twin.read().split(b"\n")
    return [match for line in lines if (match := _VERDICT.fullmatch(line))]


def _peer_of(verdict: re.Match[bytes]) -> Peer:
    return Peer(verdict["ip"].decode(), int(verdict["port"]))


def accepted_at(capture: Capture) -> dict[Peer, dt.datetime]:
    """Return the time of each login's ``Accepted`` line in the log."""
    return {_peer_of(v): parse_time(v["time"].decode()) for v in _verdicts(capture) if v["result"] == b"Accepted"}


def password_tries(capture: Capture) -> Counter[Peer]:
    """Count the ``Failed password`` and ``Failed none`` lines of each connection, repeats expanded."""
    tries: Counter[Peer] = Counter()
    for verdict in _verdicts(capture):
        if verdict["result"] == b"Failed" and verdict["method"] in {b"password", b"none"}:
            tries[_peer_of(verdict)] += int(verdict["repeats"] or 1)
    return tries


def true_name(record: Record) -> bytes | None:
    """Return the name that sshd used, before it cut it at 100 bytes; ``None`` if the client sent no name."""
    if "user_effective" in record:
        return str(record["user_effective"]).encode()
    if "user_hex" in record and "user_sent" not in record:
        return bytes.fromhex(record["user_hex"])
    return None if record["user"] is None else str(record["user"]).encode()


def shown_name(name: bytes) -> str:
    r"""Return a name as events show it: bytes that are not UTF-8 as ``\xNN``."""
    return name.decode("utf-8", "backslashreplace")


def expected_login(record: Record, capture: Capture) -> Event:
    """Return the fields that the login of an accepted record must have; ``None`` stands for an absent field."""
    factors = record["auth_method"].split("+")
    method, _, submethod = factors[-1].partition("/")
    # The key of a first factor is in the `Partial` line, which INFO does not show.
    key_is_logged = method == "publickey" or ("publickey" in factors and capture.prefix != "info")
    certificate = record.get("cert", {}) if key_is_logged else {}
    expected: Event = {
        "event.kind": "event",
        "event.outcome": "success",
        "user.name": shown_name(true_name(record) or b""),
        "source.ip": record["src_ip"],
        "source.port": record["src_port"],
        "host.name": record.get("host", "bastion1"),
        "ssh.method": method,
        "ssh.submethod": submethod or None,
        "ssh.key.fingerprint": record.get("key_fp") if key_is_logged else None,
        "ssh.certificate.id": certificate.get("id"),
        "ssh.certificate.serial": certificate.get("serial"),
        "ssh.certificate.ca_fingerprint": certificate.get("ca_fp"),
        "ssh.origin": "verified" if capture.has_trusted_fields else "unverified",
    }
    if method == "hostbased":
        del expected["ssh.key.fingerprint"]  # the client's host key, which the truth does not tell
    return expected


def differences(event: Event, expected: Mapping[str, Any]) -> list[str]:
    """Return one line for each field that is not as expected."""
    return [f"{key}: {event.get(key)!r}, not {value!r}" for key, value in expected.items() if event.get(key) != value]


def describe(record: Record) -> str:
    """Return a record in a few words, for the message of a failed test."""
    return f"#{record['seq']} {record.get('scenario')} ({record.get('src_ip')} port {record.get('src_port')})"


def peer(thing: Event | Record) -> Peer | None:
    """Return the connection of an event or a record; ``None`` if it names none."""
    keys = ("source.ip", "source.port") if "event.action" in thing else ("src_ip", "src_port")
    ip, port = (thing.get(key) for key in keys)
    return None if ip is None or port is None else Peer(str(ipaddress.ip_address(ip)), int(port))


def by_peer(events: Iterable[Event], action: str) -> dict[Peer | None, list[Event]]:
    """Group the events with one action by connection."""
    groups: dict[Peer | None, list[Event]] = {}
    for event in events:
        if event["event.action"] == action:
            groups.setdefault(peer(event), []).append(event)
    return groups


def parse_time(text: str) -> dt.datetime:
    """Read a time of a truth file, a log line or an event."""
    return dt.datetime.fromisoformat(text)


def flattened(value: Mapping[str, Any], prefix: str = "") -> Event:
    """Join nested keys with dots; a key that already has a dot is an error, because objects must be nested."""
    event: Event = {}
    for key, inner in value.items():
        assert "." not in key, f"{prefix}{key} is not nested"
        event |= flattened(inner, f"{prefix}{key}.") if isinstance(inner, dict) else {prefix + key: inner}
    return event


def run(command: str, path: Path) -> list[Event]:
    """Run ``parse`` or ``replay`` on one file, as a user would, and return the events of its output."""
    as_json = ["--format", "json"] if command == "replay" else []
    done = subprocess.run(
        [sys.executable, "-m", "consumer", *on_a_bare_machine(command), *as_json, "--year", "2026", "--tz", "UTC", str(path)],
        cwd=PROJECT_DIR,
        capture_output=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, f"exit {done.returncode}: {done.stderr.decode(errors='replace')}"
    return [flattened(json.loads(line)) for line in done.stdout.splitlines()]


@functools.cache
def replay(capture: Capture) -> list[Event]:
    """Return the events of ``replay`` for a capture; it runs once for all tests."""
    return run("replay", capture.path)


@functools.cache
def parse(capture: Capture) -> list[Event]:
    """Return the events of ``parse`` for a capture; it runs once for all tests."""
    return run("parse", capture.path)
