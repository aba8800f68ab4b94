"""The configuration file: TOML. sshbell refuses unknown keys, and lists all faults, each with its line."""

import re
from collections.abc import Callable, Iterable, Iterator
from datetime import date
from difflib import get_close_matches
from functools import cache
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any, get_args
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from consumer.block.commands import split_command
from consumer.block.target import is_too_wide, network_target
from consumer.channel_faults import channel_faults, is_one
from consumer.channel_settings import CHANNEL_TYPES, ChannelSettings, OAuth2
from consumer.code_bounds import TIMEOUT_LIMIT_S, VALID_LIMIT_S
from consumer.codes_settings import NO_CODES, CodeRule, Codes
from consumer.config import BLOCK_COMMANDS, Allow, Blocking, Choice, Config, Route, WorkerSettings
from consumer.config_values import PLACE, Secret
from consumer.detect_settings import (
    Detect,
    FirstSeenSettings,
    GuessingSettings,
    ManyAccountsSettings,
    ManyAddressesSettings,
    SuccessAfterFailuresSettings,
)
from consumer.errors import ConfigError, ConfigRightsError
from consumer.guessing_rules import GuessingRule, Whitelist, limits_of
from consumer.spans import seconds_of
from consumer.state_dir import DEFAULT_PATH, state_dir_in
from consumer.toml import KeyPath, TomlDocument

# The placeholders of map_url.
_MAP_PLACES = frozenset({"{ip}", "{latitude}", "{longitude}"})
# Settings of librdkafka on which the promises of "sshbell worker" rest, or which have keys of their own.
_OWN_KAFKA = frozenset(
    {
        "auto.offset.reset", "bootstrap.servers", "enable.auto.commit", "enable.auto.offset.store", "enable.partition.eof",
        "group.id", "metadata.broker.list", "partition.assignment.strategy",
    }
)  # fmt: skip
_SECRET_KAFKA = frozenset({"sasl.password", "ssl.key.password", "ssl.keystore.password", "sasl.oauthbearer.client.secret"})
# Longer windows would make it hard to tell a wrong clock from a long wait.
_WINDOW_LIMIT_S = 7 * 86400
# The table under a key; that of "channel" depends on its type.
_TABLES: dict[str, type[msgspec.Struct]] = {
    "oauth2": OAuth2, "password": Secret, "room_password": Secret, "refresh_token": Secret, "client_secret": Secret,
    "url": Secret, "bearer": Secret, "hmac_key": Secret,
    "geoip_key": Secret, "detect": Detect, "guessing": GuessingSettings,
    "many_addresses": ManyAddressesSettings, "many_accounts": ManyAccountsSettings,
    "success_after_failures": SuccessAfterFailuresSettings, "first_seen": FirstSeenSettings,
    "route": Route, "include": Choice, "exclude": Choice, "block": Blocking, "allow": Allow, "codes": Codes, "rule": CodeRule,
    "worker": WorkerSettings,
}  # fmt: skip
# Keys that have a list of tables.
_LISTS = {"channel", "route", "allow", "rule"}
_HOMES: dict[type[msgspec.Struct], str] = {
    Config: "above the first table", Detect: "under [detect]", GuessingSettings: "under [detect.guessing]",
    ManyAddressesSettings: "under [detect.many_addresses]", ManyAccountsSettings: "under [detect.many_accounts]",
    SuccessAfterFailuresSettings: "under [detect.success_after_failures]", FirstSeenSettings: "under [detect.first_seen]",
    Route: "under [[route]]", Choice: "in include or exclude of a [[route]]",
    Blocking: "under [block]", Allow: "under [[block.allow]]",
    Codes: "under [codes]", CodeRule: "under [[codes.rule]]", WorkerSettings: "under [worker]",
}  # fmt: skip


def _or(words: Iterable[str]) -> str:
    """Return words as a choice: ``"email", "slack" or "teams"``."""
    *others, last = (f'"{word}"' for word in words)
    return f"{', '.join(others)} or {last}" if others else last


_TYPES = _or(CHANNEL_TYPES)
# The path of a wrong value, and the message about it.
_Fault = tuple[KeyPath, str]


def load(path: str | None) -> Config:
    """
    Read the configuration. If ``path`` is None and the default file does not exist, return the defaults.

    Raises:
        ConfigRightsError: the current user may not read the file.
        ConfigError: sshbell cannot read the file, or it has faults, such as unknown keys.
    """
    place = path or DEFAULT_PATH
    try:
        text = Path(place).read_bytes()
    except OSError as error:
        if path is None and isinstance(error, FileNotFoundError):
            return Config()
        if isinstance(error, PermissionError):
            raise ConfigRightsError(f"{place}: {error.strerror}; only root and sshbell's user may read it") from error
        raise ConfigError(f"{place}: {error.strerror}") from error
    return parse(text, place)


def reloaded(path: str | None, before: Config) -> Config:
    """
    Read the configuration again. If this raises, the caller continues with ``before``.

    Raises:
        ConfigError: as for ``load``; or state_dir or user has changed, which takes effect only at the next start.
    """
    config = load(path)
    if (config.state_dir, config.user) != (before.state_dir, before.user):
        raise ConfigError("state_dir and user take effect only at the next start of sshbell")
    return config


def state_dir_of(path: str | None) -> str:
    """Return the state directory from a configuration with faults; the default if the file does not set it."""
    return state_dir_in(path or DEFAULT_PATH)


def parse(text: bytes, place: str) -> Config:
    """
    Read the text of a configuration. Error messages use ``place`` as the name of the file.

    Raises:
        ConfigError: the text has faults, such as unknown keys. The error lists all of them, each with its line.
    """
    document = TomlDocument(text, place)
    config = _Reader(document).config()
    document.end()
    return config


class _Reader:
    """Turns a file into a configuration, and records its faults: first key by key, then values that contradict each other."""

    def __init__(self, document: TomlDocument) -> None:
        self._document = document

    def config(self) -> Config:
        """Return the valid part of the configuration."""
        tables = self._document.tables
        values = self._values(Config, tables, (), "")
        # sshbell does not check a table with a fault any further, but routes may still name it.
        is_refused = "channel" in tables and "channel" not in values
        names = None if is_refused else [_name_of(table) for table in tables.get("channel", [])]
        channels, routes = values.pop("channel", []), values.pop("route", [])
        config = Config(**values, channel=list(filter(None, channels)), route=list(filter(None, routes)))
        for path, text in (*_faults(config, channels, routes, names), *_web_faults(config, tables)):
            self._document.fault(path, text)
        return config

    def _member(self, key: str, table: dict[str, Any], path: KeyPath, where: str) -> Any:
        """Return a table of a list of tables; None if it has a fault."""
        if key != "channel":
            return self._struct(_TABLES[key], table, path, where)
        if "type" not in table:
            self._document.fault(path, f"{where}type is missing; it has to be {_TYPES}")
            return None
        kind = CHANNEL_TYPES.get(table["type"]) if isinstance(table["type"], str) else None
        if kind is None:
            close = get_close_matches(str(table["type"]).lower(), CHANNEL_TYPES, 1)
            remedy = f"; did you mean {close[0]!r}?" if close else f"; it has to be {_TYPES}"
            self._document.fault((*path, "type"), f"{where}there is no type {table['type']!r}{remedy}")
            return None
        return self._struct(kind, table, path, where)

    def _struct(self, kind: type[msgspec.Struct], table: dict[str, Any], path: KeyPath, where: str) -> Any:
        """Return a table; None if it has a fault."""
        before = self._document.count
        values = self._values(kind, table, path, where)
        needed = [field.encode_name for field in msgspec.structs.fields(kind) if field.required]
        for key in needed:
            if key not in table:
                self._document.fault(path, f"{where}{key} is missing; it has to be {_takes(kind)[key]}")
        return kind(**values) if self._document.count == before else None

    def _values(self, kind: type[msgspec.Struct], table: dict[str, Any], path: KeyPath, where: str) -> dict[str, Any]:
        """Return the valid values of a table, by the names of the fields."""
        fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
        values = {}
        for key, value in table.items():
            at = (*path, key)
            if key == kind.__struct_config__.tag_field:
                continue
            if key not in fields:
                self._document.fault(at, f"{where}{_unknown(key, kind)}")
            elif (found := self._value(fields[key], value, at, where, _takes(kind)[key])) is not None:
                values[fields[key].name] = found
        return values

    def _value(self, field: Any, value: Any, path: KeyPath, where: str, takes: str) -> Any:
        """Return a value converted to the type of its field; None if that fails."""
        key = field.encode_name
        if key in _LISTS:
            if isinstance(value, list) and all(isinstance(one, dict) for one in value):
                return [self._member(key, one, (*path, n), f"{key} {n + 1}: ") for n, one in enumerate(value)]
        elif key in _TABLES:
            if isinstance(value, dict):
                return self._struct(_TABLES[key], value, path, f"{where}{key}: ")
        else:
            try:
                return msgspec.convert(value, field.type)
            except msgspec.ValidationError as error:
                self._refuse(str(error), path, f"{where}{key} has to be {takes}")
                return None
        self._document.fault(path, f"{where}{key} has to be {takes}")
        return None

    def _refuse(self, complaint: str, path: KeyPath, text: str) -> None:
        """Record a wrong value, with the valid values and, for words from a fixed list, the wrong word."""
        if element := re.search(r" - at `\$\[(\d+)\]", complaint):
            path = (*path, int(element[1]))
        value = re.match(r"Invalid enum value ('.*?')(?: - at `|$)", complaint, re.DOTALL)
        self._document.fault(path, text + (f", not {value[1]}" if value else ""))


@cache
def _takes(kind: type[msgspec.Struct]) -> dict[str, str]:
    """Return the description of the valid values of each key, for error messages."""
    return {field.encode_name: _description(field.type) for field in msgspec.structs.fields(kind)}


def _description(kind: Any) -> str:
    return next(meta.description for meta in get_args(kind) if isinstance(meta, Meta) and meta.description)


def _name_of(table: dict[str, Any]) -> str:
    name = table.get("name")
    return name if isinstance(name, str) else ""


def _unknown(key: str, own: type[msgspec.Struct]) -> str:
    """Return the message for an unknown key, with a similar key of this table or the table that has this key."""
    text = f"there is no key {key!r}"
    # At this cutoff, "user" is similar to "username", but "server" is not similar to "user".
    if close := get_close_matches(key.lower(), _takes(own), 1, 0.65):
        return f"{text}; did you mean {close[0]!r}?"
    homes = [home for table, home in _HOMES.items() if key in _takes(table) and table is not own]
    if types := [name for name, table in CHANNEL_TYPES.items() if key in _takes(table) and table is not own]:
        homes.append(f"under [[channel]] with type = {_or(types)}")
    return f"{text} here; it belongs {' or '.join(homes)}" if homes else text


def _faults(
    config: Config, channels: list[ChannelSettings | None], routes: list[Route | None], names: list[str] | None
) -> Iterator[_Fault]:
    """
    Yield the faults of values that are valid alone but contradict each other, and faults that a type cannot express.

    A channel or a route is None if it already has a fault. ``names`` has the names of all channels, with "" for a channel without
    a name. It is None if ``channel`` is not a list of tables, so that the names are unknown.
    """
    if not Path(config.state_dir).is_absolute():
        yield ("state_dir",), f"state_dir {config.state_dir!r} is not an absolute path"
    yield from _enrichment_faults(config)
    yield from ((("block", *path), f"block: {text}") for path, text in _block_faults(config.block))
    yield from _detect_faults(config.detect)
    yield from ((("codes", *path), f"codes: {text}") for path, text in _codes_faults(config, channels, names))
    yield from ((("worker", *path), f"worker: {text}") for path, text in _worker_faults(config.worker))
    for number, name in enumerate(names or []):
        if name and name in (names or [])[:number]:
            yield ("channel", number, "name"), f"two channels are called {name!r}"
    for number, channel in enumerate(channels):
        if channel is not None:
            for path, text in channel_faults(channel):
                yield ("channel", number, *path), f"channel {channel.name!r}: {text}"
    for number, route in enumerate(routes):
        if route is not None:
            faults = (*_route_faults(route, names), *_place_faults(route, config))
            yield from ((("route", number, *path), f"route {number + 1}: {text}") for path, text in faults)


def _detect_faults(detect: Detect) -> Iterator[_Fault]:
    for number, network in enumerate(detect.known_networks):
        try:
            ip_network(network)
        except ValueError as error:
            yield ("detect", "known_networks", number), f"known_networks: {error}"
    checks: dict[str, Callable[[Any], object]] = {
        "host_rule": GuessingRule, "user_rule": GuessingRule, "limits": limits_of, "host_whitelist": Whitelist,
        "user_whitelist": Whitelist,
    }  # fmt: skip
    for key, check in checks.items():
        try:
            check(getattr(detect.guessing, key))
        except ValueError as error:
            yield ("detect", "guessing", key), f"{key}: {error}"


def _enrichment_faults(config: Config) -> Iterator[_Fault]:
    if not Path(config.people).is_absolute():
        yield ("people",), f"people {config.people!r} is not an absolute path"
    for host, addresses in config.hosts.items():
        for number, address in enumerate(addresses):
            try:
                ip_address(address)
            except ValueError:
                yield ("hosts", host, number), f"hosts: {address!r} of {host!r} is not an address"
    for number, path in enumerate(() if config.geoip == "web" else config.geoip):
        if path.endswith("/"):
            yield ("geoip", number), f'geoip: {path!r} is a directory; for the databases in it: "{path.rstrip("/")}/*.mmdb"'
    for text in _map_faults(config.map_url) if config.map_url else ():
        yield ("map_url",), text


def _block_faults(block: Blocking) -> Iterator[_Fault]:
    if not re.fullmatch(r"(/[^/\s]+)+", block.access_file):
        yield ("access_file",), f"access_file {block.access_file!r} is not an absolute path without blanks"
    for key in BLOCK_COMMANDS:
        try:
            if text := getattr(block, key):
                split_command(text)
        except ValueError as error:
            yield (key,), f"{key}: {error}"
    for number, allow in enumerate(filter(None, block.allow)):
        path = ("allow", number)
        if sum(map(bool, (allow.address, allow.name, allow.file, allow.command))) != 1:
            yield path, f"allow {number + 1} needs exactly one of address, name, file and command"
        try:
            if allow.address and is_too_wide(network_target(allow.address)):
                yield (*path, "address"), f"allow {number + 1}: {allow.address!r} holds a large part of the world"
        except ValueError as error:
            yield (*path, "address"), f"allow {number + 1}: {error}"
        try:
            date.fromisoformat(allow.until or "2026-01-01")
        except ValueError:
            yield (*path, "until"), f"allow {number + 1}: {allow.until!r} is not a day of the calendar"


def _codes_faults(config: Config, channels: list[ChannelSettings | None], names: list[str] | None) -> Iterator[_Fault]:
    codes = config.codes
    types = {channel.name: str(channel.__struct_config__.tag) for channel in channels if channel is not None}
    for number, name in enumerate(codes.channels):
        if names is not None and name not in names:
            yield ("channels", number), _no_channel(name, names)
        elif types.get(name) in NO_CODES:
            yield ("channels", number), f"channel {name!r} keeps what it gets, so it must not get codes"
    for key, limit_s in (("timeout", TIMEOUT_LIMIT_S), ("valid", VALID_LIMIT_S)):
        if seconds_of(getattr(codes, key)) > limit_s:
            yield (key,), f"{key} = {getattr(codes, key)!r} is longer than {limit_s} seconds"
    # A rule with a fault of its own is None.
    for number, rule in enumerate(codes.rule):
        for path, text in _code_rule_faults(rule, _without_places(config)) if rule else ():
            yield ("rule", number, *path), f"rule {number + 1}: {text}"


def _code_rule_faults(rule: CodeRule, no_places: str) -> Iterator[_Fault]:
    for place, network in enumerate(rule.address):
        try:
            ip_network(network)
        except ValueError as error:
            yield ("address", place), _network_fault(error)
    for place, novelty in enumerate(rule.new if no_places and rule.ask == "new" else ()):
        if novelty != "address":
            yield ("new", place), f"new = [{novelty!r}] needs databases of places, but {no_places}"


def _no_channel(name: str, names: list[str]) -> str:
    close = get_close_matches(name, names, 1)
    return f"there is no channel {name!r}" + (f"; did you mean {close[0]!r}?" if close else "")


def _network_fault(error: ValueError) -> str:
    return f"{error}; write an address or network as 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32"


def _worker_faults(worker: WorkerSettings) -> Iterator[_Fault]:
    for name, value in worker.librdkafka.items():
        path = ("librdkafka", name)
        if name in _OWN_KAFKA:
            yield path, f"librdkafka: sshbell sets {name} itself"
        elif isinstance(value, Secret) and not is_one(value):
            yield path, f"librdkafka: {name} needs exactly one of file, env and command"
        elif name in _SECRET_KAFKA and not isinstance(value, Secret):
            yield path, f"librdkafka: {name} has to be {PLACE.replace('mail.password', 'kafka.secret')}"
    if re.search(r"\bpassword\s*=|://[^/@]*:[^/@]*@", worker.database):
        yield ("database",), "database has a password; write that into a file, and its path: passfile=/etc/sshbell/database.pass"


def _web_faults(config: Config, tables: dict[str, Any]) -> Iterator[_Fault]:
    # A key with a wrong value already has its fault.
    if config.geoip == "web":
        if not tables.get("geoip_account"):
            yield ("geoip",), 'geoip = "web" needs geoip_account, the number of an account at MaxMind'
        if "geoip_key" not in tables:
            yield ("geoip",), f'geoip = "web" needs geoip_key, {_takes(Config)["geoip_key"]}'
    if config.geoip_key is not None and not is_one(config.geoip_key):
        yield ("geoip_key",), "geoip_key needs exactly one of file, env and command"


def _map_faults(map_url: str) -> Iterator[str]:
    try:
        url = urlsplit(map_url)
    except ValueError as error:
        yield f"map_url is not a URL: {error}"
        return
    unknown = sorted(set(re.findall(r"[{][^{}]*[}]|[{}]", map_url)) - _MAP_PLACES)
    if unknown:
        yield f"map_url has {unknown[0]!r}; it may have {', '.join(sorted(_MAP_PLACES))}"
    elif not any(place in map_url for place in _MAP_PLACES):
        yield "map_url shows the same place for each address; add {ip}, or {latitude} and {longitude}"
    elif url.scheme != "https" or not url.hostname:
        yield "map_url has to begin with https:// and a host name"
    elif "{" in url.netloc:
        yield "map_url has a placeholder in its host name, so the source of a login would choose where the link leads"
    elif not map_url.isascii() or not map_url.isprintable() or " " in map_url:
        yield "map_url has a character that is not allowed in URLs; write it as %XX"


def _place_faults(route: Route, config: Config) -> Iterator[_Fault]:
    """Yield the lists that would never fit, because sshbell does not know places when it chooses the routes."""
    if not (reason := _without_places(config)):
        return
    for key, choice in (("include", route.include), ("exclude", route.exclude)):
        for name in ("country", "asn"):
            if getattr(choice, name):
                yield (key, name), f"{name} needs databases of places, but {reason}"
        for number, novelty in enumerate(choice.new):
            if novelty in {"country", "network"}:
                yield (key, "new", number), f"new = [{novelty!r}] needs databases of places, but {reason}"


def _without_places(config: Config) -> str:
    """Return why sshbell knows no places when it decides; "" if it does."""
    if not config.geoip:
        return "geoip has no databases"
    return 'geoip = "web" answers too late' if config.geoip == "web" else ""


def _route_faults(route: Route, names: list[str] | None) -> Iterator[_Fault]:
    for number, name in enumerate(route.channels):
        if names is not None and name not in names:
            yield ("channels", number), _no_channel(name, names)
    if route.urgent and route.digest:
        yield ("urgent",), "urgent and digest exclude each other: a digest waits for its time"
    if route.fold and route.digest:
        yield ("fold",), "fold and digest exclude each other: a digest has all events of the route"
    if seconds_of(route.window) > _WINDOW_LIMIT_S:
        yield ("window",), f"window = {route.window!r} is longer than a week"
    for key, choice in (("include", route.include), ("exclude", route.exclude)):
        for number, network in enumerate(choice.address):
            try:
                ip_network(network)
            except ValueError as error:
                yield (key, "address", number), _network_fault(error)
