"""Faults of a channel's settings that a type cannot express."""

import re
from collections.abc import Iterator
from zoneinfo import ZoneInfo

from consumer.addresses import is_https_or_local, is_loopback
from consumer.channel_settings import ChannelSettings, EmailSettings, secrets
from consumer.config_values import Secret
from consumer.mailbox import mailbox_of
from consumer.toml import KeyPath

# The path of a wrong value within the channel, and the message about it.
_Fault = tuple[KeyPath, str]


def channel_faults(channel: ChannelSettings) -> Iterator[_Fault]:
    """Yield the faults of a channel: the path of each wrong value within the channel, and a message."""
    if channel.timezone and not _is_zone(channel.timezone):
        yield (
            ("timezone",),
            f"timezone {channel.timezone!r} is unknown here; give one such as 'Europe/Berlin', or install the package tzdata",
        )
    match channel:
        case EmailSettings():
            yield from _login_faults(channel)
            yield from _server_faults(channel)
            yield from _address_faults(channel)
    for name, secret in secrets(channel):
        if not is_one(secret):
            yield tuple(name.split(".")), f"{name} needs exactly one of file, env and command"


def is_one(secret: Secret) -> bool:
    """Return whether a secret has exactly one place."""
    return sum(map(bool, (secret.file, secret.env, secret.command))) == 1


def _login_faults(channel: EmailSettings) -> Iterator[_Fault]:
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


def _server_faults(channel: EmailSettings) -> Iterator[_Fault]:
    if not channel.servers or not all(channel.servers):
        yield ("server",), "server is empty"
    if channel.security == "none" and not channel.allow_plaintext and not all(map(is_loopback, channel.servers)):
        yield (
            ("security",),
            'security = "none" sends everything unencrypted to another machine; set "starttls", "tls" or allow_plaintext = true',
        )
    if channel.oauth2 is not None and not is_https_or_local(channel.oauth2.token_url):
        yield ("oauth2", "token_url"), "oauth2.token_url has to begin with https:// and a host name"
    elif channel.oauth2 is not None and not re.fullmatch(r"[!-~]+", channel.oauth2.token_url):
        yield ("oauth2", "token_url"), "oauth2.token_url holds a character that no URL has; write it as %XX"


def _address_faults(channel: EmailSettings) -> Iterator[_Fault]:
    senders: list[tuple[KeyPath, str]] = [(("from",), channel.sender)] if channel.sender else []
    for path, address in (*((("to", number), address) for number, address in enumerate(channel.to)), *senders):
        try:
            mailbox_of(address)
        except ValueError as error:
            yield path, f"{address!r} {error}"


def _is_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (ValueError, OSError, KeyError):
        return False
    return True
