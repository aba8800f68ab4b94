"""
The place and the network of an address, from databases in MaxMind's format (MMDB), of any maker.

Somebody may replace the files at any time, also in place.
"""

import time
from collections.abc import Callable, Sequence
from glob import glob, has_magic
from itertools import islice
from socket import AF_INET, inet_pton
from typing import Literal

import msgspec

from consumer.addresses import ip_of
from consumer.ecs import NO_SOURCE, EcsEvent, GeoFields, SourceFields, joined
from consumer.places.database import DamagedDatabaseError, Database, open_database
from consumer.places.special_addresses import meaning_of
from consumer.stamp import Stamp

# Addresses whose places are remembered.
CACHE_LIMIT = 16_384
# Files that the patterns may find.
DATABASES_LIMIT = 32
# The size of all databases in memory together, to look up many addresses. sshbell reads the rest from the disk.
MEMORY_LIMIT_BYTES = 256 << 20
# How often it is looked whether files were replaced.
_CHECK_S = 10.0


class Places:
    """
    Tells where addresses are. It is not for several threads at once.

    Args:
        geoip: the key of the configuration: paths of databases, with ``*`` and ``?`` as in a shell. ``Places`` merges what they
            say of an address; the first value counts. Without any, no address has a place. With ``"web"``, only special
            addresses have names.
        report: gets one line, once, about each database that is missing or damaged. A pattern that finds nothing is no fault.
        many: the caller looks up thousands of addresses, and databases may take memory for that.
    """

    def __init__(self, geoip: Sequence[str] | Literal["web"], report: Callable[[str], None], *, many: bool = False) -> None:
        self._is_off = not geoip
        self._patterns = [] if geoip == "web" else list(geoip)
        self._report = report
        self._memory_bytes = MEMORY_LIMIT_BYTES if many else 0
        # Those that are reported, until they are well again; with their stamps, where there is no use in trying again.
        self._faulty: dict[str, Stamp | None] = {}
        self._databases: list[Database] = []
        self._cache: dict[str, SourceFields] = {}
        self._texts: dict[str | None, str] = {}
        self._next_check_s = 0.0
        if self._patterns:
            self._check()

    @property
    def databases(self) -> tuple[Database, ...]:
        """Those that are open, in the order in which they are asked."""
        return tuple(self._databases)

    def close(self) -> None:
        """Let go of the files."""
        for database in self._databases:
            database.close()
        self._databases = []

    def of(self, address: str | None) -> SourceFields:
        """Return what is known of an address: ``geo``, ``as_`` and ``anonymous``. Never raises; one that is none has no place."""
        if address is None or self._is_off:
            return NO_SOURCE
        if time.monotonic() >= self._next_check_s:
            self._check()
        found = self._cache.get(address)
        if found is None:
            try:
                # Several times as fast as ip_of.
                number, bits = int.from_bytes(inet_pton(AF_INET, address), "big"), 32
            except (OSError, ValueError):
                ip = ip_of(address)
                if ip is None:
                    return NO_SOURCE
                number, bits = int(ip), ip.max_prefixlen
            found = self._looked_up(number, bits)
            if len(self._cache) >= CACHE_LIMIT:
                self._cache.clear()
            self._cache[address] = found
        return found

    def add(self, event: EcsEvent) -> EcsEvent:
        """Return an event with what is known of its source's address."""
        found = self.of(event.source.ip)
        if found is NO_SOURCE:
            return event
        source = msgspec.structs.replace(event.source, geo=found.geo, as_=found.as_, anonymous=found.anonymous)
        return msgspec.structs.replace(event, source=source)

    def text(self, address: str | None) -> str:
        """Return a place in a few words, as ``place_text`` does."""
        text = self._texts.get(address)
        if text is None or time.monotonic() >= self._next_check_s:
            found = self.of(address)
            if found is NO_SOURCE:
                return ""
            text = place_text(found)
            if len(self._texts) >= CACHE_LIMIT:
                self._texts.clear()
            self._texts[address] = text
        return text

    def _looked_up(self, number: int, bits: int) -> SourceFields:
        meaning = meaning_of(number, bits)
        found = SourceFields(geo=GeoFields(name=meaning.name)) if meaning.name else NO_SOURCE
        if not meaning.is_public:
            return found
        # A copy: one that turns out to be damaged is taken out.
        for database in self._databases[:]:
            try:
                found = _merged(found, database.fields(meaning.number, meaning.bits))
            except Exception:  # noqa: BLE001 - whatever a damaged file makes of its reader
                self._take_out(database)
        return found

    def _take_out(self, database: Database) -> None:
        self._databases.remove(database)
        database.close()
        self._fault(database.path, database.stamp, "damaged; the others are asked without it")

    def _check(self) -> None:
        """Open what is new, let go of what is gone, and open anew what was replaced."""
        self._next_check_s = time.monotonic() + _CHECK_S
        was = {database.path: database for database in self._databases}
        databases: list[Database] = []
        for path in self._paths():
            stamp = Stamp.of(path)
            try:
                known = was.get(path)
                if known is not None and known.stamp == stamp:
                    databases.append(was.pop(path))
                elif stamp is None or self._faulty.get(path) != stamp:
                    room = self._memory_bytes - sum(one.stamp.size for one in databases if one.in_memory)
                    databases.append(open_database(path, room))
                    self._faulty.pop(path, None)
            except OSError as error:
                self._fault(path, None, error.strerror or "cannot be read")
            except DamagedDatabaseError as error:
                self._fault(path, stamp, str(error))
        if databases != self._databases:
            self._cache.clear()
            self._texts.clear()
        self._databases = databases
        for database in was.values():
            database.close()

    def _paths(self) -> list[str]:
        paths: dict[str, None] = {}
        for pattern in self._patterns:
            found = sorted(glob(pattern)) if has_magic(pattern) else [pattern]  # noqa: PTH207 - Path's takes no absolute one
            paths.update(dict.fromkeys(found))
        for path in islice(paths, DATABASES_LIMIT, DATABASES_LIMIT + 1):
            self._fault(path, None, f"not asked, nor what comes behind it: {DATABASES_LIMIT} databases are the most")
        return list(islice(paths, DATABASES_LIMIT))

    def _fault(self, path: str, stamp: Stamp | None, text: str) -> None:
        is_news = path not in self._faulty
        self._faulty[path] = stamp
        if is_news:
            self._report(f"{path}: {text}")


def _merged(found: SourceFields, more: SourceFields) -> SourceFields:
    """Add what is not known yet. One that takes an address to be in another country knows nothing of its city either."""
    if found is NO_SOURCE or more is NO_SOURCE:
        return more if found is NO_SOURCE else found
    ours, theirs = found.geo.country_iso_code, more.geo.country_iso_code
    is_same = ours is None or theirs is None or ours == theirs
    return SourceFields(
        geo=joined(found.geo, more.geo) if is_same else found.geo,
        # A number with another one's name would be a network that does not exist.
        as_=more.as_ if found.as_.number is None else found.as_,
        anonymous=tuple(dict.fromkeys((*found.anonymous, *more.anonymous))),
    )


def place_text(source: SourceFields) -> str:
    """
    Return a place in a few words, such as ``Lyon, FR, AS3215``; "" where none is known.

    Its names are the database's, which may hold anything: make them harmless where they are shown.
    """
    geo, number = source.geo, source.as_.number
    return ", ".join(
        filter(
            None,
            (
                geo.city_name or geo.region_name,
                geo.country_iso_code or geo.country_name,
                None if number is None else f"AS{number}",
                *source.anonymous,
                geo.name,
            ),
        )
    )
