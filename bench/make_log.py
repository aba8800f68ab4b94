#!/usr/bin/env python3
"""
Make a long authentication log from the captured ones, for the other benches.

It repeats the four main captures (two OpenSSH releases, LogLevel VERBOSE and INFO) until the log has the requested number of
lines. In each repetition, every process gets a new PID, every client gets a new address, and the clock goes on. So the log has
as many connections as its length suggests, not the same few over and over::

    bench/make_log.py --lines 400000 --format rfc3339 /tmp/auth.log

That log is the profile ``captures``. The other profiles have the shape of real servers: see ``profiles.py``::

    bench/make_log.py --profile bastion /tmp/auth.log

Equal arguments give equal bytes.
"""

import argparse
import gzip
import os
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from profiles import PROFILES

CAPTURES = Path(__file__).parent.parent / "tests" / "samples" / "captures"
RELEASES = ("openssh-9.2p1-debian12", "openssh-10.5p1-portable")
FORMATS = {
    "rfc3339": "rfc3339.log.gz",
    "traditional": "traditional.log.gz",
    "rfc5424": "rfc5424.log.gz",
    "json": "json.log.gz",
    "jsonmesg": "omprog-jsonmesg.log.gz",
}

# RSYSLOG_TraditionalFileFormat has no year; the captures were made in this one.
CAPTURE_YEAR = 2026
# Early in that year, so that lines without a year do not seem to be in the future.
FIRST_TIME = datetime(CAPTURE_YEAR, 1, 5, tzinfo=UTC)
# Linux's largest pid_max on 64-bit machines, and the PID at which it starts again after a wrap.
PID_MAX = 4_194_304
PID_RESERVED = 300

# The values that change from one repetition to the next: times, PIDs (in the tag, as RFC 5424's field, in JSON, and in the four
# texts that name another process), and the clients' addresses. 127.0.0.1 is the server itself.
CHANGING = re.compile(
    rb"(?P<iso>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}(?=\+00:00))"
    rb"|(?P<bsd>\b[JFMASOND][a-z]{2} [ \d]\d \d\d:\d\d:\d\d(?= ))"
    rb"|(?P<address>\b127\.(?!0\.0\.1\b)\d{1,3}\.\d{1,3}\.\d{1,3}\b)"
    rb'|(?P<pid>(?:(?<=\[)\d+(?=\]:))|(?:(?<= )\d+(?= - - ))|(?:(?<="procid":")|(?<="procid": "))\d+'
    rb"|(?:(?<=child is on pid )|(?<=, pid = )|(?<=otherpid may be ))\d+)",
)

# The profile that repeats the captures.
CAPTURED = "captures"
# After the last line of every profile, up to a million lines, and before a year later.
PROFILE_END = datetime(2025, 12, 31, tzinfo=UTC)

Token = tuple[str, bytes]


@dataclass(frozen=True)
class Capture:
    """One captured log, parsed once."""

    lines: list[tuple[bytes, tuple[Token, ...]]]  # a template for the % operator, and the tokens for it
    tokens: list[Token]  # every distinct token, in order of appearance
    first_time: datetime
    span: timedelta  # whole seconds, so that a shifted traditional time stays exact


def read_capture(path: Path) -> Capture:
    """Parse a captured log."""
    lines = []
    tokens: dict[Token, None] = {}
    with gzip.open(path) as file:
        for line in file:
            found = [(str(match.lastgroup), match[0]) for match in CHANGING.finditer(line)]
            tokens.update(dict.fromkeys(found))
            lines.append((b"%s".join(part.replace(b"%", b"%%") for part in _between(line)), tuple(found)))
    times = [_parse_time(kind, text) for kind, text in tokens if kind in {"iso", "bsd"}]
    first_time = min(times).replace(microsecond=0)
    span = timedelta(seconds=(max(times) - first_time) // timedelta(seconds=1) + 1)
    return Capture(lines, list(tokens), first_time, span)


def make_lines(captures: list[Capture], seed: int) -> Iterator[bytes]:
    """Repeat the captures for ever."""
    source = random.Random(seed)
    pids = _fresh_pids(source)
    now = FIRST_TIME
    while True:
        for capture in captures:
            shift = now - capture.first_time
            now += capture.span
            fresh = {token: _renew(token, shift, pids, source) for token in capture.tokens}
            for template, tokens in capture.lines:
                yield template % tuple([fresh[token] for token in tokens])


def _between(line: bytes) -> Iterator[bytes]:
    start = 0
    for match in CHANGING.finditer(line):
        yield line[start : match.start()]
        start = match.end()
    yield line[start:]


def _parse_time(kind: str, text: bytes) -> datetime:
    if kind == "iso":
        return datetime.fromisoformat(text.decode()).replace(tzinfo=UTC)
    return datetime.strptime(f"{CAPTURE_YEAR} {text.decode()}", "%Y %b %d %H:%M:%S").replace(tzinfo=UTC)


def _renew(token: Token, shift: timedelta, pids: Iterator[int], source: random.Random) -> bytes:
    kind, text = token
    if kind == "iso":
        return f"{_parse_time(kind, text) + shift:%Y-%m-%dT%H:%M:%S.%f}".encode()
    if kind == "bsd":
        time = _parse_time(kind, text) + shift
        return f"{time:%b} {time.day:2d} {time:%H:%M:%S}".encode()
    if kind == "pid":
        return b"%d" % next(pids)
    return b"%d.%d.%d.%d" % (source.randint(128, 223), *source.randbytes(3))


def _fresh_pids(source: random.Random) -> Iterator[int]:
    """Yield PIDs as a busy system assigns them: upwards, with gaps, and again from the start after the last."""
    pid = PID_RESERVED
    while True:
        pid += source.randint(1, 3)
        if pid >= PID_MAX:
            pid = PID_RESERVED
        yield pid


def write_log(path: Path, lines: int, log_format: str = "rfc3339", seed: int = 1, captures: Path = CAPTURES) -> None:
    """Write ``lines`` lines in one of `FORMATS` to ``path``, without holding them in memory."""
    names = [f"{release}/{level}.{FORMATS[log_format]}" for release in RELEASES for level in ("verbose", "info")]
    made = make_lines([read_capture(captures / name) for name in names], seed)
    with path.open("wb") as file:
        file.writelines(line for line, _ in zip(made, range(lines), strict=False))


def write_profile(path: Path, profile: str, lines: int, log_format: str = "rfc3339", seed: int = 1) -> None:
    """Write a log of a profile to ``path``; ``log_format`` is of the profile ``captures``, the others have one each."""
    if profile == CAPTURED:
        write_log(path, lines, log_format, seed)
        return
    with path.open("wb") as file:
        file.writelines(line for line, _ in zip(PROFILES[profile].lines(seed), range(lines), strict=False))
    # Stamps without a year end in the year in which the file was closed.
    ended = PROFILE_END.timestamp()
    os.utime(path, (ended, ended))


def main() -> None:
    """Read the command line and write the log."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--lines", type=int, default=400_000)
    parser.add_argument("--format", choices=FORMATS, default="rfc3339")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--profile", choices=(CAPTURED, *PROFILES), default=CAPTURED)
    parser.add_argument("--captures", type=Path, default=CAPTURES, help="folder with the captured logs")
    options = parser.parse_args()
    if options.profile == CAPTURED:
        write_log(options.out, options.lines, options.format, options.seed, options.captures)
    else:
        write_profile(options.out, options.profile, options.lines, seed=options.seed)


if __name__ == "__main__":
    main()
