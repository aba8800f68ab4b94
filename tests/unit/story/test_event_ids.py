"""``event.id``: the same thing has the same id, however it was logged and however often it is read."""

from __future__ import annotations

import functools
import json
from datetime import UTC, datetime

import pytest

from consumer.events import Event, Login, Logout
from consumer.framing.timestamps import Timestamps
from consumer.matching.matcher import Matcher
from consumer.pipeline import LineReader
from consumer.story.correlate import Correlator
from consumer.story.event_ids import HOST_LINES_LIMIT, Identities, IdentitiesByHost, derived

TEXTS = [
    "Failed password for alice from 192.0.2.7 port 4711 ssh2",
    "Accepted password for alice from 192.0.2.7 port 4711 ssh2",
    "pam_unix(sshd:session): session opened for user alice(uid=1001) by (uid=0)",
    "pam_unix(sshd:session): session closed for user alice",
]


@functools.cache
def matcher() -> Matcher:
    """Return the one matcher; it has no memory of lines."""
    return Matcher()


def events_of(lines: list[str]) -> list[Event]:
    """Return what is told of a log."""
    events: list[Event] = []
    reader = LineReader(matcher(), Timestamps(datetime(2026, 11, 23, tzinfo=UTC), UTC), keep_text=True)
    correlator = Correlator(matcher().rules, lambda name: matcher().program(name).family, events.append)
    correlator.feed(reader.lines("".join(f"{line}\n" for line in lines).encode(), 1))
    correlator.settle()
    return events


def ids(lines: list[str]) -> list[str]:
    """Return the ids of a log's events."""
    return [event.id for event in events_of(lines)]


def _json(second: int, text: str, **more: str) -> str:
    found = {"timestamp": f"2026-11-22T10:00:0{second}.123456+00:00", "host": "web1", "tag": "sshd[7]:", "program": "sshd"}
    return json.dumps(found | {"procid": "7", "message": f" {text}"} | more)


FRAMINGS = {
    "traditional": [f"Nov 22 10:00:0{n} web1 sshd[7]: {text}" for n, text in enumerate(TEXTS)],
    "with a priority": [f"<38>Nov 22 10:00:0{n} web1 sshd[7]: {text}" for n, text in enumerate(TEXTS)],
    "iso": [f"2026-11-22T10:00:0{n}.987654+00:00 web1 sshd[7]: {text}" for n, text in enumerate(TEXTS)],
    "iso in another zone": [f"2026-11-22T11:00:0{n}.5+01:00 web1 sshd[7]: {text}" for n, text in enumerate(TEXTS)],
    "iso, relayed": [f"2026-11-22T10:00:0{n}Z web1 sshd[7] {text}" for n, text in enumerate(TEXTS)],
    "rfc5424": [f"<38>1 2026-11-22T10:00:0{n}.1Z web1 sshd 7 - -  {text}" for n, text in enumerate(TEXTS)],
    "rfc5424 with a mark": [f"<38>1 2026-11-22T10:00:0{n}.1Z web1 sshd 7 - - \ufeff{text}" for n, text in enumerate(TEXTS)],
    "json": [_json(n, text) for n, text in enumerate(TEXTS)],
    "json with a uid": [_json(n, text, uid="0", exe="/usr/sbin/sshd") for n, text in enumerate(TEXTS)],
    "annotated": [f"Nov 22 10:00:0{n} web1 sshd[7]: {text} @[_PID=7 _UID=0 _GID=0 _COMM=sshd]" for n, text in enumerate(TEXTS)],
    "a path as program": [f"Nov 22 10:00:0{n} web1 /usr/sbin/sshd[7]: {text}" for n, text in enumerate(TEXTS)],
    "renamed program": [f"Nov 22 10:00:0{n} web1 sshd-session[7]: {text}" for n, text in enumerate(TEXTS)],
}


@pytest.mark.parametrize("framing", FRAMINGS)
def test_ids_do_not_depend_on_the_framing(framing: str) -> None:
    """A try, a login and a logout have the same ids in every framing, with uid and microseconds or without."""
    expected = ids(FRAMINGS["traditional"])
    assert len(set(expected)) == 3
    assert ids(FRAMINGS[framing]) == expected


def test_ids_are_stable() -> None:
    """Ids do not change with versions of sshbell: what was told must not be told again after an upgrade."""
    assert Identities().of_line("ssh_login", "web1", "sshd", "7", 1_795_341_601_000_000, TEXTS[1]) == (
        "60aa253d078276d43f1e52299b52bb4f"
    )


def test_id_of_a_logout_is_its_logins() -> None:
    """The id of a logout derives from its login's, so that it is the same whichever line ended the session."""
    login, logout = (event for event in events_of(FRAMINGS["iso"]) if isinstance(event, (Login, Logout)))
    assert logout.id == derived(login.id, "ssh_logout") != login.id


def test_later_lines_do_not_change_an_id() -> None:
    """A login has its id from its Accepted line alone, whatever comes or does not come behind it."""
    whole = FRAMINGS["iso"]
    (login,) = (event for event in events_of(whole[:2]) if isinstance(event, Login))
    assert login.id in ids(whole)


def test_equal_lines_of_one_second_are_numbered() -> None:
    """Equal lines of one second are different events; of the same lines, read again, the ids are the same."""
    lines = [FRAMINGS["traditional"][0]] * 5
    assert len(set(ids(lines))) == 5
    assert ids(lines) == ids(lines)
    assert ids(lines)[:3] == ids(lines[:3])


@pytest.mark.parametrize(
    "change",
    [{"kind": "ssh_attempt"}, {"host": "web2"}, {"family": "dropbear"}, {"procid": "8"}, {"time_us": 2_000_000}, {"text": "x"}],
    ids=str,
)
def test_every_part_counts(change: dict[str, str | int]) -> None:
    """Kind, host, family, PID, second and text each make another id; microseconds do not."""
    line = {"kind": "ssh_login", "host": "web1", "family": "sshd", "procid": "7", "time_us": 1_000_000, "text": "Accepted"}
    one = Identities().of_line(**line)  # type: ignore[arg-type]
    assert Identities().of_line(**(line | change)) != one  # type: ignore[arg-type]
    assert Identities().of_line(**(line | {"time_us": 1_999_999})) == one  # type: ignore[arg-type]


def test_any_text_has_an_id() -> None:
    """Raw bytes in a host or a text, a time before 1970 and an empty PID are no reason to fail."""
    assert Identities().of_line("ssh_probe", "\xff", "", "", -5, "\x00\xff") != Identities().of_line(
        "ssh_probe", "", "", "", 0, ""
    )


def test_memory_is_bounded() -> None:
    """Of any number of lines a bounded number is remembered."""
    identities = Identities()
    for number in range(20_000):
        identities.of_line("ssh_probe", "web1", "sshd", str(number), 0, "x")
    assert sum(map(len, identities._seen._entries.values())) < 20_000


def numbered(identities: Identities, host: str, second: int, text: str = "Failed") -> str:
    """Return the id of a line."""
    return identities.of_line("x", host, "sshd", "7", second * 1_000_000, text)


def test_other_hosts_change_no_id() -> None:
    """With a memory for each host, the ids of a host are those of its lines alone, whichever hosts are read beside it."""
    alone, together = IdentitiesByHost(), IdentitiesByHost()
    expected = [numbered(alone, "web1", 1) for _ in range(3)]
    assert len(set(expected)) == 3
    found = []
    for turn in range(3):
        found.append(numbered(together, "web1", 1))
        # More than one memory for all hosts would keep.
        for number in range(20_000):
            numbered(together, f"other{turn}", 1 + number // 100, str(number))
    assert found == expected


def test_the_same_ids_with_one_memory_for_all_hosts() -> None:
    """Both ways to remember lines give the same ids, as long as neither has forgotten any."""
    one, by_host = Identities(), IdentitiesByHost()
    lines = [(f"web{number % 3}", number // 40, str(number % 5)) for number in range(4000)]
    assert [numbered(one, *line) for line in lines] == [numbered(by_host, *line) for line in lines]


def test_the_memory_of_hosts_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flood of one host, years of it, and a million names of hosts: the number of lines stays bounded."""
    identities = IdentitiesByHost()
    for number in range(100_000):
        numbered(identities, "web1", 1, str(number))
    assert held(identities) <= 2 * 8192
    for second in range(0, 400_000, 20):
        numbered(identities, "web1", second)
    assert held(identities) <= 2 * 300 // 20 + 2
    assert HOST_LINES_LIMIT >= 100_000
    monkeypatch.setattr("consumer.story.event_ids.HOST_LINES_LIMIT", 1000)
    for number in range(5000):
        numbered(identities, f"host{number}", 400_000)
        assert held(identities) <= 1000
        assert held(identities) == identities._total


def held(identities: IdentitiesByHost) -> int:
    """Return how many lines are remembered."""
    return sum(len(lines.new) + len(lines.old) for lines in identities._hosts.values())
