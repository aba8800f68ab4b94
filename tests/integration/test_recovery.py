"""A channel that recovers from an outage does not hold up another one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.integration.recovery import BEFORE, recovery

if TYPE_CHECKING:
    from pathlib import Path

WAITING = 500
# The most messages of the recovering channel that may go between deliver's notice of another channel's message and that message.
# It does not depend on the speed of the machine. Without turns, it would be all that wait.
OVERTAKEN_BY = WAITING // 5


def test_other_channels_take_their_turns(tmp_path: Path) -> None:
    """While 500 waiting messages go out, in order and once each, messages of another channel go between them."""
    found = recovery(tmp_path, WAITING)
    assert found.arrived == [f"u{number}" for number in range(WAITING)]
    assert len(found.before) == BEFORE
    assert len(found.meanwhile) > 1
    assert max(turn.overtaken_by for turn in found.meanwhile) <= OVERTAKEN_BY
