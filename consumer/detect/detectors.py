"""All detectors together: each event goes to each of them, in one order, and their findings follow it at once."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, get_args

from consumer.actions import EventAction
from consumer.config import Blocking
from consumer.detect.block_policy import BlockPolicy
from consumer.detect.findings import Detector, Kinds, PlaceOf
from consumer.detect.first_seen import FirstSeen
from consumer.detect.guessing import Guessing
from consumer.detect.host_lines import HostLines
from consumer.detect.impossible_travel import ImpossibleTravel
from consumer.detect.key_in_two_places import KeyInTwoPlaces
from consumer.detect.many_accounts import ManyAccounts
from consumer.detect.many_addresses import ManyAddresses
from consumer.detect.networks import KnownNetworks
from consumer.detect.password_despite_key import PasswordDespiteKey
from consumer.detect.root_by_password import RootByPassword
from consumer.detect.scanning import Scanning
from consumer.detect.slow_guessing import SlowGuessing
from consumer.detect.sshd_health import SshdHealth
from consumer.detect.sshd_penalty import SshdPenalty
from consumer.detect.success_after_failures import SuccessAfterFailures
from consumer.detect.tries import DAY_US, Tries
from consumer.detect_settings import Detect, rate_of
from consumer.events import Event
from consumer.records import Line
from consumer.spans import seconds_of
from consumer.story.snapshot import DAMAGE, SnapshotPart

# The parts of a snapshot that belong to detectors: "detect", the detector, and the detector's own name of the part.
_KIND = "detect"
# The memory of failed logins, which several detectors share.
_TRIES = "tries"
_HOST_LINES = "host_lines"


def no_place(_address: str) -> None:
    """Return no place: there are no databases."""


def _detectors(settings: Detect, block: Blocking, place_of: PlaceOf) -> dict[str, Detector]:
    """Return the detectors that are on, by the names of their findings; the policy of blocks comes behind them."""
    known = KnownNetworks(settings.known_networks)
    found: dict[str, Detector] = {}
    has_places = place_of is not no_place
    guessing = None
    if settings.guessing.host_rule or settings.guessing.user_rule:
        found[EventAction.GUESSING] = guessing = Guessing(settings.guessing)
    found.update(_detectors_of_tries(settings, place_of, known))
    if settings.scanning.faults or settings.scanning.hosts:
        found[EventAction.SCANNING] = Scanning(settings.scanning, known)
    if settings.first_seen.what:
        found[EventAction.FIRST_SEEN] = FirstSeen(settings.first_seen, place_of if has_places else None)
    if settings.root_by_password:
        found[EventAction.ROOT_BY_PASSWORD] = RootByPassword()
    if settings.password_despite_key:
        found[EventAction.PASSWORD_DESPITE_KEY] = PasswordDespiteKey(settings.password_despite_key)
    if has_places:
        found.update(_detectors_of_places(settings, place_of, known))
    if settings.sshd_penalty:
        found[EventAction.SSHD_PENALTY] = SshdPenalty(settings.sshd_penalty)
    if settings.sshd_health:
        found[EventAction.SSHD_HEALTH] = SshdHealth()
    if settings.host_silent or settings.host_changed_wording or seconds_of(settings.clock_skew):
        found[_HOST_LINES] = HostLines(settings)
    found[EventAction.BLOCK] = BlockPolicy(block, guessing)
    return found


def _detectors_of_places(settings: Detect, place_of: PlaceOf, known: KnownNetworks) -> dict[str, Detector]:
    """Return the detectors that need databases of places."""
    found: dict[str, Detector] = {}
    if settings.impossible_travel:
        found[EventAction.IMPOSSIBLE_TRAVEL] = ImpossibleTravel(settings.impossible_travel, place_of, known)
    if settings.key_in_two_places:
        found[EventAction.KEY_IN_TWO_PLACES] = KeyInTwoPlaces(settings.key_in_two_places, place_of, known)
    return found


def _detectors_of_tries(settings: Detect, place_of: PlaceOf, known: KnownNetworks) -> dict[str, Detector]:
    """Return the detectors that share the memory of failed logins. That memory comes first, so that it has the event by then."""
    accounts, addresses, success = settings.many_accounts, settings.many_addresses, settings.success_after_failures
    rates = {
        EventAction.MANY_ACCOUNTS: [accounts.address, accounts.prefix],
        EventAction.MANY_ADDRESSES: [addresses.address, addresses.prefix, addresses.network],
        EventAction.SLOW_GUESSING: [settings.slow_guessing],
        EventAction.SUCCESS_AFTER_FAILURES: [success.address, success.prefix, success.account],
    }
    on = {action: [rate_of(rate) for rate in its if rate] for action, its in rates.items()}
    if not any(on.values()):
        return {}
    spans = [span_us for _, span_us in on[EventAction.MANY_ACCOUNTS]]
    tries = Tries(
        pause_us=max((span_us for _, span_us in on[EventAction.SUCCESS_AFTER_FAILURES]), default=DAY_US),
        users_limit=max([rate_of(accounts.address)[0], 2]),
        prefix_limit=max([rate_of(accounts.prefix)[0], rate_of(success.prefix)[0], 2]),
        addresses_limit=max([count for count, _ in on[EventAction.MANY_ADDRESSES]], default=10),
        fresh_us=min(spans, default=DAY_US) // 4,
    )
    found: dict[str, Detector] = {_TRIES: tries}
    if on[EventAction.MANY_ACCOUNTS]:
        found[EventAction.MANY_ACCOUNTS] = ManyAccounts(accounts, tries, known)
    if on[EventAction.MANY_ADDRESSES]:
        found[EventAction.MANY_ADDRESSES] = ManyAddresses(addresses, tries, place_of)
    if on[EventAction.SLOW_GUESSING]:
        found[EventAction.SLOW_GUESSING] = SlowGuessing(settings.slow_guessing, tries, known)
    if on[EventAction.SUCCESS_AFTER_FAILURES]:
        found[EventAction.SUCCESS_AFTER_FAILURES] = SuccessAfterFailures(success, tries)
    return found


class Detectors:
    """
    Looks for findings in events, and for what to block because of them.

    It is deterministic: the same events give the same findings and blocks.

    Args:
        settings: the table ``[detect]`` of the configuration.
        place_of: finds the places of addresses; without databases, detectors that need places stay silent.
        tell: gets each finding and each block, right after the event that decided it.
        block: the table ``[block]``.
        report: gets one line about each part of an earlier process's memory that cannot be read.
    """

    def __init__(
        self,
        settings: Detect,
        tell: Callable[[Any], None],
        block: Blocking = Blocking(),  # noqa: B008 - it is frozen
        place_of: PlaceOf = no_place,
        report: Callable[[str], None] = lambda _text: None,
    ) -> None:
        self._tell = tell
        self._place_of = place_of
        self._report = report
        self._unreadable: set[str] = set()
        self._use(settings, block)

    def _use(self, settings: Detect, block: Blocking) -> None:
        self.settings, self.block = settings, block
        self._by_name = _detectors(settings, block, self._place_of)
        kinds: Kinds = get_args(Event)
        self._takes = {
            kind: [detector.take for detector in self._by_name.values() if kind in detector.takes] for kind in kinds
        }  # fmt: skip

    def configure(self, settings: Detect, block: Blocking) -> None:
        """Use other settings from the next event on, and keep the memory of the detectors that stay on."""
        if (settings, block) == (self.settings, self.block):
            return
        before = self._by_name
        self._use(settings, block)
        for name, detector in before.items():
            successor = self._by_name.get(name)
            detector.forget_snapshot()
            for part, body in detector.changed():
                if successor is None:
                    self._unreadable.add(_part(name, part))
                elif body:
                    successor.restore(part, body)
            if successor is not None:
                successor.forget_snapshot()

    def add_lines(self, lines: Iterable[Line], unread: Mapping[str, int]) -> None:
        """Look at lines: see ``HostLines.add``."""
        watched = self._by_name.get(_HOST_LINES)
        if isinstance(watched, HostLines):
            watched.add(lines, unread)

    def tick(self, now_us: int, elapsed_us: int, *, is_holding: bool) -> None:
        """Let time pass; findings about hosts go to ``tell``: see ``HostLines.tick``."""
        watched = self._by_name.get(_HOST_LINES)
        if isinstance(watched, HostLines):
            for finding in watched.tick(now_us, elapsed_us, is_holding=is_holding):
                self._tell(finding)

    def take(self, event: Event) -> None:
        """Look at an event; findings and blocks go to ``tell``."""
        for take in self._takes[type(event)]:
            found = take(event)
            if found:  # most find nothing, and to go through nothing takes longer
                for each in found:
                    self._tell(each)
                    self.take(each)

    @property
    def refused(self) -> dict[str, int]:
        """Why findings have blocked nobody, and how often."""
        policy = self._by_name[EventAction.BLOCK]
        return {str(reason): count for reason, count in policy.refused.items()} if isinstance(policy, BlockPolicy) else {}

    def changed(self) -> Iterator[SnapshotPart]:
        """Yield the parts of the memory that differ from the last snapshot: see ``Snapshots.changed``."""
        for name in self._unreadable:
            yield name, ()
        for name, detector in self._by_name.items():
            for part, body in detector.changed():
                yield _part(name, part), (body,) if body else ()

    def kept(self) -> None:
        """Record that the store has the parts that ``changed`` yielded last, and that no event has come since."""
        self._unreadable.clear()
        for detector in self._by_name.values():
            detector.kept()

    def forget_snapshot(self) -> None:
        """Count every part as changed, because the stored snapshot is lost."""
        for detector in self._by_name.values():
            detector.forget_snapshot()

    def restore(self, name: str, pieces: Iterable[bytes]) -> bool:
        """Take over a part from an earlier process; return whether it is one of a detector."""
        kind, _, rest = name.partition("\t")
        if kind != _KIND:
            return False
        detector, _, part = rest.partition("\t")
        body = b"".join(pieces)
        if not body:
            return True  # it is gone
        try:
            self._by_name[detector].restore(part, body)
        except DAMAGE as error:
            self._unreadable.add(name)
            if detector in self._by_name:
                self._report(f"the memory of {name!r} cannot be read ({error}); sshbell forgets what it counted there")
        return True


def _part(detector: str, part: str) -> str:
    return f"{_KIND}\t{detector}\t{part}"
