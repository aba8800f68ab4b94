"""The sample configuration says everything that can be set, and says it right."""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING, Any

import msgspec

from consumer.config import Config
from consumer.config_file import parse

if TYPE_CHECKING:
    from collections.abc import Iterator

from pathlib import Path

SAMPLE = Path(__file__).parents[2] / "consumer/sshbell.toml"
# Shown as an example, because the default would say nothing: the remark above each names its default.
EXAMPLES = {
    "sender",
    "server",
    "port",
    "username",
    "password",
    "oauth2",
    "user",
    "address",
    "method",
    "events",
    "include",
    "exclude",
}
EXAMPLES |= {"host", "person", "group", "country", "asn", "key", "session", "origin", "new"}
EXAMPLES |= {"file", "env", "command", "client_secret", "to", "rooms"}
EXAMPLES |= {"name", "reason", "until", "service"}
EXAMPLES |= {"headers", "body", "bearer", "hmac_key", "ca_file", "client_certificate", "client_key"}


def uncommented() -> str:
    """Return the sample with every key in use: "#" right before a key is what stands in the way."""
    return re.sub(r"^#(?=[a-z\[])", "", SAMPLE.read_text(), flags=re.MULTILINE)


def bare(kind: Any) -> Any:
    """Return a type without its description."""
    return kind.type if isinstance(kind, msgspec.inspect.Metadata) else kind


def shown(kind: Any, value: Any) -> Iterator[tuple[type, str, Any]]:
    """Yield each key that a value of the file has, with the struct that it is of."""
    kind = bare(kind)
    if isinstance(kind, msgspec.inspect.StructType):
        for field in kind.fields:
            if field.encode_name in value:
                yield kind.cls, field.name, value[field.encode_name]
                yield from shown(field.type, value[field.encode_name])
    elif isinstance(kind, msgspec.inspect.ListType):
        for one in value:
            yield from shown(kind.item_type, one)
    elif isinstance(kind, msgspec.inspect.UnionType) and isinstance(value, dict):
        structs = [one for one in kind.types if isinstance(one, msgspec.inspect.StructType)]
        for one in structs:
            if len(structs) == 1 or one.tag == value.get(one.tag_field or ""):
                yield from shown(one, value)


def structs_of(kind: Any) -> Iterator[msgspec.inspect.StructType]:
    """Yield the structs that a configuration consists of."""
    kind = bare(kind)
    if isinstance(kind, msgspec.inspect.StructType):
        yield kind
        for field in kind.fields:
            yield from structs_of(field.type)
    elif isinstance(kind, msgspec.inspect.ListType):
        yield from structs_of(kind.item_type)
    elif isinstance(kind, msgspec.inspect.UnionType):
        for one in kind.types:
            yield from structs_of(one)


def owner_of(struct: type, name: str) -> type:
    """Return the struct that gives a field to this one: itself, or one that it inherits from."""
    kinds = [kind for kind in struct.__mro__ if issubclass(kind, msgspec.Struct) and kind is not msgspec.Struct]
    return next(kind for kind in reversed(kinds) if name in kind.__struct_fields__)


def test_as_shipped_it_is_all_defaults() -> None:
    """Installed as it is, it changes nothing."""
    assert parse(SAMPLE.read_bytes(), "sample") == Config()


def test_every_key_is_in_it() -> None:
    """With every key in use it is accepted, and no key is missing; one that several tables inherit is in one of them."""
    parse(uncommented().encode(), "sample")
    top = msgspec.inspect.type_info(Config)
    there = {(owner_of(struct, name), name) for struct, name, _ in shown(top, tomllib.loads(uncommented()))}
    wanted = {(owner_of(struct.cls, field.name), field.name) for struct in structs_of(top) for field in struct.fields}
    assert sorted(f"{struct.__name__}.{name}" for struct, name in wanted - there) == []


def test_what_is_shown_is_the_default() -> None:
    """A key that can be left out is shown with the value it has then, unless it is an example."""
    wrong = []
    for struct, name, value in shown(msgspec.inspect.type_info(Config), tomllib.loads(uncommented())):
        (field,) = (one for one in msgspec.structs.fields(struct) if one.name == name)
        has_default = field.default is not msgspec.NODEFAULT or field.default_factory is not msgspec.NODEFAULT
        if not has_default or isinstance(value, dict) or (value and isinstance(value, list) and isinstance(value[0], dict)):
            continue
        default = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
        if value != default and not (struct is not Config and name in EXAMPLES):
            wrong.append(f"{struct.__name__}.{name}")
    assert wrong == []
