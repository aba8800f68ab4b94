"""
The entries of the tables of ``Tries`` and ``Guessing``, as a snapshot stores them.

They have a module of their own, because mypyc compiles those two. It cannot compile structs of msgspec, and it shortens the types
in a NamedTuple: msgspec would read a list where a tuple stood.
"""

from typing import NamedTuple

import msgspec


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
