"""
``sshbell geoip fetch``: a database from the network into a folder, whole and looked at, or not at all.

What a server sends is hostile until it was looked at: its size and the time are bounded, an archive's names are never used, and
the file is in nobody's way before it answers as a database does.
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
import time
import zlib
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
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
from consumer.config import is_guarded
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
# A packed database is a third of its size, or a tenth. What grows more, and is no small one, is a bomb.
GROWTH_LIMIT = 50
_SMALL_BYTES = 64 << 20
# Of one file, and between two pieces of it.
FETCH_LIMIT_S = 1800.0
SILENCE_LIMIT_S = 30.0
_CHUNK = 1 << 18
# Networks of a database that are looked at, with the gaps between them: a tree may have more than anybody can walk through.
_STEPS_LIMIT = 5000

_URL = re.compile(r"[!-~]+")
# Up to the host, and up to what may be a secret.
_SHOWN = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*:/+|/*)([^?#]*)")

# Is told how many bytes were received, and of how many, where that is known.
Progress = Callable[[int, int | None], None]


class Source(NamedTuple):
    """What to fetch: the file's name, where it is (the next place is tried where one has none), and what to say there."""

    name: str
    urls: list[str]
    authorization: str = ""


def of_dbip(editions: tuple[str, ...], server: str | None) -> list[Source]:
    """
    Return DB-IP's free databases: of this month, or of the last where this one's are not there yet.

    Raises:
        UsageError: it has no free one of that name.
    """
    for edition in editions:
        if edition not in _DBIP_EDITIONS:
            raise UsageError(
                f"--edition: DB-IP has no {harmless(edition)[:100]!r} for free, but {', '.join(_DBIP_EDITIONS)};"
                " MaxMind's want --maxmind-account and --maxmind-key"
            )
    today = datetime.now(UTC)
    months = [f"{day:%Y-%m}" for day in (today, today.replace(day=1) - timedelta(days=1))]
    return [
        Source(
            f"dbip-{edition}-lite.mmdb",
            [f"{_base(server, DBIP)}/free/dbip-{edition}-lite-{month}.mmdb.gz" for month in months],
        )
        for edition in editions or ("city", "asn")
    ]


def of_maxmind(editions: tuple[str, ...], account: str, key: str, server: str | None) -> list[Source]:
    """Return databases of MaxMind, which wants to know who asks."""
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
    Return whatever is at a URL; the last part of its path names the file.

    Raises:
        UsageError: it cannot be meant.
    """
    name = unquote(_parts(url).path.rpartition("/")[2])
    for suffix in (".gz", ".tgz", ".tar", ".mmdb"):
        name = name.removesuffix(suffix)
    return Source(f"{_plain(name, url)}.mmdb", [url])


def _parts(url: str) -> SplitResult:
    """
    Return the parts of a URL.

    Raises:
        UsageError: it is none.
    """
    with suppress(ValueError):
        parts = urlsplit(url)
        if (parts.port is None or parts.port) and _URL.fullmatch(url):
            return parts
    raise UsageError(f"{_shown(url)}: no URL; a character that none has is written as %XX")


def _plain(name: str, whole: str) -> str:
    """Return a name of which nothing is a path, a hidden file or a pattern."""
    if not name.replace("-", "").replace("_", "").replace(".", "").isalnum() or not name.isascii() or name.startswith("."):
        raise UsageError(f"{_shown(whole)!r} names no file; its last part has to be letters, digits, '-', '_' and '.'")
    return name[:100]


def _base(server: str | None, default: str) -> str:
    return (server or default).rstrip("/")


def fetched(source: Source, folder: Path, progress: Progress) -> str:
    """
    Put a database into ``folder``, in place of the old one if it is newer; return what was done in one line.

    It is for the main thread: the limit of time is an alarm.

    Raises:
        SshbellError: it could not be done, and the old one is as it was.
    """
    target = folder / source.name
    try:
        with _alone(folder), _deadline(_shown(source.urls[0])):
            packed, unpacked = folder / f".{source.name}.packed", folder / f".{source.name}.unpacked"
            try:
                modified_s = _download(source, packed, _modified_s(target), progress)
                if modified_s is None:
                    return f"{target}: nothing newer is there"
                _unpack(packed, unpacked, _shown(source.urls[0]))
                said = _verified(unpacked, _shown(source.urls[0]))
                _put(unpacked, target, modified_s)
            finally:
                packed.unlink(missing_ok=True)
                unpacked.unlink(missing_ok=True)
    except PermissionError as error:
        raise _closed(folder, error.errno) from error
    except OSError as error:
        raise OutputError(f"{error.filename or folder}: {error.strerror}") from error
    return f"{target}: {said}"


def check_folder(folder: Path) -> None:
    """
    Make sure that databases can be put into a folder, before anything is fetched.

    Raises:
        OutputError: they cannot be.
    """
    try:
        if not stat.S_ISDIR(folder.stat().st_mode):
            raise OutputError(f"{folder}: it is no directory; say with --to where to put the databases")
    except PermissionError as error:
        raise _closed(folder, error.errno) from error
    except OSError as error:
        raise OutputError(
            f"{folder}: {error.strerror}; make it, so that {_own_name()} can write there: mkdir -p {folder}"
        ) from error
    if not os.access(folder, os.W_OK | os.X_OK, effective_ids=True):
        raise _closed(folder, errno.EROFS if os.statvfs(folder).f_flag & os.ST_RDONLY else errno.EACCES)


def _closed(folder: Path, number: int | None) -> OutputError:
    # Root has become somebody else by now, which nobody expects of it.
    why = os.strerror(number or errno.EACCES)
    return OutputError(f"{folder}: {why}; who has to be able to write there is {_own_name()}")


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
        raise TryLaterError(f"{folder}: another sshbell geoip fetch is at work there") from None
    finally:
        os.close(descriptor)


@contextmanager
def _deadline(shown: str) -> Iterator[None]:
    """Bound the time of all that is done meanwhile, name servers and trickling headers included."""

    def over(_signal: int, _frame: object) -> None:
        raise TryLaterError(f"{shown}: not here within {FETCH_LIMIT_S:.0f} s")

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, FETCH_LIMIT_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# ---------------------------------------------------------------- network


class _Redirects(HTTPRedirectHandler):
    """Follows a redirect only where nobody on the way can change what comes."""

    def redirect_request(self, req: Request, fp: IO[bytes], code: int, msg: str, headers: object, newurl: str) -> Request | None:
        if not newurl.startswith("https:") and not (_is_local(req.full_url) and _is_local(newurl)):
            raise DataError(f"{_shown(req.full_url)}: leads to {_shown(newurl)}, which is not https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]


def _is_local(url: str) -> bool:
    return url.startswith("http:") and is_guarded(url)


def _download(source: Source, to: Path, have_s: float | None, progress: Progress) -> float | None:
    """Fetch the first of the URLs that is there; return when it was made, in seconds. None: it is not newer than ``have_s``."""
    for url in source.urls[:-1]:
        with suppress(_NotThereError):
            return _download_one(url, source.authorization, to, have_s, progress)
    return _download_one(source.urls[-1], source.authorization, to, have_s, progress)


class _NotThereError(InputError):
    """404."""


def _download_one(url: str, authorization: str, to: Path, have_s: float | None, progress: Progress) -> float | None:
    shown = _shown(url)
    if "@" in _parts(url).netloc or not is_guarded(url):
        raise UsageError(f"{shown}: only https, or http to this machine; and no password, which all users would see")
    headers = {"User-Agent": f"sshbell/{__version__}", "Accept-Encoding": "identity"}
    if have_s is not None:
        headers["If-Modified-Since"] = formatdate(have_s, usegmt=True)
    request = Request(url, headers=headers)  # noqa: S310 - https, or this machine
    if authorization:
        # MaxMind's server leads to another one, which has no business with the key.
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
        # A redirect's, of which the error's own text may hold all.
        raise DataError(f"{shown}: leads to what is no URL") from error
    except TimeoutError as error:
        raise TryLaterError(f"{shown}: nothing came for {SILENCE_LIMIT_S:.0f} s") from error
    except (ConnectionError, HTTPException, ssl.SSLError) as error:
        raise TryLaterError(f"{shown}: the connection broke ({type(error).__name__})") from error
    return None


def _refused(error: HTTPError, shown: str, *, is_known: bool) -> None:
    said = harmless(f"{error.code} {error.reason}")[:100]
    match error.code:
        case 404:
            raise _NotThereError(f"{shown}: {said}")
        case 401 | 403 if is_known:
            raise ConfigError(f"{shown}: {said}: the account or its licence key is wrong, or may not have this edition")
        case 408 | 425 | 429:
            raise TryLaterError(f"{shown}: {said}")
        case code if code >= 500:
            raise TryLaterError(f"{shown}: {said}")
        case _:
            raise InputError(f"{shown}: {said}")


def _receive(answer: HTTPResponse, to: Path, shown: str, progress: Progress) -> None:
    length = answer.headers.get("Content-Length")
    total = int(length) if length is not None and length.isascii() and length.isdigit() else None
    if total is not None and total > DOWNLOAD_LIMIT_BYTES:
        raise DataError(f"{shown}: {total:,} bytes are to come; the most that is taken is {DOWNLOAD_LIMIT_BYTES:,}")
    received = 0
    with _created(to) as out:
        # What is there, so that nobody can keep it waiting with a byte now and then.
        while piece := answer.read1(_CHUNK):
            received += len(piece)
            if received > DOWNLOAD_LIMIT_BYTES:
                raise DataError(f"{shown}: more than {DOWNLOAD_LIMIT_BYTES:,} bytes, which is the most that is taken")
            _write(out, piece, to)
            progress(received, total)
    if total is not None and received != total:
        raise TryLaterError(f"{shown}: the connection broke after {received:,} of {total:,} bytes")
    if not received:
        raise DataError(f"{shown}: empty")


def _made_s(text: str | None) -> float:
    with suppress(TypeError, ValueError, OverflowError):
        return min(parsedate_to_datetime(text or "").timestamp(), time.time())
    return time.time()


def _modified_s(path: Path) -> float | None:
    """Return when what is there was made; None where it is not there, or is no database any more."""
    try:
        with closing(open_database(str(path))):
            return path.stat().st_mtime
    except (OSError, DamagedDatabaseError):
        return None


def _shown(url: str) -> str:
    """Return a URL, or what is meant to be one, for messages: without password and query, which may be secrets."""
    found = _SHOWN.match(url)
    assert found is not None
    host, slash, path = found[2].partition("/")
    return harmless(f"{found[1]}{host.rpartition('@')[2]}{slash}{path}")[:200]


# ---------------------------------------------------------------- files


class _Unpacked(io.RawIOBase):
    """
    What a file holds without its gzip, read in bounded pieces and up to a bounded length.

    tarfile takes a header of any length into memory; here it gets none that is longer than a piece.
    """

    def __init__(self, file: IO[bytes] | GzipFile, packed_bytes: int) -> None:
        self._file = file
        self._limit = min(UNPACKED_LIMIT_BYTES, max(_SMALL_BYTES, GROWTH_LIMIT * packed_bytes))

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _CHUNK or self._file.tell() > self._limit:
            raise DataError(f"more than {self._limit:,} bytes unpacked, or an archive with headers that none needs")
        return self._file.read(size)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_SET and offset > self._limit:
            raise DataError(f"more than {self._limit:,} bytes unpacked")
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()


def _unpack(packed: Path, unpacked: Path, shown: str) -> None:
    """Write the one database that a file is, or holds; by what it holds, not by its name."""
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
            # To the end, where gzip has its checksum.
            while is_tar and content.read(_CHUNK):
                pass
    except DataError as error:
        raise DataError(f"{shown}: {error}") from None
    except (EOFError, BadGzipFile, zlib.error, tarfile.TarError) as error:
        raise DataError(f"{shown}: a damaged archive ({error})") from error


def _member(content: _Unpacked) -> IO[bytes] | io.RawIOBase:
    """Return the database in an archive: its name tells which it is, and is not used otherwise."""
    with tarfile.open(fileobj=content, mode="r:") as archive:
        for number, member in enumerate(archive):
            if number > 1000:
                break
            if member.isreg() and not member.issparse() and member.name.endswith(".mmdb"):
                found = archive.extractfile(member)
                assert found is not None
                return found
    raise DataError("the archive holds no .mmdb file")


def _verified(path: Path, shown: str) -> str:
    """Open a database and look up addresses all over the world; return in a few words what it is."""
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
        raise DataError(f"{shown}: a database that tells neither place nor network ({harmless(database.type)})")
    made = f"{database.built:%Y-%m-%d}" if database.built else "no date"
    return harmless(f"{database.type}, {made}, {database.stamp.size:,} bytes")


def _samples(database: Database) -> Iterator[SourceFields]:
    for first in range(1, 224):
        yield database.fields(first << 24 | 0x010101, 32)
    for first in (0x2001, 0x2400, 0x2600, 0x2800, 0x2A00, 0x2C0F):
        for second in range(0, 0x10000, 0x400):
            yield database.fields((first << 16 | second) << 96 | 1, 128)
    # One that names few addresses, such as those of anonymous networks: the first of its tree.
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
    """Rename a file to its place; who may read the folder may read it."""
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
    path.unlink(missing_ok=True)  # what a kill has left
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600), "wb")


def _write(out: IO[bytes], piece: bytes, path: Path) -> None:
    try:
        found = os.fstatvfs(out.fileno())
        # What others on this disk need, such as our own journal, stays theirs. Some file systems do not say what they have.
        if found.f_blocks and out.tell() + len(piece) > found.f_bavail * found.f_frsize:
            raise OutputError(f"{path.parent}: it would take more than half of what is free on this disk")
        out.write(piece)
    except OSError as error:
        # The network's errors have another meaning.
        raise OutputError(f"{path}: {error.strerror}") from error
