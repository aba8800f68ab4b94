"""The login that PAM asks about, from the environment of pam_exec and from ``/proc``."""

import base64
import binascii
import hashlib
import os
import pwd
import stat
from collections.abc import Mapping
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path
from typing import NamedTuple

from consumer.addresses import ip_of
from consumer.codes.log_lines import Asker
from consumer.store.codes import Challenge

# Linux has no longer names of users or hosts. A longer text would only fill the store.
TEXT_LIMIT_BYTES = 255
# setproctitle(3) in sshpam_thread() of OpenSSH's auth-pam.c: the process that runs PAM for keyboard-interactive. "password" runs
# PAM in the monitor, whose title ends in " [priv]".
_PAM_TITLE = b" [pam]"


class PamLogin(NamedTuple):
    r"""
    A login.

    Attributes:
        user: the account's own name, or that in PAM if there is no account; bytes that are not UTF-8 as ``\xNN``.
        service: as PAM has it.
        address: an IP address or a name; "" on a console.
        host: this host.
        pid, started: the process that asks, and its start in clock ticks since the boot. For sshd that is the monitor of the
            connection: each keyboard-interactive try has another process of its own.
        asker: the same for the log.
        method, key: what sshd has accepted so far: "publickey", and the fingerprint of that key; "" if unknown.
    """

    user: str
    service: str
    address: str
    host: str
    pid: int
    started: int
    asker: Asker
    method: str = ""
    key: str = ""

    @property
    def network(self) -> str:
        """What the limits count as one address: an IPv6 client has at least a /64."""
        ip = ip_of(self.address)
        return str(IPv6Network((ip, 64), strict=False)) if isinstance(ip, IPv6Address) else self.address

    def is_of(self, challenge: Challenge) -> bool:
        """Return whether a challenge of this process is for this login."""
        return (challenge.user, challenge.address, challenge.service) == (self.user, self.address, self.service)


class NoLoginError(Exception):
    """Nobody but PAM runs these commands; the text has the reason why this is not PAM."""


def pam_login(environment: Mapping[str, str], parent: int) -> PamLogin:
    """
    Return the login that PAM asks about.

    Args:
        environment: of pam_exec: PAM_USER, PAM_RHOST, PAM_SERVICE, PAM_TYPE, and sshd's SSH_AUTH_INFO_0. Anybody may have chosen
            the first two.
        parent: the process that runs PAM.

    Raises:
        NoLoginError: the environment is not that of a login, or the process has ended.
    """
    kind, raw_user = environment.get("PAM_TYPE", ""), environment.get("PAM_USER", "")
    if kind != "auth":
        raise NoLoginError("this runs in an auth line of PAM only" if kind else "PAM_TYPE is missing; this runs in PAM only")
    raw_address, raw_service = environment.get("PAM_RHOST", ""), environment.get("PAM_SERVICE", "")
    if not raw_user or any(len(os.fsencode(text)) > TEXT_LIMIT_BYTES for text in (raw_user, raw_address, raw_service)):
        raise NoLoginError("PAM_USER is missing, or a PAM variable is too long")
    ip = ip_of(raw_address)
    address = raw_address if ip is None else str(ip)
    try:
        pid, is_sshd = _asking(parent)
        started = _started(pid)
    except (OSError, ValueError, IndexError) as error:
        raise NoLoginError("the process that asked has ended") from error
    method, key = _so_far(environment.get("SSH_AUTH_INFO_0", ""))
    asker = Asker("sshd" if is_sshd else raw_service, pid, raw_user, raw_address)
    user, service = _account_name(_readable(raw_user)), _readable(raw_service)
    return PamLogin(user, service, _readable(address), os.uname().nodename, pid, started, asker, method, key)


def _account_name(user: str) -> str:
    """
    Return a user's name as its account has it.

    sssd and winbind know an account by several: ``Alice``, ``alice@example.org``. The limits and the rules must not take them for
    several users.
    """
    try:
        return pwd.getpwnam(user).pw_name
    except (KeyError, ValueError):
        return user


def _readable(text: str) -> str:
    return os.fsencode(text).decode("utf-8", "backslashreplace")


def _asking(parent: int) -> tuple[int, bool]:
    """Return the process that logs "Accepted", and whether it is sshd's."""
    if parent <= 1:
        raise ValueError("the parent has ended")
    if not _is_sshd(parent):
        return parent, False
    title = Path(f"/proc/{parent}/cmdline").read_bytes().rstrip(b"\0")
    monitor = int(_stat(parent)[1])
    return (monitor, True) if title.endswith(_PAM_TITLE) and monitor > 1 and _is_sshd(monitor) else (parent, True)


def _is_sshd(pid: int) -> bool:
    # sshd, sshd-session, sshd.pam. The name of the process would be that of a link, by which any user can run su.
    program = Path(f"/proc/{pid}/exe")
    if not program.readlink().name.startswith("sshd"):
        return False
    # A hard link would have its own name here: of su, which is setuid, or of a program of the user's own.
    found = program.stat()
    return found.st_uid == 0 and not found.st_mode & stat.S_ISUID


def _stat(pid: int) -> list[bytes]:
    """Return the fields of ``/proc/PID/stat`` from the third on. The second is a name, which may contain anything."""
    return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()


def _started(pid: int) -> int:
    return int(_stat(pid)[19])


def _so_far(info: str) -> tuple[str, str]:
    """Return the methods that have succeeded, and the last key's fingerprint. Source: OpenSSH, auth2.c, auth2_record_info()."""
    methods, key = [], ""
    for line in info.splitlines():
        words = line.split()
        methods += words[:1]
        # A certificate's own fingerprint is not that of its key.
        if words[:1] == ["publickey"] and len(words) > 2 and "-cert-v" not in words[1]:
            try:
                digest = hashlib.sha256(binascii.a2b_base64(words[2])).digest()
            except (binascii.Error, ValueError):
                continue
            key = "SHA256:" + base64.b64encode(digest).decode().rstrip("=")
    return ", ".join(methods), key
