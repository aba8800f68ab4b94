"""The outbox of ``state.db`` for ``sshbell deliver``. The file may not exist yet, and ``run`` may replace it."""

from pathlib import Path
from typing import NamedTuple

from consumer.actions import EXPENDABLE_ACTIONS
from consumer.store.reader import Reader, reader_of

_NOISE = tuple(map(str, EXPENDABLE_ACTIONS))  # its repr is an SQL list


class OutboxPosition(NamedTuple):
    """A place in the outbox: the number and the event id of a message. 0 and "": before the first one."""

    seq: int = 0
    event_id: str = ""


class Queued(NamedTuple):
    """A message in the outbox. ``queued_us`` is the wall clock when ``run`` queued it; ``body`` is the event as JSON."""

    seq: int
    event_id: str
    action: str
    queued_us: int
    body: bytes

    @property
    def is_noise(self) -> bool:
        """Whether strangers or local users can cause any number of such messages."""
        return self.action in EXPENDABLE_ACTIONS


class Outbox:
    """Reads messages in order."""

    def __init__(self, state_dir: Path) -> None:
        self._state: Reader = reader_of(state_dir, is_optional=True)

    def close(self) -> None:
        """Close the file."""
        self._state.close()

    def since(self, seq: int, limit: int) -> list[Queued]:
        """
        Return messages after ``seq``; none if there is no file yet.

        Raises:
            StoreError: it cannot be read now.
        """
        rows = self._state.rows(
            "SELECT seq, event_id, action, queued_us, body FROM outbox WHERE seq > ? ORDER BY seq LIMIT ?", (seq, limit)
        )
        return [Queued(*row) for row in rows]

    def ahead(self, seq: int, limit: int) -> tuple[list[Queued], OutboxPosition | None]:
        """
        Look at ``limit`` messages after ``seq``; return those that are no noise, in order, and the last one looked at.

        Raises:
            StoreError: it cannot be read now.
        """
        rows = self._state.rows(
            "SELECT seq, event_id, action, queued_us,"  # noqa: S608 - our own names
            f" CASE WHEN action NOT IN {_NOISE} THEN body END FROM outbox WHERE seq > ? ORDER BY seq LIMIT ?",
            (seq, limit),
        )
        return [Queued(*row) for row in rows if row[4] is not None], OutboxPosition(*rows[-1][:2]) if rows else None

    def is_behind(self, position: OutboxPosition) -> bool:
        """
        Return whether ``state.db`` is a new file, so that its message of this number is another one.

        Raises:
            StoreError: it cannot be read now.
        """
        seq, event_id = position
        if not seq:
            return False
        # One query, so that both values come from the same file.
        rows = self._state.rows(
            "SELECT (SELECT seq FROM sqlite_sequence WHERE name = 'outbox'), (SELECT event_id FROM outbox WHERE seq = ?)", (seq,)
        )
        if not rows:  # there is no file
            return False
        ((last, here),) = rows
        # run deletes old messages, so a missing row proves nothing.
        return last is None or last < seq or here not in {None, event_id}
