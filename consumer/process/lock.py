"""A lock file keeps a process the only one of its kind. The kernel releases the lock when the process ends, however it ends."""

import fcntl
import os
from pathlib import Path

from consumer.errors import StoreError


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
            os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)  # for `sshbell status`
        except OSError as error:
            raise StoreError(f"{self._path}: {error.strerror}") from error
        return True

    def close(self) -> None:
        """Release the lock."""
        os.close(self._descriptor)
