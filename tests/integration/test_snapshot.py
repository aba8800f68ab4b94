"""A snapshot does not stop the intake: lines that come meanwhile are safe, and count once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.integration.lines import ACCEPTED, CLOSED, OPENED, ours
from tests.waiting import wait_for

if TYPE_CHECKING:
    from tests.integration.site import Site

SCRIPT = str(Path(__file__).with_name("slow_snapshot.py"))


@pytest.mark.parametrize("dies", ["within the snapshot", "after the snapshot", "never"])
def test_lines_during_a_snapshot(site: Site, dies: str) -> None:
    """They are confirmed, also one that rsyslogd sends twice. The next process knows what they mean, wherever this one dies."""
    begun = site.folder / "begun"
    run = site.start_run(script=[SCRIPT, str(site.folder)])
    assert run.send(ours(ACCEPTED)) == b"OK\n"
    assert run.send(ours(OPENED, number=1)) == b"OK\n"
    wait_for(site.events, "the login is stored")
    number = 2
    while not begun.exists():
        assert run.send(ours("Server listening on 0.0.0.0 port 22.", number=number, pid=1)) == b"OK\n"
        number += 1
    other = ("Accepted password for bob from 192.0.2.8 port 4712 ssh2", OPENED.replace("alice(uid=1001)", "bob(uid=1002)"))
    for line in (*(ours(text, 20, pid=8) for text in other), ours(CLOSED, 30), ours(CLOSED, 30)):
        assert run.send(line) == b"OK\n"
    assert len(site.events()) == 1  # the pipeline waits
    if dies == "within the snapshot":
        run.kill()
        begun.unlink()
    else:
        begun.unlink()
        wait_for(lambda: len(site.events()) == 3, "the lines are understood after the snapshot")
    if dies == "after the snapshot":
        run.kill()
    elif dies == "never":
        assert run.end()[0] == 0
    run = site.start_run()
    assert run.send(ours(CLOSED, 40, number=1)) == b"OK\n"
    assert run.send(ours("pam_unix(sshd:session): session closed for user bob", 50, pid=8)) == b"OK\n"
    assert run.end()[0] == 0
    assert [row[:3] for row in site.events()] == [
        ("ssh_login", "alice", "192.0.2.7"), ("ssh_login", "bob", "192.0.2.8"), ("ssh_logout", "alice", "192.0.2.7"),
        ("ssh_logout", "bob", "192.0.2.8"),
    ]  # fmt: skip
