"""
Walks through a stack of PAM as ``pam_authenticate()`` does, with given answers of its modules.

Source: Linux-PAM, ``pam.conf(5)`` and libpam/pam_dispatch.c.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from consumer.system.pam_stack import PamEntry

SUCCESS = "success"
# The actions of the simple controls: on success, on PAM_IGNORE, and otherwise.
_SIMPLE = {
    "required": ("ok", "ignore", "bad"),
    "requisite": ("ok", "ignore", "die"),
    "sufficient": ("done", "ignore", "ignore"),
    "optional": ("ok", "ignore", "ignore"),
}


class Walk(NamedTuple):
    """The result of a walk: whether PAM lets in, and the entries that ran, in order."""

    lets_in: bool
    ran: list[PamEntry]


def walk(entries: Sequence[PamEntry], answer: Callable[[PamEntry], str]) -> Walk:  # noqa: C901 - one case an action
    """
    Walk through the entries of one type.

    Args:
        entries: in their order.
        answer: returns what a module answers, in the words of ``pam.conf(5)``: ``success``, ``auth_err``.
    """
    state: bool | None = None  # nothing decided yet
    before: dict[tuple[str, ...], bool | None] = {}  # by substack: the state at its begin
    ran: list[PamEntry] = []
    at = 0
    while at < len(entries):
        entry = entries[at]
        for depth in range(1, len(entry.substacks) + 1):
            before.setdefault(entry.substacks[:depth], state)
        result = answer(entry)
        ran.append(entry)
        at += 1
        match action_of(entry.control, result):
            case "ok" | "done" as action:
                if state is not False:
                    state = result == SUCCESS
                if action == "done" and state:
                    at = _end(entries, at, entry.substacks)
            case "bad":
                state = False
            case "die":
                state = False
                at = _end(entries, at, entry.substacks)
            case "reset":
                state = before.get(entry.substacks)
            case action if action.isdecimal():
                at = _behind(entries, at, entry.substacks, int(action))
                if at < 0:
                    return Walk(lets_in=False, ran=ran)  # the jump leads out of the stack
    return Walk(state is True, ran)


def action_of(control: str, result: str) -> str:
    """Return what a control does after a module's answer: ``ok``, ``done``, ``bad``, ``die``, ``ignore``, ``reset``, a number."""
    if not control.startswith("["):
        success, ignored, other = _SIMPLE.get(control.lower(), ("ok", "ignore", "bad"))
        return success if result == SUCCESS else ignored if result == "ignore" else other
    actions = dict(pair.split("=", 1) for pair in control.strip("[]").split() if "=" in pair)
    return actions.get(result) or actions.get("default") or "bad"


def _end(entries: Sequence[PamEntry], at: int, substacks: tuple[str, ...]) -> int:
    """Return the place behind a substack, or behind everything: ``done`` and ``die`` end no more than that."""
    while at < len(entries) and substacks and entries[at].substacks[: len(substacks)] == substacks:
        at += 1
    return at if substacks else len(entries)


def _behind(entries: Sequence[PamEntry], at: int, substacks: tuple[str, ...], jump: int) -> int:
    """Return the place behind some modules of a stack, of which a substack counts as one; -1 if there are not so many."""
    depth = len(substacks)
    for _ in range(jump):
        if at >= len(entries) or entries[at].substacks[:depth] != substacks:
            return -1
        skipped = entries[at].substacks[: depth + 1]
        at += 1
        while len(skipped) > depth and at < len(entries) and entries[at].substacks[: depth + 1] == skipped:
            at += 1
    return at
