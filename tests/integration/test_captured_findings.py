"""What the detectors find in the captures: the attacks of the script, and none of its ordinary users."""

from __future__ import annotations

import pytest

from tests.integration.truth import FORGED_DIR, FRAMING_DIR, Capture, Event, all_captures, describe, replay

# One worker of pytest-xdist runs all tests of captures, so that sshbell reads each capture once.
pytestmark = pytest.mark.xdist_group("captures")

CAPTURES = [capture for capture in all_captures() if capture.folder != FRAMING_DIR]
MAIN = [capture for capture in CAPTURES if capture.folder.startswith("openssh-") and capture.format == "rfc3339"]
GUESSING = {"guessing", "many_addresses", "many_accounts", "slow_guessing", "success_after_failures"}
# The scenarios of the script in which somebody guesses.
BRUTE_FORCE, BROKEN_IN = "brute-force", "brute-force-finally-ok"
ATTACKS = {
    BRUTE_FORCE, BROKEN_IN, "odd-user", "max-attempts-exceeded", "max-attempts-exceeded-2", "max-attempts-exceeded-invalid",
    "max-attempts-pubkeys",
}  # fmt: skip


def findings(capture: Capture) -> list[Event]:
    """Return the findings of a capture, without forged lines."""
    return [event for event in replay(capture) if event["event.kind"] == "alert" and event["event.action"] != "ssh_forged"]


@pytest.mark.parametrize("capture", MAIN, ids=str)
def test_the_attack_is_found(capture: Capture) -> None:
    """The address that guesses is found, and so is the login with which it succeeds, with the number of failures before it."""
    (attacker,) = {record["src_ip"] for record in capture.truth if record.get("scenario") == BRUTE_FORCE}
    (success,) = [record for record in capture.truth if record.get("scenario") == BROKEN_IN]
    found = [event for event in findings(capture) if event.get("source.ip") == attacker]
    assert {event["event.action"] for event in found} == {"guessing", "success_after_failures"}
    (broken_in,) = [event for event in found if event["event.action"] == "success_after_failures"]
    assert (broken_in["user.name"], broken_in["source.port"]) == (success["user"], success["src_port"])
    assert broken_in["event.severity"] == 73
    assert broken_in["threat.technique.id"] == ["T1110"]
    tries = [
        event for event in replay(capture) if event["event.action"] == "ssh_attempt" and event.get("source.ip") == attacker
    ]  # fmt: skip
    assert broken_in["ssh.count"] == sum(event.get("ssh.count", 1) for event in tries)


@pytest.mark.parametrize("capture", MAIN, ids=str)
def test_the_scanner_is_found(capture: Capture) -> None:
    """The address whose clients speak wrongly in many ways is found, once, and no other."""
    (scanner,) = {record["src_ip"] for record in capture.truth if record.get("scenario") == "bad-version"}
    (found,) = [event for event in findings(capture) if event["event.action"] == "scanning"]
    assert (found["source.ip"], found["threat.technique.id"], found["event.severity"]) == (scanner, ["T1595"], 21)


@pytest.mark.parametrize("capture", CAPTURES, ids=str)
def test_ordinary_users_scan_nothing(capture: Capture) -> None:
    """Nobody else scans: not with wrong keys, old certificates, closed windows, penalties or too many connections."""
    scanners = {record["src_ip"] for record in capture.truth if record.get("scenario") == "bad-version"}
    wrong = [event for event in findings(capture) if event["event.action"] == "scanning" and event["source.ip"] not in scanners]
    assert wrong == []


@pytest.mark.parametrize("capture", CAPTURES, ids=str)
def test_ordinary_users_guess_nothing(capture: Capture) -> None:
    """Who logs in, mistypes a password, uses several keys, or is one of many at once is found by no detector of guessing."""
    attackers = {record["src_ip"] for record in capture.truth if "src_ip" in record and record.get("scenario") in ATTACKS}
    ordinary = {record["src_ip"]: record for record in capture.truth if "src_ip" in record and record["src_ip"] not in attackers}
    wrong = [
        f"{event['event.action']}: {describe(ordinary[event['source.ip']])}"
        for event in findings(capture)
        if event["event.action"] in GUESSING and event.get("source.ip") in ordinary
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("capture", [c for c in CAPTURES if c.folder == FORGED_DIR], ids=str)
def test_forged_lines_accuse_nobody(capture: Capture) -> None:
    """No finding about the innocent address that a local user names is verified; where the kernel vouches, there is none."""
    found = findings(capture)
    assert [event for event in found if event["ssh.origin"] != "unverified"] == []
    if capture.has_trusted_fields:
        assert found == []
