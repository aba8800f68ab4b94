"""``replay`` writes the same bytes with any number of processes, and the same as one reader that never looks up from its file."""

from __future__ import annotations

import functools
import gzip
import os
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from unittest.mock import patch

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from consumer.ecs import json_line
from consumer.events_as_ecs import of_event
from consumer.framing.timestamps import Timestamps
from consumer.intake import files
from consumer.logs.replay import Replay
from consumer.matching.matcher import Matcher
from consumer.pipeline import LineReader
from consumer.story.correlate import Correlator
from tests.budget import examples

if TYPE_CHECKING:
    from consumer.events import Event

ROOT = Path(__file__).parents[2]
CAPTURES = ROOT / "tests/samples/captures"
ENDED = datetime(2025, 12, 31, tzinfo=UTC).timestamp()

# Stamps whose year follows from the order of the months, out of order, in other languages ("maj" and "mar" are names in several),
# and with a year of their own.
STAMPS = (
    "Jan  1 00:00:01", "Feb 29 12:00:00", "Mar 31 02:30:00", "Jun 15 12:00:00", "Jul  1 12:00:00", "Dec 31 23:59:59",
    "Dec  1 1:00:00", "maj 17 12:00:00", "mar 17 12:00:00",
    "Mär 17 12:00:00", "juin 17 12:00:00", "okt 17 12:00:00", "lis 17 12:00:00",
    "2024-12-31T23:59:59+00:00", "2025-01-01T00:00:00.123456+00:00", "Sun 2025-11-30 09:57:28 UTC",
)  # fmt: skip
TEXTS = (
    "Failed password for root from 192.0.2.1 port {n} ssh2",
    "Failed password for root from 192.0.2.1 port 5 ssh2",
    "Failed password for invalid user last message repeated 2 times from 192.0.2.1 port {n} ssh2",
    "Invalid user last message x from 192.0.2.1 port {n}",
    "Accepted publickey for alice from 192.0.2.2 port {n} ssh2: ED25519 SHA256:abc",
    "pam_unix(sshd:session): session opened for user alice(uid=1000) by (uid=0)",
    "pam_unix(sshd:session): session closed for user alice",
    "message repeated 2 times: [ Failed password for root from 192.0.2.1 port 5 ssh2]",
    "error: Could not load host key: /etc/ssh/x",
    "Connection closed by 192.0.2.1 port {n} [preauth]",
)
# With stamp, host, PID and text of another line.
LINES = (
    "{stamp} {host} sshd[{pid}]: {text}",
    "{stamp} {host} sshd[{pid}]: {text}",
    "{stamp} {host} sshd[{pid}]: {text}",
    "{stamp} {host} last message repeated 3 times",
    "{stamp} last message repeated 3 times",
    "{stamp} {host} cron[{pid}]: (root) CMD (last message repeated 2 times)",
    '{{"ts":"{stamp}","host":"{host}","tag":"sshd[{pid}]:","prog":"sshd","procid":"{pid}","msg":" {text}"}}',
    '{{"ts":"{stamp}","host":"{host}","tag":"last","prog":"last","procid":"","msg":"l\\u0061st message repeated 2 times"}}',
    "web-1  | {stamp} {host} sshd[{pid}]: {text}",
    "{text}",
    "\r",
    "",
)

_ONE_HOUR = (b"Jan  1 00:00:01", b"Jan  1 00:00:01", b"okt 17 12:00:00", b"Jan  1 00:00:01")

hosts = st.sampled_from(("web1", "web2", "db1"))
lines = st.builds(
    lambda line, stamp, host, pid, text, n: line.format(stamp=stamp, host=host, pid=pid, text=text.format(n=n)),
    st.sampled_from(LINES), st.sampled_from(STAMPS), hosts, st.integers(1, 4), st.sampled_from(TEXTS), st.integers(4, 9),
)  # fmt: skip
logs = st.lists(lines, min_size=1, max_size=40).map(lambda found: "".join(f"{line}\n" for line in found).encode())


@functools.cache
def matcher() -> Matcher:
    """Return the one matcher; it has no memory of lines."""
    return Matcher()


def told(jobs: int, paths: list[str], year: int | None = None) -> bytes:
    """Return what a replay tells, as JSON lines and counts."""
    found: list[bytes] = []
    names: list[str] = []
    replay = Replay(
        matcher(), zone=UTC, year=year, jobs=jobs, paths=names, tell=lambda event: found.append(json_line(of_event(event, names)))
    )
    summary = replay.run(paths)
    assert replay.errors == []
    return b"".join(found) + repr(summary).encode()


def read_in_a_row(path: str, year: int | None) -> bytes:
    """Return the events of one file whose lines one reader reads, and never goes back to an earlier state."""
    found: list[Event] = []
    file = files.LogFile(path)
    timestamps = Timestamps(file.modified, UTC, file.first_year() if year is None else year)
    reader = LineReader(matcher(), timestamps, keep_text=True)
    correlator = Correlator(matcher().rules, lambda name: matcher().program(name).family, found.append)
    place = 1
    for block in file.blocks():
        correlator.feed(reader.lines(block, place))
        place += block.count(b"\n")
    correlator.settle()
    return b"".join(json_line(of_event(event, [path])) for event in found)


@examples(60)
@example(
    contents=[b"".join(b"%s web1 sshd[1]: Failed password for root from 192.0.2.1 port 4 ssh2\n" % stamp for stamp in _ONE_HOUR)],
    size=120,
    year=2023,
)  # the third stamp turns the year, and its hour cannot be remembered
@given(st.lists(logs, min_size=1, max_size=3), st.sampled_from((120, 300, 2000)), st.sampled_from((None, 2023)))
def test_processes_never_matter(contents: list[bytes], size: int, year: int | None) -> None:
    """Whatever a line needs from the lines before it: in one file or several, plain or packed, with the year given or not."""
    with tempfile.TemporaryDirectory() as folder, patch.object(files, "BLOCK_SIZE", size):
        paths = []
        for number, content in enumerate(contents):
            path = Path(folder) / f"auth.log.{number}"
            path.write_bytes(gzip.compress(content) if number % 2 else content)
            os.utime(path, (ENDED, ENDED))
            paths.append(str(path))
        one = told(1, paths, year)
        assert told(2, paths, year) == one
        assert told(3, paths, year) == one
        assert one.startswith(read_in_a_row(paths[0], year)) or len(paths) > 1


@pytest.mark.bulk
@pytest.mark.parametrize("capture", sorted(path.name for path in CAPTURES.iterdir() if path.is_dir()))
def test_processes_never_matter_to_a_capture(capture: str) -> None:
    """Each capture in each format, and all its files as one replay."""
    paths = sorted(str(path) for path in (CAPTURES / capture).glob("*.log.gz"))
    with patch.object(files, "BLOCK_SIZE", 4096):
        for some in (*([path] for path in paths), paths):
            assert told(1, some) == told(2, some)


@pytest.mark.bulk
@pytest.mark.parametrize("profile", ["captures", "old-server", "flood", "bastion", "relay", "quiet"])
@pytest.mark.parametrize("year", [None, 2020])
def test_processes_never_matter_to_a_profile(profile: str, year: int | None, tmp_path: Path) -> None:
    """Logs with the shape of real servers: over many months without a year, from three hosts and from 2,000."""
    path = tmp_path / "auth.log"
    command = [sys.executable, str(ROOT / "bench/make_log.py"), "--profile", profile, "--lines", "12000", str(path)]
    subprocess.run(command, check=True)
    with patch.object(files, "BLOCK_SIZE", 8192):
        assert told(1, [str(path)], year) == told(2, [str(path)], year) == told(3, [str(path)], year)
