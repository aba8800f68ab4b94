"""Values in the databases that sshbell never writes: a command shows what it can, or one line about the file; it never fails."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from consumer.cli import main
from consumer.store.delivery import Delivery
from consumer.store.delivery_rows import Routed
from consumer.store.outbox import Outbox
from consumer.store.state import State
from consumer.system import status
from tests.integration.site import configuration, mail_channel
from tests.store_events import events_of, forged_line, probe_line, session_lines, try_line

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.bulk

# What SQLite stores in a column of any type.
VALUES = [b"\xff\xfe", "word\x1b[2J", -(1 << 62), float("inf")]
COMMANDS = [
    ["who"],
    ["history", "--json", "--events"],
    ["history", "--csv", "--since", "2026-11-22T10:05:00+00:00"],
    ["status", "--json"],
    ["outbox", "--json", "--all"],
    ["people", "check"],
]
# Done, usage, and a store that cannot be read; "status" has those of monitoring, "people check" those of its findings.
CODES = {0, 1, 2, 3, 74, 78}
COLUMNS = [
    ("state", table, column)
    for table, columns in {
        "event": "id time_us action host user uid address port method info origin count reason ambiguous login_id factors",
        "session": "login_id host user uid address port method info origin ambiguous opened_us closed_us factors",
        "outbox": "event_id action queued_us body",
        "status": "name value",
        "note": "name text",
    }.items()
    for column in columns.split()
] + [
    ("delivery", table, column)
    for table, columns in {
        "delivery": "event_id channel seq state attempts queued_us next_us done_us reason digest body budget",
        "channel": "name last_success_us last_error_us last_error failures retry_us",
        "budget": "channel name tokens tokens_us",
        "cursor": "seq event_id base ahead ahead_id",
    }.items()
    for column in columns.split()
]


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a state directory with a row in every table."""
    folder = tmp_path_factory.mktemp("filled")
    lines = [*session_lines(1), *session_lines(2, "bob", lasts_s=None), try_line(3), probe_line(4), forged_line()]
    state = State(folder, pytest.fail)
    state.record(events_of(*lines), frozenset({"ssh_login"}), 1)
    state.set_status({"started_us": 1, "lines_total": 7})
    state.set_notes({"version": "1"})
    state.close()
    delivery, outbox = Delivery(folder, pytest.fail), Outbox(folder)
    delivery.route(Routed(message, ["ops"]) for message in outbox.since(0, 10))
    message = delivery.due("ops", 1 << 60)
    assert message is not None
    delivery.sent("ops", message, 1, 0.5, None)
    outbox.close()
    delivery.close()
    return folder


@pytest.mark.parametrize(("database", "table", "column"), COLUMNS, ids=lambda name: name)
def test_wrong_value(
    filled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, database: str, table: str,
    column: str,
) -> None:  # fmt: skip
    """Each column in turn has each wrong value: no command reports a fault of sshbell itself."""
    monkeypatch.setattr(status, "START_S", 0.0)  # nothing runs here
    config = tmp_path / "sshbell.toml"
    people = tmp_path / "people.toml"
    people.touch()
    state_dir = tmp_path / "state"
    config.write_text(configuration(state_dir, people=str(people), channel=[mail_channel(1)]))
    for value in VALUES:
        shutil.copytree(filled, state_dir)
        with closing(sqlite3.connect(state_dir / f"{database}.db")) as connection:
            connection.execute("PRAGMA ignore_check_constraints = ON")
            statement = f"UPDATE {table} SET {column} = ? WHERE {column} IN (SELECT {column} FROM {table} LIMIT 1)"  # noqa: S608
            connection.execute(statement, (value,))
            connection.commit()
        for command in COMMANDS:
            with pytest.raises(SystemExit) as ended:
                main([*command, "--config", str(config)])
            said = capsys.readouterr()
            assert ended.value.code in CODES, (value, command, said.err)
            assert "Traceback" not in said.err
            if ended.value.code == 74:
                assert said.err.count("\n") == 1, (value, command, said.err)
            assert "\x1b[2J" not in said.out + said.err
        shutil.rmtree(state_dir)
