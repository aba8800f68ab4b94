"""``sshbell replay --with``: compares the findings of two configurations, in one pass over the events."""

from collections import Counter
from collections.abc import Callable

from consumer.config import Config
from consumer.detect.detectors import Detectors
from consumer.detect.findings import PlaceOf
from consumer.events import Event, Finding

# A finding that only the new configuration has, only the current one, or both; each with its sign.
CHANGES = {"+": "gained", "-": "lost", "=": "the same"}


class FindingComparison:
    """
    Shows each event to the detectors of two configurations.

    Args:
        current, new: the configurations.
        tell: gets each finding that only one of them has, with ``+`` or ``-``, in the order of the events.
        takes: returns whether a finding is selected; None selects all.
        place_of: finds the places of addresses.
    """

    def __init__(
        self, current: Config, new: Config, tell: Callable[[Finding, str], None], takes: Callable[[Event], bool] | None,
        place_of: PlaceOf,
    ) -> None:  # fmt: skip
        self._tell = tell
        self._takes = takes
        self._found: list[Event] = []
        self._detectors = [
            Detectors(config.detect, self._found.append, config.block, place_of) for config in (current, new)
        ]  # fmt: skip
        self._counts: Counter[tuple[str, str]] = Counter()

    def take(self, event: Event) -> None:
        """Look at an event of the correlator."""
        before, after = (self._findings(detectors, event) for detectors in self._detectors)
        if not before and not after:
            return
        for key, finding in before.items():
            self._count("=" if key in after else "-", finding)
        for key, finding in after.items():
            if key not in before:
                self._count("+", finding)

    def _findings(self, detectors: Detectors, event: Event) -> dict[tuple[str, str], Finding]:
        """Return the findings about an event. Two are the same if they are of one detector, for the same reason."""
        self._found.clear()
        detectors.take(event)
        return {
            (str(found.action), found.labels.get("by", "")): found for found in self._found if isinstance(found, Finding)
        }  # fmt: skip

    def _count(self, sign: str, finding: Finding) -> None:
        if self._takes is not None and not self._takes(finding):
            return
        self._counts[str(finding.action), sign] += 1
        if sign != "=":
            self._tell(finding, sign)

    def summary(self) -> list[str]:
        """Return a line for each detector: what it has found in both cases, gained and lost."""
        actions = dict.fromkeys(action for action, _sign in self._counts)
        return (
            ["there are none in either"]
            if not actions
            else [
                f"{action}: " + ", ".join(f"{self._counts[action, sign]:,} {word}" for sign, word in CHANGES.items())
                for action in actions
            ]
        )
