"""
Finds lines that only the log file has, because rsyslogd lost them from its memory when it was killed.

``run`` opens the file before it gives up root. It stores the position up to which it has received all lines. At the next start,
it compares the lines after that position with those that rsyslogd sends.
"""

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from consumer.actions import OwnAction
from consumer.clock import SECOND_US, isoformat, local_zone, now_us
from consumer.ecs import FoundFields
from consumer.events import Attempt, Event, Forged, Login
from consumer.intake.files import BLOCK_SIZE
from consumer.intake.journal import Kind
from consumer.notices import Notice, OwnMessage, notice_message
from consumer.pipeline import NEVER_US, Pipeline
from consumer.process.log import get_logger
from consumer.story.event_ids import derived

log = get_logger()

# A start reads at most this much of the file, from its end.
_READ_LIMIT = 1 << 28
# Lines may reach the file before they reach sshbell. So a position in the file counts only once a line has come that rsyslogd
# received this much later. Age alone proves nothing: a rsyslogd that is stopping sends no lines for ten seconds and more, keeps
# sshbell running, and then loses lines.
_MARK_AGE_S = 10.0
# The latest positions that wait for such a line; there is one a second.
_MARKS_LIMIT = 60
# If the file alone had more events than the first number, sshbell reports them in one message, which lists up to the second.
CAUGHT_UP_LIMIT, _FOUND_LIMIT = 20, 200
# rsyslogd's backlog has drained once it has sent no line for this long that it had received before ``run`` began. That is longer
# than its pause after the death of a program: two seconds, and six were measured on a busy machine. Lines from its disk come in
# between new ones, so new lines alone prove nothing.
_DRAINED_S = 15.0
# Until then, stories wait for lost lines; at most this long, because a backlog may never end.
_HOLD_S = 600.0
# ``run`` looks once a second. If it looks later than this, it has waited for a disk and read no lines, so that time counts for
# neither.
_LOOK_S = 2.0
# A position in the log file is recorded if nothing has come for this long, or if no line of that time is more than twice as old:
# of two queues in rsyslogd, one can have drained before the other.
_IDLE_S = 1.0
_RECEIVED = b'"rcvd":"'

# Device and inode, and a number of bytes.
Position = tuple[int, int, int]
# A position of no file: all lines of the files come after it.
EVERYTHING: Position = (0, 0, 0)


class CatchUp:
    """
    Looks in the log file once, after the backlog, and then records the position from which the next start looks.

    Args:
        log_file: with the position that the last ``run`` stored.
        pipeline: knows the lines that have come in.
        append: writes a record to the journal.
        begun_us: when ``run`` began, by the wall clock.

    Attributes:
        is_over: it looks in the file no more.
        figures: for "sshbell status".
    """

    def __init__(self, log_file: "RotatedLog", pipeline: Pipeline, append: Callable[[Kind, bytes], None], begun_us: int) -> None:
        self.is_over = not log_file.path
        self.figures = {"caught_up_total": 0}
        self._log_file = log_file
        self._pipeline = pipeline
        self._append = append
        self._backlog = Backlog(begun_us, time.monotonic())
        self._is_holding = False
        self._newest = b""  # the lines that came last

    def begin(self) -> bool:
        """
        Let stories wait for lost lines. Without a position, begin at the end of the file instead, and look for no line.

        Returns:
            Whether the position is new. Store it at once then: after a death, the end of the file would be later.
        """
        is_new = not self.is_over and self._log_file.position is None
        self._hold(is_holding=not self.is_over and not is_new)
        if is_new:
            self._log_file.begin_here()
            self._end()
        return is_new

    def note(self, block: bytes, now_s: float) -> None:
        """Record lines that have come in, before the pipeline reads them."""
        self._newest = block
        if not self.is_over:
            self._backlog.note(block, self._pipeline.last_us, now_s)

    def tick(self, now_s: float) -> bool:
        """Let time pass; return whether the backlog has drained, so that it is time for ``found``. Call it once a second."""
        self._backlog.tick(now_s)
        if not self.is_over and self._backlog.has_drained(now_s):
            return True
        if self._is_holding and self._backlog.is_endless(now_s):
            self._hold(is_holding=False)
        return False

    def found(self) -> list[Event]:
        """Read the lines of the log file that rsyslogd never sent; return their events. Stories wait no longer."""
        self._end()
        events: list[Event] = []
        lines = 0
        for line in self._pipeline.missing(self._log_file.blocks(), local_zone()):
            self._append(Kind.CAUGHT_UP, line)
            events += self._pipeline.feed(line)
            lines += 1
        self._hold(is_holding=False)
        if lines:
            self.figures["caught_up_total"] += lines
            log.warning("caught_up", lines=lines, events=len(events))
        return events

    def notice_of(self, events: Sequence[Event]) -> OwnMessage | None:
        """Return one message about events that ``found`` returned, or None if they are few enough for a message each."""
        return _notice_of(events, self._log_file.path) if len(events) > CAUGHT_UP_LIMIT else None

    def mark(self, now_s: float, at_us: int, last_line_s: float, *, is_ready: bool) -> None:
        """
        Record the place in the log file up to which all lines have come in.

        Args:
            now_s: by the monotonic clock.
            at_us: the same by the wall clock.
            last_line_s: when the last line came, by the monotonic clock.
            is_ready: rsyslogd has sent more lines, which ``run`` has not read.
        """
        if not self.is_over or not self._log_file.path:
            return
        is_fresh = at_us - self._pipeline.earliest_us < 2 * _IDLE_S * SECOND_US
        self._pipeline.earliest_us = NEVER_US
        is_drained = now_s - last_line_s >= _IDLE_S or is_fresh
        self._log_file.confirm(now_s, self._has_come)
        if is_drained and not is_ready:
            self._log_file.mark(now_s, at_us)

    def _has_come(self, at_us: int) -> bool:
        """Return whether rsyslogd received the line that came last at this time or later."""
        return not _is_received_before(at_us, self._newest, self._pipeline.last_us)

    def _end(self) -> None:
        self.is_over = True
        self.figures["compared_us"] = now_us()

    def _hold(self, *, is_holding: bool) -> None:
        """Let stories wait for lines that the log file may have, or stop that. Without it, one story could become two."""
        self._is_holding = is_holding
        self._append(Kind.HOLDING, b"1" if is_holding else b"0")
        self._pipeline.hold(is_holding=is_holding)


class RotatedLog:
    """
    The log file, and its predecessor.

    Args:
        path: the file's name; "" for none.

    Attributes:
        path: as given.
        position: the place up to which all lines have come in; None if it is unknown.
    """

    def __init__(self, path: str) -> None:
        self.position: Position | None = None
        self.path = path
        # Possible positions: when each was the end of the file, by the monotonic and by the wall clock.
        self._marks: deque[tuple[float, int, Position]] = deque(maxlen=_MARKS_LIMIT)
        self._files: list[int] = []
        # The sizes at the start: this rsyslogd sends all later lines itself.
        self._sizes: dict[int, int] = {}
        for name in (f"{path}.1", path) if path else ():
            try:
                fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                continue  # `sshbell check` reports it
            self._files.append(fd)
            self._sizes[fd] = os.fstat(fd).st_size

    def begin_here(self) -> None:
        """Compare none of the existing lines in the file."""
        self.position = self._here()
        self.close()

    def mark(self, now_s: float, at_us: int) -> None:
        """Remember the end of the file, because all of its lines seem to have come in."""
        if (here := self._here()) is not None:
            self._marks.append((now_s, at_us, here))

    def confirm(self, now_s: float, has_come: Callable[[int], bool]) -> None:
        """
        Move ``position`` to the latest mark that a later line has confirmed.

        Args:
            now_s: by the monotonic clock.
            has_come: returns whether a line has come that rsyslogd received at a time, by the wall clock, or later.
        """
        age_us = round(_MARK_AGE_S * SECOND_US)
        while self._marks and self._marks[0][0] <= now_s - _MARK_AGE_S and has_come(self._marks[0][1] + age_us):
            self.position = self._marks.popleft()[2]

    def _here(self) -> Position | None:
        """Return the current end of the file."""
        try:
            found = Path(self.path).stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino, found.st_size

    def blocks(self) -> Iterator[bytes]:
        """
        Yield blocks of whole lines after ``position``, up to the file's end when it was opened; then close the files.

        The file may have been rotated since. Without a position, it yields nothing.
        """
        since = self.position
        if since is None:
            return
        is_behind = since == EVERYTHING
        for fd in self._files:
            found = os.fstat(fd)
            is_it = (found.st_dev, found.st_ino) == since[:2]
            if is_it or is_behind or fd == self._files[-1]:
                size = min(found.st_size, self._sizes[fd])
                start = since[2] if is_it and since[2] <= found.st_size else 0
                yield from _blocks(fd, max(start, size - _READ_LIMIT), size)
            is_behind = is_behind or is_it
        self.close()

    def close(self) -> None:
        """Close the files."""
        for fd in self._files:
            os.close(fd)
        self._files = []


class Backlog:
    """
    Lines that rsyslogd already had when ``run`` began. ``run`` reads the log file once all of them have come in.

    Pure: the caller passes the monotonic clock, in seconds.

    Args:
        begun_us: when ``run`` began, by the wall clock.
        now_s: when it began to take lines.
    """

    def __init__(self, begun_us: int, now_s: float) -> None:
        self._begun_us = begun_us
        self._since_s = self._last_old_s = self._looked_s = now_s

    def tick(self, now_s: float) -> None:
        """Let time pass. Call it once a second; the time of a long pause between two calls does not count."""
        pause_s = now_s - self._looked_s
        self._looked_s = now_s
        if pause_s > _LOOK_S:
            self._since_s += pause_s
            self._last_old_s = min(now_s, self._last_old_s + pause_s)

    def note(self, block: bytes, last_us: int, now_s: float) -> None:
        """Record lines that have come in; ``last_us`` is the time of the line before them."""
        if _is_received_before(self._begun_us, block, last_us):
            self._last_old_s = now_s

    def has_drained(self, now_s: float) -> bool:
        """Return whether all of them have come in."""
        return now_s - self._last_old_s >= _DRAINED_S

    def is_endless(self, now_s: float) -> bool:
        """Return whether stories must not wait any longer for lost lines."""
        return now_s - self._since_s >= _HOLD_S


def _is_received_before(at_us: int, block: bytes, last_us: int) -> bool:
    """Return whether rsyslogd received the last of these lines before a time; without a time of receipt, ``last_us`` counts."""
    at = block.rfind(_RECEIVED)
    if at < 0:
        return last_us < at_us
    at += len(_RECEIVED)
    stamp = isoformat(at_us)[:26].encode()  # to the microsecond, as our template writes it
    return block[at : at + len(stamp)] < stamp


def _notice_of(events: Sequence[Event], path: str) -> OwnMessage:
    """Return one message about many events found at once."""
    # Logins first, so that a flood of forged lines cannot hide one.
    first = sorted(events, key=lambda event: not isinstance(event, Login))[:_FOUND_LIMIT]
    return notice_message(
        Notice.LINES_LOST,
        derived(events[0].id, OwnAction.NOTICE),
        {"file": path, "events": str(len(events))},
        [
            FoundFields(
                timestamp=isoformat(event.time_us),
                action=str(event.action),
                user=event.user,
                ip=event.address,
                count=event.count if isinstance(event, Attempt | Forged) and event.count > 1 else None,
            )
            for event in first
        ],
    )


def _blocks(fd: int, start: int, end: int) -> Iterator[bytes]:
    tail = b""
    while start < end:
        chunk = os.pread(fd, min(BLOCK_SIZE, end - start), start)
        if not chunk:
            break
        start += len(chunk)
        data = tail + chunk
        cut = data.rfind(b"\n") + 1
        if cut:
            yield data[:cut]
        tail = data[cut:]
        if len(tail) > BLOCK_SIZE:
            tail = b""
