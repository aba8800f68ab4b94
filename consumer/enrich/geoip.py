"""
Where an address is and whose network it is in, out of databases in MaxMind's format (MMDB), whoever made them.

The files may be replaced at any time, also in place, which takes the ground from under a file that is mapped into memory
(SIGBUS). So they are read with ``pread``, or, where many addresses are asked, copied into memory first.
"""

import os
import stat
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from glob import glob, has_magic
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from consumer.enrich.geo_record import Object, fields_of
from consumer.enrich.special_addresses import Address, inner, special_name
from consumer.messages import ip_of

if TYPE_CHECKING:
    from maxminddb import Reader

# Addresses whose places are remembered.
CACHE_LIMIT = 8192
# Files that the patterns may find.
DATABASES_LIMIT = 32
# What all databases together may take in memory; those above it are read from the disk.
COPY_LIMIT_BYTES = 256 << 20
# How often it is looked whether files were replaced.
_CHECK_S = 10.0


class Stamp(NamedTuple):
    """What changes where a file is replaced."""

    device: int
    inode: int
    size: int
    modified_ns: int

    @classmethod
    def of(cls, found: os.stat_result) -> "Stamp":
        """Take it of a file."""
        return cls(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


class Database(msgspec.Struct):
    """
    One database, open.

    Attributes:
        type: as its maker calls it, such as ``DBIP-City-Lite``.
        built: when it was made; None where it does not say so.
        nodes: how many its search tree has.
        copied: how many bytes of memory it takes.
    """

    path: str
    stamp: Stamp
    reader: "Reader"
    type: str
    built: datetime | None
    nodes: int
    has_ipv6: bool
    copied: int = 0

    def record(self, ip: Address) -> object:
        """
        Return what it says of an address; None where it says nothing.

        Raises:
            Exception: whatever a damaged file makes of the reader.
        """
        return self.reader.get(ip) if self.has_ipv6 or ip.version == 4 else None


class DamagedDatabaseError(Exception):
    """A file that is no database, or that cannot be read; the text says why, without the file's name."""


def open_database(path: str, copy_limit_bytes: int = 0) -> Database:
    """
    Open a database; into memory where it is not larger than ``copy_limit_bytes``, and is read by compiled code there.

    Raises:
        DamagedDatabaseError: it is none that can be read.
        OSError: the file cannot be opened.
    """
    # Not to wait for a writer, where it is a pipe.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise DamagedDatabaseError("no regular file")
        return _opened(path, descriptor, Stamp.of(found), copy_limit_bytes)
    finally:
        os.close(descriptor)


def _opened(path: str, descriptor: int, stamp: Stamp, copy_limit_bytes: int) -> Database:
    # Here, because it takes longer than all of --version.
    import maxminddb  # noqa: PLC0415

    reader = None
    try:
        copied = _reader_of_copy(descriptor) if stamp.size <= copy_limit_bytes else None
        # It closes what it is given.
        reader = copied or maxminddb.open_database(os.dup(descriptor), maxminddb.MODE_FILE)
        metadata = reader.metadata()
        return Database(
            path, stamp, reader, type=str(metadata.database_type)[:100], built=_moment(metadata.build_epoch),
            nodes=int(metadata.node_count), has_ipv6=metadata.ip_version == 6, copied=stamp.size if copied else 0,
        )  # fmt: skip
    except Exception as error:
        if reader is not None:
            reader.close()
        raise DamagedDatabaseError("no database in MaxMind's format, or a damaged one") from error


def _reader_of_copy(descriptor: int) -> "Reader | None":
    """Return a reader of a copy that nobody else can change; None where that cannot be had here."""
    import maxminddb  # noqa: PLC0415

    try:
        copy = os.memfd_create("geoip", os.MFD_CLOEXEC)
    except OSError:
        return None
    try:
        offset = 0
        while sent := os.sendfile(copy, descriptor, offset, 1 << 30):
            offset += sent
        return maxminddb.open_database(f"/proc/self/fd/{copy}", maxminddb.MODE_MMAP_EXT)
    except (OSError, ValueError):  # no memory, no /proc; or maxminddb has no compiled part
        return None
    finally:
        os.close(copy)


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
        many: thousands of addresses are going to be asked, so databases are copied into memory.
    """

    def __init__(self, patterns: Iterable[str], report: Callable[[str], None], *, many: bool = False) -> None:
        self._patterns = list(patterns)
        self._report = report
        self._copy_limit_bytes = COPY_LIMIT_BYTES if many else 0
        # Those that are reported, until they are well again; with their stamps, where there is no use in trying again.
        self._faulty: dict[str, Stamp | None] = {}
        self._databases: list[Database] = []
        self._cache: dict[str, Object] = {}
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

    def of(self, address: str | None) -> Object:
        """
        Return what is known of an address, to be merged into ``source``; ``{}`` where it is none. Never raises.

        ``geo`` and ``as`` are as in ECS; ``geo.name`` says what an address that is no public one is. ``anonymous`` lists what
        hides who is behind it. The object is shared: change nothing in it.
        """
        if address is None or not self._patterns:
            return {}
        if time.monotonic() >= self._next_check_s:
            self._check()
        found = self._cache.get(address)
        if found is None:
            ip = ip_of(address)
            if ip is None:
                return {}
            found = self._looked_up(ip)
            if len(self._cache) >= CACHE_LIMIT:
                self._cache.clear()
            self._cache[address] = found
        return found

    def add(self, event: Object) -> Object:
        """Return an event of ECS with what is known of its source's address."""
        source = event.get("source")
        if source and (found := self.of(source.get("ip"))):
            source.update(found)
        return event

    def text(self, address: str | None) -> str:
        """Return a place in a few words, as ``place_text`` does."""
        return place_text(self.of(address))

    def _looked_up(self, ip: Address) -> Object:
        tunnel, ip = inner(ip) or ("", ip)
        special = special_name(ip)
        name = ", ".join(filter(None, (tunnel, special)))
        found: Object = {"geo": {"name": name}} if name else {}
        # A copy: one that turns out to be damaged is taken out.
        for database in () if special else self._databases[:]:
            try:
                more = fields_of(database.record(ip))
            except Exception:  # noqa: BLE001 - whatever a damaged file makes of the reader
                self._databases.remove(database)
                database.reader.close()
                self._fault(database.path, database.stamp, "damaged; the others are asked without it")
                continue
            _merge(found, more)
        return found

    def _check(self) -> None:
        """Open what is new, let go of what is gone, and open anew what was replaced."""
        self._next_check_s = time.monotonic() + _CHECK_S
        was = {database.path: database for database in self._databases}
        databases: list[Database] = []
        for path in self._paths():
            try:
                stamp = Stamp.of(Path(path).stat())
                known = was.get(path)
                if known is not None and known.stamp == stamp:
                    databases.append(was.pop(path))
                elif self._faulty.get(path) != stamp:
                    copied = sum(database.copied for database in databases)
                    databases.append(open_database(path, max(0, self._copy_limit_bytes - copied)))
                    self._faulty.pop(path, None)
            except OSError as error:
                self._fault(path, None, error.strerror or "cannot be read")
            except DamagedDatabaseError as error:
                self._fault(path, stamp, str(error))
        if databases != self._databases:
            self._cache.clear()
        self._databases = databases
        for database in was.values():
            database.reader.close()

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


def _merge(found: Object, more: Object) -> None:
    """Add what is not known yet. One that takes an address to be in another country knows nothing of its city either."""
    for name, value in more.items():
        if name == "geo":
            geo = found.setdefault("geo", {})
            ours, theirs = geo.get("country_iso_code"), value.get("country_iso_code")
            if not (ours and theirs and ours != theirs):
                geo.update({key: one for key, one in value.items() if key not in geo})
        elif name == "anonymous":
            found[name] = list(dict.fromkeys([*found.get(name, []), *value]))
        else:
            found.setdefault(name, value)


def place_text(source: Object) -> str:
    """
    Return a place in a few words, such as ``Lyon, FR, AS3215``, out of the fields of ``source``; "" where none is known.

    Its names are the database's, which may hold anything: make them harmless where they are shown.
    """
    geo, network = source.get("geo", {}), source.get("as", {})
    parts: list[Any] = [
        geo.get("city_name") or geo.get("region_name"),
        geo.get("country_iso_code") or geo.get("country_name"),
        f"AS{network['number']}" if "number" in network else "",
        *source.get("anonymous", []),
        geo.get("name"),
    ]
    return ", ".join(filter(None, parts))
