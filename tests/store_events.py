"""Events for tests of the store, which the correlator makes from lines, as in ``run``."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from consumer.framing.timestamps import Timestamps
from consumer.matching.matcher import Matcher
from consumer.pipeline import LineReader
from consumer.story.correlate import Correlator

if TYPE_CHECKING:
    from consumer.events import Event

MATCHER = Matcher()
DAY_US = 86400 * 1_000_000
# The time of ``session_lines`` by default.
START = datetime(2026, 11, 22, 10, 0, 0, tzinfo=UTC)
START_US = int(START.timestamp()) * 1_000_000
KEY = "ED25519 SHA256:lj7ZkpHJrXEKLvBHm9iyVhHSZbIXMRVzPQZPPMTQX5Q"


def events_of(*lines: bytes) -> list[Event]:
    """Return the events of whole lines."""
    events: list[Event] = []
    reader = LineReader(MATCHER, Timestamps(datetime(2026, 12, 1, tzinfo=UTC), UTC), keep_text=True)
    correlator = Correlator(MATCHER.rules, lambda name: MATCHER.program(name).family, events.append)
    for place, line in enumerate(lines, 1):
        correlator.feed(reader.lines(line + b"\n", place))
    correlator.settle()
    return events


def line(time_us: int, pid: int, message: str, *, host: str = "web1") -> bytes:
    """Return a line of rsyslog's file format; the message as UTF-8."""
    stamp = datetime.fromtimestamp(time_us / 1_000_000, UTC).isoformat(timespec="microseconds")
    return f"{stamp} {host} sshd[{pid}]: {message}".encode()


def session_lines(
    pid: int, user: str = "alice", *, at_us: int = START_US, lasts_s: int | None = 600, address: str = "192.0.2.7",
    host: str = "web1", method: str = "publickey", info: str = f": {KEY}",
) -> list[bytes]:  # fmt: skip
    """Return the lines of a login, and of its end after ``lasts_s``; None: it has no end."""
    texts = [
        (0, f"Accepted {method} for {user} from {address} port {pid} ssh2{info}"),
        (1, f"pam_unix(sshd:session): session opened for user {user}(uid=1001) by (uid=0)"),
    ]
    if lasts_s is not None:
        texts.append((lasts_s, f"pam_unix(sshd:session): session closed for user {user}"))
    return [line(at_us + second * 1_000_000, pid, text, host=host) for second, text in texts]


def try_line(pid: int, user: str = "root", *, at_us: int = START_US, address: str = "198.51.100.9", host: str = "web1") -> bytes:
    """Return the line of a failed try."""
    return line(at_us, pid, f"Failed password for {user} from {address} port {pid % 60000 + 1} ssh2", host=host)


def forged_line(at_us: int = START_US) -> bytes:
    """Return a line of a user who pretends to be sshd."""
    return line(
        at_us, 1, "Accepted publickey for root from 203.0.113.66 port 40022 ssh2: RSA SHA256:abc @[_PID=3377 _UID=1012 _GID=1012]"
    )


def probe_line(pid: int, *, at_us: int = START_US) -> bytes:
    """Return the line of a scanner."""
    return line(at_us, pid, f"banner exchange: Connection from 198.51.100.77 port {pid}: invalid format")
