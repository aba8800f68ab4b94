"""
sshd's configuration, from sshd itself, or from its files if sshd cannot be asked.

Only root can run ``sshd -T``, since it reads the host keys; and Debian's needs ``/run/sshd``. So this reads the files, too, with
``Include``, ``Match``, and sshd's own rules for quotes and comments.

``sshd -T -C user=...,host=...,addr=...`` takes about 10 ms, and 10,000 users usually have the same answer. The files show which
``Match`` blocks change a setting about keys, so this asks sshd only once for each set of matching blocks. It forgets the answers
when a file of the configuration, or sshd itself, changes.

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
from itertools import islice
from typing import NamedTuple

from consumer.process.command import run_command
from consumer.stamp import Stamp

DEFAULT_CONFIG = "/etc/ssh/sshd_config"

SSHD_LIMIT_S = 5
# Limits of the input. An administrator writes these files, but a mistake must not fill the memory.
FILE_LIMIT = 1024 * 1024
FILES_LIMIT = 256
DEPTH_LIMIT = 16
# Answers to keep.
ANSWERS_LIMIT = 1024
# For sshd -T, which prints about 6 KiB, plus a line for each name of AllowUsers.
_OUTPUT_LIMIT_BYTES = 4 * FILE_LIMIT

_PATH = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"
_FOLDER = "/etc/ssh"
_FILES, _COMMAND, _COMMAND_USER, _AUTHORITIES, _STRICT = _KEYWORDS = (
    "authorizedkeysfile", "authorizedkeyscommand", "authorizedkeyscommanduser", "trustedusercakeys", "strictmodes",
)  # fmt: skip
# For these, sshd keeps the rest of the line as it is, with quotes and comments.
_WHOLE_LINE = {_COMMAND, "authorizedprincipalscommand", "forcecommand", "versionaddendum"}
# The characters allowed in the argument of -C, which commas and blanks divide.
_PLAIN = re.compile(r"[A-Za-z0-9_.:@%\\$-]+")
# The log does not have these, but without them, sshd -T fails if a Match tests them.
_OUR_ADDRESS, _OUR_PORT = "127.0.0.1", "22"
# sshd's own word for an unknown peer, and a user that does not exist.
_UNKNOWN, _NOBODY = "UNKNOWN", "UNKNOWN"
# Users and addresses to try for one Match.
_VISITS_LIMIT = 256
_BLANKS = " \t\r\n"
_DELIMITER = re.compile(r'[ \t\r\n"=]')


class SshdSettings(NamedTuple):
    """
    sshd's settings for one user from one address.

    Attributes:
        authorized_keys_files: with their tokens (``%h``, ``%u``, ``%U``, ``%%``); relative ones are relative to the home.
        authorized_keys_command: with its arguments and tokens, as in the configuration; "" for none.
        authorized_keys_command_user: the user that it runs as; "" for none.
        trusted_user_ca_keys: a file; "" for none.
        strict_modes: sshd ignores files that other users can write.
    """

    authorized_keys_files: tuple[str, ...] = (".ssh/authorized_keys", ".ssh/authorized_keys2")
    authorized_keys_command: str = ""
    authorized_keys_command_user: str = ""
    trusted_user_ca_keys: str = ""
    strict_modes: bool = True


class Visit(NamedTuple):
    """The user and source of a login. ``host`` is sshd's name for the peer: its address unless ``UseDNS`` is set."""

    user: str
    host: str
    address: str


# All values of each setting, in sshd's order, by name in lower case.
Values = dict[str, list[str]]


class _Directive(NamedTuple):
    """
    A line, and the criteria of the ``Match`` blocks around it, which must all hold. ``value`` is as in ``sshd -T``; ``place`` is
    file and number of the line.
    """

    keyword: str
    value: str
    words: list[str]
    criteria: tuple[tuple[str, str], ...]
    place: str


def sshd_settings(user: str, host: str, address: str, config: str = DEFAULT_CONFIG) -> SshdSettings:
    """
    Return sshd's settings for a user who comes from a host and an address; never raises. Run it as root.

    Args:
        user: the account's name.
        host: sshd's name for the peer if ``UseDNS`` is set; else its address, or "".
        address: "" if it does not matter.
        config: sshd's configuration file.
    """
    known = _configs.get(config)
    if known is None or not known.is_current():
        known = _configs[config] = SshdConfig(config)
    address = address or _UNKNOWN
    return known.settings(Visit(user, host or address, address))


class SshdConfig:
    """A configuration as it is now."""

    def __init__(self, path: str = DEFAULT_CONFIG) -> None:
        self._path = path
        self._program = shutil.which("sshd", path=_PATH) or ""
        self._stamps: dict[str, Stamp | None] = {self._program: Stamp.of(self._program)}
        self._included: dict[str, list[str]] = {}
        self._closed = ""  # a file that this user may not read
        self._is_quoted = False  # a Match has quotes, which sshd's versions read differently
        self._directives = list(self._read(path, (), 0))
        self._ours = [directive for directive in self._directives if directive.keyword in _KEYWORDS]
        self._answers: dict[tuple[object, ...], SshdSettings] = {}
        self._values: dict[tuple[object, ...], Values] = {}

    @property
    def path(self) -> str:
        """The main file of the configuration."""
        return self._path

    @property
    def is_there(self) -> bool:
        """Whether sshd or its configuration exists."""
        return bool(self._program) or self._stamps[self._path] is not None

    def is_current(self) -> bool:
        """Return whether no file has changed since."""
        return all(Stamp.of(path) == stamp for path, stamp in self._stamps.items()) and all(
            _matching(pattern) == paths for pattern, paths in self._included.items()
        )

    def values(self, visit: Visit | None = None) -> Values:
        """
        Return the settings by name.

        From ``sshd -T``, these are all settings, with defaults, as it prints them (``loglevel``: ``INFO``). From the files, these
        are only the settings that they have, as they are written there.

        Args:
            visit: the user and source; None for the settings outside of ``Match``.

        Raises:
            PermissionError: sshd cannot be asked, and this user may not read a file.
        """
        if said := self._asked(visit):
            return said
        return self._written(visit)

    def values_of(self, visit: Visit) -> Values:
        """
        Return the same as ``values``, and ask sshd only once for all visits to which the same ``Match`` blocks apply.

        Raises:
            PermissionError: as for ``values``.
        """
        held = self._held(self._directives, visit)
        known = self._values.get(held)
        if known is None:
            if len(self._values) >= ANSWERS_LIMIT:
                self._values.clear()
            known = self._values[held] = self.values(visit)
        return known

    def can_ask(self) -> bool:
        """Return whether sshd answers, so that ``values`` has the defaults, too."""
        return bool(self._asked(None))

    def place_of(self, keyword: str, visit: Visit | None = None) -> str:
        """Return file and number of the line that sets a keyword (in lower case) for a visit; "" if no line does."""
        return next((one.place for one in _in_order(self._directives, visit) if one.keyword == keyword), "")

    def blocks(self) -> Iterator[tuple[str, Visit | None]]:
        """
        Yield each ``Match`` with settings: its text, and a visit to which it applies.

        The visit is None if sshbell knows no user and address to which the block applies.
        """
        for criteria in dict.fromkeys(one.criteria for one in self._directives if one.criteria):
            text = " ".join(f"{name} {patterns}".strip() for name, patterns in criteria)
            yield f"Match {text}", next((visit for visit in _visits(criteria) if _holds(criteria, visit)), None)

    def _written(self, visit: Visit | None) -> Values:
        """Return the settings that the files have."""
        if self._closed:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), self._closed)
        found: Values = {}
        for directive in _in_order(self._directives, visit):
            found.setdefault(directive.keyword, []).append(directive.value)
        return found

    def _held(self, directives: list[_Directive], visit: Visit) -> tuple[object, ...]:
        """Return a key that is the same for all visits to which the same of some directives apply."""
        held: tuple[object, ...] = tuple(number for number, one in enumerate(directives) if _holds(one.criteria, visit))
        return held + visit if self._is_quoted else held

    def settings(self, visit: Visit) -> SshdSettings:
        """Return the settings about keys; never raises."""
        held = self._held(self._ours, visit)
        answer = self._answers.get(held)
        if answer is None:
            if len(self._answers) >= ANSWERS_LIMIT:
                self._answers.clear()
            answer = self._answers[held] = self._settings(self._asked(visit), visit)
        return answer

    def _settings(self, said: Values, visit: Visit) -> SshdSettings:
        """Return the settings about keys: from sshd's answer, else from the files."""
        written = {directive.keyword: directive for directive in reversed(_in_order(self._ours, visit))}
        values = {keyword: directive.value for keyword, directive in written.items()}
        values |= {keyword: said[keyword][0] for keyword in _KEYWORDS if keyword in said}
        files = values.get(_FILES, "").split()
        # sshd -T does not quote words that contain blanks.
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
        """Return the answer of ``sshd -T``; {} if sshd cannot be asked."""
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
        """Yield the lines of a file and of the files it includes. A ``Match`` block ends with its file."""
        if depth > DEPTH_LIMIT or len(self._stamps) > FILES_LIMIT:
            return
        self._stamps[path] = Stamp.of(path)
        criteria = outer
        for number, line in enumerate(self._text(path).split("\n"), 1):
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
                value = rest if keyword in _WHOLE_LINE else " ".join(words)
                yield _Directive(keyword, value, words, criteria, f"{path}:{number}")

    def _text(self, path: str) -> str:
        """Return a file's text, with one character per byte that is not UTF-8; "" if there is none."""
        try:
            # O_NONBLOCK, so as not to wait for a writer if it is a pipe.
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
    """Return the directives that hold. For each keyword the first within a ``Match`` counts, else the first outside."""
    return sorted((one for one in directives if _holds(one.criteria, visit)), key=lambda one: not one.criteria)


def _unless_none(value: str) -> str:
    return "" if value.strip().lower() == "none" else value.strip()


def _delimited(text: str) -> tuple[str | None, str | None]:
    """
    Return the first word of a text and the rest, as sshd does (``strdelim``); None for a missing part.

    A double quote may begin within the word, and the closing one ends it; one ``=`` may follow.
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
    """Return the keyword of a line, in lower case, and the rest; "" for both if there is none."""
    # In C, a NUL ends the line.
    word, rest = _delimited(line.partition("\0")[0].rstrip(_BLANKS + "\f"))
    if word == "" and rest is not None:
        word, rest = _delimited(rest)
    return (word.lower(), rest) if word and rest and not word.startswith("#") else ("", "")


def arguments(text: str, *, comments: bool = True) -> list[str] | None:
    r"""
    Split a line as sshd does (``argv_split``); None if a quote is not closed.

    Both kinds of quotes protect blanks. A backslash protects a quote or a backslash and, outside of quotes, a blank. If
    ``comments`` is set, ``#`` at the start of a word ends the line.
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
    """Yield the criteria of a ``Match``: name and patterns."""
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


def _visits(criteria: tuple[tuple[str, str], ...]) -> Iterator[Visit]:
    """Yield visits to which a ``Match`` may apply: made of its own patterns, and of the members of its groups."""
    given: dict[str, list[str]] = {"user": [], "host": [], "address": []}
    for name, patterns in criteria:
        for pattern in patterns.split(","):
            if pattern.startswith("!"):
                continue
            if name == "group":
                given["user"] += _members(pattern)
            elif name == "address":
                given["address"] += _example_address(pattern)
            elif name in given:
                given[name].append(pattern.replace("*", "x").replace("?", "x"))
    users, hosts = given["user"] or [_NOBODY], given["host"]
    addresses = given["address"] or [_UNKNOWN]
    every = ((user, address, host) for user in users for address in addresses for host in hosts or [address])
    for user, address, host in islice(every, _VISITS_LIMIT):
        yield Visit(user, host, address)


def _example_address(pattern: str) -> list[str]:
    """Return an address that fits a pattern of ``Match Address``."""
    try:
        network = ip_network(pattern)
    except ValueError:
        return [pattern.replace("*", "1").replace("?", "1")]
    return [str(network[min(1, network.num_addresses - 1)])]


def _members(pattern: str) -> list[str]:
    """Return some members of the groups that a pattern fits."""
    names: list[str] = []
    for group in grp.getgrall():
        if _fits(pattern, group.gr_name):
            names += group.gr_mem
            names += [account.pw_name for account in pwd.getpwall() if account.pw_gid == group.gr_gid]
    return names


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
    """Return whether one of the patterns fits one of the names, and none that begins with ``!`` does."""
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
    """Return the same for an address; a pattern may be a network. If ``address`` is not an address, not even ``*`` fits."""
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
    """Return the names of a user's groups; none if the user does not exist."""
    try:
        return [grp.getgrgid(number).gr_name for number in os.getgrouplist(user, pwd.getpwnam(user).pw_gid)]
    except (KeyError, ValueError, OSError):
        return []
