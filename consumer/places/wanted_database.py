"""The databases that ``sshbell geoip fetch`` can download: DB-IP's, MaxMind's, and those at any other URL."""

import re
from base64 import b64encode
from contextlib import suppress
from datetime import timedelta
from typing import NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit

from consumer.clock import now_us, utc
from consumer.errors import UsageError
from consumer.text import harmless

DBIP = "https://download.db-ip.com"
MAXMIND = "https://download.maxmind.com"
_DBIP_EDITIONS = ("city", "country", "asn")

_URL = re.compile(r"[!-~]+")
# The part up to the host, and the part up to a possible secret.
_SHOWN = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*:/+|/*)([^?#]*)")


class WantedDatabase(NamedTuple):
    """A database to download: the file's name, the URLs to try in order, and the header for authorization."""

    name: str
    urls: list[str]
    authorization: str = ""


def of_dbip(editions: tuple[str, ...], server: str | None) -> list[WantedDatabase]:
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
        WantedDatabase(
            f"dbip-{edition}-lite.mmdb",
            [f"{_base(server, DBIP)}/free/dbip-{edition}-lite-{month}.mmdb.gz" for month in months],
        )
        for edition in editions or ("city", "asn")
    ]


def of_maxmind(editions: tuple[str, ...], account: str, key: str, server: str | None) -> list[WantedDatabase]:
    """Return databases of MaxMind, which need an account."""
    authorization = f"Basic {b64encode(f'{account}:{key}'.encode()).decode()}"
    return [
        WantedDatabase(
            f"{edition}.mmdb",
            [f"{_base(server, MAXMIND)}/geoip/databases/{edition}/download?suffix=tar.gz"],
            authorization,
        )
        for edition in (_plain(edition, edition) for edition in editions or ("GeoLite2-City", "GeoLite2-ASN"))
    ]


def of_url(url: str) -> WantedDatabase:
    """
    Return the database at a URL; the last part of the path names the file.

    Raises:
        UsageError: that part is not a usable file name.
    """
    name = unquote(url_parts(url).path.rpartition("/")[2])
    for suffix in (".gz", ".tgz", ".tar", ".mmdb"):
        name = name.removesuffix(suffix)
    return WantedDatabase(f"{_plain(name, url)}.mmdb", [url])


def url_parts(url: str) -> SplitResult:
    """
    Return the parts of a URL.

    Raises:
        UsageError: it is not a URL.
    """
    with suppress(ValueError):
        parts = urlsplit(url)
        if (parts.port is None or parts.port) and _URL.fullmatch(url):
            return parts
    raise UsageError(f"{shown_url(url)}: not a URL; write a character that is not allowed in one as %XX")


def _plain(name: str, whole: str) -> str:
    """Return a name that cannot act as a path, a hidden file or a pattern."""
    if not name.replace("-", "").replace("_", "").replace(".", "").isalnum() or not name.isascii() or name.startswith("."):
        raise UsageError(f"{shown_url(whole)!r} names no file; its last part must consist of letters, digits, '-', '_' and '.'")
    return name[:100]


def _base(server: str | None, default: str) -> str:
    return (server or default).rstrip("/")


def shown_url(url: str) -> str:
    """Return a URL, or an invalid one, for messages: without password and query, which may be secret."""
    found = _SHOWN.match(url)
    assert found is not None
    host, slash, path = found[2].partition("/")
    return harmless(f"{found[1]}{host.rpartition('@')[2]}{slash}{path}")[:200]
