"""``consumer.detect.root_by_password``: root needs more than a password."""

from __future__ import annotations

import pytest

from consumer.actions import EventAction
from consumer.detect.detectors import Detectors
from consumer.detect_settings import Detect
from consumer.events import Event, Finding, Login, LoginCode
from tests.store_events import events_of, line, session_lines


def found(*events: Event, settings: Detect | None = None) -> list[Finding]:
    """Return the findings about some events."""
    findings: list[Finding] = []
    detectors = Detectors(settings or Detect(), findings.append)
    for event in events:
        detectors.take(event)
    return findings


@pytest.mark.parametrize("method", ["password", "keyboard-interactive/pam"])
def test_root(method: str) -> None:
    """The finding names the login, and its id follows from the login's."""
    login, *rest = events_of(*session_lines(7, "root", method=method, info=""))
    (finding,) = found(login, *rest)
    assert finding.action is EventAction.ROOT_BY_PASSWORD
    assert (finding.user, finding.address, finding.host) == ("root", "192.0.2.7", "web1")
    assert finding.event_ids == (login.id,)
    assert (finding.count, finding.since_us, finding.last_us) == (1, login.time_us, login.time_us)
    assert finding.origin == login.origin == "unverified"
    assert finding.id not in {"", login.id}
    assert found(login) == [finding]


def test_another_name_of_root() -> None:
    """An account with uid 0 is root, whatever its name."""
    opened = "pam_unix(sshd:session): session opened for user toor(uid=0) by (uid=0)"
    accepted, _opened, *_ = session_lines(7, "toor", method="password", info="")
    login, *_ = events_of(accepted, line(1_795_400_000_000_000, 7, opened))
    assert isinstance(login, Login)
    assert [finding.user for finding in found(login)] == ["toor"]


@pytest.mark.parametrize(
    ("user", "method", "factors"),
    [
        ("alice", "password", ()),
        ("root", "publickey", ()),
        ("root", "gssapi-with-mic", ()),
        ("root", None, ()),
        ("root", "password", ("publickey", "password")),
        ("root", "keyboard-interactive/pam", ("publickey", "keyboard-interactive/pam")),
    ],
)
def test_others(user: str, method: str | None, factors: tuple[str, ...]) -> None:
    """Other users, keys, and a password after a key are no finding; neither is a login of which no line names the method."""
    login, *_ = events_of(*session_lines(7, "root", method="password", info=""))
    assert found(Login("a", login.line, user, "192.0.2.7", "7", method, factors=factors)) == []


@pytest.mark.parametrize(
    ("outcome", "count"), [("accepted", 0), ("emergency", 0), ("not_needed", 1), ("let_in", 1)],
)  # fmt: skip
def test_codes(outcome: str, count: int) -> None:
    """A one-time code is a second factor, but only if somebody had to type it."""
    login, *_ = events_of(*session_lines(7, "root", method="password", info=""))
    method = "keyboard-interactive/pam"
    assert len(found(Login("a", login.line, "root", "192.0.2.7", "7", method, code=LoginCode(outcome)))) == count


def test_two_passwords() -> None:
    """Two passwords are no second factor."""
    login, *_ = events_of(*session_lines(7, "root", method="password", info=""))
    methods = ("password", "keyboard-interactive/pam")
    assert len(found(Login("a", login.line, "root", "192.0.2.7", "7", methods[1], factors=methods))) == 1


def test_off() -> None:
    """``false`` turns it off."""
    assert found(*events_of(*session_lines(7, "root", method="password", info="")), settings=Detect(root_by_password=False)) == []
