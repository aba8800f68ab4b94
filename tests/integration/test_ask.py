"""``who``, ``history`` and ``status`` as people and scripts call them, on a store that ``run`` would have written."""

from __future__ import annotations

import csv
import fcntl
import io
import json
import os
import re
import sqlite3
import stat
import subprocess
import sys
import time
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from consumer import __version__
from consumer.config_file import load
from consumer.detect_settings import Detect
from consumer.events import Login
from consumer.events_as_ecs import of_event
from consumer.process.lock import RUN_LOCK, holder_of
from consumer.store.database import open_for_writing
from consumer.system import status as status_module
from consumer.text import harmless
from tests.detector_events import findings_of
from tests.ecs_events import fields_of
from tests.integration.site import PROJECT_DIR, Site, mail_channel
from tests.integration.terminal import on_a_terminal
from tests.store_events import DAY_US, KEY, events_of, forged_line, probe_line, session_lines, try_line
from tests.waiting import DEADLINE_S, wait_for

OK, WARNING, CRITICAL, UNKNOWN = range(4)
USAGE, STORE, RIGHTS, CONFIG = 64, 74, 77, 78
# The commands ask the wall clock what is long ago; sessions began two hours ago, at a whole second.
NOW_US = time.time_ns() // 1_000_000_000 * 1_000_000
AT_US = NOW_US - 2 * 3600 * 1_000_000
TOLD = frozenset({"ssh_login"})
FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", r"\tx", r"\rx", '"quoted, twice"']


def shown(time_us: int) -> str:
    """Return a time as tables show it."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(time_us // 1_000_000))


def who_is_in(site: Site) -> list[Any]:
    """Fill a store: alice is in, bob was, carol's end was lost long ago."""
    return site.fill(
        *session_lines(1, "carol", at_us=NOW_US - 40 * DAY_US, lasts_s=None),
        *session_lines(2, "bob", at_us=AT_US - DAY_US),
        *session_lines(3, "alice", at_us=AT_US, lasts_s=None),
        *session_lines(4, "dave", at_us=AT_US + 5_000_000, lasts_s=None, host="db1", method="password", info=""),
    )


def test_who(site: Site) -> None:
    """Who is in, since when, from where, with which key, on which host; those who left, and whose end was lost, are not shown."""
    who_is_in(site)
    done = site.ask("who")
    assert done.stdout.splitlines() == [
        "since                user              from                         host            who and how",
        f"{shown(AT_US)}  alice             192.0.2.7 port 3             web1            publickey {KEY}",
        f"{shown(AT_US + 5_000_000)}  dave              192.0.2.7 port 4             db1             password",
        "left out: 1 from more than 30 days ago, whose end the log does not show",
    ]
    assert done.stderr == ""


def test_who_json(site: Site) -> None:
    """One object a line, with the fields of ``replay``; the count of what is left out goes to standard error."""
    login = next(event for event in who_is_in(site) if event.user == "alice")
    assert isinstance(login, Login)
    (alice, dave) = site.objects("who")
    expected = fields_of(of_event(login, []))
    for name in ("process", "log"):
        expected.pop(name, None)
    del expected["event"]["original"]
    expected["source"]["geo"] = {"name": "documentation"}
    assert alice == expected
    assert alice["ssh"]["key"] == {"type": "ED25519", "fingerprint": KEY.partition(" ")[2]}
    assert (dave["host"], dave["ssh"]) == ({"name": "db1"}, {"method": "password", "origin": "unverified"})
    assert "left out: 1 " in site.ask("who", "--json").stderr


def test_explain_a_finding(site: Site) -> None:
    """The id of a finding, or its beginning, shows its detector, its rule, its time, and the events that it rests on."""
    login, *_ = site.fill(*session_lines(5, "root", at_us=AT_US, method="password", info=""))
    (finding,) = findings_of([login])
    with site.state() as state:
        state.record([finding], frozenset(), NOW_US)
    said = site.ask("explain", finding.id).stdout
    assert said == site.ask("explain", finding.id[:8]).stdout
    assert said.startswith("root logged in to web1 by password from 192.0.2.7\n")
    for line in ("detector:  root_by_password (T1078.003)", "severity:  medium (47)", f"from:      {shown(AT_US)} UTC"):
        assert line in said.splitlines()
    assert said.splitlines()[-1].split() == [*shown(AT_US).split(), "login", "root", "192.0.2.7", "port", "5", "web1", "password"]
    assert "login" in site.ask("explain", login.id).stdout
    assert "begins with 0123456789ab" in site.ask("explain", "0123456789ab", status=USAGE).stderr


def test_explain_shows_the_lines(site: Site) -> None:
    """A log file that still has the lines of a finding shows them, with their places, and the answer counts the missing ones."""
    tries = [try_line(pid) for pid in range(1, 13)]
    (finding,) = [found for found in findings_of(site.fill(*tries), Detect()) if found.action == "guessing"]
    with site.state() as state:
        state.record([finding], frozenset(), NOW_US)
    site.log.write_bytes(b"".join(line + b"\n" for line in (*tries[:2], b"something else", *tries[2:])))
    said = site.ask("explain", finding.id, "--log", site.log).stdout
    assert finding.event_ids
    assert said.count(f"{site.log}:") == len(finding.event_ids)
    assert said.splitlines()[-1].startswith(f"{site.log}:13: ")
    assert said.splitlines()[-1].endswith(tries[-1].decode().partition("]: ")[2])
    other = site.folder / "auth.log.1"
    other.write_bytes(tries[-1] + b"\n")
    said = site.ask("explain", finding.event_ids[-1], "--log", other).stdout
    assert said.splitlines()[-1].startswith(f"{other}:1: ")
    other.write_bytes(b"")
    assert site.ask("explain", finding.event_ids[-1], "--log", other).stdout.endswith("1 line is not in these files\n")
    assert "nowhere" in site.ask("explain", finding.id, "--log", site.folder / "nowhere", status=66).stderr
    assert "needs the ID of an event" in site.ask("explain", "sshd[1]: x", "--log", other, status=USAGE).stderr


def test_where_nobody_can_be_asked(site: Site) -> None:
    """Where there is no socket of ``keys``, a table does not pay for what asking would need."""
    who_is_in(site)
    for command in ("who", "history"):
        said = site.ask(command, env={"PYTHONPROFILEIMPORTTIME": "1"}).stderr
        assert ("consumer.show.owner_names" in said, "asyncio" in said) == (True, False)


def test_who_selects(site: Site) -> None:
    """By user and by host, also in the count of what is left out; nobody is no error."""
    who_is_in(site)
    assert [found["user"]["name"] for found in site.objects("who", "--user", "dave")] == ["dave"]
    assert [found["user"]["name"] for found in site.objects("who", "--host", "web1")] == ["alice"]
    nobody = site.ask("who", "--host", "db1", "--user", "alice")
    assert (nobody.stdout, nobody.stderr) == ("", "nobody is logged in\n")
    assert site.ask("who", "--user", "carol").stdout.startswith("left out: 1 ")


def test_while_run_writes(site: Site) -> None:
    """Neither command waits for the writer, nor the writer for them, and each sees what is committed."""
    with site.state() as state:
        state.record(events_of(*session_lines(3, at_us=AT_US, lasts_s=None)), TOLD, NOW_US)
        with closing(sqlite3.connect(site.state_dir / "state.db", isolation_level=None)) as writer:
            writer.execute("BEGIN IMMEDIATE")
            writer.execute("DELETE FROM session")
            assert len(site.objects("who")) == len(site.objects("history")) == 1
            site.ask("status", status=CRITICAL)
            writer.execute("COMMIT")
        assert site.objects("who") == []


def test_nothing_is_changed(site: Site) -> None:
    """Asking leaves the databases as they are, and makes nothing that others could read."""
    who_is_in(site)
    before = (site.state_dir / "state.db").read_bytes()
    for command in ("who", "history"):
        site.ask(command)
    site.ask("status", status=CRITICAL)
    assert (site.state_dir / "state.db").read_bytes() == before
    assert {stat.S_IMODE(file.stat().st_mode) for file in site.state_dir.iterdir()} == {0o600}
    assert {file.name for file in site.state_dir.iterdir()} <= {"state.db", "state.db-wal", "state.db-shm"}


def everything(site: Site) -> list[Any]:
    """Fill a store with one of each kind, on three days."""
    return site.fill(
        *session_lines(1, "bob", at_us=AT_US - 2 * DAY_US, lasts_s=61, address="203.0.113.7"),
        *session_lines(2, "alice", at_us=AT_US - DAY_US, host="db1", address="2001:db8::7"),
        try_line(3, at_us=AT_US),
        probe_line(4, at_us=AT_US + 1_000_000),
        forged_line(AT_US + 2_000_000),
        *session_lines(5, "alice", at_us=AT_US + 3_000_000, lasts_s=None),
    )


def test_history(site: Site) -> None:
    """Logins with their ends, the oldest first."""
    everything(site)
    assert site.ask("history").stdout.splitlines() == [
        f"{start:<30}  {user:<16}  {where:<27}  {host:<14}  {how}"
        for start, user, where, host, how in (
            ("since                lasted", "user", "from", "host", "who and how"),
            (f"{shown(AT_US - 2 * DAY_US)}  0:01:01", "bob", "203.0.113.7 port 1", "web1", f"publickey {KEY}"),
            (f"{shown(AT_US - DAY_US)}  0:10:00", "alice", "2001:db8::7 port 2", "db1", f"publickey {KEY}"),
            (f"{shown(AT_US + 3_000_000)}  still in", "alice", "192.0.2.7 port 5", "web1", f"publickey {KEY}"),
        )
    ]


def test_history_of_events(site: Site) -> None:
    """With --events all that happened, tries, probes and forged lines too."""
    everything(site)
    rows = site.ask("history", "--events", "--since", shown(AT_US)).stdout.splitlines()
    assert [row[21:28].strip() for row in rows] == ["what", "try", "probe", "FORGED", "login"]
    assert rows[1].endswith("root              198.51.100.9 port 4          web1            password")
    assert rows[2].endswith("198.51.100.77 port 4         web1            invalid format")
    assert rows[3].endswith("accepted claimed by uid 1012")
    assert "after 0:01:01" in site.ask("history", "--events", "--user", "bob").stdout


def test_history_of_events_as_json(site: Site) -> None:
    """Each object is what ``replay`` writes, without what the store does not keep."""
    expected = []
    for event in sorted(everything(site), key=lambda event: event.time_us):
        found = fields_of(of_event(event, []))
        for name in ("process", "log"):
            found.pop(name, None)
        found["event"].pop("original", None)
        if "ip" in found.get("source", {}):
            found["source"]["geo"] = {"name": "documentation"}
        expected.append(found)
    assert site.objects("history", "--events") == expected


def test_history_json(site: Site) -> None:
    """A session is its login's object with its end and its duration."""
    login, logout = everything(site)[:2]
    first = site.objects("history")[0]
    assert first["event"]["id"] == login.id
    assert first["event"]["duration"] == 61_000_000_000
    assert first["event"]["end"] == of_event(logout, []).event.end
    assert "end" not in site.objects("history")[-1]["event"]


@pytest.mark.parametrize(
    ("arguments", "ports"),
    [
        ([], [1, 2, 5]),
        (["--since", "3h"], [5]),
        (["--since", "3d", "--until", "3h"], [1, 2]),
        (["--user", "alice"], [2, 5]),
        (["--host", "db1"], [2]),
        (["--address", "203.0.113.7"], [1]),
        (["--address", "203.0.113.0/24"], [1]),
        (["--address", "203.0.113.99/24"], [1]),
        (["--address", "::ffff:203.0.113.7"], [1]),
        (["--address", "2001:db8::/32"], [2]),
        (["--address", "0.0.0.0/0"], [1, 5]),
        (["--limit", "2"], [2, 5]),
        (["--limit", "3"], [1, 2, 5]),
        (["--limit", "1", "--user", "alice", "--until", "3h"], [2]),
        (["--user", "nobody"], []),
    ],
)
def test_history_selects(site: Site, arguments: list[str], ports: list[int]) -> None:
    """Filters join; --limit takes the newest of what they leave."""
    everything(site)
    assert [found["source"]["port"] for found in site.objects("history", *arguments)] == ports


def test_bounds_are_exact(site: Site) -> None:
    """Of events --since is included and --until is not; a session counts up to its end, and not at its beginning."""
    everything(site)
    moment, next_moment = shown(AT_US - DAY_US), shown(AT_US - DAY_US + 1_000_000)
    for since, actions in ((moment, ["ssh_login", "ssh_logout"]), (next_moment, ["ssh_logout"])):
        found = site.objects("history", "--events", "--since", since, "--user", "alice", "--host", "db1")
        assert [one["event"]["action"] for one in found] == actions
    assert [found["source"]["port"] for found in site.objects("history", "--until", moment)] == [1]
    assert [found["source"]["port"] for found in site.objects("history", "--until", next_moment)] == [1, 2]


def test_sessions_that_overlap_a_span(site: Site) -> None:
    """``history --since --until`` shows who was in at that time, whenever they came; one without an end is over after 30 days."""
    began_us = AT_US - 40 * DAY_US
    site.fill(
        *session_lines(1, "long", at_us=began_us, lasts_s=20 * 86400),
        *session_lines(2, "short", at_us=began_us + DAY_US, lasts_s=60),
        *session_lines(3, "endless", at_us=began_us + 2 * DAY_US, lasts_s=None),
        *session_lines(4, "elsewhere", at_us=began_us + 3 * DAY_US, lasts_s=10 * 86400, host="db1"),
        *session_lines(5, "now", at_us=AT_US, lasts_s=None),
    )

    def users(since_us: int, until_us: int, *more: str) -> list[str]:
        span = ["--since", shown(since_us), "--until", shown(until_us)]
        return [found["user"]["name"] for found in site.objects("history", *span, *more)]

    everybody = ["long", "short", "endless", "elsewhere"]
    assert users(began_us - DAY_US, AT_US) == everybody
    # Nobody of these came in that minute.
    minute = (began_us + 4 * DAY_US, began_us + 4 * DAY_US + 60_000_000)
    assert users(*minute) == ["long", "endless", "elsewhere"]
    assert users(*minute, "--limit", "2") == ["endless", "elsewhere"]
    assert users(*minute, "--limit", "1", "--host", "web1") == ["endless"]
    assert users(*minute, "--user", "long") == ["long"]
    assert users(*minute, "--address", "198.51.100.0/24") == []
    # The second of its end is the last one of a session.
    end_us = began_us + 20 * DAY_US
    assert users(end_us, end_us + 1_000_000) == ["long", "endless"]
    assert users(end_us + 1_000_000, end_us + 2_000_000) == ["endless"]
    assert users(began_us + 32 * DAY_US + 1_000_000, began_us + 33 * DAY_US) == []
    assert users(began_us + 31 * DAY_US, AT_US + 1_000_000) == ["endless", "now"]
    assert [found["user"]["name"] for found in site.objects("who")] == ["now"]


@pytest.mark.parametrize("limit", [None, 1, 1999, 2000, 2001, 4100, 4500])
def test_many(site: Site, limit: int | None) -> None:
    """However many there are, also of one moment, each is there once, in order."""
    if limit is None:
        site.fill(*(try_line(pid, at_us=AT_US + pid // 1000 * 1_000_000) for pid in range(4500)))
        found = [one["event"]["id"] for one in site.objects("history", "--events")]
        assert len(found) == len(set(found)) == 4500
        return
    # Without the correlator, which is not asked here.
    with site.state() as state:
        state._connection.executemany(
            "INSERT INTO session VALUES (?, 'web1', 'u', 1, '192.0.2.1', ?, NULL, NULL, 'unverified', 0, ?, NULL, NULL, NULL)",
            [(f"{number % 7}{number:031x}", number, 1 + AT_US + number // 1500) for number in range(4500)],
        )
    found = [(one["@timestamp"], one["event"]["id"]) for one in site.objects("history", "--limit", str(limit))]
    assert len(found) == len(set(found)) == limit
    assert found == sorted(found)
    everyone = [(one["@timestamp"], one["event"]["id"]) for one in site.objects("history")]
    assert found == everyone[-limit:]


def test_csv(site: Site) -> None:
    """A head and a row each, for a spreadsheet; what it would take for a formula is a text there."""
    for pid, user in enumerate(FORMULAS, 1):
        site.fill(*session_lines(pid, user, lasts_s=None, at_us=AT_US + pid * 1_000_000))
    rows = list(csv.DictReader(io.StringIO(site.ask("history", "--csv").stdout, newline="")))
    assert [row["user.name"] for row in rows] == [
        "'=1+1", "'+1", "'-1", "'@SUM(A1)", "'\\x09x", "'\\x0dx", '"quoted, twice"'
    ]  # fmt: skip
    assert rows[0]["ssh.key.fingerprint"] == KEY.partition(" ")[2]
    assert None not in rows[0]
    assert len(rows[0]) == 15
    (row, *_) = csv.DictReader(io.StringIO(site.ask("history", "--csv", "--all-columns", "--tz", "+02:00").stdout, newline=""))
    assert list(row)[:15] == list(rows[0])
    assert (row["source.port"], row["timestamp"]) == ("1", shown(AT_US + 1_000_000 + 2 * 3600 * 1_000_000))
    assert "--csv" in site.ask("history", "--json", "--all-columns", status=USAGE).stderr
    for options in (["--csv", "--json"], ["--json", "--csv"]):
        assert "--csv excludes --json" in site.ask("history", *options, status=USAGE).stderr
    events = list(csv.DictReader(io.StringIO(site.ask("history", "--csv", "--events").stdout, newline="")))
    assert [row["event.action"] for row in events] == ["ssh_login"] * len(FORMULAS)


def test_nothing_obeyed_by_a_terminal(site: Site) -> None:
    """Names with escapes, line feeds and marks of direction are shown, not obeyed, in each form."""
    site.fill(
        *session_lines(1, r"a\033[2J\nb\342\200\256c", at_us=AT_US, lasts_s=None),
        *session_lines(
            2, r"\303\274", at_us=AT_US, lasts_s=None, info=": ED25519-CERT SHA256:x ID m\\303\\274 (serial 5) CA RSA SHA256:y"
        ),
    )
    for arguments in (
        ["who"],
        ["who", "--json"],
        ["history"],
        ["history", "--json"],
        ["history", "--csv"],
        ["history", "--events"],
    ):
        out = site.ask(*arguments).stdout
        assert out.replace("\n", "").isprintable(), arguments
        assert len(out.splitlines()) == 2 + (not {"--json"} & set(arguments))
    assert "a\\x1b[2J\\x0ab\\u202ec" in site.ask("who").stdout
    assert "certificate m\u00fc" in site.ask("who").stdout
    assert site.objects("who", "--user", "\u00fc")[0]["ssh"]["certificate"]["id"] == "m\u00fc"


def test_wrong_command_lines(site: Site) -> None:
    """What cannot be meant is said, with what can."""
    everything(site)
    for arguments, text in (
        (["--since", "whenever"], "is not a time"),
        (["--since", "01/02/2026"], "can be read in two ways"),
        (["--since", "tomorrow"], "is in the future; it is"),
        (["--since", "1d", "--until", "2d"], "not before"),
        (["--address", "203.0.113.0/244"], "is not an address or network"),
        (["--address", "example.org"], "is not an address or network"),
        (["--limit", "0"], "is not in the range"),
    ):
        assert text in site.ask("history", *arguments, status=USAGE).stderr


@pytest.mark.parametrize("command", ["who", "history"])
def test_no_store(site: Site, command: str) -> None:
    """Where nothing has run yet, or the file is damaged, one line says so."""
    done = site.ask(command, status=STORE)
    assert done.stderr == f"sshbell: {site.state_dir}/state.db: it does not exist yet; sshbell run creates it: restart rsyslog\n"
    (site.state_dir / "state.db").write_bytes(b"garbage " * 999)
    done = site.ask(command, status=STORE)
    assert done.stderr == f"sshbell: {site.state_dir}/state.db: file is not a database\n"
    (site.state_dir / "state.db").unlink()
    site.state_dir.rmdir()
    done = site.ask(command, status=STORE)
    assert done.stderr == f"sshbell: {site.state_dir} does not exist; run first: sudo sshbell install\n"
    site.config.write_text("wrong = 1", encoding="utf-8")
    site.ask(command, status=CONFIG)


def test_a_pager_that_ends(site: Site) -> None:
    """Whoever has seen enough gets no error text."""
    site.fill(*(line for pid in range(1, 3000) for line in session_lines(pid, at_us=AT_US, lasts_s=None)))
    command = [sys.executable, "-m", "consumer", "history", "--config", str(site.config)]
    with subprocess.Popen(command, cwd=PROJECT_DIR, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""


class Running:
    """Holds the locks that ``run`` and ``deliver`` would hold."""

    def __init__(self, site: Site, *names: str) -> None:
        self._files = [(site.state_dir / f"{name}.lock").open("w+") for name in names]
        for file in self._files:
            file.write("4242\n")
            file.flush()
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def __enter__(self) -> None:
        """Hold on."""

    def __exit__(self, *details: object) -> None:
        for file in self._files:
            file.close()


@pytest.fixture
def live(site: Site) -> Site:
    """Return a site with a channel and both databases, where all is well."""
    site.configure(channel=[mail_channel(25)])
    with site.state() as state:
        state.record(events_of(*session_lines(1, at_us=AT_US)), frozenset(), NOW_US)
        state.set_notes({"version": __version__})
        state.set_status(
            {
                "started_us": AT_US, "last_line_us": NOW_US, "last_event_us": AT_US, "lines_total": 12_345,
                "understood_total": 990, "unmatched_total": 10, "unframed_total": 0, "redelivered_total": 3, "caught_up_total": 2,
                "snapshots_total": 7, "damaged_total": 0, "pid": 4242,
            }
        )  # fmt: skip
    change(
        site,
        "INSERT INTO channel (name, last_success_us, last_error_us, last_error) VALUES ('ops', ?, ?, 'timeout')",
        NOW_US,
        AT_US,
    )
    return site


def change(site: Site, statement: str, *values: object, name: str = "delivery") -> None:
    """Change a database as its writer would."""
    with closing(open_for_writing(site.state_dir / f"{name}.db", pytest.fail)) as connection:
        connection.execute(statement, values)


def problems(site: Site, status: int) -> list[str]:
    """Ask for the status; return what is wrong. The text has all of it as well, the worst in its first line."""

    def asked() -> list[str]:
        found = json.loads(site.ask("status", "--json", status=status).stdout)
        assert found["status"] == level
        return [problem["text"] for problem in found["problems"]]

    level = ["ok", "warning", "critical", "unknown"][status]
    before = asked()
    first, *rows = site.ask("status", status=status).stdout.splitlines()
    more = len(before) - 1
    worst = first.removeprefix(f"sshbell {level.upper()}: ")
    shown = [worst.removesuffix(f" (and {more} more problem{'s' * (more > 1)})") if more > 0 else worst]
    assert worst != first
    shown += [row.removeprefix("problem     ") for row in rows if row.startswith("problem ")]
    # A text that says how long a message has been waiting changes once a minute.
    assert not before or sorted(shown) in (sorted(map(harmless, before)), sorted(map(harmless, asked())))
    return before


def test_status_ok(live: Site) -> None:
    """All is well: exit code 0; people see what has been read and when, and how each channel is."""
    ages_s = [time.time_ns() // 1_000_000_000 - AT_US // 1_000_000]
    with Running(live, "run", "deliver"):
        out = live.ask("status").stdout.splitlines()
        ages_s.append(time.time_ns() // 1_000_000_000 - AT_US // 1_000_000)
        found = json.loads(live.ask("status", "--json").stdout)
    assert out[0] == "sshbell OK: it is running, and no message waits too long"
    rows = {row[:12].strip(): row[12:] for row in out[1:]}
    ages = [str(timedelta(seconds=age_s)) for age_s in range(ages_s[0], ages_s[1] + 1)]
    assert rows["run"] in [f"running (pid 4242), since {shown(AT_US)} ({age} ago)" for age in ages]
    assert rows["deliver"] == "running (pid 4242)"
    assert rows["version"] == __version__
    assert rows["last line"].startswith(shown(NOW_US))
    assert rows["lines"] == (
        "12,345 read, 990 understood, 10 unmatched (1.0%), 0 in no known framing, 3 delivered again, 2 found by catch_up"
    )
    assert rows["backlog"] == "0 not routed, 0 pending"
    assert rows["channel"].startswith(f"ops: 0 pending, 0 given up, last success {shown(NOW_US)}")
    assert rows["channel"].endswith(": timeout")
    assert (found["status"], found["problems"], found["damaged"]) == ("ok", [], [])
    assert found["run"] == found["deliver"] == {"running": True, "pid": 4242}
    assert found["version"] == {"running": __version__, "installed": __version__}
    assert found["lines"]["lines_total"] == 12_345
    assert found["lines"]["unmatched_share"] == 0.01
    assert found["backlog"] == {"unrouted": 0, "pending": 0, "oldest": None}
    (channel,) = found["channels"]
    assert (channel["name"], channel["pending"], channel["dead"], channel["last_error_reason"]) == ("ops", 0, 0, "timeout")


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_status_that_nobody_reads(live: Site, options: list[str]) -> None:
    """Monitoring takes the exit code: it stays what it is where the reader leaves, or standard output is closed."""

    def statuses() -> list[int]:
        found = []
        command = [sys.executable, "-m", "consumer", "status", *options, "--config", str(live.config)]
        reading, writing = os.pipe()
        os.close(reading)
        left = subprocess.run(command, cwd=PROJECT_DIR, stdout=writing, stderr=subprocess.PIPE, check=False)
        os.close(writing)
        for shell in ('"$@" >&-', '"$@" >&- <&-', 'set -o pipefail; "$@" | head -n 1'):
            done = subprocess.run(["/bin/bash", "-c", shell, "bash", *command], cwd=PROJECT_DIR, capture_output=True, check=False)
            found.append((done.returncode, done.stderr))
        assert {said for _, said in found} | {left.stderr} == {b""}
        return [left.returncode, *(status for status, _ in found)]

    with Running(live, "run", "deliver"):
        assert statuses() == [OK] * 4
        change(live, "UPDATE channel SET last_error_us = last_success_us + 1")
        assert statuses() == [WARNING] * 4
    assert statuses() == [CRITICAL] * 4


@pytest.mark.parametrize("columns", [80, 120, 160])
def test_tables_at_a_terminal(site: Site, columns: int) -> None:
    """They are as wide as the terminal allows, with short fingerprints; --wide shows all of them, and NO_COLOR has no colour."""
    everything(site)
    fingerprint = KEY.partition(" ")[2]
    for command in (["who"], ["history"], ["history", "--events"]):
        said = on_a_terminal(*command, "--config", site.config, columns=columns, NO_COLOR="1")
        assert "\x1b" not in said
        assert all(cell_len(row) <= columns for row in said.splitlines())
        assert fingerprint not in said
        assert fingerprint[:13] in said
        wide = on_a_terminal(*command, "--wide", "--config", site.config, columns=columns)
        assert "\x1b[1m" in wide
        assert fingerprint in wide


def test_status_and_outbox_in_color(live: Site) -> None:
    """Green where all is well, red where not, at a terminal alone; NO_COLOR is respected."""

    def first(command: str, **env: str) -> str:
        return on_a_terminal(command, "--config", live.config, columns=80, **env).splitlines()[0]

    with Running(live, "run", "deliver"):
        assert first("status").startswith("\x1b[32m\x1b[1msshbell OK: ")
        assert first("status", NO_COLOR="1").startswith("sshbell OK: ")
        assert first("status", TERM="dumb").startswith("sshbell OK: ")
    assert first("status").startswith("\x1b[31m\x1b[1msshbell CRITICAL: ")
    change(
        live,
        "INSERT INTO delivery VALUES"
        " ('3fa29c01ab12', 'ops', 1, 'dead', 5, ?, 0, ?, '550 no such mailbox', NULL, x'7b7d', '', '', 0, 0)",
        NOW_US,
        NOW_US,
    )
    said = on_a_terminal("outbox", "--config", live.config).splitlines()
    assert [row.partition("m")[0] for row in said] == ["\x1b[1", "\x1b[31", "\x1b[31"]
    assert "\x1b" not in on_a_terminal("outbox", "--config", live.config, NO_COLOR="1")
    for command in ("status", "outbox"):
        assert "\x1b" not in live.ask(command, status=CRITICAL if command == "status" else OK).stdout


def test_status_of_processes(live: Site) -> None:
    """Whoever holds the lock is alive; a lock file alone says nothing."""
    with Running(live, "run"):
        assert problems(live, CRITICAL) == ["sshbell deliver is not running and sends no messages; see /var/log/sshbell.err"]
    with Running(live, "deliver"):
        assert problems(live, CRITICAL) == ["sshbell run is not running and reads no lines; restart rsyslog"]
    assert len(problems(live, CRITICAL)) == 2
    live.configure()
    with Running(live, "run"):
        assert problems(live, OK) == []


def test_status_waits_while_run_starts(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Right after a restart, ``run`` has no lock yet. It is found as soon as it has one."""
    monkeypatch.setattr(status_module, "START_S", DEADLINE_S)
    run = site.start_run(is_ready=False)
    # A program that has only just been started has no arguments yet.
    wait_for((Path("/proc") / str(run.pid) / "cmdline").read_bytes, "run has its arguments")
    status_module.wait_for_start(load(str(site.config)))
    assert holder_of(site.state_dir / RUN_LOCK).pid == run.pid


def test_status_with_a_broken_configuration(live: Site) -> None:
    """A configuration that cannot be used is the problem; what runs, and what it has read, is shown all the same."""
    live.configure(kepe="90d")
    with Running(live, "run", "deliver"):
        (text,) = problems(live, CRITICAL)
        assert "did you mean 'keep'" in text
        found = json.loads(live.ask("status", "--json", status=CRITICAL).stdout)
    assert (found["run"], found["lines"]["lines_total"]) == ({"running": True, "pid": 4242}, 12_345)
    # Nothing starts until somebody mends it, so this is the only remedy.
    assert problems(live, CRITICAL) == [text, "sshbell run is not running and reads no lines"]


def test_nothing_matches(site: Site) -> None:
    """The options that select are named, and no others; in an empty store, none."""
    said = {
        (): "the store has no sessions yet",
        ("--events",): "the store has no events yet",
        ("--user", "eve"): "no sessions match --user",
        ("--events", "--host", "db1", "--since", "1d"): "no events match --since and --host",
        ("--address", "192.0.2.9", "--until", "1d", "--user", "eve"): "no sessions match --until, --user and --address",
    }
    site.fill()
    for arguments, text in said.items():
        done = site.ask("history", *arguments)
        assert (done.stdout, done.stderr) == ("", f"sshbell: {text}\n")


def test_status_does_not_keep_the_lock(live: Site) -> None:
    """Once ``status`` has ended, ``run`` can start."""
    with Running(live, "run", "deliver"):
        pass
    live.ask("status", status=CRITICAL)
    with Running(live, "run", "deliver"):
        live.ask("status")


def test_status_of_nothing(site: Site) -> None:
    """Where nothing has run yet: critical, and in plain words."""
    assert problems(site, CRITICAL) == [
        "sshbell run is not running and reads no lines; restart rsyslog",
    ]
    site.state_dir.rmdir()
    assert problems(site, CRITICAL) == ["sshbell run is not running and reads no lines; run first: sudo sshbell install"]


PENDING = "INSERT INTO delivery VALUES (?, 'ops', 1, ?, 0, ?, 0, NULL, NULL, NULL, '{}', '', '', 0, 0)"


@pytest.mark.parametrize(("minutes", "status"), [(1, OK), (16, WARNING), (241, CRITICAL)])
def test_status_of_waiting_messages(live: Site, minutes: int, status: int) -> None:
    """A message that waits for long is a warning, then critical, whether it is routed or not."""
    queued_us = time.time_ns() // 1000 - minutes * 60_000_000
    change(live, PENDING, "a", "pending", queued_us)
    with Running(live, "run", "deliver"):
        found = problems(live, status)
        assert [text.partition(":")[0] for text in found] == ["channel ops"] * (status != OK)
        backlog = json.loads(live.ask("status", "--json", status=status).stdout)["backlog"]
        assert (backlog["pending"], backlog["unrouted"]) == (1, 0)
        change(live, "DELETE FROM delivery")
        change(live, "INSERT INTO outbox VALUES (5, 'a', 'ssh_login', ?, '{}')", queued_us, name="state")
        found = problems(live, status)
        assert [text.partition(":")[0] for text in found] == ["the outbox"] * (status != OK)
        assert "1 not routed, 0 pending, oldest from " in live.ask("status", status=status).stdout
        change(live, "UPDATE cursor SET seq = 5")
        assert problems(live, OK) == []


def test_status_of_channels(live: Site) -> None:
    """Dead letters and a channel whose last message failed are warnings; what a server says is not obeyed."""
    with Running(live, "run", "deliver"):
        change(live, PENDING, "a", "dead", AT_US)
        assert problems(live, WARNING) == ["channel ops: 1 given up; see sshbell outbox"]
        change(live, "DELETE FROM delivery")
        change(live, "UPDATE channel SET last_error_us = ?, last_error = ?", NOW_US + 1, "550 \x1b[2J no\n")
        live.ask("status", "--json", status=WARNING)
        out = live.ask("status", status=WARNING).stdout
        assert "channel ops: 550 \\x1b[2J no\\x0a" in out
        assert out.replace("\n", "").isprintable()


def test_status_of_what_is_held_back(live: Site) -> None:
    """The table says how many messages max_per_hour holds back, and until when; a budget that has a token counts for nothing."""
    with Running(live, "run", "deliver"):
        # A token takes an hour, so none comes back during the test.
        live.configure(channel=[mail_channel(25, max_per_hour=1)])
        now_us = time.time_ns() // 1000
        for event_id, budget in (("a", ""), ("b", ""), ("c", "web1 alice"), ("d", "web1 root")):
            change(live, PENDING.replace("'', '', 0, 0)", f"'{budget}', '', 0, 0)"), event_id, "pending", now_us)
        change(live, "INSERT INTO budget VALUES ('ops', '', 0, ?)", now_us)
        change(live, "INSERT INTO budget VALUES ('ops', 'web1 alice', 0.5, ?)", now_us)
        change(live, "INSERT INTO budget VALUES ('ops', 'web1 root', 1, ?)", now_us)
        (row,) = [text for text in live.ask("status").stdout.splitlines() if text.startswith("channel ")]
        found = re.fullmatch(
            r"channel     ops: 4 pending \(3 held back by max_per_hour until (.{19})\), 0 given up, last .*", row
        )
        assert found is not None, row
        # Until both budgets have a token. The sum of two fractions of a second may round the other way.
        assert found[1] in {shown(now_us + 3_600_000_000 + rounding_us) for rounding_us in (-1000, 0, 1000)}
        change(live, "UPDATE budget SET tokens = 1")
        assert "ops: 4 pending, 0 given up" in live.ask("status").stdout


def test_status_of_figures(live: Site) -> None:
    """Too many lines that nobody understands are a warning, and so is another version than the installed one."""
    with Running(live, "run", "deliver"):
        for name, value, text in (
            ("unmatched_total", 110, "10% of the lines of sshd and PAM look like authentication, and no rule reads them"),
            ("unframed_total", 2_469, "20% of all lines are in no known framing"),
        ):
            change(live, "UPDATE status SET value = ? WHERE name = ?", value, name, name="state")
            (problem,) = problems(live, WARNING)
            assert problem.startswith(f"{text}; sshbell ")
            example = "Login \x1b[2J of root succeeded"
            change(live, "INSERT OR REPLACE INTO note VALUES (?, ?)", name.removesuffix("_total"), example, name="state")
            (problem,) = problems(live, WARNING)
            assert problem.startswith(f"{text}, such as {example!r}; sshbell ")
            change(live, "UPDATE status SET value = 0 WHERE name = ?", name, name="state")
        change(live, "UPDATE note SET text = '0.0.1'", name="state")
        assert problems(live, WARNING) == [f"version 0.0.1 is running, but {__version__} is installed: restart rsyslog"]
        change(live, "UPDATE note SET text = ? WHERE name = 'version'", __version__, name="state")
        change(live, "INSERT OR REPLACE INTO note VALUES ('refused', 'sshbell.toml: no')", name="state")
        assert problems(live, WARNING) == ["sshbell run has refused the changed configuration: sshbell.toml: no"]
        change(live, "UPDATE note SET text = '' WHERE name = 'refused'", name="state")
        live.ask("status", status=OK)


def test_status_of_damage(live: Site) -> None:
    """A file that was set aside is a warning as long as it lies there; one that is damaged now is critical."""
    with Running(live, "run", "deliver"):
        (live.state_dir / "state.db.damaged-20261122T100000Z-01").touch()
        (live.state_dir / "state.db.damaged-20261122T100000Z-01-wal").touch()
        assert problems(live, WARNING) == [
            "sshbell set damaged files aside: state.db.damaged-20261122T100000Z-01; remove what you do not need"
        ]
        for name in ("delivery", "state"):
            (live.state_dir / f"{name}.db").write_bytes(b"garbage " * 999)
            assert f"{live.state_dir}/{name}.db: file is not a database" in problems(live, CRITICAL)


def test_status_without_rights(live: Site) -> None:
    """Who may not look is told so, with the exit code for "unknown"."""
    if os.geteuid() != 0:
        live.state_dir.chmod(0o000)
        try:
            assert "Permission denied" in problems(live, UNKNOWN)[0]
        finally:
            live.state_dir.chmod(0o700)
        return
    (live.state_dir / "run.lock").symlink_to("run.lock")  # a loop, which root cannot open either
    assert "symbolic links" in problems(live, UNKNOWN)[0]
    out = live.ask("status", status=UNKNOWN).stdout
    assert "run         unknown" in out.splitlines()
    assert json.loads(live.ask("status", "--json", status=UNKNOWN).stdout)["run"] == {"running": None, "pid": None}


# A command as somebody else calls it, to whom the system refuses the configuration in the default place.
REFUSED = """
import os, sys
from pathlib import Path
from consumer import config_file
from consumer.cli import main
config_file.DEFAULT_PATH = sys.argv.pop(1)
read = Path.read_bytes
def refused(path):
    if str(path) == config_file.DEFAULT_PATH:
        raise PermissionError(13, os.strerror(13), str(path))
    return read(path)
Path.read_bytes = refused
main()
"""


def test_configuration_of_others(site: Site) -> None:
    """Who may not read the configuration is told so: 3 of status, 77 of the others; log files can be read all the same."""
    site.log.write_text("Nov 22 10:00:00 web1 sshd[1]: Accepted password for alice from 192.0.2.7 port 4711 ssh2\n")

    def ask(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", REFUSED, site.config, *arguments]
        return subprocess.run(command, cwd=PROJECT_DIR, text=True, check=False, capture_output=True, timeout=60)

    said = f"{site.config}: Permission denied; only root and sshbell's user may read it"
    found = ask("status")
    assert (found.returncode, found.stdout.splitlines()[0]) == (UNKNOWN, f"sshbell UNKNOWN: {said}")
    for command in ("who", "history", "outbox", "ring"):
        found = ask(command)
        assert (found.returncode, found.stderr) == (RIGHTS, f"sshbell: {said}\n")
    found = ask("replay", site.log)
    assert found.returncode == OK
    assert "alice" in found.stdout
    assert found.stderr == f"sshbell: {said}; sshbell reads the log without its sshd_programs, geoip and people\n"
    # Who names it wants it.
    assert ask("replay", "--config", site.config, site.log).returncode == RIGHTS
