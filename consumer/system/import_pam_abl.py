"""
``sshbell import pam_abl``: turns a configuration of pam_abl into the table ``[detect.guessing]``, and lists what changes.

Sources: pam_abl's config.c, 0.6.0 and 0.9.0, and its manual pages. pam_abl reads a file line by line: "#" begins a comment
anywhere, a backslash at the end of a line joins it to the next one, and a later value replaces an earlier one.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from consumer.block.commands import split_command
from consumer.config import BLOCK_COMMANDS
from consumer.errors import InputError
from consumer.guessing_rules import GuessingRule, Whitelist, limits_of
from consumer.text import listed
from consumer.toml import commented, toml_text

# Files that include each other by config=.
_NESTED_LIMIT = 8
_HOUR_S, _UNITS = 3600, {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}
# How long pam_abl keeps a try by default.
_PURGE_DEFAULT = "1d"
_LIMIT_DIGITS = 4
# What has no counterpart, with what sshbell does instead.
_OWN_STORE = "sshbell has a database of its own, and does not take over what pam_abl has counted"
_IGNORED = "pam_abl ignores such names, too; write host_block_cmd, host_clear_cmd, user_block_cmd or user_clear_cmd under [block]"
_BOTH = "sshbell reads the log, so it counts each failed login for its address and for its user"
_WITHOUT = {
    "db_home": _OWN_STORE, "db_module": _OWN_STORE, "host_db": _OWN_STORE, "user_db": _OWN_STORE,
    "host_blk_cmd": _IGNORED, "host_clr_cmd": _IGNORED, "user_blk_cmd": _IGNORED, "user_clr_cmd": _IGNORED,
}  # fmt: skip
# Words without a value: of a file, and of a line in /etc/pam.d.
_WORDS = {
    "debug": 'sshbell has no such setting: "sshbell explain" and "sshbell replay" show how it reads lines',
    "check_user": "sshbell does not check logins by itself: see mode in [block]",
    "check_host": "sshbell does not check logins by itself: see mode in [block]",
    "check_both": "sshbell does not check logins by itself: see mode in [block]",
    "log_user": _BOTH, "log_host": _BOTH, "log_both": _BOTH,
}  # fmt: skip


class Imported(msgspec.Struct, frozen=True):
    """
    A translated configuration.

    Attributes:
        settings: keys of ``[detect.guessing]`` with their values as TOML.
        commands: keys of ``[block]``, likewise.
        notes: sentences about what changes, in the order of the file.
    """

    settings: dict[str, str]
    commands: dict[str, str]
    notes: list[str]

    @property
    def toml(self) -> str:
        """The tables, with the notes as comments below them."""
        lines = ["[detect.guessing]", *(f"{key} = {value}" for key, value in self.settings.items())]
        if self.commands:
            lines += ["", "[block]", *(f"{key} = {value}" for key, value in self.commands.items())]
        return "\n".join([*lines, "", *commented(self.notes)]) + "\n"


def translated(path: Path) -> Imported:
    """
    Translate a file: pam_abl's configuration, or one of ``/etc/pam.d`` that has lines with ``pam_abl.so``.

    Raises:
        InputError: the file, or one that it includes, cannot be read; or it has nothing of pam_abl.
    """
    reader = _Reader()
    reader.file(path, 0)
    if not reader.has_found:
        raise InputError(
            f"{path} has no setting of pam_abl; try /etc/security/pam_abl.conf, or the file of /etc/pam.d with pam_abl.so"
        )
    settings = reader.settings()
    return Imported(settings, reader.commands, reader.notes)


def logical_lines(text: str) -> Iterator[str]:
    """Yield the lines of a file as pam_abl reads them: joined, without comments and outer blanks; no empty ones."""
    for line in text.replace("\\\n", "").split("\n"):
        if stripped := line.partition("#")[0].strip():
            yield stripped


class _Reader:
    """Takes the settings of a file and of those that it includes."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.commands: dict[str, str] = {}
        self._values: dict[str, str] = {}
        self._left_out: dict[str, list[str]] = {}  # keys, by the reason
        self._has_module = False

    @property
    def has_found(self) -> bool:
        """Whether a file has a setting of pam_abl, or runs it."""
        return self._has_module or bool(self._values or self.commands or self._left_out)

    def file(self, path: Path, depth: int) -> None:
        try:
            text = path.read_bytes().decode("utf-8", "replace")
        except OSError as error:
            raise InputError(f"{path}: {error.strerror}") from error
        for line in logical_lines(text):
            if "pam_abl.so" in line:
                self._has_module = True
                words = line.partition("pam_abl.so")[2].split()
            elif "=" in line or line in _WORDS:
                words = [line]
            elif re.search(r"\bpam_\w+\.so\b|^@?include\b", line):
                continue  # a line of /etc/pam.d about something else
            else:
                words = [line]
            for word in words:
                self._word(word, path, depth)

    def _word(self, word: str, path: Path, depth: int) -> None:
        key, equals, value = word.partition("=")
        key, value = key.strip(), value.strip()
        if not equals and word in _WORDS:
            self._left_out.setdefault(_WORDS[word], []).append(word)
        elif key == "config" and equals:
            if depth >= _NESTED_LIMIT:
                self._note(f"config={value} in {path} is left out: files include each other more than {_NESTED_LIMIT} times.")
            else:
                self.file(Path(value), depth + 1)
        elif key in _WITHOUT and equals:
            self._left_out.setdefault(_WITHOUT[key], []).append(key)
        elif key in BLOCK_COMMANDS and equals:
            self._command(key, value)
        elif key in _KEYS and equals:
            self._values[key] = value
        else:
            self._note(f"{word!r} is left out: pam_abl does not know it, and refuses the file.")

    def _command(self, key: str, value: str) -> None:
        """Take a command over, unless sshbell cannot split it."""
        if not value:
            return
        try:
            program = "".join(split_command(value)[0])
        except ValueError as error:
            self._note(f"{key} is left out: {error}.")
            return
        self.commands[key] = toml_text(value)
        if not program.startswith("/"):
            self._note(f"{key} cannot run {program}, and neither can pam_abl: write the whole path of the program.")

    def _note(self, note: str) -> None:
        self.notes.append(note)

    def settings(self) -> dict[str, str]:
        """Translate the values. A rule that pam_abl does not have is off, whatever sshbell's default is."""
        values = {"host_rule": "", "user_rule": ""} | self._values
        found = {key: translate(self, key, values[key]) for key, translate in _KEYS.items() if key in values}
        if values["host_rule"]:
            self._note("host_rule counts all addresses of an IPv6 /64 as one host. pam_abl counts each alone.")
        if self.commands:
            self._note("Commands run when a block begins or ends. No login waits for them.")
        for reason, keys in self._left_out.items():
            named = list(dict.fromkeys(keys))
            self._note(f"{listed(named)} {'is' if len(named) == 1 else 'are'} left out: {reason}.")
        self._note("sshbell reports guessing, and blocks nobody until you turn blocking on.")
        return {key: value for key, value in found.items() if value is not None}

    def rule(self, key: str, value: str) -> str:
        """Translate a rule; without one, pam_abl never blocks."""
        try:
            GuessingRule(value)
        except ValueError as error:
            self._note(f"{key} is left out: {error}. pam_abl ignores such a part without a word.")
            return '""'
        if re.search(r"/[0-9]+,", value):
            self._note(f"{key} counts all its triggers. pam_abl 0.9.0 loses the trigger after a period without a letter.")
        if re.search(r"[0-9][hd]\b", value):
            self._note(f"{key} takes h and d as hours and days. pam_abl 0.9.0 takes them as 60 and 24 seconds.")
        return toml_text(value)

    def purge(self, key: str, value: str) -> str | None:
        """Translate a time to keep tries."""
        found = re.fullmatch("([0-9]{1,9})([smhd]?)", value)
        seconds = int(found[1]) * _UNITS[found[2]] if found else 0
        if not found:
            self._note(f"{key} is one hour: pam_abl cannot read {value!r}, and takes that.")
        elif seconds < _HOUR_S:
            self._note(f"{key} is one hour: pam_abl raises {value} to that without a word.")
        seconds = max(seconds, _HOUR_S)
        for unit, size in (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)):
            if seconds % size == 0 and seconds // size <= 999_999:
                return None if f"{seconds // size}{unit}" == _PURGE_DEFAULT else toml_text(f"{seconds // size}{unit}")
        return toml_text(f"{min(-(-seconds // 86_400), 999_999)}d")

    def limits(self, key: str, value: str) -> str | None:
        """Translate the limits of an entry."""
        found = re.match("([0-9]+)-([0-9]+)", value)
        if not found or int(found[1][:9]) > int(found[2][:9]):
            self._note(f"{key} is left out: {value!r} is not two numbers in order, so pam_abl has no limit, either.")
            return None
        if max(len(found[1]), len(found[2])) > _LIMIT_DIGITS:
            self._note(f"{key} is left out: sshbell keeps only as many tries as its rules need.")
            return None
        return toml_text(found[0]) if limits_of(found[0]) else None

    def whitelist(self, key: str, value: str) -> str | None:
        """Translate a list of names and networks."""
        entries = []
        for entry in filter(None, value.split(";")):
            try:
                Whitelist([entry])
            except ValueError:
                self._note(f"{entry!r} in {key} is left out: it is no network.")
            else:
                entries.append(entry)
        if not entries:
            return None
        self._note(f"{key} also ends what was counted before. In pam_abl, a blocked one stays blocked.")
        return f"[{', '.join(map(toml_text, entries))}]"


_KEYS: dict[str, Callable[[_Reader, str, str], str | None]] = {
    "host_rule": _Reader.rule, "user_rule": _Reader.rule, "host_purge": _Reader.purge, "user_purge": _Reader.purge,
    "limits": _Reader.limits, "host_whitelist": _Reader.whitelist, "user_whitelist": _Reader.whitelist,
}  # fmt: skip
