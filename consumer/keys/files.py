"""
The owner of a key: the lines of ``authorized_keys`` that allow it, in every place where sshd looks.

This reads files with the rights of the current process. So the caller must become the user first (root cannot read a home on NFS
with ``root_squash``), and must limit the time, since a file system may hang. Everything else has limits. The files belong to the
user and are hostile: a fault in them loses only the name.
"""

import os
import pwd
import re
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from math import inf
from typing import NamedTuple

import msgspec

from consumer.keys.authorized_keys import AuthorizedKey, parsed
from consumer.keys.fields import Question
from consumer.keys.fingerprints import canonical
from consumer.keys.sshd_config import SshdSettings, arguments
from consumer.process.command import run_command
from consumer.rights import is_guarded

# Bytes of all files of one user together; 16 MiB are 150,000 short keys.
SIZE_LIMIT = 16 * 1024 * 1024
FILES_LIMIT = 16
OWNERS_LIMIT = 16
COMMAND_LIMIT_S = 2.0
OUTPUT_LIMIT = 1024 * 1024

_BLOCK = 64 * 1024
_COMMAND_PATH = "/usr/bin:/bin:/usr/sbin:/sbin:/usr/local/bin"
# Types of keys as in sshd's log, and as in the protocol. ECDSA is missing, because it stands for three types.
_TYPES = {
    "DSA": "ssh-dss",
    "ECDSA-SK": "sk-ecdsa-sha2-nistp256@openssh.com",
    "ED25519": "ssh-ed25519",
    "ED25519-SK": "sk-ssh-ed25519@openssh.com",
    "RSA": "ssh-rsa",
}


class KeyFile(NamedTuple):
    """
    A file that sshd would read.

    Attributes:
        text: its bytes, hostile except in ``TrustedUserCAKeys``.
        account: the account that its lines open; "" for ``TrustedUserCAKeys``, whose keys are authorities for all accounts.
    """

    path: str
    text: bytes
    account: str


def owners_of(question: Question, account: pwd.struct_passwd, settings: SshdSettings) -> list[AuthorizedKey]:
    """
    Return the lines that allow a key or, for a certificate, its authority; never raises, and never waits for a pipe.

    It returns at most ``OWNERS_LIMIT``, in sshd's order. sshd uses the first one that fits; it logs which one only at VERBOSE.
    """
    return fitting(question, (key for _, key in keys_of(account, settings)))


def keys_of(account: pwd.struct_passwd, settings: SshdSettings) -> Iterator[tuple[str, AuthorizedKey]]:
    """Yield all lines of a user's files and of ``TrustedUserCAKeys``, each with its file; never raises."""
    for file in files_of(account, settings):
        for key in lines_of(file):
            yield file.path, key


def files_of(account: pwd.struct_passwd, settings: SshdSettings) -> Iterator[KeyFile]:
    """Yield a user's files and ``TrustedUserCAKeys``, not parsed yet; never raises."""
    left = SIZE_LIMIT
    for path in _paths(account, settings):
        text = _read(path, account, left, strict=settings.strict_modes)
        left -= len(text)
        # Drop the last line of a cut file, whose comment may be cut.
        yield KeyFile(path, text if left else text[: text.rfind(b"\n") + 1], account.pw_name)
    if path := settings.trusted_user_ca_keys:
        yield KeyFile(path, _read(path, account, SIZE_LIMIT, strict=False), "")


def lines_of(file: KeyFile) -> Iterator[AuthorizedKey]:
    """Yield the keys that a file allows; never raises."""
    for key in parsed(file.text, file.account):
        if file.account:
            yield key
        # TrustedUserCAKeys takes no lines with options.
        elif not key.is_authority and not key.options:
            yield msgspec.structs.replace(key, is_authority=True)


def owners_by_command(
    question: Question, account: pwd.struct_passwd, settings: SshdSettings, end_s: float = inf
) -> list[AuthorizedKey]:
    """
    Return the lines of ``AuthorizedKeysCommand`` for a key; never raises, and returns within ``COMMAND_LIMIT_S``.

    By then, and by ``end_s`` of the monotonic clock, all processes that the command started have ended.

    The command runs with the rights of the current process. So become ``settings.authorized_keys_command_user`` first; for any
    other user this does not run it. It also skips a command that needs facts that are not in the log, such as the key itself
    (``%k``), and one that users other than root can write.
    """
    command = _command(question, account, settings)
    text = (
        _output(command, end_s) if command and _is_command_user(settings) and is_guarded(os.path.realpath(command[0]), 0) else b""
    )
    return fitting(question, parsed(text, account.pw_name))


def fitting(question: Question, keys: Iterable[AuthorizedKey]) -> list[AuthorizedKey]:
    """Return the first ``OWNERS_LIMIT`` of some lines that allow a key or, for a certificate, its authority."""
    is_authority = bool(question.ca_fingerprint)
    sought = canonical(question.ca_fingerprint or question.fingerprint)
    found = (key for key in keys if key.is_authority == is_authority and sought in (key.sha256, key.md5))
    return list(islice(found, OWNERS_LIMIT))


def _paths(account: pwd.struct_passwd, settings: SshdSettings) -> list[str]:
    """Return the paths of a user's files, with tokens expanded; relative ones are in the home."""
    home = account.pw_dir or "/"
    tokens = {"%": "%", "h": home, "u": account.pw_name, "U": str(account.pw_uid)}
    texts = (_expanded(file, tokens) for file in settings.authorized_keys_files)
    # An absolute one stays as it is.
    paths = [os.path.join(home, text) for text in texts if text]  # noqa: PTH118
    return list(dict.fromkeys(paths))[:FILES_LIMIT]


def _expanded(text: str, tokens: dict[str, str]) -> str | None:
    """Expand ``%`` and a letter; None if there is an unknown one."""
    if any(token not in tokens for token in re.findall("%(.?)", text, re.DOTALL)):
        return None
    return re.sub("%(.)", lambda found: tokens[found[1]], text, flags=re.DOTALL)


def _read(path: str, account: pwd.struct_passwd, limit: int, *, strict: bool) -> bytes:
    """
    Return a regular file's first bytes; b"" if it cannot or must not be read.

    All checks use the descriptor, so that nobody can exchange the file in between.
    """
    text = b""
    with suppress(OSError, ValueError):
        # O_PATH does not open the file itself yet: that could trigger a device or a pipe.
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            if stat.S_ISREG(os.fstat(place).st_mode) and _is_allowed(place, path, account, strict=strict):
                text = _content(place, limit)
        finally:
            os.close(place)
    return text


def _content(place: int, limit: int) -> bytes:
    blocks = []
    left = limit
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    descriptor = os.open(f"/proc/self/fd/{place}", flags)
    with open(descriptor, "rb", buffering=0) as file:  # noqa: PTH123 - of a descriptor
        while left and (block := file.read(min(_BLOCK, left))):
            blocks.append(block)
            left -= len(block)
    return b"".join(blocks)


def _is_allowed(place: int, path: str, account: pwd.struct_passwd, *, strict: bool) -> bool:
    """Return whether a file is in the home, if its path is, and, with ``StrictModes``, whether no other user can write it."""
    home = os.path.realpath(account.pw_dir or "/")
    real = os.readlink(f"/proc/self/fd/{place}")  # noqa: PTH115 - a Path costs more than the call
    is_in_home = _is_within(real, home)
    is_meant_in_home = any(_is_within(os.path.normpath(path), root) for root in (account.pw_dir, home))
    if is_meant_in_home and not is_in_home:
        return False
    return not strict or is_guarded(real, account.pw_uid, home if is_in_home else "/")


def _is_within(path: str, folder: str) -> bool:
    return path.startswith(folder.rstrip("/") + "/")


def _command(question: Question, account: pwd.struct_passwd, settings: SshdSettings) -> list[str]:
    """Return the command with its tokens expanded; [] if there is none, or if it needs unknown facts."""
    words = arguments(settings.authorized_keys_command, comments=False) or []
    tokens = {"%": "%", "h": account.pw_dir, "u": account.pw_name, "U": str(account.pw_uid)}
    if question.fingerprint.startswith("SHA256:"):
        tokens["f"] = question.fingerprint
    if question.key_type in _TYPES:
        tokens["t"] = _TYPES[question.key_type]
    expanded = [_expanded(word, tokens) for word in words[1:]]
    command = words[:1] + [word for word in expanded if word is not None]
    if not words or not words[0].startswith("/") or len(command) < len(words):
        return []
    # By sshd_config(5), a command without arguments gets the user's name.
    return command if len(command) > 1 else [*command, account.pw_name]


def _is_command_user(settings: SshdSettings) -> bool:
    try:
        return pwd.getpwnam(settings.authorized_keys_command_user).pw_uid == os.geteuid()
    except KeyError:
        return False


def _output(command: list[str], end_s: float) -> bytes:
    """Return a command's output; b"" if it fails (sshd ignores the output then), prints too much, or takes too long."""
    limit_s = min(COMMAND_LIMIT_S, end_s - time.monotonic())
    if limit_s <= 0:
        return b""
    user = pwd.getpwuid(os.geteuid())
    environment = {"PATH": _COMMAND_PATH, "USER": user.pw_name, "LOGNAME": user.pw_name, "HOME": user.pw_dir}
    done = run_command(command, limit_s=limit_s, output_limit=OUTPUT_LIMIT, env=environment)
    return b"" if done.fault else done.output
