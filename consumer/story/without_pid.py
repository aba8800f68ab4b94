"""Sessions whose lines have no PID, found by their user: with busybox and some containers, nothing else joins their lines."""

import re
from bisect import bisect_left, insort
from functools import lru_cache
from typing import TYPE_CHECKING

from consumer.matching.messages import pam_name, sshd_name
from consumer.records import USER

if TYPE_CHECKING:
    from consumer.story.connections import Connection

# The separators that winbind can be given.
_DOMAIN = re.compile(r".+[\\+/]")


def same_user(ours: str | None, theirs: str | None) -> bool:
    """
    Compare a name of sshd's with one of PAM's, or two of either: as bytes, escapes undone.

    A directory's module may set another spelling of the name (pam_winbind, pam_sss): with its domain, in small letters.
    """
    if ours == theirs:
        return True
    return ours is not None and theirs is not None and not _spellings(ours).isdisjoint(_spellings(theirs))


@lru_cache(1024)
def _spellings(user: str | None) -> frozenset[str | None]:
    """Return names of which equal users share one."""
    return frozenset([None] if user is None else [_account(sshd_name(user)), _account(pam_name(user))])


def _account(name: str) -> str:
    r"""Return a name without its domain: of ``DOMAIN\alice``, ``DOMAIN+alice``, ``DOMAIN/alice`` and ``alice@domain``."""
    return _DOMAIN.sub("", name.partition("@")[0] or name).casefold()


class SessionsWithoutPid:
    """
    The sessions of one host.

    Those that PAM has opened stand apart. Each list is in the order in which the connections began; what no longer belongs
    there is dropped when it is met, or when its connection is gone.
    """

    __slots__ = ("_by_user",)

    def __init__(self) -> None:
        self._by_user: dict[tuple[str | None, bool], list[Connection]] = {}

    def add(self, connection: "Connection") -> None:
        """Take up a session, or take note that PAM has opened it."""
        is_opened = connection.opened is not None
        for name in _spellings(connection.session_user):
            found = self._by_user.get((name, is_opened))
            if found is None:
                self._by_user[name, is_opened] = [connection]
            elif found[-1:] != [connection]:
                insort(found, connection, key=_number)

    def last(self, user: str | None, *, is_opened: bool) -> "Connection | None":
        """Return the session of ``user`` that began last and is not over."""
        best: Connection | None = None
        for name in _spellings(user):
            found = self._by_user.get((name, is_opened), [])
            while found and not found[-1].is_in_session_without_pid(is_opened=is_opened):
                found.pop()
            if found and (best is None or found[-1].number > best.number):
                best = found[-1]
        return best

    def forget(self, connection: "Connection") -> None:
        """Forget a session of which nothing is held any more."""
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
