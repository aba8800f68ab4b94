"""
``sshbell geoip fetch``: downloads a database to a folder, whole and verified, or not at all.

Data from a server is hostile until it is verified. Its size and the time are bounded, and sshbell never uses an archive's names.
The file replaces the old one only after sshbell has looked up addresses in it.

It uses urllib rather than aiohttp, because one alarm then limits everything: the name server, each byte of the headers, and the
unpacking. aiohttp would need a loop of our own for redirects as well, and its thread that asks the name server cannot be stopped.
"""

import errno
import fcntl
import io
import os
import pwd
import re
import signal
import ssl
import stat
import tarfile
import zlib
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import timedelta
from email.utils import formatdate, parsedate_to_datetime
from gzip import BadGzipFile, GzipFile
from http.client import HTTPException, HTTPResponse, InvalidURL
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import IO, NamedTuple
from urllib.error import HTTPError, URLError
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from consumer import __version__
from consumer.addresses import is_https_or_local
from consumer.clock import SECOND_US, now_us, utc
from consumer.ecs import NO_SOURCE, SourceFields
from consumer.errors import ConfigError, DataError, InputError, OutputError, TryLaterError, UsageError
from consumer.places.database import DamagedDatabaseError, Database, open_database
from consumer.places.geo_record import fields_of
from consumer.text import harmless

DBIP = "https://download.db-ip.com"
MAXMIND = "https://download.maxmind.com"
_DBIP_EDITIONS = ("city", "country", "asn")
DOWNLOAD_LIMIT_BYTES = 1 << 30
UNPACKED_LIMIT_BYTES = 2 << 30
# A packed database has a third to a tenth of its size. A large one that grows more than this is an archive bomb.
GROWTH_LIMIT = 50
_SMALL_BYTES = 64 << 20
# For one file, and between two pieces of it.
FETCH_LIMIT_S = 1800.0
SILENCE_LIMIT_S = 30.0
_CHUNK = 1 << 18
# The most networks and gaps of a database to look at, because a hostile tree may have too many to visit.
_STEPS_LIMIT = 5000

_URL = re.compile(r"[!-~]+")
# The part up to the host, and the part up to a possible secret.
_SHOWN = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*:/+|/*)([^?#]*)")

# Gets the number of received bytes, and the total if it is known.
Progress = Callable[[int, int | None], None]


class Source(NamedTuple):
    """A database to download: the file's name, the URLs to try in order, and the header for authorization."""

    name: str
    urls: list[str]
    authorization: str = ""


def of_dbip(editions: tuple[str, ...], server: str | None) -> list[Source]:
    """
    Return DB-IP's free databases of this month, or of the last month until this month's are published.

    Raises:
        UsageError: DB-IP has no free database of that name.
    """
    for edition in editions:
        if edition not in _DBIP_EDITIONS:
            raise UsageError(
                f"--edition: DB-IP has no free {harmless(edition)[:100]!r}, only {', '.join(_DBIP_EDITIONS)};"
                " MaxMind's need --maxmind-account and --maxmind-key"
            )
    today = utc(now_us())
    months = [f"{day:%Y-%m}" for day in (today, today.replace(day=1) - timedelta(days=1))]
    return [
        Source(
            f"dbip-{edition}-lite.mmdb",
            [f"{_base(server, DBIP)}/free/dbip-{edition}-lite-{month}.mmdb.gz" for month in months],
        )
        for edition in editions or ("city", "asn")
    ]


def of_maxmind(editions: tuple[str, ...], account: str, key: str, server: str | None) -> list[Source]:
    """Return databases of MaxMind, which need an account."""
    authorization = f"Basic {b64encode(f'{account}:{key}'.encode()).decode()}"
    return [
        Source(
            f"{edition}.mmdb",
            [f"{_base(server, MAXMIND)}/geoip/databases/{edition}/download?suffix=tar.gz"],
            authorization,
        )
        for edition in (_plain(edition, edition) for edition in editions or ("GeoLite2-City", "GeoLite2-ASN"))
    ]


def of_url(url: str) -> Source:
    """
    Return the database at a URL; the last part of the path names the file.

    Raises:
        UsageError: that part is not a usable file name.
    """
    name = unquote(_parts(url).path.rpartition("/")[2])
    for suffix in (".gz", ".tgz", ".tar", ".mmdb"):
        name = name.removesuffix(suffix)
    return Source(f"{_plain(name, url)}.mmdb", [url])


def _parts(url: str) -> SplitResult:
    """
    Return the parts of a URL.

    Raises:
        UsageError: it is not a URL.
    """
    with suppress(ValueError):
        parts = urlsplit(url)
        if (parts.port is None or parts.port) and _URL.fullmatch(url):
            return parts
    raise UsageError(f"{_shown(url)}: not a URL; write a character that is not allowed in one as %XX")


def _plain(name: str, whole: str) -> str:
    """Return a name that cannot act as a path, a hidden file or a pattern."""
    if not name.replace("-", "").replace("_", "").replace(".", "").isalnum() or not name.isascii() or name.startswith("."):
        raise UsageError(f"{_shown(whole)!r} names no file; its last part must consist of letters, digits, '-', '_' and '.'")
    return name[:100]


def _base(server: str | None, default: str) -> str:
    return (server or default).rstrip("/")


def fetched(source: Source, folder: Path, progress: Progress) -> str:
    """
    Download a database to ``folder``, and replace the old one if the new one is newer; return one line about the outcome.

    Call it in the main thread: an alarm limits the time.

    Raises:
        SshbellError: it failed, and the old database is unchanged.
    """
    target = folder / source.name
    try:
        with _alone(folder), _deadline(_shown(source.urls[0])):
            packed, unpacked = folder / f".{source.name}.packed", folder / f".{source.name}.unpacked"
            try:
                modified_s = _download(source, packed, _modified_s(target), progress)
                if modified_s is None:
                    return f"{target}: up to date"
                _unpack(packed, unpacked, _shown(source.urls[0]))
                description = _verified(unpacked, _shown(source.urls[0]))
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


# ---------------------------------------------------------------- network


class _Redirects(HTTPRedirectHandler):
    """Follows a redirect only to https, or on this machine: so nobody on the network can change the data."""

    def redirect_request(self, req: Request, fp: IO[bytes], code: int, msg: str, headers: object, newurl: str) -> Request | None:
        if not newurl.startswith("https:") and not (_is_local(req.full_url) and _is_local(newurl)):
            raise DataError(f"{_shown(req.full_url)}: redirects to {_shown(newurl)}, which is not https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]


def _is_local(url: str) -> bool:
    return url.startswith("http:") and is_https_or_local(url)


def _download(source: Source, to: Path, have_s: float | None, progress: Progress) -> float | None:
    """Download the first URL that exists; return the file's time, in seconds since 1970, or None if ``have_s`` is no older."""
    for url in source.urls[:-1]:
        with suppress(_NotThereError):
            return _download_one(url, source.authorization, to, have_s, progress)
    return _download_one(source.urls[-1], source.authorization, to, have_s, progress)


class _NotThereError(InputError):
    """404."""


def _download_one(url: str, authorization: str, to: Path, have_s: float | None, progress: Progress) -> float | None:
    shown = _shown(url)
    if "@" in _parts(url).netloc or not is_https_or_local(url):
        raise UsageError(f"{shown}: use https, or http to this machine, and no password: all users could see it")
    headers = {"User-Agent": f"sshbell/{__version__}", "Accept-Encoding": "identity"}
    if have_s is not None:
        headers["If-Modified-Since"] = formatdate(have_s, usegmt=True)
    request = Request(url, headers=headers)  # noqa: S310 - https, or this machine
    if authorization:
        # MaxMind's server redirects to another one, which must not get the key.
        request.add_unredirected_header("Authorization", authorization)
    try:
        with build_opener(_Redirects).open(request, timeout=SILENCE_LIMIT_S) as answer:
            _receive(answer, to, shown, progress)
            return _made_s(answer.headers.get("Last-Modified"))
    except HTTPError as error:
        error.close()
        if error.code == 304:
            return None
        _refused(error, shown, is_known=bool(authorization))
    except URLError as error:
        reason = error.reason
        text = reason.strerror if isinstance(reason, OSError) and not isinstance(reason, ssl.SSLError) else reason
        raise TryLaterError(f"{shown}: {text or reason}") from error
    except (InvalidURL, ValueError) as error:
        # It is the URL of a redirect. The error's own text may contain all of it.
        raise DataError(f"{shown}: redirects to an invalid URL") from error
    except TimeoutError as error:
        raise TryLaterError(f"{shown}: the server sent nothing for {SILENCE_LIMIT_S:.0f} s") from error
    except (ConnectionError, HTTPException, ssl.SSLError) as error:
        raise TryLaterError(f"{shown}: the connection broke ({type(error).__name__})") from error
    return None


def _refused(error: HTTPError, shown: str, *, is_known: bool) -> None:
    status = harmless(f"{error.code} {error.reason}")[:100]
    match error.code:
        case 404:
            raise _NotThereError(f"{shown}: {status}")
        case 401 | 403 if is_known:
            raise ConfigError(f"{shown}: {status}: the account or its licence key is wrong, or has no right to this edition")
        case 408 | 425 | 429:
            raise TryLaterError(f"{shown}: {status}")
        case code if code >= 500:
            raise TryLaterError(f"{shown}: {status}")
        case _:
            raise InputError(f"{shown}: {status}")


def _receive(answer: HTTPResponse, to: Path, shown: str, progress: Progress) -> None:
    length = answer.headers.get("Content-Length")
    total = int(length) if length is not None and length.isascii() and length.isdigit() else None
    if total is not None and total > DOWNLOAD_LIMIT_BYTES:
        raise DataError(f"{shown}: it has {total:,} bytes; sshbell downloads at most {DOWNLOAD_LIMIT_BYTES:,}")
    received = 0
    with _created(to) as out:
        # Take the bytes that have arrived, so that a server cannot stretch the wait with a byte now and then.
        while piece := answer.read1(_CHUNK):
            received += len(piece)
            if received > DOWNLOAD_LIMIT_BYTES:
                raise DataError(f"{shown}: it has more than {DOWNLOAD_LIMIT_BYTES:,} bytes, the most that sshbell downloads")
            _write(out, piece, to)
            progress(received, total)
    if total is not None and received != total:
        raise TryLaterError(f"{shown}: the connection broke after {received:,} of {total:,} bytes")
    if not received:
        raise DataError(f"{shown}: empty")


def _made_s(text: str | None) -> float:
    now_s = now_us() / SECOND_US
    with suppress(TypeError, ValueError, OverflowError):
        return min(parsedate_to_datetime(text or "").timestamp(), now_s)
    return now_s


def _modified_s(path: Path) -> float | None:
    """Return the time of an existing database; None if there is none, or it is damaged."""
    try:
        with closing(open_database(str(path))):
            return path.stat().st_mtime
    except (OSError, DamagedDatabaseError):
        return None


def _shown(url: str) -> str:
    """Return a URL, or an invalid one, for messages: without password and query, which may be secret."""
    found = _SHOWN.match(url)
    assert found is not None
    host, slash, path = found[2].partition("/")
    return harmless(f"{found[1]}{host.rpartition('@')[2]}{slash}{path}")[:200]


# ---------------------------------------------------------------- files


class _Unpacked(io.RawIOBase):
    """
    The content of a file, without its gzip, read in bounded pieces and up to a bounded length.

    tarfile would read a header of any length into memory; here it gets none that is longer than a piece.
    """

    def __init__(self, file: IO[bytes] | GzipFile, packed_bytes: int) -> None:
        self._file = file
        self._limit = min(UNPACKED_LIMIT_BYTES, max(_SMALL_BYTES, GROWTH_LIMIT * packed_bytes))

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _CHUNK or self._file.tell() > self._limit:
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
        with packed.open("rb") as file, _created(unpacked) as out:
            is_gzip = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            content = _Unpacked(GzipFile(fileobj=file) if is_gzip else file, packed.stat().st_size)
            is_tar = content.read(512)[257:262] == b"ustar"
            content.seek(0)
            member = _member(content) if is_tar else content
            while piece := member.read(_CHUNK):
                _write(out, piece, unpacked)
            # Read to the end, where gzip has its checksum.
            while is_tar and content.read(_CHUNK):
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


def _created(path: Path) -> IO[bytes]:
    path.unlink(missing_ok=True)  # left over from a killed process
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600), "wb")


def _write(out: IO[bytes], piece: bytes, path: Path) -> None:
    try:
        found = os.fstatvfs(out.fileno())
        # Leave room on the disk for others, such as sshbell's own journal. Some file systems do not report their size.
        if found.f_blocks and out.tell() + len(piece) > found.f_bavail * found.f_frsize:
            raise OutputError(f"{path.parent}: it would take more than half of the free space on this disk")
        out.write(piece)
    except OSError as error:
        # The network's errors have another meaning.
        raise OutputError(f"{path}: {error.strerror}") from error
