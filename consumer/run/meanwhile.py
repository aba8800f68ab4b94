"""
Takes lines while the main thread stores a snapshot, which takes a second or more in a flood.

A thread writes the lines to the journal, and confirms them: then they are safe. The pipeline reads them after the snapshot, which
began with a segment of the journal of its own. So the snapshot is still that of the moment before these lines.
"""

import os
import select
import sys
import threading
import time
from typing import NamedTuple, Self

from consumer.errors import StoreError
from consumer.intake.journal import Journal, Kind
from consumer.intake.omprog import Lines, Replies

# Bytes of lines that wait for the pipeline. More lines wait with rsyslogd.
MEANWHILE_LIMIT_BYTES = 8 << 20
# The main thread is busy, and Python takes turns. Each line needs several of them.
_TURN_S = 0.001


class TakenBlock(NamedTuple):
    """Lines in the journal, and when they came; of ``time.monotonic``."""

    block: bytes
    at_s: float


class Meanwhile:
    """
    A context in which a thread takes lines.

    Attributes:
        taken: the lines, in their order.
        unconfirmed: lines that the journal did not take, for example because the disk is full.
    """

    def __init__(self, lines: Lines, replies: Replies, journal: Journal) -> None:
        self._lines, self._replies, self._journal = lines, replies, journal
        self._thread = threading.Thread(target=self._take, name="meanwhile")
        self._over, self._is_over = os.pipe2(os.O_CLOEXEC)
        self._turn_s = sys.getswitchinterval()
        self.taken: list[TakenBlock] = []
        self.unconfirmed = b""

    def __enter__(self) -> Self:
        """Begin."""
        sys.setswitchinterval(_TURN_S)
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        """End, after the line that it is taking."""
        os.close(self._is_over)
        self._thread.join()
        os.close(self._over)
        sys.setswitchinterval(self._turn_s)

    def _take(self) -> None:
        size = 0
        while not self._lines.has_ended and size < MEANWHILE_LIMIT_BYTES:
            ready, _, _ = select.select((self._lines.fd, self._over), (), ())
            if self._over in ready:
                return
            block = self._lines.read()
            if not block:
                continue
            try:
                self._journal.append(Kind.LINES, block)
            except StoreError:
                self.unconfirmed = block
                return
            self._replies.ok()
            self.taken.append(TakenBlock(block, time.monotonic()))
            size += len(block)
            try:
                self._journal.begin_sync()
            except StoreError:
                return  # the next sync reports it
