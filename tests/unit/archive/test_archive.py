"""The parts of an archive that need no Spark: the columns, the pieces of a collector's files, and how work is shared."""

from __future__ import annotations

import gzip
import os
from datetime import UTC
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from consumer.archive.columns import SCHEMA, batches_of
from consumer.archive.host_events import HostReport, ReadingSettings, events_of_host
from consumer.archive.mixed_files import HostPiece, events_of_pieces, pieces_of_file
from consumer.archive.remote_files import Copies
from consumer.archive.sources import Sources, shared, sources_of
from consumer.errors import DataError, InputError
from tests.documents import PROJECT_DIR
from tests.ecs_events import ecs

if TYPE_CHECKING:
    from consumer.ecs import EcsEvent

MERGED = PROJECT_DIR / "tests/samples/captures/three-hosts-9.2p1-debian12/merged.rfc3339.log.gz"
SETTINGS = ReadingSettings(zone=UTC)


def in_order(events: list[EcsEvent]) -> list[bytes]:
    """Return events as sorted JSON, to compare."""
    return sorted(map(msgspec.json.encode, events))


def split(paths: list[str], reports: list[HostReport]) -> list[HostPiece]:
    """Return the pieces of files, not in order."""
    pieces = [piece for number, path in enumerate(paths) for piece in pieces_of_file(number, path, SETTINGS, reports.append)]
    return sorted(pieces, key=lambda piece: hash(piece.lines))


def joined(pieces: list[HostPiece], paths: list[str]) -> list[EcsEvent]:
    """Return the events of all hosts, as Spark brings their pieces together."""
    return [
        event
        for _host, some in groupby(sorted(pieces), key=attrgetter("host"))
        for event in events_of_pieces((piece.lines for piece in some), paths, SETTINGS)
    ]


@pytest.mark.parametrize("waiting", [1, 7, 100_000])
def test_a_collectors_files_are_split_by_host(waiting: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many lines a piece waits for, and in whatever order pieces come: the events are those of a reader of all lines."""
    monkeypatch.setattr("consumer.archive.mixed_files._WAITING_LINES", waiting)
    monkeypatch.setattr("consumer.intake.files.BLOCK_SIZE", 500)
    lines = gzip.decompress(MERGED.read_bytes()).splitlines(keepends=True)
    paths = [str(tmp_path / name) for name in ("c.log", "c.log.1")]
    (tmp_path / "c.log").write_bytes(b"".join(lines[300:]))
    (tmp_path / "c.log.1").write_bytes(b"".join(lines[:300]))
    reports: list[HostReport] = []
    pieces = split(paths, reports)
    assert {piece.host for piece in pieces} == {"web1", "web2", "db1"}
    found = joined(pieces, paths)
    assert in_order(found) == in_order(list(events_of_host(paths, SETTINGS)))
    assert sum(report.lines for report in reports) == len(lines)


def test_faults_are_in_the_report(tmp_path: Path) -> None:
    """A damaged file and a missing one raise nothing; the others are read."""
    damaged, missing = tmp_path / "auth.log.1.gz", tmp_path / "auth.log.2.gz"
    damaged.write_bytes(MERGED.read_bytes()[:-500])
    reports: list[HostReport] = []
    found = list(events_of_host([str(damaged), str(missing), str(MERGED)], SETTINGS, reports.append))
    (report,) = reports
    assert [type(error) for error in sorted(report.errors, key=str)] == [DataError, InputError]
    assert report.events == len(found) > 0
    reports.clear()
    split([str(damaged), str(missing)], reports)
    assert [type(error) for report in reports for error in report.errors] == [DataError, InputError]


def rows(*events: dict[str, Any]) -> list[dict[str, Any]]:
    """Return events as rows."""
    return [row for batch in batches_of([ecs(event) for event in events]) for row in batch.to_pylist()]


def test_numbers_that_no_column_can_hold_are_missing() -> None:
    """One forged line must not end the whole run. The row keeps its other values, and the other rows keep theirs."""
    forged = {"event": {"duration": 1 << 63, "id": "a"}, "ssh": {"certificate": {"serial": 10**20, "id": "x"}}}
    real = {"event": {"duration": 1, "id": "b"}, "ssh": {"certificate": {"serial": 2**64 - 1}}}
    first, second = rows(forged, real)
    assert (first["event"]["duration"], first["event"]["id"]) == (None, "a")
    assert (first["ssh"]["certificate"]["serial"], first["ssh"]["certificate"]["id"]) == (None, "x")
    assert (second["event"]["duration"], second["ssh"]["certificate"]["serial"]) == (1, 2**64 - 1)


def test_any_text_fits() -> None:
    """Control characters, quotes, a NUL and characters outside of the basic plane come back as they were."""
    text = "\0\x1b[31m\"'\\\n\u202e\U0001f600"
    (row,) = rows({"user": {"name": text}, "event": {"original": text * 100}})
    assert (row["user"]["name"], row["event"]["original"]) == (text, text * 100)


def test_the_columns_have_the_names_of_the_fields() -> None:
    """A query uses the names that docs/messages.md explains."""
    assert SCHEMA.field("source").type.field("geo").type.field("country_iso_code").type == "string"
    assert str(SCHEMA.field("@timestamp").type) == "timestamp[us, tz=UTC]"


def test_sources(tmp_path: Path) -> None:
    """A directory of logs has a directory for each host; other files are those of collectors."""
    for name in ("logs/web1/auth.log", "logs/web1/old/auth.log.1.gz", "logs/web2/auth.log", "logs/all.log", "other.log"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x" * 10)
    found = sources_of([str(tmp_path / "logs"), str(tmp_path / "other.log")])
    logs = tmp_path / "logs"
    assert found == Sources(
        {
            str(logs / "web1"): [str(logs / "web1/auth.log"), str(logs / "web1/old/auth.log.1.gz")],
            str(logs / "web2"): [str(logs / "web2/auth.log")],
        },
        [str(logs / "all.log"), str(tmp_path / "other.log")],
        dict.fromkeys(found.sizes, 10) | {str(logs / "web1/old/auth.log.1.gz"): 100},
    )
    with pytest.raises(InputError, match="No such file"):
        sources_of([str(tmp_path / "none")])


def test_the_largest_comes_first() -> None:
    """No list waits for a giant at its end, and all lists are of about one size."""
    assert shared({"a": 1, "b": 100, "c": 50, "d": 49}, 2) == [["b"], ["c", "d", "a"]]
    assert shared({"a": 1}, 8) == [["a"]]


def test_files_of_another_file_system(tmp_path: Path) -> None:
    """They are listed and named as they were given, keep the time of their last change, and are copied no longer than needed."""
    (tmp_path / "logs/web1").mkdir(parents=True)
    packed = tmp_path / "logs/web1/auth.log.1.gz"
    packed.write_bytes(MERGED.read_bytes())
    os.utime(packed, (1_700_000_000, 1_700_000_000))
    found = sources_of([f"file://{tmp_path}/logs/"])
    (paths,) = found.hosts.values()
    assert paths == [f"file://{packed}"]
    reports: list[HostReport] = []
    with Copies([*paths, f"file://{tmp_path}/none.log"]) as copies:
        (copy,) = copies.paths
        assert Path(copy).stat().st_mtime == 1_700_000_000
        events = list(
            copies.named(events_of_host(copies.paths, SETTINGS, lambda report: reports.append(copies.reported(report))))
        )
    assert not Path(copy).exists()
    assert {event.log.file.path for event in events} == {f"file://{packed}"}
    assert len(events) == len(list(events_of_host([str(MERGED)], SETTINGS)))
    ((error,),) = [report.errors for report in reports]
    assert str(error).startswith(f"file://{tmp_path}/none.log: ")


def test_a_damaged_copy_is_named(tmp_path: Path) -> None:
    """By its own name, not that of the copy."""
    damaged = tmp_path / "auth.log.gz"
    damaged.write_bytes(MERGED.read_bytes()[:-500])
    reports: list[HostReport] = []
    with Copies([f"file://{damaged}"]) as copies:
        list(events_of_host(copies.paths, SETTINGS, lambda report: reports.append(copies.reported(report))))
    ((error,),) = [report.errors for report in reports]
    assert str(error).startswith(f"file://{damaged}: the archive is damaged")


@pytest.mark.parametrize("path", ["file:///nonexistent", "nosuchscheme://bucket/logs"])
def test_another_file_system_that_has_no_logs(path: str) -> None:
    """The message names the path, and Spark does not start."""
    with pytest.raises(InputError, match=f"^{path}: "):
        sources_of([path])
