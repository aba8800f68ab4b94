"""``block.db``: the blocks with their reasons, and the allow list. The process ``guard`` is its only writer."""

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import msgspec

from consumer.block.target import Target, network_target, target_of
from consumer.errors import DamagedStoreError, StoreError
from consumer.store.database import DatabaseReader, open_intact, transaction
from consumer.store.rows import Whole, checked

NAME = "block.db"
# The note in state.db with the number of findings that blocked nobody, for each reason, as JSON.
NOT_BLOCKED_NOTE = "not_blocked"
# pam_access reads all of them at each login. Beyond this, those that began first are forgotten. Many go at a time: to find them
# takes longer than to block one more.
BLOCK_LIMIT = 20_000
_KEPT = 19_000
# Entries that have ended, for "sshbell block list --all". Those beyond it go after as many new entries.
ENDED_LIMIT, SHORTEN_AFTER = 20_000, 1000

_Text = Annotated[str, msgspec.Meta(max_length=1000)]
_COLUMNS = "id, target, begin_us, until_us, reason, service, exceptions, removed_us, imported"


class BlockRow(msgspec.Struct, frozen=True):
    """An order to block. ``block.sql`` describes the columns."""

    id: _Text
    target: _Text
    begin_us: Whole
    until_us: Whole
    reason: str
    service: str
    exceptions: list[str]
    removed_us: Whole | None = None
    imported: Whole = 0


class AllowedRow(msgspec.Struct, frozen=True):
    """A row of the allow list. ``block.sql`` describes the columns."""

    source: str
    target: _Text
    reason: str
    until_us: Whole | None


class Blocks:
    """
    Writes ``block.db``. A damaged file stays where it is, so that nothing blocked is forgotten.

    Raises:
        DamagedStoreError: the file can never be used.
        StoreError: the call failed, and changed nothing; it may be repeated.
    """

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / NAME
        self._connection = open_intact(self._path)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def active(self, now_us: int) -> list[BlockRow]:
        """Return the entries that have not ended and that nobody has removed, the oldest first."""
        with transaction(self._connection):
            rows = self._connection.execute(
                f"SELECT {_COLUMNS} FROM entry WHERE until_us > ? AND removed_us IS NULL ORDER BY begin_us, id",  # noqa: S608
                (now_us,),
            ).fetchall()
        return [_row(self._path, row) for row in rows]

    def add(self, rows: Iterable[BlockRow]) -> list[BlockRow]:
        """Store entries; return those whose ids are new."""
        new = []
        with transaction(self._connection):
            for row in rows:
                values = (
                    row.id, row.target, row.begin_us, row.until_us, row.reason, row.service, json.dumps(row.exceptions),
                    row.removed_us, row.imported,
                )  # fmt: skip
                if self._connection.execute("INSERT OR IGNORE INTO entry VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", values).rowcount:
                    new.append(row)
        return new

    def remove(self, targets: Collection[str], now_us: int) -> int:
        """Mark all entries of these targets as removed; return the number of targets that were blocked."""
        removed = 0
        with transaction(self._connection):
            for target in targets:
                removed += self._connection.execute(
                    "UPDATE entry SET removed_us = ? WHERE target = ? AND until_us > ? AND removed_us IS NULL",
                    (now_us, target, now_us),
                ).rowcount > 0  # fmt: skip
        return removed

    def forget(self, now_us: int) -> int:
        """Forget all entries that have ended; return how many."""
        with transaction(self._connection):
            return self._connection.execute("DELETE FROM entry WHERE until_us <= ?", (now_us,)).rowcount

    def shorten(self, now_us: int) -> int:
        """Forget entries, so that no more than the limits are left; return how many of them were still active."""
        with transaction(self._connection):
            active = self._connection.execute("SELECT count(*) FROM entry WHERE until_us > ?", (now_us,)).fetchone()[0]
            kept = _KEPT if active > BLOCK_LIMIT else BLOCK_LIMIT
            self._connection.execute(
                "DELETE FROM entry WHERE id IN"
                " (SELECT id FROM entry WHERE until_us <= ? ORDER BY until_us DESC LIMIT -1 OFFSET ?)",
                (now_us, ENDED_LIMIT),
            )
            return self._connection.execute(
                "DELETE FROM entry WHERE id IN"
                " (SELECT id FROM entry WHERE until_us > ? ORDER BY begin_us DESC, id DESC LIMIT -1 OFFSET ?)",
                (now_us, kept),
            ).rowcount

    def allowed(self) -> list[AllowedRow]:
        """Return the allow list."""
        with transaction(self._connection):
            rows = self._connection.execute("SELECT source, target, reason, until_us FROM allowed").fetchall()
        return [_allowed(self._path, row) for row in rows]

    def set_allowed(self, rows: Iterable[AllowedRow]) -> None:
        """Replace the allow list."""
        with transaction(self._connection):
            self._connection.execute("DELETE FROM allowed")
            self._connection.executemany(
                "INSERT OR REPLACE INTO allowed VALUES (?, ?, ?, ?)",
                [(row.source, row.target, row.reason, row.until_us) for row in rows],
            )

    def commanded(self) -> dict[str, str]:
        """Return the targets for which a block's command has begun, with the service."""
        with transaction(self._connection):
            return dict(self._connection.execute("SELECT target, service FROM commanded"))

    def set_commanded(self, target: str, service: str | None) -> None:
        """Note that the command for a block begins, or with None that the one for its end has ended."""
        with transaction(self._connection):
            if service is None:
                self._connection.execute("DELETE FROM commanded WHERE target = ?", (target,))
            else:
                self._connection.execute("INSERT OR REPLACE INTO commanded VALUES (?, ?)", (target, service))

    def set_notes(self, texts: Mapping[str, str]) -> None:
        """Store texts for ``sshbell status``."""
        with transaction(self._connection):
            self._connection.executemany("INSERT OR REPLACE INTO note VALUES (?, ?)", list(texts.items()))


class StoredBlocks:
    """
    Reads ``block.db`` while ``guard`` writes it. A file that does not exist has no rows.

    Each method raises a StoreError if it cannot read an existing file.
    """

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / NAME
        self._file = DatabaseReader(self._path, is_optional=True)

    def entries(self) -> list[BlockRow]:
        """Return all entries, also those that have ended, the oldest first."""
        rows = self._file.rows(f"SELECT {_COLUMNS} FROM entry ORDER BY begin_us, id")  # noqa: S608 - our own names
        return [_row(self._path, row) for row in rows]

    def allowed(self) -> list[AllowedRow]:
        """Return the allow list."""
        rows = self._file.rows("SELECT source, target, reason, until_us FROM allowed ORDER BY source, target")
        return [_allowed(self._path, row) for row in rows]

    def notes(self) -> dict[str, str]:
        """Return the texts for ``sshbell status``."""
        return checked(self._path, dict(self._file.rows("SELECT name, text FROM note")), dict[str, str])


def _row(path: Path, values: Sequence[object]) -> BlockRow:
    named = dict(zip(BlockRow.__struct_fields__, values, strict=True))
    try:
        exceptions = named["exceptions"]
        named["exceptions"] = msgspec.json.decode(exceptions if isinstance(exceptions, str | bytes) else b"", type=list[str])
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        raise StoreError(f"{path}: it has exceptions that sshbell never writes: {error}") from error
    row = checked(path, named, BlockRow)
    _check_targets(path, target_of, row.target)
    _check_targets(path, network_target, *row.exceptions)
    return row


def _allowed(path: Path, values: Sequence[object]) -> AllowedRow:
    row = checked(path, dict(zip(AllowedRow.__struct_fields__, values, strict=True)), AllowedRow)
    _check_targets(path, network_target, row.target)
    return row


def _check_targets(path: Path, read: Callable[[str], Target], *texts: str) -> None:
    try:
        for text in texts:
            read(text)
    except ValueError as error:
        raise DamagedStoreError(f"{path}: it has a target that sshbell never writes: {error}") from error
