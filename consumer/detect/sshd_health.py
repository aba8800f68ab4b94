"""
sshd complains: about its own configuration, or about keys and accounts that are not in order. Or one-time codes cannot be sent.

Each such line makes a login fail for a reason that the client does not see. A revoked key that somebody still uses is worse: its
owner has not changed the key everywhere, or a thief tries it. Likewise, many prompts for codes may come from somebody who has the
first factor and hopes that the user confirms one of them.
"""

from collections.abc import Iterable
from typing import ClassVar

from consumer.actions import EventAction
from consumer.detect.findings import Kinds, OneTable, finding_of
from consumer.detect.tries import DAY_US
from consumer.events import Event, Finding, Trouble

# Complaints in memory: a host, a kind, and an account or a file. An entry has some 300 bytes.
COMPLAINTS_LIMIT = 10_000
# A revoked key, or a second factor that somebody tries to get past, or that nobody had to give.
_SERIOUS = frozenset({"key_revoked", "revoked_key_used", "revoked_key_tried", "prompt_burst", "let_in_without_code"})


class SshdHealth(OneTable):
    """Finds complaints of sshd, each at most once a day."""

    takes: ClassVar[Kinds] = (Trouble,)

    def __init__(self) -> None:
        super().__init__(int, COMPLAINTS_LIMIT)

    def take(self, event: Event) -> Iterable[Finding]:
        """Return the finding about a complaint."""
        if not isinstance(event, Trouble) or event.what == "penalty":
            return ()
        key = "\0".join((event.host, event.what, event.reason or event.user or ""))
        told_us = self._table.get(key)
        if told_us is not None and abs(event.time_us - told_us) < DAY_US:
            return ()
        self._table.put(key, event.time_us)
        is_serious = event.what in _SERIOUS
        labels = {"what": event.what} | ({"reason": event.reason} if event.reason else {})
        return (finding_of(event, EventAction.SSHD_HEALTH, key, severity="high" if is_serious else "", labels=labels),)
