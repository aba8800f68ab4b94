"""The columns of an archive: the fields of an ``EcsEvent``, with their names and groups, as Arrow types."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import msgspec
import pyarrow as pa
from msgspec import inspect
from pyarrow import json

from consumer.ecs import EcsEvent

# Fields that only messages, findings and the lines of ``sshbell parse`` have, or that come from a host's own files.
_LEFT_OUT = frozenset({
    "message", "pam", "threat", "related", "error", "labels", "sshbell", "event.severity", "user.full_name", "source.domain",
    "ssh.key.owner", "ssh.key.options", "ssh.certificate.ca_owner", "ssh.session.id", "ssh.preauth", "ssh.claimed_by_user",
    "ssh.via", "ssh.child_pid", "ssh.connection_pid", "ssh.disconnect_code", "rule.description",
})  # fmt: skip
# Times are texts in JSON, and times in an archive.
_TIMES = frozenset({"@timestamp", "start", "end"})
_TYPES: dict[type[inspect.Type], pa.DataType] = {
    inspect.StrType: pa.string(),
    inspect.IntType: pa.int64(),
    inspect.FloatType: pa.float64(),
    inspect.BoolType: pa.bool_(),
}
# Serial numbers of certificates have 64 bits without a sign, a type that Spark lacks.
_SERIAL = "serial"
_LEAST_TOO_LARGE = {_SERIAL: 10**20}
# Rows of one batch, and bytes of JSON that Arrow reads at once: more than the longest row.
_BATCH_ROWS, _BLOCK_BYTES = 8192, 8 << 20
_encode = msgspec.json.Encoder().encode_lines


def _fields(kind: inspect.Type, path: str = "") -> list[pa.Field]:
    assert isinstance(kind, inspect.StructType)
    found = [(field.encode_name, path + field.encode_name, field.type) for field in kind.fields]
    return [pa.field(name, _type(name, whole, of)) for name, whole, of in found if whole not in _LEFT_OUT]


def _type(name: str, path: str, kind: inspect.Type) -> pa.DataType:
    if isinstance(kind, inspect.UnionType):  # of None and another one
        kind = next(one for one in kind.types if not isinstance(one, inspect.NoneType))
    if name in _TIMES:
        return pa.timestamp("us", tz="UTC")
    if name == _SERIAL:
        return pa.decimal128(20, 0)
    match kind:
        case inspect.VarTupleType():
            return pa.list_(_type("", path, kind.item_type))
        case inspect.StructType():
            return pa.struct(_fields(kind, f"{path}."))
    return _TYPES[type(kind)]


SCHEMA = pa.schema(_fields(inspect.type_info(EcsEvent)))


def batches_of(events: Iterable[EcsEvent]) -> Iterator[pa.RecordBatch]:
    """Yield events as rows. Numbers that no column can hold, of forged lines, are missing."""
    source = iter(events)
    while some := list(islice(source, _BATCH_ROWS)):
        try:
            table = _table(some)
        except pa.ArrowInvalid:
            table = _table([_bounded(msgspec.to_builtins(event)) for event in some])
        yield from table.to_batches()


def _table(rows: list[Any]) -> pa.Table:
    """Return rows as a table. Arrow reads JSON several times faster than objects of Python."""
    return json.read_json(
        pa.py_buffer(_encode(rows)),
        json.ReadOptions(use_threads=False, block_size=_BLOCK_BYTES),
        json.ParseOptions(explicit_schema=SCHEMA, unexpected_field_behavior="ignore"),
    )


def _bounded(fields: dict[str, Any]) -> dict[str, Any]:
    found = {name: _bounded(value) if isinstance(value, dict) else value for name, value in fields.items()}
    return {
        name: value for name, value in found.items() if not isinstance(value, int) or value < _LEAST_TOO_LARGE.get(name, 1 << 63)
    }
