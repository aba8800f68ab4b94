"""
The place and the network of an address, from databases in MaxMind's format (MMDB), of any maker.

Any of the files may be replaced at any time, even in place.
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

# Addresses with remembered places.
CACHE_LIMIT = 16_384
# The most files that the patterns may find.
DATABASES_LIMIT = 32
# The total size of databases in memory, to look up many addresses. sshbell reads the rest from the disk.
MEMORY_LIMIT_BYTES = 256 << 20
# How often to check for replaced files.
_CHECK_S = 10.0


class Places:
    """
    Finds the places of addresses. It is not safe for several threads at once.

    Args:
        geoip: the key of the configuration: paths of databases, with ``*`` and ``?`` as in a shell. ``Places`` merges their
            values for an address; the first value counts. Without any database, no address has a place. With ``"web"``, only
            special addresses have names.
        report: gets one line, once, about each database that is missing or damaged. A pattern without a match is not a fault.
        many: the caller looks up thousands of addresses, so databases may use memory for that.
    """

    def __init__(self, geoip: Sequence[str] | Literal["web"], report: Callable[[str], None], *, many: bool = False) -> None:
        self._is_off = not geoip
        self._patterns = [] if geoip == "web" else list(geoip)
        self._report = report
        self._memory_bytes = MEMORY_LIMIT_BYTES if many else 0
        # The reported databases until they are in order again; with the stamp of each that is not worth another try.
        self._faulty: dict[str, Stamp | None] = {}
        self._databases: list[Database] = []
        self._cache: dict[str, SourceFields] = {}
        self._texts: dict[str | None, str] = {}
        self._next_check_s = 0.0
        if self._patterns:
            self._check()

    @property
    def databases(self) -> tuple[Database, ...]:
        """The open databases, in the order of look-up."""
        return tuple(self._databases)

    def close(self) -> None:
        """Close the files. From then on, no address has a place."""
        self._is_off = True
        for database in self._databases:
            database.close()
        self._databases = []

    def of(self, address: str | None) -> SourceFields:
        """Return the known ``geo``, ``as_`` and ``anonymous`` of an address; nothing for an invalid one. Never raises."""
        if address is None or self._is_off:
            return NO_SOURCE
        if time.monotonic() >= self._next_check_s:
            self._check()
        found = self._cache.get(address)
        if found is None:
            try:
                # This is several times faster than ip_of.
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
        """Return an event with the known fields about its source's address."""
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
        # A copy, because a database that turns out to be damaged is removed.
        for database in self._databases[:]:
            try:
                found = _merged(found, database.fields(meaning.number, meaning.bits))
            except Exception:  # noqa: BLE001 - the reader of a damaged file raises almost anything
                self._take_out(database)
        return found

    def _take_out(self, database: Database) -> None:
        self._databases.remove(database)
        database.close()
        self._fault(database.path, database.stamp, "damaged; sshbell uses the others without it")

    def _check(self) -> None:
        """Open new databases, close deleted ones, and reopen replaced ones."""
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
            self._fault(path, None, f"sshbell uses at most {DATABASES_LIMIT} databases: neither this one nor those after it")
        return list(islice(paths, DATABASES_LIMIT))

    def _fault(self, path: str, stamp: Stamp | None, text: str) -> None:
        is_news = path not in self._faulty
        self._faulty[path] = stamp
        if is_news:
            self._report(f"{path}: {text}")


def _merged(found: SourceFields, more: SourceFields) -> SourceFields:
    """Add the fields that are still unknown. A database that names another country has the wrong city, too."""
    if found is NO_SOURCE or more is NO_SOURCE:
        return more if found is NO_SOURCE else found
    ours, theirs = found.geo.country_iso_code, more.geo.country_iso_code
    is_same = ours is None or theirs is None or ours == theirs
    return SourceFields(
        geo=joined(found.geo, more.geo) if is_same else found.geo,
        # A number with the name from another database would be a network that does not exist.
        as_=more.as_ if found.as_.number is None else found.as_,
        anonymous=tuple(dict.fromkeys((*found.anonymous, *more.anonymous))),
    )


def place_text(source: SourceFields) -> str:
    """
    Return a place in a few words, such as ``Lyon, FR, AS3215``; "" if none is known.

    Its names come from the database, which may hold anything: make them harmless before you show them.
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
