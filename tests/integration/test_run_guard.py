"""``run`` and its ``guard``: who starts it, with which rights, and what it learns after a crash."""

from __future__ import annotations

import json
import os
import random
import signal
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from consumer.events import Block
from consumer.process.lock import GUARD_LOCK
from consumer.state_dir import GUARD_SOCKET
from tests import needs
from tests.integration.guard import HOUR_US, now_us
from tests.integration.host import child_with, children_of, is_alive, status
from tests.integration.lines import ACCEPTED, ours
from tests.store_events import events_of
from tests.waiting import wait_for

if TYPE_CHECKING:
    from tests.integration.host import Host
    from tests.integration.site import Run, Site

pytestmark = needs.CHANGES_THE_MACHINE


def login() -> bytes:
    """Return the line of a login of alice from 192.0.2.7, a moment ago."""
    return ours(ACCEPTED, ts=f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S}.000000+00:00")


def blocks(*targets: str, for_us: int = HOUR_US, is_dry_run: bool = False) -> list[Any]:
    """Return blocks as the policy decides them."""
    (event,) = events_of(login().rstrip())
    return [
        Block(f"{target}-id", event.line, None, None, None, target.removeprefix("user:"), target.startswith("user:"),
              now_us() + for_us, "0123456789abcdef", is_dry_run=is_dry_run)
        for target in targets
    ]  # fmt: skip


def record(site: Site, events: list[Any]) -> None:
    """Store events as a ``run`` that was killed right after its commit."""
    with site.state() as state:
        state.record(events, frozenset(), now_us())


def denied(site: Site) -> list[str]:
    """Return what the file for pam_access denies."""
    path = access(site)
    lines = path.read_text().splitlines() if path.exists() else []
    return [line.removeprefix("- : ") for line in lines if line.startswith("-")]


def access(site: Site) -> Path:
    """Return the path of the file for pam_access."""
    return site.folder / "block" / "access.conf"


def configure(site: Site, **block: Any) -> None:
    """Write the configuration with blocking."""
    site.configure(block={"mode": "on", "access_file": str(access(site))} | block)


def guard_of(run: Run) -> int:
    """Return the pid of a ``run``'s ``guard``."""
    return child_with(run.pid, b"consumer.guard.process")


def until_denied(site: Site, *lines: str) -> None:
    """Wait until the file denies exactly these."""
    wait_for(lambda: denied(site) == list(lines), f"the file denies {lines}")


def test_blocks_of_a_crashed_run(site: Site) -> None:
    """What was committed and not sent yet is blocked at the next start, without what has ended or was only a dry run."""
    configure(site)
    site.fill(login().rstrip())
    record(
        site,
        blocks("192.0.2.9", "2001:db8::/64", "user:alice") + blocks("192.0.2.8", for_us=-1) + blocks("10.0.0.1", is_dry_run=True),
    )
    site.start_run()
    until_denied(site, "alice : ALL EXCEPT 192.0.2.7", "ALL : 192.0.2.9", "ALL : 2001:db8::/64")


def test_a_killed_guard_comes_back(site: Site) -> None:
    """``run`` starts it again, and goes on reading lines meanwhile."""
    configure(site)
    record(site, blocks("192.0.2.7"))
    run = site.start_run()
    until_denied(site, "ALL : 192.0.2.7")
    for file in site.state_dir.glob("block.db*"):
        file.unlink()
    access(site).unlink()
    first = guard_of(run)
    os.kill(first, signal.SIGKILL)
    assert run.send(login()) == b"OK\n"
    until_denied(site, "ALL : 192.0.2.7")
    assert guard_of(run) != first


def test_it_ends_with_run(site: Site) -> None:
    """It ends when ``run`` does, in order or not, and the file stays."""
    configure(site)
    record(site, blocks("192.0.2.7"))
    for end in ("in order", "by signal 9"):
        run = site.start_run()
        until_denied(site, "ALL : 192.0.2.7")
        guard = guard_of(run)
        wait_for(lambda: b"consumer.guard" in Path(f"/proc/{guard}/cmdline").read_bytes(), "it runs")  # noqa: B023
        run.end() if end == "in order" else run.kill()
        wait_for(lambda: not is_alive(guard), "guard ends")  # noqa: B023
        assert denied(site) == ["ALL : 192.0.2.7"]


def test_turned_on_and_off(site: Site) -> None:
    """Without blocking there is no guard; HUP turns it on and off; after a restart with blocking off, the list is empty."""
    configure(site, mode="off")
    record(site, blocks("192.0.2.7"))
    run = site.start_run()
    assert [pid for pid in children_of(run.pid) if b"consumer.guard.process" in Path(f"/proc/{pid}/cmdline").read_bytes()] == []
    assert not access(site).exists()
    access(site).parent.mkdir()
    configure(site)
    run.process.send_signal(signal.SIGHUP)
    until_denied(site, "ALL : 192.0.2.7")
    configure(site, mode="dry-run")
    run.process.send_signal(signal.SIGHUP)
    until_denied(site)
    configure(site)
    run.process.send_signal(signal.SIGHUP)
    until_denied(site, "ALL : 192.0.2.7")
    run.end()
    configure(site, mode="off")
    run = site.start_run()
    until_denied(site)


@pytest.mark.parametrize(
    ("block", "uids", "capabilities"),
    [
        ({}, "sss", 0),
        ({"nftables": [22]}, "sss", 1 << 12),
        ({"host_block_cmd": "[/bin/true]"}, "0ss", None),
    ],
    ids=["pam_access", "nftables", "commands"],
)
def test_rights(host: Host, block: dict[str, Any], uids: str, capabilities: int | None) -> None:
    """It has no rights for the file, one for nftables, and root in reserve only for commands."""
    host.configure(user=host.bell.pw_name, block={"mode": "on", "access_file": str(access(host))} | block)
    run = host.start_run()
    guard = guard_of(run)
    wait_for((host.state_dir / GUARD_SOCKET).exists, "guard is ready")
    found = status(guard)
    assert found["Uid"].split()[:3] == [{"s": str(host.bell.pw_uid), "0": "0"}[each] for each in uids]
    assert found["Gid"].split() == [str(host.bell.pw_gid)] * 4
    if capabilities is not None:
        kept = f"{capabilities:016x}"
        assert {found[name] for name in ("CapPrm", "CapEff", "CapInh", "CapBnd", "CapAmb")} == {kept}
        assert found["NoNewPrivs"] == "1"
    else:
        assert found["CapEff"] == "0" * 16
    wait_for(access(host).exists, "guard has begun")
    place = access(host).stat()
    assert (place.st_uid, place.st_mode & 0o777) == (host.bell.pw_uid, 0o644)
    assert (access(host).parent.stat().st_mode & 0o777) == 0o755
    assert host.ask("block", "add", "192.0.2.7").stdout == "192.0.2.7 is blocked for 1h\n"
    assert denied(host) == ["ALL : 192.0.2.7"]
    run.kill()
    wait_for(lambda: not is_alive(guard), "guard ends with a killed run")
    assert (host.state_dir / GUARD_LOCK).stat().st_uid == host.bell.pw_uid


def test_commands_run_as_root(host: Host) -> None:
    """As pam_abl's do: they change firewalls."""
    called = host.folder / "called"
    command = host.folder / "command"
    command.write_text(f"#!/bin/sh\nid -u > {called}\n")
    command.chmod(0o755)
    host.configure(
        user=host.bell.pw_name, block={"mode": "on", "access_file": str(access(host)), "host_block_cmd": f"[{command}]"}
    )
    host.start_run()
    wait_for((host.state_dir / GUARD_SOCKET).exists, "guard is ready")
    host.ask("block", "add", "192.0.2.7")
    wait_for(lambda: called.exists() and called.read_text() == "0\n", "the command has run as root")


def guesses(address: str, count: int) -> list[bytes]:
    """Return the lines of as many wrong passwords from an address, a moment ago."""
    stamp = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S}"
    text = f"Failed password for root from {address} port {{}} ssh2"
    return [
        ours(text.format(1000 + number), ts=f"{stamp}.{number:06}+00:00", rcvd=f"{stamp}.{number:06}+00:00", pid=1000 + number)
        for number in range(count)
    ]


GUESSING = {"guessing": {"host_rule": "*:3/1h"}}


def test_guessing_blocks(site: Site) -> None:
    """Verified lines of three wrong passwords block their address; lines that a local user could have written do not."""
    site.configure(detect=GUESSING, block={"mode": "on", "access_file": str(access(site))})
    run = site.start_run()
    for each in guesses("203.0.113.9", 3):
        assert run.send(each.replace(b'"uid":0', b'"uid":1000')) == b"OK\n"
        assert run.send(each.replace(b'"uid":0,', b"").replace(b"203.0.113.9", b"203.0.113.8")) == b"OK\n"
    for each in guesses("203.0.113.7", 3):
        assert run.send(each) == b"OK\n"
    until_denied(site, "ALL : 203.0.113.7")
    (row,) = site.objects("block", "list")
    assert row["reason"].startswith("finding ")
    wait_for(lambda: json.loads(site.ask("status", "--json").stdout)["blocking"]["not_blocked"], "the status has the others")
    assert json.loads(site.ask("status", "--json").stdout)["blocking"]["not_blocked"] == {"unverified": 1}
    assert "1 finding since the start: 1 from lines that any local user could have written" in site.ask("status").stdout


def test_dry_run_blocks_nothing(site: Site) -> None:
    """It only reports."""
    site.configure(detect=GUESSING, block={"mode": "dry-run", "access_file": str(access(site))})
    run = site.start_run()
    for each in guesses("203.0.113.7", 3):
        run.send(each)
    wait_for(lambda: [row[0] for row in site.events()].count("ssh_block") == 1, "the block is reported")
    assert not access(site).exists()


@pytest.mark.parametrize("seed", [1, 2])
def test_kills_of_run_and_guard(site: Site, seed: int) -> None:
    """With ``run`` and ``guard`` killed at random places, the list is that of an undisturbed run: no address more, none less."""
    site.configure(detect=GUESSING, block={"mode": "on", "access_file": str(access(site))})
    dice = random.Random(seed)  # noqa: S311 - a test
    addresses = [f"203.0.113.{number}" for number in range(1, 41)]
    counts = {address: dice.choice((1, 2, 3, 4)) for address in addresses}
    lines = [each for address in addresses for each in guesses(address, counts[address])]
    kills = sorted(dice.sample(range(len(lines)), 10))
    run = site.start_run()
    for number, each in enumerate(lines):
        if number in kills:
            if dice.randrange(2):
                with suppress(AssertionError, FileNotFoundError, ProcessLookupError):
                    os.kill(guard_of(run), signal.SIGKILL)
            else:
                # Before the line, or while run handles it: then rsyslogd sends it again.
                if dice.randrange(2):
                    run.write(each)
                run.kill()
                run = site.start_run()
        assert run.send(each) == b"OK\n"
    wanted = sorted(address for address, count in counts.items() if count >= 3)

    def found() -> list[str]:
        return sorted(word for text in denied(site) for word in text.removeprefix("ALL : ").split())

    wait_for(lambda: found() == wanted, "the list is whole")
    run.end()
    run = site.start_run()
    wait_for((site.state_dir / GUARD_SOCKET).exists, "guard is ready")
    assert found() == wanted
