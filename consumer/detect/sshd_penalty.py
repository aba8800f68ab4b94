"""
sshd (9.8 and later, ``PerSourcePenalties``) refuses an address for a while, because its clients have misbehaved.

Strangers get penalties every day. These are worth a look: a client that has crashed a process of sshd; a penalty for an address
from which an account logs in, because that account is locked out now; and an address that goes on in spite of its penalties.
"""

from collections.abc import Iterable
from typing import ClassVar

import msgspec

from consumer.actions import EventAction
from consumer.detect.findings import Kinds, OneTable, finding_of
from consumer.detect.tries import DAY_US
from consumer.detect_settings import rate_of
from consumer.events import Event, Finding, Login, Probe, Trouble

# Addresses in memory, each with some 300 bytes.
PENALTY_ADDRESS_LIMIT = 20_000
# How long an address belongs to the account that has logged in from it.
_USER_US = 90 * DAY_US
_PENALTY = "penalty"
_CRASH = "crash"


class _Address(msgspec.Struct, array_like=True, frozen=True):
    """What sshbell knows of an address: its last login; its penalties without a longer pause; when sshbell reported it."""

    user: str = ""
    login_us: int = 0
    count: int = 0
    since_us: int = 0
    last_us: int = 0
    told_us: int = 0


class SshdPenalty(OneTable):
    """
    Finds penalties that matter, each address at most once a day.

    Args:
        rate: how many penalties, each within that time of the next, show that an address goes on.
    """

    takes: ClassVar[Kinds] = (Login, Probe, Trouble)

    def __init__(self, rate: str) -> None:
        super().__init__(_Address, PENALTY_ADDRESS_LIMIT)
        self._rate = rate
        self._count, self._pause_us = rate_of(rate)

    def take(self, event: Event) -> Iterable[Finding]:
        """Return the finding about a penalty; remember who logs in from where."""
        if isinstance(event, Probe) and not (event.reason or "").startswith(f"{_PENALTY}: "):
            return ()
        address, at_us = event.address, event.time_us
        if address is None or not at_us:
            return ()
        if isinstance(event, Login):
            before: _Address = self._table.get(address) or _Address()
            self._table.put(address, msgspec.structs.replace(before, user=event.user or "", login_us=at_us))
            return ()
        reason = event.reason if isinstance(event, Probe | Trouble) else None
        is_penalty = isinstance(event, Trouble) and event.what == _PENALTY
        if reason is None or not (is_penalty or isinstance(event, Probe)):
            return ()
        before = self._table.get(address) or _Address()
        is_going_on = abs(at_us - before.last_us) <= self._pause_us
        now = msgspec.structs.replace(
            before, count=before.count + 1 if is_going_on else 1, since_us=before.since_us if is_going_on else at_us,
            last_us=max(before.last_us, at_us),
        )  # fmt: skip
        is_of_user = bool(now.user) and at_us - now.login_us < _USER_US
        case = _CRASH if _CRASH in reason else "user" if is_of_user else "often" if now.count >= self._count else ""
        is_due = bool(case) and not 0 <= at_us - now.told_us < DAY_US
        self._table.put(address, msgspec.structs.replace(now, told_us=at_us) if is_due else now)
        if not is_due:
            return ()
        return (
            finding_of(
                event, EventAction.SSHD_PENALTY, address, rule=self._rate, severity="high" if case == _CRASH else "",
                count=now.count, since_us=now.since_us, users=(now.user,) if is_of_user else (),
                labels={"case": case, "reason": reason},
            ),
        )  # fmt: skip
