"""
Whose the keys in a table are: asks the process ``keys`` about many at once, and the table does not wait for what hangs.

``keys`` serves ``deliver`` first: half of its places, and one of each user's, are never a table's, whatever hangs.
"""

import asyncio
import socket
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from consumer.ecs import NOTHING, EcsEvent
from consumer.keys.client import KeyOwners, Question, account_name, question_of

# Users with a key, or with an authority's certificates; the first. A look-up takes about 15 ms of processor time.
KEYS_LIMIT = 64
# TABLE_CHILD_LIMIT of keys: more would wait there, and be unknown sooner.
AT_ONCE_LIMIT = 4
# For all of them. Less than LOOK_UP_S of keys: before it gives up one that hangs, no other is begun, which might hang, too.
TABLE_LIMIT_S = 2.4


class TableOwners:
    """
    The owners of keys, as ``keys`` has said them within ``TABLE_LIMIT_S``; what it has not is not known.

    Args:
        state_dir: where ``keys`` listens.
        logins: events, each user's newest first; of those with the same user, key and authority the first is asked about. No
            more are taken than are asked about.
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
        """Return what ``KeyOwners.of`` does, without asking."""
        question = self._question(event)
        return NOTHING if question is None else self._known.get(question, NOTHING)

    def __bool__(self) -> bool:
        return any(found != NOTHING for found in self._known.values())

    def _question(self, event: EcsEvent) -> Question | None:
        """Return what there is to know of an event, without what the newest stands for: address, and a certificate's own key."""
        question = question_of(event, self._here)
        if question is None:
            return None
        # Where certificates live for a day, each may have a key of its own; it is their authority's line that is looked for.
        fingerprint = "" if question.ca_fingerprint else question.fingerprint
        return Question(question.user, fingerprint, question.ca_fingerprint)

    async def _ask(self, owners: KeyOwners, wanted: dict[Question, EcsEvent]) -> None:
        places = asyncio.Semaphore(AT_ONCE_LIMIT)
        users: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

        async def ask(question: Question, login: EcsEvent) -> None:
            # In this order, so that who waits for a user's other key holds no place.
            async with users[account_name(question.user)], places:
                self._known[question] = await owners.of(login)

        with suppress(TimeoutError):
            async with asyncio.timeout(TABLE_LIMIT_S):
                await asyncio.gather(*(ask(question, login) for question, login in wanted.items()))
