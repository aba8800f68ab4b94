"""
``consumer.detect.guessing`` against the real pam_abl: the same tries, the same verdicts.

The program ``pam_abl`` records tries (``-f``) and tests them (``-c``) in a database of its own, at times that libfaketime sets.
Where the two differ on purpose, a test shows both.
"""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.detect.guessing import Guessing
from consumer.detect_settings import GuessingSettings
from consumer.events import Attempt
from consumer.records import PROGRAM, TIME, Line
from tests import needs
from tests.budget import examples
from tests.store_events import events_of, try_line

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAM_PATH = needs.program("pam_abl", "libpam-abl")
needs.program("faketime", "faketime")
LIBRARY = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
START_S = 1_795_341_600  # 2026-11-22 10:00 UTC
(TRY,) = events_of(try_line(7))


class Try(NamedTuple):
    """A failed login, so many seconds after the one before."""

    after_s: int
    user: str
    host: str
    service: str


class PamAbl:
    """The program, with a configuration and a database of its own."""

    def __init__(self, folder: Path, config: dict[str, str]) -> None:
        folder.mkdir()
        self.folder = folder
        self._config = folder / "pam_abl.conf"
        own = {"db_home": str(folder), "host_db": str(folder / "hosts.db"), "user_db": str(folder / "users.db")}
        self._config.write_text("".join(f"{key}={value}\n" for key, value in (own | config).items() if value))

    def configure(self, **more: str) -> None:
        """Change settings: the last value of a key counts."""
        with self._config.open("a") as file:
            file.writelines(f"{key}={value}\n" for key, value in more.items())

    def _ran(self, now_s: int, *arguments: str) -> int:
        # A time without "@" is where the clock stands still.
        stamp = f"{datetime.fromtimestamp(now_s, UTC):%Y-%m-%d %H:%M:%S}"
        environment = {"LD_PRELOAD": str(LIBRARY), "FAKETIME": stamp, "TZ": "UTC"}
        command = [PROGRAM_PATH, *arguments, str(self._config)]
        done = subprocess.run(command, env=environment, capture_output=True, check=False, text=True)
        assert "Illegal" not in done.stderr + done.stdout
        return done.returncode

    def fail(self, now_s: int, one: Try) -> None:
        """Record a try."""
        assert self._ran(now_s, "-f", "-U", one.user, "-H", one.host, "-s", one.service) == 0

    def blocks(self, now_s: int, option: str, name: str, service: str) -> bool:
        """Return whether a user (``-U``) or a host (``-H``) is blocked."""
        return self._ran(now_s, "-c", option, name, "-s", service) == 1

    def update(self, now_s: int) -> None:
        """Work every state out again."""
        self._ran(now_s, "-u")


def attempt(now_s: int, one: Try) -> Attempt:
    """Return a try as an event."""
    values = list(TRY.line)
    values[TIME], values[PROGRAM] = now_s * 1_000_000, one.service
    return Attempt("", Line(values), one.user, one.host, "5", "password")


USERS, HOSTS, SERVICES = (
    ("root", "alice", "bob"),
    ("192.0.2.1", "192.0.2.9", "198.51.100.7", "gate.example.org"),
    ("sshd", "dropbear"),
)
periods = st.one_of(
    st.integers(1, 300).map(lambda number: f"{number}s"), st.integers(1, 9).map(lambda number: f"{number}m"),
    st.integers(1, 4).map(lambda number: f"{number}h"), st.just("1d"),
)  # fmt: skip
triggers = st.lists(st.builds("{}/{}".format, st.integers(1, 6), periods), min_size=1, max_size=3).map(",".join)


def rules(names: tuple[str, ...]) -> st.SearchStrategy[str]:
    """Return rules over some names, as the manual has them."""
    name = st.builds(
        "{}{}".format, st.sampled_from((*names, "*")), st.sampled_from(("", "", *(f"/{service}" for service in SERVICES), "/*"))
    )
    clause = st.builds(
        "{}{}:{}".format, st.sampled_from(("", "", "!")), st.lists(name, min_size=1, max_size=3).map("|".join), triggers
    )
    return st.lists(clause, min_size=1, max_size=3).map(" ".join)


configs = st.fixed_dictionaries({
    "host_rule": rules(HOSTS), "user_rule": rules(USERS),
    "host_purge": st.sampled_from(["1h", "90m", "1d"]), "user_purge": st.sampled_from(["1h", "2h", "1d"]),
    "limits": st.sampled_from(["", "2-4", "3-3", "1-2", "1000-1200"]),
    "host_whitelist": st.sampled_from(["", "192.0.2.0/28", "198.51.100.7;gate.example.org"]),
    "user_whitelist": st.sampled_from(["", "bob"]),
})  # fmt: skip
sequences = st.lists(
    st.builds(
        Try, st.sampled_from([0, 1, 2, 30, 61, 300, 1800, 3601]), st.sampled_from(USERS), st.sampled_from(HOSTS),
        st.sampled_from(SERVICES),
    ),
    min_size=3, max_size=14,
)  # fmt: skip


def ours(config: dict[str, str]) -> Guessing:
    """Return our detector with the same configuration, as ``sshbell import pam_abl`` translates it."""
    lists = {key: tuple(filter(None, config[key].split(";"))) for key in ("host_whitelist", "user_whitelist")}
    return Guessing(
        GuessingSettings(
            config["host_rule"], config["user_rule"], config["host_purge"], config["user_purge"], config["limits"],
            list(lists["host_whitelist"]), list(lists["user_whitelist"]),
        )
    )  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return paths for databases, which are many."""
    root = tmp_path_factory.mktemp("pam_abl")
    return (root / str(number) for number in range(1 << 30))


@examples(60)
@given(configs, sequences)
def test_same_verdicts(folders: Iterator[Path], config: dict[str, str], tries: list[Try]) -> None:
    """After each try, and a while later, the two block the same hosts and the same users."""
    theirs, detector = PamAbl(next(folders), config), ours(config)
    now_s = START_S
    seen: list[Try] = []
    for one in tries:
        now_s += one.after_s
        seen.append(one)
        theirs.fail(now_s, one)
        detector.take(attempt(now_s, one))
        assert theirs.blocks(now_s, "-H", one.host, one.service) is detector.is_guessing(one.host, one.service, now_s)
        assert theirs.blocks(now_s, "-U", one.user, one.service) is detector.is_guessed(one.user, one.service, now_s)
    for later_s in (60, 4000):
        for host in {one.host for one in seen}:
            verdict = detector.is_guessing(host, "sshd", now_s + later_s)
            assert theirs.blocks(now_s + later_s, "-H", host, "sshd") is verdict
        for user in {one.user for one in seen}:
            verdict = detector.is_guessed(user, "sshd", now_s + later_s)
            assert theirs.blocks(now_s + later_s, "-U", user, "sshd") is verdict


RULES = {"host_rule": "*:3/1h", "user_rule": "*:3/1h", "host_purge": "1d", "user_purge": "1d", "limits": ""}
NO_LISTS = {"host_whitelist": "", "user_whitelist": ""}


def three_tries(theirs: PamAbl, detector: Guessing, one: Try) -> None:
    """Give both three tries within a second."""
    for _ in range(3):
        theirs.fail(START_S, one)
        detector.take(attempt(START_S, one))


def test_a_period_without_a_letter(folders: Iterator[Path]) -> None:
    """
    The manual says that a number alone is in seconds. pam_abl 0.9.0 then skips a character, and loses the next trigger.

    The version that Debian has does as the manual says, and so does sshbell.
    """
    config = RULES | NO_LISTS | {"host_rule": "*:9/3600,3/1h"}
    theirs, detector, one = PamAbl(next(folders), config), ours(config), Try(0, "bob", "192.0.2.1", "sshd")
    three_tries(theirs, detector, one)
    assert theirs.blocks(START_S, "-H", one.host, "sshd")
    assert detector.is_guessing(one.host, "sshd", START_S)


def test_a_whitelist_that_comes_later(folders: Iterator[Path]) -> None:
    """pam_abl's whitelist only stops the recording, so a host that was blocked before stays blocked; with sshbell it does not."""
    theirs, detector, one = PamAbl(next(folders), RULES), ours(RULES | NO_LISTS), Try(0, "bob", "192.0.2.1", "sshd")
    three_tries(theirs, detector, one)
    assert detector.is_guessing(one.host, "sshd", START_S)
    theirs.configure(host_whitelist="192.0.2.0/24")
    later = ours(RULES | NO_LISTS | {"host_whitelist": "192.0.2.0/24"})
    for name, body in detector.changed():
        later.restore(name, body)
    assert theirs.blocks(START_S, "-H", one.host, "sshd")
    assert not later.is_guessing(one.host, "sshd", START_S)


def test_an_update_knows_no_service(folders: Iterator[Path]) -> None:
    """``pam_abl -u`` clears what a rule for a service has blocked; in sshbell, nothing but time changes a state."""
    config = RULES | NO_LISTS | {"user_rule": "*/sshd:3/1h"}
    theirs, detector, one = PamAbl(next(folders), config), ours(config), Try(0, "bob", "192.0.2.1", "sshd")
    three_tries(theirs, detector, one)
    cleared = folders_command(theirs)
    theirs.update(START_S)
    assert cleared.exists()
    assert detector.is_guessed("bob", "sshd", START_S)


def test_ipv6(folders: Iterator[Path]) -> None:
    """pam_abl counts each IPv6 address alone; sshbell counts the /64."""
    theirs, detector = PamAbl(next(folders), RULES), ours(RULES | NO_LISTS)
    for number in range(3):
        one = Try(0, f"user{number}", f"2001:db8::{number}", "sshd")
        theirs.fail(START_S, one)
        detector.take(attempt(START_S, one))
    assert not theirs.blocks(START_S, "-H", "2001:db8::1", "sshd")
    assert detector.is_guessing("2001:db8::1", "sshd", START_S)


def folders_command(theirs: PamAbl) -> Path:
    """Let pam_abl create a file when it clears a user."""
    path = theirs.folder / "cleared"
    theirs.configure(user_clear_cmd=f"[/usr/bin/touch] [{path}]")
    return path
