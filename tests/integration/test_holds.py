"""Folds, digests, quiet hours and routes with the real ``run``, ``deliver`` and mail server."""

from __future__ import annotations

import json
import re
import sqlite3
import time
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from consumer.deliver.route_facts import LEARNING_DAYS
from tests.integration.lines import ours
from tests.integration.test_noise import login, subjects, take
from tests.waiting import wait_for

if TYPE_CHECKING:
    from tests.integration.mail_server import Post
    from tests.integration.site import Site

EVENTS = ["ssh_login", "ssh_logout", "ssh_forged", "ssh_attempt", "ssh_probe"]


def failed(number: int, address: str, host: str = "web1") -> bytes:
    """Return the line of a stranger's try."""
    text = f"Failed password for root from {address} port {number % 60_000 + 1} ssh2"
    return ours(text, pid=20_000 + number, number=number, host=host)


def change(site: Site, statement: str, *values: object, database: str = "delivery") -> int:
    """Change a database; return how many rows."""
    with closing(sqlite3.connect(site.state_dir / f"{database}.db", timeout=30)) as connection, connection:
        return connection.execute(statement, values).rowcount


def test_failed_logins_are_folded(site: Site, post: Post) -> None:
    """A mail reports the first try of each of few blocks; others count the rest, and add up after a kill."""
    site.configure(channel=site.channels(), route=[{"events": EVENTS, "channels": ["ops"]}])
    run = site.start_run()
    take(run, *(failed(number, f"198.51.{number % 40}.{number // 40 + 1}") for number in range(200)))
    take(run, *login(1, "root", 1))
    wait_for(lambda: len(subjects(post)) == 7, "the login, and the first tries of five blocks and of the others")
    assert sum(text.startswith("root logged in") for text in subjects(post)) == 1
    held = [entry for entry in site.objects("outbox") if entry["state"] == "pending"]
    assert len(held) == 194
    assert all(re.fullmatch(r"waits for the end of its window at 20\S+ \S+", entry["reason"]) for entry in held)
    (channel,) = site.objects("channels")
    assert (channel["name"], channel["type"], channel["state"], channel["pending"], channel["held"]) == (
        "ops",
        "email",
        "ok",
        0,
        194,
    )
    assert "sshbell OK" in site.ask("status").stdout
    run.kill()
    run = site.start_run()
    assert change(site, "UPDATE hold SET due_us = ? WHERE due_us > 0", time.time_ns() // 1000) == 6
    counted = re.compile(r"(\d+) more messages?: \1 failed logins?|Failed login to web1 as root from \S+")
    wait_for(lambda: sum(map(bool, map(counted.fullmatch, subjects(post)))) == 12, "a message for each fold")
    folds = [int(found[1]) for text in subjects(post) if (found := counted.fullmatch(text)) and found[1]]
    assert sum(folds) == 194
    assert run.end()[0] == 0


def test_a_daily_digest(site: Site, post: Post) -> None:
    """What a route collects is one report by person and host, at its time, and not before."""
    site.people.write_text('[[person]]\nname = "Carol Example"\naccounts = ["carol"]\n', encoding="utf-8")
    hour = (datetime.now(UTC).hour + 12) % 24
    route = {"events": EVENTS, "channels": ["ops"], "digest": f"daily {hour:02}:00"}
    site.configure(channel=site.channels(timezone="UTC"), route=[route], people=str(site.people))
    run = site.start_run()
    take(
        run, *login(1, "carol", 1), *login(2, "root", 2, "203.0.113.9"), *(failed(number, "198.51.100.1") for number in range(5))
    )
    take(run, ours("nobody knows this line of sshd", at=9))
    wait_for(lambda: [one["held"] for one in site.objects("channels")] == [7], "all is collected")
    assert post.inbox.mails == []
    run.kill()
    run = site.start_run()
    change(site, "UPDATE hold SET due_us = 1")
    wait_for(lambda: len(post.inbox.mails) == 1, "the report")
    (mail,) = post.inbox.mails
    assert str(mail["Subject"]) == "Daily report: 2 logins and 5 failed logins"
    body = mail.get_body(("plain",))
    assert body is not None
    text = " ".join(body.get_content().split())
    assert "Carol Example on web1: 1 login from 192.0.2.7" in text
    assert "root on web1: 1 login from 203.0.113.9, 5 failed" in text
    assert "sshbell itself sshbell has read" in text
    assert run.end()[0] == 0


def test_quiet_hours(site: Site, post: Post) -> None:
    """In quiet hours only what is urgent goes; the rest comes together when they end."""
    now = datetime.now(UTC)
    quiet = f"{(now.hour - 2) % 24:02}:00-{(now.hour + 3) % 24:02}:00"
    routes = [
        {"events": EVENTS, "channels": ["ops"]},
        {"channels": ["ops"], "urgent": True, "include": {"user": ["root"]}},
    ]
    site.configure(channel=site.channels(timezone="UTC", quiet=quiet), route=routes)
    run = site.start_run()
    take(run, *login(1, "alice", 1), *login(2, "bob", 2), *login(3, "root", 3))
    wait_for(lambda: len(post.inbox.mails) == 1, "the urgent one")
    assert subjects(post) == ["root logged in to web1 from 192.0.2.7"]
    assert {entry["reason"].partition(" at ")[0] for entry in site.objects("outbox")} == {"waits for the end of the quiet hours"}
    # The configuration is changed in the night: what is held keeps its time.
    site.configure(channel=site.channels(timezone="UTC"), route=routes)
    assert run.end()[0] == 0
    run = site.start_run()
    change(site, "UPDATE hold SET due_us = 1")
    wait_for(lambda: len(post.inbox.mails) == 2, "the rest")
    assert subjects(post)[1] == "2 messages held back: 2 logins"
    assert run.end()[0] == 0


def test_a_new_address(site: Site, post: Post) -> None:
    """A route with ``new`` reports a login from an unknown address, and none from a known one; a restart changes nothing."""
    site.configure(channel=site.channels(), route=[{"channels": ["ops"], "include": {"new": ["address"]}}])
    run = site.start_run()
    change(
        site,
        "UPDATE status SET value = value - ? WHERE name = 'created_us'",
        (LEARNING_DAYS + 400) * 86400 * 10**6,
        database="state",
    )
    take(run, *login(1, "alice", 1), *login(2, "alice", 2), *login(3, "alice", 3, "203.0.113.9"))
    wait_for(lambda: len(post.inbox.mails) == 2, "the two new addresses")
    run.kill()
    run = site.start_run()
    take(run, *login(4, "alice", 4, "203.0.113.9"), *login(5, "bob", 5, "203.0.113.9"))
    wait_for(lambda: len(post.inbox.mails) == 3, "the new address of another account")
    assert subjects(post) == [
        "alice logged in to web1 from 192.0.2.7 (new address)",
        "alice logged in to web1 from 203.0.113.9 (new address)",
        "bob logged in to web1 from 203.0.113.9 (new address)",
    ]
    body = post.inbox.mails[1].get_body(("plain",))
    assert body is not None
    assert "This is new for alice: address." in " ".join(body.get_content().split())
    # The store answers the same whenever it is asked.
    ids = [row[0] for row in site.query("SELECT id FROM event WHERE action = 'ssh_login' ORDER BY time_us")]
    shown = [json.loads(site.ask("route", event_id, "--json").stdout) for event_id in ids]
    assert [[route["takes"] for route in one["routes"]] for one in shown] == [[True], [False], [True], [False], [True]]
    assert run.end()[0] == 0


def test_route(site: Site) -> None:
    """``route`` shows which routes take an event, why the others do not, who gets it, and the message; nothing is sent."""
    site.people.write_text(
        '[[person]]\nname = "Alice Example"\naccounts = ["alice"]\ngroups = ["admins"]\n'
        'contacts = { email = ["alice@example.org"] }\n',
        encoding="utf-8",
    )
    routes = [
        {"channels": ["ops"], "include": {"host": ["db*"], "user": ["alice"]}},
        {"channels": ["home"], "include": {"group": ["admins"]}, "to_owner": True, "stop": True},
        {"channels": ["ops"]},
    ]
    site.configure(channel=site.channels("ops", "home"), route=routes, people=str(site.people))
    like = "user=alice ip=203.0.113.7 host=web1 method=password"
    shown = site.ask("route", "--like", like).stdout
    assert re.search(r"^ +1  no +include: host does not fit$", shown, re.MULTILINE)
    assert re.search(r"^ +2  yes +home$", shown, re.MULTILINE)
    assert re.search(r"^ +3  no +route 2 has stop = true$", shown, re.MULTILINE)
    assert "home to alice@example.org, at once\nSubject: Alice Example logged in to web1 as alice from 203.0.113.7\n" in shown
    found = json.loads(site.ask("route", "--like", like, "--json").stdout)
    assert [(one["channel"], one["recipients"]) for one in found["messages"]] == [("home", ["alice@example.org"])]
    event = site.folder / "event.json"
    event.write_text(json.dumps(found["event"]), encoding="utf-8")
    assert json.loads(site.ask("route", str(event), "--json").stdout)["messages"] == found["messages"]
    tried = json.loads(site.ask("route", "--like", "event=ssh_attempt", "--json").stdout)
    assert tried["messages"] == []
    site.configure(
        channel=site.channels(timezone="UTC"), route=[{"channels": ["ops"], "events": EVENTS, "digest": "daily 08:00"}]
    )
    (message,) = json.loads(site.ask("route", "--like", "event=ssh_attempt", "--json").stdout)["messages"]
    assert re.fullmatch(r"together with others at 20\d\d-\d\d-\d\d 08:00 UTC", message["when"])
    site.configure(channel=site.channels("ops", "home"), route=routes, people=str(site.people))
    other = json.loads(site.ask("route", "-", "--json", stdin='{"event":{"action":"ssh_logout"}}').stdout)
    assert [one["reason"] for one in other["routes"]] == ["ssh_logout is not in events"] * 3
    assert "no channel gets it" in site.ask("route", "--like", "event=ssh_attempt").stdout
    for arguments, status in (
        ((), 64), (("--like", "user"), 64), (("--like", "colour=red"), 64), (("--like", "uid=1", "x"), 64),
        (("--like", "port=many"), 64),
    ):  # fmt: skip
        site.ask("route", *arguments, status=status)
    site.ask("route", "-", stdin="no json", status=65)
    assert site.post.inbox.mails == []


@pytest.mark.parametrize("evil", ["\x1b]0;owned\x07", "a\nSubject: b", "{{ 7 * 7 }}", "\u202eevil"])
def test_route_with_hostile_texts(site: Site, evil: str) -> None:
    """No text of an event reaches the terminal as it is."""
    site.configure(channel=site.channels(), route=[{"channels": ["ops"]}])
    event = {
        "event": {"action": "ssh_login", "id": evil},
        "user": {"name": evil},
        "host": {"name": evil},
        "sshbell": {"new": [evil]},
    }
    shown = site.ask("route", "-", stdin=json.dumps(event)).stdout
    assert "49" not in shown
    assert not [char for char in shown if not (char.isprintable() or char == "\n")]
    assert "\nSubject: b" not in shown


def test_channels(site: Site) -> None:
    """``channels`` shows what each channel has done last, and what waits for it."""
    site.configure(channel=site.channels("ops") + site.channels("dead", port=9), route=[{"channels": ["ops", "dead"]}])
    assert [one["state"] for one in site.objects("channels")] == ["unused", "unused"]
    run = site.start_run()
    take(run, *login(1, "root", 1))

    def states() -> list[str]:
        return [one["state"] for one in site.objects("channels")]

    wait_for(lambda: states() == ["ok", "failing"], "one has succeeded, and one has failed")
    ops, dead = site.objects("channels")
    assert (ops["pending"], dead["pending"], ops["last_error"]) == (0, 1, None)
    assert "refused" in dead["last_error_reason"].lower() or "connect" in dead["last_error_reason"].lower()
    table = site.ask("channels").stdout
    assert re.search(r"^ops +email +ok +20", table, re.MULTILINE)
    assert re.search(r"^dead +email +failing +never +1 ", table, re.MULTILINE)
    assert run.end()[0] == 0
