"""
The way of a line, as one composition: block ─▶ rows ─▶ lines ─▶ events.

    framing      bytes of whole lines      to rows
    matching     rows                      to lines: what the correlator needs of those that say something
    correlate    lines                     to events

``LineReader`` is the part without memory of other lines; it can run in several processes. ``Correlator`` is one.
"""

from consumer.framing.framer import Framer
from consumer.framing.timestamps import Timestamps
from consumer.matching.matcher import Matcher
from consumer.records import Line, text_of_bytes


class LineReader:
    """Frames and matches the blocks of one source."""

    def __init__(self, matcher: Matcher, timestamps: Timestamps, *, keep_text: bool) -> None:
        self.framer = Framer(matcher.is_program)
        self._matcher = matcher
        self._timestamps = timestamps
        self._keep_text = keep_text
        # Lines by rule; then those of ours that no rule reads, and those that no framing fits.
        self.counts = [0] * (len(matcher.rules) + 2)

    def lines(self, block: bytes, first: int) -> list[Line]:
        """
        Read a block.

        Args:
            block: whole lines, each with its line feed.
            first: the place of its first line.
        """
        rows = self.framer.rows(text_of_bytes(block))
        return self._matcher.lines(rows, self._timestamps, first, self.counts, keep_text=self._keep_text)
