"""A pipeline that is interrupted anywhere, and goes on from its snapshot, tells what an uninterrupted one tells."""

import gzip
from datetime import UTC
from pathlib import Path

import msgspec
import pytest

from consumer.events import Login, Logout
from consumer.pipeline import Pipeline
from consumer.story import snapshot

CAPTURES = Path(__file__).parents[2] / "samples" / "captures"
LOGS = sorted(path for path in CAPTURES.glob("*/*.log.gz") if ".rfc3339." in path.name or ".json." in path.name)
NOW_US = 1795400000000000
HOST = "host\tsshd\tweb1"
Parts = dict[str, list[bytes]]


def pipeline() -> Pipeline:
    """Return a fresh one, to which every report is a fault."""
    return Pipeline([], UTC, NOW_US, pytest.fail)


def changed(live: Pipeline) -> Parts:
    """Return what differs from the last snapshot, as a store that takes it would see it."""
    return {part: list(pieces) for part, pieces in live.changed()}


def told(log: Path, *, every: int | None) -> list[str]:
    """Feed a log line by line with a tick now and then; carry the memory over to a fresh pipeline after each ``every`` lines."""
    live = pipeline()
    parts: Parts = {}
    events = []
    for number, line in enumerate(gzip.decompress(log.read_bytes()).splitlines(keepends=True)):
        events += live.feed(line.rstrip(b"\n") + b"\n")
        if number % 7 == 0:
            events += live.tick(NOW_US + number * 500_000)
        if every is not None and number % every == every - 1:
            parts |= changed(live)
            live.kept()
            live = pipeline()
            live.restore((name, pieces) for name, pieces in parts.items() if pieces)  # the store deletes a part without pieces
    events += live.tick(NOW_US + 10**12)
    return sorted(f"{event.action} {event.id} {event.user} {event.address} {event.time_us}" for event in events)


@pytest.mark.bulk
@pytest.mark.parametrize("log", LOGS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_interruptions_change_nothing(log: Path) -> None:
    """The events are the same, with the same ids, however often the memory went through a snapshot."""
    whole = told(log, every=None)
    for every in (7, 31):
        assert told(log, every=every) == whole


@pytest.mark.parametrize("before", [1, 2, 3])
def test_factors_outlive_an_interruption(before: int) -> None:
    """The methods of a login with two factors are known to whoever goes on, before the login as well as at its end."""
    lines = [
        b"Partial publickey for alice from 192.0.2.7 port 4711 ssh2: ED25519 SHA256:abc",
        b"Accepted keyboard-interactive/pam for alice from 192.0.2.7 port 4711 ssh2",
        b"pam_unix(sshd:session): session opened for user alice(uid=1000) by (uid=0)",
        b"pam_unix(sshd:session): session closed for user alice",
    ]
    whole = [b"2026-11-22T10:00:0%d+00:00 web1 sshd[1]: %s\n" % (second, text) for second, text in enumerate(lines)]
    first, second = pipeline(), pipeline()
    events = [event for line in whole[:before] for event in first.feed(line)]
    second.restore(first.changed())
    events += [event for line in whole[before:] for event in second.feed(line)]
    login, logout = events
    assert isinstance(login, Login)
    assert isinstance(logout, Logout)
    assert login.factors == logout.login.factors == ("publickey", "keyboard-interactive/pam")


def test_nothing_changed_gives_no_host() -> None:
    """Hosts that hold nothing and were not heard since the last snapshot that the store has are not written again."""
    live = pipeline()
    live.feed(b"2026-11-22T10:00:00+00:00 web1 sshd[1]: Connection closed by 192.0.2.1 port 5 [preauth]\n")
    assert HOST in changed(live)
    for number in range(8):
        live.tick(NOW_US + number * 5_000_000)
    assert HOST in changed(live)
    live.kept()
    assert HOST not in changed(live)
    live.forget_snapshot()
    assert HOST in changed(live)


def test_a_part_that_cannot_be_read_is_reported() -> None:
    """A damaged part costs what it held, is reported in one line, and stops nothing."""
    live = pipeline()
    live.feed(b"2026-11-22T10:00:00+00:00 web1 sshd[1]: Accepted password for a from 192.0.2.1 port 5 ssh2\n")
    parts = changed(live)
    (piece,) = parts[HOST]
    for damage in ([], [b""], [b"\x00"], [piece[:-9]], [piece.replace(b"accepted", b"rejected")], [piece, piece[:-1]]):
        reports: list[str] = []
        other = Pipeline([], UTC, NOW_US, reports.append)
        other.restore((parts | {HOST: damage}).items())
        assert len(reports) == 1
        assert "web1" in reports[0]
        # The next snapshot takes it out of the store, so that the next start does not find it again.
        assert changed(other)[HOST] == []


@pytest.mark.parametrize(
    "damage", [b"", b"\x00", b"\xc0", b"\x90", msgspec.msgpack.encode([[], 1, 2, [], b"1234567", b"", False])]
)
def test_a_damaged_part_of_the_pipeline(damage: bytes) -> None:
    """It costs what is known of lines, not what is known of hosts; lines that come again get the ids that they had."""
    live = pipeline()
    accepted = b"2026-11-22T10:00:00+00:00 web1 sshd[1]: Accepted password for a from 192.0.2.1 port 5 ssh2\n"
    tried = b"2026-11-22T10:00:00+00:00 web1 sshd[2]: Failed password for a from 192.0.2.1 port 6 ssh2\n"
    live.feed(accepted)
    before = [event.id for event in live.feed(tried)]
    reports: list[str] = []
    other = Pipeline([], UTC, NOW_US, reports.append)
    other.restore((changed(live) | {"pipeline": [damage]}).items())
    assert ["'pipeline'" in report for report in reports] == [True]
    assert [event.id for event in other.feed(tried)] == before
    opened = b"2026-11-22T10:00:01+00:00 web1 sshd[1]: pam_unix(sshd:session): session opened for user a(uid=1) by (uid=0)\n"
    (login,) = other.feed(opened)
    assert login.address == "192.0.2.1"


def test_a_large_host_comes_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """No piece is large, however much the host holds; together they are all of it, and without the last they are nothing."""
    monkeypatch.setattr(snapshot, "PIECE_BYTES", 2_000)
    live = pipeline()
    for pid in range(1, 301):
        live.feed(
            f"2026-11-22T10:00:00+00:00 web1 sshd[{pid}]: Accepted password for a from 192.0.2.1 port {pid} ssh2\n".encode()
        )
    parts = changed(live)
    assert len(parts[HOST]) > 20
    assert max(map(len, parts[HOST])) < 10_000
    other = pipeline()
    other.restore(parts.items())
    assert changed(other) == parts
    reports: list[str] = []
    other = Pipeline([], UTC, NOW_US, reports.append)
    other.restore((parts | {HOST: parts[HOST][:-1]}).items())
    assert len(reports) == 1


def test_late_lines_leave_nothing_behind() -> None:
    """Late lines under the PID of another connection are told, each with its own port, and none of them is held for ever."""
    live = pipeline()
    line = "2026-11-22T10:00:{:02}+00:00 web1 sshd[7]: Accepted password for a from 192.0.2.1 port {} ssh2\n"
    live.feed(line.format(10, 1).encode())
    told = [event for port in range(2, 102) for event in live.feed(line.format(5, port).encode())]
    assert len(told) == 100
    host = live._correlator.held.host_of(("web1", "sshd"))
    assert host is not None
    assert (len(host.by_source), len(host.connections)) == (1, 1)


def test_redelivered_lines() -> None:
    """Only a line of our template, with its time of receipt, is known again, also by the next process."""
    ours = b'{"v":"1","ts":"2026-11-22T10:00:00Z","rcvd":"2026-11-22T10:00:00.000001Z","host":"a","tag":"sshd[1]:","msg":"x"}\n'
    live = pipeline()
    assert [live.redelivery.has_seen(line) for line in (ours, ours, b"plain\n", b"plain\n")] == [False, True, False, False]
    other = pipeline()
    other.restore(live.changed())
    assert other.redelivery.has_seen(ours)


@pytest.mark.parametrize("tag", ["foo/sshd[9]:", "/sshd[9]:", "auth.info: sshd[9]:"])
def test_names_that_the_drop_in_keeps_back(tag: str) -> None:
    """What rsyslog never gives us anybody may have written into the file, under a name that is nearly sshd's."""
    file = f"2026-11-22T10:00:01.123456+00:00 web1 {tag} Accepted password for root from 192.0.2.1 port 5 ssh2\n"
    assert list(pipeline().missing([file.encode()], UTC)) == []
    assert list(pipeline().missing([file.replace(tag, "/usr/sbin/sshd[9]:").encode()], UTC)) != []


def test_lines_that_only_a_file_has() -> None:
    """Of a file's lines those are missing that never came in, however they came in, each as often as it stands there."""
    live = pipeline()
    text = "2026-11-22T10:00:{:02}.123456+00:00 web1 sshd[{}]: Failed password for root from 192.0.2.1 port 5 ssh2\n"
    json = (
        '{{"v":"1","ts":"2026-11-22T10:00:{:02}.123456+00:00","rcvd":"2026-11-22T10:00:00.000001Z","host":"web1","tag":"sshd[{}]:",'
        '"prog":"sshd","procid":"{}","msg":" Failed password for root from 192.0.2.1 port 5 ssh2","uid":0}}\n'
    )
    live.feed(json.format(1, 7, 7).encode())
    live.feed(text.format(2, 7).encode())
    file = "".join([text.format(1, 7), text.format(2, 7), text.format(2, 7), text.format(3, 8), "rubbish\n"]).encode()
    blocks = file.splitlines(keepends=True)
    assert (
        list(live.missing(blocks, UTC))
        == list(live.missing([file], UTC))
        == [text.format(2, 7).encode(), text.format(3, 8).encode()]
    )
