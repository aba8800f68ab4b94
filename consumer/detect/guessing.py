"""
Guessing: too many failed tries from one address, or at one account, by the rules of pam_abl.

Each address and each account has the times of its newest tries, and a state, as in pam_abl's database: clear or guessing. sshbell
records a try, and then tests the rule. A finding comes when the state changes to guessing, and none while it stays so. A success
records nothing, and forgives nothing.

Tries at different services or hosts count together. An IPv6 client has at least a /64, so all addresses of a /64 count as one. If
``WIDEN_AT`` /64s of a /56 guess, the /56 does; and if ``WIDEN_AT`` /56s of a /48 have such a /64, the /48 does.

A local user can forge lines that no kernel vouches for. So there are two states of guessing: by all tries, and by verified tries
alone. The second is worse, so it is a finding even if the first was one already. A finding is ``verified`` only if the verified
tries alone fit the rule.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from ipaddress import IPv6Address, IPv6Network
from typing import ClassVar, Final, NamedTuple
from zlib import crc32

from consumer.actions import EventAction
from consumer.addresses import ip_of, ip_text
from consumer.detect.bounded_table import BoundedTable, BoundedTables
from consumer.detect.entries import Wide
from consumer.detect.findings import Kinds, finding_of
from consumer.detect_settings import GuessingSettings
from consumer.events import Attempt, Finding
from consumer.guessing_rules import GuessingRule, Trigger, Whitelist, limits_of
from consumer.records import PROGRAM, TIME, TRUSTED
from consumer.spans import seconds_of

# Addresses and networks to remember, and users, with the newest tries of each.
GUESSER_LIMIT, TARGET_LIMIT = 1_000_000, 100_000
# Of the tries of each side together. A million addresses with one try each take 6 MB.
TRIES_LIMIT_BYTES = 48 << 20
# IPv6 networks that contain guessing ones.
WIDER_LIMIT = 10_000
# As many parts of an IPv6 network have to guess before the whole network does.
WIDEN_AT = 4
# Of those networks, with the byte of an address that numbers their parts.
_WIDER: Final = ((56, 7), (48, 6))

# Entries in use, as objects. More of them go back to the table, as bytes, all at once: that takes some milliseconds.
_IN_USE: Final = 4096
# A value of the table is a byte for state and marks, four bytes for the user, and tries in the order of their times. Each try has
# five bytes: twice the second since 1970, and 1 if the line is verified.
_CLEAR: Final = 0
_UNVERIFIED: Final = 1
_VERIFIED: Final = 2
_STATE: Final = 3
# Of all tries of the entry, even if it has dropped them.
_SOME_VERIFIED: Final = 4
_SOME_UNVERIFIED: Final = 8
_SETTLED: Final = (_VERIFIED | _SOME_VERIFIED, _UNVERIFIED | _SOME_UNVERIFIED)
_SIZE: Final = 5
# Before the tries, a checksum of the only user whose password somebody at an address guesses; all bits for several users.
_USER_SIZE: Final = 4
_SEVERAL: Final = 0xFFFF_FFFF
# Repeated tries of one line to add one by one. Only limits make a difference beyond the largest count of a rule.
_REPEATS: Final = 10_000
# Strangers choose users' names. Longer ones are cut: no account has so long a name.
_NAME_BYTES: Final = 64
_V6: Final = b"\x06"
_CLIENT_PREFIX: Final = 64
# Of NAT64 (RFC 6052, RFC 8215): the last bits are an IPv4 address, so all of IPv4 is behind one /64.
_TRANSLATED: Final = (IPv6Network("64:ff9b::/96"), IPv6Network("64:ff9b:1::/48"))
_SECOND_US: Final = 1_000_000


class _Worse(NamedTuple):
    """A state that has become worse: the trigger that fits, the time of the first try that it needs, and at whom they were."""

    state: int
    trigger: Trigger
    since_s: int
    has_several_users: bool


class Guessing:
    """Finds guessing, by the rules of the table ``[detect.guessing]``."""

    takes: ClassVar[Kinds] = (Attempt,)

    def __init__(self, settings: GuessingSettings) -> None:
        limits = limits_of(settings.limits)
        hosts, users = GuessingRule(settings.host_rule), GuessingRule(settings.user_rule)
        self._counts_users = users.counts > 0
        host_list, user_list = Whitelist(settings.host_whitelist), Whitelist(settings.user_whitelist)
        self._hosts = _Side(hosts, int(seconds_of(settings.host_purge)), limits, GUESSER_LIMIT, host_list, _key_of_host)
        self._users = _Side(users, int(seconds_of(settings.user_purge)), limits, TARGET_LIMIT, user_list, _key_of_user)
        self._wider: BoundedTable[bytes, Wide] = BoundedTable(bytes, Wide, WIDER_LIMIT)
        self._tables = BoundedTables(hosts=self._hosts.table, users=self._users.table, wider=self._wider)

    def take(self, event: Attempt) -> Sequence[Finding]:
        """Record a try for its address and for its user; return the findings if it makes one of them guessing."""
        line = event.line
        time_us, trusted = line[TIME], line[TRUSTED]
        if time_us is None or time_us < _SECOND_US:
            return ()  # its line has no usable time, so it is in no period
        own = time_us // _SECOND_US << 1
        if trusted is not None and trusted[0] == 0:
            own |= 1
        address, user = event.address, event.user
        worse = self._hosts.record(address, own, event) if address else None
        worse_user = self._users.record(user, own, event) if user and self._counts_users else None
        if worse is None and worse_user is None:
            return ()
        found: list[Finding] = []
        if address and worse is not None:
            network = _network_of(address) if ":" in address else None
            found.append(_finding(event, "host", worse, network="" if network is None else str(network)))
            if network is not None and network.prefixlen == _CLIENT_PREFIX:
                found += self._widened(event, network, worse)
        if user and worse_user is not None:
            found.append(_finding(event, "user", worse_user))
        return found

    def _widened(self, event: Attempt, network: IPv6Network, worse: _Worse) -> Iterator[Finding]:
        """Record the guessing of an IPv6 network for the networks that contain it."""
        packed, now_s = network.network_address.packed, event.time_us // _SECOND_US
        state, trigger = worse.state, worse.trigger
        for prefix, part in _WIDER:
            wide = packed[: prefix // 8]
            before, parts = self._wider.get(wide) or Wide(_CLEAR, ())
            # A part that has not guessed for so long counts no more.
            # Forged lines have any time, so they make verified parts neither older nor newer.
            since_s = now_s - self._hosts.rule.period_s
            known = {number: (at_s, as_) for number, at_s, as_ in parts if at_s >= since_s or as_ > state}
            if known.get(packed[part], (0, 0))[1] <= state:
                known[packed[part]] = (now_s, state)
            after = max((as_ for as_ in (_UNVERIFIED, _VERIFIED) if _has_enough(known, as_)), default=_CLEAR)
            self._wider.put(wide, Wide(after, tuple((number, at_s, as_) for number, (at_s, as_) in known.items())))
            if after > before:
                tries = Trigger(trigger.count * len(known), trigger.period_s, trigger.text)
                name = str(IPv6Network((wide.ljust(16, b"\0"), prefix)))
                yield _finding(event, "host", _Worse(after, tries, worse.since_s, has_several_users=True), network=name)

    def is_guessing(self, address: str, service: str, now_s: int, *, is_verified: bool = False) -> bool:
        """
        Return whether an address guesses at a time, as pam_abl would judge it before its next login.

        Args:
            address: as logged.
            service: ``sshd`` or ``dropbear``.
            now_s: the time; seconds since 1970 UTC.
            is_verified: only verified tries count.
        """
        return self._hosts.state_of(address, service, now_s) > is_verified

    def is_guessed(self, user: str, service: str, now_s: int, *, is_verified: bool = False) -> bool:
        """Return whether somebody guesses the password of a user at a time, likewise."""
        return self._users.state_of(user, service, now_s) > is_verified

    def changed(self) -> Iterator[tuple[str, bytes]]:
        """Yield the changed buckets of all tables: see ``Detector``."""
        self._hosts.write_back()
        self._users.write_back()
        yield from self._tables.changed()

    def kept(self) -> None:
        """Record that they are safe."""
        self._tables.kept()

    def forget_snapshot(self) -> None:
        """Count all buckets as changed."""
        self._tables.forget_snapshot()

    def restore(self, name: str, body: bytes) -> None:
        """Take over a bucket: see ``Detector``."""
        self._tables.restore(name, body)


class _Entry:
    """
    An address, a network or a user, while it is in use.

    Attributes:
        key: in the table.
        state: and marks, as in the table.
        tries: in the order of their times: twice the second since 1970, and 1 if the line is verified.
        user: of the last try, if all were at one user.
        checksum: of that user; ``_SEVERAL`` for several users.
        is_changed: it differs from the table.
    """

    __slots__ = ("checksum", "is_changed", "key", "state", "tries", "user")

    def __init__(self, key: bytes, value: bytes | None) -> None:
        self.key = key
        self.state = value[0] if value else _CLEAR
        self.tries = _tries_of(value)
        self.user: str | None = None
        self.checksum = int.from_bytes(value[1 : 1 + _USER_SIZE], "big") if value else -1
        self.is_changed = False

    def note(self, user: str) -> None:
        """Note the user of a try, which differs from that of the last one."""
        checksum = crc32(user.encode("utf-8", "surrogateescape")) & 0x7FFF_FFFF
        self.user = user
        self.checksum = checksum if self.checksum in {-1, checksum} else _SEVERAL


class _Side:
    """
    One side of guessing: the addresses that guess, or the users whose passwords are guessed.

    Args:
        rule: its rule.
        purge_s: for how many seconds tries are kept.
        limits: ``(LOW, HIGH)``: an entry that would have more than HIGH tries keeps the newest LOW; None for no limit.
        size: how many entries to remember.
        whitelist: names whose tries do not count.
        key_of: returns the key of a name.
    """

    def __init__(
        self,
        rule: GuessingRule,
        purge_s: int,
        limits: tuple[int, int] | None,
        size: int,
        whitelist: Whitelist,
        key_of: Callable[[str], bytes],
    ) -> None:
        self.rule = rule
        self.table: BoundedTable[bytes, bytes] = BoundedTable(bytes, bytes, size, TRIES_LIMIT_BYTES)
        # Tries that are older than every period count no more, so purging them changes nothing, unless a limit counts them.
        self._purge = 2 * purge_s if purge_s < rule.period_s or limits is not None else 0
        self._limits = limits
        # The newest tries decide, as many as the largest count. Only a limit makes older ones matter.
        self._most = max(rule.counts, limits[1] if limits is not None else 0)
        self._whitelist = whitelist
        self._key_of = key_of
        # By name, with its triggers, and by key: several addresses are one IPv6 network. None: the tries of a name do not count.
        self._by_name: dict[str, tuple[_Entry | None, tuple[Trigger, ...]]] = {}
        self._by_key: dict[bytes, _Entry] = {}
        self._is_off = not rule.counts

    def record(self, name: str, own: int, event: Attempt) -> _Worse | None:  # noqa: C901, PLR0912 - runs for every try, so it avoids calls
        """
        Record tries.

        Args:
            name: whose.
            own: the time of the tries, as in ``_Entry``.
            event: has the number of the tries, and their service.

        Returns:
            If the state has become worse: the state, the trigger that fits, and the time of the first try that it needs.
        """
        if self._is_off:
            return None
        try:
            entry, triggers = self._by_name[name]
        except KeyError:
            entry, triggers = self._used(name)
        if entry is None:
            return None
        if self.rule.has_services:
            triggers = self.rule.triggers(name, "dropbear" if event.line[PROGRAM].startswith("dropbear") else "sshd")
        tries = entry.tries
        if not self._purge and (not tries or own >= tries[-1]):
            if event.count == 1:
                tries.append(own)
            else:
                tries.extend([own] * min(event.count, self._most))
            if len(tries) > self._most:
                if not entry.state & (_SOME_UNVERIFIED if own & 1 else _SOME_VERIFIED):
                    del tries[: len(tries) - self._most]  # all are of one kind
                else:
                    _shorten(tries, self._most)
        else:
            for _ in range(min(event.count, _REPEATS)):
                self._add(tries, own)
        entry.is_changed = True
        if entry.checksum != _SEVERAL and event.user is not None and event.user != entry.user:
            entry.note(event.user)
        marks = entry.state & ~_STATE | (_SOME_VERIFIED if own & 1 else _SOME_UNVERIFIED)
        size, since = len(tries), own & ~1
        for trigger in triggers:
            if size >= trigger.count and tries[-trigger.count] >= since - 2 * trigger.period_s:
                break
        else:
            entry.state = marks  # the address is clear
            return None
        if entry.state in _SETTLED and entry.state & ~_STATE == marks:
            return None  # it goes on, and all of its tries are of one kind
        state, fitting, since_s = _state_of(tries, own >> 1, triggers, marks)
        before, entry.state = entry.state & _STATE, marks | state
        return _Worse(state, fitting, since_s, entry.checksum == _SEVERAL) if state > before and fitting is not None else None

    def _used(self, name: str) -> tuple[_Entry | None, tuple[Trigger, ...]]:
        """Return the entry of a name that has not been in use, None if its tries do not count; and its triggers."""
        if len(self._by_name) >= _IN_USE:
            self.write_back(is_oldest_first=True)
            self._by_name.clear()
            self._by_key.clear()
        entry, triggers = None, self.rule.triggers(name, "")
        if (triggers or self.rule.has_services) and not self._whitelist.has(name):
            key = self._key_of(name)
            entry = self._by_key.get(key)
            if entry is None:
                entry = self._by_key[key] = _Entry(key, self.table.get(key))
        self._by_name[name] = entry, triggers
        return entry, triggers

    def write_back(self, *, is_oldest_first: bool = False) -> None:
        """Write the changed entries to the table: as the newest ones, or in their places."""
        for key, entry in self._by_key.items():
            if entry.is_changed:
                entry.is_changed = False
                head = bytes((entry.state,)) + (entry.checksum & _SEVERAL).to_bytes(_USER_SIZE, "big")
                value = head + b"".join([each.to_bytes(_SIZE, "big") for each in entry.tries])
                self.table.put(key, value, is_newest=is_oldest_first)

    def _add(self, tries: list[int], own: int) -> None:
        """
        Purge and limit tries, as pam_abl does before each new one, and add that.

        Anybody may have written a try that is not verified. So it drops no verified ones.
        """
        is_forgeable = not own & 1
        if self._purge:
            since = (own | 1) - self._purge - 1
            tries[:] = [each for each in tries if each >= since or (is_forgeable and each & 1)]
        if self._limits is not None:
            low, high = self._limits
            same = [each for each in tries if (each ^ own) & 1 == 0]
            if len(same) + 1 > high:
                others = [each for each in tries if (each ^ own) & 1]
                tries[:] = sorted(others + same[len(same) - max(0, low - 1) :])
        is_late = bool(tries) and own < tries[-1]
        tries.append(own)
        if is_late:
            # If others are later by more than a period, one of two hosts has a wrong clock, or somebody has set the clock back.
            # Those would count for ever, or crowd out the others, so they are dropped.
            latest = (own | 1) + 2 * self.rule.period_s
            tries[:] = sorted(each for each in tries if each <= latest or (is_forgeable and each & 1))
        _shorten(tries, self._most)

    def state_of(self, name: str, service: str, now_s: int) -> int:
        """Return the state of the tries of a name at a time."""
        if self._is_off or self._whitelist.has(name):
            return _CLEAR
        key = self._key_of(name)
        entry = self._by_key.get(key) or _Entry(key, self.table.get(key))
        return _state_of(entry.tries, now_s, self.rule.triggers(name, service), entry.state)[0]


def _shorten(tries: list[int], most: int) -> None:
    """Keep the newest tries, and as many of the verified ones: so forged tries do not push out the others."""
    at = len(tries) - most
    if at > 0:
        missing = most - sum(each & 1 for each in tries[at:])
        tries[:at] = [each for each in tries[:at] if each & 1][-missing:] if missing else []


def _tries_of(value: bytes | None) -> list[int]:
    """Return the tries of a value of the table."""
    return [int.from_bytes(value[at : at + _SIZE], "big") for at in range(1 + _USER_SIZE, len(value), _SIZE)] if value else []


def _state_of(tries: list[int], now_s: int, triggers: Sequence[Trigger], marks: int) -> tuple[int, Trigger | None, int]:
    """Return the state that tries have at a time, the trigger that fits, and the time of the first try that it needs."""
    for trigger in triggers:
        if len(tries) < trigger.count or (since_s := tries[-trigger.count] >> 1) < now_s - trigger.period_s:
            continue
        if not marks & _SOME_VERIFIED:
            return _UNVERIFIED, trigger, since_s
        if not marks & _SOME_UNVERIFIED:
            return _VERIFIED, trigger, since_s
        verified = [each >> 1 for each in tries if each & 1]
        for other in triggers:
            if len(verified) >= other.count and verified[-other.count] >= now_s - other.period_s:
                return _VERIFIED, other, verified[-other.count]
        return _UNVERIFIED, trigger, since_s
    return _CLEAR, None, 0


def _finding(event: Attempt, side: str, worse: _Worse, *, network: str = "") -> Finding:
    origin = "verified" if worse.state == _VERIFIED else "unverified"
    labels = {"by": side, "users": "several" if worse.has_several_users else "one"} | ({"network": network} if network else {})
    return finding_of(
        event, EventAction.GUESSING, f"{side} {network}", rule=worse.trigger.text, origin=origin,
        count=worse.trigger.count, since_us=worse.since_s * _SECOND_US, labels=labels,
    )  # fmt: skip


def _key_of_user(user: str) -> bytes:
    return user.encode("utf-8", "surrogateescape")[:_NAME_BYTES]


def _key_of_host(address: str) -> bytes:
    network = _network_of(address) if ":" in address else None
    if network is None:
        return _alone(address).encode("utf-8", "surrogateescape")[:_NAME_BYTES]
    packed = network.network_address.packed
    return _V6 + (packed[: _CLIENT_PREFIX // 8] if network.prefixlen == _CLIENT_PREFIX else packed)


def client_of(address: str) -> str:
    """Return the address, or the IPv6 network, that counts as one client; a name as it is."""
    network = _network_of(address) if ":" in address else None
    return _alone(address) if network is None or network.prefixlen != _CLIENT_PREFIX else str(network)


def _alone(address: str) -> str:
    """Return the text of an address that is one client; a name as it is."""
    # An IPv4 address has one way to write it, and to parse one takes as long as all else that detectors do with a try.
    return ip_text(address) or address if ":" in address or "%" in address else address


@lru_cache(4096)
def _network_of(address: str) -> IPv6Network | None:
    """Return the network of an IPv6 address that counts as one client; None for an IPv4 address or a name."""
    ip = ip_of(address)
    if not isinstance(ip, IPv6Address):
        return None
    # All hosts of a network have link-local addresses of the same /64.
    is_alone = ip.is_link_local or ip.is_loopback or any(ip in network for network in _TRANSLATED)
    return IPv6Network((ip, 128 if is_alone else _CLIENT_PREFIX), strict=False)


def _has_enough(parts: dict[int, tuple[int, int]], state: int) -> bool:
    return sum(as_ >= state for _at_s, as_ in parts.values()) >= WIDEN_AT
