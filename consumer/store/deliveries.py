"""The outbox and the deliveries of ``run`` (SQLite) or of the workers (PostgreSQL)."""

from collections.abc import Callable
from pathlib import Path

from consumer.store.delivery import Delivery
from consumer.store.outbox import Outbox
from consumer.store.reader import Store


def delivery_of(store: Store, report: Callable[[str], None] | None) -> Delivery:
    """
    Open the deliveries.

    Args:
        store: where they are.
        report: as in ``Delivery``. In PostgreSQL, a process that passes it takes the lock of ``deliver``.

    Raises:
        StoreError: they cannot be used now.
    """
    if isinstance(store, Path):
        return Delivery(store, report)
    from consumer.store.postgresql_delivery import PostgresDelivery  # noqa: PLC0415 - it needs psycopg

    return PostgresDelivery(store, is_deliver=report is not None)


def outbox_of(store: Store, delivery: Delivery) -> Outbox:
    """Return the outbox, for the process that writes the deliveries."""
    if isinstance(store, Path):
        return Outbox(store)
    from consumer.store.postgresql_delivery import PostgresDelivery, PostgresOutbox  # noqa: PLC0415 - it needs psycopg

    assert isinstance(delivery, PostgresDelivery)
    return PostgresOutbox(delivery.session)
