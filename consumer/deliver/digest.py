"""Summarizes the messages of a digest: the number of each kind, and the account, host and address of each message."""

from collections import Counter
from datetime import datetime
from enum import IntEnum, StrEnum
from typing import NamedTuple

import msgspec

from consumer.actions import EventAction
from consumer.deliver.event_kinds import KINDS, UNREADABLE
from consumer.deliver.facts import NOVELTY_NAMES, Facts
from consumer.deliver.language import ENGLISH, Language
from consumer.deliver.sentence_parts import named
from consumer.deliver.sentences import in_a_list

# The most lines, lines about logins, and pairs of user and host in a digest. For the rest, it shows only the total.
DIGEST_LINES, LOGIN_LINES, _DIGEST_USERS = 50, 200, 20
# The most pairs of user and host, and the most logins, that a digest counts separately. There is a limit because peers choose the
# names. Logins of root have the same room once more.
_COUNTED_USERS = _COUNTED_LOGINS = 10_000
# Of a time that is none, in characters.
_TIME_LIMIT = 19

# The accounts of a scheduled digest, and what it lists of each: addresses.
ACCOUNT_LINES, _ADDRESSES = 50, 5


class Cause(StrEnum):
    """Why a digest reports several messages together; its id begins with this word."""

    CAP = "held"
    FOLD = "fold"
    QUIET = "quiet"
    DAILY = "daily"
    WEEKLY = "weekly"

    @property
    def is_scheduled(self) -> bool:
        """Whether the route asks for a digest at this time."""
        return self in {Cause.DAILY, Cause.WEEKLY}


class HeldLine(msgspec.Struct, frozen=True):
    """
    Events that differ only in their time.

    ``time`` is that of the first event, ``last`` that of the last one. ``at`` and ``last_at`` are the same in short: without the
    zone, and without the day if all events of the digest are of one day.
    """

    text: str
    time: str
    last: str
    count: int
    at: str
    last_at: str


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


class HeldAccount(msgspec.Struct, frozen=True, kw_only=True):
    """
    What one person or account did on one host.

    ``name`` is the person, or else the account. ``logins`` and ``failed`` are numbers. ``addresses`` are those of the logins;
    ``more`` is the number of those not listed. ``new`` is what was new about the logins.
    """

    name: str
    host: str
    logins: int
    failed: int
    addresses: tuple[str, ...]
    more: int
    new: tuple[str, ...]


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """
    The summary of the messages that sshbell held back. Templates use it as ``held``; docs/configuration.md explains it.

    Attributes:
        cause: ``held``, ``fold``, ``quiet``, ``daily`` or ``weekly``.
        first, last: times; "" if no message has one.
        until: ``last`` in short; "" if it is the same as ``first``.
        time_width: the length of the longest ``at`` of a line.
        omitted: messages that are only counted.
        health: sentences about sshbell itself.
    """

    cause: str

    count: int
    max_per_hour: int
    summary: str
    first: str
    last: str
    until: str
    time_width: int
    groups: tuple[HeldGroup, ...]
    users: tuple[HeldUser, ...]
    more_users: int
    omitted: int
    user_count: int
    address_count: int
    accounts: tuple[HeldAccount, ...]
    more_accounts: int
    health: tuple[str, ...]


class _Rank(IntEnum):
    """The order in which a digest chooses logins if there is no room for all of them."""

    ROOT = 0
    FIRST_OF_ACCOUNT = 1  # on its host, in this digest
    FIRST_OF_ADDRESS = 2
    OTHER = 3


class _Time(NamedTuple):
    """A time of an event, and the same as a text."""

    moment: datetime | None
    text: str


class _Entry(msgspec.Struct):
    """A ``HeldLine`` while the digest still counts its events; ``first`` and ``last`` are times of it."""

    text: str
    first: _Time
    last: _Time
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
            entry = self.entries[key] = _Entry(in_a_list(facts), _time_of(facts), _time_of(facts), rank=rank)
            self._accounts.add((facts.user, facts.host))
            self._addresses.add(facts.address)
        entry.count += times
        entry.last = _time_of(facts)

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


class _Account:
    """What one person or account did on one host, while the digest still counts."""

    def __init__(self) -> None:
        self.logins = self.failed = 0
        self.addresses: dict[str, None] = {}
        self.new: dict[str, None] = {}


class Digest:
    """
    Counts events. Add them in the order of the queue.

    Args:
        cause: why there is a digest.
        omitted: messages that are only counted.
        health: sentences about sshbell itself.
        language: the reader's.
    """

    def __init__(
        self, cause: Cause = Cause.CAP, omitted: int = 0, health: tuple[str, ...] = (), language: Language = ENGLISH
    ) -> None:
        self._language = language
        self._cause = cause
        self._omitted = omitted
        self._health = health
        self._names: set[str] = set()
        self._addresses: set[str] = set()
        self._accounts: dict[tuple[str, str], _Account] = {}
        self._tallies: dict[str, _Tally] = {}
        self._users: Counter[tuple[str, str]] = Counter()
        self._first = self._last = _Time(None, "")

    def add(self, facts: Facts) -> None:
        """Count an event."""
        self._tallies.setdefault(facts.action if facts.action in KINDS else "", _Tally()).add(facts)
        self._count_user(facts.user, facts.host)
        self._count_account(facts)
        for name, names in ((facts.user, self._names), (facts.address, self._addresses)):
            if name and len(names) < _COUNTED_USERS:
                names.add(name)
        if (moment := facts.moment) is not None:
            if self._first.moment is None or moment < self._first.moment:
                self._first = _time_of(facts)
            if self._last.moment is None or moment > self._last.moment:
                self._last = _time_of(facts)

    def add_unreadable(self) -> None:
        """Count a message that is not an event."""
        tally = self._tallies.setdefault(UNREADABLE, _Tally())
        tally.messages += 1
        tally.count += 1
        self._count_user("", "")

    def _count_user(self, user: str, host: str) -> None:
        if (user, host) in self._users or len(self._users) < _COUNTED_USERS:
            self._users[user, host] += 1

    def _count_account(self, facts: Facts) -> None:
        key = (facts.person if facts.is_in else "") or named(facts.user, self._language), facts.host
        if key not in self._accounts and len(self._accounts) >= _COUNTED_USERS:
            return
        account = self._accounts.setdefault(key, _Account())
        if facts.action == EventAction.LOGIN:
            account.logins += 1
            if facts.address and len(account.addresses) < _COUNTED_USERS:
                account.addresses[facts.address] = None
            account.new |= dict.fromkeys(self._language.gettext(NOVELTY_NAMES[what]) for what in facts.new)
        elif facts.action == EventAction.ATTEMPT:
            account.failed += int(facts.count or 1)

    def _held_accounts(self) -> tuple[HeldAccount, ...]:
        """Return the accounts, those with logins first: nobody has to find them among guesses."""
        found = sorted(self._accounts.items(), key=lambda one: (not one[1].logins, -one[1].logins, -one[1].failed))
        return tuple(
            HeldAccount(
                name=name or self._language.gettext("unknown user"), host=self._host(host), logins=account.logins,
                failed=account.failed,
                addresses=tuple(named(each, self._language) for each in list(account.addresses)[:_ADDRESSES]),
                more=max(0, len(account.addresses) - _ADDRESSES), new=tuple(account.new),
            )
            for (name, host), account in found[:ACCOUNT_LINES]
            if account.logins or account.failed
        )  # fmt: skip

    def held(self, max_per_hour: int) -> Held:
        """Return the summary."""
        groups = []
        room = DIGEST_LINES
        present = [(name, self._tallies[name]) for name in KINDS if name in self._tallies]
        for number, (name, tally) in enumerate(present):
            # Noise must not hide a login, and one kind of noise must not hide another.
            limit = LOGIN_LINES if name == EventAction.LOGIN else room // (len(present) - number)
            # For other kinds, the first entries are enough: you do not need to find root among them.
            entries = tally.shown(limit) if name == EventAction.LOGIN else list(tally.entries.values())[:limit]
            room = max(0, room - len(entries))
            groups.append(self._group(name, tally, entries))
        shown = sum(tally.messages for tally in self._tallies.values())
        accounts = self._held_accounts()
        active = sum(1 for account in self._accounts.values() if account.logins or account.failed)
        words = [group.words for group in groups]
        if self._omitted:
            words.append(self._language.ngettext("%(num)s more", "%(num)s more", self._omitted))
        users = tuple(HeldUser(self._at_host(*pair), number) for pair, number in self._users.most_common(_DIGEST_USERS))
        return Held(
            cause=str(self._cause),
            count=shown + self._omitted,
            max_per_hour=max_per_hour,
            summary=self._language.listed(words),
            first=self._first.text,
            last=self._last.text,
            until=self._until(),
            time_width=max((len(line.at) for group in groups for line in group.lines), default=0),
            groups=tuple(groups),
            users=users,
            more_users=shown - sum(user.count for user in users),
            omitted=self._omitted,
            user_count=len(self._names),
            address_count=len(self._addresses),
            accounts=accounts,
            more_accounts=active - len(accounts),
            health=self._health,
        )

    def _group(self, name: str, tally: _Tally, entries: list[_Entry]) -> HeldGroup:
        _name, (one, several), title = KINDS[name]
        return HeldGroup(
            name=name,
            title=self._language.gettext(title),
            count=tally.count,
            words=self._language.ngettext(one, several, tally.count),
            lines=tuple(
                HeldLine(
                    entry.text, entry.first.text, entry.last.text, entry.count, self._short(entry.first), self._short(entry.last)
                )
                for entry in entries
            ),
            more=tally.count - sum(entry.count for entry in entries) if tally.entries else 0,
        )

    def _is_one_day(self) -> bool:
        first, last = self._first.moment, self._last.moment
        return first is not None and last is not None and first.date() == last.date()

    def _short(self, time: _Time) -> str:
        if time.moment is None:
            return time.text[:_TIME_LIMIT]
        return self._language.clock(time.moment) if self._is_one_day() else self._language.moment(time.moment)

    def _until(self) -> str:
        if self._last.moment is None or self._last.text == self._first.text:
            return ""
        return f"{self._language.clock(self._last.moment)} {self._last.moment:%Z}" if self._is_one_day() else self._last.text

    def _host(self, host: str) -> str:
        return named(host, self._language) or self._language.gettext("unknown host")

    def _at_host(self, user: str, host: str) -> str:
        return f"{named(user, self._language) or self._language.gettext('unknown user')}@{self._host(host)}"


def _time_of(facts: Facts) -> _Time:
    return _Time(facts.moment, facts.local)
