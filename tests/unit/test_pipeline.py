"""``consumer.pipeline.LineReader``: what a line keeps is bounded in bytes, whatever was sent."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from consumer.config import Blocking
from consumer.detect.detectors import Detectors
from consumer.detect_settings import Detect
from consumer.ecs import json_line
from consumer.events import Forged, Login, Logout
from consumer.events_as_ecs import of_event
from consumer.framing.timestamps import Timestamps
from consumer.matching.matcher import Matcher
from consumer.pipeline import LineReader, Pipeline
from consumer.records import TEXT, TEXT_LIMIT, TRUSTED, USER

if TYPE_CHECKING:
    from consumer.records import Line

MATCHER = Matcher()
NOW_US = 1795400000000000
OPENED = "pam_unix(sshd:session): session opened for user {}(uid=1000) by (uid=0)"
CLOSED = "pam_unix(sshd:session): session closed for user {}"
# As long as a PAM line may be.
LONG = "x" * 1900


def pipeline() -> Pipeline:
    """Return a fresh one, to which every report is a fault."""
    return Pipeline([], UTC, NOW_US, pytest.fail)


def line(message: str, *, pid: int = 7, **fields: object) -> bytes:
    """Return a line of our template."""
    found = {
        "v": "1", "ts": "2026-11-22T10:00:00.000000+00:00", "rcvd": "2026-11-22T10:00:00.000001+00:00", "host": "web1",
        "tag": f"sshd[{pid}]:", "prog": "sshd", "procid": str(pid), "msg": f" {message}", "uid": 0, "exe": "/usr/sbin/sshd",
    }  # fmt: skip
    return json.dumps(found | fields, ensure_ascii=False).encode("latin-1") + b"\n"


def read(block: bytes, *, keep_text: bool = True) -> list[Line]:
    """Return the lines of a block."""
    return LineReader(MATCHER, Timestamps(datetime(2026, 12, 1, tzinfo=UTC), UTC), keep_text=keep_text).lines(block, 0)


def size(found: Line) -> int:
    """Return how many bytes of text a line keeps."""
    return sum(len(value) for value in found if isinstance(value, str)) + len((found[TRUSTED] or (0, ""))[1])


def test_a_long_line_is_cut() -> None:
    """The text and the name are cut, and end in the length that they had."""
    message = OPENED.format(LONG)
    (found,) = read(line(message))
    assert found[TEXT] == f"{message[:485]}\xe2\x80\xa6[1969 bytes]"
    assert found[USER] == f"{LONG[:485]}\xe2\x80\xa6[1900 bytes]"
    assert len(found[TEXT]) == len(found[USER] or "") == TEXT_LIMIT
    (without,) = read(line(message), keep_text=False)
    assert without == (*found[:TEXT], "", *found[TEXT + 1 :])


@pytest.mark.parametrize("length", [300, TEXT_LIMIT])
def test_a_line_of_sshd_is_whole(length: int) -> None:
    """It cuts its lines itself: nothing is cut that it has written."""
    message = "Failed password for invalid user {} from 192.0.2.1 port 5 ssh2"
    message = message.format("u" * (length - len(message) + 2))
    (found,) = read(line(message))
    assert found[TEXT] == message


def test_a_long_name_of_a_module() -> None:
    """A tag with a module's name becomes a part of the text, so it counts."""
    message = "session opened for user {} by (uid=0)"
    message = message.format("u" * (TEXT_LIMIT - 8 - len(message)))
    (found,) = read(f"2026-11-22T10:00:00+00:00 web1 sshd(pam_unix)[7]: {message}\n".encode())
    assert found[TEXT].endswith("bytes]")
    assert len(found[TEXT]) == TEXT_LIMIT


def test_what_a_line_keeps() -> None:
    """However long each of its parts is, what is kept of a line has a bound."""
    fields: dict[str, Any] = {"host": "h" * 60_000, "exe": f"/{'d' * 60_000}/sshd"}
    failure = (
        f"pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser={'r' * 600} rhost={'a' * 600}  user="
    )
    for message in (OPENED.format(LONG), failure + "u" * 600, "Accepted password for a from 192.0.2.1 port 5 ssh2"):
        (found,) = read(line(message, **fields))
        assert size(found) < 6 * TEXT_LIMIT
        assert (found[TRUSTED] or (0, ""))[1].endswith("d/sshd")


def test_a_session_with_a_long_name() -> None:
    """Its lines still find each other."""
    live = pipeline()
    accepted = line("Accepted password for a from 192.0.2.1 port 5 ssh2")
    events = [event for block in (accepted, line(OPENED.format("a"))) for event in live.feed(block)]
    live.feed(line(OPENED.format(LONG), pid=8))
    events += live.tick(NOW_US) + live.feed(line(CLOSED.format(LONG), pid=8, ts="2026-11-22T10:00:30+00:00"))
    assert [type(event) for event in events] == [Login, Login, Logout]
    assert events[1].user == events[2].user == f"{LONG[:485]}…[1900 bytes]"


@pytest.mark.parametrize("char", ["x", "\xff", "\xc2\x85"])
def test_a_forged_line_is_small(char: str) -> None:
    """What is stored of one is a few kB at most, however it is written; all outputs show that it was cut, and how long it was."""
    name = char * (1900 // len(char))
    (event,) = pipeline().feed(line(OPENED.format(name), uid=1000, exe="/usr/bin/logger"))
    assert isinstance(event, Forged)
    body = json_line(of_event(event, []))
    assert len(body) < 6_000
    found = json.loads(body)
    assert found["user"]["name"].endswith("…[1900 bytes]")
    assert found["event"]["original"].endswith(f"…[{len(OPENED.format(name))} bytes]")


def test_ids_of_cut_lines() -> None:
    """
    Lines that differ behind the cut alone count as equal ones do: each has its own id, the same one live and from a file.

    Each is from another writer, because sshbell counts the lines of one writer in one event.
    """
    blocks = [line(OPENED.format(LONG + end), uid=uid, exe="/usr/bin/logger") for uid, end in enumerate(("a", "b", "b"), 1000)]
    live = pipeline()
    found = [event.id for block in blocks for event in live.feed(block)]
    assert len(set(found)) == 3
    assert found == [event.id for event in pipeline().feed(b"".join(blocks))]


def test_findings_follow_their_event() -> None:
    """A finding comes right after the event that decided it, and lines live give the same ids as lines of a file."""
    blocks = [line("Accepted password for root from 192.0.2.1 port 5 ssh2"), line(OPENED.format("root"))]
    live = pipeline()
    events = [event for block in blocks for event in live.feed(block)]
    assert [event.action for event in events] == ["ssh_login", "root_by_password"]
    assert [event.id for event in pipeline().feed(b"".join(blocks))] == [event.id for event in events]


def test_settings_of_detectors_in_the_memory() -> None:
    """The settings of that time are in the snapshot, so that the journal after it gives the findings that it gave."""
    live = pipeline()
    live.configure_detect(Detect(root_by_password=False), Blocking())
    later = pipeline()
    later.restore([(name, body) for name, pieces in live.changed() if (body := list(pieces))])
    found = later.feed(line("Accepted password for root from 192.0.2.1 port 5 ssh2") + line(OPENED.format("root")))
    assert [event.action for event in found] == ["ssh_login"]


@pytest.mark.plain
def test_a_fault_of_a_detector(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is reported, and costs no event."""
    reports: list[str] = []
    live = Pipeline([], UTC, NOW_US, reports.append)

    def fail(_detectors: Detectors, event: object) -> None:
        raise ZeroDivisionError(event)

    monkeypatch.setattr(Detectors, "take", fail)
    found = live.feed(line("Accepted password for root from 192.0.2.1 port 5 ssh2") + line(OPENED.format("root")))
    assert [event.action for event in found] == ["ssh_login"]
    assert "ZeroDivisionError" in reports[0]


TOKEN = "0123456789abcdef" * 2


def test_canary() -> None:
    """The announced login is marked and counts for no detector; a snapshot keeps the announcement."""
    tries = [
        line(f"Failed none for invalid user sshbell-canary-{TOKEN} from 127.0.0.1 port {port} ssh2") for port in (4000, 4001)
    ]
    before = pipeline()
    before.announce_canary(TOKEN)
    later = pipeline()
    later.restore([(name, body) for name, pieces in before.changed() if (body := list(pieces))])
    for live in (before, later):
        assert [str(event.action) for one in tries for event in live.feed(one)] == ["ssh_canary", "ssh_attempt"]
    assert [str(event.action) for event in pipeline().feed(tries[0])] == ["ssh_attempt"]


def test_a_wrong_clock() -> None:
    """Findings about hosts come at ticks, and are the same after a restart in between."""

    def run(*, restarts: bool) -> list[str]:
        live, found, begin_us = pipeline(), [], 0
        for second in range(1, 9):
            live.feed(line("Accepted password for alice from 192.0.2.1 port 5 ssh2"))
            # Our clock is ten minutes behind the time of the lines.
            begin_us = begin_us or live.last_us - 600_000_000
            if restarts:
                after = pipeline()
                after.restore([(name, body) for name, pieces in live.changed() if (body := list(pieces))])
                live = after
            found += [event.id for event in live.tick(begin_us + second * 1_000_000) if event.action == "clock_skew"]
        return found

    assert len(run(restarts=False)) == 1
    assert run(restarts=True) == run(restarts=False)
