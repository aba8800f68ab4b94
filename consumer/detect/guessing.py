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

from collections.abc import Iterable, Iterator
from functools import lru_cache
from ipaddress import IPv6Address, IPv6Network
from typing import Final, NamedTuple

from consumer.actions import EventAction
from consumer.addresses import ip_of, ip_text
from consumer.config_values import seconds_of
from consumer.detect.bounded_table import BoundedTable
from consumer.detect.findings import finding_of
from consumer.detect_settings import GuessingSettings
from consumer.events import Attempt, Event, Finding
from consumer.guessing_rules import GuessingRule, Trigger, Whitelist, limits_of
from consumer.records import PROGRAM

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

# A value is a byte for state and marks, followed by tries in the order of their times, each of five bytes: twice the second since
# 1970, and 1 if the line is verified.
_CLEAR: Final = 0
_UNVERIFIED: Final = 1
_VERIFIED: Final = 2
_STATE: Final = 3
# Of all tries of the entry, even if it has dropped them.
_SOME_VERIFIED: Final = 4
_SOME_UNVERIFIED: Final = 8
_SIZE: Final = 5
# Repeated tries of one line to add one by one. Only limits make a difference beyond the largest count of a rule.
_REPEATS: Final = 10_000
# Strangers choose users' names. Longer ones are cut: no account has so long a name.
_NAME_BYTES: Final = 64
_V6: Final = b"\x06"


class _Wide(NamedTuple):
    """An IPv6 network: its state, and its parts that guess, each with its number, the time and its state."""

    state: int
    parts: tuple[tuple[int, int, int], ...]


class Guessing:
    """Finds guessing, by the rules of the table ``[detect.guessing]``."""

    def __init__(self, settings: GuessingSettings) -> None:
        limits = limits_of(settings.limits)
        hosts, users = GuessingRule(settings.host_rule), GuessingRule(settings.user_rule)
        self._hosts = _Side(hosts, int(seconds_of(settings.host_purge)), limits, GUESSER_LIMIT)
        self._users = _Side(users, int(seconds_of(settings.user_purge)), limits, TARGET_LIMIT)
        self._wider: BoundedTable[bytes, _Wide] = BoundedTable(bytes, _Wide, WIDER_LIMIT)
        self._tables: dict[str, BoundedTable[bytes, bytes] | BoundedTable[bytes, _Wide]] = {
            "hosts": self._hosts.table, "users": self._users.table, "wider": self._wider,
        }  # fmt: skip
        self._allows_host = lru_cache(4096)(Whitelist(settings.host_whitelist).has)
        self._allows_user = Whitelist(settings.user_whitelist).has

    def take(self, event: Event) -> Iterable[Finding]:
        """Record a try for its address and for its user; return the findings if it makes one of them guessing."""
        if not isinstance(event, Attempt):
            return ()
        found: list[Finding] = []
        now_s, is_verified = event.time_us // 1_000_000, event.origin == "verified"
        if now_s <= 0:
            return ()  # its line has no usable time, so it is in no period
        address, user = event.address, event.user
        if address and self._hosts.rule.counts and not self._allows_host(address):
            if ":" in address and (v6 := _network_of(address)) is not None:
                found += self._in_network(event, *v6, now_s, is_verified=is_verified)
            else:
                address = ip_text(address) or address
                triggers = self._hosts.triggers(address, event)
                worse = self._hosts.record(_key_of(address), now_s, event.count, triggers, is_verified=is_verified)
                if worse is not None:
                    found.append(_finding(event, "host", address, *worse))
        if user and self._users.rule.counts and not self._allows_user(user):
            triggers = self._users.triggers(user, event)
            worse = self._users.record(_key_of(user), now_s, event.count, triggers, is_verified=is_verified)
            if worse is not None:
                found.append(_finding(event, "user", user, *worse))
        return found

    def _in_network(
        self, event: Attempt, ip: IPv6Address, network: IPv6Network, now_s: int, *, is_verified: bool
    ) -> Iterator[Finding]:
        """Record a try from an IPv6 address for its network, and that one's guessing for the networks that contain it."""
        packed = network.network_address.packed
        key = _V6 + (packed[:8] if network.prefixlen == 64 else packed)
        triggers = self._hosts.triggers(str(ip), event)
        worse = self._hosts.record(key, now_s, event.count, triggers, is_verified=is_verified)
        if worse is None:
            return
        yield _finding(event, "host", str(network), *worse, network=str(network))
        state, trigger, since_s = worse
        for prefix, part in _WIDER if network.prefixlen == 64 else ():
            wide = packed[: prefix // 8]
            before, parts = self._wider.get(wide) or _Wide(_CLEAR, ())
            # A part that has not guessed for so long counts no more.
            known = {number: (at_s, as_) for number, at_s, as_ in parts if at_s >= now_s - self._hosts.rule.period_s}
            known[packed[part]] = (now_s, max(state, known.get(packed[part], (0, 0))[1]))
            after = max((as_ for as_ in (_UNVERIFIED, _VERIFIED) if _has_enough(known, as_)), default=_CLEAR)
            self._wider.put(wide, _Wide(after, tuple((number, at_s, as_) for number, (at_s, as_) in known.items())))
            if after > before:
                name = str(IPv6Network((wide.ljust(16, b"\0"), prefix)))
                tries = Trigger(trigger.count * len(known), trigger.period_s, trigger.text)
                yield _finding(event, "host", name, after, tries, since_s, network=name)

    def is_guessing(self, address: str, service: str, now_s: int) -> bool:
        """Return whether an address guesses at a time, as pam_abl would say before its next login. This records nothing."""
        if self._allows_host(address):
            return False
        v6 = _network_of(address) if ":" in address else None
        if v6 is None:
            address = ip_text(address) or address
            return self._hosts.fits(_key_of(address), now_s, self._hosts.rule.triggers(address, service))
        ip, network = v6
        key = _V6 + network.network_address.packed[: 8 if network.prefixlen == 64 else 16]
        return self._hosts.fits(key, now_s, self._hosts.rule.triggers(str(ip), service))

    def is_guessed(self, user: str, service: str, now_s: int) -> bool:
        """Return whether somebody guesses the password of a user at a time, likewise."""
        if self._allows_user(user):
            return False
        return self._users.fits(_key_of(user), now_s, self._users.rule.triggers(user, service))

    def changed(self) -> Iterator[tuple[str, bytes]]:
        """Yield the changed buckets of all tables: see ``Detector``."""
        for name, table in self._tables.items():
            yield from table.changed(f"{name}.")

    def kept(self) -> None:
        """Record that they are safe."""
        for table in self._tables.values():
            table.kept()

    def forget_snapshot(self) -> None:
        """Count all buckets as changed."""
        for table in self._tables.values():
            table.forget_snapshot()

    def restore(self, name: str, body: bytes) -> None:
        """Take over a bucket: see ``Detector``."""
        self._tables[name.partition(".")[0]].restore(body)


class _Side:
    """
    One side of guessing: the addresses that guess, or the users whose passwords are guessed.

    Args:
        rule: its rule.
        purge_s: for how many seconds tries are kept.
        limits: ``(LOW, HIGH)``: an entry that would have more than HIGH tries keeps the newest LOW; None for no limit.
        size: how many entries to remember.
    """

    def __init__(self, rule: GuessingRule, purge_s: int, limits: tuple[int, int] | None, size: int) -> None:
        self.rule = rule
        self.table: BoundedTable[bytes, bytes] = BoundedTable(bytes, bytes, size, TRIES_LIMIT_BYTES)
        # Tries that are older than every period count no more, so purging them changes nothing, unless a limit counts them.
        self._purge_s = purge_s if purge_s < rule.period_s or limits is not None else 0
        self._limits = limits
        # The newest tries decide, as many as the largest count. Only a limit makes older ones matter.
        self._most_bytes = max(rule.counts, limits[1] if limits is not None else 0) * _SIZE
        self._for_all = rule.triggers("", "") if rule.is_for_all else None

    def triggers(self, name: str, event: Attempt) -> tuple[Trigger, ...]:
        """Return the triggers that apply to a try."""
        if self._for_all is not None:
            return self._for_all
        return self.rule.triggers(name, "dropbear" if event.line[PROGRAM].startswith("dropbear") else "sshd")

    def record(
        self, key: bytes, now_s: int, count: int, triggers: tuple[Trigger, ...], *, is_verified: bool
    ) -> tuple[int, Trigger, int] | None:
        """Record tries; if the state becomes worse, return it, the trigger that fits, and the time of the first try it needs."""
        value = self.table.get(key) or b"\0"
        head, tries = value[0], value[1:]
        own = ((now_s << 1) | is_verified).to_bytes(_SIZE, "big")
        if count == 1 and self._limits is None and not self._purge_s:
            tries += own
            if own < tries[-2 * _SIZE : -_SIZE]:
                tries = self._late(tries, now_s)
            tries = tries[-self._most_bytes :]
        else:
            for _ in range(min(count, _REPEATS)):
                tries = self._added(tries, own, now_s)
        marks = head & ~_STATE | (_SOME_VERIFIED if is_verified else _SOME_UNVERIFIED)
        state, trigger, since_s = _state_of(tries, now_s, triggers, marks)
        self.table.put(key, bytes((marks | state,)) + tries)
        return (state, trigger, since_s) if trigger is not None and state > head & _STATE else None

    def _added(self, tries: bytes, own: bytes, now_s: int) -> bytes:
        """Purge and limit tries, as pam_abl does before each new one, and add that."""
        if self._purge_s:
            tries = _purged(tries, now_s - self._purge_s)
        if self._limits is not None:
            low, high = self._limits
            if len(tries) // _SIZE + 1 > high:
                tries = tries[len(tries) - max(0, low - 1) * _SIZE :]
        tries = tries + own if own >= tries[-_SIZE:] else self._late(tries + own, now_s)
        return tries[-self._most_bytes :]

    def _late(self, tries: bytes, now_s: int) -> bytes:
        """
        Sort tries, the last of which is older than others.

        If others are later by more than a period, one of two hosts has a wrong clock, or the clock was set back. Those would
        count for ever, or crowd out the others, so they are dropped.
        """
        each = sorted(tries[at : at + _SIZE] for at in range(0, len(tries), _SIZE))
        latest = ((now_s + self.rule.period_s) << 1 | 1).to_bytes(_SIZE, "big")
        return b"".join(one for one in each if one <= latest)

    def fits(self, key: bytes, now_s: int, triggers: tuple[Trigger, ...]) -> bool:
        """Return whether the tries of a key fit a trigger at a time."""
        value = self.table.get(key)
        return value is not None and _state_of(value[1:], now_s, triggers, value[0])[0] != _CLEAR


def _finding(event: Attempt, side: str, key: str, state: int, trigger: Trigger, since_s: int, network: str = "") -> Finding:
    labels = {"by": side} | ({"network": network} if network else {})
    origin = "verified" if state == _VERIFIED else "unverified"
    return finding_of(
        event, EventAction.GUESSING, f"{side} {key}", rule=trigger.text, origin=origin, count=trigger.count,
        since_us=since_s * 1_000_000, labels=labels,
    )  # fmt: skip


def _key_of(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")[:_NAME_BYTES]


@lru_cache(4096)
def _network_of(address: str) -> tuple[IPv6Address, IPv6Network] | None:
    """Return an IPv6 address, and the network that counts as one client; None for an IPv4 address or a name."""
    ip = ip_of(address)
    if not isinstance(ip, IPv6Address):
        return None
    # All hosts of a network have link-local addresses of the same /64.
    return ip, IPv6Network((ip, 128 if ip.is_link_local or ip.is_loopback else 64), strict=False)


def _has_enough(parts: dict[int, tuple[int, int]], state: int) -> bool:
    return sum(as_ >= state for _at_s, as_ in parts.values()) >= WIDEN_AT


def _purged(tries: bytes, before_s: int) -> bytes:
    at = 0
    while at < len(tries) and int.from_bytes(tries[at : at + _SIZE], "big") >> 1 < before_s:
        at += _SIZE
    return tries[at:]


def _state_of(tries: bytes, now_s: int, triggers: tuple[Trigger, ...], marks: int) -> tuple[int, Trigger | None, int]:
    """Return the state that tries have at a time, the trigger that fits, and the time of the first try that it needs."""
    size = len(tries)
    for trigger in triggers:
        at = size - trigger.count * _SIZE
        if at < 0:
            continue
        since_s = int.from_bytes(tries[at : at + _SIZE], "big") >> 1
        if since_s < now_s - trigger.period_s:
            continue
        if not marks & _SOME_VERIFIED:
            return _UNVERIFIED, trigger, since_s
        if not marks & _SOME_UNVERIFIED:
            return _VERIFIED, trigger, since_s
        numbers = (int.from_bytes(tries[at : at + _SIZE], "big") for at in range(0, size, _SIZE))
        verified = [number >> 1 for number in numbers if number & 1]
        for other in triggers:
            if len(verified) >= other.count and verified[-other.count] >= now_s - other.period_s:
                return _VERIFIED, other, verified[-other.count]
        return _UNVERIFIED, trigger, since_s
    return _CLEAR, None, 0
