"""Outbox and deliveries in PostgreSQL. All processes of ``deliver`` have them in common, and a lock lets one of them write."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from consumer.store.delivery import Delivery
from consumer.store.delivery_file import Rows
from consumer.store.outbox import Outbox, OutboxPosition, Queued
from consumer.store.postgresql import PostgresSession, in_postgres

# Messages that get their numbers at once.
_PIECE = 5_000
_NUMBER = """
    UPDATE outbox SET seq = new.seq FROM (
        SELECT event_id, nextval('outbox_seq') AS seq
        FROM (SELECT event_id FROM outbox WHERE seq IS NULL ORDER BY added LIMIT %s) AS unnumbered
    ) AS new WHERE outbox.event_id = new.event_id
"""


class PostgresDelivery(Delivery):
    """
    The tables of ``delivery.db`` in PostgreSQL.

    Args:
        database: a connection string.
        is_deliver: this is ``deliver``. Its session has the lock, so no statement of it runs while another one has that.
    """

    def __init__(self, database: str, *, is_deliver: bool) -> None:
        self._path = Path("PostgreSQL")  # for messages
        self._waiting = {}
        self.session = PostgresSession(database, is_deliver=is_deliver)
        self.session.run("SELECT 1")

    def close(self) -> None:
        """Close the connection. The next statement opens another one."""
        self.session.close()

    def has_changed(self) -> bool:
        """Return True: PostgreSQL has no cheap way to find out."""
        self._waiting.clear()
        return True

    def forget_bytes(self) -> None:
        """Do nothing: how large a database may be is its administrator's decision."""

    def _run(self, statement: str, values: Sequence[object] | Mapping[str, object] = ()) -> Rows:
        return self.session.run(in_postgres(statement), values)

    def _rows(self, statement: str, values: Sequence[object] = ()) -> Iterator[tuple[object, ...]]:
        yield from self.session.rows(statement, values)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            with self.session.transaction():
                yield
        except BaseException:
            self._waiting.clear()
            raise

    @contextmanager
    def _unsynced(self) -> Iterator[None]:
        yield


class PostgresOutbox(Outbox):
    """
    The outbox in PostgreSQL. It gives messages their numbers.

    Args:
        session: of the deliveries, so that only the holder of the lock gives numbers.
    """

    def __init__(self, session: PostgresSession) -> None:
        self._session = self._state = session

    def close(self) -> None:
        """Do nothing: the session is that of the deliveries."""

    def ahead(self, seq: int, limit: int) -> tuple[list[Queued], OutboxPosition | None]:
        """See ``Outbox.ahead``. First, give numbers to the messages that have none yet."""
        self._session.run(_NUMBER, (_PIECE,))
        return super().ahead(seq, limit)

    def is_behind(self, position: OutboxPosition) -> bool:  # noqa: ARG002 - the signature of Outbox
        """Return False: deliveries and outbox are in one database."""
        return False
