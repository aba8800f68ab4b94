"""Whose the keys in a table are: which are asked about, how many at once, and what is made of the answers."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections import Counter
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from consumer.config import KEYS_SOCKET
from consumer.ecs import NOTHING, EcsEvent, SshFields
from consumer.events_as_ecs import of_event
from consumer.keys.process import CHILD_LIMIT, LOOK_UP_S, TABLE_CHILD_LIMIT, TABLE_USER_LIMIT, USER_LIMIT
from consumer.keys.table import AT_ONCE_LIMIT, KEYS_LIMIT, TABLE_LIMIT_S, TableOwners
from consumer.selection import Selection
from consumer.store.queries import Asked, keys_used, open_now
from consumer.store.state import State
from tests.ecs_events import ecs, fields_of
from tests.store_events import START_US, session_lines, try_line
from tests.store_events import events_of as happened

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path


HERE = "web1"
SECOND_US = 1_000_000


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: f"{HERE}.example.net")


def fingerprint(number: int) -> str:
    """Return a fingerprint of its own."""
    return f"SHA256:{number:043}"


def login(number: int, user: str = "alice", address: str = "192.0.2.7", ca: str = "", host: str = HERE) -> EcsEvent:
    """Return the event of a login to this host."""
    certificate = {"certificate": {"id": "x", "ca_fingerprint": ca}} if ca else {}
    return ecs({
        "event": {"action": "ssh_login"}, "host": {"name": host}, "user": {"name": user}, "source": {"ip": address},
        "ssh": {"key": {"type": "ED25519", "fingerprint": fingerprint(number)}} | certificate,
    })  # fmt: skip


class Heard:
    """What a ``keys`` was asked, and how much of it at the same time."""

    def __init__(self) -> None:
        self.questions: list[dict[str, str]] = []
        self.at_once: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.total = 0


@contextmanager
def keys(folder: Path) -> Iterator[Heard]:
    """Answer each question with its fingerprint as owner, a little later, in a thread."""
    asked, ready, loop = Heard(), threading.Event(), asyncio.new_event_loop()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        question = json.loads(await reader.readline())
        user = question["user"]
        asked.questions.append(question)
        asked.at_once[user] += 1
        asked.most[user] = max(asked.most[user], asked.at_once[user])
        asked.total = max(asked.total, asked.at_once.total())
        await asyncio.sleep(0.002)  # who would ask more at once does so now; nothing shows that nobody does
        asked.at_once[user] -= 1
        owner = {"comment": question["fingerprint"], "options": [], "is_authority": "ca_fingerprint" in question}
        writer.write(json.dumps({"owners": [owner]}).encode() + b"\n")
        await writer.drain()
        writer.close()

    async def serve() -> None:
        async with await asyncio.start_unix_server(talk, str(folder / KEYS_SOCKET)):
            ready.set()
            await over.wait()

    over = asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(10)
        yield asked
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()
        loop.close()


def test_bounds_leave_room() -> None:
    """Whatever hangs, messages have half of the places of ``keys``, and one of each user's."""
    assert AT_ONCE_LIMIT <= TABLE_CHILD_LIMIT <= CHILD_LIMIT // 2
    assert TABLE_USER_LIMIT < USER_LIMIT
    assert TABLE_LIMIT_S < LOOK_UP_S


def test_each_once(tmp_path: Path) -> None:
    """A user's key is asked about once, from where it came last; an authority once, whatever keys it has signed."""
    logins = [
        login(1), login(1, address="192.0.2.8"), login(1, user="bob"), login(2, ca="SHA256:ca"), login(3, ca="SHA256:ca"),
    ]  # fmt: skip
    with keys(tmp_path) as asked:
        owners = TableOwners(tmp_path, logins)
    assert len(asked.questions) == 3
    assert all(one["for_table"] for one in asked.questions)
    assert {(one["user"], one["fingerprint"], one["address"]) for one in asked.questions} == {
        ("alice", fingerprint(1), "192.0.2.7"), ("bob", fingerprint(1), "192.0.2.7"), ("alice", fingerprint(2), "192.0.2.7"),
    }  # fmt: skip
    assert owners
    assert [fields_of(owners.of(one))["ssh"] for one in logins] == [
        *[{"key": {"owner": [fingerprint(1)]}}] * 3, *[{"certificate": {"ca_owner": fingerprint(2)}}] * 2
    ]  # fmt: skip
    assert owners.of(login(4)) == NOTHING
    assert owners.of(login(1, host="web2")) == NOTHING


def test_newest_and_few_at_once(tmp_path: Path) -> None:
    """No more than ``KEYS_LIMIT`` are asked about, the newest; a user's in turn, and of all users no more than a few at once."""

    def logins() -> Iterator[EcsEvent]:
        for number in range(KEYS_LIMIT):
            yield login(number, user=f"user{number % 8}")
        pytest.fail("more is taken than is asked about")

    with keys(tmp_path) as asked:
        TableOwners(tmp_path, logins())
    assert {one["fingerprint"] for one in asked.questions} == {fingerprint(number) for number in range(KEYS_LIMIT)}
    assert (set(asked.most.values()), asked.total) == ({1}, AT_ONCE_LIMIT)


def test_a_user_in_any_case(tmp_path: Path) -> None:
    """Where a name service knows an account in any case, whose home hangs holds one place, however its name was typed."""
    with keys(tmp_path) as asked:
        TableOwners(tmp_path, [login(number, user) for number, user in enumerate(("alice", "ALICE", "Alice", "aLICE"))])
    assert (len(asked.questions), asked.total) == (4, 1)


def test_nothing_to_ask(tmp_path: Path) -> None:
    """Nobody is asked about logins to other hosts, and nothing is known then; nor where nobody answers."""
    password = msgspec.structs.replace(login(1), ssh=SshFields(method="password"))
    with keys(tmp_path) as asked:
        assert not TableOwners(tmp_path, [login(1, host="web2"), password])
    assert asked.questions == []
    assert not TableOwners(tmp_path, [login(1)])


def used(folder: Path, asked: Asked, *, of_events: bool = False) -> list[tuple[str | None, str, str | None]]:
    """Return user, last digit of the fingerprint, and port of what ``keys_used`` yields."""
    found = keys_used(folder, asked, socket.gethostname(), of_events=of_events)
    return [(one.user, (of_event(one, []).ssh.key.fingerprint or "")[-1], one.port) for one in found]


def filled(folder: Path, *lines: Iterable[bytes]) -> None:
    """Record what happened according to lines."""
    with closing(State(folder, pytest.fail)) as state:
        state.record(happened(*(line for some in lines for line in some)), frozenset(), START_US)


def session(pid: int, key: int, user: str = "alice", **more: Any) -> list[bytes]:
    """Return the lines of a session; the later, the higher its pid."""
    return session_lines(pid, user, at_us=START_US + pid * SECOND_US, info=f": ED25519 {fingerprint(key)}", **more)


def test_keys_used_by_turns(tmp_path: Path) -> None:
    """Whoever has many keys, or names in AD, does not use up what is asked about: each user has a turn before."""
    mallory = [session(10 + number, number, user=("mallory", "MALLORY")[number % 2]) for number in range(9)]
    filled(tmp_path, session(1, 1), session(2, 2), session(3, 1, user="bob"), *mallory)
    found = used(tmp_path, Asked(Selection(None, None, None, None)))
    assert [f"{user} {key}" for user, key, _port in found[:5]] == ["mallory 8", "bob 1", "alice 2", "MALLORY 7", "alice 1"]
    assert len(found) == 12


def test_keys_used(tmp_path: Path) -> None:
    """One login for each user and key of this host, the newest first; of what is asked for alone."""
    filled(
        tmp_path, session(1, 1), session(2, 2, lasts_s=None), session(3, 1, user="bob"), session(4, 1, lasts_s=None),
        session(5, 3, host="web2"),
        session_lines(6, "dave", at_us=START_US + 6 * SECOND_US, method="password", info=""), [try_line(7)],
    )  # fmt: skip
    everything = Asked(Selection(None, None, None, None))
    assert used(tmp_path, everything) == [("alice", "1", "4"), ("bob", "1", "3"), ("alice", "2", "2")]
    # By the time of the event: a logout is one.
    assert [one[:2] for one in used(tmp_path, everything, of_events=True)] == [("bob", "1"), ("alice", "1"), ("alice", "2")]
    assert used(tmp_path, open_now(None, None, START_US)) == [("alice", "1", "4"), ("alice", "2", "2")]
    assert used(tmp_path, open_now("bob", None, START_US)) == []
    # The newest rows are dave's, and one of another host.
    assert used(tmp_path, Asked(everything.selection, limit=3)) == [("alice", "1", "4")]
    assert used(tmp_path, Asked(Selection(None, START_US + 2 * SECOND_US, None, None))) == [("alice", "1", "1")]
