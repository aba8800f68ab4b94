"""Reads ``[codes]`` alone: a login waits for it, and a fault elsewhere in the file must not keep anybody out."""

import tomllib
from pathlib import Path
from typing import NamedTuple

import msgspec

from consumer.codes_settings import Codes
from consumer.state_dir import STATE_DIR, state_dir_in


class Settings(NamedTuple):
    """
    What the commands for PAM need of ``sshbell.toml``.

    Attributes:
        codes: the table; if it has a fault, one without a channel, which lets in emergency codes only.
        state_dir: where ``deliver`` listens.
        fault: what is wrong with the file; "" if nothing is.
    """

    codes: Codes
    state_dir: str
    fault: str = ""


def settings_of(path: str) -> Settings:
    """Return the settings from a configuration, whatever faults it has; ``sshbell check`` shows each with its line."""
    try:
        tables = tomllib.loads(Path(path).read_text("utf-8"))
        state_dir = tables.get("state_dir", STATE_DIR)
        if isinstance(state_dir, str):
            return Settings(msgspec.convert(tables.get("codes", {}), Codes), state_dir)
        reason = "state_dir is not a text"
    except OSError as error:
        reason = f"{error.strerror}"
    except (ValueError, RecursionError, msgspec.ValidationError) as error:
        reason = str(error)
    return Settings(Codes(on_failure="codes"), state_dir_in(path), f"{path}: {reason}")
