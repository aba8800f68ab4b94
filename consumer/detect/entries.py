"""
The entries of the tables of detectors, as a snapshot stores them.

They have a module of their own, because mypyc compiles the detectors. It cannot compile structs of msgspec, and it shortens the
types in a NamedTuple: msgspec would read a list where a tuple stood.
"""

from typing import NamedTuple

import msgspec

from consumer.detect.clock_skew import ClockState
from consumer.detect.host_changed_wording import WordingState
from consumer.detect.host_silent import RhythmState
from consumer.detect_settings import Respect


class OfAddress(msgspec.Struct, array_like=True):
    """
    The failed logins from one address.

    Attributes:
        since_us: the first one without a pause of a day after it.
        last_us: the last one.
        count: how many since the last pause that is longer than the configured one.
        count_since_us: the first of those.
        calm_count: how many since ``since_us``, of which each is at least a minute later than the one before.
        calm_us: the last of those.
        is_verified: the kernel vouches for all of them.
        users: the accounts tried last, with the time at which each came, at most as many as the rules need.
        event_ids, hosts: examples, the newest last.
        told_us: when each detector last reported this entry.
    """

    since_us: int
    last_us: int
    count: int = 0
    count_since_us: int = 0
    calm_count: int = 0
    calm_us: int = 0
    is_verified: bool = True
    users: dict[str, int] = msgspec.field(default_factory=dict)
    event_ids: list[str] = msgspec.field(default_factory=list)
    hosts: list[str] = msgspec.field(default_factory=list)
    told_us: dict[str, int] = msgspec.field(default_factory=dict)


class OfAccount(msgspec.Struct, array_like=True):
    """
    The failed logins at one account, on any host.

    Attributes:
        since_us, last_us, count: without a pause that is longer than the configured one.
        is_verified, event_ids, hosts, told_us: see ``OfAddress``.
        addresses: the last ones, with the time of the last try and the number of tries of each.
    """

    since_us: int
    last_us: int
    count: int = 0
    is_verified: bool = True
    addresses: dict[str, tuple[int, int]] = msgspec.field(default_factory=dict)
    event_ids: list[str] = msgspec.field(default_factory=list)
    hosts: list[str] = msgspec.field(default_factory=list)
    told_us: dict[str, int] = msgspec.field(default_factory=dict)


class OfPrefix(msgspec.Struct, array_like=True):
    """
    The failed logins from one prefix.

    Attributes:
        users, addresses: the last ones, with the time at which each came.
        is_verified, event_ids, hosts, told_us: see ``OfAddress``.
    """

    is_verified: bool = True
    users: dict[str, int] = msgspec.field(default_factory=dict)
    addresses: dict[str, int] = msgspec.field(default_factory=dict)
    event_ids: list[str] = msgspec.field(default_factory=list)
    hosts: list[str] = msgspec.field(default_factory=list)
    told_us: dict[str, int] = msgspec.field(default_factory=dict)


class Wide(NamedTuple):
    """An IPv6 network: its state, and its parts that guess, each with its number, the time and its state."""

    state: int
    parts: tuple[tuple[int, int, int], ...]


class Habits(msgspec.Struct, array_like=True):
    """The logins of an account: their number by day, and by respect the time of the last one with each value."""

    days: dict[int, int]
    seen: dict[Respect, dict[str, int]]


class Traveller(msgspec.Struct, array_like=True):
    """The last login of a key or account that has a place, and the prefixes from which it has logged in, with their times."""

    at_us: int
    address: str
    latitude: float
    longitude: float
    event_id: str
    origin: str
    prefixes: dict[str, int]


class SessionsOfKey(msgspec.Struct, array_like=True):
    """The open sessions of a key from one address."""

    count: int
    since_us: int
    host: str
    event_id: str
    origin: str


class OpenKey(msgspec.Struct, array_like=True):
    """The open sessions of a key by address, and when sshbell reported which two prefixes."""

    sessions: dict[str, SessionsOfKey]
    told_us: dict[str, int]


class KeyUser(msgspec.Struct, array_like=True):
    """The logins of an account: by key without a pause of 90 days, and the last one by password."""

    by_key: int = 0
    by_key_since_us: int = 0
    by_key_us: int = 0
    by_password_us: int = 0


class Scanner(msgspec.Struct, array_like=True):
    """
    The connections without a try from one address, without a pause of a day.

    Attributes:
        last_us: the last one.
        is_verified: the kernel vouches for all of them.
        is_told: it has been reported.
        faults: the times at which clients spoke wrongly, each with how.
        hosts: with the time of the last connection to each.
        event_ids: examples, the newest last.
    """

    last_us: int
    is_verified: bool = True
    is_told: bool = False
    faults: list[tuple[int, str]] = msgspec.field(default_factory=list)
    hosts: dict[str, int] = msgspec.field(default_factory=dict)
    event_ids: list[str] = msgspec.field(default_factory=list)


class Penalized(msgspec.Struct, array_like=True):
    """What sshbell knows of an address: its last login; its penalties without a longer pause; when sshbell reported it."""

    user: str = ""
    login_us: int = 0
    count: int = 0
    since_us: int = 0
    last_us: int = 0
    told_us: int = 0


class WatchedHost(msgspec.Struct, frozen=True, array_like=True):
    """The memory of one host."""

    rhythm: RhythmState
    wording: WordingState = WordingState()
    clock: ClockState = ClockState()


class LastBlock(NamedTuple):
    """The last block of a target: its step, its end, the finding that it rests on, and the only user at whom the guesses were."""

    step: int
    until_us: int
    finding_id: str
    user: str | None
