"""The configuration file: TOML, every key with a default, unknown keys refused."""

from difflib import get_close_matches
from pathlib import Path

import msgspec

from consumer.errors import ConfigError

DEFAULT_PATH = "/etc/sshbell/sshbell.toml"


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    What can be set.

    Attributes:
        sshd_programs: further names under which sshd logs, such as ``sshd-ga`` for a copy of the binary; up to OpenSSH 9.7 the
            PAM service has that name too.
    """

    sshd_programs: list[str] = []


def load(path: str | None) -> Config:
    """
    Read the configuration; all defaults where ``path`` is None and there is none in the default place.

    Raises:
        ConfigError: it cannot be read, or says something that is not known.
    """
    try:
        text = Path(path or DEFAULT_PATH).read_bytes()
    except OSError as error:
        if path is None and isinstance(error, FileNotFoundError):
            return Config()
        raise ConfigError(f"{path or DEFAULT_PATH}: {error.strerror}") from error
    try:
        return msgspec.toml.decode(text, type=Config)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path or DEFAULT_PATH}: {error}{_suggestion(str(error))}") from error


def _suggestion(complaint: str) -> str:
    _, found, name = complaint.partition("unknown field `")
    close = get_close_matches(name.partition("`")[0], Config.__struct_fields__, 1) if found else []
    return f"; did you mean {close[0]!r}?" if close else ""
