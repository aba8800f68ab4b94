"""``sshbell unknown``: what ``run`` and files have of lines that no rule reads, without anybody's name."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.store_events import START_US, line, session_lines

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.site import Site

NEW_WORDING = "error: Login of user alice failed at 192.0.2.9 port 22: policy 7"
PATTERN = "error: Login of user <name> failed at <address> port <number>: policy <number>"
DATA, STORE = 65, 74


def lines() -> list[bytes]:
    """Return a login of one host, and lines of a new wording of another one."""
    return [
        *session_lines(1, lasts_s=None), *(line(START_US + number, 9, NEW_WORDING, host="web2") for number in range(3)),
        line(START_US, 9, NEW_WORDING.replace("alice", "bob"), host="web2"),
        line(START_US, 9, "Accepted password for carol from 192.0.2.7 port 9 ssh2", host="web2"),
    ]  # fmt: skip


def test_files(site: Site, tmp_path: Path) -> None:
    """By host, the worst first, with the share and the patterns; a user's own lines do not count."""
    log = tmp_path / "auth.log"
    log.write_bytes(b"".join(each + b"\n" for each in lines()))
    assert site.ask("unknown", log).stdout.splitlines() == [
        "web2: 5 lines, 4 not understood (80.0%), OpenSSH up to 9.7",
        f"        4  {PATTERN}",
        "web1: 2 lines, 0 not understood (0.0%), OpenSSH up to 9.7",
    ]
    (found,) = [json.loads(text) for text in site.ask("unknown", "--json", "--host", "web2", log).stdout.splitlines()]
    assert found == {
        "host": "web2", "release": "OpenSSH up to 9.7", "lines": 5, "unmatched": 4, "share": 0.8,
        "patterns": [{"text": PATTERN, "count": 4}],
    }  # fmt: skip
    of_a_user = tmp_path / "user.json"
    of_a_user.write_text(
        '{"v":"1","ts":"2026-11-22T10:00:00Z","host":"web2","tag":"sshd[9]:","prog":"sshd","procid":"9","msg":"Login failed",'
        '"uid":1001}\n'
    )
    assert site.ask("unknown", of_a_user).stdout == ""
    assert "No such file" in site.ask("unknown", tmp_path / "absent", log, status=66).stderr


def test_of_run(site: Site) -> None:
    """``run`` keeps the same for later, also over a kill and a restart; without a store it is an error."""
    site.ask("unknown", status=STORE)
    run = site.start_run()
    for each in lines():
        assert run.send(each + b"\n") == b"OK\n"
    run.kill()
    run = site.start_run()
    assert run.send(line(START_US, 10, NEW_WORDING, host="web2") + b"\n") == b"OK\n"
    run.end()
    shown = site.ask("unknown").stdout.splitlines()
    assert shown[:2] == ["web2: 6 lines, 5 not understood (83.3%), OpenSSH up to 9.7", f"        5  {PATTERN}"]


def test_damaged_note(site: Site) -> None:
    """Who can write the store cannot make it fail in another way than with one line."""
    with site.state() as state:
        state.set_notes({"unknown_lines": '{"web1": {"unmatched": "x"}}'})
    assert "it has counts that sshbell never writes" in site.ask("unknown", status=STORE).stderr
    with site.state() as state:
        state.set_notes({"unknown_lines": '{"\\u001b[2J": {"unmatched": 1, "patterns": [["\\u001b[2J", 1]]}}'})
    assert "\x1b" not in site.ask("unknown").stdout
