"""``consumer.deliver.channels``: every configured channel is made in one place, and can be sent through, checked and closed."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from consumer.channel_settings import CHANNEL_TYPES, ChannelSettings, EmailSettings
from consumer.deliver.channels import Channel, Medium, channel_of
from consumer.deliver.channels.email import Email

PROJECT_DIR = Path(__file__).parents[3]
# Each type of channel, as little of it as can be configured.
SETTINGS = [EmailSettings(name="ops", to=["ops@example.org"])]


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


def test_mail() -> None:
    """Settings of mail make a channel of mail."""
    assert isinstance(channel_of(SETTINGS[0]), Email)


def test_only_what_is_configured_is_loaded() -> None:
    """The library of a channel is loaded when such a channel is made, and not before."""
    code = (
        "import sys; from consumer.channel_settings import EmailSettings; from consumer.deliver.channels import channel_of;"
        "before = 'aiosmtplib' in sys.modules; channel_of(EmailSettings(name='a', to=['a@example.org']));"
        "print(before, 'aiosmtplib' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT_DIR, capture_output=True, text=True, check=True)
    assert done.stdout == "False True\n"
