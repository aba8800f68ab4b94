"""A flood of failed logins: each login has a message of its own, and the tries are in a few messages that add up to them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.integration.tries import flood

if TYPE_CHECKING:
    from pathlib import Path

# What ``run`` and ``deliver`` may need while they read a flood; with more tries, they need hardly more.
_MEMORY_KIB = 100 * 1024


def test_a_flood_of_tries(tmp_path: Path) -> None:
    """``tries.py`` does the same with a million, by hand."""
    found = flood(tmp_path, tries=10_000, addresses=5_000, logins=40)
    assert sorted(found.logins) == sorted(f"u{number}" for number in range(40))
    assert found.tries == 10_000
    assert found.others == []
    # The first try and the fold of five blocks, and of all others.
    assert found.messages <= 12
    assert found.deliver_kib < _MEMORY_KIB
    assert found.run_kib < _MEMORY_KIB
