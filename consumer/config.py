"""
The settings, as the stages get them. Every key has a default. ``config_file`` reads them from ``sshbell.toml``.

The description of a field is the valid value of its key, as error messages put it: "keep has to be ...".
"""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from consumer.actions import EventAction

PEOPLE_PATH = "/etc/sshbell/people.toml"
# In the state directory: the socket on which the process keys answers.
KEYS_SOCKET = "keys.sock"

PathText = Annotated[str, Meta(description="a path, in quotes")]
NameText = Annotated[str, Meta(description="a name, in quotes")]
Switch = Annotated[bool, Meta(description="true or false, without quotes")]
# The value of a key that is a time: "90d", "36h", "10m", "30s".
Span = Annotated[
    str,
    Meta(
        pattern=r"^[1-9][0-9]{0,5}[smhdw]\Z",
        description='a number of seconds, minutes, hours, days or weeks: "90s", "10m", "36h", "90d", "4w"',
    ),
]
Name = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}\Z",
        description="up to 63 letters, digits, dots, underscores and hyphens, in quotes",
    ),
]
AbsolutePath = Annotated[str, Meta(pattern=r"^/")]
Port = Annotated[int, Meta(ge=1, le=65535)]
HostName = Annotated[
    str,
    Meta(
        pattern=r"^(?=.{1,253}(?::|\Z))[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]{1,5})?\Z",
        description='the name of a host: "geolite.info"',
    ),
]
_PLACE = 'the place of the secret: { file = "/etc/sshbell/mail.password" }, or with env or command; never the secret itself'

# Where "sshbell geoip fetch" stores databases, and where other programs do.
_GEOIP = ("/var/lib/sshbell/geoip/*.mmdb", "/var/lib/GeoIP/*.mmdb", "/usr/share/GeoIP/*.mmdb")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_CHOICE = "a table with user, address and method, such as"
_EVENTS = [f'"{action}"' for action in EventAction]


def seconds_of(span: str) -> float:
    """Return the seconds of a span such as ``90d``: a number of seconds, minutes, hours, days or weeks."""
    return timedelta(**{_UNITS[span[-1]]: int(span[:-1])}).total_seconds()


class Secret(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The place of a secret: exactly one of a file, an environment variable, or a command that prints it. Never the secret."""

    file: PathText = ""
    env: NameText = ""
    command: Annotated[list[str], Meta(description='a list of texts: ["pass", "show", "mail"]')] = []


class OAuth2(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The settings to get an access token for XOAUTH2."""

    token_url: Annotated[str, Meta(description='an address: "https://..."')]
    client_id: Annotated[str, Meta(description="a text, in quotes")]
    refresh_token: Annotated[Secret, Meta(description=_PLACE)]
    client_secret: Annotated[Secret | None, Meta(description=_PLACE)] = None


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
    to: Annotated[list[str], Meta(min_length=1, description='a list of addresses: ["ops@example.org"]')]
    sender: Annotated[str, Meta(description='an address: "sshbell@example.org"')] = msgspec.field(name="from", default="")
    server: Annotated[str | list[str], Meta(description='a name, or a list of names: "mail.example.org"')] = "localhost"
    port: Annotated[Port | None, Meta(description="a number from 1 to 65535, without quotes")] = None
    security: Annotated[Literal["starttls", "tls", "none"], Meta(description='"starttls", "tls" or "none"')] = "starttls"
    allow_plaintext: Switch = False
    ca_file: PathText = ""
    username: NameText = ""
    password: Annotated[Secret | None, Meta(description=_PLACE)] = None
    oauth2: Annotated[OAuth2 | None, Meta(description="a table with token_url, client_id and refresh_token")] = None
    max_per_hour: Annotated[int, Meta(ge=1, le=100_000, description="a number from 1 to 100000, without quotes")] = 60
    timezone: Annotated[str, Meta(description='a name such as "Europe/Berlin", in quotes')] = ""

    @property
    def servers(self) -> list[str]:
        """The servers in the order in which they are tried."""
        return [self.server] if isinstance(self.server, str) else list(self.server)


# The other channels join here.
ChannelSettings = EmailSettings


class Choice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Selects events by user (``*`` and ``?`` as in a shell), address (networks) and method. All non-empty lists must fit."""

    user: Annotated[list[str], Meta(description='a list of names: ["alice", "backup-*"]')] = []
    address: Annotated[list[str], Meta(description='a list of networks: ["192.0.2.0/24"]')] = []
    method: Annotated[list[str], Meta(description='a list of methods: ["publickey"]')] = []


class Route(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    Which events go to which channels.

    Attributes:
        to_owner: send them to the contacts of the person they are about; if there are none, to the channel's own recipients.
    """

    channels: Annotated[list[str], Meta(min_length=1, description='a list of names of channels: ["ops"]')]
    events: Annotated[
        tuple[EventAction, ...],
        Meta(min_length=1, description=f"a list of {', '.join(_EVENTS[:-1])} and {_EVENTS[-1]}"),
    ] = (EventAction.LOGIN, EventAction.FORGED)
    include: Annotated[Choice, Meta(description=f'{_CHOICE} {{ user = ["alice"] }}')] = Choice()
    exclude: Annotated[Choice, Meta(description=f'{_CHOICE} {{ user = ["backup-*"] }}')] = Choice()
    to_owner: Switch = False


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

    sshd_programs: Annotated[list[str], Meta(description='a list of texts: ["..."]')] = []
    state_dir: PathText = "/var/lib/sshbell"
    user: NameText = "sshbell"
    catch_up: PathText = "/var/log/auth.log"
    keep: Span = "90d"
    give_up: Span = "3d"
    reverse_dns: Switch = True
    hosts: Annotated[dict[str, list[str]], Meta(description='a table of lists of addresses: { bastion1 = ["192.0.2.10"] }')] = {}
    map_url: Annotated[str, Meta(description="an address with {ip}, {latitude} or {longitude} in it, in quotes")] = ""
    people: PathText = PEOPLE_PATH
    channel: Annotated[list[ChannelSettings], Meta(description="a table under [[channel]], in two pairs of brackets")] = []
    route: Annotated[list[Route], Meta(description="a table under [[route]], in two pairs of brackets")] = []
    geoip: Annotated[
        list[AbsolutePath] | Literal["web"],
        Meta(description='a list of whole paths, each in quotes: ["/var/lib/GeoIP/*.mmdb"]; or "web"'),
    ] = msgspec.field(default_factory=lambda: list(_GEOIP))
    geoip_account: Annotated[int, Meta(ge=0, le=10**12, description="a number, without quotes")] = 0
    geoip_key: Annotated[Secret | None, Meta(description=_PLACE.replace("mail.password", "maxmind.key"))] = None
    geoip_host: HostName = "geoip.maxmind.com"


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
