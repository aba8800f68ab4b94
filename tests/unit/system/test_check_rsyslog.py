"""journald's limit: what systemd and journald's settings say about it, in the form in which they keep it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from consumer.system import check_rsyslog

if TYPE_CHECKING:
    from pathlib import Path

    from consumer.system.outcome import CheckState


@pytest.fixture
def units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have an empty directory in place of systemd's, and three of settings, of which the last one wins."""
    folder = tmp_path / "units"
    folder.mkdir()
    monkeypatch.setattr(check_rsyslog, "_UNITS", folder)
    monkeypatch.setattr(check_rsyslog, "_JOURNALD", (tmp_path / "lib", tmp_path / "etc"))
    return folder


def states() -> list[CheckState]:
    """Return the states of all results."""
    return [outcome.state for outcome in check_rsyslog.journald()]


def test_no_systemd(units: Path) -> None:
    """Without a running unit of sshd, there is nothing to check."""
    assert states() == []
    units.rmdir()
    assert states() == []


@pytest.mark.parametrize(("burst", "state"), [(None, "warning"), ("10000", "warning"), ("100000000", "ok")])
def test_limit_of_the_unit(units: Path, burst: str | None, state: CheckState) -> None:
    """Without a limit of its own, or with a low one, journald drops lines of a unit."""
    (units / "invocation:ssh.service").symlink_to("0123456789abcdef")
    if burst is not None:
        (units / "log-rate-limit-burst:ssh.service").symlink_to(burst)
    assert states() == [state]


@pytest.mark.parametrize(
    ("files", "state"),
    [
        ({"lib/journald.conf": "[Journal]\n#RateLimitBurst=0\n"}, "warning"),
        ({"etc/journald.conf": "[Journal]\nRateLimitBurst=0\n"}, "ok"),
        ({"lib/journald.conf": "[Journal]\nRateLimitIntervalSec=0s\n"}, "ok"),
        # The file in etc takes the place of the other one.
        ({"lib/journald.conf": "RateLimitBurst=0\n", "etc/journald.conf": "RateLimitBurst=5000\n"}, "warning"),
        ({"lib/journald.conf.d/a.conf": "RateLimitBurst=0\n", "etc/journald.conf.d/a.conf": ""}, "warning"),
        # A drop-in comes after the main file.
        ({"lib/journald.conf.d/a.conf": "RateLimitBurst=0\n", "etc/journald.conf": "RateLimitBurst=5000\n"}, "ok"),
    ],
)
def test_settings_of_journald(units: Path, files: dict[str, str], state: CheckState) -> None:
    """A 0 in journald's own settings turns its limit off for all units."""
    (units / "invocation:sshd.service").symlink_to("0123456789abcdef")
    for name, text in files.items():
        path = units.parent / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert states() == [state]


@pytest.mark.parametrize(
    ("links", "setting", "state"),
    [
        ({"burst": "100"}, "RateLimitBurst=0", "warning"),
        ({"burst": "100", "interval": "30000000"}, "RateLimitIntervalSec=0", "warning"),
        ({"burst": "100"}, "RateLimitIntervalSec=0", "ok"),
        ({"interval": "30000000"}, "RateLimitBurst=0", "ok"),
        ({}, "RateLimitBurst=100000000", "ok"),
    ],
)
def test_a_unit_with_a_limit_of_its_own(units: Path, links: dict[str, str], setting: str, state: CheckState) -> None:
    """A client floods sshd: what the unit sets counts in place of journald's own setting, so a 0 there turns off no limit."""
    (units / "invocation:ssh.service").symlink_to("0123456789abcdef")
    for name, value in links.items():
        (units / f"log-rate-limit-{name}:ssh.service").symlink_to(value)
    (units.parent / "etc").mkdir()
    (units.parent / "etc" / "journald.conf").write_text(f"[Journal]\n{setting}\n")
    assert states() == [state]
