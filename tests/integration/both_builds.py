"""
Everything that one build of sshbell makes of a log, as bytes that two builds can be compared by.

A test imports this module and asks the plain build. Run as a process, with the compiled build in its path, it answers requests on
standard input.
"""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from datetime import UTC
from pathlib import Path
from typing import IO, Self
from unittest.mock import patch

import msgspec

from consumer.clock import utc
from consumer.ecs import json_line
from consumer.events_as_ecs import of_event
from consumer.framing.framer import Framer
from consumer.framing.timestamps import Timestamps
from consumer.logs.explain import explain_lines
from consumer.logs.parse import event_of_line, records
from consumer.matching import matcher as compiled_stage
from consumer.matching.matcher import Matcher
from consumer.pipeline import Pipeline
from consumer.text import text_of_bytes

NOW_US = 1795400000000000
_SIZE = struct.Struct("!I")
_MATCHER = Matcher()

Facts = dict[str, list[bytes]]


def facts_of(log: bytes) -> Facts:
    """
    Return what sshbell makes of one or more whole lines, by part of the program.

    The pipeline reads the log in two halves. Between them, its memory goes through a snapshot.
    """
    with patch("consumer.pipeline.Matcher", lambda _programs: _MATCHER):  # to lower all rules for each log takes too long
        return _facts_of(log)


def _facts_of(log: bytes) -> Facts:
    reports: list[str] = []
    lines = [line + b"\n" for line in log.split(b"\n")[:-1]]
    live = Pipeline([], UTC, NOW_US, reports.append)
    events, parts = [], {}
    for half in (lines[: len(lines) // 2], lines[len(lines) // 2 :]):
        events += live.feed(b"".join(half)) if half else []
        # In the order of their names: that of a set differs from process to process.
        parts = dict(sorted((name, b"".join(pieces)) for name, pieces in live.changed()))
        other = Pipeline([], UTC, NOW_US, reports.append)
        other.restore((name, [piece]) for name, piece in parts.items())
        live = other
    for hours in (1, 900):
        live.tick(NOW_US)
        events += live.tick(NOW_US + hours * 3_600_000_000)
    framer, stamps = Framer(_MATCHER.is_program, _MATCHER.daemon_of), Timestamps(utc(NOW_US), UTC)
    read = list(records(text_of_bytes(log), framer, _MATCHER, stamps))
    explained = explain_lines(
        f" {lines[0].decode('utf-8', 'surrogateescape')}", _MATCHER, UTC, 2026
    )  # "-" alone would read a file
    return {
        "events": [json_line(of_event(event, ["log"])) for event in events],
        "snapshot": [name.encode("utf-8", "surrogateescape") + piece for name, piece in parts.items()],
        "parse": [json_line(event_of_line(record, found, _MATCHER, 1, "log")) for record, found in read if found is not None],
        "rows": [repr(record).encode() for record, _ in read],
        "explain": [text.encode("utf-8", "surrogateescape") for text in explained],
        "counts": [repr((live.counts, live.examples)).encode()],
        "reports": [text.encode("utf-8", "surrogateescape") for text in reports],
    }


class CompiledBuild:
    """
    A process of the compiled build.

    Args:
        folder: where its wheel is installed.
    """

    def __init__(self, folder: Path) -> None:
        env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(Path.cwd())])}
        self._process = subprocess.Popen([sys.executable, __file__], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_details: object) -> None:
        """End the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()

    def facts_of(self, log: bytes) -> Facts:
        """Return what the compiled build makes of a log."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        _write(self._process.stdin, log)
        answer = _read(self._process.stdout)
        assert answer is not None, "the compiled build has ended; its traceback is on standard error"
        return msgspec.msgpack.decode(answer, type=Facts)


def _write(pipe: IO[bytes], data: bytes) -> None:
    pipe.write(_SIZE.pack(len(data)) + data)
    pipe.flush()


def _read(pipe: IO[bytes]) -> bytes | None:
    head = pipe.read(_SIZE.size)
    return pipe.read(_SIZE.unpack(head)[0]) if len(head) == _SIZE.size else None


def _serve() -> None:
    assert compiled_stage.__file__.endswith(".so"), compiled_stage.__file__
    while (log := _read(sys.stdin.buffer)) is not None:
        _write(sys.stdout.buffer, msgspec.msgpack.encode(facts_of(log)))


if __name__ == "__main__":
    _serve()
