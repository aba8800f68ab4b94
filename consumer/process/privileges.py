"""
Whom a process runs as, and what it may do.

What root starts becomes the configuration's ``user`` before it touches what that user owns, and gives up the rest of root with
it: groups, all sets of capabilities, and the right to get any back by running another program (``no_new_privs``).
"""

import ctypes
import os
import pwd
import signal
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from consumer.errors import ConfigError, RightsError
from consumer.rights import untrusted_below

# linux/capability.h, linux/prctl.h
CAP_KILL, CAP_SETGID, CAP_SETUID = 5, 6, 7
_CAPABILITY_VERSION = 0x20080522
_PR_SET_PDEATHSIG, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT = 1, 24, 38, 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_CAPABILITY_LIMIT = 64  # of the kernel's two words

_libc = ctypes.CDLL(None, use_errno=True)


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Words(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


_Sets = _Words * 2  # capabilities 0 to 31, and 32 to 63


def become(name: str) -> None:
    """
    Become a user and give up all else, for good, where root runs this; root stays what it is for "" and "root".

    Who is not root stays who they are, and gives up the capabilities they may have.

    Raises:
        ConfigError: there is no such user, or we may not become it.
    """
    if os.getuid() != 0 and os.geteuid() != 0:
        _keep(())
    elif name and name != "root":
        become_account(account_of(name))


def account_of(name: str) -> pwd.struct_passwd:
    """
    Return a user whom root, who runs this, can become.

    Raises:
        ConfigError: there is no such user, or we may not become it.
    """
    try:
        user = pwd.getpwnam(name)
    except KeyError:
        raise ConfigError(
            f'user = "{name}": there is no such user; run: sshbell install, or set user = "" to stay root'
        ) from None
    if not may_become():
        # An rsyslogd that is built with libcap-ng, or a unit with a CapabilityBoundingSet, hands on less than all of root.
        raise ConfigError(
            f'user = "{name}": root may not become it here: CAP_SETUID and CAP_SETGID are missing; give them to rsyslog\'s unit, '
            'or set user = ""'
        )
    return user


def guard(folder: Path) -> None:
    """
    See that root, where it stays root, writes under a folder where nobody else leads it, such as by a link.

    Raises:
        RightsError: somebody could.
    """
    if os.geteuid() == 0 and (reason := untrusted_below(folder, is_kept=True)):
        raise RightsError(
            f"root would write where others lead it: {reason}; run: chown -Rh root:root {folder}; chmod -R go-w {folder}"
        )


def may_become() -> bool:
    """Tell whether this process may become other users."""
    wanted = 1 << CAP_SETUID | 1 << CAP_SETGID
    return bool(_capabilities()[0].effective & wanted == wanted)


def become_account(account: pwd.struct_passwd) -> None:
    """
    Become a user, root included, for good: real, effective and saved ids, groups, and no capability.

    Raises:
        OSError: it cannot be done; the process is to end then.
    """
    # First: it wants a capability that is gone then.
    _bound(())
    os.initgroups(account.pw_name, account.pw_gid)
    os.setresgid(account.pw_gid, account.pw_gid, account.pw_gid)
    os.setresuid(account.pw_uid, account.pw_uid, account.pw_uid)
    _keep(())


def keep_only(capabilities: Collection[int]) -> None:
    """Give up all capabilities but these, and the right to get any by running a program; what is not there is not missed."""
    _bound(capabilities)
    _keep(capabilities)


def end_with_parent(number: signal.Signals) -> None:
    """Get a signal when the process that started us ends, where it may send us one then. Another identity ends this."""
    _libc.prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)


def keep_descriptors(kept: Collection[int]) -> None:
    """Give up all open files but these; standard input, output and error lead nowhere, unless they are among these."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        # Whoever was started without standard input has a pipe in its place.
        if number not in kept:
            os.dup2(nowhere, number)
    for number in map(int, os.listdir("/proc/self/fd")):  # noqa: PTH208 - names
        if number > 2 and number not in kept:
            with suppress(OSError):  # the one that lists them is closed by now
                os.close(number)


def _bound(capabilities: Collection[int]) -> None:
    """Take all but these from the bounding set, where we may: with no_new_privs it adds little, but it is root's own limit."""
    for number in range(_CAPABILITY_LIMIT):
        if number not in capabilities:
            _libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0)


def _keep(capabilities: Collection[int]) -> None:
    sets = _capabilities()
    for word in range(2):
        mask = sum(1 << number % 32 for number in capabilities if number // 32 == word)
        sets[word].permitted &= mask
        sets[word].effective &= mask
        sets[word].inheritable = 0
    _called("capset", _libc.capset(ctypes.byref(_Header(_CAPABILITY_VERSION, 0)), sets))
    _called("prctl", _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    # Empty already by the rules of the kernel, where it has such a set.
    _libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)


def _capabilities() -> "ctypes.Array[_Words]":
    sets = _Sets()
    _called("capget", _libc.capget(ctypes.byref(_Header(_CAPABILITY_VERSION, 0)), sets))
    return sets


def _called(name: str, result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
