"""``sshbell block`` as somebody at a terminal types it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests import needs
from tests.integration import system_user
from tests.integration.guard import GuardProcess, order
from tests.integration.site import PROJECT_DIR
from tests.store_events import line, session_lines

if TYPE_CHECKING:
    from tests.integration.site import Site

SECOND_US = 1_000_000


@pytest.fixture(autouse=True)
def _from_nowhere(monkeypatch: pytest.MonkeyPatch, site: Site) -> None:
    """The tests themselves may run in a session of ssh."""
    monkeypatch.delenv("SSH_CONNECTION", raising=False)
    site.env.pop("SSH_CONNECTION", None)


def lately_us() -> int:
    """Return a time an hour ago, in microseconds."""
    return int((datetime.now(UTC) - timedelta(hours=1)).timestamp()) * SECOND_US


def checked(site: Site) -> list[dict[str, Any]]:
    """Return the rows of ``sshbell check``."""
    done = subprocess.run(
        [*site.python, "-m", "consumer", "check", "--json", "--config", str(site.config)], cwd=PROJECT_DIR, env=site.env,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode in (0, 78), done.stderr
    return [json.loads(text) for text in done.stdout.splitlines()]


def test_list(site: Site) -> None:
    """What applies is listed with ends and reasons; wildcards choose; hostile texts do no harm; JSON has everything."""
    guard = GuardProcess(site)
    hostile = "x\x1b[2J\n\u202eevil"
    guard.send(
        order("192.0.2.7", reason=hostile),
        order("2001:db8::/64"),
        order(f"user:{hostile}"),
        order("user:alice", exceptions=["192.0.2.1"]),
    )
    guard.until("alice : ALL EXCEPT 192.0.2.1", "ALL : 192.0.2.7", "ALL : 2001:db8::/64")
    out = site.ask("block", "list").stdout
    assert "\x1b" not in out
    assert "\u202e" not in out
    assert len(out.splitlines()) == 6
    assert "may log in from 192.0.2.1" in out
    assert [row["target"] for row in site.objects("block", "list", "192.0.2.*", "user:ali?e")] == ["192.0.2.7", "user:alice"]
    assert [row["target"] for row in site.objects("block", "list", "2001:DB8:0::/64")] == ["2001:db8::/64"]
    (row,) = site.objects("block", "list", "192.0.2.7")
    assert (row["reason"], row["service"]) == (hostile, "sshd")
    assert site.ask("block", "list", "10.*").stdout == "no block matches\n"
    relative = site.ask("block", "list", "192.0.2.7", "--relative").stdout
    assert " ago" in relative
    assert "in 59:" in relative.replace("in 0:59:", "in 59:")
    site.ask("block", "remove", "user:*", "192.0.2.7")
    assert [row["target"] for row in site.objects("block", "list")] == ["2001:db8::/64"]
    assert sorted(row["target"] for row in site.objects("block", "list", "--all") if "removed" in row) == [
        "192.0.2.7", "user:alice", f"user:{hostile}",
    ]  # fmt: skip


def test_verbose_and_explain(site: Site) -> None:
    """Each entry shows the failed logins before it; explain also shows the line for pam_access."""
    at_us = lately_us()
    tries = [
        line(at_us + n * SECOND_US, 100 + n, f"Failed password for root from 192.0.2.7 port {100 + n} ssh2") for n in range(3)
    ]
    site.fill(*tries, line(at_us, 99, "Failed password for bob from 192.0.2.9 port 99 ssh2"))
    guard = GuardProcess(site)
    guard.send(order("192.0.2.7"), order("user:bob"))
    guard.until("bob : ALL", "ALL : 192.0.2.7")
    out = site.ask("block", "list", "--verbose", "--tz", "UTC").stdout
    assert out.count("root from 192.0.2.7 to web1: password") == 3
    assert out.count("bob from 192.0.2.9 to web1: password") == 1
    (row,) = site.objects("block", "list", "192.0.2.7", "--verbose")
    assert len(row["attempts"]) == 3
    explained = site.ask("block", "explain", "192.0.2.7").stdout
    assert "192.0.2.7: blocked, " in explained
    assert explained.count("root from 192.0.2.7") == 3
    assert f"{guard.access}:" in explained
    assert "- : ALL : 192.0.2.7" in explained
    assert "is not blocked, and has not been" in site.ask("block", "explain", "10.0.0.1").stdout
    assert "never blocked: 127.0.0.0/8" in site.ask("block", "explain", "127.0.0.1").stdout


def test_explain_the_settings(site: Site) -> None:
    """Without a target, it shows how the commands are split, and runs none of them (pam_abl's -d)."""
    site.configure(block={"mode": "on", "host_block_cmd": r"say [/bin/x] [a b] [\[%h] loudly"})
    out = site.ask("block", "explain").stdout
    assert "mode         on" in out
    assert "    program      '/bin/x'\n    argument 1   'a b'\n    argument 2   '[%h'\n" in out


@pytest.mark.parametrize("is_running", [True, False])
def test_check(site: Site, *, is_running: bool) -> None:
    """It exits with 1 if the address or the user is blocked, and says why, with or without guard."""
    guard = GuardProcess(site)
    guard.send(order("192.0.2.0/24", reason="guessing"), order("user:alice", exceptions=["198.51.100.1"]))
    guard.until("alice : ALL EXCEPT 198.51.100.1", "ALL : 192.0.2.0/24")
    if not is_running:
        guard.kill()
    blocked = site.ask("block", "check", "192.0.2.7", status=1).stdout
    assert blocked.startswith("192.0.2.7 is blocked until ")
    assert blocked.endswith(", as 192.0.2.0/24: guessing\n")
    assert site.ask("block", "check", "198.51.100.2").stdout == "198.51.100.2 is not blocked\n"
    site.ask("block", "check", "198.51.100.2", "--user", "alice", status=1)
    site.ask("block", "check", "198.51.100.1", "--user", "alice")
    site.ask("block", "check", "user:alice", status=1)
    site.ask("block", "check", "192.0.2.7", "--user", "bob", status=1)
    found = json.loads(site.ask("block", "check", "192.0.2.7", "--json", status=1).stdout)
    assert (found["blocked"], found["blocks"][0]["target"]) == (True, "192.0.2.0/24")
    for wrong in ("nonsense", "192.0.2.0/24", "user:"):
        assert site.ask("block", "check", wrong, status=64).stdout == ""


def test_check_while_blocking_is_off(site: Site) -> None:
    """With the panic file nothing is blocked, and check says so."""
    guard = GuardProcess(site)
    guard.send(order("192.0.2.7"))
    guard.until("ALL : 192.0.2.7")
    (site.folder / "no-blocking").touch()
    assert site.ask("block", "check", "192.0.2.7").stdout == "192.0.2.7 is not blocked: blocking is turned off\n"
    assert "turned off" in site.ask("block", "add", "192.0.2.8", status=75).stderr


# What "sshbell block check" may get, and its exit code.
_QUESTIONS = {
    ("192.0.2.7",): 1, ("192.0.2.7", "--json"): 1, ("--json", "192.0.2.7"): 1, ("198.51.100.2",): 0, ("::ffff:192.0.2.7",): 1,
    ("2001:db8::7%eth0",): 1, ("127.0.0.1", "--json"): 0, ("user:alice",): 1, ("198.51.100.2", "--user", "alice"): 1,
    ("198.51.100.1", "--user", "alice"): 0, ("198.51.100.2", "--user", "bob", "--user", "alice"): 1, ("user:bj\u00f6rn",): 0,
    ("--user=alice", "198.51.100.2"): 1, ("nonsense",): 64, ("192.0.2.0/24",): 64, ("user:",): 64, ("",): 64, (): 64,
    ("192.0.2.7", "192.0.2.8"): 64, ("192.0.2.7", "--user"): 64, ("192.0.2.7", "--nonsense"): 64,
    ("192.0.2.7", "--config", "/"): 64,
}  # fmt: skip


def test_check_answers_in_the_same_way_without_the_command_line(site: Site) -> None:
    """The light way of ``consumer/__main__.py`` gives the same text and exit code as the whole command line."""
    guard = GuardProcess(site)
    guard.send(
        order("192.0.2.0/24", reason="gu\u00e9ssing\x1b"),
        order("2001:db8::/64"),
        order("user:alice", exceptions=["198.51.100.1"]),
    )
    guard.until("alice : ALL EXCEPT 198.51.100.1", "ALL : 192.0.2.0/24", "ALL : 2001:db8::/64")
    for question, status in _QUESTIONS.items():
        command = ["block", "check", *question, *(() if "--config" in question else ("--config", str(site.config)))]
        light, whole = (
            subprocess.run(
                [*site.python, *way, *command], cwd=PROJECT_DIR, env=site.env, capture_output=True, text=True, check=False
            )
            for way in (["-m", "consumer"], ["-c", "from consumer.cli import main; main(prog_name='python -m consumer')"])
        )
        assert (light.returncode, light.stdout, light.stderr) == (whole.returncode, whole.stdout, whole.stderr), question
        assert light.returncode == status, question


def test_check_imports_little(site: Site) -> None:
    """A script may ask at each login: while guard is running, none of the slow libraries is loaded."""
    GuardProcess(site)
    command = [*site.python, "-X", "importtime", "-m", "consumer", "block", "check", "192.0.2.7", "--config", str(site.config)]
    done = subprocess.run(command, cwd=PROJECT_DIR, env=site.env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "192.0.2.7 is not blocked\n")
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "consumer.guard.check" in loaded
    slow = {"asyncio", "click", "datetime", "msgspec", "pyparsing", "rich", "sqlite3", "structlog"}
    assert not slow & loaded


def test_add_refuses_your_own_door(site: Site) -> None:
    """Neither the address of SSH_CONNECTION, here or in a process above, nor a network around it, nor this user."""
    guard = GuardProcess(site)
    env = {"SSH_CONNECTION": "192.0.2.7 50000 198.51.100.1 22"}
    for target in ("192.0.2.7", "192.0.2.0/24", "::ffff:192.0.2.7"):
        said = site.ask("block", "add", target, env=env, status=64).stderr
        assert "would lock you out of this host (192.0.2.7: SSH_CONNECTION names it)" in said
    # As sudo does: the command's own environment lacks it.
    for shell in (["env", "SSH_CONNECTION=2001:db8::7 50000 ::1 22", "sh", "-c", 'unset SSH_CONNECTION; "$@"; exit $?', "sh"],):
        outer = ["sh", "-c", '"$@"; exit $?', "sh", "env", "-u", "SSH_CONNECTION"]
        said = site.ask("block", "add", "2001:db8::/64", prefix=[*shell[:2], *outer], status=64).stderr
        assert "2001:db8::7: SSH_CONNECTION names it" in said
    assert guard.denied() == []
    site.ask("block", "add", "192.0.2.8", env=env)
    assert guard.denied() == ["ALL : 192.0.2.8"]


def test_add_and_its_errors(site: Site) -> None:
    """A block has an end, a reason and a service; a user's known addresses stay open; mistakes are refused."""
    recent = lately_us()
    site.fill(
        *session_lines(10, "alice", at_us=recent, address="198.51.100.7"),
        *session_lines(11, "alice", at_us=recent, address="2001:db8::7"),
    )
    guard = GuardProcess(site)
    out = site.ask(
        "block", "add", "user:alice", "192.0.2.7", "--for", "2d", "--reason", "ticket 4711", "--service", "login"
    ).stdout
    assert out == "user:alice is blocked for 2d, except from 198.51.100.7, 2001:db8::7\n192.0.2.7 is blocked for 2d\n"
    assert guard.denied() == ["alice : ALL EXCEPT 198.51.100.7 2001:db8::7", "ALL : 192.0.2.7"]
    (row,) = site.objects("block", "list", "192.0.2.7")
    assert (row["reason"], row["service"]) == ("ticket 4711", "login")
    for arguments, reason in (
        (["0.0.0.0/0"], "a large part of the world"), (["example.org"], "a target is an address"),
        (["192.0.2.7", "--for", "5"], "span"),
        (["192.0.2.7", "--for", "0m"], "span"), (["user:ROOT"], "capitals"), (["user:ALL"], "capitals"), (["user:0"], "alone"),
        (["192.0.2.7", "--except", "192.0.2.8"], "--except"), (["user:bob", "--except", "user:alice"], "--except"),
    ):  # fmt: skip
        assert reason in site.ask("block", "add", *arguments, status=64).stderr
    assert len(guard.denied()) == 2


def test_without_guard(site: Site) -> None:
    """Nothing new is blocked, since nobody would end it; lifting works, and reaches the file."""
    guard = GuardProcess(site)
    guard.send(order("192.0.2.7"), order("192.0.2.8"))
    guard.until("ALL : 192.0.2.7 192.0.2.8")
    guard.kill()
    assert "guard is not running" in site.ask("block", "add", "192.0.2.9", status=75).stderr
    assert "guard is not running" in site.ask("block", "list").stderr
    assert "lifted 1 block: 192.0.2.7" in site.ask("block", "remove", "192.0.2.7").stdout
    assert guard.denied() == ["ALL : 192.0.2.8"]
    assert "wrote the files anew" in site.ask("block", "purge").stdout
    site.configure(block=guard.block | {"mode": "off"})
    assert 'set mode = "on"' in site.ask("block", "add", "192.0.2.9", status=75).stderr
    site.ask("block", "purge")
    assert guard.denied() == []


def test_purge(site: Site) -> None:
    """What has ended is forgotten, what applies stays, and the files are written anew."""
    guard = GuardProcess(site)
    guard.send(order("192.0.2.7", for_us=SECOND_US), order("192.0.2.8"))
    guard.until("ALL : 192.0.2.8")
    assert len(site.objects("block", "list", "--all")) == 2
    assert site.ask("block", "purge").stdout.startswith("forgot 1 block that had ended")
    assert [row["target"] for row in site.objects("block", "list", "--all")] == ["192.0.2.8"]


def test_only_root_changes_anything(open_folder: Path) -> None:
    """Others may not, and get 77."""
    needs.root("become another user")
    python, env = system_user.command()
    for verb in (["add", "192.0.2.7"], ["remove", "192.0.2.7"], ["purge"]):
        command = [*python, "-m", "consumer", "block", *verb, "--config", str(open_folder / "none.toml")]
        (open_folder / "none.toml").write_text(f'state_dir = "{open_folder}/state"\nuser = ""\n')
        done = subprocess.run(
            [needs.program("setpriv", "util-linux"), "--reuid=65534", "--regid=65534", "--clear-groups", *command],
            cwd="/",
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, "only root can do this" in done.stderr) == (77, True), done.stderr


def test_status_and_check_know(site: Site) -> None:
    """Status shows what is blocked and what does not work; check asks for the lines of PAM."""
    guard = GuardProcess(site)
    guard.send(order("192.0.2.7"))
    guard.until("ALL : 192.0.2.7")
    found: dict[str, Any] = json.loads(site.ask("status", "--json", status=2).stdout)  # run is not running
    assert (found["blocking"]["mode"], found["blocking"]["blocked"], found["blocking"]["guard"]["running"]) == ("on", 1, True)
    assert "1 target blocked, guard is running" in site.ask("status", status=2).stdout
    rows = [row for row in checked(site) if row["name"] == "blocking"]
    assert any("can still use" in row["text"] for row in rows)
    (site.folder / "no-blocking").touch()
    rows = [row for row in checked(site) if row["name"] == "blocking"]
    assert any("turns blocking off" in row["text"] for row in rows)
    assert os.path.lexists(guard.access)


def test_names_that_the_shell_or_a_pattern_would_obey(site: Site) -> None:
    """The completion leaves out names with a command in them; each name can be removed as it stands."""
    guard = GuardProcess(site)
    names = ("$(reboot)", "`reboot`", "x;reboot", "x y", "x\nplain,user:z", "a[1]")
    guard.send(*[order(f"user:{name}") for name in names], order("user:alice"), order("192.0.2.7"))
    guard.until("alice : ALL", "ALL : 192.0.2.7")
    words = f"sshbell block remove --config {site.config} "
    env = site.env | {"_SSHBELL_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": "5"}
    program = Path(sys.executable).with_name("sshbell")
    done = subprocess.run([program], env=env, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout.split("\n") == ["plain,192.0.2.7", "plain,user:alice", ""]
    assert "lifted 1 block" in site.ask("block", "remove", "user:a[1]").stdout
