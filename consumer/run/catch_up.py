"""
Finds lines that only the log file has, because rsyslogd lost them from its memory when it was killed.

``run`` opens the file before it gives up root. It stores the position up to which it has received all lines. At the next start,
it compares the lines after that position with those that rsyslogd sends.
"""

import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

from consumer.actions import OwnAction
from consumer.clock import isoformat
from consumer.ecs import EcsEvent, EventFields, HostFields, NoticeFields, json_line
from consumer.events import Attempt, Event, Forged, Login
from consumer.intake.files import BLOCK_SIZE
from consumer.story.event_ids import derived

# A start reads at most this much of the file, from its end.
_READ_LIMIT = 1 << 28
# A position in the file counts once it is this old, because lines may reach the file before they reach sshbell.
_MARK_AGE_S = 10.0
# If the file alone had more events than the first number, sshbell reports them in one message, which lists up to the second.
CAUGHT_UP_LIMIT, _FOUND_LIMIT = 20, 200
# rsyslogd's backlog has drained once it has sent no line for this long that it had received before ``run`` began. That is longer
# than its pause after the death of a program. Lines from its disk come in between new ones, so new lines alone prove nothing.
_DRAINED_S = 5.0
# Until then, stories wait for lost lines; at most this long, because a backlog may never end.
_ENDLESS_S = 600.0
_RECEIVED = b'"rcvd":"'

# Device and inode, and a number of bytes.
Position = tuple[int, int, int]
# A position of no file: all lines of the files come after it.
EVERYTHING: Position = (0, 0, 0)


class CatchUp:
    """
    The log file, and its predecessor.

    Args:
        path: the file's name; "" for none.

    Attributes:
        position: the place up to which all lines have come in; None if it is unknown.
    """

    def __init__(self, path: str) -> None:
        self.position: Position | None = None
        self._path = path
        self._marks: list[tuple[float, Position]] = []
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

    def mark(self, now_s: float, *, is_drained: bool) -> None:
        """Remember the end of the file if all of its lines have come in; ``is_drained``: no line is on its way."""
        while self._marks and self._marks[0][0] <= now_s - _MARK_AGE_S:
            self.position = self._marks.pop(0)[1]
        if is_drained and (here := self._here()) is not None:
            self._marks.append((now_s, here))

    def _here(self) -> Position | None:
        """Return the current end of the file."""
        try:
            found = Path(self._path).stat()
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
        self._begun = isoformat(begun_us)[:26].encode()  # to the microsecond, as our template writes it
        self._since_s = self._last_old_s = now_s

    def note(self, block: bytes, last_us: int, now_s: float) -> None:
        """Record lines that have come in; ``last_us`` is the time of the line before them."""
        if self._is_old(block, last_us):
            self._last_old_s = now_s

    def _is_old(self, block: bytes, last_us: int) -> bool:
        """Return whether rsyslogd had the last of these lines before ``run`` began; without receipt time, ``last_us`` counts."""
        at = block.rfind(_RECEIVED)
        if at < 0:
            return last_us < self._begun_us
        at += len(_RECEIVED)
        return block[at : at + len(self._begun)] < self._begun

    def has_drained(self, now_s: float) -> bool:
        """Return whether all of them have come in."""
        return now_s - self._last_old_s >= _DRAINED_S

    def is_endless(self, now_s: float) -> bool:
        """Return whether stories must not wait any longer for lost lines."""
        return now_s - self._since_s >= _ENDLESS_S


def notice_of(events: Sequence[Event], path: str, now_us: int) -> tuple[str, str, bytes]:
    """Return one message about many events found at once: id, action, and the event as JSON."""
    # Logins first, so that a flood of forged lines cannot hide one.
    first = sorted(events, key=lambda event: not isinstance(event, Login))[:_FOUND_LIMIT]
    action = str(OwnAction.NOTICE)
    event_id = derived(events[0].id, action)
    body = EcsEvent(
        timestamp=isoformat(now_us),
        event=EventFields(kind="event", action=action, id=event_id),
        message=f"only {path} had {len(events)} events; rsyslogd had lost their lines.",
        sshbell=NoticeFields(
            found=tuple(
                f"{isoformat(event.time_us)} {event.action.noun} of {event.user or 'an unknown user'}"
                f" from {event.address or 'an unknown address'}{_times(event)}"
                for event in first
            )
        ),
        host=HostFields(name=socket.gethostname()),
    )
    return event_id, action, json_line(body)


def _times(event: Event) -> str:
    """Return how many lines an event stands for, where they are several."""
    return f" ({event.count} times)" if isinstance(event, Attempt | Forged) and event.count > 1 else ""


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
