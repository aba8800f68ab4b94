"""The keys of other hosts, in ``keys.db``. The file may not exist yet, and an import may replace it."""

import json
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path

import msgspec

from consumer.errors import StoreError
from consumer.store.database import DatabaseReader, open_for_writing, transaction
from consumer.store.rows import Whole, checked

NAME = "keys.db"
_FOUND = (
    "SELECT account, comment, options, authority, exported_us FROM key JOIN host ON name = host"
    " WHERE host = ? AND {} = ? ORDER BY number LIMIT 100"
)
_BY_MD5, _BY_SHA256 = _FOUND.format("md5"), _FOUND.format("sha256")


class KeyRow(msgspec.Struct, frozen=True):
    """A line of an export. ``keys.sql`` describes the columns."""

    sha256: str
    account: str
    number: int
    md5: str
    comment: str
    options: list[str]
    is_authority: bool


class FoundKey(msgspec.Struct, frozen=True):
    """
    A line that allows a key, or an authority, on a host.

    Attributes:
        account: the account that the line opens; "" for all accounts.
        comment: usually the owner; hostile text.
        exported_us: when its host exported it.
    """

    account: str
    comment: str
    options: list[str]
    is_authority: bool
    exported_us: Whole


class Keys:
    """
    Finds keys.

    Each method raises a StoreError if it cannot read an existing file, and a ValueError if a text is invalid.
    """

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / NAME
        self._file = DatabaseReader(self._path, is_optional=True)

    def found(self, host: str, fingerprint: str) -> list[FoundKey]:
        """Return the first 100 lines of a host that allow a key. ``fingerprint`` begins with ``MD5:`` or ``SHA256:``."""
        rows = self._file.rows(_BY_MD5 if fingerprint.startswith("MD5:") else _BY_SHA256, (host, fingerprint))
        return [
            checked(self._path, dict(zip(FoundKey.__struct_fields__, self._taken_apart(*row), strict=True)), FoundKey)
            for row in rows
        ]

    def _taken_apart(
        self, account: object, comment: object, options: object, authority: object, exported_us: object
    ) -> list[object]:
        """Return a row as a FoundKey needs it."""
        try:
            found = msgspec.json.decode(options if isinstance(options, str | bytes) else b"", type=list[str])
        except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
            raise StoreError(f"{self._path}: it has options that sshbell never writes: {error}") from error
        return [account, comment, found, bool(authority), exported_us]

    def all_owned(self) -> list[tuple[str, str, str, str]]:
        """Return host, SHA256 fingerprint, account and comment of all keys except authorities."""
        rows = self._file.rows(
            "SELECT host, sha256, account, comment FROM key WHERE NOT authority ORDER BY host, sha256, account"
        )
        return checked(self._path, rows, list[tuple[str, str, str, str]])

    def exported_before(self, time_us: int) -> list[tuple[str, int]]:
        """Return the hosts whose last export is older than ``time_us``, and the time of that export."""
        rows = self._file.rows("SELECT name, exported_us FROM host WHERE exported_us < ? ORDER BY name", (time_us,))
        return checked(self._path, rows, list[tuple[str, Whole]])


def replace_keys(
    state_dir: Path, host: str, keys: Iterable[KeyRow], exported_us: int, now_us: int, report: Callable[[str], None]
) -> int:
    """
    Replace all keys of a host, and return the number of new ones.

    If ``keys`` raises an error, sshbell keeps all the old keys.

    Args:
        state_dir: the directory of ``keys.db``.
        host: in lower case.
        keys: the new keys.
        exported_us: the time of the export.
        now_us: the wall clock.
        report: gets one line if sshbell sets a damaged file aside.

    Raises:
        StoreError: sshbell cannot write the keys.
    """
    count = 0
    with closing(open_for_writing(state_dir / NAME, report)) as connection, transaction(connection):
        connection.execute("DELETE FROM key WHERE host = ?", (host,))
        connection.execute("INSERT OR REPLACE INTO host VALUES (?, ?, ?)", (host, exported_us, now_us))
        for count, key in enumerate(keys, 1):  # noqa: B007 - used after the loop
            options = json.dumps(key.options)
            connection.execute(
                "INSERT INTO key VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (host, key.sha256, key.account, key.number, key.md5, key.comment, options, key.is_authority),
            )
    return count
