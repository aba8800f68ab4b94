"""Faults of a channel's settings that a type cannot express."""

import re
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from consumer.addresses import is_https_or_local, is_loopback
from consumer.channel_settings import (
    AppriseSettings,
    ChannelSettings,
    EmailSettings,
    ExecSettings,
    HttpSettings,
    SyslogSettings,
    WebhookSettings,
    XmppSettings,
    secrets,
)
from consumer.config_values import Secret
from consumer.jid import jid_of
from consumer.mailbox import mailbox_of
from consumer.toml import KeyPath

_EXTRA = "/opt/sshbell/bin/pip install 'sshbell[{}]'"
# RFC 9110, sections 5.1 and 5.5. The transport sets the headers of the second set itself.
_HEADER_NAME, _HEADER_VALUE = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"), re.compile(r"[ -~]*")
# The server of a mail channel with its port, as other programs have it. An IPv6 address with a port stands in brackets.
_WITH_PORT = re.compile(r"(?:[a-z]+://)?\[?([^][:/]+|(?<=\[)[0-9A-Fa-f:.]+)\]?:([0-9]{1,5})")
_OWN_HEADERS = frozenset({"content-length", "host", "transfer-encoding", "connection"})
# The path of a wrong value within the channel, and the message about it.
_Fault = tuple[KeyPath, str]


def channel_faults(channel: ChannelSettings) -> Iterator[_Fault]:
    """Yield the faults of a channel: the path of each wrong value within the channel, and a message."""
    if channel.timezone and not _is_zone(channel.timezone):
        yield (
            ("timezone",),
            f"timezone {channel.timezone!r} is unknown here; give one such as 'Europe/Berlin', or install the package tzdata",
        )
    begin, _, end = channel.quiet.partition("-")
    if channel.quiet and begin == end:
        yield ("quiet",), f"quiet {channel.quiet!r} begins and ends at the same time; leave it out, or give two times"
    yield from _type_faults(channel)
    for name, secret in secrets(channel):
        if not is_one(secret):
            # The name of a header may have dots.
            path = name.split(".", 1) if name.startswith("headers.") else name.split(".")
            yield tuple(path), f"{name} needs exactly one of file, env and command"


def is_one(secret: Secret) -> bool:
    """Return whether a secret has exactly one place."""
    return sum(map(bool, (secret.file, secret.env, secret.command))) == 1


def _type_faults(channel: ChannelSettings) -> Iterator[_Fault]:
    match channel:
        case EmailSettings():
            yield from _login_faults(channel)
            yield from _server_faults(channel)
            yield from _address_faults(channel)
        case XmppSettings():
            yield from _xmpp_faults(channel)
        case HttpSettings():
            yield from _http_faults(channel)
        case ExecSettings():
            if not channel.command[0].startswith("/"):
                yield ("command", 0), f"command {channel.command[0]!r} is not an absolute path"
        case SyslogSettings():
            yield from _syslog_faults(channel)
        case AppriseSettings():
            if find_spec("apprise") is None:
                yield ("type",), f"the library apprise is not installed: {_EXTRA.format('apprise')}"


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
    if with_port := next(filter(None, map(_WITH_PORT.fullmatch, channel.servers)), None):
        yield (
            ("server",),
            f"server may not contain a port; write {with_port[1]!r}, and in a line of its own: port = {with_port[2]}",
        )
    elif channel.security == "none" and not channel.allow_plaintext and not all(map(is_loopback, channel.servers)):
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


def _xmpp_faults(channel: XmppSettings) -> Iterator[_Fault]:
    if not channel.recipients:
        yield ("to",), "to and rooms are empty; name at least one person or room"
    lists = {"to": channel.to, "rooms": channel.rooms}
    members = (((key, number), text) for key, texts in lists.items() for number, text in enumerate(texts))
    for path, text in ((("jid",), channel.jid), *members):
        try:
            jid_of(text)
        except ValueError as error:
            yield path, f"{text!r} {error}"
    if not channel.nick.strip() or not channel.nick.isprintable():
        yield ("nick",), "nick has to be a name that people can read"
    if channel.room_password is not None and not channel.rooms:
        yield ("room_password",), "room_password needs rooms"


def _http_faults(channel: HttpSettings) -> Iterator[_Fault]:
    if channel.client_key and not channel.client_certificate:
        yield ("client_key",), "client_certificate is missing: it belongs to this key"
    if isinstance(channel.proxy, str) and channel.proxy:
        if text := proxy_fault(channel.proxy):
            yield ("proxy",), f"proxy {text}"
        elif "@" in channel.proxy:
            yield ("proxy",), "proxy must not contain a user name or a password: put its URL into a file, and name that"
    if isinstance(channel, WebhookSettings):
        yield from _header_faults(channel)
        yield from _template_faults(channel.body, ("body",))


def proxy_fault(proxy: str) -> str:
    """Return the fault of a proxy's URL, without any part of it; "" for none."""
    try:
        parts = urlsplit(proxy)
        is_url = bool(parts.hostname) and parts.port != 0 and parts.path in {"", "/"}
    except ValueError:
        is_url = False
    if not is_url or parts.scheme not in {"http", "https", "socks4", "socks5"}:
        return "has to be a URL with http, https, socks4 or socks5, a host and a port"
    if parts.scheme.startswith("socks") and find_spec("aiohttp_socks") is None:
        return f"needs a library for SOCKS: {_EXTRA.format('socks')}"
    return ""


def _header_faults(channel: WebhookSettings) -> Iterator[_Fault]:
    if not _HEADER_NAME.fullmatch(channel.hmac_header):
        yield ("hmac_header",), f"hmac_header {channel.hmac_header!r} is not the name of a header"
    for name, value in channel.headers.items():
        if not _HEADER_NAME.fullmatch(name) or name.lower() in _OWN_HEADERS:
            yield ("headers", name), f"headers: {name!r} is not a name that a header of yours can have"
        elif isinstance(value, str) and name.lower() in {"authorization", "proxy-authorization"}:
            yield ("headers", name), f"headers: the value of {name} has to be the place of a secret; or use bearer"
        elif isinstance(value, str) and not _HEADER_VALUE.fullmatch(value):
            yield ("headers", name), f"headers: the value of {name} has a character that no header can have"


def _template_faults(value: Any, path: KeyPath) -> Iterator[_Fault]:
    """Yield the faults of the templates in a body."""
    # Imported here, because few configurations have a template, and every command reads the configuration.
    from jinja2 import TemplateSyntaxError  # noqa: PLC0415
    from jinja2.sandbox import SandboxedEnvironment  # noqa: PLC0415

    match value:
        case str():
            try:
                SandboxedEnvironment().parse(value)
            except TemplateSyntaxError as error:
                yield path, f"{'.'.join(map(str, path))} is not a template: {error.message}"
        case dict():
            for key, inner in value.items():
                yield from _template_faults(inner, (*path, key))
        case list():
            for number, inner in enumerate(value):
                yield from _template_faults(inner, (*path, number))


def _syslog_faults(channel: SyslogSettings) -> Iterator[_Fault]:
    if not channel.server.startswith("/"):
        try:
            is_url = bool(urlsplit(channel.server).hostname) and urlsplit(channel.server).port != 0
        except ValueError:
            is_url = False
        if not is_url:
            yield ("server",), f"server {channel.server!r} has no host, or a port that is no number from 1 to 65535"
    if channel.client_key and not channel.client_certificate:
        yield ("client_key",), "client_certificate is missing: it belongs to this key"
    if (channel.ca_file or channel.client_certificate) and not channel.server.startswith("tls://"):
        yield ("server",), "ca_file and client_certificate are for a server with tls:// only"


def _is_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (ValueError, OSError, KeyError):
        return False
    return True
