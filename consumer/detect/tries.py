"""
The memory of failed logins that several detectors share.

Most events are failed logins, and most of those come from an address that has failed before. So each try changes one entry, that
of its address. It also changes that of the account if the account exists, and that of the prefix if the address tries another
account.

The detectors that follow it look at ``source``, ``account`` and ``prefix`` right after a try that changes more than a count.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import ClassVar

from consumer.detect.bounded_table import BoundedTable, BoundedTables
from consumer.detect.entries import OfAccount, OfAddress, OfPrefix
from consumer.detect.findings import Kinds
from consumer.detect.networks import prefix_of
from consumer.events import Attempt, Finding
from consumer.records import HOST, TIME, TRUSTED

# Addresses, prefixes and accounts in memory. Prefix and account show an attacker who comes from more addresses. An entry of an
# address has some 500 bytes, the others at most 20 kB each.
TRIES_ADDRESS_LIMIT = 20_000
TRIES_PREFIX_LIMIT = 3_000
TRIES_ACCOUNT_LIMIT = 2_000
# Ids of events and names of hosts that an entry remembers, as examples for a finding.
_IDS_LIMIT, _HOSTS_LIMIT = 10, 5
_MINUTE_US = 60 * 1_000_000
DAY_US = 24 * 60 * _MINUTE_US


class Tries:
    """
    Remembers failed logins. Its findings are those of the detectors that follow it.

    Args:
        pause_us: failed logins with a longer pause between them do not count together for a later login.
        users_limit: the number of accounts that an address keeps.
        prefix_limit: the number of accounts and addresses that a prefix keeps.
        addresses_limit: the number of addresses that an account keeps.
        fresh_us: how old the time of an account in an entry may be before a further try renews it.

    Attributes:
        source: the entry of the last try.
        account, prefix: likewise, if it is the first try at that account from that address; otherwise None.
    """

    takes: ClassVar[Kinds] = (Attempt,)

    def __init__(self, *, pause_us: int, users_limit: int, prefix_limit: int, addresses_limit: int, fresh_us: int) -> None:
        self._pause_us = pause_us
        self._users_limit = users_limit
        self._prefix_limit = prefix_limit
        self._addresses_limit = addresses_limit
        self._fresh_us = fresh_us
        self.sources = BoundedTable(str, OfAddress, TRIES_ADDRESS_LIMIT)
        self.prefixes = BoundedTable(str, OfPrefix, TRIES_PREFIX_LIMIT)
        self.accounts = BoundedTable(str, OfAccount, TRIES_ACCOUNT_LIMIT)
        self._tables = BoundedTables(address=self.sources, prefix=self.prefixes, account=self.accounts)
        # The detectors that look at each try that changes more than a count.
        self.followers: list[Callable[[Attempt], Iterable[Finding]]] = []
        self.source = OfAddress(0, 0)
        self.account: OfAccount | None = None
        self.prefix: OfPrefix | None = None
        self._forget_last()

    def _forget_last(self) -> None:
        """Look up the entries of the next try, because a table has changed or is about to be written."""
        self._last: tuple[str | None, str | None] = (None, None)
        self._last_account: OfAccount | None = None

    def take(self, event: Attempt) -> Iterable[Finding]:
        """Count a failed login; return what the detectors find that share this memory."""
        line = event.line
        time_us, address, user = line[TIME], event.address, event.user or ""
        if time_us is None or address is None or address == "UNKNOWN":
            return ()
        trusted = line[TRUSTED]
        is_verified = trusted is not None and trusted[0] == 0
        # Guessers try several passwords one after the other, so the entries of the last try are often those of this one.
        source = self.source
        is_again = (address, user) == self._last and 0 <= time_us - source.last_us <= self._pause_us
        if is_again:
            source.last_us = time_us
        else:
            self.source = source = self._source(address, time_us)
        source.count += event.count
        is_news = False
        if time_us - source.calm_us >= _MINUTE_US:
            source.calm_us = time_us
            source.calm_count += 1
            is_news = True
        if not is_verified:
            source.is_verified = False
        host = line[HOST]
        _note(source, event.id, host)
        self.account = self.prefix = None
        if event.user_is_valid:
            account = self._last_account
            if not is_again or account is None:
                self._last_account = account = self._account(user, time_us)
            if _is_first(account, event, address, time_us, self._addresses_limit, is_verified=is_verified):
                self.account = account
                is_news = True
            _note(account, event.id, host)
        else:
            self._last_account = None
        self._last = (address, user)
        users = source.users
        counted_us = users.get(user)
        if counted_us is None or time_us - counted_us >= self._fresh_us:
            _renew(users, user, time_us, self._users_limit)
            self._take_prefix(event, user, address, time_us, is_verified=is_verified)
            is_news = True
        if not is_news:
            return ()
        return [finding for follow in self.followers for finding in follow(event)]

    def login(self, user: str, address: str) -> tuple[OfAddress | None, OfAccount | None]:
        """Return the entries of the address and the account of a login."""
        self._forget_last()
        return self.sources.get(address), self.accounts.get(user)

    def _source(self, address: str, time_us: int) -> OfAddress:
        """Return the entry of an address, with the time of a further try."""
        source = self.sources.renewed(address)
        if source is not None:
            pause_us = time_us - source.last_us
            if 0 <= pause_us <= self._pause_us:
                source.last_us = time_us
                return source
            if -DAY_US < pause_us < DAY_US:
                if pause_us > 0:
                    source.last_us, source.count, source.count_since_us = time_us, 0, time_us
                return source
        source = OfAddress(time_us, time_us, 0, time_us)
        self.sources.put(address, source)
        return source

    def _account(self, user: str, time_us: int) -> OfAccount:
        """Return the entry of an account, which begins anew after a pause."""
        account = self.accounts.renewed(user)
        if account is None or abs(time_us - account.last_us) > self._pause_us:
            account = OfAccount(time_us, time_us, told_us={} if account is None else account.told_us)
            self.accounts.put(user, account)
        return account

    def _take_prefix(self, event: Attempt, user: str, address: str, time_us: int, *, is_verified: bool) -> None:
        name = prefix_of(address)
        prefix = self.prefixes.renewed(name)
        if prefix is None:
            prefix = OfPrefix()
            self.prefixes.put(name, prefix)
        if not is_verified:
            prefix.is_verified = False
        _renew(prefix.users, user, time_us, self._prefix_limit)
        _renew(prefix.addresses, address, time_us, self._prefix_limit)
        _note(prefix, event.id, event.line[HOST])
        self.prefix = prefix

    def changed(self) -> Iterator[tuple[str, bytes]]:
        """Yield the buckets that have changed."""
        yield from self._tables.changed()

    def kept(self) -> None:
        """Record that the buckets are safe."""
        self._forget_last()
        self._tables.kept()

    def forget_snapshot(self) -> None:
        """Count all buckets as changed."""
        self._tables.forget_snapshot()

    def restore(self, name: str, body: bytes) -> None:
        """Take over a bucket; KeyError and MsgspecError as in ``Detector``."""
        self._forget_last()
        self._tables.restore(name, body)


def _is_first(account: OfAccount, event: Attempt, address: str, time_us: int, limit: int, *, is_verified: bool) -> bool:
    """Count a try at an account; return whether it is the first from this address."""
    account.last_us = max(account.last_us, time_us)
    account.count += event.count
    if not is_verified:
        account.is_verified = False
    addresses = account.addresses
    before = addresses.get(address)
    if before is not None:
        # It keeps its place among the addresses, and so the oldest to be dropped is the first that came.
        addresses[address] = (time_us, event.count + before[1])
        return False
    addresses[address] = (time_us, event.count)
    if len(addresses) > limit:
        del addresses[next(iter(addresses))]
    return True


def _renew(times: dict[str, int], name: str, time_us: int, limit: int) -> None:
    """Set the time of a name, as the newest; drop the oldest beyond the limit."""
    times.pop(name, None)
    times[name] = time_us
    if len(times) > limit:
        del times[next(iter(times))]


def _note(entry: OfAddress | OfAccount | OfPrefix, event_id: str, host: str) -> None:
    """Remember an event, and its host."""
    if event_id:
        event_ids = entry.event_ids
        event_ids.append(event_id)
        if len(event_ids) > _IDS_LIMIT:
            del event_ids[0]
    hosts = entry.hosts
    if host not in hosts and len(hosts) < _HOSTS_LIMIT:
        hosts.append(host)


def may_report(told_us: dict[str, int], detector: str, time_us: int) -> bool:
    """Return whether a detector may report an entry: once a day, however long an attack lasts. Record that it does."""
    last_us = told_us.get(detector)
    if last_us is not None and -DAY_US < time_us - last_us < DAY_US:
        return False
    told_us[detector] = time_us
    return True


def drop_older(times: dict[str, int], before_us: int) -> None:
    """Drop the names whose times are over. They stand in the order in which they came, which is nearly that of their times."""
    for name in [name for name, time_us in times.items() if time_us <= before_us]:
        del times[name]


def origin_of(*, is_verified: bool) -> str:
    """Return the origin of a finding that rests on an entry."""
    return "verified" if is_verified else "unverified"
