"""``consumer.deliver.channels``: every configured channel is made in one place, and can be sent through, checked and closed."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from consumer.channel_settings import (
    CHANNEL_TYPES,
    AppriseSettings,
    ChannelSettings,
    DiscordSettings,
    EmailSettings,
    ExecSettings,
    FileSettings,
    NtfySettings,
    SlackSettings,
    SyslogSettings,
    TeamsSettings,
    TelegramSettings,
    WebhookSettings,
    XmppSettings,
)
from consumer.config_values import Secret
from consumer.deliver.channels import Channel, Medium, channel_of, reason_of

PROJECT_DIR = Path(__file__).parents[3]
# The libraries of channels.
LIBRARIES = ["aiosmtplib", "slixmpp", "aiohttp", "aiohttp_socks", "apprise"]
# Each type of channel, as little of it as can be configured.
URL = Secret(env="SSHBELL_URL")
SETTINGS: list[ChannelSettings] = [
    EmailSettings(name="ops", to=["ops@example.org"]),
    XmppSettings(name="chat", jid="bell@example.org", password=Secret(env="BELL"), to=["alice@example.org"]),
    SlackSettings(name="ops", url=URL),
    TeamsSettings(name="ops", url=URL),
    DiscordSettings(name="ops", url=URL),
    TelegramSettings(name="ops", url=URL, chat_id=1),
    NtfySettings(name="ops", url=URL),
    WebhookSettings(name="ops", url=URL),
    ExecSettings(name="ops", command=["/bin/true"]),
    FileSettings(name="ops", path="/nonexistent/events.json"),
    SyslogSettings(name="ops", server="/dev/log"),
    AppriseSettings(name="ops", url=URL),
]


def test_each_type_is_here() -> None:
    """A type of channel that joins the configuration joins these tests."""
    assert [type(settings) for settings in SETTINGS] == list(CHANNEL_TYPES.values())


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: str(settings.__struct_config__.tag))
def test_what_a_channel_can_do(settings: ChannelSettings) -> None:
    """It has all that the protocol promises; what waits for a server is a coroutine, and to close is none."""
    channel = channel_of(settings)
    promised = [name for name in vars(Channel) if not name.startswith("_")]
    assert promised == ["send", "check", "close"]
    assert channel.medium in get_args(Medium)
    assert [inspect.iscoroutinefunction(getattr(channel, name)) for name in promised] == [True, True, False]
    channel.close()


@pytest.mark.parametrize(
    ("table", "library"),
    [
        ({"type": "email", "to": ["a@example.org"]}, "aiosmtplib"),
        ({"type": "xmpp", "jid": "a@example.org", "password": {"env": "PASSWORD"}, "to": ["b@example.org"]}, "slixmpp"),
        ({"type": "slack", "url": {"env": "URL"}}, "aiohttp"),
        ({"type": "exec", "command": ["/bin/true"]}, ""),
        ({"type": "file", "path": "/nonexistent/x"}, ""),
        ({"type": "syslog", "server": "/dev/log"}, ""),
        ({"type": "apprise", "url": {"env": "URL"}}, "apprise"),
    ],
    ids=lambda table: table["type"] if isinstance(table, dict) else "",
)
def test_only_what_is_configured_is_loaded(table: dict[str, object], library: str) -> None:
    """The library of a channel is loaded when such a channel is made, and not before; those of others are not loaded."""
    code = (
        "import sys, msgspec; from consumer.channel_settings import ChannelSettings;"
        "from consumer.deliver.channels import channel_of; import consumer.deliver.dispatcher;"
        f"libraries = {LIBRARIES!r};"
        "print(*(library for library in libraries if library in sys.modules));"
        f"channel_of(msgspec.convert({table | {'name': 'a'}!r}, ChannelSettings));"
        "print(*(library for library in libraries if library in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT_DIR, capture_output=True, text=True, check=True)
    assert done.stdout == f"\n{library}\n"


@pytest.mark.parametrize(
    ("text", "secrets", "reason"),
    [
        ("550 no such\r\n  mailbox", [], "550 no such mailbox"),
        ("\x1b[2Jgone", [], r"\x1b[2Jgone"),
        ("AUTH hunter2hunter2 failed", ["hunter2", "hunter2hunter2"], "AUTH *** failed"),
        ("x" * 301, [], "x" * 299 + "…"),
        ("x" * 298 + "hunter2", ["hunter2"], "x" * 298 + "*…"),
    ],
)
def test_reasons(text: str, secrets: list[str], reason: str) -> None:
    """A reason is one line, obeys no terminal, conceals the longest secret first and before it is cut."""
    assert reason_of(text, secrets) == reason
