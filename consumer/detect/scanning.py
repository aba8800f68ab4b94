"""
One address scans: its clients connect without a try at a login, and speak wrongly in several ways, or visit many hosts.

Monitoring and load balancers connect every minute, too, and leave: to one host, or always in the same way. A broken or very old
client always fails in the same way, too. So neither counts. A monitor of many hosts is reported once. After that, an address is
only reported again if it has paused for a day.
"""

from collections.abc import Iterable, Iterator
from typing import ClassVar

from consumer.actions import EventAction
from consumer.detect.bounded_table import BoundedTable, BoundedTables
from consumer.detect.entries import Scanner
from consumer.detect.findings import Kinds, finding_of, is_verified
from consumer.detect.networks import KnownNetworks
from consumer.detect.tries import DAY_US, drop_older, origin_of
from consumer.detect_settings import ScanningSettings, rate_of
from consumer.events import Event, Finding, Login, Probe
from consumer.records import HOST, TIME

# Addresses in memory that connect without a try, and those from which somebody has logged in. An entry has up to 20 kB.
SCANNER_LIMIT, SCANNER_LOGIN_LIMIT = 5_000, 10_000
# How long an address belongs to the account that has logged in from it.
_USER_US = 90 * DAY_US
_IDS_LIMIT = 10
# A client that sends nothing and leaves, such as a monitor, also causes these.
_SILENT = frozenset({"no_identification", "ident_not_written"})
_LEFT = frozenset({"bad_banner", "bad_banner_old"})
_LEFT_REASONS = ("Connection ", "read: ", "write: ", "client sent no", "Broken pipe")


class Scanning:
    """Finds addresses that scan, each at most once a day."""

    takes: ClassVar[Kinds] = (Login, Probe)

    def __init__(self, settings: ScanningSettings, known: KnownNetworks) -> None:
        self._settings = settings
        self._known = known
        self._count, self._span_us = rate_of(settings.faults)
        self._hosts, self._hosts_span_us = rate_of(settings.hosts)
        self._addresses = BoundedTable(str, Scanner, SCANNER_LIMIT)
        self._logins = BoundedTable(str, int, SCANNER_LOGIN_LIMIT)
        self._tables = BoundedTables(address=self._addresses, login=self._logins)

    def take(self, event: Login | Probe) -> Iterable[Finding]:
        """Return the finding about a connection without a try; remember who logs in from where."""
        address, at_us = event.address, event.line[TIME]
        if not address or address == "UNKNOWN" or not at_us:
            return ()
        if not isinstance(event, Probe):
            self._logins.put(address, at_us)
            return ()
        login_us = self._logins.get(address)
        if (login_us is not None and at_us - login_us < _USER_US) or self._known.has(address):
            return ()
        entry = self._addresses.renewed(address)
        if entry is None or abs(at_us - entry.last_us) >= DAY_US:
            entry = Scanner(at_us)
            self._addresses.put(address, entry)
        entry.last_us = max(entry.last_us, at_us)
        if entry.is_told:
            return ()
        self._note(entry, event, at_us)
        if found := self._found(event, address, entry):
            entry.is_told = True
            entry.faults.clear()
            entry.hosts.clear()
            entry.event_ids.clear()
            return (found,)
        return ()

    def _note(self, entry: Scanner, event: Probe, at_us: int) -> None:
        if not is_verified(event):
            entry.is_verified = False
        fault = event.fault
        if fault and self._count and _is_wrong(fault, event.reason or ""):
            entry.faults.append((at_us, fault))
            del entry.faults[: -self._count]
        if self._hosts:
            hosts, host = entry.hosts, event.line[HOST]
            if host in hosts:
                del hosts[host]
            hosts[host] = at_us
            if len(hosts) > self._hosts:
                del hosts[next(iter(hosts))]
        if event.id:
            entry.event_ids.append(event.id)
            del entry.event_ids[:-_IDS_LIMIT]

    def _found(self, event: Event, address: str, entry: Scanner) -> Finding | None:
        if self._count and len(entry.faults) >= self._count:
            kinds = {fault for _, fault in entry.faults}
            since_us = min(time_us for time_us, _ in entry.faults)
            if len(kinds) > 1 and event.time_us - since_us <= self._span_us:
                labels = {"by": "faults", "kinds": str(len(kinds))}
                return self._finding(event, address, entry, self._settings.faults, len(entry.faults), since_us, labels)
        if self._hosts and len(entry.hosts) >= self._hosts:
            drop_older(entry.hosts, event.time_us - self._hosts_span_us)
            if len(entry.hosts) >= self._hosts:
                since_us = min(entry.hosts.values())
                return self._finding(event, address, entry, self._settings.hosts, len(entry.hosts), since_us, {"by": "hosts"})
        return None

    @staticmethod
    def _finding(
        event: Event, address: str, entry: Scanner, rule: str, count: int, since_us: int, labels: dict[str, str]
    ) -> Finding:
        return finding_of(
            event, EventAction.SCANNING, address, rule=rule, origin=origin_of(is_verified=entry.is_verified), count=count,
            since_us=since_us, hosts=reversed(entry.hosts), event_ids=entry.event_ids, labels=labels,
        )  # fmt: skip

    def changed(self) -> Iterator[tuple[str, bytes]]:
        """Yield the buckets that have changed."""
        return self._tables.changed()

    def kept(self) -> None:
        """Record that the buckets are safe."""
        self._tables.kept()

    def forget_snapshot(self) -> None:
        """Count all buckets as changed."""
        self._tables.forget_snapshot()

    def restore(self, name: str, body: bytes) -> None:
        """Take over a bucket; KeyError and MsgspecError as in ``Detector``."""
        self._tables.restore(name, body)


def _is_wrong(fault: str, reason: str) -> bool:
    """Return whether a client with a fault spoke wrongly; otherwise it just left."""
    return fault not in _SILENT and not (fault in _LEFT and reason.startswith(_LEFT_REASONS))
