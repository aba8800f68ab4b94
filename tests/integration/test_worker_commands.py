"""The commands that read the store show the same of PostgreSQL, where workers write, as of SQLite, byte for byte."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from contextlib import closing
from importlib.resources import files
from typing import TYPE_CHECKING

import msgspec
import pytest

from consumer.actions import EventAction
from consumer.clock import isoformat, local_zone, now_us
from consumer.config import Blocking
from consumer.config_file import load
from consumer.ecs import json_line
from consumer.events_as_ecs import of_event
from consumer.guard.entries import entries_of
from consumer.logs.unknown import unknown_of_store
from consumer.pipeline import Pipeline
from consumer.store.deliveries import delivery_of
from consumer.store.lifting import lift_blocks
from consumer.store.postgresql import PostgresSession
from consumer.store.queries import event_of_id
from consumer.store.recent_logins import recent_logins
from consumer.store.status_queries import stored
from consumer.store.worker import PartitionProgress, worker_store
from consumer.system.audit import AuditPlaces, audit_rows
from consumer.system.blocking_state import blocking_state
from tests import needs
from tests.integration.guard import GuardProcess, order
from tests.integration.lines import ours
from tests.store_events import DAY_US, KEY, events_of, forged_line, line, session_lines
from tests.waiting import DEADLINE_S, wait_for

if TYPE_CHECKING:
    from pathlib import Path

    from consumer.events import Event
    from consumer.store.reader import Store
    from tests.integration.kafka import Postgres
    from tests.integration.site import Site

TOLD = frozenset({"ssh_login"})
CONFIG = """
state_dir = "{folder}"
user = ""
geoip = []
people = "{folder}/people.toml"
[worker]
brokers = ["127.0.0.1:1"]
database = "{database}"
[block]
mode = "on"
[[channel]]
name = "log"
type = "file"
path = "{folder}/told"
[[route]]
channels = ["log"]
events = ["ssh_login"]
"""

# As partitions store them. The lines of web1 have gone to two of them.
UNKNOWN = {
    "sshbell/0/unknown_lines": '{"web1":{"programs":{"sshd":7},"unmatched":2,"patterns":[["a <*>",2]]}}',
    "sshbell/1/unknown_lines": (
        '{"web1":{"programs":{"sshd":1},"unmatched":3,"patterns":[["b",2],["a <*>",1]]},"web2":{"programs":{"dropbear":4}}}'
    ),
}


def events_now() -> list[Event]:
    """Return events: sessions, open ones, one whose end is lost, hostile texts, and tries that make a finding and a block."""
    begin_us = now_us() - 2 * DAY_US
    lines = [
        *session_lines(1, "alice", at_us=begin_us),
        *session_lines(2, "bob", at_us=begin_us + 50, address="2001:db8::7", host="web2", lasts_s=None),
        *session_lines(3, "Bob", at_us=begin_us + 90, method="password", info="", host="DB1.example.org", lasts_s=None),
        *session_lines(4, "x'; DROP TABLE event; --", at_us=begin_us - DAY_US, lasts_s=3 * 86400, info=f": {KEY}a\\"),
        *session_lines(5, "old", at_us=begin_us - 40 * DAY_US, lasts_s=None),
        *session_lines(6, "\u00fc\u2603%s%(user)s:user?", at_us=begin_us + 99, address="host.example.net", lasts_s=None),
        forged_line(begin_us + 1000),
        *[
            ours(
                f"Failed password for u{number % 7} from 198.51.100.9 port {5000 + number} ssh2",
                number=number,
                pid=100 + number,
                ts=isoformat(now_us() - 100_000_000 + 1000 * number),
            ).rstrip()
            for number in range(60)
        ],
    ]
    pipeline = Pipeline((), local_zone(), begin_us, pytest.fail, block=Blocking(mode="on"), has_file=False)
    events = [event for line in lines for event in pipeline.feed(line + b"\n")]
    at_us = max(event.time_us for event in events)
    for second in range(60):
        events += pipeline.tick(at_us + second * 1_000_000)
    return events


@pytest.fixture
def configs(postgres: Postgres, tmp_path: Path) -> dict[str, Path]:
    """Return a configuration for each kind of store; both have the same events, figures, notes and deliveries."""
    events = events_now()
    actions = {event.action for event in events}
    assert actions >= {EventAction.LOGIN, EventAction.LOGOUT, EventAction.ATTEMPT, EventAction.FORGED, EventAction.BLOCK}
    found = {}
    for name, database in (("sqlite", ""), ("postgresql", postgres.database)):
        folder = tmp_path / name
        folder.mkdir(mode=0o700)
        (folder / "people.toml").touch(0o600)
        config = found[name] = folder.with_suffix(".toml")
        config.write_text(CONFIG.format(folder=folder, database=database))
        where = database or folder
        with closing(worker_store(where, "sshbell", pytest.fail)) as store:
            for number in (0, 1):
                store.take(number)
            figures = {"lines_total": 70, "understood_total": 60, "unmatched_total": 10, "last_line_us": 1_795_000_000_000_000}
            store.commit(
                [PartitionProgress(0, 1, 70, (), figures), PartitionProgress(1, 1, 5, (), figures | {"lines_total": 5})],
                events, TOLD, 1_795_000_000_000_000,
            )  # fmt: skip
            store.set_notes({"version": "0", "unmatched": "a line"} | UNKNOWN)
        with closing(delivery_of(where, pytest.fail)) as delivery:
            delivery.put_test("test-1", ["log"], 1_795_000_000_000_000, b"{}")
            delivery.put_test("test-2", ["removed"], 1_795_000_000_000_000, json_line(of_event(events[0], [])))
            delivery.drop("test-2", None, 1_795_000_000_000_000)
    return found


def shown(config: Path, *arguments: str) -> tuple[str, str, int]:
    """Return what a command prints, without the folder of the store."""
    done = subprocess.run(
        [sys.executable, "-m", "consumer", *arguments, "--config", config], capture_output=True, check=False, text=True,
        timeout=DEADLINE_S, env=os.environ | {"TZ": "UTC"},
    )  # fmt: skip
    out, err = (text.replace(str(config.with_suffix("")), "DIR") for text in (done.stdout, done.stderr))
    return out, err, done.returncode


@pytest.mark.parametrize(
    "arguments",
    [
        ("who",), ("who", "--json"), ("who", "--user", "bob"), ("who", "--host", "web2"), ("history",), ("history", "--json"),
        ("history", "--since", "yesterday"), ("history", "--limit", "2"), ("history", "--address", "2001:db8::/32"),
        ("history", "--events"), ("history", "--events", "--json", "--limit", "7"),
        ("history", "--events", "--address", "198.51.100.0/24", "--limit", "5", "--csv"), ("history", "--until", "2000-01-01"),
        ("history", "--user", "x'; DROP TABLE event; --"), ("history", "--user", "\u00fc\u2603%s%(user)s:user?", "--json"),
        ("block", "list"), ("block", "list", "--all", "--json", "--verbose"), ("block", "export"), ("block", "export", "--text"),
        ("outbox", "list", "--all"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_the_same_output(arguments: tuple[str, ...], configs: dict[str, Path]) -> None:
    """Each command prints the same, and prints something or says why not."""
    sqlite, postgresql = (shown(configs[name], *arguments) for name in ("sqlite", "postgresql"))
    assert postgresql == sqlite
    assert postgresql[2] == 0
    assert postgresql[0] or postgresql[1]
    assert "Traceback" not in postgresql[1]


def test_the_events_are_all_there(configs: dict[str, Path]) -> None:
    """What ``history`` prints of PostgreSQL is every event, and what ``block export`` prints is every block."""
    rows = [json.loads(line) for line in shown(configs["postgresql"], "history", "--events", "--json")[0].splitlines()]
    assert {row["event"]["action"] for row in rows} >= {"ssh_login", "ssh_logout", "ssh_attempt", "guessing", "ssh_block"}
    assert len({row["event"]["id"] for row in rows}) == len(rows)
    blocks = [row for row in rows if row["event"]["action"] == "ssh_block"]
    exported = [json.loads(line) for line in shown(configs["postgresql"], "block", "list", "--all", "--json")[0].splitlines()]
    assert sorted(one["id"] for one in exported) == sorted(row["event"]["id"] for row in blocks)


def test_unknown_lines(configs: dict[str, Path]) -> None:
    """The lines of all partitions count; those of a host that are in two of them are added up. ``status`` does not show them."""
    assert shown(configs["postgresql"], "unknown")[0].splitlines() == [
        "web1: 13 lines, 5 not understood (38.5%), OpenSSH up to 9.7",
        "        3  a <*>",
        "        2  b",
        "web2: 4 lines, 0 not understood (0.0%), dropbear",
    ]
    sqlite, postgresql = stores(configs)
    assert unknown_of_store(postgresql) == unknown_of_store(sqlite)
    assert set(stored(postgresql, 0).notes) == {"version", "unmatched"}


def stores(configs: dict[str, Path]) -> list[Store]:
    """Return both stores."""
    return [load(str(config)).store for config in configs.values()]


def test_audit(configs: dict[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """``audit`` counts the same logins: those of this host, with the failed tries before each, by frequency."""
    needs.root("ask sshd")
    needs.program("sshd", "openssh-server")
    at_us = now_us() - DAY_US
    tries = [
        line(at_us + each * 1000, 70, "Failed password for carol from 192.0.2.7 port 70 ssh2", host="here.example.org")
        for each in range(3)
    ]
    logins = [*tries, *session_lines(70, "carol", at_us=at_us + 5_000_000, method="password", info="", host="here.example.org")]
    logins += session_lines(71, "carol", at_us=at_us, method="password", info="", host="elsewhere")
    logins += [text for number in (80, 90) for text in session_lines(number, "dave", at_us=at_us + number, host="here")]
    for where in stores(configs):
        with closing(worker_store(where, "sshbell", pytest.fail)) as store:
            store.take(2)
            store.commit([PartitionProgress(2, 1, 9, ())], events_of(*logins), frozenset(), at_us)
    sqlite, postgresql = (recent_logins(where, "here", at_us - 9) for where in stores(configs))
    assert postgresql == sqlite
    assert [(kind.user, kind.count, kind.failed, kind.took_s) for kind in sqlite] == [("dave", 2, 0, 0), ("carol", 1, 3, 5)]
    monkeypatch.setattr(socket, "gethostname", lambda: "here")
    path = tmp_path / "sshd_config"
    path.write_text("PasswordAuthentication yes\n")
    places = AuditPlaces(str(path), tmp_path / "pam.d")
    rows, same = (list(audit_rows(load(str(config)), now_us(), places)) for config in configs.values())
    assert rows == same
    assert {row.name: row.accounts for row in rows}["passwords"] == ["carol"]


def test_lifted_in_either_store(configs: dict[str, Path]) -> None:
    """A lifted block stays in the list, as a lifted one, and counts no longer; its event, stored again, changes nothing."""
    for config in map(load, map(str, configs.values())):
        (entry,) = entries_of(config)
        assert (entry.target, entry.removed_us) == ("198.51.100.9", None)
        lift_blocks(config.store, [entry.id, "of no block"], 1_795_000_000_000_000)
        event = event_of_id(config.store, entry.id)
        assert event is not None
        with closing(worker_store(config.store, "sshbell", pytest.fail)) as store:
            store.take(3)
            store.commit([PartitionProgress(3, 1, 9, ())], [msgspec.structs.replace(event, removed_us=None)], frozenset(), 1)
        assert entries_of(config) == [msgspec.structs.replace(entry, removed_us=1_795_000_000_000_000)]
        state = blocking_state(config, now_us())
        assert (state.blocked if state else None) == 0


def test_a_lifted_block(configs: dict[str, Path], site: Site) -> None:
    """Who lifts a block of the workers lifts it on each host, with the next import, unless the host has blocked it by itself."""
    needs.root("lift blocks")
    config = configs["postgresql"]
    guard = GuardProcess(site)
    assert site.ask("block", "import", stdin=shown(config, "block", "export")[0]).stdout.startswith("imported 1 block,")
    wait_for(lambda: "198.51.100.9" in guard.text(), "it is blocked")
    assert shown(config, "block", "remove", "198.51.100.*") == (
        "lifted 1 block: 198.51.100.9\n",
        "note: each host lifts it when it imports the list again: see sshbell block import\n",
        0,
    )
    assert shown(config, "block", "add", "192.0.2.7")[1].endswith("with workers, run this on the hosts that block\n")
    listed = shown(config, "block", "export")[0]
    # Half a list lifts nothing.
    site.ask("block", "import", stdin=listed[:-9], status=65)
    assert "198.51.100.9" in guard.text()
    assert site.ask("block", "import", stdin=listed).stdout == "imported 0 blocks, lifted 1, 0 known already\n"
    assert "198.51.100.9" not in guard.text()
    guard.send(order("198.51.100.9"))
    wait_for(lambda: "198.51.100.9" in guard.text(), "this host blocks it by itself")
    assert site.ask("block", "import", stdin=listed).stdout == "imported 0 blocks, lifted 0, 0 known already\n"
    assert "198.51.100.9" in guard.text()


def test_status_and_check(postgres: Postgres, configs: dict[str, Path]) -> None:
    """Figures are those of all partitions; the database tells which workers are connected, and ``check`` whether it answers."""
    out, _err, code = shown(configs["postgresql"], "status", "--json")
    found = json.loads(out)
    assert code == 2
    assert found["problems"][0]["text"].startswith("no sshbell worker is connected")
    assert (found["workers"], found["lines"]["lines_total"], found["backlog"]["unrouted"]) == ([], 75, 6)
    same = json.loads(shown(configs["sqlite"], "status", "--json")[0])
    for key in ("lines", "backlog", "channels", "blocking", "version", "last_line"):
        assert found[key] == same[key]
    with (
        closing(worker_store(postgres.database, "sshbell", pytest.fail)),
        closing(delivery_of(postgres.database, pytest.fail)),
    ):
        found = json.loads(shown(configs["postgresql"], "status", "--json")[0])
        assert (found["run"]["running"], found["deliver"]["running"]) == (True, True)
        assert [name.split()[0] for name in found["workers"]] == [str(os.getpid())]
        out, _err, _code = shown(configs["postgresql"], "check")
        assert "PostgreSQL answers: 1 worker connected, deliver is running" in out
    configs["postgresql"].write_text(configs["postgresql"].read_text().replace("user=sshbell", "user=nobody-there"))
    assert "PostgreSQL: " in shown(configs["postgresql"], "check")[0]
    out, err, code = shown(configs["postgresql"], "who")
    assert (out, code) == ("", 74)
    assert err.startswith("sshbell: PostgreSQL: ")


def test_older_tables(postgres: Postgres) -> None:
    """The tables of the first version get what the second one has."""
    new = files("consumer.store").joinpath("postgresql.sql").read_text()
    note = new[new.index("CREATE TABLE note") : new.index(";", new.index("CREATE TABLE note")) + 1]
    index = "CREATE INDEX event_block ON event (time_us) WHERE action = 'ssh_block';"
    old = new.replace(note, "").replace(index, "").replace("INSERT INTO version VALUES (2)", "INSERT INTO version VALUES (1)")
    catalogue = (
        "SELECT table_name, column_name, data_type FROM information_schema.columns WHERE table_schema = 'sshbell' ORDER BY 1, 2"
    )
    indexes = "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'sshbell' ORDER BY 1"
    postgres.query("CREATE SCHEMA sshbell")
    postgres.query(old)
    with closing(PostgresSession(postgres.database)) as session:
        assert session.run("SELECT number FROM version").fetchall() == [(2,)]
        upgraded = postgres.query(catalogue), postgres.query(indexes)
    postgres.empty()
    with closing(PostgresSession(postgres.database)) as session:
        session.run("SELECT 1")
        assert (postgres.query(catalogue), postgres.query(indexes)) == upgraded
