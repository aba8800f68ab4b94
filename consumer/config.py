"""The configuration file: TOML. Every key has a default; sshbell refuses unknown keys."""

import re
from collections.abc import Iterator
from datetime import timedelta
from difflib import get_close_matches
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Meta

from consumer.actions import EventAction
from consumer.errors import ConfigError, ConfigRightsError
from consumer.mailbox import mailbox_of
from consumer.toml import KeyPath, TomlDocument

DEFAULT_PATH = "/etc/sshbell/sshbell.toml"
PEOPLE_PATH = "/etc/sshbell/people.toml"
# In the state directory: the socket on which the process keys answers.
KEYS_SOCKET = "keys.sock"

# The value of a key that is a time: "90d", "36h", "10m", "30s".
Span = Annotated[str, Meta(pattern=r"^[1-9][0-9]{0,5}[smhdw]\Z")]
Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}\Z")]
AbsolutePath = Annotated[str, Meta(pattern=r"^/")]
Port = Annotated[int, Meta(ge=1, le=65535)]
HostName = Annotated[str, Meta(pattern=r"^(?=.{1,253}(?::|\Z))[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]{1,5})?\Z")]

# The placeholders of map_url.
MAP_PLACES = frozenset({"{ip}", "{latitude}", "{longitude}"})
# Finds state_dir in a file that cannot be parsed.
_STATE_DIR = re.compile(r"""^[ \t]*state_dir[ \t]*=[ \t]*(["'])(/[^"'\n\0]*)\1""", re.MULTILINE)
# Where "sshbell geoip fetch" stores databases, and where other programs do.
_GEOIP = ("/var/lib/sshbell/geoip/*.mmdb", "/var/lib/GeoIP/*.mmdb", "/usr/share/GeoIP/*.mmdb")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def seconds_of(span: str) -> float:
    """Return the seconds of a span such as ``90d``: a number of seconds, minutes, hours, days or weeks."""
    return timedelta(**{_UNITS[span[-1]]: int(span[:-1])}).total_seconds()


class Secret(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The place of a secret: exactly one of a file, an environment variable, or a command that prints it. Never the secret."""

    file: str = ""
    env: str = ""
    command: list[str] = []


class OAuth2(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The settings to get an access token for XOAUTH2."""

    token_url: str
    client_id: str
    refresh_token: Secret
    client_secret: Secret | None = None


class EmailSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="email"):
    """
    A channel that sends mail.

    Attributes:
        server: the servers' names, tried in order.
        port: by default 587 with ``starttls``, 465 with ``tls``, 25 with ``none``.
        security: ``none`` only for a server on this machine, unless ``allow_plaintext`` is set.
        ca_file: certificate of the authority that signed the server's certificate, if the system does not know it.
        max_per_hour: messages about each account on each host, and about everything else; further ones wait, and sshbell sends
            them together in one message.
        timezone: of the reader, shown beside UTC: ``Europe/Berlin``; "" is this host's.
    """

    name: Name
    to: Annotated[list[str], Meta(min_length=1)]
    sender: str = msgspec.field(name="from", default="")
    server: str | list[str] = "localhost"
    port: Port | None = None
    security: Literal["starttls", "tls", "none"] = "starttls"
    allow_plaintext: bool = False
    ca_file: str = ""
    username: str = ""
    password: Secret | None = None
    oauth2: OAuth2 | None = None
    max_per_hour: Annotated[int, Meta(ge=1, le=100_000)] = 60
    timezone: str = ""

    @property
    def servers(self) -> list[str]:
        """The servers in the order in which they are tried."""
        return [self.server] if isinstance(self.server, str) else list(self.server)


# The other channels join here.
ChannelSettings = EmailSettings


class Choice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Selects events by user (``*`` and ``?`` as in a shell), address (networks) and method. All non-empty lists must fit."""

    user: list[str] = []
    address: list[str] = []
    method: list[str] = []


class Route(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    Which events go to which channels.

    Attributes:
        to_owner: send them to the contacts of the person they are about; if there are none, to the channel's own recipients.
    """

    channels: Annotated[list[str], Meta(min_length=1)]
    events: Annotated[tuple[EventAction, ...], Meta(min_length=1)] = (EventAction.LOGIN, EventAction.FORGED)
    include: Choice = Choice()
    exclude: Choice = Choice()
    to_owner: bool = False


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    The settings of ``sshbell.toml``.

    Attributes:
        sshd_programs: further names under which sshd logs, such as ``sshd-ga`` for a copy of the binary; up to OpenSSH 9.7 the
            PAM service has that name, too.
        state_dir: directory of the journal and the databases; it belongs to ``user`` alone.
        user: the user that ``run`` becomes when root starts it; "" keeps the caller's identity.
        catch_up: the log file that sshbell searches at its start for lines that rsyslog lost; "" turns this off.
        keep: how long sshbell keeps events and messages.
        give_up: how long sshbell retries a message.
        reverse_dns: ask the name servers for the name of an address.
        hosts: addresses by host name, to find the jump host of a login.
        map_url: URL of a map that shows an address, with {ip}, {latitude} and {longitude}; "" for no link.
        people: the file of people and their keys, certificates and accounts. The default file is optional.
        geoip: databases in MaxMind's format, with ``*`` and ``?`` as in a shell; without any, sshbell shows no places. With
            ``"web"``, ``deliver``, and no other process, asks MaxMind's web service.
        geoip_account: the number of an account at MaxMind, for the web service; 0 for none.
        geoip_key: the licence key of that account.
        geoip_host: the web service's name, with ":" and a port if that is not 443.
    """

    sshd_programs: list[str] = []
    state_dir: str = "/var/lib/sshbell"
    user: str = "sshbell"
    catch_up: str = "/var/log/auth.log"
    keep: Span = "90d"
    give_up: Span = "3d"
    reverse_dns: bool = True
    hosts: dict[str, list[str]] = {}
    map_url: str = ""
    people: str = PEOPLE_PATH
    channel: list[ChannelSettings] = []
    route: list[Route] = []
    geoip: list[AbsolutePath] | Literal["web"] = msgspec.field(default_factory=lambda: list(_GEOIP))
    geoip_account: Annotated[int, Meta(ge=0, le=10**12)] = 0
    geoip_key: Secret | None = None
    geoip_host: HostName = "geoip.maxmind.com"


def load(path: str | None) -> Config:
    """
    Read the configuration. The default file is optional: if ``path`` is None and it does not exist, return the defaults.

    Raises:
        ConfigRightsError: the current user may not read it.
        ConfigError: it cannot be read, or it has faults, such as unknown keys.
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
    Read the configuration again. If this raises, the caller goes on with ``before``.

    Raises:
        ConfigError: as ``load``, and for another state directory or user, which a running process cannot change.
    """
    config = load(path)
    if (config.state_dir, config.user) != (before.state_dir, before.user):
        raise ConfigError("state_dir and user take effect only at the next start of sshbell")
    return config


def state_dir_of(path: str | None) -> str:
    """Return the state directory of a configuration that cannot be used; the default if it does not name one."""
    try:
        found = _STATE_DIR.search(Path(path or DEFAULT_PATH).read_text("utf-8", "replace"))
    except OSError:
        found = None
    return found[2] if found else Config().state_dir


def parse(text: bytes, place: str) -> Config:
    """
    Read the text of a configuration; ``place`` is its name, for errors.

    Raises:
        ConfigError: it has faults, such as unknown keys. The error lists all of them, each with its line.
    """
    document = TomlDocument(text, place)
    config = _Reader(document).config()
    document.end()
    return config


_TEXTS = 'a list of texts: ["..."]'
_PLACE = 'the place of the secret: { file = "/etc/sshbell/mail.password" }, or with env or command; never the secret itself'
_SPAN = 'a number of seconds, minutes, hours, days or weeks: "90s", "10m", "36h", "90d", "4w"'
_EVENTS = [f'"{action}"' for action in EventAction]
# The valid value of each key of a table, as error messages put it.
TAKES: dict[type[msgspec.Struct], dict[str, str]] = {
    Config: {
        "sshd_programs": _TEXTS,
        "state_dir": "a path, in quotes",
        "user": "a name, in quotes",
        "catch_up": "a path, in quotes",
        "keep": _SPAN,
        "give_up": _SPAN,
        "reverse_dns": "true or false, without quotes",
        "hosts": 'a table of lists of addresses: { bastion1 = ["192.0.2.10"] }',
        "map_url": "an address with {ip}, {latitude} or {longitude} in it, in quotes",
        "people": "a path, in quotes",
        "geoip": 'a list of whole paths, each in quotes: ["/var/lib/GeoIP/*.mmdb"]; or "web"',
        "geoip_account": "a number, without quotes",
        "geoip_key": _PLACE.replace("mail.password", "maxmind.key"),
        "geoip_host": 'the name of a host: "geolite.info"',
        "channel": "a table under [[channel]], in two pairs of brackets",
        "route": "a table under [[route]], in two pairs of brackets",
    },
    EmailSettings: {
        "type": '"email"',
        "name": "up to 63 letters, digits, dots, underscores and hyphens, in quotes",
        "to": 'a list of addresses: ["ops@example.org"]',
        "from": 'an address: "sshbell@example.org"',
        "server": 'a name, or a list of names: "mail.example.org"',
        "port": "a number from 1 to 65535, without quotes",
        "security": '"starttls", "tls" or "none"',
        "allow_plaintext": "true or false, without quotes",
        "ca_file": "a path, in quotes",
        "username": "a name, in quotes",
        "password": _PLACE,
        "oauth2": "a table with token_url, client_id and refresh_token",
        "max_per_hour": "a number from 1 to 100000, without quotes",
        "timezone": 'a name such as "Europe/Berlin", in quotes',
    },
    OAuth2: {
        "token_url": 'an address: "https://..."',
        "client_id": "a text, in quotes",
        "refresh_token": _PLACE,
        "client_secret": _PLACE,
    },
    Secret: {"file": "a path, in quotes", "env": "a name, in quotes", "command": 'a list of texts: ["pass", "show", "mail"]'},
    Route: {
        "channels": 'a list of names of channels: ["ops"]',
        "events": f"a list of {', '.join(_EVENTS[:-1])} and {_EVENTS[-1]}",
        "include": 'a table with user, address and method, such as { user = ["alice"] }',
        "exclude": 'a table with user, address and method, such as { user = ["backup-*"] }',
        "to_owner": "true or false, without quotes",
    },
    Choice: {
        "user": 'a list of names: ["alice", "backup-*"]',
        "address": 'a list of networks: ["192.0.2.0/24"]',
        "method": 'a list of methods: ["publickey"]',
    },
}  # fmt: skip
# The table under a key.
_TABLES: dict[str, type[msgspec.Struct]] = {
    "channel": EmailSettings, "oauth2": OAuth2, "password": Secret, "refresh_token": Secret, "client_secret": Secret,
    "geoip_key": Secret, "route": Route, "include": Choice, "exclude": Choice,
}  # fmt: skip
# Keys that have a list of tables.
_LISTS = {"channel", "route"}
_HOMES: dict[type[msgspec.Struct], str] = {
    Config: "above the first [[channel]]", EmailSettings: "under [[channel]]", Route: "under [[route]]",
    Choice: "in include or exclude of a [[route]]",
}  # fmt: skip
# The path of a wrong value, and what is wrong with it.
_Fault = tuple[KeyPath, str]


class _Reader:
    """Turns a file into a configuration, and records its faults: first key by key, then values that contradict each other."""

    def __init__(self, document: TomlDocument) -> None:
        self._document = document

    def config(self) -> Config:
        """Return the valid part of it."""
        tables = self._document.tables
        values = self._values(Config, tables, (), "")
        # A table with a fault is not checked further, but its name still counts.
        is_refused = "channel" in tables and "channel" not in values
        names = None if is_refused else [_name_of(table) for table in tables.get("channel", [])]
        channels, routes = values.pop("channel", []), values.pop("route", [])
        config = Config(**values, channel=list(filter(None, channels)), route=list(filter(None, routes)))
        for path, text in (*_faults(config, channels, routes, names), *_web_faults(config, tables)):
            self._document.fault(path, text)
        return config

    def _struct(self, kind: type[msgspec.Struct], table: dict[str, Any], path: KeyPath, where: str) -> Any:
        """Return a table; None if it has a fault."""
        before = self._document.count
        values = self._values(kind, table, path, where)
        needed = [field.encode_name for field in msgspec.structs.fields(kind) if field.required]
        for key in (*needed, *filter(None, [kind.__struct_config__.tag_field])):
            if key not in table:
                self._document.fault(path, f"{where}{key} is missing; it has to be {TAKES[kind][key]}")
        return kind(**values) if self._document.count == before else None

    def _values(self, kind: type[msgspec.Struct], table: dict[str, Any], path: KeyPath, where: str) -> dict[str, Any]:
        """Return the valid values of a table, by the names of the fields."""
        fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
        struct = kind.__struct_config__
        values = {}
        for key, value in table.items():
            at = (*path, key)
            if key == struct.tag_field:
                if value != struct.tag:
                    self._document.fault(at, f"{where}{key} has to be {TAKES[kind][key]}, not {value!r}")
            elif key not in fields:
                self._document.fault(at, f"{where}{_unknown(key, kind)}")
            elif (found := self._value(fields[key], value, at, where, TAKES[kind][key])) is not None:
                values[fields[key].name] = found
        return values

    def _value(self, field: Any, value: Any, path: KeyPath, where: str, takes: str) -> Any:
        """Return a value converted to the type of its field; None if that fails."""
        key = field.encode_name
        if key in _LISTS:
            if isinstance(value, list) and all(isinstance(one, dict) for one in value):
                return [self._struct(_TABLES[key], one, (*path, n), f"{key} {n + 1}: ") for n, one in enumerate(value)]
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
        """Record a wrong value, with what it has to be and, for a list of words, the wrong one."""
        if element := re.search(r" - at `\$\[(\d+)\]", complaint):
            path = (*path, int(element[1]))
        value = re.match(r"Invalid enum value ('.*?')(?: - at `|$)", complaint, re.DOTALL)
        self._document.fault(path, text + (f", not {value[1]}" if value else ""))


def _name_of(table: dict[str, Any]) -> str:
    name = table.get("name")
    return name if isinstance(name, str) else ""


def _unknown(key: str, own: type[msgspec.Struct]) -> str:
    """Return the message for an unknown key, with a similar key of this table, or the table where it belongs."""
    text = f"there is no key {key!r}"
    # "user" is closer to "username" than this, "server" to "user" is not.
    if close := get_close_matches(key.lower(), TAKES[own], 1, 0.65):
        return f"{text}; did you mean {close[0]!r}?"
    homes = [home for table, home in _HOMES.items() if key in TAKES[table] and table is not own]
    return f"{text} here; it belongs {' or '.join(homes)}" if homes else text


def _faults(
    config: Config, channels: list[ChannelSettings | None], routes: list[Route | None], names: list[str] | None
) -> Iterator[_Fault]:
    """
    Yield the faults of values that are valid alone but not together, and those that a type cannot express.

    A channel or a route is None if it already has a fault. ``names`` has the names of all channels, "" for a channel without one;
    it is None if they are unknown, because ``channel`` is not a list of tables.
    """
    if not Path(config.state_dir).is_absolute():
        yield ("state_dir",), f"state_dir {config.state_dir!r} is not an absolute path"
    yield from _enrichment_faults(config)
    for number, name in enumerate(names or []):
        if name and name in (names or [])[:number]:
            yield ("channel", number, "name"), f"two channels are called {name!r}"
    for number, channel in enumerate(channels):
        if channel is not None:
            for path, text in (*_login_faults(channel), *_server_faults(channel), *_address_faults(channel)):
                yield ("channel", number, *path), f"channel {channel.name!r}: {text}"
    for number, route in enumerate(routes):
        if route is not None:
            yield from ((("route", number, *path), f"route {number + 1}: {text}") for path, text in _route_faults(route, names))


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


def _web_faults(config: Config, tables: dict[str, Any]) -> Iterator[_Fault]:
    # A key that is there and wrong has its fault already.
    if config.geoip == "web":
        if not tables.get("geoip_account"):
            yield ("geoip",), 'geoip = "web" needs geoip_account, the number of an account at MaxMind'
        if "geoip_key" not in tables:
            yield ("geoip",), f'geoip = "web" needs geoip_key, {TAKES[Config]["geoip_key"]}'
    if config.geoip_key is not None and not _is_one(config.geoip_key):
        yield ("geoip_key",), "geoip_key needs exactly one of file, env and command"


def _map_faults(map_url: str) -> Iterator[str]:
    try:
        url = urlsplit(map_url)
    except ValueError as error:
        yield f"map_url is not a URL: {error}"
        return
    unknown = sorted(set(re.findall(r"[{][^{}]*[}]|[{}]", map_url)) - MAP_PLACES)
    if unknown:
        yield f"map_url has {unknown[0]!r}; it may have {', '.join(sorted(MAP_PLACES))}"
    elif not any(place in map_url for place in MAP_PLACES):
        yield "map_url shows the same place for each address; add {ip}, or {latitude} and {longitude}"
    elif url.scheme != "https" or not url.hostname:
        yield "map_url has to begin with https:// and a host name"
    elif "{" in url.netloc:
        yield "map_url has a placeholder in its host name, so the source of a login would choose where the link leads"
    elif not map_url.isascii() or not map_url.isprintable() or " " in map_url:
        yield "map_url has a character that is not allowed in URLs; write it as %XX"


def _login_faults(channel: ChannelSettings) -> Iterator[_Fault]:
    is_secret = channel.password is not None or channel.oauth2 is not None
    if channel.password is not None and channel.oauth2 is not None:
        yield ("password",), "password and oauth2 exclude each other"
    if channel.username and not is_secret:
        yield ("username",), "username needs password or oauth2"
    if is_secret and not channel.username:
        yield (
            ("oauth2" if channel.password is None else "password",),
            "username is missing: it belongs to this password or token",
        )
    for name, secret in secrets(channel):
        if not _is_one(secret):
            yield tuple(name.split(".")), f"{name} needs exactly one of file, env and command"


def _is_one(secret: Secret) -> bool:
    return sum(map(bool, (secret.file, secret.env, secret.command))) == 1


def _server_faults(channel: ChannelSettings) -> Iterator[_Fault]:
    if not channel.servers or not all(channel.servers):
        yield ("server",), "server is empty"
    if channel.security == "none" and not channel.allow_plaintext and not all(map(_is_loopback, channel.servers)):
        yield (
            ("security",),
            'security = "none" sends everything unencrypted to another machine; set "starttls", "tls" or allow_plaintext = true',
        )
    if channel.oauth2 is not None and not is_guarded(channel.oauth2.token_url):
        yield ("oauth2", "token_url"), "oauth2.token_url has to begin with https:// and a host name"
    elif channel.oauth2 is not None and not re.fullmatch(r"[!-~]+", channel.oauth2.token_url):
        yield ("oauth2", "token_url"), "oauth2.token_url holds a character that no URL has; write it as %XX"


def _address_faults(channel: ChannelSettings) -> Iterator[_Fault]:
    senders: list[tuple[KeyPath, str]] = [(("from",), channel.sender)] if channel.sender else []
    for path, address in (*((("to", number), address) for number, address in enumerate(channel.to)), *senders):
        try:
            mailbox_of(address)
        except ValueError as error:
            yield path, f"{address!r} {error}"
    if channel.timezone and not _is_zone(channel.timezone):
        yield (
            ("timezone",),
            f"timezone {channel.timezone!r} is unknown here; give one such as 'Europe/Berlin', or install the package tzdata",
        )


def _route_faults(route: Route, names: list[str] | None) -> Iterator[_Fault]:
    for number, name in enumerate(route.channels):
        if names is not None and name not in names:
            close = get_close_matches(name, names, 1)
            text = f"there is no channel {name!r}" + (f"; did you mean {close[0]!r}?" if close else "")
            yield ("channels", number), text
    for key, choice in (("include", route.include), ("exclude", route.exclude)):
        for number, network in enumerate(choice.address):
            try:
                ip_network(network)
            except ValueError as error:
                text = f"{error}; write an address or network as 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32"
                yield (key, "address", number), text


def _is_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (ValueError, OSError, KeyError):
        return False
    return True


def is_guarded(address: str) -> bool:
    """Return whether requests to a URL are encrypted, or stay on this machine; False for text that is no URL."""
    try:
        url = urlsplit(address)
        host = url.hostname or ""
        is_url = bool(host) and url.port != 0
    except ValueError:  # brackets without an address, or a port that is not a number
        return False
    return is_url and (url.scheme == "https" or (url.scheme == "http" and _is_loopback(host)))


def _is_loopback(server: str) -> bool:
    """Return whether a server is on this machine, by its name or address; this looks up nothing."""
    try:
        return ip_address(server).is_loopback
    except ValueError:
        return server == "localhost"


def secret_files(config: Config) -> list[Path]:
    """Return the files that hold secrets."""
    return [Path(secret.file) for _, secret in secrets_of(config) if secret.file]


def secrets_of(config: Config) -> Iterator[tuple[str, Secret]]:
    """Yield all secrets, each with a name for people: ``ops's password``."""
    for channel in config.channel:
        yield from ((f"{channel.name}'s {key}", secret) for key, secret in secrets(channel))
    if config.geoip_key is not None:
        yield "geoip_key", config.geoip_key


def secrets(channel: ChannelSettings) -> Iterator[tuple[str, Secret]]:
    """Yield the secrets of a channel, each with the name of its key."""
    if channel.password is not None:
        yield "password", channel.password
    if channel.oauth2 is not None:
        yield "oauth2.refresh_token", channel.oauth2.refresh_token
        if channel.oauth2.client_secret is not None:
            yield "oauth2.client_secret", channel.oauth2.client_secret
