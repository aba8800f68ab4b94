"""
Marks the failed login that ``sshbell canary`` makes to test the whole way from sshd to the store.

A marked try is no failed login: no detector counts it. A stranger must not get that treatment for a guess. So sshbell marks a try
only if it comes from a loopback address, with a token that ``sshbell canary`` has announced, once for each token, and soon after
the announcement. No account has such a name, so even a local user who reads the token in time gains nothing with it.
"""

import re
from collections.abc import Mapping

from consumer.addresses import ip_of
from consumer.events import Attempt, Canary, Event, Probe

CANARY_PREFIX = "sshbell-canary-"
TOKEN = re.compile(r"[0-9a-f]{32}")
# Tokens that wait for their try, and how long they wait; sshbell canary announces one at a time.
CANARY_LIMIT = 16
_WAIT_US = 600 * 1_000_000


class Canaries:
    """The announced tokens, each with the time of its announcement: the wall clock of ``tick``."""

    def __init__(self) -> None:
        self._announced: dict[str, int] = {}

    def announce(self, token: str, now_us: int) -> None:
        """Expect the try with a token; text that is no token is ignored."""
        if TOKEN.fullmatch(token):
            self._announced[token] = now_us
            if len(self._announced) > CANARY_LIMIT:
                del self._announced[next(iter(self._announced))]

    def marked(self, event: Event, now_us: int) -> Event:
        """Return an event of the correlator, marked if it is the expected try."""
        if not self._announced or not isinstance(event, Attempt | Probe) or not (event.user or "").startswith(CANARY_PREFIX):
            return event
        token = (event.user or "").removeprefix(CANARY_PREFIX)
        ip = ip_of(event.address)
        since_us = self._announced.get(token)
        if since_us is None or ip is None or not ip.is_loopback or (isinstance(event, Attempt) and event.count != 1):
            return event
        del self._announced[token]
        if not 0 <= now_us - since_us <= _WAIT_US:
            return event
        return Canary(event.id, event.line, event.user, event.address, event.port)

    def state(self) -> Mapping[str, int]:
        """Return the announced tokens."""
        return self._announced

    def restore(self, announced: dict[str, int]) -> None:
        """Take over the tokens of an earlier process."""
        self._announced = announced
