"""
Retries actions that are not possible yet, and keeps rsyslogd waiting meanwhile.

A dot every two seconds restarts rsyslogd's time-out. rsyslogd keeps the current line until it gets the "OK".
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

from consumer.errors import ConfigError, DamagedStoreError, StoreError
from consumer.intake.omprog import Lines, Replies
from consumer.process.log import get_logger
from consumer.store.state import State

log = get_logger()
T = TypeVar("T")

# Between two tries, and from a reply to a dot.
_RETRY_S, _DOT_S = 0.2, 2.0


class HungUpError(Exception):
    """rsyslogd has closed the pipe during a wait."""


class Patience:
    """
    Waits for a disk, a lock or a configuration.

    Args:
        lines: the input, which rsyslogd may close meanwhile.
        replies: the output for the dots.
    """

    def __init__(self, lines: Lines, replies: Replies) -> None:
        self._lines = lines
        self._replies = replies

    def until(self, action: Callable[[], T]) -> T:
        """
        Retry an action until it succeeds.

        Raises:
            DamagedStoreError: waiting cannot repair it.
            HungUpError: rsyslogd has gone, so there is no reason to wait.
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
                if time.monotonic() - self._replies.last_s >= _DOT_S:
                    self._replies.dot()
                time.sleep(_RETRY_S)

    @contextmanager
    def meanwhile(self) -> Iterator[None]:
        """
        Keep rsyslogd waiting while the block runs, for example while it checks a database.

        A short block sends nothing, however long ago the last reply was: without a line, rsyslogd reads none of it.
        """
        is_over = threading.Event()
        began_s = time.monotonic()

        def left_s() -> float:
            # Another thread may have confirmed a line meanwhile.
            return max(began_s, self._replies.last_s) + _DOT_S - time.monotonic()

        def ask() -> None:
            while not is_over.wait(max(0.0, left_s())):
                if left_s() <= 0:
                    self._replies.dot()

        asker = threading.Thread(target=ask, name="patience")
        asker.start()
        try:
            yield
        finally:
            is_over.set()
            asker.join()


class PatientState:
    """
    ``state.db``, and the patience to wait for it.

    Args:
        patience: for a full disk, which makes rsyslogd wait.
        opened: opens it.

    Attributes:
        state: the open file.
        has_snapshot: False after a new file has replaced a damaged one, until it has a whole snapshot.
    """

    def __init__(self, patience: Patience, opened: Callable[[], State]) -> None:
        self._patience = patience
        self.state = patience.until(opened)
        self.has_snapshot = True

    def until(self, action: Callable[[], T]) -> T:
        """
        Retry something that needs the disk until it succeeds. A new file replaces a damaged one.

        Raises:
            HungUpError: rsyslogd has gone meanwhile.
        """
        while True:
            try:
                return self._patience.until(action)
            except DamagedStoreError as error:
                self.until(partial(self.state.renew, str(error)))
                self.has_snapshot = False
