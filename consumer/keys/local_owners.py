"""
The owners of this host's keys for ``replay``, read from the ``authorized_keys`` of the users who logged in.

It reads these files as ``keys export`` does and does not ask the process ``keys``: you may replay a log where sshbell does not
run, and the questions of a long log would keep ``keys`` from answering ``deliver``. Only root can read the files of other users.
"""

import os
import pwd
import socket
import time
from collections.abc import Callable

from consumer.ecs import NOTHING, EcsEvent
from consumer.keys.authorized_keys import AuthorizedKey
from consumer.keys.export import HOME_LIMIT_S, exported_keys
from consumer.keys.fields import of_owners, question_of
from consumer.keys.files import fitting

# Keys held in memory, of all users. Beyond this number, sshbell reads no further user's files.
_KEYS_LIMIT = 50_000


class LocalOwners:
    """
    Names the owners of keys that this host accepts. It reads a user's files at that user's first login.

    Args:
        report: takes one line for each user whose files cannot be read. After a user whose files hang, it reads no others.
    """

    def __init__(self, report: Callable[[str], None]) -> None:
        self._report = report
        self._here = socket.gethostname()
        self._keys: dict[str, list[AuthorizedKey]] = {}
        self._left = _KEYS_LIMIT if os.geteuid() == 0 else 0

    def __bool__(self) -> bool:
        """Return whether it can read any files."""
        return self._left > 0

    def of(self, event: EcsEvent) -> EcsEvent:
        """Return what is known of the key of a login to this host, as ``KeyOwners.of`` does."""
        question = question_of(event, self._here)
        if question is None:
            return NOTHING
        found = fitting(question, self._of_user(question.user))
        return of_owners((key.comment, key.options, key.is_authority) for key in found)

    def _of_user(self, user: str) -> list[AuthorizedKey]:
        found = self._keys.get(user)
        if found is None:
            if self._left <= 0:
                return []
            found = self._keys[user] = self._read(user)
            self._left -= 1 + len(found)
        return found

    def _read(self, user: str) -> list[AuthorizedKey]:
        try:
            account = pwd.getpwnam(user)
        except (KeyError, ValueError):
            return []
        began_s = time.monotonic()
        found = list(exported_keys(self._report, [account]))
        if time.monotonic() - began_s >= HOME_LIMIT_S:
            self._left = 0
        return found
