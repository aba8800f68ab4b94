"""
The process ``keys``: who owns the key with this fingerprint, for this user?

``sshbell run`` starts it while ``run`` is root. It keeps the one right of root that ``run`` drops: to become other users. For
each look-up, a child becomes the user and reads the home: root cannot read every home (NFS), and a process that reads hostile
files should have no rights. ``keys`` itself opens no file and looks up no user, so no home and no name service holds it up.

It ends when its socket to ``run`` closes, and ignores all signals but 9. Only a restart of ``run`` starts it again.
"""

import asyncio
import gc
import os
import pwd
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable, Collection
from contextlib import closing, suppress
from functools import partial
from typing import NoReturn

import msgspec

from consumer.keys.authorized_keys import AuthorizedKey
from consumer.keys.client import (
    ANSWER_LIMIT,
    OPTION_LIMIT,
    OWNER_LIMIT,
    QUESTION_LIMIT,
    TEXT_LIMIT,
    Answer,
    Owner,
)
from consumer.keys.fields import Question, account_name
from consumer.keys.files import owners_by_command, owners_of
from consumer.keys.sshd_config import sshd_settings
from consumer.process.log import configure, get_logger
from consumer.process.privileges import (
    CAP_KILL,
    CAP_SETGID,
    CAP_SETUID,
    become_account,
    end_with_parent,
    keep_descriptors,
    keep_only,
    may_become,
)

# For waiting, sshd's settings, the files, and AuthorizedKeysCommand, which ends earlier by itself; below the client's LIMIT_S.
LOOK_UP_S = 2.5
# The look-up ends its command this much earlier, because a command would outlive a killed look-up.
_END_S = 0.3
# Children at the same time, per user and in all. A child that hangs in a dead file system survives a kill, and counts until it
# ends.
USER_LIMIT, CHILD_LIMIT = 2, 8
# The share of tables in these. It leaves room for messages, even if somebody runs "sshbell who" often while a home hangs.
TABLE_USER_LIMIT, TABLE_CHILD_LIMIT = 1, 4
# The clients are deliver, for its next messages, and a few tables: more at the same time is a fault.
_CLIENT_LIMIT = 128
# How long an answer is reused: many logins at once often have the same user and key.
KNOWN_S = 5.0
_PEER = struct.Struct("3i")  # SO_PEERCRED: pid, uid, gid

_log = get_logger()
_encode = msgspec.json.Encoder().encode


class LookedUp(msgspec.Struct, frozen=True):
    """The result of a child. ``command_user``: sshd would also run a command, as this user. ``fault``: an error of sshbell."""

    owners: list[Owner]
    command_user: str = ""
    fault: str = ""


class Child(msgspec.Struct):
    """A look-up and its user. It is stuck if it is still alive after its time."""

    user: str
    is_stuck: bool = False


# The work of a child: become a user, and look.
LookUp = Callable[[Question], LookedUp]


class KeysServer:
    """
    Answers questions about owners of keys.

    Args:
        uids: the users that may ask.
    """

    def __init__(self, uids: Collection[int]) -> None:
        self._uids = uids
        self._children: dict[int, Child] = {}
        self._ended = asyncio.Event()
        self._known: dict[Question, asyncio.Task[list[Owner]]] = {}
        self._clients = 0

    async def serve(self, life: socket.socket, listener: socket.socket) -> None:
        """Answer until the other end of ``life`` is closed."""
        loop, over = asyncio.get_running_loop(), asyncio.Event()

        def said() -> None:
            try:
                if life.recv(1):
                    return
            except BlockingIOError:
                return
            except OSError:
                pass  # then the socket is closed, too
            loop.remove_reader(life)
            over.set()

        loop.add_reader(life, said)
        loop.add_signal_handler(signal.SIGCHLD, self._reap)
        async with await asyncio.start_unix_server(self._client, sock=listener, limit=QUESTION_LIMIT):
            await over.wait()
            for pid in self._children:
                _kill(pid)
            # Do not wait for clients, nor for children that survive a kill.
            os._exit(0)

    # ---------------------------------------------------------------- who asks

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients += 1
        try:
            if self._clients <= _CLIENT_LIMIT and self._may_ask(writer):
                async with asyncio.timeout(LOOK_UP_S):
                    question = msgspec.json.decode(await reader.readuntil(b"\n"), type=Question)
                # A look-up has its own time limit, which may have begun with an earlier question.
                writer.write(_encode(Answer(await asyncio.shield(self._asked(question)))) + b"\n")
                async with asyncio.timeout(LOOK_UP_S):
                    await writer.drain()
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError, msgspec.MsgspecError, RecursionError) as error:
            # To a client, no answer means "unknown". It has gone, asked nonsense, or the time is over.
            _log.warning("not_answered", reason=type(error).__name__)
        finally:
            self._clients -= 1
            writer.close()

    def _may_ask(self, writer: asyncio.StreamWriter) -> bool:
        peer = writer.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
        _pid, uid, _gid = _PEER.unpack(peer)
        if uid not in self._uids:
            _log.error("not_answered", reason="others than root and sshbell may not ask", uid=uid)
        return uid in self._uids

    # ---------------------------------------------------------------- children

    def _asked(self, question: Question) -> asyncio.Task[list[Owner]]:
        """Return the look-up for a question; reuse a recent one."""
        task = self._known.get(question)
        if task is None:
            task = self._known[question] = asyncio.create_task(self._owners(question))
            asyncio.get_running_loop().call_later(KNOWN_S, self._known.pop, question)
        return task

    async def _owners(self, question: Question) -> list[Owner]:
        """Return the owners that can be found within ``LOOK_UP_S``."""
        end_s = time.monotonic() + LOOK_UP_S - _END_S
        try:
            async with asyncio.timeout(LOOK_UP_S):
                found = await self._looked_up(question, by_files)
                if not found.owners and found.command_user:
                    found = await self._looked_up(question, partial(by_command, end_s=end_s))
                return found.owners
        except (OSError, msgspec.MsgspecError, asyncio.LimitOverrunError) as error:
            _log.warning("owner_unknown", user=question.user, reason=type(error).__name__)
            return []

    async def _looked_up(self, question: Question, look_up: LookUp) -> LookedUp:
        """Start a child and return its result; an empty one if there is no free slot. A child that takes too long is killed."""
        if not await self._place(question):
            return LookedUp([])
        reading, writing = os.pipe()
        try:
            pid = os.fork()
        except OSError:
            os.close(reading)  # too many processes: that must not use up our descriptors, too
            os.close(writing)
            raise
        if pid == 0:
            _look(writing, look_up, question)
        os.close(writing)
        child = self._children[pid] = Child(account_name(question.user))
        try:
            said = await _said_in(reading)
        except asyncio.CancelledError:
            if pid in self._children:
                child.is_stuck = True
                _kill(pid)
                _log.warning("lookup_hangs", user=question.user, children=len(self._children))
            raise
        except asyncio.IncompleteReadError:
            said = _encode(LookedUp([], fault="it has died"))
        found = msgspec.json.decode(said, type=LookedUp)
        if found.fault:
            _log.error("lookup_failed", user=question.user, reason=found.fault)
        return found

    async def _place(self, question: Question) -> bool:
        """Wait until another child may start; return False at once if hanging look-ups occupy all slots."""
        account = account_name(question.user)
        of_user, of_all = (TABLE_USER_LIMIT, TABLE_CHILD_LIMIT) if question.for_table else (USER_LIMIT, CHILD_LIMIT)
        while True:
            for limit, own in (
                (of_user, [child for child in self._children.values() if child.user == account]),
                (of_all, list(self._children.values())),
            ):
                if len(own) >= limit:
                    if all(child.is_stuck for child in own):
                        if not question.for_table:  # a table asks for many keys, and its reader sees the gaps
                            _log.warning("owner_unknown", user=question.user, reason="other look-ups hang", children=len(own))
                        return False
                    break
            else:
                return True
            self._ended.clear()
            await self._ended.wait()

    def _reap(self) -> None:
        """Reap the children that have ended."""
        with suppress(ChildProcessError):
            while (pid := os.waitpid(-1, os.WNOHANG)[0]) != 0:
                self._children.pop(pid, None)
                self._ended.set()


async def _said_in(reading: int) -> bytes:
    """Return the line that comes through a pipe, and close the pipe."""
    pipe = os.fdopen(reading, "rb", buffering=0)
    reader = asyncio.StreamReader(limit=2 * ANSWER_LIMIT)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
    with closing(transport):
        return await reader.readuntil(b"\n")


def _kill(pid: int) -> None:
    """Kill a child and the processes that it has started."""
    for kill in (os.killpg, os.kill):
        with suppress(OSError):
            kill(pid, signal.SIGKILL)


# -------------------------------------------------------------------- in the child


def _look(writing: int, look_up: LookUp, question: Question) -> NoReturn:
    """Do one look-up, in a process that keeps only a pipe of its parent; write the result, and end."""
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        gc.disable()  # the descriptors that it would close are closed already, and their numbers may be in use again
        os.setpgid(0, 0)
        # A hanging child keeps its descriptors open, among them rsyslogd's pipe for our log.
        keep_descriptors([writing])
        try:
            found = look_up(question)
        except Exception as error:  # noqa: BLE001 - the parent logs it
            found = LookedUp([], fault=f"{type(error).__name__}: {error}")
        said = _encode(found) + b"\n"
        while said:
            said = said[os.write(writing, said) :]
    finally:  # whatever happened, this child must not go on as a second parent
        os._exit(0)


def by_files(question: Question) -> LookedUp:
    """Search the user's files, as the user."""
    try:
        account = pwd.getpwnam(question.user)
    except (KeyError, ValueError):
        return LookedUp([])
    settings = sshd_settings(account.pw_name, question.address, question.address)
    if not _has_become(account):
        return LookedUp([])
    owners = owners_of(question, account, settings)
    return LookedUp(_told(owners), settings.authorized_keys_command_user if settings.authorized_keys_command else "")


def by_command(question: Question, end_s: float) -> LookedUp:
    """Run ``AuthorizedKeysCommand`` as its user, until ``end_s`` of the monotonic clock at the latest."""
    account = pwd.getpwnam(question.user)
    settings = sshd_settings(account.pw_name, question.address, question.address)
    if not _has_become(pwd.getpwnam(settings.authorized_keys_command_user)):
        return LookedUp([])
    return LookedUp(_told(owners_by_command(question, account, settings, end_s)))


def _has_become(account: pwd.struct_passwd) -> bool:
    """Become a user; return whether the look-up may go on: never with rights that the user does not have."""
    if may_become():
        become_account(account)
        end_with_parent(signal.SIGKILL)
        return True
    # A process that never was root reads what its user may read. Root that may not become other users reads only root's files.
    return os.geteuid() != 0 or account.pw_uid == 0


def _told(owners: list[AuthorizedKey]) -> list[Owner]:
    told = [
        Owner(owner.comment[:TEXT_LIMIT], [option[:TEXT_LIMIT] for option in owner.options[:OPTION_LIMIT]], owner.is_authority)
        for owner in owners[:OWNER_LIMIT]
    ]
    # A single owner always fits, even with all texts at their limits.
    while len(_encode(Answer(told))) >= ANSWER_LIMIT:
        told.pop()
    return told


# -------------------------------------------------------------------- the process


def main(life_fd: int, uid: int) -> None:
    """
    Run the process ``keys``.

    Args:
        life_fd: a socket to ``run``. Once ``run`` has the lock, it sends the listening socket; if it closes, this ends.
        uid: of sshbell, which may ask, like root.
    """
    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    configure()
    os.chdir("/")
    os.umask(0o077)
    if may_become():
        os.setgroups([])
        # The saved uid is that of run; otherwise the kernel would not send us the signal when run ends.
        os.setresuid(os.getuid(), os.geteuid(), uid)
    # CAP_KILL to end look-ups; CAP_SETUID would give as much. No capability is needed to read sshd's files: root owns them.
    keep_only((CAP_KILL, CAP_SETGID, CAP_SETUID))
    end_with_parent(signal.SIGKILL)
    with closing(socket.socket(fileno=life_fd)) as life:
        life.set_inheritable(False)
        _, descriptors, _, _ = socket.recv_fds(life, 1, 1)
        if not descriptors:
            return  # run has ended before it got the lock
        listener = socket.socket(fileno=descriptors[0])
        life.settimeout(0)
        asyncio.run(KeysServer({0, uid}).serve(life, listener))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
