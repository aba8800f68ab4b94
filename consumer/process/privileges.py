"""
Which user a process runs as, and what it may do.

A process that root starts becomes the configuration's ``user`` before it touches files of that user. It also drops the rest of
root: groups, all capabilities, and the right to regain any by running another program (``no_new_privs``).
"""

import ctypes
import os
import pwd
import signal
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from consumer.config import Config
from consumer.errors import ConfigError, RightsError
from consumer.rights import untrusted_below

# linux/capability.h, linux/prctl.h
CAP_KILL, CAP_SETGID, CAP_SETUID, CAP_NET_ADMIN = 5, 6, 7, 12
_CAPABILITY_VERSION = 0x20080522
_PR_SET_PDEATHSIG, _PR_SET_KEEPCAPS, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT = 1, 8, 24, 38, 47
_PR_CAP_AMBIENT_RAISE, _PR_CAP_AMBIENT_CLEAR_ALL = 2, 4
_CAPABILITY_LIMIT = 64  # the kernel has two words for them

_libc = ctypes.CDLL(None, use_errno=True)


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Words(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


_Sets = _Words * 2  # capabilities 0 to 31, and 32 to 63


def as_sshbell(config: Config) -> None:
    """
    Become the configuration's user, for work in the state directory. New files are for this user only.

    Raises:
        ConfigError: the user does not exist, or this process may not become it.
        RightsError: this process stays root, and another user controls a part of the state directory.
    """
    os.umask(0o077)
    become(config.user)
    guard(Path(config.state_dir))


def become(name: str) -> None:
    """
    Become a user for good, if root runs this, and drop everything else. For "" and "root", root keeps its identity.

    Any other user keeps its identity and drops the capabilities that it may have.

    Raises:
        ConfigError: the user does not exist, or this process may not become it.
    """
    if os.getuid() != 0 and os.geteuid() != 0:
        _keep(())
    elif name and name != "root":
        become_account(account_of(name))


def account_of(name: str) -> pwd.struct_passwd:
    """
    Return a user that this process, which is root, can become.

    Raises:
        ConfigError: the user does not exist, or this process may not become it.
    """
    try:
        user = pwd.getpwnam(name)
    except KeyError:
        raise ConfigError(
            f'user = "{name}": this user does not exist; run sshbell install, or set user = "" to keep root'
        ) from None
    if not may_become():
        # An rsyslogd built with libcap-ng, or a unit with a CapabilityBoundingSet, passes on only a part of root's rights.
        raise ConfigError(
            f'user = "{name}": root may not become it here: CAP_SETUID and CAP_SETGID are missing; add them to rsyslog\'s unit, '
            'or set user = ""'
        )
    return user


def guard(folder: Path) -> None:
    """
    Ensure that no other user can redirect the writes of a process that stays root, such as by a link.

    Raises:
        RightsError: another user controls a part of the folder.
    """
    if os.geteuid() == 0 and (reason := untrusted_below(folder, is_kept=True)):
        raise RightsError(
            f"root would write to a place that other users control: {reason}; run:"
            f" chown -Rh root:root {folder}; chmod -R go-w {folder}"
        )


def may_become() -> bool:
    """Return whether this process may become other users."""
    wanted = 1 << CAP_SETUID | 1 << CAP_SETGID
    return bool(_capabilities()[0].effective & wanted == wanted)


def become_account(account: pwd.struct_passwd) -> None:
    """
    Become a user (or root) for good: real, effective and saved ids, groups, and no capabilities.

    Raises:
        OSError: it cannot; the process must end then.
    """
    # This comes first: it needs a capability that the process is about to drop.
    _bound(())
    os.initgroups(account.pw_name, account.pw_gid)
    os.setresgid(account.pw_gid, account.pw_gid, account.pw_gid)
    os.setresuid(account.pw_uid, account.pw_uid, account.pw_uid)
    _keep(())


def become_with(account: pwd.struct_passwd, capabilities: Collection[int]) -> None:
    """
    Become a user for good, and keep some capabilities, which programs that this process runs get, too.

    Raises:
        OSError: it cannot; the process must end then.
    """
    _bound(capabilities)
    os.initgroups(account.pw_name, account.pw_gid)
    os.setresgid(account.pw_gid, account.pw_gid, account.pw_gid)
    _called("prctl", _libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0))
    os.setresuid(account.pw_uid, account.pw_uid, account.pw_uid)
    _keep(capabilities, are_passed_on=True)


def act_as(account: pwd.struct_passwd) -> None:
    """
    Act as a user, whose files this process then uses, but stay root in reserve: a program may run as root.

    Raises:
        OSError: it cannot; the process must end then.
    """
    os.initgroups(account.pw_name, account.pw_gid)
    os.setresgid(account.pw_gid, account.pw_gid, account.pw_gid)
    # The saved uid lets the user who started us end us.
    os.setresuid(0, account.pw_uid, account.pw_uid)


def keep_only(capabilities: Collection[int]) -> None:
    """Drop all capabilities but these, and the right to get any by running a program. Missing ones are no error."""
    _bound(capabilities)
    _keep(capabilities)


def end_with_parent(number: signal.Signals) -> None:
    """Ask the kernel for a signal when our parent ends, if the parent may send us one then. A change of user cancels this."""
    _libc.prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)


def keep_descriptors(kept: Collection[int]) -> None:
    """Close all open files but these. Standard input, output and error go to /dev/null, unless they are among these."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        # A process that was started without standard input may have a pipe under its number.
        if number not in kept:
            os.dup2(nowhere, number)
    for number in map(int, os.listdir("/proc/self/fd")):  # noqa: PTH208 - names
        if number > 2 and number not in kept:
            with suppress(OSError):  # the descriptor that listed them is closed by now
                os.close(number)


def _bound(capabilities: Collection[int]) -> None:
    """Drop all but these from the bounding set, if we may: no_new_privs covers most of it, but this limits root, too."""
    for number in range(_CAPABILITY_LIMIT):
        if number not in capabilities:
            _libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0)


def _keep(capabilities: Collection[int], *, are_passed_on: bool = False) -> None:
    sets = _capabilities()
    for word in range(2):
        mask = sum(1 << number % 32 for number in capabilities if number // 32 == word)
        sets[word].permitted &= mask
        # A change of the user empties the effective set.
        sets[word].effective = sets[word].permitted
        sets[word].inheritable = mask if are_passed_on else 0
    _called("capset", _libc.capset(ctypes.byref(_Header(_CAPABILITY_VERSION, 0)), sets))
    _called("prctl", _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    # By the kernel's rules it is empty already, if the kernel has this set at all.
    _libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    for number in capabilities if are_passed_on else ():
        _called("prctl", _libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, number, 0, 0))


def _capabilities() -> "ctypes.Array[_Words]":
    sets = _Sets()
    _called("capget", _libc.capget(ctypes.byref(_Header(_CAPABILITY_VERSION, 0)), sets))
    return sets


def _called(name: str, result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
