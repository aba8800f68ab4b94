"""
The keys of all accounts of this host: what sshd would accept, each home read as its own user.

A process of its own reads the homes, one after the other, since one that hangs (a dead file server) hangs whoever looks at it.
"""

import contextlib
import os
import pwd
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import BinaryIO, Self

import msgspec

from consumer.enrich.key_document import Key
from consumer.enrich.key_owners import keys_of
from consumer.enrich.sshd_config import SshdSettings, sshd_settings
from consumer.errors import RightsError, TryLaterError

# How long one account's keys may take, and after how many that took longer it is no use to go on.
HOME_LIMIT_S = 5.0
HUNG_LIMIT = 4
# Of one account: whoever fills their own file must not fill what a relay takes of the whole host.
ACCOUNT_LIMIT = 10_000
_CHUNK = 65536
_END_S = 1.0


def want_root() -> None:
    """
    Say that root has to do this, before anything is written.

    Raises:
        RightsError: it is not root who calls.
    """
    if os.geteuid() != 0:
        raise RightsError("only root can read everybody's keys; try: sudo sshbell keys export")


def exported_keys(report: Callable[[str], None]) -> Iterator[Key]:
    """
    Yield the keys of all accounts, and the authorities whose certificates are good for all of them.

    Args:
        report: is told in one line which account's keys could not be read within the limit, or are more than are written.

    Raises:
        TryLaterError: too many homes hang; what was yielded is not all.
    """
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
            raise TryLaterError(f"the keys of more than {HUNG_LIMIT} accounts could not be read; nothing is complete")


class _Reader:
    """A child that reads homes; a line for each key, and an empty one behind each account."""

    def __init__(self, accounts: list[pwd.struct_passwd]) -> None:
        sys.stdout.flush()  # or the child would have it, too
        self._from, to = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            code = 70
            try:
                os.close(self._from)
                with os.fdopen(to, "wb") as out:
                    _read_homes(accounts, out)
                code = 0
            finally:
                os._exit(code)  # whatever it was: the parent sees that an account is missing
        os.close(to)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._from)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)
        # One that the kernel holds cannot be waited for.
        end_s = time.monotonic() + _END_S
        while not os.waitpid(self._pid, os.WNOHANG)[0] and time.monotonic() < end_s:
            time.sleep(0.01)

    def accounts(self) -> Iterator[list[Key]]:
        """Yield the keys of one account after the other, until all are read or one takes too long."""
        decode = msgspec.json.Decoder(Key).decode
        rest, found = b"", []
        while select.select([self._from], [], [], HOME_LIMIT_S)[0]:
            chunk = os.read(self._from, _CHUNK)
            if not chunk:
                return
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                if line:
                    found.append(decode(line))
                else:
                    yield found
                    found = []


def _read_homes(accounts: list[pwd.struct_passwd], out: BinaryIO) -> None:
    encode = msgspec.json.Encoder().encode
    for account in accounts:
        with contextlib.suppress(OSError):
            settings = sshd_settings(account.pw_name, "localhost", "127.0.0.1")
            out.writelines(encode(key) + b"\n" for key in _keys_of(account, settings))
        out.write(b"\n")
        out.flush()


def _keys_of(account: pwd.struct_passwd, settings: SshdSettings) -> Iterator[Key]:
    """Yield an account's keys; what is read is read with its rights, and no others."""
    os.initgroups(account.pw_name, account.pw_gid)
    os.setegid(account.pw_gid)
    os.seteuid(account.pw_uid)
    try:
        # One more says that there are too many.
        for file, key in islice(keys_of(account, settings), ACCOUNT_LIMIT + 1):
            is_common = key.is_authority and file == settings.trusted_user_ca_keys
            yield Key(
                "" if is_common else account.pw_name, key.type, key.sha256, key.md5, key.comment, key.options, key.is_authority,
            )  # fmt: skip
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups([])
