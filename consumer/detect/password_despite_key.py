"""
An account that uses keys logs in by password: perhaps somebody has the password, but not the key.

sshd needs no password of such an account, so it can refuse them.
"""

from collections.abc import Iterable
from typing import ClassVar

import msgspec

from consumer.actions import EventAction
from consumer.detect.findings import Kinds, OneTable, finding_of
from consumer.detect.logins import is_by_key, methods_of
from consumer.detect.tries import DAY_US
from consumer.events import Event, Finding, Login

# Accounts in memory, each with some 200 bytes.
KEY_USERS_LIMIT = 10_000
# How long a login counts.
_KEPT_US = 90 * DAY_US


class _Account(msgspec.Struct, array_like=True, frozen=True):
    """The logins of an account: by key without a pause of 90 days, and the last one by password."""

    by_key: int = 0
    by_key_since_us: int = 0
    by_key_us: int = 0
    by_password_us: int = 0


class PasswordDespiteKey(OneTable):
    """
    Finds a login by password of an account that has only used keys.

    Args:
        least: how many logins by key show that an account uses keys.
    """

    takes: ClassVar[Kinds] = (Login,)

    def __init__(self, least: int) -> None:
        super().__init__(_Account, KEY_USERS_LIMIT)
        self._least = least

    def take(self, event: Event) -> Iterable[Finding]:
        """Return the finding about a login, and count it."""
        user, at_us = event.user, event.time_us
        if not isinstance(event, Login) or not user or not at_us or methods_of(event) == ("",):
            return ()
        before: _Account = self._table.get(user) or _Account()
        is_over = at_us - before.by_key_us > _KEPT_US
        if is_by_key(event):
            since_us, count = (at_us, 0) if is_over else (before.by_key_since_us, before.by_key)
            self._table.put(user, _Account(count + 1, since_us, max(at_us, before.by_key_us), before.by_password_us))
            return ()
        self._table.put(user, msgspec.structs.replace(before, by_password_us=max(at_us, before.by_password_us)))
        if is_over or before.by_key < self._least or at_us - before.by_password_us <= _KEPT_US:
            return ()
        return (
            finding_of(
                event, EventAction.PASSWORD_DESPITE_KEY, user, rule=str(self._least), count=before.by_key,
                since_us=before.by_key_since_us,
            ),
        )  # fmt: skip
