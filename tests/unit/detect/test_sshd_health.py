"""``consumer.detect.sshd_health``, and the complaints of sshd that it gets from the story."""

from __future__ import annotations

from typing import Any

import pytest

from consumer.actions import EventAction
from consumer.codes.log_lines import PROGRAM, Asker, let_in, not_delivered, refused
from consumer.detect_settings import Detect
from consumer.events import Trouble
from tests.detector_events import DAY_S, findings_of, trouble
from tests.store_events import START_US, events_of, line

ASKER = Asker("sshd", 7, "bob", "192.0.2.7")
OPENED = 'Connection from 192.0.2.7 port 40 on 198.51.100.1 port 22 rdomain ""'
DENIED = "Failed password for bob from 192.0.2.7 port 40 ssh2"


def of_detector(events: list[Any], **settings: Any) -> list[Any]:
    """Return the findings of this detector."""
    return [finding for finding in findings_of(events, Detect(**settings)) if finding.action is EventAction.SSHD_HEALTH]


@pytest.mark.parametrize(
    ("message", "what", "user", "severity"),
    [
        ("Authentication refused: bad ownership or modes for file /home/bob/.ssh/authorized_keys", "bad_modes", None, "medium"),
        ("error: Authentication key RSA SHA256:abc revoked by file /etc/ssh/revoked_keys", "key_revoked", None, "high"),
        ("error: WARNING: revoked key for bob attempted authentication", "revoked_key_tried", "bob", "high"),
        ("error: Error checking authentication key ED25519 SHA256:abc in revoked keys file /etc/r: No such file or directory",
         "key_not_checked", None, "medium"),
        ("Account bob has expired", "account_expired", "bob", "medium"),
        ("User bob password has expired (password aged)", "password_expired", "bob", "medium"),
        ("error: AuthorizedKeysCommand /usr/bin/keys bob failed, status 1", "command_failed", "bob", "medium"),
        ('fatal: bad ownership or modes for chroot directory "/sftp"', "chroot_bad_modes", None, "medium"),
        ("PAM unable to dlopen(pam_made_up.so): /lib/security/pam_made_up.so: cannot open shared object file", "broken_module",
         None, "medium"),
    ],
)  # fmt: skip
def test_complaints(message: str, what: str, user: str | None, severity: str) -> None:
    """Each complaint is an event with the connection's address, and a finding."""
    events = events_of(line(START_US, 7, OPENED), line(START_US + 1, 7, message))
    (complaint,) = [event for event in events if isinstance(event, Trouble)]
    assert (complaint.what, complaint.user, complaint.address, complaint.port) == (what, user, "192.0.2.7", "40")
    assert complaint.id
    (finding,) = of_detector(events)
    assert (finding.action.value, finding.severity, finding.labels["what"]) == ("sshd_health", severity, what)
    assert finding.event_ids == (complaint.id,)


@pytest.mark.parametrize(
    ("text", "what", "severity"),
    [
        (refused(ASKER, "too many prompts"), "prompt_burst", "high"),
        (not_delivered(ASKER, "ops: timed out"), "code_not_delivered", "medium"),
        (let_in(ASKER._replace(service="su")), "let_in_without_code", "high"),
    ],
)
def test_codes(text: str, what: str, severity: str) -> None:
    """Trouble with one-time codes is a finding, too, once a day."""
    line_of_pam = line(START_US, 7, text).replace(b" sshd[", f" {PROGRAM}[".encode())
    (finding,) = of_detector(events_of(line_of_pam, line_of_pam.replace(b"[7]", b"[8]")))
    assert (finding.severity, finding.labels["what"], finding.user) == (severity, what, None if "deliver" in what else "bob")


def test_the_try_is_still_a_try() -> None:
    """A complaint about an account leaves its failed login what it is."""
    events = events_of(
        line(START_US, 7, OPENED), line(START_US + 1, 7, "Account bob has expired"), line(START_US + 2, 7, DENIED)
    )  # fmt: skip
    assert [str(event.action) for event in events] == ["ssh_trouble", "ssh_attempt"]


def test_a_penalty_is_none() -> None:
    """A penalty is an event with the address of the line, and another detector's."""
    message = "srclimit_penalise: ipv4: new 192.0.2.23/32 active penalty of 5.000 seconds for penalty: failed authentication"
    (event,) = events_of(line(START_US, 7, message))
    assert isinstance(event, Trouble)
    assert (event.what, event.address) == ("penalty", "192.0.2.23")
    assert of_detector([event]) == []


def test_once_a_day() -> None:
    """A command that fails at each login is one finding a day; one about another account is another."""
    events = [trouble(number * 60, "command_failed", "failed, status 1", user="bob") for number in range(100)]
    assert len(of_detector(events)) == 1
    assert len(of_detector([*events, trouble(DAY_S, "command_failed", "failed, status 1", user="bob")])) == 2
    assert len(of_detector([trouble(0, "account_expired", user="bob"), trouble(1, "account_expired", user="eve")])) == 2


def test_off() -> None:
    """``false`` turns it off."""
    assert of_detector([trouble(0, "broken_module")], sshd_health=False) == []
