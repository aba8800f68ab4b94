"""An event of a shard arrives as it left."""

from __future__ import annotations

import gzip
from datetime import UTC, datetime
from typing import get_args

import msgspec
import pytest

from consumer.actions import EventAction
from consumer.config import Blocking
from consumer.events import Attempt, Block, Canary, Event, Finding, Forged, Login, Logout, Probe, Trouble
from consumer.events_as_msgpack import EventBatch, decoded, decoded_batch, encoded, encoded_batch
from consumer.pipeline import Pipeline
from consumer.story.canaries import CANARY_PREFIX
from tests.integration.truth import CAPTURES_DIR
from tests.lines import line_of
from tests.unit.sample_lines import all_samples

NOW_US = int(datetime(2026, 11, 22, 12, tzinfo=UTC).timestamp()) * 1_000_000
LINE = line_of(5, text="x\xff\u0100", trusted=(0, "/usr/sbin/sshd"), host="web1")
TOKEN = "0" * 32
START = ("id1", LINE, "alice", "192.0.2.7", "4711")


def fresh() -> Pipeline:
    """Return a pipeline that has read nothing."""
    return Pipeline((), UTC, NOW_US, pytest.fail, block=Blocking(mode="dry-run"))


def events_of(*blocks: bytes) -> list[Event]:
    """Return the events of whole lines."""
    pipeline = fresh()
    found = [event for block in blocks for event in pipeline.feed(block)]
    for second in range(60):
        found += pipeline.tick(NOW_US + second * 1_000_000)
    return found


def test_every_kind() -> None:
    """Each kind of event is equal after the way, with every value of its line, and its types."""
    login = Login(*START, "publickey", "ED25519 SHA256:x", 0, factors=("publickey", "password"))
    every: list[Event] = [
        login, Logout(*START, login, 9), Attempt(*START, "password", user_is_valid=False, count=3, reason="invalid_user"),
        Probe(*START, "timeout"), Trouble(*START, "penalty", "x"), Canary(*START), Forged(*START, 1000, "accepted", 2, 7),
        Finding(*START, EventAction.GUESSING, "medium", "12/10m", "verified", labels={"by": "host"}),
        Block(*START, "192.0.2.7", False, 99, "f1", 2, True),  # noqa: FBT003 - as they are stored
    ]  # fmt: skip
    assert {type(event) for event in every} == set(get_args(Event))
    for event in every:
        found = decoded(encoded(event))
        assert found == event
        assert type(found.line) is tuple
        assert found.line[5] == (0, "/usr/sbin/sshd")


@pytest.mark.bulk
def test_events_of_captures_and_samples() -> None:
    """So is every event of all captures and samples."""
    texts = [gzip.decompress(path.read_bytes()) for path in sorted(CAPTURES_DIR.rglob("*.json.log.gz"))]
    samples = b"".join(sample.whole_line.encode("latin-1") + b"\n" for sample in all_samples())
    events = [event for text in (*texts, samples) for event in events_of(text)]
    assert len(events) > 300
    assert [decoded(encoded(event)) for event in events] == events


@pytest.mark.parametrize("body", [b"", b"x", msgspec.msgpack.encode((99, {})), msgspec.msgpack.encode((0, {})), b"\x92\x00\xc1"])
def test_what_is_no_event(body: bytes) -> None:
    """Bytes that are no event cost that event, with a report, and no other."""
    with pytest.raises(ValueError, match=r".*"):
        decoded(body)
    said: list[str] = []
    pipeline = Pipeline((), UTC, NOW_US, said.append)
    event = Attempt(*START, "password")
    assert pipeline.gather(EventBatch(2, 1, 2, [body, encoded(event)])) == [event]
    assert ["shard 2" in text for text in said] == [True]


def test_batch() -> None:
    """A batch keeps its place, and the order of its events."""
    batch = EventBatch(3, 5, 7, [b"a", b"b"])
    assert decoded_batch(encoded_batch(batch)) == batch


def test_gathering_finds_what_one_pipeline_finds() -> None:
    """Events of several shards cause the findings, blocks and canaries that they cause in one pipeline."""
    pipeline = fresh()
    pipeline.announce_canary(TOKEN)
    tries = []
    for number in range(12):
        line = line_of(NOW_US + number * 1_000_000, trusted=(0, ""), host=f"web{number % 3}")
        tries.append(Attempt(f"t{number}", line, "root", "203.0.113.7", str(number), "password"))
    found: list[Event] = []
    for shard in range(3):
        bodies = [encoded(event) for event in tries[shard::3]]
        found += pipeline.gather(EventBatch(shard, 1, len(bodies), bodies))
    assert [event.action for event in found if not isinstance(event, Attempt)] == ["guessing", "ssh_block"]
    canary = Attempt("c", line_of(NOW_US), f"{CANARY_PREFIX}{TOKEN}", "127.0.0.1", "1", "none")
    assert [type(event) for event in pipeline.gather(EventBatch(0, 1, 9, [encoded(canary)]))] == [Canary]
