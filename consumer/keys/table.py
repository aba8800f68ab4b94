"""
The owners of the keys in a table: asks the process ``keys`` about many at once. The table does not wait for hanging look-ups.

``keys`` serves ``deliver`` first: a table never gets more than half of its slots, nor more than one of a user's two.
"""

import asyncio
import socket
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from consumer.ecs import NOTHING, EcsEvent
from consumer.keys.client import KeyOwners
from consumer.keys.fields import Question, account_name, question_of

# Look up only the first pairs of user and key, or user and authority. A look-up takes about 15 ms of processor time.
KEYS_LIMIT = 64
# The TABLE_CHILD_LIMIT of keys: more would only wait there, and run out of time sooner.
AT_ONCE_LIMIT = 4
# For all look-ups. Less than LOOK_UP_S of keys, so that no further look-up begins, and perhaps hangs, when keys gives one up.
TABLE_LIMIT_S = 2.4


class TableOwners:
    """
    The owners of keys that ``keys`` finds within ``TABLE_LIMIT_S``; the others stay unknown.

    Args:
        state_dir: where ``keys`` listens.
        logins: events, each user's newest first. Of several with the same user, key and authority, the first is asked about. This
            takes no more of them than it asks about.
    """

    def __init__(self, state_dir: Path, logins: Iterable[EcsEvent]) -> None:
        self._here = socket.gethostname()
        self._known: dict[Question, EcsEvent] = {}
        wanted: dict[Question, EcsEvent] = {}
        for login in logins:
            if (question := self._question(login)) is not None:
                wanted.setdefault(question, login)
            if len(wanted) == KEYS_LIMIT:
                break
        if wanted:
            asyncio.run(self._ask(KeyOwners(state_dir, for_table=True), wanted))

    def of(self, event: EcsEvent) -> EcsEvent:
        """Return the same as ``KeyOwners.of``, without asking ``keys``."""
        question = self._question(event)
        return NOTHING if question is None else self._known.get(question, NOTHING)

    def __bool__(self) -> bool:
        return any(found != NOTHING for found in self._known.values())

    def _question(self, event: EcsEvent) -> Question | None:
        """Return the question about an event, without the address and without a certificate's own key, which vary."""
        question = question_of(event, self._here)
        if question is None:
            return None
        # Certificates that live for a day may each have a new key; the look-up searches the line of their authority.
        fingerprint = "" if question.ca_fingerprint else question.fingerprint
        return Question(question.user, fingerprint, question.ca_fingerprint)

    async def _ask(self, owners: KeyOwners, wanted: dict[Question, EcsEvent]) -> None:
        places = asyncio.Semaphore(AT_ONCE_LIMIT)
        users: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

        async def ask(question: Question, login: EcsEvent) -> None:
            # In this order, so that a question that waits for the user's other key occupies no slot.
            async with users[account_name(question.user)], places:
                self._known[question] = await owners.of(login)

        with suppress(TimeoutError):
            async with asyncio.timeout(TABLE_LIMIT_S):
                await asyncio.gather(*(ask(question, login) for question, login in wanted.items()))
