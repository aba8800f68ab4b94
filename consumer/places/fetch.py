"""
``sshbell geoip fetch``: downloads a database to a folder, whole and verified, or not at all.

Data from a server is hostile until it is verified. Its size and the time are bounded, and sshbell never uses an archive's names.
The file replaces the old one only after sshbell has looked up addresses in it.
"""

import errno
import fcntl
import io
import os
import pwd
import signal
import stat
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from gzip import BadGzipFile, GzipFile
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import IO

from consumer.ecs import NO_SOURCE, SourceFields
from consumer.errors import DataError, OutputError, TryLaterError
from consumer.places.database import DamagedDatabaseError, Database, open_database
from consumer.places.download import CHUNK_BYTES, Progress, created_file, download, write_piece
from consumer.places.geo_record import fields_of
from consumer.places.wanted_database import WantedDatabase, shown_url
from consumer.text import harmless

UNPACKED_LIMIT_BYTES = 2 << 30
# A packed database has a third to a tenth of its size. A large one that grows more than this is an archive bomb.
GROWTH_LIMIT = 50
_SMALL_BYTES = 64 << 20
# For one file.
FETCH_LIMIT_S = 1800.0
# The most networks and gaps of a database to look at, because a hostile tree may have too many to visit.
_STEPS_LIMIT = 5000


def fetched(wanted: WantedDatabase, folder: Path, progress: Progress) -> str:
    """
    Download a database to ``folder``, and replace the old one if the new one is newer; return one line about the outcome.

    Call it in the main thread: an alarm limits the time.

    Raises:
        SshbellError: it failed, and the old database is unchanged.
    """
    target = folder / wanted.name
    try:
        with _alone(folder), _deadline(shown_url(wanted.urls[0])):
            packed, unpacked = folder / f".{wanted.name}.packed", folder / f".{wanted.name}.unpacked"
            try:
                modified_s = download(wanted, packed, _modified_s(target), progress)
                if modified_s is None:
                    return f"{target}: up to date"
                _unpack(packed, unpacked, shown_url(wanted.urls[0]))
                description = _verified(unpacked, shown_url(wanted.urls[0]))
                _put(unpacked, target, modified_s)
            finally:
                packed.unlink(missing_ok=True)
                unpacked.unlink(missing_ok=True)
    except PermissionError as error:
        raise _closed(folder, error.errno) from error
    except OSError as error:
        raise OutputError(f"{error.filename or folder}: {error.strerror}") from error
    return f"{target}: {description}"


def check_folder(folder: Path) -> None:
    """
    Make sure that sshbell can write databases to a folder, before it downloads anything.

    Raises:
        OutputError: it cannot.
    """
    try:
        if not stat.S_ISDIR(folder.stat().st_mode):
            raise OutputError(f"{folder}: it is not a directory; give one for the databases with --to")
    except PermissionError as error:
        raise _closed(folder, error.errno) from error
    except OSError as error:
        raise OutputError(
            f"{folder}: {error.strerror}; create it, and let the user {_own_name()} write there: mkdir -p {folder}"
        ) from error
    if not os.access(folder, os.W_OK | os.X_OK, effective_ids=True):
        raise _closed(folder, errno.EROFS if os.statvfs(folder).f_flag & os.ST_RDONLY else errno.EACCES)


def _closed(folder: Path, number: int | None) -> OutputError:
    # Root has become another user by now, which an administrator may not expect.
    why = os.strerror(number or errno.EACCES)
    return OutputError(f"{folder}: {why}; let the user {_own_name()} write there")


def _own_name() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return f"uid {os.geteuid()}"


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise TryLaterError(f"{folder}: another sshbell geoip fetch is using it") from None
    finally:
        os.close(descriptor)


@contextmanager
def _deadline(shown: str) -> Iterator[None]:
    """Limit the time of everything in the block, name servers and trickling headers included."""

    def over(_signal: int, _frame: object) -> None:
        raise TryLaterError(f"{shown}: not complete within {FETCH_LIMIT_S:.0f} s")

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, FETCH_LIMIT_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _modified_s(path: Path) -> float | None:
    """Return the time of an existing database; None if there is none, or it is damaged."""
    try:
        with closing(open_database(str(path))):
            return path.stat().st_mtime
    except (OSError, DamagedDatabaseError):
        return None


class _Unpacked(io.RawIOBase):
    """
    The content of a file, without its gzip, read in bounded pieces and up to a bounded length.

    tarfile would read a header of any length into memory; here it gets none that is longer than a piece.
    """

    def __init__(self, file: IO[bytes] | GzipFile, packed_bytes: int) -> None:
        self._file = file
        self._limit = min(UNPACKED_LIMIT_BYTES, max(_SMALL_BYTES, GROWTH_LIMIT * packed_bytes))

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= CHUNK_BYTES or self._file.tell() > self._limit:
            raise DataError(f"more than {self._limit:,} bytes unpacked, or an archive with oversized headers")
        return self._file.read(size)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_SET and offset > self._limit:
            raise DataError(f"more than {self._limit:,} bytes unpacked")
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()


def _unpack(packed: Path, unpacked: Path, shown: str) -> None:
    """Write the database that a file is or contains. Its content decides about the form, not its name."""
    try:
        with packed.open("rb") as file, created_file(unpacked) as out:
            is_gzip = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            content = _Unpacked(GzipFile(fileobj=file) if is_gzip else file, packed.stat().st_size)
            is_tar = content.read(512)[257:262] == b"ustar"
            content.seek(0)
            member = _member(content) if is_tar else content
            while piece := member.read(CHUNK_BYTES):
                write_piece(out, piece, unpacked)
            # Read to the end, where gzip has its checksum.
            while is_tar and content.read(CHUNK_BYTES):
                pass
    except DataError as error:
        raise DataError(f"{shown}: {error}") from None
    except (EOFError, BadGzipFile, zlib.error, tarfile.TarError) as error:
        raise DataError(f"{shown}: a damaged archive ({error})") from error


def _member(content: _Unpacked) -> IO[bytes] | io.RawIOBase:
    """Return the database in an archive, found by its name, which sshbell does not use for anything else."""
    with tarfile.open(fileobj=content, mode="r:") as archive:
        for number, member in enumerate(archive):
            if number > 1000:
                break
            if member.isreg() and not member.issparse() and member.name.endswith(".mmdb"):
                found = archive.extractfile(member)
                assert found is not None
                return found
    raise DataError("the archive contains no .mmdb file")


def _verified(path: Path, shown: str) -> str:
    """Open a database and look up addresses all over the world; return a short description of it."""
    try:
        database = open_database(str(path))
    except DamagedDatabaseError as error:
        raise DataError(f"{shown}: {error}") from error
    with closing(database):
        try:
            known = sum(found != NO_SOURCE for found in _samples(database))
        except Exception as error:
            raise DataError(f"{shown}: a damaged database ({type(error).__name__})") from error
    if not known:
        raise DataError(f"{shown}: a database with neither places nor networks ({harmless(database.type)})")
    made = f"{database.built:%Y-%m-%d}" if database.built else "no date"
    return harmless(f"{database.type}, {made}, {database.stamp.size:,} bytes")


def _samples(database: Database) -> Iterator[SourceFields]:
    for first in range(1, 224):
        yield database.fields(first << 24 | 0x010101, 32)
    for first in (0x2001, 0x2400, 0x2600, 0x2800, 0x2A00, 0x2C0F):
        for second in range(0, 0x10000, 0x400):
            yield database.fields((first << 16 | second) << 96 | 1, 128)
    # For a database of few addresses, such as those of anonymous networks: the first networks of its tree.
    bits = 128 if database.has_ipv6 else 32
    number = 0
    for _ in range(_STEPS_LIMIT):
        address = IPv6Address(number) if bits == 128 else IPv4Address(number)
        record, length = database.records.get_with_prefix_len(address)
        yield fields_of(record)
        number = (number >> bits - length) + 1 << bits - length
        if number >> bits:
            break


def _put(unpacked: Path, target: Path, modified_s: float) -> None:
    """Rename a file to its place, readable by all who may read the folder."""
    unpacked.chmod(0o600 | (target.parent.stat().st_mode & 0o044))
    os.utime(unpacked, (modified_s, modified_s))
    descriptor = os.open(unpacked, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    unpacked.replace(target)
    descriptor = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
