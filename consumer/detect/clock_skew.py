"""
A host whose clock is wrong: the times of its lines against our own clock at their receipt.

A line cannot come before it was written. So a clock that is ahead shows at once, and ``_SAMPLES`` ticks with such lines make
sure. A line can come late. So a clock counts as behind only if no line of ``_BEHIND_US`` has come in time.
"""

import msgspec

_SAMPLES = 3
_BEHIND_US, _BEHIND_SAMPLES = 1800 * 1_000_000, 20


class ClockState(msgspec.Struct, frozen=True, array_like=True):
    """
    The clock of a host.

    Attributes:
        ahead: consecutive ticks whose lines were too far ahead.
        behind: the same for lines that were too late, since ``behind_us`` of the time that ``run`` is awake.
        least_us: the least delay of these lines.
        is_found: the finding about this clock has been made.
    """

    ahead: int = 0
    behind: int = 0
    behind_us: int = 0
    least_us: int = 0
    is_found: bool = False


def skew_of(state: ClockState, offset_us: int, awake_us: int, limit_us: int) -> tuple[ClockState, int | None]:
    """
    Return the clock of a host after some lines; and how far it is ahead, or behind if negative, in microseconds, if that is new.

    Args:
        state: of the host.
        offset_us: the time of the latest of these lines, less our own.
        awake_us: how long ``run`` has been awake.
        limit_us: how far a clock may be off; 0: no matter how far.
    """
    if not limit_us or abs(offset_us) <= limit_us:
        # A clock near the limit makes one finding, not one for each time it passes.
        return ClockState(is_found=state.is_found and 2 * abs(offset_us) > limit_us), None
    if offset_us > 0:
        ahead = min(state.ahead + 1, _SAMPLES)
        is_new = ahead == _SAMPLES and not state.is_found
        return ClockState(ahead, is_found=state.is_found or is_new), offset_us if is_new else None
    behind, since_us = (state.behind + 1, state.behind_us) if state.behind else (1, awake_us)
    least_us = min(state.least_us or -offset_us, -offset_us)
    is_new = behind >= _BEHIND_SAMPLES and awake_us - since_us >= _BEHIND_US and not state.is_found
    found = ClockState(0, min(behind, _BEHIND_SAMPLES), since_us, least_us, state.is_found or is_new)
    return found, -least_us if is_new else None
