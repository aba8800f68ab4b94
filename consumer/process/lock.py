"""Who has a lock file is the only process of its kind. It is let go of at the end of the process, however that ends."""

import fcntl
import os
from pathlib import Path

from consumer.errors import StoreError


class Lock:
    """
    A lock file, open.

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
        Take it if nobody has it.

        Raises:
            StoreError: it is taken, and who we are cannot be noted in it.
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
        """Let go of it."""
        os.close(self._descriptor)
