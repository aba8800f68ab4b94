"""Lines for tests of the stages after the matcher: plain tuples, as the correlator gets them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from consumer.records import Line

if TYPE_CHECKING:
    from consumer.records import Trusted


def line_of(
    time_us: int | None = 1, *, text: str = "", trusted: Trusted | None = None, ambiguous: bool = False, program: str = "sshd",
    host: str = "web1", user: str | None = None,
) -> Line:  # fmt: skip
    """Return a line that decided an event."""
    return Line((0, time_us, 1, 1, text, trusted, ambiguous, program, host, "1", user, None, None, None, None, None, None))
