"""``sshbell block export`` and ``import``: the blocks of one machine on others."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from consumer.block.exchange import LINES_LIMIT, line_of_block, shared_blocks
from tests.integration.guard import GuardProcess, order
from tests.integration.site import Site
from tests.waiting import wait_for

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def collector(tmp_path: Path) -> Site:
    """The machine whose blocks the others get."""
    folder = tmp_path / "collector"
    folder.mkdir()
    return Site(folder)


@pytest.fixture(autouse=True)
def _from_nowhere(monkeypatch: pytest.MonkeyPatch, site: Site) -> None:
    """The tests themselves may run in a session of ssh."""
    monkeypatch.delenv("SSH_CONNECTION", raising=False)
    site.env.pop("SSH_CONNECTION", None)


def until(hours: float = 1) -> str:
    """Return a time from now, in RFC 3339."""
    return (datetime.now(UTC) + timedelta(hours=hours)).isoformat(timespec="seconds")


def one(**values: Any) -> str:
    """Return a line of JSON about a block."""
    return json.dumps({"id": "a1", "target": "192.0.2.7", "until": until()} | values)


def denies(guard: GuardProcess, *names: str) -> None:
    """Wait until the file for pam_access names some targets."""
    wait_for(lambda: set(names) <= set(guard.text().split()), f"{names} are blocked")


def targets(site: Site) -> list[str]:
    """Return what a machine blocks."""
    return sorted({row["target"] for row in site.objects("block", "list")})


def test_from_one_machine_to_another(collector: Site, site: Site) -> None:
    """All blocks arrive, each once; what the collector lifts is lifted here, and what this machine removes stays removed."""
    with collector:
        there = GuardProcess(collector)
        there.send(
            order("192.0.2.7", reason="guessing\n\x1b[2J"), order("192.0.2.8"), order("2001:db8:7::/64"),
            order("user:alice", exceptions=["198.51.100.1"]),
        )  # fmt: skip
        denies(there, "192.0.2.8")
        here = GuardProcess(site)
        here.send(order("192.0.2.9"), order("2001:db8:7::/64", 2))
        listed = collector.ask("block", "export").stdout
        assert "\x1b" not in listed
        done = site.ask("block", "import", stdin=listed).stdout
        assert done == "imported 4 blocks, lifted 0, 0 known already\n"
        denies(here, "192.0.2.7", "alice", "198.51.100.1")
        assert site.ask("block", "import", stdin=listed).stdout == "imported 0 blocks, lifted 0, 4 known already\n"
        # The reason of a stranger does no harm here either.
        (row,) = site.objects("block", "list", "192.0.2.7")
        assert row["reason"] == "guessing\\x0a\\x1b[2J"
        assert datetime.fromisoformat(row["until"]) - datetime.now(UTC) < timedelta(hours=1)

        site.ask("block", "remove", "192.0.2.8")
        collector.ask("block", "remove", "192.0.2.7", "2001:db8:7::/64")
        listed = collector.ask("block", "export").stdout
        assert site.ask("block", "import", stdin=listed).stdout == "imported 0 blocks, lifted 1, 2 known already\n"
        # 192.0.2.8 was removed here, 192.0.2.7 there; this machine had blocked the other two by itself.
        assert targets(site) == ["192.0.2.9", "2001:db8:7::/64", "user:alice"]
        assert site.query("SELECT count(*) FROM sqlite_schema", "block") != []
        assert not (site.state_dir / "state.db").exists()  # no event, and no message


def test_a_list_that_names_own_blocks(site: Site) -> None:
    """Who writes a list has got this machine's own blocks, and calls them lifted: they stay, and an imported one goes."""
    here = GuardProcess(site)
    here.send(order("192.0.2.9"))
    site.ask("block", "import", stdin=one())
    denies(here, "192.0.2.7", "192.0.2.9")
    rows = [json.loads(line) | {"removed": until(-1)} for line in site.ask("block", "export").stdout.splitlines()]
    assert len(rows) == 2
    done = site.ask("block", "import", stdin="\n".join(map(json.dumps, rows))).stdout
    assert done == "imported 0 blocks, lifted 1, 0 known already\n"
    assert targets(site) == ["192.0.2.9"]


def test_a_block_that_is_made_anew(site: Site) -> None:
    """Who lifts a block in order to make a longer one has both in the list: the new one counts, and ends with its own removal."""
    GuardProcess(site)
    old, new = {"id": "a1", "removed": until(-1)}, {"id": "a2", "until": until(2)}
    assert site.ask("block", "import", stdin=one()).stdout.startswith("imported 1 block,")
    listed = f"{one(**old)}\n{one(**new)}"
    for done in ("imported 1 block, lifted 0, 0 known already\n", "imported 0 blocks, lifted 0, 1 known already\n"):
        assert site.ask("block", "import", stdin=listed).stdout == done
    assert targets(site) == ["192.0.2.7"]
    listed = f"{one(**old)}\n{one(**new, removed=until(-1))}"
    assert site.ask("block", "import", stdin=listed).stdout == "imported 0 blocks, lifted 1, 0 known already\n"
    assert targets(site) == []


def test_the_allow_list_wins(site: Site) -> None:
    """What the allow list has, a network around it included, stays open, and so does this machine itself."""
    guard = GuardProcess(site, allow=[{"address": "192.0.2.7"}])
    lines = "\n".join(
        [one(), one(id="a2", target="127.0.0.1"), one(id="a3", target="192.0.2.0/24"), one(id="a4", target="203.0.113.7")]
    )
    out = site.ask("block", "import", stdin=lines).stdout
    assert out == "imported 2 blocks, lifted 0, 0 known already, 2 left out, since the allow list has them\n"
    denies(guard, "203.0.113.7")
    assert site.ask("block", "check", "192.0.2.7").returncode == 0
    site.ask("block", "check", "192.0.2.8", status=1)


def test_text(collector: Site, site: Site) -> None:
    """The form for people and for other programs carries the same addresses; users are left out, and counted."""
    with collector:
        there = GuardProcess(collector)
        there.send(order("192.0.2.7", reason="x # y"), order("user:alice"), order("2001:db8:7::/64"))
        denies(there, "192.0.2.7", "alice")
        done = collector.ask("block", "export", "--text")
        assert done.stderr == "left out: 1 blocked user, for whom text has no form\n"
        GuardProcess(site)
        assert site.ask("block", "import", stdin=f"# ours\n\n{done.stdout}").stdout.startswith("imported 2 blocks")
        assert site.ask("block", "import", stdin=done.stdout).stdout.startswith("imported 0 blocks, lifted 0, 2 known")
        collector.ask("block", "remove", "192.0.2.7")
        lifted = collector.ask("block", "export", "--text").stdout
        assert "192.0.2.7 lifted until " in lifted
        assert site.ask("block", "import", stdin=lifted).stdout.startswith("imported 0 blocks, lifted 1")
        assert targets(site) == ["2001:db8:7::/64"]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("192.0.2.7", "write: 192.0.2.7 until"),
        ("192.0.2.7 until tomorrow", "Invalid isoformat"),
        (f"0.0.0.0/0 until {until()}", "large part of the world"),
        (f"$(reboot) until {until()}", "does not appear to be"),
        (f"user:alice until {until()}", "text has no users"),
        (one(target="192.0.2.0/3"), "large part of the world"),
        (one(target="user:"), "a user's name has"),
        (one(until="2026-11-29T10:00:00"), "has no zone"),
        (one(exceptions=["x"]), "does not appear to be"),
        (one(id=""), "Expected `str` of length >= 1"),
        (one(service="x" * 65), "Expected `str` of length <= 64"),
        (one(service="--flush"), "Expected `str` matching regex"),
        ('{"x": ' + "[" * 5000, "recursion|malformed"),
        (one() + "\n" * LINES_LIMIT, "more than 20,000 lines"),
        (one(reason="x" * 9000), "it is too long"),
        ('{"id": "a1", "target": "192.0', "truncated"),
    ],
    ids=range(16),
)
def test_a_list_with_a_fault(text: str, fault: str) -> None:
    """Such a list is refused as a whole, with the line: half a transfer imports nothing."""
    with pytest.raises(ValueError, match=fault):
        list(shared_blocks(f"{one(id='b')}\n{text}".encode("utf-8", "surrogatepass")))


def test_a_fault_imports_nothing(site: Site) -> None:
    """The command names file and line, ends with EX_DATAERR, and blocks nothing."""
    GuardProcess(site)
    path = site.folder / "blocks"
    path.write_text(f"{one()}\nnonsense\n")
    done = site.ask("block", "import", path, status=65)
    assert f"{path}: line 2: write: 192.0.2.7 until" in done.stderr
    done = site.ask("block", "import", stdin="nonsense", status=65)
    assert "standard input: line 1: " in done.stderr
    done = site.ask("block", "import", site.folder / "missing", status=66)
    assert done.stderr.endswith("missing: No such file or directory\n")
    assert targets(site) == []


def test_bounds(site: Site) -> None:
    """A block ends when this machine's own settings want it to; one that has ended is none; a long list fits."""
    guard = GuardProcess(site, longest="2h")
    many = [one(id=f"m{number}", target=f"198.51.{number // 250}.{number % 250}") for number in range(1000)]
    texts = [one(until=until(9000)), one(id="old", target="192.0.2.8", until=until(-1)), *many]
    assert site.ask("block", "import", stdin="\n".join(texts)).stdout.startswith("imported 1,001 blocks, lifted 0, 0 known")
    denies(guard, "192.0.2.7")
    (row,) = site.objects("block", "list", "192.0.2.7")
    assert datetime.fromisoformat(row["until"]) - datetime.now(UTC) < timedelta(hours=2)
    exceptions = [f"192.0.2.{number}" for number in range(1, 21)]
    users = [one(id=f"u{number}", target=f"user:u{'x' * 20}{number}", exceptions=exceptions) for number in range(200)]
    assert site.ask("block", "import", stdin="\n".join(users)).stdout.startswith("imported 200 blocks")


def test_text_is_one_line() -> None:
    """No reason of a stranger makes a second line."""
    (block,) = shared_blocks(one(reason="x\ny\u2028192.0.2.9 until 2030-01-01T00:00:00Z").encode())
    assert len(line_of_block(block).splitlines()) == 1


def test_without_guard(site: Site) -> None:
    """Nothing would end a block, so nothing is imported; the exit code asks to try later."""
    site.configure(block={"mode": "on", "access_file": str(site.folder / "access.conf")})
    assert "guard is not running" in site.ask("block", "import", stdin=one(), status=75).stderr
