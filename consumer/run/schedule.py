"""Decides when the periodic tasks of ``run`` are due. Pure: the caller passes the monotonic clock, in seconds."""

from collections.abc import Iterator, Mapping


class Schedule:
    """
    Periodic tasks.

    Args:
        periods_s: seconds by name; tasks that are due together run in this order.
        now_s: when all of them are due first.

    Attributes:
        next_s: when the next task is due.
    """

    def __init__(self, periods_s: Mapping[str, float], now_s: float) -> None:
        self._periods_s = dict(periods_s)
        self._due_s = dict.fromkeys(periods_s, now_s)
        self.next_s = now_s

    def due(self, now_s: float) -> Iterator[str]:
        """
        Yield the tasks that are due, in order. Each is due again a period later.

        The caller may call ``at`` in between, for any task.
        """
        for name, period_s in self._periods_s.items():
            if now_s >= self._due_s[name]:
                self._due_s[name] = now_s + period_s
                yield name
        self.next_s = min(self._due_s.values())

    def at(self, due_s: float, *names: str) -> None:
        """
        Set when tasks are due next, instead of a period after the last time.

        Raises:
            KeyError: there is no such task.
        """
        for name in names:
            if name not in self._due_s:
                raise KeyError(name)
            self._due_s[name] = due_s
        self.next_s = min(self.next_s, due_s)

    def done(self, now_s: float, name: str) -> None:
        """Record that a task has run out of turn, so that it is due a period later."""
        self.at(now_s + self._periods_s[name], name)
