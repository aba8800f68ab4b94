"""
Reads ``[codes]`` alone: a login waits for it, and a fault elsewhere in the file must not keep anybody out.

``consumer.codes_settings`` describes the keys. Its types take longer to load than a login should wait.
"""

import re
import tomllib
from ipaddress import ip_network
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from consumer.code_bounds import DIGITS, SESSION_DIGITS, TIMEOUT_LIMIT_S, TRIES, VALID_LIMIT_S
from consumer.spans import seconds_of
from consumer.state_dir import STATE_DIR, state_dir_in

_SPAN = re.compile(r"[1-9][0-9]{0,5}[smhdw]")
_WORDS = {"to": {"team", "owner"}, "ask": {"never", "always", "new"}, "on_failure": {"", "secure", "safe", "codes"}}
# sshbell asks for no code if nothing in "new" is new, and a mistyped word never is.
_NOVELTIES = {"address", "network", "country"}
_NUMBERS = {"digits": DIGITS, "session_digits": SESSION_DIGITS, "tries": TRIES}
_LONGEST_S = {"timeout": TIMEOUT_LIMIT_S, "valid": VALID_LIMIT_S}


class PamRule(NamedTuple):
    """See ``consumer.codes_settings.CodeRule``."""

    user: tuple[str, ...] = ()
    group: tuple[str, ...] = ()
    address: tuple[str, ...] = ()
    service: tuple[str, ...] = ()
    ask: str = "always"
    new: tuple[str, ...] = ("address",)
    on_failure: str = ""


class PamCodes(NamedTuple):
    """See ``consumer.codes_settings.Codes``."""

    channels: tuple[str, ...] = ()
    to: str = "team"
    digits: int = 8
    session_digits: int = 6
    valid: str = "5m"
    tries: int = 3
    timeout: str = "10s"
    on_failure: str = "secure"
    rule: tuple[PamRule, ...] = ()


class Settings(NamedTuple):
    """
    What the commands for PAM need of ``sshbell.toml``.

    Attributes:
        codes: the table; if it has a fault, one without a channel, which lets in emergency codes only.
        state_dir: where ``deliver`` listens.
        fault: what is wrong with the file; "" if nothing is.
    """

    codes: PamCodes
    state_dir: str
    fault: str = ""


_Table = TypeVar("_Table", PamCodes, PamRule)


def settings_of(path: str) -> Settings:
    """Return the settings from a configuration, whatever faults it has; ``sshbell check`` shows each with its line."""
    try:
        tables = tomllib.loads(Path(path).read_text("utf-8"))
        codes = _dict_of("codes", tables.get("codes", {}))
        rules = [_table(PamRule, _dict_of("rule", one)) for one in _list_of("rule", codes.pop("rule", []))]
        for network in (network for rule in rules for network in rule.address):
            ip_network(network)
        return Settings(
            _table(PamCodes, codes)._replace(rule=tuple(rules)), _text_of("state_dir", tables.get("state_dir", STATE_DIR))
        )
    except OSError as error:
        reason = f"{error.strerror}"
    except (TypeError, ValueError, RecursionError) as error:
        reason = str(error)
    return Settings(PamCodes(on_failure="codes"), state_dir_in(path), f"{path}: {reason}")


def _table(kind: type[_Table], values: dict[str, Any]) -> _Table:
    defaults = kind._field_defaults
    for key, value in values.items():
        if key not in defaults:
            raise ValueError(f"there is no key {key!r}")
        values[key] = _checked(key, value, defaults[key])
    return kind(**values)


def _checked(key: str, value: Any, default: Any) -> Any:
    """Return a value that is like the default of its key, and within bounds; a list as a tuple."""
    match default:
        case tuple():
            found = tuple(_list_of(key, value))
            if all(isinstance(one, str) for one in found) and (key != "new" or (found and _NOVELTIES.issuperset(found))):
                return found
        case int():
            if type(value) is int and value in _NUMBERS[key]:
                return value
        case str() if isinstance(value, str):
            if value in _WORDS[key] if key in _WORDS else _SPAN.fullmatch(value) and seconds_of(value) <= _LONGEST_S[key]:
                return value
    raise ValueError(f"{key} has a wrong value")


def _dict_of(key: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"{key} is not a table")
    return value


def _list_of(key: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError(f"{key} is not a list")
    return value


def _text_of(key: str, value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{key} is not a text")
    return value
