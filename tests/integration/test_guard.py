"""The process ``guard``: what it writes, what it never blocks, and how it survives."""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import threading
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

import pytest

from consumer.guard.messages import ORDERS_LIMIT
from consumer.process.lock import GUARD_LOCK
from consumer.state_dir import GUARD_SOCKET
from tests import needs
from tests.integration.guard import HOUR_US, PROJECT_DIR, GuardProcess, order
from tests.integration.site import Site
from tests.waiting import DEADLINE_S, came_true, wait_for

if TYPE_CHECKING:
    from pathlib import Path

SECOND_US = 1_000_000


def test_orders_are_in_the_file(site: Site) -> None:
    """Addresses, networks and users that ``run`` sends are in the file for pam_access, which everybody can read."""
    guard = GuardProcess(site)
    guard.send(order("192.0.2.7"), order("2001:db8::/64"), order("user:alice", exceptions=["198.51.100.1"]))
    guard.until("alice : ALL EXCEPT 198.51.100.1", "ALL : 192.0.2.7", "ALL : 2001:db8::/64")
    assert guard.access.stat().st_mode & 0o777 == 0o644
    assert "+ : ALL : 127.0.0.0/8" in guard.text()


def test_a_block_ends_by_itself(site: Site) -> None:
    """An entry goes at its end; the others stay."""
    guard = GuardProcess(site)
    guard.send(order("192.0.2.7", for_us=2 * SECOND_US), order("192.0.2.8"))
    guard.until("ALL : 192.0.2.7 192.0.2.8")
    guard.until("ALL : 192.0.2.8")


def test_a_block_that_has_ended_is_none(site: Site) -> None:
    """An order that comes after its own end changes nothing."""
    guard = GuardProcess(site)
    guard.send(order("192.0.2.7", for_us=-SECOND_US), order("192.0.2.8"))
    guard.until("ALL : 192.0.2.8")


def test_the_same_order_twice(site: Site) -> None:
    """Somebody who lifts a block is not overruled by the same order; a new one counts."""
    guard = GuardProcess(site)
    first = order("192.0.2.7")
    guard.send(first)
    guard.until("ALL : 192.0.2.7")
    assert "lifted 1 block" in site.ask("block", "remove", "192.0.2.7").stdout
    guard.until()
    guard.send(first, order("192.0.2.8"))
    guard.until("ALL : 192.0.2.8")
    guard.kill()
    guard.start()
    guard.send(first)
    guard.send(order("192.0.2.9"))
    guard.until("ALL : 192.0.2.8 192.0.2.9")
    guard.send(order("192.0.2.7", 2))
    guard.until("ALL : 192.0.2.7 192.0.2.8 192.0.2.9")


@pytest.mark.parametrize("how", ["panic file", "off", "dry-run"])
def test_blocking_is_turned_off(site: Site, how: str) -> None:
    """The panic file, or the configuration, empties the list at once; without it, the list is back."""
    guard = GuardProcess(site)
    guard.send(order("192.0.2.7"), order("user:alice"))
    guard.until("alice : ALL", "ALL : 192.0.2.7")
    panic = site.folder / "no-blocking"
    panic.touch() if how == "panic file" else guard.reload(mode=how)
    guard.until()
    assert "+" not in guard.text()
    # What comes meanwhile counts later.
    guard.send(order("192.0.2.8"))
    panic.unlink() if how == "panic file" else guard.reload(mode="on")
    guard.until("alice : ALL", "ALL : 192.0.2.7 192.0.2.8")


def test_a_start_that_has_to_wait(site: Site) -> None:
    """While the lock cannot be taken, for example because the disk is full, it waits with a reason; then it takes orders."""
    guard = GuardProcess(site)
    guard.kill()
    lock = site.state_dir / GUARD_LOCK
    lock.unlink()
    lock.mkdir()

    def mend() -> None:
        if came_true(lambda: f'"reason": "{lock}: Is a directory"' in guard.log.read_text(), DEADLINE_S):
            lock.rmdir()

    mending = threading.Thread(target=mend)
    mending.start()
    guard.start()
    mending.join()
    guard.send(order("192.0.2.7"))
    guard.until("ALL : 192.0.2.7")
    assert guard.log.read_text().count('"waiting"') == 1


def test_a_killed_guard_knows_everything(site: Site) -> None:
    """After signal 9, the file stays as it is, and a new guard goes on with it."""
    guard = GuardProcess(site)
    guard.send(order("192.0.2.7"), order("192.0.2.8", for_us=2 * SECOND_US))
    guard.until("ALL : 192.0.2.7 192.0.2.8")
    guard.kill()
    assert guard.denied() == ["ALL : 192.0.2.7 192.0.2.8"]
    guard.start()
    guard.until("ALL : 192.0.2.7")


@pytest.mark.parametrize("change", ["deleted", "emptied", "edited"])
def test_a_file_that_somebody_changes(site: Site, change: str) -> None:
    """The file comes back within a second or two, while guard runs and when it starts."""
    guard = GuardProcess(site)
    guard.send(order("192.0.2.7"))
    guard.until("ALL : 192.0.2.7")
    for is_running in (True, False):
        if not is_running:
            guard.kill()
        match change:
            case "deleted":
                guard.access.unlink()
            case "emptied":
                guard.access.write_text("")
            case "edited":
                guard.access.write_text("- : ALL : ALL\n")
        if not is_running:
            guard.start()
        guard.until("ALL : 192.0.2.7")


@pytest.mark.parametrize("is_running", [True, False])
def test_a_damaged_store(site: Site, *, is_running: bool) -> None:
    """Nothing new is blocked, nothing blocked is forgotten, one error says so; with the file moved away, it begins anew."""
    guard = GuardProcess(site)
    guard.send(order("192.0.2.7"))
    guard.until("ALL : 192.0.2.7")
    database = site.state_dir / "block.db"
    if not is_running:
        guard.kill()
    for file in site.state_dir.glob("block.db*"):
        file.write_bytes(b"damage " * 10_000)
    if not is_running:
        guard.start()
    guard.send(order("192.0.2.8"))
    wait_for(lambda: guard.said("block_store_failed"), "the fault is reported")
    guard.send(order("192.0.2.9"))
    refused = site.ask("block", "add", "192.0.2.10", status=75)
    assert "block.db" in refused.stderr
    assert guard.denied() == ["ALL : 192.0.2.7"]
    (said,) = guard.said("block_store_failed")
    assert "blocks nothing new" in said["reason"]
    # The panic file works nevertheless.
    panic = site.folder / "no-blocking"
    panic.touch()
    guard.until()
    panic.unlink()
    guard.until("ALL : 192.0.2.7")
    guard.kill()
    for file in site.state_dir.glob("block.db*"):
        file.unlink()
    guard.start()
    guard.send(order("192.0.2.8"))
    guard.until("ALL : 192.0.2.8")
    assert database.exists()


def test_nonsense_from_run(site: Site) -> None:
    """What is no order, or names no target that may be blocked, is reported and does no harm."""
    guard = GuardProcess(site)
    for nonsense in (
        b"{}", b"[{}]", b"[[[", b"\xff\xfe", b'[{"type":"unblock","targets":["192.0.2.1"]}]', b"[" * 60_000,
        json.dumps([{"type": "block", "id": "x", "target": "192.0.2.1", "until_us": 1 << 70}]).encode(),
        json.dumps([{"type": "block", "id": "x" * 65, "target": "192.0.2.1", "until_us": 1 << 60}]).encode(),
        json.dumps([{"type": "block", "id": "x", "target": "192.0.2.1", "until_us": 1, "command": "id"}]).encode(),
    ):  # fmt: skip
        guard.say(nonsense)
    for target in ("0.0.0.0/0", "::/0", "nobody", "user:", "192.0.2.1 ALL", "ALL", "192.0.2.1\n- : ALL : ALL"):
        guard.send(order(target))
    # These are entries, but pam_access could take them for something else.
    guard.send(
        *(order(f"user:{name}") for name in ("ALL", "all", "EXCEPT", "ROOT", "0", "(root)", "@x", "a b", "a:b", "x\n- : ALL"))
    )
    guard.send(order("192.0.2.7"))
    guard.until("ALL : 192.0.2.7")


def test_loopback_and_this_host_are_never_blocked(site: Site) -> None:
    """Neither alone nor within a network."""
    guard = GuardProcess(site)
    guard.send(order("127.0.0.1"), order("::1"), order("127.0.0.0/9"), order("192.0.2.7"))
    guard.until("ALL : 192.0.2.7")
    refused = site.ask("block", "add", "127.0.0.1", status=64)
    assert "never blocked: this host" in refused.stderr
    assert site.ask("block", "check", "127.0.0.1").stdout.startswith("127.0.0.1 is not blocked: never blocked: this host")


def test_allow_list(site: Site) -> None:
    """An address, a file and a command allow; what becomes allowed later is unblocked at once (pam_abl's fault 6)."""
    offices = site.folder / "offices"
    offices.write_text("# our offices\n192.0.2.64/26 until 2999-12-31 # Lyon\n")
    printer = site.folder / "printer"
    printer.write_text("#!/bin/sh\necho 203.0.113.1\n")
    printer.chmod(0o755)
    guard = GuardProcess(site)
    guard.send(*(order(text) for text in ("192.0.2.7", "192.0.2.65", "203.0.113.1", "198.51.100.0/24", "198.51.100.7")))
    guard.until("ALL : 192.0.2.7 192.0.2.65 198.51.100.0/24 203.0.113.1")
    guard.reload(allow=[
        {"address": "198.51.100.0/25", "reason": "monitoring"}, {"file": str(offices)}, {"command": [str(printer)]},
        {"name": "localhost"}, {"address": "192.0.2.7", "until": "2020-01-01"},
    ])  # fmt: skip
    # A part of a blocked network is allowed: its line comes first.
    guard.until("ALL : 192.0.2.7 198.51.100.0/24")
    assert "+ : ALL : 127.0.0.0/8" in guard.text()
    assert " 198.51.100.0/25" in guard.text()
    shown = site.ask("block", "list", "--allowed").stdout
    assert "192.0.2.64/26" in shown
    assert "until 2999-12-31  Lyon" in shown
    assert "monitoring" in shown
    offices.write_text("192.0.2.0/24\n")
    guard.until("ALL : 198.51.100.0/24")
    # A source that fails keeps its last good answer, and the fault is reported once.
    offices.write_text("192.0.2.0/33\n")
    wait_for(lambda: guard.said("allow_list_failed"), "the fault is reported")
    assert guard.denied() == ["ALL : 198.51.100.0/24"]
    guard.kill()
    guard.start()
    guard.send(order("192.0.2.99"), order("203.0.113.9"))
    guard.until("ALL : 198.51.100.0/24 203.0.113.9")


def script(site: Site, name: str, body: str) -> Path:
    """Write a command that appends its arguments to a file; return it."""
    path = site.folder / name
    path.write_text(
        f"#!/bin/sh\n{body}\nfor each; do printf '<%s>' \"$each\" >> {site.folder}/called; done\necho >> {site.folder}/called\n"
    )
    path.chmod(0o755)
    return path


def called(site: Site) -> list[str]:
    """Return the arguments of the commands that have run."""
    path = site.folder / "called"
    return path.read_text().splitlines() if path.exists() else []


def test_commands_run_on_changes(site: Site) -> None:
    """Each change runs its command once, without a shell, also over a restart; user and host have their own."""
    path = script(site, "ban", "")
    commands: dict[str, Any] = {
        f"{kind}_cmd": f"[{path}] [{kind}] [%h] [%u] [%s]" for kind in ("host_block", "host_clear", "user_block", "user_clear")
    }
    guard = GuardProcess(site, **commands)
    guard.send(order("192.0.2.7", for_us=4 * SECOND_US, service="sshd"), order("user:a$(id)'b", service="login"))
    guard.send(order("user:alice", service="login"))
    blocked = ["<host_block><192.0.2.7><><sshd>", "<user_block><><alice><login>"]
    wait_for(lambda: sorted(called(site)) == blocked, "both commands have run")
    guard.kill()
    guard.start()
    site.ask("block", "remove", "user:alice")
    wait_for(lambda: len(called(site)) == 4, "both have ended")
    assert sorted(called(site)[2:]) == ["<host_clear><192.0.2.7><><sshd>", "<user_clear><><alice><login>"]


def test_a_slow_command_delays_nothing(site: Site) -> None:
    """While a command hangs, addresses are blocked and unblocked (pam_abl's fault 8)."""
    path = script(site, "hang", "exec sleep 1000")
    guard = GuardProcess(site, host_block_cmd=f"[{path}]")
    guard.send(order("192.0.2.7"))
    guard.until("ALL : 192.0.2.7")
    guard.send(order("192.0.2.8"))
    guard.until("ALL : 192.0.2.7 192.0.2.8")
    assert called(site) == []


def test_a_failing_command_is_reported(site: Site) -> None:
    """Its status is in the log, with its arguments; it is not run again and again."""
    guard = GuardProcess(site, host_block_cmd="[/bin/false] [%h]", host_clear_cmd="[/no/such/program]")
    guard.send(order("192.0.2.7"))
    wait_for(lambda: guard.said("block_command_failed"), "the failure is reported")
    (said,) = guard.said("block_command_failed")
    assert (said["command"], said["reason"]) == (["/bin/false", "192.0.2.7"], "it ended with 1")


def test_who_may_ask(open_folder: Path) -> None:
    """Only root may give commands, whatever the file system lets others do."""
    needs.root("become another user")
    with Site(open_folder) as site:
        _check_who_may_ask(site)


def _check_who_may_ask(site: Site) -> None:
    guard = GuardProcess(site)
    site.state_dir.chmod(0o755)
    (site.state_dir / GUARD_SOCKET).chmod(0o666)
    request = b'{"type":"check","address":"192.0.2.7"}\n'

    def asked(uid: int) -> bytes:
        with closing(socket.socket(socket.AF_UNIX)) as client:
            client.settimeout(60)
            os.seteuid(uid)
            try:
                client.connect(str(site.state_dir / GUARD_SOCKET))
            finally:
                os.seteuid(0)
            with suppress(ConnectionResetError, BrokenPipeError):  # it closes without having read the request
                client.sendall(request)
                return client.recv(1000)
            return b""

    assert b"{" in asked(0)
    assert asked(65534) == b""
    assert 65534 in [said.get("uid") for said in guard.said("not_answered")]


def test_many_orders(site: Site) -> None:
    """A flood of orders ends in the file, with all of them, up to the limit."""
    guard = GuardProcess(site)
    orders = [order(f"10.{number >> 8}.{number & 255}.1") for number in range(2000)]
    for begin in range(0, len(orders), ORDERS_LIMIT):
        guard.send(*orders[begin : begin + ORDERS_LIMIT])
    wait_for(lambda: sum(line.count(".1") for line in guard.denied()) >= 2000, "all are in the file")
    guard.send(order("10.0.0.0/8"))
    guard.until("ALL : 10.0.0.0/8")


def ruleset(guard: GuardProcess) -> list[dict[str, Any]]:
    """Return the rules in the network namespace of a guard."""
    command = ["nsenter", "-t", str(guard.process.pid), "-n", needs.program("nft", "nftables"), "-j", "list", "ruleset"]
    done = subprocess.run(command, capture_output=True, check=True)
    found: list[dict[str, Any]] = json.loads(done.stdout)["nftables"]
    return found


def elements(guard: GuardProcess, name: str) -> list[object]:
    """Return the elements of a set in the kernel, without their time-outs."""
    (found,) = [each["set"].get("elem", []) for each in ruleset(guard) if each.get("set", {}).get("name") == name] or [[]]
    return [one["elem"]["val"] if isinstance(one, dict) and "elem" in one else one for one in found]


def test_nftables(site: Site) -> None:
    """The kernel has each block in a set with its time-out, and what is allowed; changes and ends reach it."""
    needs.root("change nftables")
    needs.program("nft", "nftables")
    guard = GuardProcess(site, nftables=[22, 2222], allow=[{"address": "198.51.100.0/25"}], prefix=["unshare", "--net"])
    guard.send(
        order("192.0.2.7"),
        order("192.0.2.8", for_us=5 * SECOND_US),
        order("2001:db8::/64"),
        order("10.0.0.0/8"),
        order("10.1.0.0/16"),
    )
    wait_for(lambda: elements(guard, "blocked_addresses4") == ["192.0.2.7", "192.0.2.8"], "the kernel has the addresses")
    assert elements(guard, "blocked_networks4") == [{"prefix": {"addr": "10.0.0.0", "len": 8}}]
    assert elements(guard, "blocked_networks6") == [{"prefix": {"addr": "2001:db8::", "len": 64}}]
    assert elements(guard, "allowed_networks4") == [
        {"prefix": {"addr": "127.0.0.0", "len": 8}}, {"prefix": {"addr": "198.51.100.0", "len": 25}},
    ]  # fmt: skip
    wait_for(lambda: elements(guard, "blocked_addresses4") == ["192.0.2.7"], "the kernel has forgotten the one that has ended")
    site.ask("block", "remove", "10.0.0.0/8", "192.0.2.7")
    wait_for(lambda: elements(guard, "blocked_addresses4") == [], "the kernel has forgotten the one that was lifted")
    # The smaller network takes the place of the wider one.
    assert elements(guard, "blocked_networks4") == [{"prefix": {"addr": "10.1.0.0", "len": 16}}]
    # Without guard, the kernel forgets by itself.
    guard.send(order("192.0.2.9", for_us=4 * SECOND_US))
    wait_for(lambda: elements(guard, "blocked_addresses4") == ["192.0.2.9"], "the kernel has the new one")
    guard.reload(mode="off")
    wait_for(lambda: elements(guard, "blocked_networks4") == [], "nothing is blocked")


def test_lists_for_tcp_wrappers(site: Site) -> None:
    """They stand beside the file for pam_access."""
    guard = GuardProcess(site, hosts_deny=True)
    guard.send(order("192.0.2.7"), order("2001:db8::/64"))
    guard.until("ALL : 192.0.2.7", "ALL : 2001:db8::/64")
    # guard writes it after the file for pam_access.
    denied = "192.0.2.7\n[2001:db8::]/64\n"
    wait_for(lambda: guard.access.with_name("hosts.deny").read_text() == denied, "the list has both")
    wait_for(lambda: "127.0.0.0/8\n" in guard.access.with_name("hosts.allow").read_text(), "the list has this host")
    guard.reload(hosts_deny=False)
    wait_for(lambda: guard.access.with_name("hosts.deny").read_text() == "", "the lists are emptied")


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_kills_at_random_places(site: Site, seed: int) -> None:
    """
    However often guard dies by signal 9 while orders, commands and ends come, the list is that of an undisturbed guard.

    After each death, the test sends all orders again, as ``run`` does.
    """
    dice = random.Random(seed)  # noqa: S311 - a test
    guard = GuardProcess(site)
    orders = [order(f"10.{number >> 4}.{number & 15}.1", for_us=dice.choice((HOUR_US, 2 * HOUR_US))) for number in range(120)]
    lifted: set[str] = set()
    sent = 0
    for _ in range(8):
        some = orders[sent : sent + dice.randrange(5, 20)]
        sent += len(some)
        for begin in range(0, len(some), 7):
            guard.send(*some[begin : begin + 7])
        if dice.randrange(2) and sent > len(some):
            gone = dice.choice(orders[: sent - len(some)]).target
            # Without an answer, the command fails, and the user calls it again.
            done = subprocess.run(
                [*site.python, "-m", "consumer", "block", "remove", gone, "--config", str(site.config)],
                cwd=PROJECT_DIR, env=site.env, capture_output=True, check=False,
            )  # fmt: skip
            if done.returncode == 0 and b"lifted 1" in done.stdout:
                lifted.add(gone)
        # From now on within the next 40 ms: while it reads, stores, writes or has nothing to do.
        threading.Event().wait(dice.random() * 0.04)
        guard.kill()
        guard.start()
        for begin in range(0, sent, ORDERS_LIMIT):
            guard.send(*orders[begin : min(sent, begin + ORDERS_LIMIT)])
    wanted = sorted(each.target for each in orders[:sent] if each.target not in lifted)
    assert wanted

    def found() -> list[str]:
        words = {word for text in guard.denied() for word in text.split(" : ")[1].rpartition(" EXCEPT ")[2].split()}
        return sorted(words)

    wait_for(lambda: found() == wanted, f"{found()} becomes {wanted}")
    assert guard.said("block_store_failed") == []


def test_one_order_without_sense(site: Site) -> None:
    """A target that is longer than any name takes no other order of its message with it."""
    guard = GuardProcess(site)
    guard.send(order("192.0.2.7"), order(f"user:{'x' * 500}"), order("192.0.2.8"))
    guard.until("ALL : 192.0.2.7 192.0.2.8")
