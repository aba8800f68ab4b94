"""
An account that uses keys logs in by password: perhaps somebody has the password, but not the key.

sshd needs no password of such an account, so it can refuse them.
"""

from collections.abc import Iterable
from typing import ClassVar

from consumer.actions import EventAction
from consumer.detect.entries import KeyUser
from consumer.detect.findings import Kinds, OneTable, finding_of
from consumer.detect.logins import is_by_key, methods_of
from consumer.detect.tries import DAY_US
from consumer.events import Finding, Login
from consumer.records import TIME

# Accounts in memory, each with some 200 bytes.
KEY_USERS_LIMIT = 10_000
# How long a login counts.
_KEPT_US = 90 * DAY_US


class PasswordDespiteKey(OneTable):
    """
    Finds a login by password of an account that has only used keys.

    Args:
        least: how many logins by key show that an account uses keys.
    """

    takes: ClassVar[Kinds] = (Login,)

    def __init__(self, least: int) -> None:
        super().__init__(KeyUser, KEY_USERS_LIMIT)
        self._least = least

    def take(self, event: Login) -> Iterable[Finding]:
        """Return the finding about a login, and count it."""
        user, at_us = event.user, event.line[TIME]
        if not user or not at_us or methods_of(event) == ("",):
            return ()
        account: KeyUser | None = self._table.renewed(user)
        if account is None:
            account = KeyUser()
            self._table.put(user, account)
        is_over = at_us - account.by_key_us > _KEPT_US
        if is_by_key(event):
            if is_over:
                account.by_key, account.by_key_since_us = 0, at_us
            account.by_key += 1
            account.by_key_us = max(at_us, account.by_key_us)
            return ()
        before_us, account.by_password_us = account.by_password_us, max(at_us, account.by_password_us)
        if is_over or account.by_key < self._least or at_us - before_us <= _KEPT_US:
            return ()
        return (
            finding_of(
                event, EventAction.PASSWORD_DESPITE_KEY, user, rule=str(self._least), count=account.by_key,
                since_us=account.by_key_since_us,
            ),
        )  # fmt: skip
