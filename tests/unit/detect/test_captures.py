"""The detectors with their defaults, over every capture: the guessers of the truth are found, and nobody else."""

from __future__ import annotations

from datetime import UTC

import pytest

from consumer.detect_settings import Detect
from consumer.events import Event, Finding
from consumer.logs.replay import Replay
from consumer.matching.matcher import Matcher
from tests.integration.truth import FORGED_DIR, FRAMING_DIR, Capture, all_captures

MATCHER = Matcher()
CAPTURES = [capture for capture in all_captures() if capture.folder != FRAMING_DIR]
# What only a guesser does, by the names of the truth: tries with names of all kinds, and tries until sshd ends the connection.
HOSTILE = ("brute-force", "odd-user", "max-attempts", "root-guess")


def findings(capture: Capture, action: str) -> list[Finding]:
    """Return what one detector finds in a capture."""
    found: list[Event] = []
    replay = Replay(MATCHER, zone=UTC, tell=found.append, keep_text=False, detect=Detect(), year=2026)
    replay.run([str(capture.path)])
    assert replay.errors == []
    return [event for event in found if isinstance(event, Finding) and event.action == action]


@pytest.mark.parametrize("capture", CAPTURES, ids=str)
def test_guessing(capture: Capture) -> None:
    """An address that mistypes a password is not flagged, one that guesses is, and a forged line makes no verified finding."""
    found = findings(capture, "guessing")
    hostile = {
        record["src_ip"]
        for record in capture.truth
        if "src_ip" in record and str(record.get("scenario")).startswith(HOSTILE) and record["result"] != "accepted"
    }
    flagged = {finding.address for finding in found}
    assert flagged <= hostile
    guessers = {record["src_ip"] for record in capture.truth if record.get("scenario") == "brute-force"}
    assert guessers <= flagged
    if capture.folder == FORGED_DIR:
        assert not [finding for finding in found if finding.origin == "verified"]
