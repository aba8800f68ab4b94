"""Whose lines come from which address: of our template alone, whatever a message holds."""

from __future__ import annotations

import json

import pytest

from consumer.events import Login, Probe
from consumer.intake import senders as module
from consumer.intake.senders import Senders
from consumer.records import OURS
from tests.lines import line_of

LINE = line_of()
LOGIN = Login("1" * 32, LINE, "alice", "192.0.2.7", "4711", "publickey", None)
PROBE = Probe("2" * 32, LINE, None, "192.0.2.7", "22", "x")


def ours(host: str, address: str, message: str = "x") -> bytes:
    """Return a line as rsyslog makes it of our template."""
    text = json.dumps(message)
    return (
        f'{{"v": "1", "ts":"2026-11-22T10:00:00+00:00", "rcvd":"2026-11-22T10:00:00.1+00:00", "host":"{host}", '
        f'"from_ip":"{address}", "input":"imtcp", "tag":"sshd[5]:", "prog":"sshd", "procid":"5", "msg":{text}}}\n'
    ).encode()


def noted(*lines: bytes) -> set[tuple[str, str]]:
    """Return the pairs of a block in which somebody logs in."""
    found = Senders()
    found.note(b"".join(lines), [LOGIN])
    return found.new


def test_pairs() -> None:
    """Each pair is noted, in the usual form of its address; lines of this machine have one address."""
    assert noted(
        ours("bastion1", "10.0.0.5"), ours("db1", "10.0.0.6"), ours("db1", "::ffff:10.0.0.6"), ours("six", "FD00:0::5"),
        ours("relay", "127.0.0.1"), ours("relay", "::1"), ours("odd", "fe80::1"), ours("odd", "::"), ours("odd", "1.2.3"),
        ours("compact", "10.0.0.7").replace(b'", "', b'","').replace(b'": "', b'":"'),
    ) == {
        ("bastion1", "10.0.0.5"), ("db1", "10.0.0.6"), ("six", "fd00::5"), ("relay", OURS), ("compact", "10.0.0.7"),
    }  # fmt: skip


FORGED = '{"v": "1", "ts":"x", "rcvd":"x", "host":"bastion1", "from_ip":"10.6.6.6", "input":"x"}'


@pytest.mark.parametrize(
    "line",
    [
        ours("evil", "10.0.0.1", FORGED),
        ours("evil", "10.0.0.1", f"\n{FORGED}\n"),
        f"2026-11-22T10:00:00+00:00 evil sshd[5]: {FORGED}\n".encode(),
        f"<38>Nov 22 10:00:00 evil sshd[5]: {FORGED}\n".encode(),
        b'{"MESSAGE": ' + json.dumps(FORGED).encode() + b', "_HOSTNAME": "evil"}\n',
        ours('b\\"x', "10.0.0.1"),
        ours("ü", "10.0.0.1"),
    ],
)
def test_texts_of_others(line: bytes) -> None:
    """What stands in a message is not what rsyslog says, in any framing."""
    assert {address for host, address in noted(line) if host != "evil"} == set()
    assert ("evil", "10.6.6.6") not in noted(line)


def test_one_look_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody logs in there is one look a second; what is stored is noted again after an hour."""
    now_s = [1000.0]
    monkeypatch.setattr("consumer.intake.senders.time.monotonic", lambda: now_s[0])
    found = Senders()

    def after(seconds: float, line: bytes, *events: Login | Probe) -> set[tuple[str, str]]:
        now_s[0] += seconds
        found.new.clear()
        found.note(line, events)
        return set(found.new)

    a, b = ours("a", "10.0.0.1"), ours("b", "10.0.0.2")
    assert after(0, a, PROBE) == {("a", "10.0.0.1")}
    assert after(0.5, b, PROBE) == set()
    assert after(0.1, b, LOGIN) == {("b", "10.0.0.2")}
    assert after(1.1, a + b, LOGIN) == set()
    assert after(3600, a + b) == {("a", "10.0.0.1"), ("b", "10.0.0.2")}


def test_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many hosts a sender makes up, some are remembered."""
    monkeypatch.setattr(module, "SENDER_LIMIT", 3)
    found = Senders()
    for number in range(10):
        found.note(ours(f"h{number}", "10.0.0.1"), [LOGIN])
    assert len(found._stored_s) == 3
