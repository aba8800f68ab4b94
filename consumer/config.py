"""The configuration file: TOML, every key with a default, unknown keys refused."""

import re
from collections.abc import Iterator
from datetime import timedelta
from difflib import get_close_matches
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Meta

from consumer.actions import EventAction
from consumer.errors import ConfigError, ConfigRightsError

DEFAULT_PATH = "/etc/sshbell/sshbell.toml"
PEOPLE_PATH = "/etc/sshbell/people.toml"
# In the state directory: where the process keys answers.
KEYS_SOCKET = "keys.sock"

# A time that a key holds: "90d", "36h", "10m", "30s".
Span = Annotated[str, Meta(pattern=r"^[1-9][0-9]{0,5}[smhdw]$")]
Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
AbsolutePath = Annotated[str, Meta(pattern=r"^/")]
Port = Annotated[int, Meta(ge=1, le=65535)]

# What map_url may hold in braces.
MAP_PLACES = frozenset({"{ip}", "{latitude}", "{longitude}"})
# Read where nothing else can be, so by itself.
_STATE_DIR = re.compile(r"""^[ \t]*state_dir[ \t]*=[ \t]*(["'])(/[^"'\n]*)\1""", re.MULTILINE)
# Where "sshbell geoip fetch" puts databases, and where others do.
_GEOIP = ("/var/lib/sshbell/geoip/*.mmdb", "/var/lib/GeoIP/*.mmdb", "/usr/share/GeoIP/*.mmdb")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def seconds_of(span: str) -> float:
    """Return the seconds of a span such as ``90d``; of seconds, minutes, hours, days or weeks."""
    return timedelta(**{_UNITS[span[-1]]: int(span[:-1])}).total_seconds()


class Secret(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a secret is: exactly one of a file, an environment variable, or a command that prints it. Never the secret itself."""

    file: str = ""
    env: str = ""
    command: list[str] = []


class OAuth2(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How to get an access token for XOAUTH2."""

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
        security: ``none`` only to this machine, unless ``allow_plaintext`` is set.
        ca_file: of the authority that signed the server's certificate, where the system does not know it.
        max_per_hour: messages; what is above waits, and is told in one message.
        timezone: of the reader, beside UTC: ``Europe/Berlin``; "" is this host's.
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
    """Events by user (``*`` and ``?`` as in a shell), address (networks) and method; empty lists say nothing, all must fit."""

    user: list[str] = []
    address: list[str] = []
    method: list[str] = []


class Route(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    Which events go to which channels.

    Attributes:
        to_owner: they go to the contacts of the person that they are about; to the channel's own where none is known.
    """

    channels: Annotated[list[str], Meta(min_length=1)]
    events: Annotated[tuple[EventAction, ...], Meta(min_length=1)] = (EventAction.LOGIN, EventAction.FORGED)
    include: Choice = Choice()
    exclude: Choice = Choice()
    to_owner: bool = False


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    What can be set.

    Attributes:
        sshd_programs: further names under which sshd logs, such as ``sshd-ga`` for a copy of the binary; up to OpenSSH 9.7 the
            PAM service has that name too.
        state_dir: journal and databases; of ``user`` alone.
        user: whom ``run`` becomes when root starts it; "" keeps the caller's identity.
        catch_up: the log in which to look, at start, for lines that rsyslog lost; "" turns that off.
        keep: how long events and messages are kept.
        give_up: how long a message is tried.
        reverse_dns: whether the name servers are asked for the name of an address.
        hosts: addresses by host name, to say through which host somebody came.
        map_url: where a map shows an address, with {ip}, {latitude} and {longitude}; "" for no link.
        people: who keys, certificates and accounts belong to; there need be none in the default place.
        geoip: files of databases in MaxMind's format, ``*`` and ``?`` as in a shell; none: places are not told.
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
    geoip: list[AbsolutePath] = msgspec.field(default_factory=lambda: list(_GEOIP))


def load(path: str | None) -> Config:
    """
    Read the configuration; all defaults where ``path`` is None and there is none in the default place.

    Raises:
        ConfigRightsError: whoever runs this may not read it.
        ConfigError: it cannot be read, or says something that is not known or cannot be meant.
    """
    place = path or DEFAULT_PATH
    try:
        text = Path(place).read_bytes()
    except OSError as error:
        if path is None and isinstance(error, FileNotFoundError):
            return Config()
        if isinstance(error, PermissionError):
            raise ConfigRightsError(f"{place}: {error.strerror}; it is for root and sshbell's user") from error
        raise ConfigError(f"{place}: {error.strerror}") from error
    return parse(text, place)


def state_dir_of(path: str | None) -> str:
    """Return where the state is, as far as a configuration says that cannot be used; the default where it does not."""
    try:
        found = _STATE_DIR.search(Path(path or DEFAULT_PATH).read_text("utf-8", "replace"))
    except OSError:
        found = None
    return found[2] if found else Config().state_dir


def parse(text: bytes, place: str) -> Config:
    """
    Read the text of a configuration; ``place`` is named in errors.

    Raises:
        ConfigError: it says something that is not known or cannot be meant.
    """
    try:
        config = msgspec.toml.decode(text, type=Config)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{place}: byte {error.start + 1} is not UTF-8") from error
    except msgspec.DecodeError as error:
        raise ConfigError(f"{place}: {_in_words(str(error))}") from error
    faults = list(_faults(config))
    if faults:
        raise ConfigError(*(f"{place}: {fault}" for fault in faults))
    return config


_TEXTS = 'a list of texts: ["..."]'
_PLACE = 'where it is: { file = "/etc/sshbell/mail.password" }, or with env or command; never the secret itself'
_SPAN = 'a number of seconds, minutes, hours, days or weeks: "90s", "10m", "36h", "90d", "4w"'
_EVENTS = [f'"{action}"' for action in EventAction]
# What each key of a table has to be, as it is said where it is not.
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
        "geoip": 'a list of whole paths, each in quotes: ["/var/lib/GeoIP/*.mmdb"]',
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
# Which table stands under a key; "" is the file itself.
_TABLES: dict[str, type[msgspec.Struct]] = {
    "": Config, "channel": EmailSettings, "oauth2": OAuth2, "password": Secret, "refresh_token": Secret, "client_secret": Secret,
    "route": Route, "include": Choice, "exclude": Choice,
}  # fmt: skip
_HOMES: dict[type[msgspec.Struct], str] = {
    Config: "above the first [[channel]]", EmailSettings: "under [[channel]]", Route: "under [[route]]",
    Choice: "in include or exclude of a [[route]]",
}  # fmt: skip
_HINTS = {
    "Invalid value": "a text has to stand in quotes",
    "Expected newline or end of document after a statement": "a text, such as a time, has to stand in quotes",
    "Illegal character '\\n'": "the quote at its end is missing",
    "Cannot overwrite a value": "the key is there already",
}


def _in_words(complaint: str) -> str:
    """Say what msgspec or the TOML reader complains of in the words of the file: table, key, what it has to be."""
    text, is_placed, path = complaint.partition(" - at `$")
    steps = re.findall(r"(\w+)(?:\[(\d+)\])?", path)
    if found := re.fullmatch(r"Object contains unknown field `(.*)`", text, re.DOTALL):
        return _unknown(found[1], steps)
    if found := re.fullmatch(r"Object missing required field `(\w+)`", text):
        return f"{_where(steps)}{found[1]} is missing; it is {TAKES[_table(steps)][found[1]]}"
    if is_placed:
        key = steps.pop()[0]
        value = text.removeprefix("Invalid enum value ").removeprefix("Invalid value ")
        return f"{_where(steps)}{key} has to be {TAKES[_table(steps)][key]}" + (f", not {value}" if value != text else "")
    hint = next((hint for start, hint in _HINTS.items() if text.startswith(start)), "")
    return text + (f"; {hint}" if hint else "")


def _table(steps: list[tuple[str, str]]) -> type[msgspec.Struct]:
    return _TABLES[steps[-1][0] if steps else ""]


def _where(steps: list[tuple[str, str]]) -> str:
    """Return the table of an error, for people: ``channel 1: oauth2: ``."""
    return "".join(f"{name} {int(index) + 1}: " if index else f"{name}: " for name, index in steps)


def _unknown(key: str, steps: list[tuple[str, str]]) -> str:
    """Say that there is no such key, and which one may be meant: of this table, or of another one."""
    own = _table(steps)
    text = f"{_where(steps)}there is no key {key!r}"
    # "user" is closer to "username" than this, "server" to "user" is not.
    if close := get_close_matches(key.lower(), TAKES[own], 1, 0.65):
        return f"{text}; did you mean {close[0]!r}?"
    homes = [home for table, home in _HOMES.items() if key in TAKES[table] and table is not own]
    return f"{text} here; it belongs {' or '.join(homes)}" if homes else text


def _faults(config: Config) -> Iterator[str]:
    """Yield what cannot be meant although each key is right by itself."""
    names = [channel.name for channel in config.channel]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"two channels are called {name!r}"
    if not Path(config.state_dir).is_absolute():
        yield f"state_dir {config.state_dir!r} is not an absolute path"
    yield from _enrichment_faults(config)
    for channel in config.channel:
        yield from (f"channel {channel.name!r}: {fault}" for fault in _channel_faults(channel))
        if channel.timezone and not _is_zone(channel.timezone):
            yield (
                f"channel {channel.name!r}: timezone {channel.timezone!r} is not known here; one is 'Europe/Berlin', "
                "and the package tzdata has them"
            )
    for number, route in enumerate(config.route, 1):
        for name in route.channels:
            if name not in names:
                close = get_close_matches(name, names, 1)
                yield f"route {number}: there is no channel {name!r}" + (f"; did you mean {close[0]!r}?" if close else "")
        for network in (*route.include.address, *route.exclude.address):
            try:
                ip_network(network)
            except ValueError as error:
                yield f"route {number}: {error}; write an address or network as 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32"


def _enrichment_faults(config: Config) -> Iterator[str]:
    if not Path(config.people).is_absolute():
        yield f"people {config.people!r} is not an absolute path"
    for host, addresses in config.hosts.items():
        for address in addresses:
            try:
                ip_address(address)
            except ValueError:
                yield f"hosts: {address!r} of {host!r} is no address"
    if config.map_url:
        yield from _map_faults(config.map_url)


def _map_faults(map_url: str) -> Iterator[str]:
    try:
        url = urlsplit(map_url)
    except ValueError as error:
        yield f"map_url is no URL: {error}"
        return
    unknown = sorted(set(re.findall(r"[{][^{}]*[}]|[{}]", map_url)) - MAP_PLACES)
    if unknown:
        yield f"map_url has {unknown[0]!r}; known are {', '.join(sorted(MAP_PLACES))}"
    elif not any(place in map_url for place in MAP_PLACES):
        yield "map_url shows the same place for each address; put {ip}, or {latitude} and {longitude}, into it"
    elif url.scheme != "https" or not url.hostname:
        yield "map_url has to begin with https:// and a host name"
    elif "{" in url.netloc:
        yield "map_url has a placeholder in its host name: whoever logs in would choose where it leads"
    elif not map_url.isascii() or not map_url.isprintable() or " " in map_url:
        yield "map_url holds a character that no URL has; write it as %XX"


def _channel_faults(channel: ChannelSettings) -> Iterator[str]:
    if channel.password is not None and channel.oauth2 is not None:
        yield "password and oauth2 exclude each other"
    if (channel.password is not None or channel.oauth2 is not None) != bool(channel.username):
        yield (
            "username needs password or oauth2"
            if channel.username
            else "username is missing: who logs in with that password or token"
        )
    for name, secret in secrets(channel):
        if sum(map(bool, (secret.file, secret.env, secret.command))) != 1:
            yield f"{name} needs exactly one of file, env and command"
    if not channel.servers or not all(channel.servers):
        yield "server is empty"
    if channel.security == "none" and not channel.allow_plaintext and not all(map(_is_loopback, channel.servers)):
        yield 'security = "none" sends all in clear to another machine; take "starttls" or "tls", or allow_plaintext = true'
    if channel.oauth2 is not None and not is_guarded(channel.oauth2.token_url):
        yield "oauth2.token_url has to begin with https://"
    for address in (*channel.to, *([channel.sender] if channel.sender else [])):
        if not _is_mailbox(address):
            yield f"{address!r} is no mail address; write one as ops@example.org, and each in quotes of its own"


def _is_mailbox(address: str) -> bool:
    """Tell whether a text is one mail address, with a name or without; of this machine where it has no domain."""
    from email.utils import getaddresses  # noqa: PLC0415 - of mail channels alone, and not small

    found = getaddresses([address])
    mailbox = found[0][1]
    if len(found) != 1 or any(char in address for char in "\r\n\0"):
        return False
    if "@" not in mailbox:
        return bool(mailbox) and mailbox == address.strip()
    return mailbox.startswith('"') or not any(map(str.isspace, mailbox))


def _is_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (ValueError, OSError, KeyError):
        return False
    return True


def is_guarded(address: str) -> bool:
    """Tell whether what is sent to a URL is encrypted, or stays on this machine."""
    url = urlsplit(address)
    return url.scheme == "https" or (url.scheme == "http" and _is_loopback(url.hostname or ""))


def _is_loopback(server: str) -> bool:
    """Tell whether a server is on this machine, by its name or address; nothing is looked up."""
    try:
        return ip_address(server).is_loopback
    except ValueError:
        return server == "localhost"


def secret_files(config: Config) -> list[Path]:
    """Return the files that hold secrets."""
    return [Path(secret.file) for channel in config.channel for _, secret in secrets(channel) if secret.file]


def secrets(channel: ChannelSettings) -> Iterator[tuple[str, Secret]]:
    """Yield the secrets of a channel, with the names of their keys."""
    if channel.password is not None:
        yield "password", channel.password
    if channel.oauth2 is not None:
        yield "oauth2.refresh_token", channel.oauth2.refresh_token
        if channel.oauth2.client_secret is not None:
            yield "oauth2.client_secret", channel.oauth2.client_secret
