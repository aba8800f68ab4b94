"""
A host of whose lines sshbell suddenly understands fewer, against its own past: an upgrade has changed sshd's wording.

sshbell compares each ``_WINDOW`` lines of a host with all before. A flood of known lines can hide the others in their window. It
cannot hide them for good, since sshbell counts on when the flood is over.
"""

import msgspec

# Lines that are judged together, and lines that have to come before; a few odd lines are no new wording.
_WINDOW, _PAST_LEAST, _UNREAD_LEAST = 200, 1_000, 20
# The share has to be this many times the usual one.
_TIMES = 4
# From so many lines on, the past counts half, so that the new wording becomes usual.
_PAST_LIMIT = 20_000


class WordingState(msgspec.Struct, frozen=True, array_like=True):
    """
    The lines of a host.

    Attributes:
        past, past_unread: how many lines came before the window, and how many of them no rule reads.
        window, window_unread: the same for the window.
        is_found: the finding about the current wording has been made.
    """

    past: int = 0
    past_unread: int = 0
    window: int = 0
    window_unread: int = 0
    is_found: bool = False


def wording_of(state: WordingState, count: int, unread: int, percent: int) -> tuple[WordingState, tuple[int, int] | None]:
    """
    Return the lines of a host with some more; and the share that sshbell does not understand now and before, if it has jumped.

    Args:
        state: of the host.
        count: how many lines have come.
        unread: how many of them no rule reads.
        percent: the share from which on it counts; 0: none does.
    """
    window, window_unread = state.window + count, state.window_unread + unread
    if window < _WINDOW:
        return WordingState(state.past, state.past_unread, window, window_unread, is_found=state.is_found), None
    # In lines, so that all numbers are whole.
    is_much = window_unread * 100 >= percent * window and window_unread >= _UNREAD_LEAST
    is_more = state.past >= _PAST_LEAST and window_unread * state.past >= _TIMES * state.past_unread * window
    is_found = state.is_found and is_much
    jumped = None
    if percent and is_much and is_more and not state.is_found:
        jumped = round(100 * window_unread / window), round(100 * state.past_unread / state.past)
        is_found = True
    past, past_unread = state.past + window, state.past_unread + window_unread
    if past > _PAST_LIMIT:
        past, past_unread = past // 2, past_unread // 2
    return WordingState(past, past_unread, is_found=is_found), jumped
