"""Summarizes the messages of a digest: the number of each kind, and the account, host and address of each message."""

from collections import Counter
from enum import IntEnum

import msgspec

from consumer.actions import EventAction, OwnAction
from consumer.deliver.facts import Facts
from consumer.deliver.sentences import in_a_list, named
from consumer.text import listed

# The most lines, lines about logins, and pairs of user and host in a digest. For the rest, it shows only the total.
DIGEST_LINES, LOGIN_LINES, _DIGEST_USERS = 50, 200, 20
# The most pairs of user and host, and the most logins, that a digest counts separately. There is a limit because peers choose the
# names. Logins of root have the same room once more.
_COUNTED_USERS = _COUNTED_LOGINS = 10_000
_UNREADABLE = "unreadable"

# Singular and plural of each kind, in the order of a digest.
_NOUNS = {
    **{str(action): (action.noun, action.nouns) for action in EventAction},
    str(OwnAction.NOTICE): ("notice of sshbell", "notices of sshbell"),
    _UNREADABLE: ("unreadable event", "unreadable events"),
    "": ("event of another kind", "events of other kinds"),
}


class HeldLine(msgspec.Struct, frozen=True):
    """Events that differ only in their time. ``time`` is that of the first event, ``last`` that of the last one."""

    text: str
    time: str
    last: str
    count: int


class HeldGroup(msgspec.Struct, frozen=True, kw_only=True):
    """The events of one kind. ``words`` is their number in words; ``more`` is the number of those without a line."""

    name: str
    title: str
    count: int
    words: str
    lines: tuple[HeldLine, ...]
    more: int


class HeldUser(msgspec.Struct, frozen=True):
    """A user on a host, and the number of messages about it."""

    name: str
    count: int


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """
    The summary of the messages that sshbell held back. Templates use it as ``held``; docs/configuration.md explains it.

    ``first`` and ``last`` are times; "" if no message has a time.
    """

    count: int
    max_per_hour: int
    summary: str
    first: str
    last: str
    groups: tuple[HeldGroup, ...]
    users: tuple[HeldUser, ...]
    more_users: int


class _Rank(IntEnum):
    """The order in which a digest chooses logins if there is no room for all of them."""

    ROOT = 0
    FIRST_OF_ACCOUNT = 1  # on its host, in this digest
    FIRST_OF_ADDRESS = 2
    OTHER = 3


class _Entry(msgspec.Struct):
    """A ``HeldLine`` while the digest still counts its events."""

    text: str
    time: str
    last: str
    count: int = 0
    rank: _Rank = _Rank.OTHER


class _Tally:
    """
    Events of one kind.

    Attributes:
        messages: the number of messages.
        count: the number of occurrences: one message may report several failed logins.
        entries: the first distinct events, in the order of arrival: up to ``DIGEST_LINES``, or more for logins.
    """

    def __init__(self) -> None:
        self.messages = 0
        self.count = 0
        self.entries: dict[tuple[str, ...], _Entry] = {}
        self._accounts: set[tuple[str, str]] = set()
        self._addresses: set[str] = set()

    def add(self, facts: Facts) -> None:
        """Count an event."""
        times = int(facts.count or 1)
        self.messages += 1
        self.count += times
        key = (facts.user, facts.host, facts.address, facts.duration, facts.claim, facts.claimed_by_uid, facts.message)
        entry = self.entries.get(key)
        if entry is None:
            rank = self._rank(facts)
            if len(self.entries) >= _room(facts, rank):
                return
            entry = self.entries[key] = _Entry(in_a_list(facts), facts.local, facts.local, rank=rank)
            self._accounts.add((facts.user, facts.host))
            self._addresses.add(facts.address)
        entry.count += times
        entry.last = facts.local

    def _rank(self, facts: Facts) -> _Rank:
        if facts.is_root:
            return _Rank.ROOT
        if (facts.user, facts.host) not in self._accounts:
            return _Rank.FIRST_OF_ACCOUNT
        return _Rank.OTHER if facts.address in self._addresses else _Rank.FIRST_OF_ADDRESS

    def shown(self, limit: int) -> list[_Entry]:
        """Return the ``limit`` entries with the lowest ranks, in the order of arrival."""
        numbered = sorted(enumerate(self.entries.values()), key=lambda one: one[1].rank)[:limit]
        return [entry for _number, entry in sorted(numbered, key=lambda one: one[0])]


def _room(facts: Facts, rank: _Rank) -> int:
    """Return the limit of entries for an event of this kind and rank."""
    if facts.action != EventAction.LOGIN:
        return DIGEST_LINES
    return 2 * _COUNTED_LOGINS if rank is _Rank.ROOT else _COUNTED_LOGINS


class Digest:
    """Counts events. Add them in the order of the queue."""

    def __init__(self) -> None:
        self._tallies: dict[str, _Tally] = {}
        self._users: Counter[tuple[str, str]] = Counter()
        self._first = self._last = ""

    def add(self, facts: Facts) -> None:
        """Count an event."""
        self._tallies.setdefault(facts.action if facts.action in _NOUNS else "", _Tally()).add(facts)
        self._count_user(facts.user, facts.host)
        if facts.local:
            self._first = min(self._first or facts.local, facts.local)
            self._last = max(self._last, facts.local)

    def add_unreadable(self) -> None:
        """Count a message that is not an event."""
        tally = self._tallies.setdefault(_UNREADABLE, _Tally())
        tally.messages += 1
        tally.count += 1
        self._count_user("", "")

    def _count_user(self, user: str, host: str) -> None:
        if (user, host) in self._users or len(self._users) < _COUNTED_USERS:
            self._users[user, host] += 1

    def held(self, max_per_hour: int) -> Held:
        """Return the summary."""
        groups = []
        room = DIGEST_LINES
        present = [(name, self._tallies[name]) for name in _NOUNS if name in self._tallies]
        for number, (name, tally) in enumerate(present):
            # Noise must not hide a login, and one kind of noise must not hide another.
            limit = LOGIN_LINES if name == EventAction.LOGIN else room // (len(present) - number)
            # For other kinds, the first entries are enough: you do not need to find root among them.
            entries = tally.shown(limit) if name == EventAction.LOGIN else list(tally.entries.values())[:limit]
            room = max(0, room - len(entries))
            groups.append(_group(name, tally, entries))
        count = sum(tally.messages for tally in self._tallies.values())
        users = tuple(HeldUser(_at_host(*pair), number) for pair, number in self._users.most_common(_DIGEST_USERS))
        return Held(
            count=count,
            max_per_hour=max_per_hour,
            summary=listed([group.words for group in groups]),
            first=self._first,
            last=self._last,
            groups=tuple(groups),
            users=users,
            more_users=count - sum(user.count for user in users),
        )


def _group(name: str, tally: _Tally, entries: list[_Entry]) -> HeldGroup:
    one, several = _NOUNS[name]
    return HeldGroup(
        name=name,
        title=several[0].upper() + several[1:],
        count=tally.count,
        words=f"{tally.count} {one if tally.count == 1 else several}",
        lines=tuple(HeldLine(entry.text, entry.time, entry.last, entry.count) for entry in entries),
        more=tally.count - sum(entry.count for entry in entries) if tally.entries else 0,
    )


def _at_host(user: str, host: str) -> str:
    return f"{named(user) or 'unknown user'}@{named(host) or 'unknown host'}"
