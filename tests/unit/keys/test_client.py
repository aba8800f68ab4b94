"""``consumer.keys.client``: what is asked, what is made of the answer, and what a dead, hung or lying ``keys`` costs."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from consumer.config import KEYS_SOCKET
from consumer.ecs import NOTHING
from consumer.keys import client as keys_client
from consumer.keys.client import ANSWER_LIMIT, KeyOwners
from consumer.keys.fields import Question, question_of
from tests.ecs_events import ecs, fields_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

EVENT: dict[str, Any] = {
    "event": {"action": "ssh_login"}, "host": {"name": "web1"}, "user": {"name": "alice"},
    "source": {"ip": "192.0.2.7", "port": 4711},
    "ssh": {"method": "publickey", "key": {"type": "ED25519", "fingerprint": "SHA256:abc"}},
}  # fmt: skip
GOOD = b'{"owners":[{"comment":"laptop","options":["restrict"],"is_authority":false}]}\n'


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "web1.example.net")


def test_question() -> None:
    """What finds a key's line is asked; what the log does not say is left out."""
    assert question_of(ecs(EVENT), "web1") == Question("alice", "SHA256:abc", key_type="ED25519", address="192.0.2.7")
    certificate = {"certificate": {"id": "alice@ca", "serial": 7, "ca_fingerprint": "SHA256:ca"}}
    found = question_of(ecs(EVENT | {"ssh": EVENT["ssh"] | certificate}), "web1")
    assert found == Question("alice", "SHA256:abc", "SHA256:ca", "ED25519", "192.0.2.7")


@pytest.mark.parametrize(
    "other",
    [
        {"host": {"name": "web2"}},
        {"event": {"action": "ssh_attempt"}},
        {"ssh": {"method": "password"}},
        {"user": {}},
        {"host": {}},
        {"event": {}},
        {"ssh": {}},
    ],
)
def test_nothing_to_ask(other: dict[str, Any]) -> None:
    """Another host's login, a try, a password, and what says nothing of these."""
    assert question_of(ecs(EVENT | other), "web1") is None


def answered(folder: Path, answer: Callable[[asyncio.StreamWriter], Any]) -> tuple[dict[str, Any], float]:
    """Ask a ``keys`` that answers so; return what comes of it, and how long it took."""
    asked = []
    talks: list[asyncio.Task[None]] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        talks.append(task)
        asked.append(json.loads(await reader.readline()))
        try:
            await answer(writer)
        except OSError:
            pass  # it has heard enough
        finally:
            writer.close()

    async def all_of_it() -> tuple[dict[str, Any], float]:
        async with await asyncio.start_unix_server(talk, str(folder / KEYS_SOCKET)):
            began_s = time.monotonic()
            found = fields_of(await KeyOwners(folder).of(ecs(EVENT))).get("ssh", {}), time.monotonic() - began_s
            # From Python 3.12 the end of the server waits for them.
            for each in talks:
                each.cancel()
            return found

    found = asyncio.run(all_of_it())
    assert asked == [{"user": "alice", "fingerprint": "SHA256:abc", "key_type": "ED25519", "address": "192.0.2.7"}]
    return found


def says(text: bytes) -> Callable[[asyncio.StreamWriter], Any]:
    """Return an answer."""

    async def said(writer: asyncio.StreamWriter) -> None:
        writer.write(text)
        await writer.drain()

    return said


def test_answer(tmp_path: Path) -> None:
    """Two owners of one key are both said, each once; an authority is named as such; an empty comment is none."""
    owners = [
        {"comment": "laptop", "options": ['from="10.0.0.0/8"'], "is_authority": False},
        {"comment": "desk", "options": ["restrict"], "is_authority": False},
        {"comment": "laptop", "options": ["restrict"], "is_authority": False},
        {"comment": "", "options": [], "is_authority": False},
        {"comment": "the CA", "options": [], "is_authority": True},
    ]
    assert answered(tmp_path, says(json.dumps({"owners": owners}).encode() + b"\n"))[0] == {
        "key": {"owner": ["laptop", "desk"], "options": ['from="10.0.0.0/8"', "restrict"]},
        "certificate": {"ca_owner": "the CA"},
    }


@pytest.mark.parametrize(
    "text",
    [
        b"", b"\n", GOOD[:-1], GOOD[:20], b"garbage\n", b"\xff\xfe\n", b"null\n", b'{"owners":7}\n', b'{"owners":[]}\n',
        b"[" * 60_000 + b"\n",
        GOOD.replace(b'"laptop"', b'"' + b"x" * 501 + b'"'), b"x" * (ANSWER_LIMIT * 4),
        json.dumps({"owners": [{"comment": "a", "options": [], "is_authority": False}] * 17}).encode() + b"\n",
        GOOD.replace(b"[", b"[" * 5_000),
    ],
)  # fmt: skip
def test_lies(tmp_path: Path, text: bytes) -> None:
    """What is no answer costs the name, and nothing else."""
    assert answered(tmp_path, says(text))[0] == {}


def test_silence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that hangs, and one that is slow byte by byte, cost no more than the limit; that holds for all of it."""
    monkeypatch.setattr(keys_client, "LIMIT_S", 0.3)

    async def hang(_writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    async def drip(writer: asyncio.StreamWriter) -> None:
        for byte in GOOD * 10:
            writer.write(bytes([byte]).replace(b"\n", b" "))
            await asyncio.sleep(0.05)  # slowness is what is tested: far more of it than the limit

    for number, slow in enumerate((hang, drip)):
        (folder := tmp_path / str(number)).mkdir()
        answer, took_s = answered(folder, slow)
        assert answer == {}
        assert 0.3 <= took_s < 3


@pytest.mark.parametrize(("text", "is_valid"), [(GOOD, True), (b'{"owners":[]}\n', True), (b"garbage\n", False), (b"", False)])
def test_whether_keys_answers(tmp_path: Path, text: bytes, is_valid: bool) -> None:  # noqa: FBT001
    """Only a valid answer counts."""
    assert not asyncio.run(KeyOwners(tmp_path).answers())

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        await says(text)(writer)
        writer.close()

    async def ask() -> bool:
        async with await asyncio.start_unix_server(talk, str(tmp_path / KEYS_SOCKET)):
            return await KeyOwners(tmp_path).answers()

    assert asyncio.run(ask()) == is_valid


def test_absence(tmp_path: Path) -> None:
    """Where nobody listens, or a dead one's socket is left, nothing is known; another one is found at the next question."""
    assert asyncio.run(KeyOwners(tmp_path).of(ecs(EVENT))) == NOTHING
    assert answered(tmp_path, says(GOOD))[0] != {}
    assert asyncio.run(KeyOwners(tmp_path).of(ecs(EVENT))) == NOTHING
    (tmp_path / KEYS_SOCKET).unlink(missing_ok=True)
    assert answered(tmp_path, says(GOOD))[0] == {"key": {"owner": ["laptop"], "options": ["restrict"]}}
    assert asyncio.run(KeyOwners(tmp_path / "no such folder").of(ecs(EVENT))) == NOTHING
    assert asyncio.run(KeyOwners(tmp_path / ("x" * 200)).of(ecs(EVENT))) == NOTHING
