"""
Blocking: turns a finding of guessing into a block, or into nothing, with a counted reason.

A block must never lock out people, so it takes more than a finding: see ``Refusal``. Each further block of a target is longer, up
to a limit. For each ``DECAY_US`` that a target keeps quiet after a block, the next one is a step shorter. If all guesses from an
address were at one user, and that user logs in from there, the address begins anew.

A guesser who goes on causes no further finding. So a try after the end of a block causes the next block, if the rule still fits.

It is pure, so ``sshbell replay`` shows what it would have blocked. The process guard carries the blocks out.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from enum import StrEnum
from functools import lru_cache
from ipaddress import ip_network

import msgspec

from consumer.actions import EventAction
from consumer.addresses import Network, ip_of, ip_text
from consumer.config import Blocking
from consumer.detect.bounded_table import BoundedTable
from consumer.detect.entries import LastBlock
from consumer.detect.findings import Kinds, is_verified
from consumer.detect.guessing import Guessing, client_of
from consumer.events import Attempt, Block, Finding, Login, Logout
from consumer.spans import seconds_of
from consumer.story.event_ids import derived

# Addresses with an open session; targets that have been blocked.
LIVE_LIMIT, BLOCKED_LIMIT = 10_000, 100_000
DECAY_US = 86_400 * 1_000_000
_KINDS_OFF: Kinds = (Login, Logout)
_KINDS_ON: Kinds = (*_KINDS_OFF, Finding, Attempt)
# A session without an end counts no longer, as in "who": its end was lost.
_LIVE_US = 30 * 86_400 * 1_000_000
_SECOND_US = 1_000_000
# The part of the memory about logins.
_LOGINS = "logins"


class Refusal(StrEnum):
    """Why a finding blocks nobody."""

    NO_TARGET = "no_target"  # the log has a host name, or nothing
    UNVERIFIED = "unverified"  # any local user could have written the lines
    LOOPBACK = "loopback"
    ALLOWED = "allowed"  # on the allow list of the configuration
    LIVE_SESSION = "live_session"  # somebody from there is logged in
    KNOWN = "known"  # one of the last good logins came from there
    BLOCKED = "blocked"  # it is blocked already


class BlockPolicy:
    """
    Decides about blocks.

    It looks at logins even if blocking is off, so that it knows them when it is turned on.

    Args:
        settings: the table ``[block]``.
        guessing: the detector that knows whether somebody still guesses; None if it is off.
    """

    def __init__(self, settings: Blocking, guessing: Guessing | None) -> None:
        self._settings = settings
        self._guessing = guessing
        self.takes = _KINDS_OFF if settings.mode == "off" else _KINDS_ON
        self._first_us = round(seconds_of(settings.duration) * _SECOND_US)
        self._longest_us = round(seconds_of(settings.longest) * _SECOND_US)
        self._known_us = round(seconds_of(settings.known_for) * _SECOND_US)
        self._allowed = [ip_network(allow.address, strict=False) for allow in settings.allow if allow.address]
        # By client, see client_of: the time of the newest login; open sessions, how many and when the newest began. Each login
        # changes both, so they are plain tables. The oldest entry is the first.
        self._known: dict[str, int] = {}
        self._live: dict[str, tuple[int, int]] = {}
        self._is_changed = False
        self._last: BoundedTable[str, LastBlock] = BoundedTable(str, LastBlock, BLOCKED_LIMIT)
        self.refused: Counter[Refusal] = Counter()

    def take(self, event: Login | Logout | Finding | Attempt) -> Iterable[Block]:
        """Note a login or its end; return the blocks that a finding or a try causes."""
        match event:
            case Login():
                self._login(event)
            case Logout():
                self._logout(event)
            case Finding() if event.action is EventAction.GUESSING:
                is_user, is_verified = event.labels.get("by") == "user", event.origin == "verified"
                # The owner of an address chooses its name, which may look like a network.
                name = event.user if is_user else event.labels.get("network") or ip_text(event.address)
                user = event.user if event.labels.get("users") == "one" else None
                return self._blocks(event, name or "", event.id, user, is_user=is_user, is_verified=is_verified)
            case Attempt():
                return self._again(event)
        return ()

    def _login(self, login: Login) -> None:
        # A local user can forge lines that are not verified: they neither protect a guesser nor push out the others.
        if not login.address or not is_verified(login):
            return
        self._is_changed = True
        time_us = login.time_us
        # An IPv6 client has many addresses, and must not push out the others with them.
        address = client_of(login.address)
        count, last_us = self._live.pop(address, (0, 0))
        self._live[address] = (count + 1, max(last_us, time_us))
        if len(self._live) > LIVE_LIMIT:
            del self._live[next(iter(self._live))]
        self._known[address] = max(self._known.pop(address, 0), time_us)
        if len(self._known) > self._settings.known_logins:
            del self._known[next(iter(self._known))]
        if len(self._last):
            last = self._last.get(address)
            if last is not None and last.user is not None and last.user == login.user:
                self._last.pop(address)

    def _logout(self, logout: Logout) -> None:
        login = logout.login
        if not is_verified(login):
            return
        address = client_of(login.address or "")
        if address in self._live:
            self._is_changed = True
            count, last_us = self._live[address]
            if count > 1:
                self._live[address] = (count - 1, last_us)
            else:
                del self._live[address]

    def _again(self, attempt: Attempt) -> Iterator[Block]:
        """Yield the next block of a guesser who goes on after the end of the last one."""
        now_s = attempt.time_us // _SECOND_US
        for name, is_user in ((attempt.address, False), (attempt.user, True)):
            if not name or self._guessing is None:
                continue
            target = f"user:{name}" if is_user else client_of(name)
            last = self._last.get(target)
            if last is None or attempt.time_us < last.until_us or attempt.origin != "verified":
                continue
            ask = self._guessing.is_guessed if is_user else self._guessing.is_guessing
            if ask(name, "sshd", now_s, is_verified=True):
                user = last.user if last.user == attempt.user else None
                own = name if is_user else target
                yield from self._blocks(attempt, own, last.finding_id, user, is_user=is_user, is_verified=True)

    def _blocks(
        self, event: Finding | Attempt, name: str, finding_id: str, user: str | None, *, is_user: bool, is_verified: bool
    ) -> Iterator[Block]:
        """Yield the block of an address, a network or a user, or count why there is none."""
        network = None if is_user else _network_of(name)
        target = name if network is None else str(network).removesuffix(f"/{network.max_prefixlen}")
        key = f"user:{target}" if is_user else target
        last = self._last.get(key)
        if not is_verified:
            refusal: Refusal | None = Refusal.UNVERIFIED
        elif last is not None and event.time_us < last.until_us:
            refusal = Refusal.BLOCKED
        elif is_user:
            # The user can still log in from the addresses of earlier logins: guard excepts these.
            refusal = None if name else Refusal.NO_TARGET
        else:
            refusal = self._refusal(network, event.time_us)
        if refusal is not None:
            self.refused[refusal] += 1
            return
        step = 0 if last is None else max(0, last.step + 1 - (event.time_us - last.until_us) // DECAY_US)
        until_us = event.time_us + self._length_us(step)
        self._last.put(key, LastBlock(step, until_us, finding_id, user))
        yield Block(
            derived(event.id, f"{EventAction.BLOCK}\0{key}") if event.id else "", event.line, event.user if is_user else None,
            None if is_user else event.address, None, target, is_user, until_us, finding_id, step,
            self._settings.mode == "dry-run",
        )  # fmt: skip

    def _length_us(self, step: int) -> int:
        """Return how long the block of a step lasts."""
        length_us = self._first_us
        for _ in range(step):
            if length_us >= self._longest_us:
                break
            length_us *= self._settings.growth
        return min(length_us, self._longest_us)

    def _refusal(self, network: Network | None, now_us: int) -> Refusal | None:
        """Return why a network must not be blocked; None if it may."""
        if network is None or network.network_address.is_unspecified:
            return Refusal.NO_TARGET
        if network.network_address.is_loopback:
            return Refusal.LOOPBACK
        if any(network.version == allowed.version and network.overlaps(allowed) for allowed in self._allowed):
            return Refusal.ALLOWED
        live = (address for address, (_count, last_us) in self._live.items() if last_us >= now_us - _LIVE_US)
        if _has_one_of(network, live):
            return Refusal.LIVE_SESSION
        known = (address for address, last_us in self._known.items() if last_us >= now_us - self._known_us)
        return Refusal.KNOWN if _has_one_of(network, known) else None

    def changed(self) -> Iterator[tuple[str, bytes]]:
        """Yield the changed parts of the memory: see ``Detector``."""
        if self._is_changed:
            yield _LOGINS, msgspec.msgpack.encode((self._known, self._live))
        yield from self._last.changed("last.")

    def kept(self) -> None:
        """Record that they are safe."""
        self._is_changed = False
        self._last.kept()

    def forget_snapshot(self) -> None:
        """Count all parts as changed."""
        self._is_changed = True
        self._last.forget_snapshot()

    def restore(self, name: str, body: bytes) -> None:
        """Take over a part: see ``Detector``."""
        if name != _LOGINS:
            self._last.restore(body)
            return
        self._known, self._live = msgspec.msgpack.decode(body, type=tuple[dict[str, int], dict[str, tuple[int, int]]])
        self._is_changed = True


def _has_one_of(network: Network, clients: Iterable[str]) -> bool:
    return any(
        (other := _network_of(client)) is not None and other.version == network.version and other.overlaps(network)
        for client in clients
    )


@lru_cache(LIVE_LIMIT)  # each client with a session is compared with each new target
def _network_of(text: str) -> Network | None:
    """Return the network of a text; that of one address for an address; None for a name."""
    ip = ip_of(text)
    try:
        return ip_network(text if ip is None else ip)
    except ValueError:
        return None
