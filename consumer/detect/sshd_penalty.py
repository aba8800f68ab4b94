"""
sshd (9.8 and later, ``PerSourcePenalties``) refuses an address for a while, because its clients have misbehaved.

Strangers get penalties every day. These are worth a look: a client that has crashed a process of sshd; a penalty for an address
from which an account logs in, because that account is locked out now; and an address that goes on in spite of its penalties.
"""

from collections.abc import Iterable
from typing import ClassVar

from consumer.actions import EventAction
from consumer.detect.entries import Penalized
from consumer.detect.findings import Kinds, OneTable, finding_of
from consumer.detect.tries import DAY_US
from consumer.detect_settings import rate_of
from consumer.events import Finding, Login, Probe, Trouble
from consumer.records import TIME

# Addresses in memory, each with some 300 bytes.
PENALTY_ADDRESS_LIMIT = 20_000
# How long an address belongs to the account that has logged in from it.
_USER_US = 90 * DAY_US
_PENALTY = "penalty"
_PENALTY_TEXT = f"{_PENALTY}: "
_CRASH = "crash"


class SshdPenalty(OneTable):
    """
    Finds penalties that matter, each address at most once a day.

    Args:
        rate: how many penalties, each within that time of the next, show that an address goes on.
    """

    takes: ClassVar[Kinds] = (Login, Probe, Trouble)

    def __init__(self, rate: str) -> None:
        super().__init__(Penalized, PENALTY_ADDRESS_LIMIT)
        self._rate = rate
        self._count, self._pause_us = rate_of(rate)

    def take(self, event: Login | Probe | Trouble) -> Iterable[Finding]:
        """Return the finding about a penalty; remember who logs in from where."""
        if isinstance(event, Probe) and not (event.reason or "").startswith(_PENALTY_TEXT):
            return ()
        address, at_us = event.address, event.line[TIME]
        if address is None or not at_us:
            return ()
        if isinstance(event, Login):
            entry = self._entry(address)
            entry.user, entry.login_us = event.user or "", at_us
            return ()
        reason = event.reason
        if reason is None or (isinstance(event, Trouble) and event.what != _PENALTY):
            return ()
        entry = self._entry(address)
        if abs(at_us - entry.last_us) > self._pause_us:
            entry.count, entry.since_us = 0, at_us
        entry.count += 1
        entry.last_us = max(entry.last_us, at_us)
        is_of_user = bool(entry.user) and at_us - entry.login_us < _USER_US
        case = _CRASH if _CRASH in reason else "user" if is_of_user else "often" if entry.count >= self._count else ""
        if not case or 0 <= at_us - entry.told_us < DAY_US:
            return ()
        entry.told_us = at_us
        return (
            finding_of(
                event, EventAction.SSHD_PENALTY, address, rule=self._rate, severity="high" if case == _CRASH else "",
                count=entry.count, since_us=entry.since_us, users=(entry.user,) if is_of_user else (),
                labels={"case": case, "reason": reason},
            ),
        )  # fmt: skip

    def _entry(self, address: str) -> Penalized:
        """Return the entry of an address, as the newest."""
        entry: Penalized | None = self._table.renewed(address)
        if entry is None:
            entry = Penalized()
            self._table.put(address, entry)
        return entry
