"""
The keys of all accounts of this host that sshd would accept. Each home is read as its own user.

A separate process fetches the files of the homes one after the other, because a home on a dead file server hangs its reader. This
process is root, and each user in turn; so another one, which has dropped all rights, parses the files.
"""

import gc
import os
import pwd
import select
import signal
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice
from typing import Self

import msgspec

from consumer.errors import RightsError, TryLaterError
from consumer.keys.authorized_keys import AuthorizedKey
from consumer.keys.document import KEY_LINE_LIMIT
from consumer.keys.files import KeyFile, files_of, lines_of
from consumer.keys.sshd_config import SshdSettings, sshd_settings
from consumer.process.privileges import become_account, keep_descriptors, keep_only

# How long one account's keys may take, and how many accounts may take longer before the export gives up.
HOME_LIMIT_S = 5.0
HUNG_LIMIT = 4
# Keys of one account: a user with a huge file must not fill the relay's limit for the whole host.
ACCOUNT_LIMIT = 10_000
_CHUNK = 65536
_END_S = 1.0
# Precedes each file in the pipe, and follows each account: a kind, and how many bytes follow.
_FRAME = struct.Struct("!BI")
_OVER, _OWN, _TRUSTED = range(3)


def want_root() -> None:
    """
    Check that root runs this, before anything is written.

    Raises:
        RightsError: the caller is not root.
    """
    if os.geteuid() != 0:
        raise RightsError("only root can read everybody's keys; try: sudo sshbell keys export")


def exported_keys(report: Callable[[str], None], accounts: list[pwd.struct_passwd] | None = None) -> Iterator[AuthorizedKey]:
    """
    Yield the keys of accounts, and the authorities whose certificates open all of them.

    Args:
        report: gets one line about each account whose keys could not be read in time, or that has too many.
        accounts: the accounts; None: all accounts of this host.

    Raises:
        TryLaterError: too many homes hang; the export is incomplete.
    """
    if accounts is None:
        accounts = list({account.pw_name: account for account in pwd.getpwall()}.values())
    done = hung = 0
    common: set[str] = set()
    while done < len(accounts):
        with _Reader(accounts[done:]) as reader:
            for found in reader.accounts():
                if len(found) > ACCOUNT_LIMIT:
                    report(f"{accounts[done].pw_name}: it has more than {ACCOUNT_LIMIT:,} keys; the rest is left out")
                for key in found[:ACCOUNT_LIMIT]:
                    if not key.account and key.sha256 in common:
                        continue
                    if not key.account:
                        common.add(key.sha256)
                    yield key
                done += 1
        if done < len(accounts):
            hung += 1
            report(f"{accounts[done].pw_name}: its keys could not be read, or not within {HOME_LIMIT_S:.0f} s, and are left out")
            done += 1
        if hung > HUNG_LIMIT:
            raise TryLaterError(f"sshbell cannot read the keys of more than {HUNG_LIMIT} accounts; this export is incomplete")


class _Reader:
    """Two children: one fetches files, the other parses them. It writes a line for each key, and an empty one per account."""

    def __init__(self, accounts: list[pwd.struct_passwd]) -> None:
        fetched, to_reader = os.pipe()
        self._from, to_us = os.pipe()
        self._pids = [_child(lambda: _read_files([account.pw_name for account in accounts], fetched, to_us), fetched, to_us)]
        os.close(fetched)
        os.close(to_us)
        self._pids.append(_child(lambda: _fetch_files(accounts, to_reader), to_reader))
        os.close(to_reader)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._from)
        for pid in self._pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        # Do not wait for a child that the kernel holds.
        end_s = time.monotonic() + _END_S
        for pid in self._pids:
            while not os.waitpid(pid, os.WNOHANG)[0] and time.monotonic() < end_s:
                time.sleep(0.01)

    def accounts(self) -> Iterator[list[AuthorizedKey]]:
        """Yield the keys of one account after the other, until all are read or one takes too long."""
        decode = msgspec.json.Decoder(AuthorizedKey).decode
        rest = b""
        found: list[AuthorizedKey] = []
        while select.select([self._from], [], [], HOME_LIMIT_S)[0]:
            chunk = os.read(self._from, _CHUNK)
            *lines, rest = (rest + chunk).split(b"\n")
            if not chunk or len(rest) > KEY_LINE_LIMIT:
                return
            for line in lines:
                if not line:
                    yield found
                    found = []
                elif len(found) <= ACCOUNT_LIMIT:
                    try:
                        found.append(decode(line))
                    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                        return


def _child(work: Callable[[], None], *descriptors: int) -> int:
    """Start a child that keeps only some of our descriptors, and ends after its work; return its pid."""
    pid = os.fork()
    if pid != 0:
        return pid
    try:
        gc.disable()  # the descriptors that it would close are closed already
        os.setsid()  # no terminal
        keep_descriptors(descriptors)
        work()
    finally:
        os._exit(0)  # after any error, too: the parent notices that an account is missing


def _fetch_files(accounts: list[pwd.struct_passwd], to: int) -> None:
    """Write the accounts' files into a pipe. This process does not parse them, because it can become root again."""
    with os.fdopen(to, "wb") as out:
        for account in accounts:
            with suppress(OSError):
                settings = sshd_settings(account.pw_name, "localhost", "127.0.0.1")
                for file in _files_of(account, settings):
                    out.write(_FRAME.pack(_OWN if file.account else _TRUSTED, len(file.text)))
                    out.write(file.text)
            out.write(_FRAME.pack(_OVER, 0))
            out.flush()


def _files_of(account: pwd.struct_passwd, settings: SshdSettings) -> Iterator[KeyFile]:
    """Yield an account's files; open them with the rights of the account only."""
    os.initgroups(account.pw_name, account.pw_gid)
    os.setegid(account.pw_gid)
    os.seteuid(account.pw_uid)
    try:
        yield from files_of(account, settings)
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups([])


def _read_files(names: list[str], fetched: int, to: int) -> None:
    """Write the keys of the accounts' files, running as nobody for good."""
    try:
        # A user that owns nothing; the name need not exist. Created here, because Python 3.11.7 complains at exit about one in a
        # module.
        become_account(pwd.struct_passwd(("nobody", "", 65534, 65534, "", "/", "")))
    except OSError:
        keep_only(())  # in a container, root may be unable to become other users
    encode = msgspec.json.Encoder().encode
    with os.fdopen(fetched, "rb") as files, os.fdopen(to, "wb") as out:
        for name in names:
            left = ACCOUNT_LIMIT + 1  # one more shows that there are too many
            while frame := files.read(_FRAME.size):
                kind, size = _FRAME.unpack(frame)
                if kind == _OVER:
                    out.write(b"\n")
                    out.flush()
                    break
                file = KeyFile("", files.read(size), "" if kind == _TRUSTED else name)
                for key in islice(lines_of(file), left):
                    out.write(encode(key) + b"\n")
                    left -= 1
