"""Events as bytes, on their way from a shard to the ``run`` that gathers those of all shards: whole, and in order."""

from typing import Any, Final, get_args

import msgspec

from consumer.events import Event, Logout
from consumer.records import TRUSTED, Line

# Their places are the numbers of the kinds. The bytes live no longer than a queue of a shard, so a new kind goes to the end.
_KINDS: Final = get_args(Event)
_NUMBERS: Final = {kind: number for number, kind in enumerate(_KINDS)}
_encoder = msgspec.msgpack.Encoder()
_pair = msgspec.msgpack.Decoder(tuple[int, msgspec.Raw])
_decoders: Final = [msgspec.msgpack.Decoder(kind) for kind in _KINDS]


class EventBatch(msgspec.Struct, frozen=True, array_like=True):
    """
    Consecutive events of one shard.

    Attributes:
        shard: its number.
        created_us: when the shard's store was created. A new store counts from 1 again.
        seq: the number of the last event.
        bodies: the events, as ``encoded`` returns them.
    """

    shard: int
    created_us: int
    seq: int
    bodies: list[bytes]


_batch = msgspec.msgpack.Decoder(EventBatch)


def encoded(event: Event) -> bytes:
    """Return an event as bytes."""
    return _encoder.encode((_NUMBERS[type(event)], event))


def decoded(body: bytes) -> Event:
    """
    Return the event of some bytes.

    Raises:
        ValueError: they are no event.
    """
    number, raw = _pair.decode(body)
    if not 0 <= number < len(_decoders):
        raise ValueError(f"there is no kind {number} of events")
    found: Event = _decoders[number].decode(raw)
    for event in (found, found.login) if isinstance(found, Logout) else (found,):
        # A line is a tuple of any values, so what was a tuple in it has become a list.
        if (trusted := event.line[TRUSTED]) is not None:
            values: list[Any] = list(event.line)
            values[TRUSTED] = tuple(trusted)
            msgspec.structs.force_setattr(event, "line", Line(values))
    return found


def encoded_batch(batch: EventBatch) -> bytes:
    """Return a batch as bytes."""
    return _encoder.encode(batch)


def decoded_batch(payload: bytes) -> EventBatch:
    """
    Return the batch of some bytes.

    Raises:
        ValueError: they are no batch.
    """
    found: EventBatch = _batch.decode(payload)
    return found
