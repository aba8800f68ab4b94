"""The settings of each type of channel, as the tables under ``[[channel]]`` give them."""

from collections.abc import Iterator
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from consumer.config_values import PLACE, Name, NameText, PathText, Port, Secret, Switch


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


ChannelSettings = EmailSettings
CHANNEL_TYPES: dict[str, type[ChannelSettings]] = {str(kind.__struct_config__.tag): kind for kind in (EmailSettings,)}


def secrets(channel: ChannelSettings) -> Iterator[tuple[str, Secret]]:
    """Yield the secrets of a channel, each with the name of its key."""
    match channel:
        case EmailSettings():
            if channel.password is not None:
                yield "password", channel.password
            if channel.oauth2 is not None:
                yield "oauth2.refresh_token", channel.oauth2.refresh_token
                if channel.oauth2.client_secret is not None:
                    yield "oauth2.client_secret", channel.oauth2.client_secret
