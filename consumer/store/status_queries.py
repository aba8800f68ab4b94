"""Queries of ``sshbell status``: the figures of ``run``, and the state of each channel."""

from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path

import msgspec

from consumer.errors import StoreError
from consumer.state_dir import shards_in
from consumer.store.database import DELIVERY_DB
from consumer.store.delivery_rows import Budget
from consumer.store.reader import Store, path_of, reader_of
from consumer.store.rows import Whole, checked
from consumer.store.state import UNKNOWN_NOTE


class StoreState(msgspec.Struct):
    """The figures and notes that ``run`` keeps in ``state.db``, and the messages that are not routed yet."""

    figures: dict[str, Whole]
    notes: dict[str, str]
    unrouted: int
    oldest_us: Whole | None


def notes_of_unknown(store: Store) -> list[str]:
    """
    Return the notes about lines that no rule reads: that of ``run``, or those of all partitions of workers.

    Raises:
        StoreError: the store does not exist or cannot be read.
    """
    with closing(reader_of(store, is_optional=False)) as reader:
        rows = reader.rows(f"SELECT text FROM note WHERE name LIKE '%{UNKNOWN_NOTE}' ORDER BY name")  # noqa: S608 - ours
    return checked(path_of(store), [text for (text,) in rows], list[str])


class ChannelState(msgspec.Struct):
    """
    A channel in ``delivery.db``. ``pending``, ``held`` and ``dead`` count messages: those to send, those in holds, dead letters.
    ``spent``: used-up budgets, with their messages.
    """

    pending: int = 0
    held: int = 0
    dead: int = 0
    oldest_us: Whole | None = None
    last_success_us: Whole | None = None
    last_error_us: Whole | None = None
    last_error: str | None = None
    spent: list[tuple[Budget, int]] = msgspec.field(default_factory=list)


def delivered(store: Store) -> tuple[int, dict[str, ChannelState]]:
    """
    Return the number of the last routed message, and the state of each channel.

    Raises:
        StoreError: ``delivery.db`` does not exist or cannot be read.
    """
    channels: dict[str, ChannelState] = {}
    with closing(reader_of(store, DELIVERY_DB, is_optional=False)) as reader:
        ((seq,),) = reader.rows("SELECT coalesce(max(seq), 0) FROM cursor")
        for name, *times in reader.rows("SELECT name, last_success_us, last_error_us, last_error FROM channel"):
            channels[name] = ChannelState(0, 0, 0, None, *times)
        for name, state, count, oldest_us in reader.rows(
            "SELECT channel, state, count(*), min(max(queued_us, free_us)) FROM delivery"
            " WHERE state = 'pending' AND hold = '' GROUP BY channel, state"
            " UNION ALL SELECT channel, 'held', count(*), NULL FROM delivery"
            " WHERE state = 'pending' AND hold <> '' GROUP BY channel"
            " UNION ALL SELECT channel, state, count(*), NULL FROM delivery WHERE state = 'dead' GROUP BY channel, state"
        ):
            channel = channels.setdefault(name, ChannelState())
            match state:
                case "dead":
                    channel.dead = count
                case "held":
                    channel.held = count
                case _:
                    channel.pending, channel.oldest_us = count, oldest_us
        path = store / DELIVERY_DB if isinstance(store, Path) else path_of(store)
        for name, budget, tokens, tokens_us, count in reader.rows(
            "SELECT budget.channel, name, tokens, tokens_us, count(*)"
            " FROM budget JOIN delivery ON delivery.channel = budget.channel AND delivery.budget = name"
            " WHERE tokens < 1 AND state = 'pending' AND hold = '' AND seq > 0 GROUP BY budget.channel, name, tokens, tokens_us"
        ):
            spent = channels.setdefault(name, ChannelState()).spent
            spent.append((checked(path, (budget, tokens, tokens_us), Budget), count))
    return checked(path, seq, int), checked(
        path, {name: msgspec.structs.asdict(one) for name, one in channels.items()}, dict[str, ChannelState]
    )


def stored(store: Store, routed_seq: int) -> StoreState:
    """
    Return the figures and notes of ``run``, and how many messages wait after ``routed_seq``. Those of shards are added.

    ``notes_of_unknown`` returns the notes that this leaves out.

    Raises:
        StoreError: ``state.db`` does not exist or cannot be read.
    """
    with closing(reader_of(store, is_optional=False)) as reader:
        # In PostgreSQL, deliver gives messages their numbers when it sees them.
        ((unrouted, oldest_us),) = reader.rows(
            "SELECT count(*), min(queued_us) FROM outbox WHERE seq > ? OR seq IS NULL", (routed_seq,)
        )
        values = {
            "figures": _added_up(reader.rows("SELECT name, value FROM status")),
            "notes": dict(reader.rows(f"SELECT name, text FROM note WHERE name NOT LIKE '%{UNKNOWN_NOTE}'")),  # noqa: S608 - ours
            "unrouted": unrouted, "oldest_us": oldest_us,
        }  # fmt: skip
    whole = checked(path_of(store), values, StoreState)
    for folder in shards_in(store).values() if isinstance(store, Path) else ():
        with suppress(StoreError):  # sshbell status reports it
            _add(whole, stored(folder, 0))
    return whole


def _added_up(rows: Sequence[tuple[object, ...]]) -> dict[str, object]:
    """Return figures by name. Those of the partitions of workers, such as ``sshbell/3/lines_total``, are added up."""
    figures: dict[str, object] = {}
    for name, value in rows:
        _partition, _, plain = str(name).rpartition("/")
        known = figures.get(plain)
        if isinstance(known, int) and isinstance(value, int):
            value = max(known, value) if plain.endswith("_us") else known + value  # noqa: PLW2901
        figures[plain] = value
    return figures


def _add(whole: StoreState, part: StoreState) -> None:
    """Add the figures of a shard to those of the ``run`` that gathers."""
    for name, value in part.figures.items():
        if name.endswith("_total"):
            whole.figures[name] = whole.figures.get(name, 0) + value
        elif name == "last_line_us":
            whole.figures[name] = max(whole.figures.get(name, 0), value)
    for name in ("unmatched", "unframed"):
        if text := part.notes.get(name):
            whole.notes.setdefault(name, text)
