"""The types of values in ``sshbell.toml``. Each description is the valid value, as messages put it: "keep has to be ..."."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

PathText = Annotated[str, Meta(description="a path, in quotes")]
NameText = Annotated[str, Meta(description="a name, in quotes")]
Switch = Annotated[bool, Meta(description="true or false, without quotes")]
# The value of a key that is a time: "90d", "36h", "10m", "30s".
Span = Annotated[
    str,
    Meta(
        pattern=r"^[1-9][0-9]{0,5}[smhdw]\Z",
        description='a number with its unit, in quotes: "90s", "10m", "36h", "90d", "4w"',
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
ReportTime = Annotated[
    str,
    Meta(
        pattern=r"^(?:daily|weekly (?:mon|tue|wed|thu|fri|sat|sun)) (?:[01][0-9]|2[0-3]):[0-5][0-9]\Z|^\Z",
        description='a time of the day: "daily 08:00" or "weekly mon 08:00"',
    ),
]
Hours = Annotated[
    str,
    Meta(
        pattern=r"^(?:(?:[01][0-9]|2[0-3]):[0-5][0-9]-(?:[01][0-9]|2[0-3]):[0-5][0-9])?\Z",
        description='two times of the day: "22:00-07:00"',
    ),
]
# The languages of messages; consumer/deliver/locale has a folder for each but English.
LANGUAGES = ("en", "de")
LanguageCode = Annotated[Literal["en", "de"], Meta(description='"en" or "de"')]
PLACE = 'the place of the secret: { file = "/etc/sshbell/mail.password" }, or with env or command; never the secret itself'


class Secret(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The place of a secret: exactly one of a file, an environment variable, or a command that prints it. Never the secret."""

    file: PathText = ""
    env: NameText = ""
    command: Annotated[list[str], Meta(description='a list of texts: ["pass", "show", "mail"]')] = []
