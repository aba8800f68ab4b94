"""The settings of each type of channel, as the tables under ``[[channel]]`` give them."""

from collections.abc import Iterator
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from consumer.config_values import PLACE, Name, NameText, PathText, Port, Secret, Switch

# The place of a URL that whoever knows it can send to.
_URL_PLACE = PLACE.replace("mail.password", "slack.url")


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
    """

    name: Name
    max_per_hour: Annotated[int, Meta(ge=1, le=100_000, description="a number from 1 to 100000, without quotes")] = 60
    timezone: Annotated[str, Meta(description='a name such as "Europe/Berlin", in quotes')] = ""

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


class HttpSettings(CommonSettings, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """
    The settings of every channel that sends a request to a web service.

    Attributes:
        url: the place of the URL. It is a secret, because those of most services contain the right to send.
        proxy: its URL, without a password; "" for that of the environment variables, if there is one.
        ca_file: certificate of the authority that signed the server's certificate, if the system does not know it.
        client_certificate, client_key: files in PEM format, for servers that ask for them; the first may hold the key, too.
    """

    url: Annotated[Secret, Meta(description=_URL_PLACE)]
    proxy: Annotated[str, Meta(description='a URL such as "http://proxy.example.org:3128" or "socks5://127.0.0.1:1080"')] = ""
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


ChannelSettings = EmailSettings | SlackSettings | TeamsSettings | DiscordSettings | TelegramSettings | NtfySettings
CHANNEL_TYPES: dict[str, type[ChannelSettings]] = {
    str(kind.__struct_config__.tag): kind
    for kind in (EmailSettings, SlackSettings, TeamsSettings, DiscordSettings, TelegramSettings, NtfySettings)
}


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
        case HttpSettings():
            yield from _http_secrets(channel)


def _http_secrets(channel: HttpSettings) -> Iterator[tuple[str, Secret]]:
    yield "url", channel.url
    if isinstance(channel, NtfySettings) and channel.bearer is not None:
        yield "bearer", channel.bearer
