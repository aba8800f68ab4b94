"""When ``run`` does what it does now and then. Pure: whoever asks brings the time of the monotonic clock, in seconds."""

from collections.abc import Iterator, Mapping


class Schedule:
    """
    Periodic tasks.

    Args:
        periods_s: seconds by name, in the order in which tasks that are due at the same time are done.
        now_s: when all of them are due for the first time.

    Attributes:
        next_s: no task is due before.
    """

    def __init__(self, periods_s: Mapping[str, float], now_s: float) -> None:
        self._periods_s = dict(periods_s)
        self._due_s = dict.fromkeys(periods_s, now_s)
        self.next_s = now_s

    def due(self, now_s: float) -> Iterator[str]:
        """
        Yield the tasks that are due, in order; each is due again a period later.

        While one is done it may set a time for itself, or for those behind it, which then take their turn.
        """
        for name, period_s in self._periods_s.items():
            if now_s >= self._due_s[name]:
                self._due_s[name] = now_s + period_s
                yield name
        self.next_s = min(self._due_s.values())

    def at(self, due_s: float, *names: str) -> None:
        """
        Let tasks be due at another time than their turn.

        Raises:
            KeyError: there is no such task.
        """
        for name in names:
            if name not in self._due_s:
                raise KeyError(name)
            self._due_s[name] = due_s
        self.next_s = min(self.next_s, due_s)

    def done(self, now_s: float, name: str) -> None:
        """Note that a task was done out of turn: it is due a period later."""
        self.at(now_s + self._periods_s[name], name)
