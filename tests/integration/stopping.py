"""
``sshbell worker`` that stops itself with SIGSTOP in the middle of a transaction, once lines of the user ``zombie`` are in it.

Its argument is the place: ``before`` or ``within`` the transaction. The test lets it go on.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

PLACE = "SSHBELL_TEST_STOP"


def prepare(place: str) -> None:
    """Make the worker stop at a place."""
    from consumer.store import postgresql_worker  # noqa: PLC0415 - only this process loads it

    store = postgresql_worker.PostgresWorkerStore
    commit, keep = store.commit, store._keep
    due = []

    def committed(self: Any, progress: Sequence[Any], events: Sequence[Any], *more: Any) -> int:
        if any(event.user == "zombie" for event in events) and PLACE in os.environ:
            del os.environ[PLACE]
            due.append(place)
            if place == "before":
                os.kill(os.getpid(), signal.SIGSTOP)
        return commit(self, progress, events, *more)

    def kept(self: Any, *arguments: Any) -> None:
        keep(self, *arguments)
        if due == ["within"]:
            due.clear()
            os.kill(os.getpid(), signal.SIGSTOP)

    vars_of_store: Any = store
    vars_of_store.commit, vars_of_store._keep = committed, kept


if __name__ == "__main__":
    if found := os.environ.get(PLACE):
        prepare(found)
    from consumer.cli import main

    main()
