"""``sshbell archive`` with the real Spark: its rows are those of ``replay``, and ``history`` and the page's queries read them."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import duckdb
import pytest

from consumer.actions import EventAction
from consumer.clock import SECOND_US, isoformat
from tests import needs
from tests.bare_machine import on_a_bare_machine
from tests.databases import ADDRESS, LYON, made
from tests.documents import PROJECT_DIR, blocks

if TYPE_CHECKING:
    from collections.abc import Iterator

# One worker of pytest-xdist runs all of them, so that Spark starts once.
pytestmark = pytest.mark.xdist_group("archive")

COMMAND = [sys.executable, "-m", "consumer"]
CAPTURES = PROJECT_DIR / "tests/samples/captures"
FLEET = PROJECT_DIR / "docs/fleet.md"
USAGE, DATA, NO_INPUT, UNAVAILABLE = 64, 65, 66, 69

# A login that begins in one year and ends in the next, in lines without years.
NEW_YEAR = (
    b"Dec 31 23:59:58 db2 sshd[7]: Accepted password for dave from 192.0.2.7 port 4711 ssh2\n",
    b"Jan  1 00:00:01 db2 sshd[7]: pam_unix(sshd:session): session closed for user dave\n",
)
# Lines that anybody can write: numbers that no column can hold, years that no calendar has, bytes that no text has.
HOSTILE = b"""\
2026-11-22T10:00:00Z bad sshd[1]: Accepted publickey for eve from 193.252.1.1 port 4711 ssh2: ED25519-CERT SHA256:a ID x (serial %d) CA ED25519 SHA256:b
2026-11-22T10:00:01Z bad sshd[2]: Accepted publickey for eve from 193.252.1.1 port 4712 ssh2: ED25519-CERT SHA256:a ID x (serial %d) CA ED25519 SHA256:b
0001-01-02T00:00:00Z bad sshd[3]: Accepted password for eve from 192.0.2.7 port 4713 ssh2
0001-01-02T00:00:00Z bad sshd[3]: pam_unix(sshd:session): session opened for user eve(uid=1) by (uid=0)
9998-01-02T00:00:00Z bad sshd[3]: pam_unix(sshd:session): session closed for user eve
Feb 31 10:00:00 bad sshd[4]: Failed password for invalid user \xff\x00\x1b[31m'; -- from 192.0.2.7 port 4714 ssh2
2026-11-22T10:00:02Z bad sshd[5]: Failed password for invalid user \xff\x00\x1b[31m'; --\xe2\x80\xae from 192.0.2.7 port 4715 ssh2
""" % (10**30, 2**64 - 1)  # noqa: E501


class Archived(NamedTuple):
    """
    An archive.

    Attributes:
        folder: that it was written to.
        logs: the files it was made of.
        config: the configuration.
        done: how ``sshbell archive`` ended.
    """

    folder: Path
    logs: list[Path]
    config: Path
    done: subprocess.CompletedProcess[str]


def sshbell(*arguments: str | Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command."""
    command = [*COMMAND, *on_a_bare_machine(*arguments)]
    return subprocess.run(
        command, cwd=PROJECT_DIR, capture_output=True, check=False, text=True, env={**os.environ, **(env or {})}
    )


def write(path: Path, content: bytes, closed: datetime = datetime(2026, 11, 30, tzinfo=UTC)) -> None:
    """Write a log that was closed at a time; packed if its name ends like that."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    os.utime(path, (closed.timestamp(), closed.timestamp()))


def write_rotated(folder: Path, content: bytes) -> None:
    """Write a log as four rotated files, cut at any lines."""
    lines = content.splitlines(keepends=True)
    size = -(-len(lines) // 4)
    for name, at in zip(("auth.log.3.gz", "auth.log.2.gz", "auth.log.1", "auth.log"), range(0, len(lines), size), strict=True):
        write(folder / name, b"".join(lines[at : at + size]))


def write_logs(folder: Path) -> None:
    """Write the logs of four hosts, those of one that is far away, and those of a collector that has three more."""
    for host, name in (("hosts/web1", "three-hosts-9.2p1-debian12/web1"), ("far/bastion1", "openssh-10.5p1-portable/verbose")):
        write_rotated(folder / host, gzip.decompress((CAPTURES / f"{name}.traditional.log.gz").read_bytes()))
    write(folder / "hosts/db2/auth.log.1", NEW_YEAR[0], datetime(2025, 12, 31, tzinfo=UTC))
    write(folder / "hosts/db2/auth.log", NEW_YEAR[1], datetime(2026, 1, 31, tzinfo=UTC))
    write(folder / "hosts/bad/auth.log", HOSTILE)
    damaged = folder / "hosts/cut/auth.log.1.gz"
    write(damaged, gzip.decompress((CAPTURES / "openssh-9.2p1-debian12/info.rfc3339.log.gz").read_bytes()))
    damaged.write_bytes(damaged.read_bytes()[:-2000])
    write(folder / "hosts/cut/auth.log", HOSTILE.replace(b" bad ", b" cut ").splitlines(keepends=True)[1])
    merged = gzip.decompress((CAPTURES / "three-hosts-9.2p1-debian12/merged.rfc3339.log.gz").read_bytes())
    write_rotated(folder / "collector", merged.replace(b" web", b" app").replace(b" db1", b" sql1"))


@pytest.fixture(scope="module")
def archived(tmp_path_factory: pytest.TempPathFactory) -> Archived:
    """Write an archive to an empty directory."""
    needs.program("java", "openjdk-17-jre-headless")
    folder = tmp_path_factory.mktemp("archive")
    write_logs(folder)
    database = made(folder / "city.mmdb", LYON, kind="Test-City")
    config = folder / "sshbell.toml"
    config.write_text(f'geoip = ["{database}"]\npeople = "{folder}/none.toml"\nstate_dir = "{folder}/none"\n')
    (folder / "out").mkdir()
    sources = [str(folder / "hosts"), f"file://{folder}/far", f"file://{folder}/collector"]
    done = sshbell("archive", *sources, "--out", folder / "out", "--config", config, "--tz", "UTC")
    return Archived(folder / "out", [path for path in sorted(folder.rglob("auth.log*")) if path.is_file()], config, done)


def files(archived: Archived) -> list[str]:
    """Return the files of an archive."""
    return [str(path) for path in archived.folder.rglob("*.parquet")]


def as_json(value: Any) -> Any:
    """Return a value of an archive as ``replay`` writes it; None for one that it leaves out."""
    match value:
        case dict():
            found = {name: as_json(part) for name, part in value.items()}
            return {name: part for name, part in found.items() if part not in (None, [], {})} or None
        case datetime():
            return isoformat((value.replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // (datetime.resolution))
        case Decimal():
            return int(value)
    return value


def rows(archived: Archived) -> Iterator[dict[str, Any]]:
    """Yield the rows of an archive as objects of ``replay``."""
    with duckdb.connect() as connection:
        connection.execute("SET timezone = 'UTC'")
        cursor = connection.execute("SELECT * EXCLUDE day FROM read_parquet($files)", {"files": files(archived)})
        names = [column[0] for column in cursor.description]
        for row in cursor.fetchall():
            found = as_json(dict(zip(names, row, strict=True)))
            found["log"]["file"]["path"] = found["log"]["file"]["path"].removeprefix("file://")
            yield found


def replayed(archived: Archived) -> list[dict[str, Any]]:
    """Return what ``replay`` shows of the same files, without findings."""
    done = sshbell("replay", "--format", "json", "--no-owners", "--config", archived.config, "--tz", "UTC", *archived.logs)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return [event for event in found if not EventAction(event["event"]["action"]).is_finding]


def in_order(events: Any) -> list[str]:
    """Return events as sorted texts, to compare."""
    return sorted(json.dumps(event, sort_keys=True) for event in events)


def test_the_rows_are_those_of_replay(archived: Archived) -> None:
    """Every field of every event, of hosts with files of their own, here and on another file system, and of a collector's."""
    expected = replayed(archived)
    for event in expected:
        # Numbers that no column can hold.
        if event["event"].get("duration", 0) >= 1 << 63:
            del event["event"]["duration"]
        if event["ssh"].get("certificate", {}).get("serial", 0) >= 10**20:
            del event["ssh"]["certificate"]["serial"]
    assert in_order(rows(archived)) == in_order(expected)
    hosts = {event["host"]["name"] for event in expected}
    assert hosts >= {"web1", "bastion1", "db2", "bad", "cut", "app1", "app2", "sql1"}
    assert any(event.get("source", {}).get("geo", {}).get("city_name") == "Lyon" for event in expected)


def test_a_session_goes_on_in_the_next_file(archived: Archived) -> None:
    """And in the next year, although no line has one."""
    (logout,) = [row for row in rows(archived) if row["host"]["name"] == "db2" and row["event"]["action"] == "ssh_logout"]
    assert (logout["event"]["start"], logout["event"]["end"]) == ("2025-12-31T23:59:58.000000Z", "2026-01-01T00:00:01.000000Z")
    assert logout["event"]["duration"] == 3 * SECOND_US * 1000


def test_each_day_has_a_directory(archived: Archived) -> None:
    """A query for a day reads that directory alone. Events without a time have one, too."""
    days = {path.name for path in archived.folder.iterdir() if path.is_dir()}
    assert {"day=2025-12-31", "day=2026-01-01", "day=2026-11-22", "day=0001-01-02", "day=__HIVE_DEFAULT_PARTITION__"} <= days


def test_a_damaged_file_is_named(archived: Archived) -> None:
    """The command says which file it could not read to its end, and reads the others."""
    assert archived.done.returncode == DATA, archived.done.stderr
    assert "cut/auth.log.1.gz: the archive is damaged or truncated" in archived.done.stderr
    # Spark and Java write nothing here.
    assert all(line.startswith("sshbell: ") for line in archived.done.stderr.splitlines())
    lines = sum(
        len(gzip.decompress(path.read_bytes()).splitlines()) if path.suffix == ".gz" else len(path.read_bytes().splitlines())
        for path in archived.logs
        if path.parent.name != "cut"
    )
    assert int(archived.done.stdout.partition(" lines read")[0].replace(",", "")) > lines
    assert archived.done.stdout.endswith(f" {len(replayed(archived)):,} events in {archived.folder}\n")


def history(archived: Archived, *options: str) -> str:
    """Return what ``history`` shows of an archive."""
    done = sshbell("history", "--from-archive", archived.folder, "--config", archived.config, "--tz", "UTC", *options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_history_of_an_archive(archived: Archived) -> None:
    """It shows the same events as ``replay``, but for what the store does not keep either."""
    shown = [json.loads(line) for line in history(archived, "--events", "--json").splitlines()]
    expected = replayed(archived)
    for event in expected:
        event["event"].pop("original", None)
        event.pop("process", None)
        event.pop("log", None)
        event["ssh"].pop("invalid_user", None)
        event["ssh"].pop("session", None)
        if event["ssh"].get("certificate", {}).get("serial", 0) >= 10**20:
            del event["ssh"]["certificate"]  # sshd writes none without a number
    assert in_order(shown) == in_order(expected)
    times = [event["@timestamp"] for event in shown if "@timestamp" in event]
    assert times == sorted(times)


@pytest.mark.parametrize(
    ("options", "users"),
    [
        (["--host", "db2"], ["dave"]),
        (["--host", "db2", "--since", "2026-01-01"], ["dave"]),
        (["--host", "db2", "--since", "2026-01-02"], []),
        (["--host", "db2", "--until", "2025-12-31"], []),
        (["--user", "eve", "--limit", "1", "--since", "2026-11-22"], ["eve"]),
        (["--address", "193.252.0.0/16", "--host", "bad"], ["eve", "eve"]),
    ],
)
def test_history_selects(archived: Archived, options: list[str], users: list[str]) -> None:
    """The options mean what they mean for the store: a session counts that was open between the bounds."""
    found = [json.loads(line) for line in history(archived, "--json", *options).splitlines()]
    assert [session["user"]["name"] for session in found] == users


def test_history_as_a_table(archived: Archived) -> None:
    """A certificate, a key and the end of a session look as they do in the store."""
    shown = history(archived, "--host", "bad", "--since", "2026-11-22")
    assert f"eve               {ADDRESS} port 4712" in shown
    assert "publickey ED25519-CERT SHA256:a certificate x" in shown
    assert "3 s" in history(archived, "--host", "db2")


def test_the_queries_of_the_page(archived: Archived) -> None:
    """Each query of docs/fleet.md runs, and finds something."""
    found = [block.text for block in blocks(FLEET, "sql")]
    assert len(found) == 3
    with duckdb.connect() as connection:
        for query in found:
            local = query.replace("/srv/ssh-2026/", f"{archived.folder}/")
            assert local != query
            assert connection.execute(local).fetchall(), query


def test_the_python_of_the_page(archived: Archived, tmp_path: Path) -> None:
    """So does the example for other engines."""
    (block,) = blocks(FLEET, "python")
    script = tmp_path / "logins.py"
    script.write_text(block.text.replace("/var/log/hosts", str(archived.folder.parent / "hosts")), encoding="utf-8")
    env = {**os.environ, "PYTHONPATH": str(PROJECT_DIR)}
    done = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, check=False, text=True, env=env)
    logins = [row for row in rows(archived) if row["event"]["action"] == "ssh_login" and "/hosts/" in row["log"]["file"]["path"]]
    assert (done.stdout, done.stderr) == (f"{len(logins)} logins\n", "")


def test_a_run_that_fails(tmp_path: Path) -> None:
    """The error has the cause in one line, without Java's stack. What is left is an empty directory, as the next run takes it."""
    needs.program("java", "openjdk-17-jre-headless")
    (tmp_path / "auth.log").touch()
    out = tmp_path / "out"
    done = sshbell("archive", tmp_path / "auth.log", "--out", out, env={"PYSPARK_PYTHON": "/nonexistent/python"})
    assert done.returncode == UNAVAILABLE
    assert done.stderr.splitlines()[-1].startswith("sshbell: Spark: ")
    assert "No such file or directory" in done.stderr.splitlines()[-1]
    assert "\tat " not in done.stderr
    # Nothing else, but a file with all of it.
    (line,) = done.stderr.splitlines()
    log = Path(line.rpartition("; see ")[2])
    assert "\tat " in log.read_text()
    log.unlink()
    assert not list(out.glob("*"))


def test_faults_of_the_command(tmp_path: Path) -> None:
    """Each has its exit code, and none starts Spark."""
    (tmp_path / "auth.log").touch()
    (tmp_path / "there/day=2026-11-22").mkdir(parents=True)
    done = sshbell("archive", tmp_path / "auth.log", "--out", tmp_path / "there")
    assert (done.returncode, "name a new directory" in done.stderr) == (USAGE, True)
    done = sshbell("archive", tmp_path / "none", "--out", tmp_path / "out")
    assert (done.returncode, done.stderr) == (NO_INPUT, f"sshbell: {tmp_path}/none: No such file or directory\n")
    done = sshbell("archive", tmp_path / "there", "--out", tmp_path / "out")
    assert (done.returncode, done.stderr) == (NO_INPUT, f"sshbell: {tmp_path}/there: there are no files\n")
    done = sshbell("archive", tmp_path / "auth.log", "--out", tmp_path / "out", env={"PATH": "", "JAVA_HOME": ""})
    assert (done.returncode, "apt install openjdk-17-jre-headless" in done.stderr) == (UNAVAILABLE, True)
    done = sshbell("history", "--from-archive", tmp_path)
    assert (done.returncode, done.stderr) == (NO_INPUT, f"sshbell: {tmp_path}: it has no archive; sshbell archive writes one\n")


@pytest.mark.parametrize(
    ("package", "arguments"),
    [
        ("pyarrow", ["archive", "logs", "--out", "none"]),
        ("pyspark", ["archive", "logs", "--out", "none"]),
        ("duckdb", ["history", "--from-archive", "none"]),
    ],
)
def test_without_the_extra(package: str, arguments: list[str]) -> None:
    """The commands say what to install."""
    script = f"import sys; sys.modules[{package!r}] = None; from consumer.cli import main; main({arguments!r})"
    done = subprocess.run([sys.executable, "-c", script], cwd=PROJECT_DIR, capture_output=True, check=False, text=True)
    advice = " is missing; run: /opt/sshbell/bin/pip install 'sshbell[spark]'\n"
    assert done.returncode == UNAVAILABLE
    assert done.stderr.startswith(f"sshbell: {package}")
    assert done.stderr.endswith(advice)
