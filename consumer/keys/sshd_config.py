"""
sshd's configuration: asked of sshd itself, or read from its files where sshd cannot be asked.

Only root can run ``sshd -T``, since it reads the host keys; and Debian's needs ``/run/sshd``. So the files are read here, too:
``Include``, ``Match``, and sshd's own rules for quotes and comments.

``sshd -T -C user=...,host=...,addr=...`` takes about 10 ms, and mostly 10,000 users have the same answer. The files show which
``Match`` blocks would change a setting that concerns keys, and sshd is asked once for each set of them that holds. All of it is
forgotten when a file of the configuration, or sshd itself, changes.

Source: OpenSSH ``servconf.c``, ``match.c`` and ``misc.c`` (``argv_split``, ``strdelim``), 8.7 to 10.5. Up to 9.8, and here, only
double quotes are quotes in a ``Match``; since 9.9 single quotes and backslashes count there, too.
"""

import errno
import grp
import os
import pwd
import re
import shutil
import stat
from collections.abc import Iterator
from glob import glob
from ipaddress import ip_address, ip_network
from typing import NamedTuple

from consumer.process.command import run_command
from consumer.stamp import Stamp

DEFAULT_CONFIG = "/etc/ssh/sshd_config"

SSHD_LIMIT_S = 5
# Bounds of what is read: an administrator's files, but a mistake must not cost the memory.
FILE_LIMIT = 1024 * 1024
FILES_LIMIT = 256
DEPTH_LIMIT = 16
# Answers that are kept.
ANSWERS_LIMIT = 1024
# Of sshd -T, which prints about 6 KiB; each name of AllowUsers is a line.
_OUTPUT_LIMIT_BYTES = 4 * FILE_LIMIT

_PATH = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"
_FOLDER = "/etc/ssh"
_FILES, _COMMAND, _COMMAND_USER, _AUTHORITIES, _STRICT = _KEYWORDS = (
    "authorizedkeysfile", "authorizedkeyscommand", "authorizedkeyscommanduser", "trustedusercakeys", "strictmodes",
)  # fmt: skip
# Of these sshd keeps the rest of the line as it stands, quotes and comments included.
_WHOLE_LINE = {_COMMAND, "authorizedprincipalscommand", "forcecommand", "versionaddendum"}
# What may stand in the argument of -C, where commas and blanks divide.
_PLAIN = re.compile(r"[A-Za-z0-9_.:@%\\$-]+")
# The log does not have them, and without them a Match for them would end sshd -T.
_OUR_ADDRESS, _OUR_PORT = "127.0.0.1", "22"
_BLANKS = " \t\r\n"
_DELIMITER = re.compile(r'[ \t\r\n"=]')


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


class Visit(NamedTuple):
    """Who comes from where; ``host`` is what sshd calls the peer: its address unless ``UseDNS`` is set."""

    user: str
    host: str
    address: str


# Setting by name, in small letters: each of its values, in sshd's order.
Values = dict[str, list[str]]


class _Directive(NamedTuple):
    """A line, and the criteria of the ``Match`` blocks around it; all have to hold. ``value`` is as ``sshd -T`` writes it."""

    keyword: str
    value: str
    words: list[str]
    criteria: tuple[tuple[str, str], ...]


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
        known = _configs[config] = SshdConfig(config)
    # What sshd itself calls a peer that it does not know.
    address = address or "UNKNOWN"
    return known.settings(Visit(user, host or address, address))


class SshdConfig:
    """A configuration as it stands now."""

    def __init__(self, path: str = DEFAULT_CONFIG) -> None:
        self._path = path
        self._program = shutil.which("sshd", path=_PATH) or ""
        self._stamps: dict[str, Stamp | None] = {self._program: Stamp.of(self._program)}
        self._included: dict[str, list[str]] = {}
        self._closed = ""  # a file that may not be read
        self._is_quoted = False  # the versions of sshd read a Match in different ways
        self._directives = list(self._read(path, (), 0))
        self._ours = [directive for directive in self._directives if directive.keyword in _KEYWORDS]
        self._answers: dict[tuple[object, ...], SshdSettings] = {}

    @property
    def is_there(self) -> bool:
        """Whether there is an sshd, or a configuration of one."""
        return bool(self._program) or self._stamps[self._path] is not None

    def is_current(self) -> bool:
        """Tell whether no file has changed since."""
        return all(Stamp.of(path) == stamp for path, stamp in self._stamps.items()) and all(
            _matching(pattern) == paths for pattern, paths in self._included.items()
        )

    def values(self, visit: Visit | None = None) -> Values:
        """
        Return the settings by name.

        What ``sshd -T`` says has all of them, with their defaults, as it writes them (``loglevel``: ``INFO``); what the files say
        has those that stand there, as they stand there.

        Args:
            visit: for whom; None for what no ``Match`` changes.

        Raises:
            PermissionError: sshd cannot be asked, and a file may not be read.
        """
        if said := self._asked(visit):
            return said
        if self._closed:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), self._closed)
        found: Values = {}
        for directive in _in_order(self._directives, visit):
            found.setdefault(directive.keyword, []).append(directive.value)
        return found

    def settings(self, visit: Visit) -> SshdSettings:
        """Return what concerns keys; never raises."""
        held: tuple[object, ...] = tuple(number for number, one in enumerate(self._ours) if _holds(one.criteria, visit))
        if self._is_quoted:
            held += visit
        answer = self._answers.get(held)
        if answer is None:
            if len(self._answers) >= ANSWERS_LIMIT:
                self._answers.clear()
            answer = self._answers[held] = self._settings(self._asked(visit), visit)
        return answer

    def _settings(self, said: Values, visit: Visit) -> SshdSettings:
        """Return what concerns keys: as sshd has said, else as the files do."""
        written = {directive.keyword: directive for directive in reversed(_in_order(self._ours, visit))}
        values = {keyword: directive.value for keyword, directive in written.items()}
        values |= {keyword: said[keyword][0] for keyword in _KEYWORDS if keyword in said}
        files = values.get(_FILES, "").split()
        # sshd -T runs words with blanks together.
        if _FILES in written and written[_FILES].value == values[_FILES]:
            files = written[_FILES].words
        return SshdSettings(
            tuple(file for file in files if file.lower() != "none") if files else SshdSettings().authorized_keys_files,
            _unless_none(values.get(_COMMAND, "")),
            _unless_none(values.get(_COMMAND_USER, "")),
            _unless_none(values.get(_AUTHORITIES, "")),
            values.get(_STRICT, "yes").lower() not in ("no", "false"),
        )

    def _asked(self, visit: Visit | None) -> Values:
        """Return what sshd says; nothing where it cannot be asked."""
        if not self._program or (visit is not None and not all(map(_PLAIN.fullmatch, visit))):
            return {}
        command = [self._program, "-T", "-f", self._path]
        if visit is not None:
            who = f"user={visit.user},host={visit.host},addr={visit.address},laddr={_OUR_ADDRESS},lport={_OUR_PORT}"
            command += ["-C", who]
        done = run_command(command, limit_s=SSHD_LIMIT_S, output_limit=_OUTPUT_LIMIT_BYTES)
        said: Values = {}
        if not done.fault:
            for line in done.output.decode("utf-8", "surrogateescape").removesuffix("\n").split("\n"):
                keyword, _, value = line.partition(" ")
                said.setdefault(keyword, []).append(value)
        return said

    def _read(self, path: str, outer: tuple[tuple[str, str], ...], depth: int) -> Iterator[_Directive]:
        """Yield the lines of a file and of those it includes. A ``Match`` holds to the end of its file."""
        if depth > DEPTH_LIMIT or len(self._stamps) > FILES_LIMIT:
            return
        self._stamps[path] = Stamp.of(path)
        criteria = outer
        for line in self._text(path).split("\n"):
            keyword, rest = _divided(line)
            words = arguments(rest)
            if not keyword or words is None:
                continue
            if keyword == "match":
                criteria = outer + tuple(_criteria(rest))
                self._is_quoted |= "'" in rest or "\\" in rest
            elif keyword == "include":
                for pattern in words:
                    place = os.path.join(_FOLDER, pattern)  # noqa: PTH118 - an absolute one stays as it is
                    self._included[place] = _matching(place)
                    for included in self._included[place]:
                        yield from self._read(included, criteria, depth + 1)
            else:
                yield _Directive(keyword, rest if keyword in _WHOLE_LINE else " ".join(words), words, criteria)

    def _text(self, path: str) -> str:
        """Return a file's text, one character a byte where it is not UTF-8; "" where there is none."""
        try:
            # Not to wait for a writer, where it is a pipe.
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            with open(descriptor, "rb") as file:  # noqa: PTH123 - of a descriptor
                if stat.S_ISREG(os.fstat(descriptor).st_mode):
                    return file.read(FILE_LIMIT).decode("utf-8", "surrogateescape")
        except PermissionError:
            self._closed = path
        except (OSError, ValueError):
            pass
        return ""


_configs: dict[str, SshdConfig] = {}


def _matching(pattern: str) -> list[str]:
    return sorted(glob(pattern))[:FILES_LIMIT]  # noqa: PTH207 - as glob(3)


def _in_order(directives: list[_Directive], visit: Visit | None) -> list[_Directive]:
    """Return those that hold. Of one keyword the first within a ``Match`` counts, else the first outside."""
    return sorted((one for one in directives if _holds(one.criteria, visit)), key=lambda one: not one.criteria)


def _unless_none(value: str) -> str:
    return "" if value.strip().lower() == "none" else value.strip()


def _delimited(text: str) -> tuple[str | None, str | None]:
    """
    Return the first word of a text and what is behind it, as sshd does (``strdelim``); None for what is not there.

    A double quote may begin within the word, and ends it; one ``=`` may stand behind it.
    """
    found = _DELIMITER.search(text)
    if found is None:
        return text, None
    word, rest = text[: found.start()], text[found.end() :]
    if found[0] == '"':
        quoted, quote, rest = rest.partition('"')
        return (word + quoted, rest.lstrip(_BLANKS)) if quote else (None, None)
    rest = rest.lstrip(_BLANKS)
    if found[0] != "=" and rest.startswith("="):
        rest = rest[1:].lstrip(_BLANKS)
    return word, rest


def _divided(line: str) -> tuple[str, str]:
    """Return the keyword of a line, in small letters, and the rest; "" for both where there is none."""
    # To C a line ends with a NUL.
    word, rest = _delimited(line.partition("\0")[0].rstrip(_BLANKS + "\f"))
    if word == "" and rest is not None:
        word, rest = _delimited(rest)
    return (word.lower(), rest) if word and rest and not word.startswith("#") else ("", "")


def arguments(text: str, *, comments: bool = True) -> list[str] | None:
    r"""
    Split a line as sshd does (``argv_split``); None where a quote is open.

    Both quotes hold blanks; a backslash hides a quote or a backslash, and outside of quotes a blank. ``#`` before a word
    ends it all, where there may be comments.
    """
    found: list[str] = []
    at = 0
    while at < len(text):
        if text[at] in " \t":
            at += 1
            continue
        if comments and text[at] == "#":
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


def _criteria(text: str) -> Iterator[tuple[str, str]]:
    """Yield what a ``Match`` asks for, name and patterns."""
    rest: str | None = text
    while rest is not None:
        name, rest = _delimited(rest)
        if not name or name.startswith("#"):
            break
        patterns: str | None = ""
        if name.lower() not in ("all", "invalid-user") and rest is not None:
            patterns, rest = _delimited(rest)
        yield name.lower(), patterns or ""


def _holds(criteria: tuple[tuple[str, str], ...], visit: Visit | None) -> bool:
    return all(_is_met(name, patterns, visit) for name, patterns in criteria)


def _is_met(name: str, patterns: str, visit: Visit | None) -> bool:
    if visit is None:
        return name == "all"
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
