"""The settings of each type of channel, as the tables under ``[[channel]]`` give them."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import Meta

from consumer.config_values import PLACE, Hours, LanguageCode, Name, NameText, PathText, Port, Secret, Switch

# The place of a URL with which anybody could send.
_URL_PLACE = PLACE.replace("mail.password", "slack.url")
_MOST_PER_HOUR = 100_000
_MaxPerHour = Annotated[int, Meta(ge=1, le=_MOST_PER_HOUR, description="a number from 1 to 100000, without quotes")]


class OAuth2(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The settings to get an access token for XOAUTH2."""

    token_url: Annotated[str, Meta(description='an address: "https://..."')]
    client_id: Annotated[str, Meta(description="a text, in quotes")]
    refresh_token: Annotated[Secret, Meta(description=PLACE)]
    client_secret: Annotated[Secret | None, Meta(description=PLACE)] = None


class CommonSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="type"):
    """
    The settings that every channel has.

    Attributes:
        max_per_hour: messages about each account on each host, and about everything else; further ones wait, and sshbell sends
            them together in one message.
        timezone: of the reader, shown beside UTC: ``Europe/Berlin``; "" is this host's.
        language: of the reader.
        quiet: hours in that zone in which the channel sends only what a route marks as urgent; "" for none.
    """

    name: Name
    max_per_hour: _MaxPerHour = 60
    timezone: Annotated[str, Meta(description='a name such as "Europe/Berlin", in quotes')] = ""
    language: LanguageCode = "en"
    quiet: Hours = ""

    @property
    def recipients(self) -> tuple[str, ...]:
        """The channel's own recipients, where it has a list of them that people's contacts can replace."""
        return ()


class EmailSettings(CommonSettings, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="email"):
    """
    A channel that sends mail.

    Attributes:
        server: the servers' names, tried in order.
        port: by default 587 with ``starttls``, 465 with ``tls``, 25 with ``none``.
        security: ``none`` only for a server on this machine, unless ``allow_plaintext`` is set.
        ca_file: certificate of the authority that signed the server's certificate, if the system does not know it.
    """

    to: Annotated[list[str], Meta(min_length=1, description='a list of addresses: ["ops@example.org"]')]
    sender: Annotated[str, Meta(description='an address: "sshbell@example.org"')] = msgspec.field(name="from", default="")
    server: Annotated[str | list[str], Meta(description='a name, or a list of names: "mail.example.org"')] = "localhost"
    port: Annotated[Port | None, Meta(description="a number from 1 to 65535, without quotes")] = None
    security: Annotated[Literal["starttls", "tls", "none"], Meta(description='"starttls", "tls" or "none"')] = "starttls"
    allow_plaintext: Switch = False
    ca_file: PathText = ""
    username: NameText = ""
    password: Annotated[Secret | None, Meta(description=PLACE)] = None
    oauth2: Annotated[OAuth2 | None, Meta(description="a table with token_url, client_id and refresh_token")] = None

    @property
    def recipients(self) -> tuple[str, ...]:
        """The addresses under ``to``."""
        return tuple(self.to)

    @property
    def servers(self) -> list[str]:
        """The servers in the order in which they are tried."""
        return [self.server] if isinstance(self.server, str) else list(self.server)


class XmppSettings(CommonSettings, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="xmpp"):
    """
    A channel that sends chat messages over XMPP, which many know as Jabber.

    Attributes:
        jid: sshbell's own account.
        to: people.
        rooms: chat rooms (MUC, XEP-0045), which sshbell joins.
        nick: sshbell's name in the rooms.
        room_password: of all ``rooms``; None if they have none.
        server: a host in place of the one that the DNS names for the account's domain. The certificate has to be the domain's.
        port: of ``server``; by default 5222 with ``starttls``, 5223 with ``tls``.
        ca_file: certificate of the authority that signed the server's certificate, if the system does not know it.
    """

    jid: Annotated[str, Meta(description='an address: "sshbell@example.org"')]
    password: Annotated[Secret, Meta(description=PLACE)]
    to: Annotated[list[str], Meta(description='a list of addresses: ["alice@example.org"]')] = []
    rooms: Annotated[list[str], Meta(description='a list of addresses: ["ops@conference.example.org"]')] = []
    nick: NameText = "sshbell"
    room_password: Annotated[Secret | None, Meta(description=PLACE)] = None
    server: NameText = ""
    port: Annotated[Port | None, Meta(description="a number from 1 to 65535, without quotes")] = None
    security: Annotated[Literal["starttls", "tls"], Meta(description='"starttls" or "tls"')] = "starttls"
    ca_file: PathText = ""

    @property
    def recipients(self) -> tuple[str, ...]:
        """The people under ``to`` and the rooms."""
        return (*self.to, *self.rooms)


class HttpSettings(CommonSettings, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """
    The settings of every channel that sends a request to a web service.

    Attributes:
        url: the place of the URL. It is a secret, because those of most services contain the right to send.
        proxy: its URL, or the place of one with a password; "" for that of the environment variables, if there is one.
        ca_file: certificate of the authority that signed the server's certificate, if the system does not know it.
        client_certificate, client_key: files in PEM format, for servers that ask for them; the first may hold the key, too.
    """

    url: Annotated[Secret, Meta(description=_URL_PLACE)]
    proxy: Annotated[
        str | Secret,
        Meta(
            description='a URL such as "http://proxy.example.org:3128" or "socks5://127.0.0.1:1080"; for one with a password, '
            + PLACE.replace("mail.password", "proxy.url")
        ),
    ] = ""
    ca_file: PathText = ""
    client_certificate: PathText = ""
    client_key: PathText = ""


class SlackSettings(HttpSettings, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="slack"):
    """A channel to an incoming webhook of Slack."""


class TeamsSettings(HttpSettings, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="teams"):
    """A channel to a workflow of Microsoft Teams that posts what a webhook receives."""


class DiscordSettings(HttpSettings, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="discord"):
    """A channel to a webhook of Discord."""


class TelegramSettings(HttpSettings, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="telegram"):
    """A channel to a bot of Telegram. The URL ends in ``/botTOKEN/sendMessage``."""

    chat_id: Annotated[int | str, Meta(description='the number of a chat: -1001234567890; or the name of a channel: "@name"')]


class NtfySettings(HttpSettings, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="ntfy"):
    """A channel to a topic of ntfy. The URL is the topic's: ``https://ntfy.sh/TOPIC``."""

    bearer: Annotated[Secret | None, Meta(description=PLACE.replace("mail.password", "ntfy.token"))] = None


class WebhookSettings(HttpSettings, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="webhook"):
    """
    A channel to any other web service.

    Attributes:
        headers: values by name; a value that is a secret has a place.
        body: JSON whose texts are templates; {} for one with the whole message.
        hmac_key: for a signature of the body (HMAC with SHA-256) in the header ``hmac_header``: ``sha256=`` and hex digits.
    """

    method: Annotated[Literal["POST", "PUT", "PATCH"], Meta(description='"POST", "PUT" or "PATCH"')] = "POST"
    headers: Annotated[
        dict[str, str | Secret],
        Meta(description='a table of texts and places of secrets: { "X-Api-Key" = { file = "/etc/sshbell/api.key" } }'),
    ] = {}
    body: Annotated[dict[str, Any], Meta(description='a table whose texts are templates: { text = "{{ text }}" }')] = {}
    bearer: Annotated[Secret | None, Meta(description=PLACE.replace("mail.password", "hook.token"))] = None
    hmac_key: Annotated[Secret | None, Meta(description=PLACE.replace("mail.password", "hook.key"))] = None
    hmac_header: NameText = "X-Signature-256"


class ExecSettings(CommonSettings, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="exec"):
    """A channel that runs a command of the user's, without a shell."""

    command: Annotated[list[str], Meta(min_length=1, description='a program and its arguments: ["/usr/local/bin/ring", "-q"]')]


class FileSettings(CommonSettings, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="file"):
    """A channel that appends lines of JSON to a file. Nobody reads it message by message, so no limit comes by default."""

    path: Annotated[str, Meta(pattern="^/", description='an absolute path, in quotes: "/var/log/sshbell/events.json"')]
    max_per_hour: _MaxPerHour = _MOST_PER_HOUR


class SyslogSettings(CommonSettings, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="syslog"):
    """
    A channel to a syslog server, such as a SIEM's. As of a file, no limit comes by default.

    Attributes:
        server: the path of a socket, or a URL: ``udp://``, ``tcp://`` or ``tls://``, a host, and perhaps a port.
        ca_file, client_certificate, client_key: for TLS, as in ``HttpSettings``.
    """

    server: Annotated[
        str,
        Meta(
            pattern=r"^(/|(udp|tcp|tls)://[^/@?#\s]+\Z)",
            description='a path or a URL: "/dev/log", "udp://siem.example.org:514", "tcp://..." or "tls://..."',
        ),
    ]
    ca_file: PathText = ""
    client_certificate: PathText = ""
    client_key: PathText = ""
    max_per_hour: _MaxPerHour = _MOST_PER_HOUR


class AppriseSettings(CommonSettings, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="apprise"):
    """A channel to one of the services that the library apprise knows; ``url`` is the place of its URL, in apprise's form."""

    url: Annotated[Secret, Meta(description=PLACE.replace("mail.password", "apprise.url"))]


ChannelSettings = (
    EmailSettings
    | XmppSettings
    | SlackSettings
    | TeamsSettings
    | DiscordSettings
    | TelegramSettings
    | NtfySettings
    | WebhookSettings
    | ExecSettings
    | FileSettings
    | SyslogSettings
    | AppriseSettings
)
CHANNEL_TYPES: dict[str, type[ChannelSettings]] = {str(kind.__struct_config__.tag): kind for kind in get_args(ChannelSettings)}


def secrets(channel: CommonSettings) -> Iterator[tuple[str, Secret]]:
    """Yield the secrets of a channel, each with the name of its key."""
    match channel:
        case EmailSettings():
            if channel.password is not None:
                yield "password", channel.password
            if channel.oauth2 is not None:
                yield "oauth2.refresh_token", channel.oauth2.refresh_token
                if channel.oauth2.client_secret is not None:
                    yield "oauth2.client_secret", channel.oauth2.client_secret
        case XmppSettings():
            yield "password", channel.password
            if channel.room_password is not None:
                yield "room_password", channel.room_password
        case HttpSettings():
            yield from _http_secrets(channel)
        case AppriseSettings():
            yield "url", channel.url


def key_files(channel: CommonSettings) -> Iterator[tuple[str, str]]:
    """Yield the files that hold a private key, each with the name of its setting."""
    if isinstance(channel, HttpSettings | SyslogSettings) and channel.client_certificate:
        name = "client_key" if channel.client_key else "client_certificate"
        yield name, channel.client_key or channel.client_certificate


def _http_secrets(channel: HttpSettings) -> Iterator[tuple[str, Secret]]:
    yield "url", channel.url
    if isinstance(channel.proxy, Secret):
        yield "proxy", channel.proxy
    if isinstance(channel, NtfySettings | WebhookSettings) and channel.bearer is not None:
        yield "bearer", channel.bearer
    if isinstance(channel, WebhookSettings):
        if channel.hmac_key is not None:
            yield "hmac_key", channel.hmac_key
        yield from ((f"headers.{name}", value) for name, value in channel.headers.items() if isinstance(value, Secret))
