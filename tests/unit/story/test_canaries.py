"""What counts as a canary: the expected try from this host alone, once."""

from __future__ import annotations

import pytest

from consumer.events import Attempt, Canary, Login, Probe
from consumer.story.canaries import CANARY_LIMIT, CANARY_PREFIX, Canaries
from tests.lines import line_of

TOKEN = "0123456789abcdef" * 2
NOW_US = 1_800_000_000_000_000
LINE = line_of(NOW_US)


def attempt(token: str = TOKEN, address: str | None = "127.0.0.1", *, prefix: str = CANARY_PREFIX, count: int = 1) -> Attempt:
    """Return a try at a name."""
    return Attempt("id", LINE, prefix + token, address, "4000", count=count)


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"])
def test_the_expected_try(address: str) -> None:
    """It keeps its id, user and address, and counts once."""
    canaries = Canaries()
    canaries.announce(TOKEN, NOW_US)
    event = attempt(address=address)
    assert canaries.marked(event, NOW_US) == Canary("id", LINE, CANARY_PREFIX + TOKEN, address, "4000")
    assert canaries.marked(event, NOW_US) is event


@pytest.mark.parametrize(
    "event",
    [
        attempt(address="192.0.2.1"), attempt(address="::ffff:192.0.2.1"), attempt(address=None), attempt(address="UNKNOWN"),
        attempt(address="localhost"), attempt("f" * 32), attempt(TOKEN.upper()), attempt(TOKEN + "0"), attempt(prefix="canary-"),
        attempt(prefix="x" + CANARY_PREFIX), attempt(count=2), attempt(""),
        Login("id", LINE, CANARY_PREFIX + TOKEN, "127.0.0.1", "1"), Attempt("id", LINE, None, "127.0.0.1", "1"),
    ],
)  # fmt: skip
def test_other_events(event: Attempt | Login) -> None:
    """A stranger's try, a made-up token, folded tries and a login stay what they are, and use no token up."""
    canaries = Canaries()
    canaries.announce(TOKEN, NOW_US)
    assert canaries.marked(event, NOW_US) is event
    probe = Probe("id", LINE, CANARY_PREFIX + TOKEN, "127.0.0.1", "1")
    assert isinstance(canaries.marked(probe, NOW_US), Canary)


def test_without_an_announcement() -> None:
    """A name alone means nothing; text that is no token cannot be announced; a token that waited too long is void."""
    canaries = Canaries()
    assert canaries.marked(attempt(), NOW_US) == attempt()
    for text in ("", "x" * 32, TOKEN + "\n", TOKEN[:-1], "../../etc"):
        canaries.announce(text, NOW_US)
    assert canaries.state() == {}
    canaries.announce(TOKEN, NOW_US)
    assert canaries.marked(attempt(), NOW_US + 601_000_000) == attempt()
    assert canaries.state() == {}


def test_limit_and_restart() -> None:
    """The oldest token goes; the others outlive a restart."""
    canaries = Canaries()
    tokens = [f"{number:032x}" for number in range(CANARY_LIMIT + 1)]
    for token in tokens:
        canaries.announce(token, NOW_US)
    again = Canaries()
    again.restore(dict(canaries.state()))
    assert [isinstance(again.marked(attempt(token), NOW_US), Canary) for token in tokens] == [False] + [True] * CANARY_LIMIT
