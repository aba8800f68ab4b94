"""
Keys of other hosts, by host: what their ``sshbell keys export`` wrote, so that a relay can say whose key it was.

``keys.db`` has them. A host can name keys for itself alone: for which host an import counts is said by whoever imports.
"""

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import msgspec

from consumer.addresses import is_same_host
from consumer.clock import isoformat, now_us
from consumer.ecs import EcsEvent
from consumer.errors import DataError, StoreError
from consumer.keys.document import Document
from consumer.keys.fields import of_owners
from consumer.keys.fingerprints import canonical
from consumer.stamp import Stamp
from consumer.store.database import open_for_writing, reading, transaction

NAME = "keys.db"
# What was written longer ago is shown with its date: the line may be gone since.
STALE_DAYS = 7
_DAY_US = 86400 * 1_000_000


class IndexedKey(msgspec.Struct, frozen=True):
    """
    A line that allows a key on a host, or an authority.

    Attributes:
        account: whose line it is; "" for all accounts.
        comment: the owner, if anything; hostile text.
        as_of: the day on which it was exported, where that is too long ago; else "".
    """

    account: str
    comment: str
    options: list[str]
    is_authority: bool
    as_of: str = ""

    @property
    def shown(self) -> str:
        """The comment, with its date where it is stale; "" where there is none."""
        return f"{self.comment} (as of {self.as_of})" if self.comment and self.as_of else self.comment


class KeyIndex:
    """
    Finds keys. It may be there or not, and be replaced at any time; what is wrong with it costs names only.

    Args:
        state_dir: where ``keys.db`` is.
        report: is told in one line, once for each cause, why nothing can be found.
        clock: the wall clock, in microseconds.
    """

    def __init__(self, state_dir: Path, report: Callable[[str], None], clock: Callable[[], int] = now_us) -> None:
        self._path = state_dir / NAME
        self._report = report
        self._reported: set[str] = set()
        self._clock = clock
        self._file: Stamp | None = None
        self._open = ExitStack()
        self._connection: sqlite3.Connection | None = None

    def close(self) -> None:
        """Close the file."""
        self._open.close()
        self._connection = self._file = None

    def owners(self, host: str, fingerprint: str, user: str | None = None) -> list[IndexedKey]:
        """
        Return the lines of a host that allow a key: those of ``user`` where there are any, else all.

        Never raises. ``fingerprint`` is as sshd logs it.
        """
        found = [key for key in self._found(host, fingerprint) if not key.is_authority]
        return [key for key in found if key.account == user] or found

    def authorities(self, host: str, fingerprint: str, user: str | None = None) -> list[IndexedKey]:
        """Return the lines of a host that accept an authority's certificates for ``user``. Never raises."""
        return [key for key in self._found(host, fingerprint) if key.is_authority and key.account in {"", user}]

    def of(self, event: EcsEvent) -> EcsEvent:
        """Return what to join to an event: whose key it was, and whose authority."""
        host, user = event.host.name, event.user.name or None
        fingerprint, authority = event.ssh.key.fingerprint, event.ssh.certificate.ca_fingerprint
        keys: list[IndexedKey] = []
        # With a certificate it is its authority's line that let somebody in, whatever lines have its key.
        if host and authority:
            keys = self.authorities(host, authority, user)
        elif host and fingerprint:
            keys = self.owners(host, fingerprint, user)
        return of_owners((key.shown, key.options, key.is_authority) for key in keys)

    def all_keys(self) -> Iterator[tuple[str, str, IndexedKey]]:
        """Yield host, SHA256 fingerprint and line of all keys that are no authority's. Never raises."""
        query = "SELECT host, sha256, account, comment FROM key WHERE NOT authority ORDER BY host, sha256, account"
        for host, sha256, account, comment in self._rows(query):
            yield host, sha256, IndexedKey(account, comment, [], is_authority=False)

    def stale_hosts(self) -> list[tuple[str, str]]:
        """Return the hosts whose export is too old, and its day. Never raises."""
        rows = self._rows("SELECT name, exported_us FROM host WHERE exported_us < ? ORDER BY name", self._stale_us())
        return [(host, _day(exported_us)) for host, exported_us in rows]

    def _stale_us(self) -> int:
        return self._clock() - STALE_DAYS * _DAY_US

    def _found(self, host: str, fingerprint: str) -> list[IndexedKey]:
        known = canonical(fingerprint)
        column = "md5" if known.startswith("MD5:") else "sha256"
        rows = self._rows(
            "SELECT account, comment, options, authority, exported_us FROM key JOIN host ON name = host"  # noqa: S608 - our own
            f" WHERE host = ? AND {column} = ? ORDER BY number LIMIT 100",
            host.casefold(),
            known,
        )
        stale_us = self._stale_us()
        return [
            IndexedKey(account, comment, json.loads(options), bool(authority), _day(us) if us < stale_us else "")
            for account, comment, options, authority, us in rows
        ]

    def _rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        try:
            connection = self._current()
            return [] if connection is None else connection.execute(statement, values).fetchall()
        except (sqlite3.Error, StoreError, ValueError) as error:
            self.close()
            if str(error) not in self._reported and len(self._reported) < 100:
                self._reported.add(str(error))
                self._report(f"{self._path}: {error}" if isinstance(error, sqlite3.Error) else str(error))
            return []

    def _current(self) -> sqlite3.Connection | None:
        found = Stamp.of(self._path)
        if found is None:
            self.close()
        elif not found.is_same_file(self._file):
            self.close()
            self._connection = self._open.enter_context(reading(self._path))
            self._file = found
        return self._connection


def imported(state_dir: Path, document: Document, host: str, report: Callable[[str], None], now_us: int) -> int:
    """
    Take a document's keys for those of a host, in place of what was known of it; return how many. It is all or nothing.

    Raises:
        DataError: it is of another host, or not what it should be.
        StoreError: it cannot be written.
    """
    head = document.head
    if not is_same_host(head.host, host):
        raise DataError(
            f"{document.place}: it was exported by {head.host!r}, and is imported for {host!r}: a host names its own keys alone."
            f" If it is the same machine, call it there: sshbell keys export --host {host}"
        )
    name = host.casefold()
    # A clock that is ahead must not keep keys fresh.
    exported_us = min(document.time_us, now_us)
    count = 0
    with closing(open_for_writing(state_dir / NAME, report)) as connection, transaction(connection):
        connection.execute("DELETE FROM key WHERE host = ?", (name,))
        connection.execute("INSERT OR REPLACE INTO host VALUES (?, ?, ?)", (name, exported_us, now_us))
        for count, (number, key) in enumerate(document.keys(), 1):  # noqa: B007 - what is counted
            options = json.dumps(key.options)
            connection.execute(
                "INSERT INTO key VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (name, key.sha256, key.account, number, key.md5, key.comment, options, key.authority),
            )
    return count


def _day(time_us: int) -> str:
    return isoformat(max(0, time_us))[:10]
