"""
Keys of other hosts, by host, from their ``sshbell keys export``, so that a relay can name the owner of a key.

They are in ``keys.db``. A host can name keys only for itself: the importing side decides which host an import counts for.
"""

from collections.abc import Callable
from itertools import starmap
from pathlib import Path
from typing import TypeVar

from consumer.addresses import is_same_host
from consumer.clock import isoformat, now_us
from consumer.ecs import EcsEvent
from consumer.errors import DataError, StoreError
from consumer.keys.authorized_keys import AuthorizedKey
from consumer.keys.document import Document
from consumer.keys.fields import of_owners
from consumer.keys.fingerprints import canonical
from consumer.store.keys import FoundKey, KeyRow, Keys, replace_keys

# sshbell shows the date of an older export, because its line may have been removed since.
STALE_DAYS = 7
_DAY_US = 86400 * 1_000_000

_T = TypeVar("_T")


class KeyIndex:
    """
    Finds keys in ``keys.db``. The file is optional and may be replaced at any time; a fault in it loses only names.

    Args:
        state_dir: the directory of ``keys.db``.
        report: gets one line, once for each cause, if the file cannot be used.
        clock: the wall clock, in microseconds.
    """

    def __init__(self, state_dir: Path, report: Callable[[str], None], clock: Callable[[], int] = now_us) -> None:
        self._keys = Keys(state_dir)
        self._report = report
        self._reported: set[str] = set()
        self._clock = clock

    def owners(self, host: str, fingerprint: str, user: str | None = None) -> list[FoundKey]:
        """
        Return the lines of a host that allow a key: those of ``user`` if there are any, else all.

        Never raises. ``fingerprint`` is as sshd logs it.
        """
        found = [key for key in self._found(host, fingerprint) if not key.is_authority]
        return [key for key in found if key.account == user] or found

    def authorities(self, host: str, fingerprint: str, user: str | None = None) -> list[FoundKey]:
        """Return the lines of a host that accept an authority's certificates for ``user``. Never raises."""
        return [key for key in self._found(host, fingerprint) if key.is_authority and key.account in {"", user}]

    def of(self, event: EcsEvent) -> EcsEvent:
        """Return the fields to add to an event: the owner of the key or of the authority."""
        host, user = event.host.name, event.user.name or None
        fingerprint, authority = event.ssh.key.fingerprint, event.ssh.certificate.ca_fingerprint
        keys: list[FoundKey] = []
        # With a certificate, the line of its authority opened the account, even if other lines have its key.
        if host and authority:
            keys = self.authorities(host, authority, user)
        elif host and fingerprint:
            keys = self.owners(host, fingerprint, user)
        return of_owners((self._shown(key), key.options, key.is_authority) for key in keys)

    def all_owned(self) -> list[tuple[str, str, str, str]]:
        """Return host, SHA256 fingerprint, account and comment of all keys except authorities. Never raises."""
        return self._asked(self._keys.all_owned)

    def stale_hosts(self) -> list[tuple[str, str]]:
        """Return the hosts whose export is too old, and the day of the export. Never raises."""
        stale = self._asked(self._keys.exported_before, self._stale_us())
        return [(host, _day(exported_us)) for host, exported_us in stale]

    def _stale_us(self) -> int:
        return self._clock() - STALE_DAYS * _DAY_US

    def _found(self, host: str, fingerprint: str) -> list[FoundKey]:
        return self._asked(self._keys.found, host.casefold(), canonical(fingerprint))

    def _shown(self, key: FoundKey) -> str:
        """Return the comment, with the date if it is stale; "" if there is none."""
        is_stale = key.exported_us < self._stale_us()
        return f"{key.comment} (as of {_day(key.exported_us)})" if key.comment and is_stale else key.comment

    def _asked(self, query: Callable[..., list[_T]], *values: object) -> list[_T]:
        try:
            return query(*values)
        except (StoreError, ValueError) as error:
            if str(error) not in self._reported and len(self._reported) < 100:
                self._reported.add(str(error))
                self._report(str(error))
            return []


def imported(state_dir: Path, document: Document, host: str, report: Callable[[str], None], now_us: int) -> int:
    """
    Replace the keys of a host by those of a document, completely or not at all; return how many.

    Raises:
        DataError: the document is invalid, or from another host.
        StoreError: the keys cannot be written.
    """
    head = document.head
    if not is_same_host(head.host, host):
        raise DataError(
            f"{document.place}: {head.host!r} exported it, but you import it for {host!r}; a host can only name its own keys."
            f" If both are the same machine, run there: sshbell keys export --host {host}"
        )
    # A clock that runs ahead must not keep keys fresh.
    exported_us = min(document.time_us, now_us)
    return replace_keys(state_dir, host.casefold(), starmap(_row, document.keys()), exported_us, now_us, report)


def _row(number: int, key: AuthorizedKey) -> KeyRow:
    return KeyRow(key.sha256, key.account, number, key.md5, key.comment, key.options, key.is_authority)


def _day(time_us: int) -> str:
    return isoformat(max(0, time_us))[:10]
