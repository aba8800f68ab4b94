"""A lock file keeps a process the only one of its kind. The kernel releases the lock when the process ends, however it ends."""

import fcntl
import os
from pathlib import Path

import msgspec

from consumer.errors import StoreError

# In the state directory: only one process reads lines, only one sends messages, and only one blocks.
RUN_LOCK, DELIVER_LOCK, GUARD_LOCK = "run.lock", "deliver.lock", "guard.lock"


class Process(msgspec.Struct, frozen=True):
    """The process that holds a lock, if any. ``is_running`` is None, and ``pid`` 0, if it is not known."""

    is_running: bool | None
    pid: int


class Lock:
    """
    An open lock file.

    Raises:
        StoreError: it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreError(f"{path}: {error.strerror}") from error

    def take(self) -> bool:
        """
        Take the lock if it is free; return whether this process has it now.

        Raises:
            StoreError: this process has the lock, but cannot write its pid into the file.
        """
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        try:
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)  # for holder_of
        except OSError as error:
            raise StoreError(f"{self._path}: {error.strerror}") from error
        return True

    def close(self) -> None:
        """Release the lock."""
        os.close(self._descriptor)


def locked(path: Path, advice: str = "") -> Lock:
    """
    Take a lock and return it.

    This opens the file anew for each try, because somebody may have replaced it.

    Args:
        path: of the lock file.
        advice: what to do if another process holds it.

    Raises:
        StoreError: another process holds it, or the disk is full.
    """
    lock = Lock(path)
    try:
        if not lock.take():
            raise StoreError(f"another process holds {path}" + (f"; {advice}" if advice else ""))  # noqa: TRY301
    except StoreError:
        lock.close()
        raise
    return lock


def holder_of(path: Path) -> Process:
    """
    Return the process that holds a lock file.

    To find out, this takes the lock for a moment. It takes a shared one, so two such checks do not see each other; a process that
    starts at this moment tries again.

    Raises:
        OSError: the lock file cannot be opened.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return Process(is_running=False, pid=0)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.read(descriptor, 20).strip()
        return Process(is_running=True, pid=int(text) if text.isdigit() else 0)
    finally:
        os.close(descriptor)
    return Process(is_running=False, pid=0)
