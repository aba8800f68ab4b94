"""
What cannot be done yet is tried again, and rsyslog is asked for patience meanwhile.

A dot each two seconds begins rsyslog's time-out anew; the line that is held stays its own until it has the "OK".
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

import structlog

from consumer.errors import ConfigError, DamagedStoreError, StoreError
from consumer.intake.omprog import Lines, Replies
from consumer.store.state import State

log = structlog.get_logger()
T = TypeVar("T")

# Between two tries, and between two dots meanwhile.
_RETRY_S, _DOT_S = 0.2, 2.0


class HungUpError(Exception):
    """rsyslog has closed the pipe while something was awaited."""


class Patience:
    """
    Waits for a disk, a lock or a configuration.

    Args:
        lines: where rsyslog may hang up meanwhile.
        replies: where the dots go.
    """

    def __init__(self, lines: Lines, replies: Replies) -> None:
        self._lines = lines
        self._replies = replies
        self._last_dot_s = time.monotonic()

    def until(self, action: Callable[[], T]) -> T:
        """
        Do something until it can be done.

        Raises:
            DamagedStoreError: waiting does not mend it.
            HungUpError: nobody is there any more to wait for it.
        """
        complained = ""
        while True:
            try:
                return action()
            except DamagedStoreError:
                raise
            except (StoreError, ConfigError) as error:
                if str(error) != complained:
                    complained = str(error)
                    log.error("waiting", reason=complained)
                if self._lines.has_hung_up():
                    raise HungUpError from error
                if time.monotonic() - self._last_dot_s >= _DOT_S:
                    self._last_dot_s = time.monotonic()
                    self._replies.dot()
                time.sleep(_RETRY_S)

    @contextmanager
    def meanwhile(self) -> Iterator[None]:
        """Ask for patience while something may take its time: to check a database, for one."""
        is_over = threading.Event()

        def ask() -> None:
            while not is_over.wait(_DOT_S):
                self._replies.dot()

        asker = threading.Thread(target=ask, name="patience")
        asker.start()
        try:
            yield
        finally:
            is_over.set()
            asker.join()


class Store:
    """
    ``state.db``, and the patience to wait for it.

    Args:
        patience: for a full disk, which makes rsyslog wait.
        state_dir: where it is.
        report: gets one line about each damaged file that was set aside.

    Attributes:
        state: the file.
        has_snapshot: False from the moment a new file replaced a damaged one until a whole snapshot is in it.
    """

    def __init__(self, patience: Patience, state_dir: Path, report: Callable[[str], None]) -> None:
        self._patience = patience
        self.state = patience.until(lambda: State(state_dir, report))
        self.has_snapshot = True

    def until(self, action: Callable[[], T]) -> T:
        """
        Retry something that needs the disk until it succeeds. A new file replaces a damaged one.

        Raises:
            HungUpError: rsyslog has gone meanwhile.
        """
        while True:
            try:
                return self._patience.until(action)
            except DamagedStoreError as error:
                self.until(partial(self.state.renew, str(error)))
                self.has_snapshot = False
