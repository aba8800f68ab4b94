"""
Where an address is and whose network it is in, out of databases in MaxMind's format (MMDB), whoever made them.

Files may be damaged, and may be replaced at any time, also in place. So maxminddb reads them in Python and with ``pread``:
its compiled reader crashes on damaged records, and by SIGBUS where a file that it has mapped is cut. Where many addresses are
asked, they are read into memory: see ``mmdb_in_memory``.
"""

import os
import stat
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from glob import glob, has_magic
from ipaddress import IPv4Address, IPv6Address
from itertools import islice
from pathlib import Path
from socket import AF_INET, inet_pton
from typing import TYPE_CHECKING

import msgspec

from consumer.addresses import ip_of
from consumer.ecs import NO_SOURCE, EcsEvent, GeoFields, SourceFields, joined
from consumer.places.geo_record import fields_of
from consumer.places.mmdb_in_memory import InMemory
from consumer.places.special_addresses import inner, special_name
from consumer.stamp import Stamp

if TYPE_CHECKING:
    from maxminddb import Reader

# Addresses whose places are remembered.
CACHE_LIMIT = 16_384
# Files that the patterns may find.
DATABASES_LIMIT = 32
# Where many addresses are asked: a database is read into memory once so many were that reading all of it pays off; it is
# looked whether it does each so many. And what those in memory may have together; above that they are read from the disk.
_BYTES_AN_ADDRESS = 50_000
_MANY = 20
MEMORY_LIMIT_BYTES = 256 << 20
# How often it is looked whether files were replaced.
_CHECK_S = 10.0


class Database(msgspec.Struct):
    """
    One database, open.

    Attributes:
        type: as its maker calls it, such as ``DBIP-City-Lite``.
        built: when it was made; None where it does not say so.
        memory: all of it, where many addresses are asked.
        nodes: how many its search tree has.
        copied: how many bytes of memory it takes.
    """

    path: str
    stamp: Stamp
    reader: "Reader"
    type: str
    built: datetime | None
    has_ipv6: bool
    memory: InMemory | None = None

    def fields(self, number: int, bits: int) -> SourceFields:
        """
        Return what it says of an address of 32 or 128 bits, as ``fields_of`` does.

        Raises:
            Exception: whatever a damaged file makes of its reader.
        """
        if bits == 128 and not self.has_ipv6:
            return NO_SOURCE
        if self.memory is not None:
            return self.memory.fields(number, bits)
        return fields_of(self.reader.get(IPv4Address(number) if bits == 32 else IPv6Address(number)))

    def load(self) -> None:
        """
        Read it into memory, if it is still the same file.

        Raises:
            Exception: whatever a damaged file makes of it.
        """
        metadata = self.reader.metadata()
        with Path(self.path).open("rb") as file:
            if Stamp.of(file.fileno()) == self.stamp:
                self.memory = InMemory(
                    file.read, metadata.node_count, metadata.record_size, metadata.ip_version, self.stamp.size
                )  # fmt: skip


class DamagedDatabaseError(Exception):
    """A file that is no database, or that cannot be read; the text says why, without the file's name."""


def open_database(path: str) -> Database:
    """
    Open a database.

    Raises:
        DamagedDatabaseError: it is none that can be read.
        OSError: the file cannot be opened.
    """
    # Not to wait for a writer, where it is a pipe.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        stamp = Stamp.of(descriptor)
        if stamp is None or not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise DamagedDatabaseError("no regular file")
        return _opened(path, descriptor, stamp)
    finally:
        os.close(descriptor)


def _opened(path: str, descriptor: int, stamp: Stamp) -> Database:
    # Here, because it takes longer than all of --version.
    import maxminddb  # noqa: PLC0415

    reader = None
    try:
        # It closes what it is given.
        reader = maxminddb.open_database(os.dup(descriptor), maxminddb.MODE_FILE)
        metadata = reader.metadata()
        return Database(
            path, stamp, reader, str(metadata.database_type)[:100], _moment(metadata.build_epoch), metadata.ip_version == 6
        )
    except Exception as error:
        if reader is not None:
            reader.close()
        raise DamagedDatabaseError("no database in MaxMind's format, or a damaged one") from error


def _moment(epoch: object) -> datetime | None:
    try:
        return datetime.fromtimestamp(epoch, UTC) if isinstance(epoch, int) and epoch > 0 else None
    except (ValueError, OverflowError, OSError):
        return None


class Places:
    """
    Tells where addresses are. It is not for several threads at once.

    Args:
        patterns: of the databases' files, ``*`` and ``?`` as in a shell; what several say of one address is merged, the first
            that says something coming before all others. Without any, nothing is told.
        report: is told in one line, and once, what is wrong with a database. One whose pattern finds nothing is not missed,
            one that is named is.
        many: thousands of addresses may be asked, and memory is there for that.
    """

    def __init__(self, patterns: Iterable[str], report: Callable[[str], None], *, many: bool = False) -> None:
        self._patterns = list(patterns)
        self._report = report
        self._many = many
        self._asked = 0
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
            database.reader.close()
        self._databases = []

    def of(self, address: str | None) -> SourceFields:
        """Return what is known of an address: ``geo``, ``as_`` and ``anonymous``. Never raises; one that is none has no place."""
        if address is None or not self._patterns:
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
        found = self.of(address)
        if found is NO_SOURCE:
            return ""
        text = self._texts.get(address)
        if text is None:
            text = place_text(found)
            if len(self._texts) >= CACHE_LIMIT:
                self._texts.clear()
            self._texts[address] = text
        return text

    def _looked_up(self, number: int, bits: int) -> SourceFields:
        tunnel = ""
        if bits == 128 and (within := inner(number)):
            (tunnel, number), bits = within, 32
        special = special_name(number, bits)
        name = f"{tunnel}, {special}" if tunnel and special else tunnel or special
        found = SourceFields(geo=GeoFields(name=name)) if name else NO_SOURCE
        if special:
            return found
        self._asked += 1
        if self._many and self._asked % _MANY == 0:
            self._load()
        # A copy: one that turns out to be damaged is taken out.
        for database in self._databases[:]:
            try:
                found = _merged(found, database.fields(number, bits))
            except Exception:  # noqa: BLE001 - whatever a damaged file makes of its reader
                self._take_out(database)
        return found

    def _load(self) -> None:
        """Read into memory what fits there and is not there yet, once that pays off."""
        if not self._many:
            return
        room = MEMORY_LIMIT_BYTES - sum(database.stamp.size for database in self._databases if database.memory)
        for database in self._databases[:]:
            if database.memory is None and database.stamp.size <= min(room, self._asked * _BYTES_AN_ADDRESS):
                room -= database.stamp.size
                try:
                    database.load()
                except Exception:  # noqa: BLE001 - whatever a damaged file makes of it
                    self._take_out(database)

    def _take_out(self, database: Database) -> None:
        self._databases.remove(database)
        database.reader.close()
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
                    databases.append(open_database(path))
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
            database.reader.close()
        self._load()

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
