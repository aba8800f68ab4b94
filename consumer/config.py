"""The configuration file: TOML, every key with a default, unknown keys refused."""

from collections.abc import Iterator
from datetime import timedelta
from difflib import get_close_matches
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from consumer.errors import ConfigError

DEFAULT_PATH = "/etc/sshbell/sshbell.toml"

# A time that a key holds: "90d", "36h", "10m", "30s".
Span = Annotated[str, Meta(pattern=r"^[1-9][0-9]{0,5}[smhdw]$")]
Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
AbsolutePath = Annotated[str, Meta(pattern=r"^/")]
Port = Annotated[int, Meta(ge=1, le=65535)]

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


class Email(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="email"):
    """
    A channel that sends mail.

    Attributes:
        server: the servers' names, tried in order.
        port: by default 587 with ``starttls``, 465 with ``tls``, 25 with ``none``.
        security: ``none`` only to this machine, unless ``allow_plaintext`` is set.
        ca_file: of the authority that signed the server's certificate, where the system does not know it.
        max_per_hour: messages; what is above waits, and is told in one message.
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

    @property
    def servers(self) -> list[str]:
        """The servers in the order in which they are tried."""
        return [self.server] if isinstance(self.server, str) else list(self.server)


# The other channels join here.
Channel = Email


class Choice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Events by user (``*`` and ``?`` as in a shell), address (networks) and method; empty lists say nothing, all must fit."""

    user: list[str] = []
    address: list[str] = []
    method: list[str] = []


class Route(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which events go to which channels."""

    channels: Annotated[list[str], Meta(min_length=1)]
    events: Annotated[
        tuple[Literal["ssh_login", "ssh_logout", "ssh_attempt", "ssh_probe", "ssh_forged"], ...], Meta(min_length=1)
    ] = ("ssh_login", "ssh_forged")
    include: Choice = Choice()
    exclude: Choice = Choice()


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
        geoip: files of databases in MaxMind's format, ``*`` and ``?`` as in a shell; none: places are not told.
    """

    sshd_programs: list[str] = []
    state_dir: str = "/var/lib/sshbell"
    user: str = "sshbell"
    catch_up: str = "/var/log/auth.log"
    keep: Span = "90d"
    give_up: Span = "3d"
    channel: list[Channel] = []
    route: list[Route] = []
    geoip: list[AbsolutePath] = msgspec.field(default_factory=lambda: list(_GEOIP))


def load(path: str | None) -> Config:
    """
    Read the configuration; all defaults where ``path`` is None and there is none in the default place.

    Raises:
        ConfigError: it cannot be read, or says something that is not known or cannot be meant.
    """
    place = path or DEFAULT_PATH
    try:
        text = Path(place).read_bytes()
    except OSError as error:
        if path is None and isinstance(error, FileNotFoundError):
            return Config()
        raise ConfigError(f"{place}: {error.strerror}") from error
    return parse(text, place)


def parse(text: bytes, place: str) -> Config:
    """
    Read the text of a configuration; ``place`` is named in errors.

    Raises:
        ConfigError: it says something that is not known or cannot be meant.
    """
    try:
        config = msgspec.toml.decode(text, type=Config)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{place}: {error}{_suggestion(str(error))}") from error
    faults = list(_faults(config))
    if faults:
        raise ConfigError("; ".join(f"{place}: {fault}" for fault in faults))
    return config


def _suggestion(complaint: str) -> str:
    _, found, name = complaint.partition("unknown field `")
    keys = [
        field.encode_name for kind in (Config, Email, Route, Choice, Secret, OAuth2) for field in msgspec.structs.fields(kind)
    ]
    close = get_close_matches(name.partition("`")[0], keys, 1) if found else []
    return f"; did you mean {close[0]!r}?" if close else ""


def _faults(config: Config) -> Iterator[str]:
    """Yield what cannot be meant although each key is right by itself."""
    names = [channel.name for channel in config.channel]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"two channels are called {name!r}"
    if not Path(config.state_dir).is_absolute():
        yield f"state_dir {config.state_dir!r} is not an absolute path"
    for channel in config.channel:
        yield from (f"channel {channel.name!r}: {fault}" for fault in _channel_faults(channel))
    for number, route in enumerate(config.route, 1):
        for name in route.channels:
            if name not in names:
                close = get_close_matches(name, names, 1)
                yield f"route {number}: there is no channel {name!r}" + (f"; did you mean {close[0]!r}?" if close else "")
        for network in (*route.include.address, *route.exclude.address):
            try:
                ip_network(network)
            except ValueError as error:
                yield f"route {number}: {error}"


def _channel_faults(channel: Channel) -> Iterator[str]:
    if channel.password is not None and channel.oauth2 is not None:
        yield "password and oauth2 exclude each other"
    if (channel.password is not None or channel.oauth2 is not None) and not channel.username:
        yield "username is missing"
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
        if any(char in address for char in "\r\n\0") or not address.strip():
            yield f"{address!r} is no mail address"


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


def secrets(channel: Channel) -> Iterator[tuple[str, Secret]]:
    """Yield the secrets of a channel, with the names of their keys."""
    if channel.password is not None:
        yield "password", channel.password
    if channel.oauth2 is not None:
        yield "oauth2.refresh_token", channel.oauth2.refresh_token
        if channel.oauth2.client_secret is not None:
            yield "oauth2.client_secret", channel.oauth2.client_secret
