"""While lines that were lost may yet be found, no story is told as two for the sole reason that time has passed."""

from datetime import UTC
from itertools import permutations

import pytest

from consumer.events import Attempt, Event, Login, Logout, Probe
from consumer.pipeline import Pipeline

NOW_US = 1795400000000000
OPENED = "pam_unix(sshd:session): session opened for user alice(uid=1000) by (uid=0)"
ACCEPTED = "Accepted password for alice from 192.0.2.1 port 5 ssh2"


def pipeline() -> Pipeline:
    """Return a fresh one, to which every report is a fault."""
    return Pipeline([], UTC, NOW_US, pytest.fail)


def line(text: str, pid: int = 7) -> bytes:
    """Return a line of web1's log."""
    return f"2026-11-22T10:00:00.000000+00:00 web1 sshd[{pid}]: {text}\n".encode()


def passed(live: Pipeline, minutes: range) -> list[Event]:
    """Let time pass, by ticks."""
    return [
        event for second in range(60 * minutes.start, 60 * minutes.stop, 5) for event in live.tick(NOW_US + second * 1_000_000)
    ]


def carried_over(live: Pipeline) -> Pipeline:
    """Return another process's pipeline, with what this one knows."""
    other = pipeline()
    other.restore(live.changed())
    return other


def test_a_session_waits_for_its_accepted_line() -> None:
    """One login, with its address, however late the line is found, and whoever died meanwhile."""
    live = pipeline()
    live.hold(is_holding=True)
    assert live.feed(line(OPENED)) == []
    assert passed(live, range(1, 30)) == []
    live = carried_over(live)
    assert passed(live, range(30, 40)) == []
    (login,) = live.feed(line(ACCEPTED))
    assert isinstance(login, Login)
    assert (login.address, login.uid) == ("192.0.2.1", 1000)
    live.hold(is_holding=False)
    assert passed(live, range(41, 50)) == []


def test_a_try_meets_its_connection() -> None:
    """What looks like a probe without its Failed line is not told before that line could be found."""
    live = pipeline()
    live.hold(is_holding=True)
    assert live.feed(line("Connection closed by authenticating user alice 192.0.2.1 port 5 [preauth]")) == []
    assert passed(live, range(1, 30)) == []
    events = live.feed(line("Failed password for alice from 192.0.2.1 port 5 ssh2"))
    live.hold(is_holding=False)
    events += passed(live, range(31, 50))
    assert [type(event) for event in events] == [Attempt]


def test_what_is_not_found_is_told_when_the_search_is_over() -> None:
    """A session without a known address is told, too; a probe likewise."""
    live = pipeline()
    live.hold(is_holding=True)
    live.feed(line(OPENED) + line("Connection closed by 192.0.2.9 port 9 [preauth]", pid=9))
    assert passed(live, range(1, 5)) == []
    live.hold(is_holding=False)
    assert sorted(type(event).__name__ for event in passed(live, range(5, 10))) == [Login.__name__, Probe.__name__]


def test_a_login_whose_accepted_line_is_there_does_not_wait() -> None:
    """Nothing that could be found would change whom it is told of."""
    live = pipeline()
    live.hold(is_holding=True)
    live.feed(line(ACCEPTED))
    assert [type(event) for event in passed(live, range(1, 3))] == [Login]


CLOSED = "pam_unix(sshd:session): session closed for user alice"


@pytest.mark.parametrize("order", list(permutations(range(3))), ids=str)
def test_a_story_in_any_order(order: tuple[int, ...]) -> None:
    """Rsyslogd sends new lines before those from its disk: that is one login with its address, and one logout."""
    live = pipeline()
    live.hold(is_holding=True)
    texts = (ACCEPTED, OPENED, CLOSED)
    events: list[Event] = []
    for turn, number in enumerate(order):
        events += live.feed(f"2026-11-22T10:{number:02}:00.000000+00:00 web1 sshd[7]: {texts[number]}\n".encode())
        # The host's clock is later than all of them.
        other = f"Connection closed by 192.0.2.9 port {turn + 1} [preauth]"
        events += live.feed(f"2026-11-22T10:{10 + turn}:00.000000+00:00 web1 sshd[{100 + turn}]: {other}\n".encode())
        live = carried_over(live)
    live.hold(is_holding=False)
    events += passed(live, range(20, 60))
    found = [event for event in events if isinstance(event, Login | Logout)]
    assert [type(event) for event in found] == [Login, Logout]
    assert found[0].address == "192.0.2.1"


def test_an_old_session_line_and_another_connection_with_its_pid() -> None:
    """The end of a session comes after a connection that has its PID now: the session's line gets no address of that one."""
    live = pipeline()
    live.hold(is_holding=True)
    events = live.feed(b"2026-11-22T10:10:00.000000+00:00 web1 sshd[7]: Connection from 192.0.2.66 port 6 on 10.0.0.1 port 22\n")
    for minute, text in ((5, CLOSED), (1, OPENED)):
        events += live.feed(f"2026-11-22T10:{minute:02}:00.000000+00:00 web1 sshd[7]: {text}\n".encode())
    live.hold(is_holding=False)
    events += passed(live, range(20, 60))
    assert [event.address for event in events if isinstance(event, Login)] == [None]
