"""The sources of the allow list."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import pytest

from consumer.config import Allow
from consumer.guard.allowed import ALLOWED_LIMIT, AllowFaultError, answer_of, answers, end_text, own_addresses
from consumer.store.block import AllowedRow

if TYPE_CHECKING:
    from pathlib import Path

NOW_US = 1_795_348_800_000_000  # 2026-11-22

# As Linux writes it, shortened.
FIB_TRIE = """\
Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 192.0.2.0/24 2 0 2
        |-- 192.0.2.0
           /24 link UNICAST
        |-- 192.0.2.10
           /32 host LOCAL
        |-- 192.0.2.255
           /32 link BROADCAST
     +-- 127.0.0.0/8 2 0 2
        |-- 127.0.0.1
           /32 host LOCAL
"""
IF_INET6 = "20010db8000000000000000000000010 02 40 00 80 eth0\n00000000000000000000000000000001 01 80 10 80 lo\n"


def test_own_addresses(tmp_path: Path) -> None:
    """The addresses of this host are those that the kernel delivers locally; no broadcast address and no network is one."""
    (tmp_path / "net").mkdir()
    (tmp_path / "net/fib_trie").write_text(FIB_TRIE)
    (tmp_path / "net/if_inet6").write_text(IF_INET6)
    assert [row.target for row in own_addresses(tmp_path)] == ["127.0.0.0/8", "192.0.2.10", "2001:db8::10", "::1"]
    assert [row.target for row in own_addresses(tmp_path / "none")] == ["127.0.0.0/8", "::1"]


def test_own_addresses_of_this_machine() -> None:
    """The real kernel shows the address from which this machine would speak."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("198.51.100.1", 9))  # this sends nothing
            own = probe.getsockname()[0]
        except OSError:
            own = "127.0.0.0/8"  # without a network there is only loopback
    assert own in {row.target for row in own_addresses()}


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("", []),
        ("# nothing\n\n   # nothing either\n", []),
        ("192.0.2.7\n2001:db8::/48", [("192.0.2.7", "ours", None), ("2001:db8::/48", "ours", None)]),
        ("  192.0.2.7/24   # the office # in Lyon \n", [("192.0.2.0/24", "the office # in Lyon", None)]),
        ("192.0.2.7 until 2026-12-31 # x", [("192.0.2.7", "x", 1_798_761_600_000_000)]),
        ("192.0.2.7\n192.0.2.7 # again", [("192.0.2.7", "again", None)]),
    ],
)
def test_file(tmp_path: Path, text: str, rows: list[tuple[str, str, int | None]]) -> None:
    """A file has an address in each line, with its own end and reason."""
    path = tmp_path / "offices"
    path.write_text(text)
    found = answer_of(Allow(file=str(path), reason="ours"))
    assert [(row.target, row.reason, row.until_us) for row in found] == rows
    assert {row.source for row in found} <= {f"file {path}"}


@pytest.mark.parametrize(
    "text",
    ["192.0.2", "vpn.example.org", "0.0.0.0/0", "::/0", "192.0.2.7 until today", "192.0.2.7 until 2026-02-30", "192.0.2.7 office",
     "192.0.2.7\n" * (ALLOWED_LIMIT + 1), "192.0.2.7 #" + "x" * 300, "192.0.2.7\n" * 10_000, "\0", "\xff"],
    ids=range(12),
)  # fmt: skip
def test_a_file_with_a_fault(tmp_path: Path, text: str) -> None:
    """One fault refuses the whole file, so that nobody takes a half of it for all."""
    path = tmp_path / "offices"
    path.write_text("198.51.100.1\n" + text, encoding="latin-1")
    with pytest.raises(AllowFaultError, match=r"offices"):
        answer_of(Allow(file=str(path)))


def test_a_name_that_cannot_be_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last good answer counts as long as the name servers fail, and each failure is reported."""
    allow = Allow(name="vpn.example.org", reason="the tunnel")

    def found(*_arguments: Any, **_more: Any) -> list[Any]:
        return [(2, 1, 6, "", ("192.0.2.7", 0)), (10, 1, 6, "", ("2001:db8::7", 0, 0, 0)), (2, 1, 6, "", ("192.0.2.7", 0))]

    def failed(*_arguments: Any, **_more: Any) -> list[Any]:
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", found)
    said: list[str] = []
    first = answers([allow], [], NOW_US, said.append)
    mine = [row for row in first if row.source == "name vpn.example.org"]
    assert [row.target for row in mine] == ["192.0.2.7", "2001:db8::7"]
    monkeypatch.setattr(socket, "getaddrinfo", failed)
    assert answers([allow], first, NOW_US, said.append) == first
    assert len(said) == 1
    assert "vpn.example.org" in said[0]
    # Without a wait, nothing is asked at all.
    assert answers([allow], first, NOW_US, said.append, may_wait=False) == first
    # A source that the configuration no longer has is gone.
    assert not [row for row in answers([], first, NOW_US, said.append) if row.source == "name vpn.example.org"]


def test_what_has_ended_is_left_out() -> None:
    """The last day counts whole, in UTC."""
    day = Allow(address="192.0.2.7", until="2026-11-22")
    end_us = 1_795_392_000_000_000  # midnight behind that day
    assert [row.target for row in answers([day], [], end_us - 1, pytest.fail) if row.source == "sshbell.toml"] == ["192.0.2.7"]
    assert [row for row in answers([day], [], end_us, pytest.fail) if row.source == "sshbell.toml"] == []
    assert end_text(end_us) == "until 2026-11-22"
    assert end_text(None) == ""


def test_a_command_that_fails() -> None:
    """Its status is reported, and its last good answer counts."""
    allow = Allow(command=["/bin/false"])
    before = [AllowedRow("command /bin/false", "192.0.2.7", "", None)]
    said: list[str] = []
    assert before[0] in answers([allow], before, NOW_US, said.append)
    assert said == ["command /bin/false: it ended with 1; its last good answer counts"]
