"""
The process ``keys``: whose is this fingerprint, for this user?

``sshbell run`` starts it while it is root, and it keeps of root what ``run`` gives up: the right to become users. Each home is
read as its user, by a child that lives for one look-up: root cannot read every home (NFS), and what reads hostile files should
have no rights. This process itself opens no file and looks up no user: no home and no name service holds it up.

It ends with its socket to ``run``, and by no signal but 9. Nobody starts it again before ``run`` itself is started anew.
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
import structlog

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
from consumer.keys.files import Wanted, owners_by_command, owners_of
from consumer.keys.sshd_config import sshd_settings
from consumer.process.log import configure
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

# For a place, sshd's settings, the files, and AuthorizedKeysCommand, which ends by itself before; below the client's LIMIT_S.
LOOK_UP_S = 2.5
# A command is ended so long before, by the look-up that has started it: once that is killed, nobody would.
_END_S = 0.3
# Children at the same time, for one user and in all. One that hangs in a dead file system cannot be killed, and counts until it
# ends.
USER_LIMIT, CHILD_LIMIT = 2, 8
# What tables may have of these: however often somebody looks who is in while something hangs, there is room for messages.
TABLE_USER_LIMIT, TABLE_CHILD_LIMIT = 1, 4
# Who asks is deliver, about what it sends next, and few tables: more than this at the same time is a fault.
_CLIENT_LIMIT = 128
# An answer is good for so long: many logins at once are often one user's, with one key.
KNOWN_S = 5.0
_PEER = struct.Struct("3i")  # SO_PEERCRED: pid, uid, gid

_log = structlog.get_logger()
_encode = msgspec.json.Encoder().encode


class LookedUp(msgspec.Struct, frozen=True):
    """What a child has found; ``command_user`` where sshd would ask a command, too, and as whom; ``fault`` is one of ours."""

    owners: list[Owner]
    command_user: str = ""
    fault: str = ""


class Child(msgspec.Struct):
    """A look-up, and whose; it is stuck where it had its time, and lives."""

    user: str
    is_stuck: bool = False


# What a child does: become somebody, and look.
LookUp = Callable[[Question], LookedUp]


class KeysServer:
    """
    Answers.

    Args:
        uids: who may ask.
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
                pass  # it is closed as well
            loop.remove_reader(life)
            over.set()

        loop.add_reader(life, said)
        loop.add_signal_handler(signal.SIGCHLD, self._reap)
        async with await asyncio.start_unix_server(self._client, sock=listener, limit=QUESTION_LIMIT):
            await over.wait()
            for pid in self._children:
                _kill(pid)
            # Neither a client nor a child that cannot be killed is waited for.
            os._exit(0)

    # ---------------------------------------------------------------- who asks

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients += 1
        try:
            if self._clients <= _CLIENT_LIMIT and self._may_ask(writer):
                async with asyncio.timeout(LOOK_UP_S):
                    question = msgspec.json.decode(await reader.readuntil(b"\n"), type=Question)
                # The time of a look-up that others have begun is its own.
                writer.write(_encode(Answer(await asyncio.shield(self._asked(question)))) + b"\n")
                async with asyncio.timeout(LOOK_UP_S):
                    await writer.drain()
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError, msgspec.MsgspecError, RecursionError) as error:
            # No answer is "unknown"; whoever asked has gone, asked nonsense, or the time is over.
            _log.warning("not answered", reason=type(error).__name__)
        finally:
            self._clients -= 1
            writer.close()

    def _may_ask(self, writer: asyncio.StreamWriter) -> bool:
        peer = writer.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
        _pid, uid, _gid = _PEER.unpack(peer)
        if uid not in self._uids:
            _log.error("not answered", reason="others than root and sshbell may not ask", uid=uid)
        return uid in self._uids

    # ---------------------------------------------------------------- children

    def _asked(self, question: Question) -> asyncio.Task[list[Owner]]:
        """Return the look-up of a question, which may be one that was begun of late."""
        task = self._known.get(question)
        if task is None:
            task = self._known[question] = asyncio.create_task(self._owners(question))
            asyncio.get_running_loop().call_later(KNOWN_S, self._known.pop, question)
        return task

    async def _owners(self, question: Question) -> list[Owner]:
        """Return what is known within ``LOOK_UP_S``."""
        end_s = time.monotonic() + LOOK_UP_S - _END_S
        try:
            async with asyncio.timeout(LOOK_UP_S):
                found = await self._looked_up(question, by_files)
                if not found.owners and found.command_user:
                    found = await self._looked_up(question, partial(by_command, end_s=end_s))
                return found.owners
        except (OSError, msgspec.MsgspecError, asyncio.LimitOverrunError) as error:
            _log.warning("unknown", user=question.user, reason=type(error).__name__)
            return []

    async def _looked_up(self, question: Question, look_up: LookUp) -> LookedUp:
        """Let a child look; nothing is found where there is no place for one, or it has its time and does not end."""
        if not await self._place(question):
            return LookedUp([])
        reading, writing = os.pipe()
        try:
            pid = os.fork()
        except OSError:
            os.close(reading)  # too many processes: whoever made them must not use up what we may open
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
                _log.warning("a look-up hangs", user=question.user, children=len(self._children))
            raise
        except asyncio.IncompleteReadError:
            said = _encode(LookedUp([], fault="it has died"))
        found = msgspec.json.decode(said, type=LookedUp)
        if found.fault:
            _log.error("a look-up has failed", user=question.user, reason=found.fault)
        return found

    async def _place(self, question: Question) -> bool:
        """Wait until another child may be started; tell at once where none will, since all places are held by what hangs."""
        account = account_name(question.user)
        of_user, of_all = (TABLE_USER_LIMIT, TABLE_CHILD_LIMIT) if question.for_table else (USER_LIMIT, CHILD_LIMIT)
        while True:
            for limit, own in (
                (of_user, [child for child in self._children.values() if child.user == account]),
                (of_all, list(self._children.values())),
            ):
                if len(own) >= limit:
                    if all(child.is_stuck for child in own):
                        if not question.for_table:  # a table has many, and its reader sees it
                            _log.warning("unknown, since look-ups hang", user=question.user, children=len(own))
                        return False
                    break
            else:
                return True
            self._ended.clear()
            await self._ended.wait()

    def _reap(self) -> None:
        """Let those go that have ended."""
        with suppress(ChildProcessError):
            while (pid := os.waitpid(-1, os.WNOHANG)[0]) != 0:
                self._children.pop(pid, None)
                self._ended.set()


async def _said_in(reading: int) -> bytes:
    """Return the line that comes through a pipe, and close it."""
    pipe = os.fdopen(reading, "rb", buffering=0)
    reader = asyncio.StreamReader(limit=2 * ANSWER_LIMIT)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
    with closing(transport):
        return await reader.readuntil(b"\n")


def _kill(pid: int) -> None:
    """Kill a child, and what it has started."""
    for kill in (os.killpg, os.kill):
        with suppress(OSError):
            kill(pid, signal.SIGKILL)


# -------------------------------------------------------------------- in the child


def _look(writing: int, look_up: LookUp, question: Question) -> NoReturn:
    """Do one look-up, in a process that has nothing of its parent but a pipe; write what it found, and end."""
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        gc.disable()  # what it would close is closed already, and its numbers are others' by then
        os.setpgid(0, 0)
        # One that hangs holds what it has: also rsyslogd's pipe for what we say.
        keep_descriptors([writing])
        try:
            found = look_up(question)
        except Exception as error:  # noqa: BLE001 - the parent says so
            found = LookedUp([], fault=f"{type(error).__name__}: {error}")
        said = _encode(found) + b"\n"
        while said:
            said = said[os.write(writing, said) :]
    finally:  # whatever it was, this child does not become a second parent
        os._exit(0)


def by_files(question: Question) -> LookedUp:
    """Read what is in the user's files, as the user."""
    try:
        account = pwd.getpwnam(question.user)
    except (KeyError, ValueError):
        return LookedUp([])
    settings = sshd_settings(account.pw_name, question.address, question.address)
    if not _has_become(account):
        return LookedUp([])
    owners = owners_of(_wanted(question), account, settings)
    return LookedUp(_told(owners), settings.authorized_keys_command_user if settings.authorized_keys_command else "")


def by_command(question: Question, end_s: float) -> LookedUp:
    """Ask ``AuthorizedKeysCommand``, as its user; it has until ``end_s`` of the monotonic clock."""
    account = pwd.getpwnam(question.user)
    settings = sshd_settings(account.pw_name, question.address, question.address)
    if not _has_become(pwd.getpwnam(settings.authorized_keys_command_user)):
        return LookedUp([])
    return LookedUp(_told(owners_by_command(_wanted(question), account, settings, end_s)))


def _has_become(account: pwd.struct_passwd) -> bool:
    """Become somebody; tell whether what follows may be done as who we are: never with rights that are not theirs."""
    if may_become():
        become_account(account)
        end_with_parent(signal.SIGKILL)
        return True
    # Who never was root reads what anybody may. Root that may become nobody reads what is its own.
    return os.geteuid() != 0 or account.pw_uid == 0


def _wanted(question: Question) -> Wanted:
    return Wanted(question.fingerprint, question.ca_fingerprint, question.key_type)


def _told(owners: list[AuthorizedKey]) -> list[Owner]:
    told = [
        Owner(owner.comment[:TEXT_LIMIT], [option[:TEXT_LIMIT] for option in owner.options[:OPTION_LIMIT]], owner.is_authority)
        for owner in owners[:OWNER_LIMIT]
    ]
    # The first one fits, whatever is in it.
    while len(_encode(Answer(told))) >= ANSWER_LIMIT:
        told.pop()
    return told


# -------------------------------------------------------------------- the process


def main(life_fd: int, uid: int) -> None:
    """
    Be the process ``keys``.

    Args:
        life_fd: a socket to ``run``: where to listen comes through it, once ``run`` has the lock; its end ends this.
        uid: of sshbell, who may ask, as root may.
    """
    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    configure()
    os.chdir("/")
    os.umask(0o077)
    if may_become():
        os.setgroups([])
        # The saved one is that of run, or the kernel would not send us the signal at its end.
        os.setresuid(os.getuid(), os.geteuid(), uid)
    # CAP_KILL to end look-ups; it is nothing that CAP_SETUID would not give. sshd's host keys and configuration are root's own.
    keep_only((CAP_KILL, CAP_SETGID, CAP_SETUID))
    end_with_parent(signal.SIGKILL)
    with closing(socket.socket(fileno=life_fd)) as life:
        life.set_inheritable(False)
        _, descriptors, _, _ = socket.recv_fds(life, 1, 1)
        if not descriptors:
            return  # run has ended before it had the lock
        listener = socket.socket(fileno=descriptors[0])
        life.settimeout(0)
        asyncio.run(KeysServer({0, uid}).serve(life, listener))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
