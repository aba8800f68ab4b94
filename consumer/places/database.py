"""
One open database in MaxMind's format (MMDB), of any maker.

geoip2 reads the types that it knows: MaxMind's, and DB-IP's of the same shapes. maxminddb reads all others. Both use maxminddb's
reader in Python, because a file may be damaged: the compiled reader crashes on a record with a key that is no text (maxminddb
3.2.0; one in fifty of the files that still open after a few bytes were changed). sshbell maps no file: a mapped file that
somebody truncates kills the process. It reads from the disk to look up a few addresses, from memory to look up many.
"""

import os
import stat
from datetime import UTC, datetime
from io import BytesIO
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING

import msgspec

from consumer.addresses import Address
from consumer.ecs import NO_SOURCE, SourceFields
from consumer.places.geo_record import fields_of
from consumer.stamp import Stamp

if TYPE_CHECKING:
    from maxminddb import Reader

    from consumer.places.geoip2_models import ModelReader

# The method of geoip2's reader for a type of database, by a part of the type's name. The first part that fits counts.
_METHODS = {
    "Enterprise": "enterprise",
    "City": "city",
    "Country": "country",
    "GeoLite2-ASN": "asn",
    "GeoIP2-ISP": "isp",
    "GeoIP2-Anonymous-IP": "anonymous_ip",
    "GeoIP-Anonymous-Plus": "anonymous_plus",
}

# Networks with remembered fields, of one database and of one kind of address.
NETWORKS_LIMIT = 32_768


class DamagedDatabaseError(Exception):
    """The file is not a database, or is damaged. The text gives the reason without the file's name."""


class Database(msgspec.Struct):
    """
    One database, open.

    Attributes:
        type: the maker's name for it, such as ``DBIP-City-Lite``.
        built: when the maker built it; None if the file does not say.
        in_memory: the reader holds the whole file in memory.
        records: maxminddb's reader.
        models: geoip2's reader; None for a type that geoip2 does not know.
        networks: the networks of earlier addresses with their fields, by the bits of an address and by ``size``, the number of
            last bits that do not matter. To read a record takes many times as long.
    """

    path: str
    stamp: Stamp
    type: str
    built: datetime | None
    in_memory: bool
    has_ipv6: bool
    records: "Reader"
    models: "ModelReader | None"
    networks: dict[int, dict[int, dict[int, SourceFields]]] = msgspec.field(default_factory=lambda: {32: {}, 128: {}})

    def fields(self, number: int, bits: int) -> SourceFields:
        """
        Return ``geo``, ``as_`` and ``anonymous`` of an address of 32 or 128 bits, as far as the database has them.

        Raises:
            Exception: the file is damaged. The reader raises almost anything then.
        """
        if bits == 128 and not self.has_ipv6:
            return NO_SOURCE
        for size, networks in self.networks[bits].items():
            if (known := networks.get(number >> size)) is not None:
                return known
        found, size = self._looked_up(IPv4Address(number) if bits == 32 else IPv6Address(number))
        if sum(map(len, self.networks[bits].values())) >= NETWORKS_LIMIT:
            self.networks[bits].clear()
        self.networks[bits].setdefault(size, {})[number >> size] = found
        return found

    def _looked_up(self, ip: Address) -> tuple[SourceFields, int]:
        """Return the fields of an address, and the size of its network: how many of the last bits do not matter."""
        if self.models is not None and (modelled := self.models.fields(ip)) is not None:
            found, network = modelled
            return found, ip.max_prefixlen - network.prefixlen if network is not None else 0
        record, length = self.records.get_with_prefix_len(ip)
        return fields_of(record), ip.max_prefixlen - length

    def close(self) -> None:
        """Close the file."""
        self.records.close()
        if self.models is not None:
            self.models.close()


def open_database(path: str, memory_bytes: int = 0) -> Database:
    """
    Open a database, and read all of it into memory if it is no larger than ``memory_bytes``.

    Raises:
        DamagedDatabaseError: the file is not a database, or is damaged.
        OSError: the file cannot be opened.
    """
    # Non-blocking, so that a pipe does not make it wait for a writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        stamp = Stamp.of(descriptor)
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise DamagedDatabaseError(f"a directory; for the databases in it: {path.rstrip('/')}/*.mmdb")
        if stamp is None or not stat.S_ISREG(mode):
            raise DamagedDatabaseError("not a regular file")
        return _opened(path, descriptor, stamp, in_memory=stamp.size <= memory_bytes)
    finally:
        os.close(descriptor)


def _opened(path: str, descriptor: int, stamp: Stamp, *, in_memory: bool) -> Database:
    # Here, because the import takes longer than all of --version.
    from maxminddb import MODE_FD, MODE_FILE, open_database  # noqa: PLC0415

    mode = MODE_FD if in_memory else MODE_FILE
    content = os.pread(descriptor, stamp.size, 0) if in_memory else b""

    def file() -> BytesIO | int:
        """Return a file for a reader, which closes it."""
        return BytesIO(content) if in_memory else os.dup(descriptor)

    records = models = None
    try:
        records = open_database(file(), mode)
        metadata = records.metadata()
        kind = str(metadata.database_type)[:100]
        if (method := next((method for part, method in _METHODS.items() if part in kind), None)) is not None:
            from consumer.places.geoip2_models import ModelReader  # noqa: PLC0415 - as above

            models = ModelReader(file(), mode, method)
        return Database(path, stamp, kind, _moment(metadata.build_epoch), in_memory, metadata.ip_version == 6, records, models)
    except Exception as error:
        if records is not None:
            records.close()
        raise DamagedDatabaseError("not a database in MaxMind's format, or a damaged one") from error


def _moment(epoch: object) -> datetime | None:
    try:
        return datetime.fromtimestamp(epoch, UTC) if isinstance(epoch, int) and epoch > 0 else None
    except (ValueError, OverflowError, OSError):
        return None
