"""Finds sessions by user if their lines have no PID. With busybox and in some containers, nothing else joins these lines."""

import re
from bisect import bisect_left, insort
from functools import lru_cache
from typing import TYPE_CHECKING

from consumer.matching.messages import pam_name, sshd_name
from consumer.records import USER

if TYPE_CHECKING:
    from consumer.story.connection import Connection

# The separators that you can configure in winbind.
_DOMAIN = re.compile(r".+[\\+/]")


def same_user(ours: str | None, theirs: str | None) -> bool:
    """
    Compare two user names from sshd or PAM, as bytes and with escapes undone.

    A module for a directory service (pam_winbind, pam_sss) may change the name: it adds the domain, or uses lower case.
    """
    if ours == theirs:
        return True
    return ours is not None and theirs is not None and not _spellings(ours).isdisjoint(_spellings(theirs))


@lru_cache(1024)
def _spellings(user: str | None) -> frozenset[str | None]:
    """Return the spellings of a name. Two names of the same user share at least one."""
    return frozenset([None] if user is None else [_account(sshd_name(user)), _account(pam_name(user))])


def _account(name: str) -> str:
    r"""Return ``DOMAIN\alice``, ``DOMAIN+alice``, ``DOMAIN/alice`` or ``alice@domain`` without the domain, in lower case."""
    return _DOMAIN.sub("", name.partition("@")[0] or name).casefold()


class SessionsWithoutPid:
    """
    The sessions of one host whose lines have no PID.

    Sessions that PAM has opened are in separate lists. Each list is in the order in which the connections began. ``last`` and
    ``forget`` remove outdated entries.
    """

    __slots__ = ("_by_user",)

    def __init__(self) -> None:
        self._by_user: dict[tuple[str | None, bool], list[Connection]] = {}

    def add(self, connection: "Connection") -> None:
        """Add a session, or note that PAM has opened it."""
        is_opened = connection.opened is not None
        for name in _spellings(connection.session_user):
            found = self._by_user.get((name, is_opened))
            if found is None:
                self._by_user[name, is_opened] = [connection]
            elif found[-1:] != [connection]:
                insort(found, connection, key=_number)

    def last(self, user: str | None, *, is_opened: bool) -> "Connection | None":
        """Return the latest session of ``user`` that is not over."""
        best: Connection | None = None
        for name in _spellings(user):
            found = self._by_user.get((name, is_opened), [])
            while found and not found[-1].is_in_session_without_pid(is_opened=is_opened):
                found.pop()
            if found and (best is None or found[-1].number > best.number):
                best = found[-1]
        return best

    def forget(self, connection: "Connection") -> None:
        """Remove a session whose connection is dropped."""
        names = _spellings(connection.session_user)
        if connection.opened is not None:
            names |= _spellings(connection.opened[USER])
        for name in names:
            for is_opened in (False, True):
                self._drop(name, connection, is_opened=is_opened)

    def _drop(self, name: str | None, connection: "Connection", *, is_opened: bool) -> None:
        found = self._by_user.get((name, is_opened))
        if found is not None:
            at = bisect_left(found, connection.number, key=_number)
            if at < len(found) and found[at] is connection:
                del found[at]
            if not found:
                del self._by_user[name, is_opened]


def _number(connection: "Connection") -> int:
    return connection.number
