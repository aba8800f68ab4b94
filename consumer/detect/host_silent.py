"""
A host that has fallen silent, against its own rhythm.

The rhythm is the longest pause between two lines in the last two weeks: it includes nights and weekends. Strangers can only make
the pauses shorter, since everybody can make a host log a line. So a silence is at least ``_LEAST_US`` long, whatever they do.
"""

import msgspec

_DAY_US = 86400 * 1_000_000
# Pauses of so many days count; the first days of a host only teach its rhythm.
_DAYS, _LEARN_DAYS = 14, 7
_LEAST_US = 6 * 3600 * 1_000_000


class RhythmState(msgspec.Struct, frozen=True, array_like=True):
    """
    The rhythm of a host. All times are of the time that ``run`` is awake.

    Attributes:
        since_us: when its first line came.
        last_us: when its last line came; 0: none has come.
        is_found: the finding about the pause since then has been made.
        pauses: the longest pause of each day of ``_DAYS``, by the number of the day.
    """

    since_us: int
    last_us: int = 0
    is_found: bool = False
    pauses: dict[int, int] = {}

    def heard(self, awake_us: int) -> "RhythmState":
        """Return the rhythm after a line."""
        day = awake_us // _DAY_US
        pause_us = awake_us - self.last_us if self.last_us else 0
        pauses = self.pauses
        if pause_us > pauses.get(day, -1):
            pauses = {each: longest for each, longest in pauses.items() if each > day - _DAYS} | {day: pause_us}
        return RhythmState(self.since_us, awake_us, pauses=pauses)

    def found(self) -> "RhythmState":
        """Return the rhythm after the finding about the current pause."""
        return RhythmState(self.since_us, self.last_us, is_found=True, pauses=self.pauses)


def silence_of(state: RhythmState, awake_us: int, factor: int) -> int | None:
    """
    Return how long a host has been silent, in microseconds, if that is unusual and new; otherwise None.

    Args:
        state: of the host.
        awake_us: how long ``run`` has been awake.
        factor: how many times the longest pause counts as silence.
    """
    if state.is_found or not state.pauses or state.last_us - state.since_us < _LEARN_DAYS * _DAY_US:
        return None
    pause_us = awake_us - state.last_us
    day = awake_us // _DAY_US
    longest_us = max((longest for each, longest in state.pauses.items() if each > day - _DAYS), default=0)
    return pause_us if longest_us and pause_us > max(_LEAST_US, factor * longest_us) else None
