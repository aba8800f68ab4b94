"""
Downloads a file for ``sshbell geoip fetch``, of bounded size.

It uses urllib rather than aiohttp, because one alarm then limits everything: the name server, each byte of the headers, and the
unpacking. aiohttp would need a loop of our own for redirects as well, and its thread that asks the name server cannot be stopped.
"""

import os
import ssl
from collections.abc import Callable
from contextlib import suppress
from email.utils import formatdate, parsedate_to_datetime
from http.client import HTTPException, HTTPResponse, InvalidURL
from pathlib import Path
from typing import IO
from urllib.error import HTTPError, URLError
from urllib.request import HTTPRedirectHandler, Request, build_opener

from consumer import __version__
from consumer.addresses import is_https_or_local
from consumer.clock import SECOND_US, now_us
from consumer.errors import ConfigError, DataError, InputError, OutputError, TryLaterError, UsageError
from consumer.places.wanted_database import WantedDatabase, shown_url, url_parts
from consumer.text import harmless

DOWNLOAD_LIMIT_BYTES = 1 << 30
# Between two pieces of a file.
SILENCE_LIMIT_S = 30.0
CHUNK_BYTES = 1 << 18

# Gets the number of received bytes, and the total if it is known.
Progress = Callable[[int, int | None], None]


class _Redirects(HTTPRedirectHandler):
    """Follows a redirect only to https, or on this machine: so nobody on the network can change the data."""

    def redirect_request(self, req: Request, fp: IO[bytes], code: int, msg: str, headers: object, newurl: str) -> Request | None:
        if not newurl.startswith("https:") and not (_is_local(req.full_url) and _is_local(newurl)):
            raise DataError(f"{shown_url(req.full_url)}: redirects to {shown_url(newurl)}, which is not https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]


def _is_local(url: str) -> bool:
    return url.startswith("http:") and is_https_or_local(url)


def download(wanted: WantedDatabase, to: Path, have_s: float | None, progress: Progress) -> float | None:
    """
    Download the first URL of a database that exists.

    Args:
        wanted: has the URLs.
        to: a path for the file.
        have_s: the time of the file that it replaces, in seconds since 1970; None if there is none.
        progress: gets the number of bytes.

    Returns:
        The time of the new file, in seconds since 1970; None if ``have_s`` is no older.

    Raises:
        SshbellError: it failed.
    """
    for url in wanted.urls[:-1]:
        with suppress(_NotThereError):
            return _download_one(url, wanted.authorization, to, have_s, progress)
    return _download_one(wanted.urls[-1], wanted.authorization, to, have_s, progress)


class _NotThereError(InputError):
    """404."""


def _download_one(url: str, authorization: str, to: Path, have_s: float | None, progress: Progress) -> float | None:
    shown = shown_url(url)
    if "@" in url_parts(url).netloc or not is_https_or_local(url):
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
    with created_file(to) as out:
        # Take the bytes that have arrived, so that a server cannot stretch the wait with a byte now and then.
        while piece := answer.read1(CHUNK_BYTES):
            received += len(piece)
            if received > DOWNLOAD_LIMIT_BYTES:
                raise DataError(f"{shown}: it has more than {DOWNLOAD_LIMIT_BYTES:,} bytes, the most that sshbell downloads")
            write_piece(out, piece, to)
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


def created_file(path: Path) -> IO[bytes]:
    """Create a file that only its owner can read, in place of one of that name."""
    path.unlink(missing_ok=True)  # left over from a killed process
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600), "wb")


def write_piece(out: IO[bytes], piece: bytes, path: Path) -> None:
    """
    Write a part of a file.

    Raises:
        OutputError: it cannot, or the disk would become too full.
    """
    try:
        found = os.fstatvfs(out.fileno())
        # Leave room on the disk for others, such as sshbell's own journal. Some file systems do not report their size.
        if found.f_blocks and out.tell() + len(piece) > found.f_bavail * found.f_frsize:
            raise OutputError(f"{path.parent}: it would take more than half of the free space on this disk")
        out.write(piece)
    except OSError as error:
        # The network's errors have another meaning.
        raise OutputError(f"{path}: {error.strerror}") from error
