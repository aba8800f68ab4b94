"""The commands for nft. ``tests/integration/test_guard.py`` gives them to the real one."""

from __future__ import annotations

from typing import Any

from consumer.block.nftables import changes, no_table, whole_table
from consumer.block.target import Target, network_target

SECOND_US = 1_000_000


def ends(**texts: int) -> dict[Target, int]:
    """Return targets with their ends, in seconds; "_" stands for "." and "__" for "/"."""
    return {network_target(text.replace("__", "/").replace("_", ".")[1:]): end * SECOND_US for text, end in texts.items()}


def elements(found: dict[str, Any] | None, verb: str) -> list[tuple[str, object]]:
    """Return the elements that a command adds or deletes."""
    assert found is not None
    commands = [each[verb]["element"] for each in found["nftables"] if verb in each and "element" in each[verb]]
    return [(each["name"], value) for each in commands for value in each["elem"]]


def test_a_change_is_a_difference() -> None:
    """Only what has changed is added or deleted; an element that the kernel has forgotten by itself is not deleted."""
    before = ends(x10_0_0_1=100, x10_0_0_2=100, x10_0_0_3=50, x10_1_0_0__16=100)
    after = ends(x10_0_0_1=100, x10_0_0_2=200, x10_0_0_4=61)
    found = changes(before, after, 60 * SECOND_US)
    assert elements(found, "delete") == [
        ("blocked_addresses4", "10.0.0.2"), ("blocked_networks4", {"prefix": {"addr": "10.1.0.0", "len": 16}}),
    ]  # fmt: skip
    assert elements(found, "add") == [
        ("blocked_addresses4", {"elem": {"val": "10.0.0.2", "timeout": 140}}),
        ("blocked_addresses4", {"elem": {"val": "10.0.0.4", "timeout": 1}}),
    ]
    assert changes(after, after, 60 * SECOND_US) is None


def test_the_time_out_is_rounded_up() -> None:
    """The kernel never forgets an element before its end, and never gets a time-out of 0, which would mean none."""
    found = whole_table({network_target("10.0.0.1"): 1_500_000, network_target("10.0.0.2"): 1}, [], [22], 0)
    assert [value for _, value in elements(found, "add")] == [
        {"elem": {"val": "10.0.0.1", "timeout": 2}}, {"elem": {"val": "10.0.0.2", "timeout": 1}},
    ]  # fmt: skip


def test_only_our_own_table() -> None:
    """Every command names the table of sshbell, so no rule of anybody else changes."""
    for found in (whole_table(ends(x10_0_0_1=100), [network_target("::1")], [22, 2222], 0), no_table()):
        for command in found["nftables"]:
            ((_verb, what),) = command.items()
            ((kind, fields),) = what.items()
            assert fields["family"] == "inet"
            assert fields["name" if kind == "table" else "table"] == "sshbell"
