"""One file per channel. The common interface is here: a channel takes a message, and returns the outcome."""

from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple, Protocol

import msgspec

from consumer.channel_settings import (
    AppriseSettings,
    ChannelSettings,
    EmailSettings,
    ExecSettings,
    FileSettings,
    HttpSettings,
    SyslogSettings,
    XmppSettings,
)
from consumer.text import harmless

# For one try, even if the other side hangs.
LIMIT_S = 30.0
# For a reason, in characters.
_REASON_LIMIT = 300


# The templates that a channel's messages are rendered with: mail has room for everything, and chat for a few lines.
Medium = Literal["mail", "chat"]


class Detail(NamedTuple):
    """A row of a message's table: its name, for programs, its value, and its label in the reader's language."""

    name: str
    value: str
    label: str


class Message(msgspec.Struct, frozen=True):
    """
    A message for a channel; all of it is plain text to the channel.

    Attributes:
        id: the same at each try; letters, digits, ``_`` and ``-``.
        subject: one line.
        text: the whole message.
        html: the whole message for a mail program; "" for the medium chat.
        title: the first sentence of ``text``.
        details: the rows of a table with the facts; () for a digest.
        closing: cautions and advice, a line each; () for a digest.
        event: the event by its names in ECS; {} for a digest.
        thread: the id of the message that this one continues, such as a logout's login; "" for none.
        late: how late the message is, such as ``2 h 5 min``; "" if it is in time.
        recipients: addresses of the channel's kind that replace its own recipients; () for the channel's own.
        language: the code of the reader's language.
        code: of a message with a one-time code, its values by name, for templates of the user's and commands; {} for all others.
    """

    id: str
    subject: str
    text: str
    html: str = ""
    title: str = ""
    details: tuple[Detail, ...] = ()
    closing: tuple[str, ...] = ()
    event: Mapping[str, Any] = {}
    thread: str = ""
    late: str = ""
    recipients: tuple[str, ...] = ()
    language: str = "en"
    code: Mapping[str, Any] = {}


class Delivered(msgspec.Struct, frozen=True):
    """The other side has accepted it. ``note``: a problem, such as with one of several recipients; "" for none."""

    note: str = ""


class RetryLater(msgspec.Struct, frozen=True):
    """
    The other side may accept it later.

    Attributes:
        after_s: retry no sooner than after this many seconds.
        alone: only this message has failed; others may be sent.
    """

    reason: str
    after_s: float = 0
    alone: bool = False


class Rejected(msgspec.Struct, frozen=True):
    """The other side will never accept it as it is."""

    reason: str


SendResult = Delivered | RetryLater | Rejected


def reason_of(text: str, secrets: Iterable[str] = ()) -> str:
    """Return somebody else's text as a reason: one line that is safe for a terminal, not too long, and without the secrets."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "***")
    shown = harmless(" ".join(text.split()))
    return shown if len(shown) <= _REASON_LIMIT else f"{shown[: _REASON_LIMIT - 1]}…"


class Channel(Protocol):
    """Sends messages to people. It handles its library's exceptions, and never retries by itself."""

    medium: Medium

    async def send(self, message: Message) -> SendResult:
        """Send a message, within ``LIMIT_S``."""

    async def check(self) -> SendResult:
        """Connect and log in, within ``LIMIT_S``, but send nothing: Delivered if the other side would accept a message."""

    def close(self) -> None:
        """Close connections, at once."""


def channel_of(settings: ChannelSettings) -> Channel:
    """Return a channel with these settings. Only the modules of configured channels are loaded."""
    match settings:
        case EmailSettings():
            from consumer.deliver.channels.email import Email  # noqa: PLC0415 - it imports this module

            return Email(settings)
        case XmppSettings():
            from consumer.deliver.channels.xmpp import Xmpp  # noqa: PLC0415 - it imports this module

            return Xmpp(settings)
        case HttpSettings():
            from consumer.deliver.channels.webhook import Webhook  # noqa: PLC0415 - as above

            return Webhook(settings)
        case ExecSettings():
            from consumer.deliver.channels.exec import Exec  # noqa: PLC0415 - as above

            return Exec(settings)
        case FileSettings():
            from consumer.deliver.channels.file import File  # noqa: PLC0415 - as above

            return File(settings)
        case SyslogSettings():
            from consumer.deliver.channels.syslog import Syslog  # noqa: PLC0415 - as above

            return Syslog(settings)
        case AppriseSettings():
            from consumer.deliver.channels.apprise import Apprise  # noqa: PLC0415 - as above

            return Apprise(settings)
