"""One file per channel. What all have in common is here: they take a message, and answer what became of it."""

from typing import Protocol

import msgspec

from consumer.config import ChannelSettings, EmailSettings

# For one try, whatever the other side does.
LIMIT_S = 30.0


class Message(msgspec.Struct, frozen=True):
    """
    What a channel is to tell; nothing in it is more than text.

    Attributes:
        id: the same whenever this message is tried; of letters, digits, ``_`` and ``-``.
        subject: one line.
        thread: the id of the message that this one continues, such as a logout's login; "" for none.
        late: how late it is, such as ``2 h 5 min``; "" where it is in time.
        recipients: whom to tell in place of those of the channel, as addresses of its kind; () for those of the channel.
    """

    id: str
    subject: str
    text: str
    html: str
    thread: str = ""
    late: str = ""
    recipients: tuple[str, ...] = ()


class Delivered(msgspec.Struct, frozen=True):
    """The other side has taken it. ``note``: what about it was not right, such as one of several recipients; "" for nothing."""

    note: str = ""


class RetryLater(msgspec.Struct, frozen=True):
    """
    It may be taken later.

    Attributes:
        after_s: not before so many seconds.
        alone: only this message is in trouble; others may go.
    """

    reason: str
    after_s: float = 0
    alone: bool = False


class Rejected(msgspec.Struct, frozen=True):
    """It will never be taken as it is."""

    reason: str


SendResult = Delivered | RetryLater | Rejected


class Channel(Protocol):
    """A way to people. It owns its library's exceptions, and no retry loop."""

    async def send(self, message: Message) -> SendResult:
        """Send a message, within ``LIMIT_S``."""

    async def check(self) -> SendResult:
        """Connect and log in, within ``LIMIT_S``, and send nothing: Delivered where the other side would take a message."""

    def close(self) -> None:
        """Close connections, at once."""


def channel_of(settings: ChannelSettings) -> Channel:
    """Make a channel as it is configured. Only the modules of configured channels are loaded."""
    match settings:
        case EmailSettings():
            from consumer.deliver.channels.email import Email  # noqa: PLC0415 - it imports this module

            return Email(settings)
