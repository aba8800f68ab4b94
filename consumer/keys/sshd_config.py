"""
Where sshd looks for keys: asked of sshd itself, or read from its configuration where it cannot be run.

``sshd -T -C user=...,host=...,addr=...`` takes about 10 ms, and mostly 10,000 users have the same answer. So the configuration is
read here, too: that tells which ``Match`` blocks would change a setting below, and sshd is asked once for each set of them that
holds. All of it is forgotten when a file of the configuration, or sshd itself, changes.

Source: OpenSSH ``servconf.c``, ``match.c`` and ``misc.c`` (``argv_split``), 8.7 to 10.2.
"""

import grp
import os
import pwd
import re
import shutil
import stat
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from glob import glob
from ipaddress import ip_address, ip_network
from typing import NamedTuple

DEFAULT_CONFIG = "/etc/ssh/sshd_config"

SSHD_LIMIT_S = 5
# Bounds of what is read: an administrator's files, but a mistake must not cost the memory.
FILE_LIMIT = 1024 * 1024
FILES_LIMIT = 256
DEPTH_LIMIT = 16
# Answers that are kept.
ANSWERS_LIMIT = 1024

_PATH = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"
_FOLDER = "/etc/ssh"
_FILES, _COMMAND, _COMMAND_USER, _AUTHORITIES, _STRICT = _KEYWORDS = (
    "authorizedkeysfile", "authorizedkeyscommand", "authorizedkeyscommanduser", "trustedusercakeys", "strictmodes",
)  # fmt: skip
_LINE = re.compile(r'[ \t]*"?([A-Za-z0-9]+)"?(?:[ \t]*=[ \t]*|[ \t]+)(.*)', re.DOTALL)
# What may stand in the argument of -C, where commas and blanks divide.
_PLAIN = re.compile(r"[A-Za-z0-9_.:@%\\$-]+")
# The log does not have them, and without them a Match for them would end sshd -T.
_OUR_ADDRESS, _OUR_PORT = "127.0.0.1", "22"
_CONTROL = {ord(char): None for char in "\r\f\v"}


class SshdSettings(NamedTuple):
    """
    What sshd would do for one user from one address.

    Attributes:
        authorized_keys_files: with their tokens (``%h``, ``%u``, ``%U``, ``%%``); relative ones are relative to the home.
        authorized_keys_command: with its arguments and tokens, as in the configuration; "" for none.
        authorized_keys_command_user: whom it runs as; "" for none.
        trusted_user_ca_keys: a file; "" for none.
        strict_modes: files that others can write are not used.
    """

    authorized_keys_files: tuple[str, ...] = (".ssh/authorized_keys", ".ssh/authorized_keys2")
    authorized_keys_command: str = ""
    authorized_keys_command_user: str = ""
    trusted_user_ca_keys: str = ""
    strict_modes: bool = True


class _Directive(NamedTuple):
    """A line of ours, and the criteria of the ``Match`` blocks around it; all have to hold."""

    keyword: str
    value: str
    criteria: tuple[tuple[str, str], ...]


class _Visit(NamedTuple):
    """Who comes from where."""

    user: str
    host: str
    address: str


# Of a file that was read: time of change, size, inode.
_Stamp = tuple[int, int, int] | None


def sshd_settings(user: str, host: str, address: str, config: str = DEFAULT_CONFIG) -> SshdSettings:
    """
    Return what sshd would do for a user who comes from a host and an address; never raises. It wants to be called as root.

    Args:
        user: the account's name.
        host: as sshd names the peer: its address unless ``UseDNS`` is set; "" for that.
        address: "" where it does not matter.
        config: sshd's configuration.
    """
    known = _configs.get(config)
    if known is None or not known.is_current():
        known = _configs[config] = _Config(config)
    # What sshd itself calls a peer that it does not know.
    address = address or "UNKNOWN"
    return known.settings(_Visit(user, host or address, address))


class _Config:
    """A configuration as it stands now."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._program = shutil.which("sshd", path=_PATH) or ""
        self._stamps: dict[str, _Stamp] = {self._program: _stamp(self._program)}
        self._included: dict[str, list[str]] = {}
        self._directives = list(self._read(path, (), 0))
        self._answers: dict[tuple[int, ...], SshdSettings] = {}

    def is_current(self) -> bool:
        """Tell whether no file has changed since."""
        return all(_stamp(path) == stamp for path, stamp in self._stamps.items()) and all(
            _matching(pattern) == paths for pattern, paths in self._included.items()
        )

    def settings(self, visit: _Visit) -> SshdSettings:
        held = tuple(number for number, directive in enumerate(self._directives) if _holds(directive.criteria, visit))
        answer = self._answers.get(held)
        if answer is None:
            if len(self._answers) >= ANSWERS_LIMIT:
                self._answers.clear()
            written, files = _written([self._directives[number] for number in held])
            answer = self._answers[held] = _settings(written | self._asked(visit), files)
        return answer

    def _asked(self, visit: _Visit) -> dict[str, str]:
        """Return what sshd says; nothing where it cannot be asked."""
        if not self._program or not all(map(_PLAIN.fullmatch, visit)):
            return {}
        who = f"user={visit.user},host={visit.host},addr={visit.address},laddr={_OUR_ADDRESS},lport={_OUR_PORT}"
        try:
            done = subprocess.run(  # noqa: S603 - no shell, and each part of it is plain
                [self._program, "-T", "-f", self._path, "-C", who],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=SSHD_LIMIT_S, check=True,
            )  # fmt: skip
        except (OSError, ValueError, subprocess.SubprocessError):
            return {}
        lines = (line.partition(" ") for line in done.stdout.decode("utf-8", "surrogateescape").splitlines())
        return {keyword: value for keyword, _, value in lines if keyword in _KEYWORDS}

    def _read(self, path: str, outer: tuple[tuple[str, str], ...], depth: int) -> Iterator[_Directive]:
        """Yield our lines of a file and of those it includes. A ``Match`` holds to the end of its file."""
        if depth > DEPTH_LIMIT or len(self._stamps) > FILES_LIMIT:
            return
        self._stamps[path] = _stamp(path)
        criteria = outer
        for line in _text(path).split("\n"):
            found = _LINE.match(line.translate(_CONTROL).rstrip())
            if found is None:
                continue
            keyword, value = found[1].lower(), found[2]
            if keyword in _KEYWORDS:
                yield _Directive(keyword, value, criteria)
            elif keyword == "match":
                criteria = outer + _criteria(arguments(value) or [])
            elif keyword == "include":
                for pattern in arguments(value) or []:
                    place = os.path.join(_FOLDER, pattern)  # noqa: PTH118 - an absolute one stays as it is
                    self._included[place] = _matching(place)
                    for included in self._included[place]:
                        yield from self._read(included, criteria, depth + 1)


_configs: dict[str, _Config] = {}


def _stamp(path: str) -> _Stamp:
    try:
        found = os.stat(path)  # noqa: PTH116 - a Path costs more than the call
    except (OSError, ValueError):
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _matching(pattern: str) -> list[str]:
    return sorted(glob(pattern))[:FILES_LIMIT]  # noqa: PTH207 - as glob(3)


def _text(path: str) -> str:
    """Return a file's text, one character a byte where it is not UTF-8; "" where there is none."""
    # Not to wait for a writer, where it is a pipe.
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
    with suppress(OSError, ValueError), open(os.open(path, flags), "rb") as file:  # noqa: PTH123 - of a descriptor
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            return file.read(FILE_LIMIT).decode("utf-8", "surrogateescape")
    return ""


def _written(directives: list[_Directive]) -> tuple[dict[str, str], list[str]]:
    """
    Return what counts of each keyword, as ``sshd -T`` writes it, and the words of ``AuthorizedKeysFile``, which it runs together.

    The first within a ``Match`` counts, else the first outside.
    """
    found: dict[str, str] = {}
    for directive in sorted(directives, key=lambda directive: not directive.criteria):
        found.setdefault(directive.keyword, directive.value)
    files = arguments(found.get(_FILES, "")) or []
    for keyword, value in found.items():
        if keyword != _COMMAND:
            found[keyword] = " ".join(files if keyword == _FILES else (arguments(value) or [""])[:1])
    return found, files


def _settings(values: dict[str, str], files: list[str]) -> SshdSettings:
    said = values.get(_FILES, "")
    if said != " ".join(files):
        files = said.split()
    return SshdSettings(
        tuple(file for file in files if file.lower() != "none") if files else SshdSettings().authorized_keys_files,
        _unless_none(values.get(_COMMAND, "")),
        _unless_none(values.get(_COMMAND_USER, "")),
        _unless_none(values.get(_AUTHORITIES, "")),
        values.get(_STRICT, "yes").lower() not in ("no", "false"),
    )


def _unless_none(value: str) -> str:
    return "" if value.strip().lower() == "none" else value.strip()


def arguments(text: str) -> list[str] | None:
    r"""
    Split a line as sshd does (``argv_split``); None where a quote is open.

    Both quotes hold blanks; a backslash hides a quote or a backslash, and outside of quotes a blank. ``#`` before a word
    ends it all.
    """
    found: list[str] = []
    at = 0
    while at < len(text):
        if text[at] in " \t":
            at += 1
            continue
        if text[at] == "#":
            break
        word, quote = "", ""
        while at < len(text) and (quote or text[at] not in " \t"):
            char = text[at]
            if char == "\\" and text[at + 1 : at + 2] in ("'", '"', "\\", *([] if quote else [" "])):
                at += 1
                word += text[at]
            elif not quote and char in "'\"":
                quote = char
            elif char == quote:
                quote = ""
            else:
                word += char
            at += 1
        if quote:
            return None
        found.append(word)
    return found


def _criteria(words: list[str]) -> tuple[tuple[str, str], ...]:
    """Return what a ``Match`` asks for, name and patterns, with a blank or ``=`` between them."""
    found = []
    rest = iter(words)
    for word in rest:
        name, equals, patterns = word.partition("=")
        bare = name.lower() in ("all", "invalid-user")
        found.append((name.lower(), patterns if equals or bare else next(rest, "")))
    return tuple(found)


def _holds(criteria: tuple[tuple[str, str], ...], visit: _Visit) -> bool:
    return all(_is_met(name, patterns, visit) for name, patterns in criteria)


def _is_met(name: str, patterns: str, visit: _Visit) -> bool:
    match name:
        case "user":
            met = _is_listed(patterns, [visit.user])
        case "host":
            met = _is_listed(patterns.lower(), [visit.host.lower()])
        case "group":
            met = _is_listed(patterns, _groups(visit.user))
        case "address":
            met = _is_address_listed(patterns, visit.address)
        case "localaddress":
            met = _is_address_listed(patterns, _OUR_ADDRESS)
        case "localport":
            met = _is_listed(patterns, [_OUR_PORT])
        case _:
            met = name == "all"
    return met


def _is_listed(patterns: str, names: list[str]) -> bool:
    """Tell whether one of the patterns fits one of the names, and none that begins with ``!`` does."""
    found = False
    for pattern in patterns.split(","):
        if any(_fits(pattern.removeprefix("!"), name) for name in names):
            if pattern.startswith("!"):
                return False
            found = True
    return found


def _fits(pattern: str, name: str) -> bool:
    wild = {"*": ".*", "?": "."}
    return re.fullmatch("".join(wild.get(char) or re.escape(char) for char in pattern), name, re.DOTALL) is not None


def _is_address_listed(patterns: str, address: str) -> bool:
    """Tell the same of an address: a pattern may be a network. Nothing fits what is none, not even ``*``."""
    try:
        ip = ip_address(address)
    except ValueError:
        return False
    found = False
    for pattern in patterns.split(","):
        bare = pattern.removeprefix("!")
        try:
            fits = ip in ip_network(bare)
        except ValueError:
            fits = _fits(bare.lower(), address.lower())
        if fits and pattern.startswith("!"):
            return False
        found = found or fits
    return found


def _groups(user: str) -> list[str]:
    """Return the names of a user's groups; none where there is no such user."""
    try:
        return [grp.getgrgid(number).gr_name for number in os.getgrouplist(user, pwd.getpwnam(user).pw_gid)]
    except (KeyError, ValueError, OSError):
        return []
