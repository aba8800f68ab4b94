"""``decide`` over any standing, messages and clock: nobody is bombed, and nothing waits for ever."""

from __future__ import annotations

from math import ceil

from hypothesis import given
from hypothesis import strategies as st

from consumer.deliver.decide import Fold, Send, Wait, Waiting, decide, tokens_of
from consumer.store.delivery_rows import Budget, Pending, Standing

SECOND = 1_000_000
HOUR = 3600 * SECOND
# From 1970 to 2255.
MOMENT = st.integers(0, 9_000_000_000 * SECOND)
# Times that the wall clock may have been set by.
STEP = st.one_of(
    st.integers(-5 * SECOND, 5 * SECOND), st.integers(-3 * HOUR, 3 * HOUR), st.integers(-(10**6) * HOUR, 10**6 * HOUR)
)
CAP = st.one_of(st.integers(1, 5), st.integers(1, 100_000))
TOKENS = st.one_of(st.none(), st.floats(0, 1), st.floats(0, 100_000))
MESSAGE = st.builds(
    Pending, st.just("id"), st.one_of(st.just(0), st.integers(1, 10**9)), st.integers(0, 3), MOMENT,
    st.sampled_from([None, "", "held-1"]), st.just(b"{}"),
)  # fmt: skip
# What is not a test is counted.
COUNTED = MESSAGE.filter(lambda message: message.seq > 0)
PENDING = Pending("id1", 1, 0, 0, None, b"{}")
ROUNDING = 1e-6


@st.composite
def standings(draw: st.DrawFn, now_us: int) -> Standing:
    """Return how a channel may be, as written down by a clock that was set meanwhile, or not."""
    return Standing(draw(st.integers(0, 50)), max(0, now_us + draw(STEP)))


@st.composite
def budgets(draw: st.DrawFn, now_us: int) -> Budget:
    """Return a budget that such a clock wrote down."""
    return Budget("", draw(TOKENS), max(0, now_us + draw(STEP)))


@given(st.data(), MOMENT, CAP, st.one_of(st.none(), MESSAGE), st.one_of(st.none(), MOMENT), st.booleans(), st.booleans())
def test_each_wait_ends(
    data: st.DataObject, now_us: int, cap: int, first: Pending | None, next_us: int | None, is_crowded: bool, is_held: bool  # noqa: FBT001 - drawn
) -> None:  # fmt: skip
    """A channel waits for a call alone only where nothing waits for it; else for a minute and one token, at most."""
    held = tuple(data.draw(st.lists(budgets(now_us), max_size=3)))
    waiting = Waiting(first, data.draw(budgets(now_us)), held, None if first is not None else next_us, is_crowded=is_crowded)
    decision = decide(now_us, data.draw(standings(now_us)), waiting, max_per_hour=cap, is_holding_back=is_held)
    if first is None and next_us is None and not held:
        assert isinstance(decision, Wait)
        assert decision.seconds is None
    elif isinstance(decision, Wait):
        assert decision.seconds is not None
        assert 0.001 <= decision.seconds <= 60 + 3600 / cap
    else:
        assert first is not None
        assert (decision.first if isinstance(decision, Fold) else decision.message) is first
        assert 0 <= decision.tokens <= cap


def waited_us(now_us: int, standing: Standing, budget: Budget, first: Pending, cap: int) -> int:
    """Return how long a message waits until it goes, where the clock is right from now on; three hours, where it is longer."""
    begun_us, looks = now_us, 0
    while now_us - begun_us < 3 * HOUR:
        looks += 1
        assert looks < 300, "it is busy with waiting"
        match decide(now_us, standing, Waiting(first, budget), max_per_hour=cap, is_holding_back=False):
            case Wait(seconds, _):
                assert seconds is not None
                now_us += ceil(seconds * SECOND)
            case _:
                break
    return now_us - begun_us


@given(st.data(), MOMENT, CAP, MESSAGE)
def test_something_goes_in_the_end(data: st.DataObject, now_us: int, cap: int, first: Pending) -> None:
    """Whatever clock has written a channel's standing: a message that waits goes within three hours."""
    assert waited_us(now_us, data.draw(standings(now_us)), data.draw(budgets(now_us)), first, cap) < 3 * HOUR


@given(MOMENT, CAP, st.floats(0, 1, exclude_max=True), st.integers(0, 10**6 * HOUR), st.integers(0, 10**6 * HOUR))
def test_a_clock_that_was_ahead_silences_no_channel(now_us: int, cap: int, tokens: float, one_us: int, other_us: int) -> None:
    """A channel that sent its last message, and failed, while the clock was up to a century ahead sends within three hours."""
    assert waited_us(now_us, Standing(9, now_us + one_us), Budget("", tokens, now_us + other_us), PENDING, cap) < 3 * HOUR


@given(st.data(), MOMENT, CAP, st.booleans(), st.booleans())
def test_tests_go_first(data: st.DataObject, now_us: int, cap: int, is_crowded: bool, is_held: bool) -> None:  # noqa: FBT001 - drawn
    """The first try of a test waits for nothing, and costs others nothing."""
    test, budget = Pending("test-1", 0, 0, now_us, None, b"{}"), data.draw(budgets(now_us))
    waiting = Waiting(test, budget, is_crowded=is_crowded)
    decision = decide(now_us, data.draw(standings(now_us)), waiting, max_per_hour=cap, is_holding_back=is_held)
    assert decision == Send(test, tokens_of(budget, cap, now_us))


@given(st.data(), MOMENT, CAP, MESSAGE, st.booleans(), st.booleans())
def test_only_what_was_held_back_is_folded(
    data: st.DataObject, now_us: int, cap: int, first: Pending, is_crowded: bool, is_held: bool  # noqa: FBT001 - drawn
) -> None:  # fmt: skip
    """Neither a test nor what is in a digest, or was refused in one, nor a message that waits alone becomes another's."""
    waiting = Waiting(first, data.draw(budgets(now_us)), is_crowded=is_crowded)
    decision = decide(now_us, data.draw(standings(now_us)), waiting, max_per_hour=cap, is_holding_back=is_held)
    if isinstance(decision, Fold):
        assert (is_held, is_crowded, first.seq > 0, first.digest) == (True, True, True, None)


def sent_at(now_us: int, moves: list[int], cap: int) -> list[int]:
    """Return when a channel sends, if there is always a message, and the clock moves so after each look at it."""
    budget = Budget()
    sent: list[int] = []
    for move in moves:
        decision = decide(now_us, Standing(), Waiting(PENDING, budget), max_per_hour=cap, is_holding_back=False)
        if isinstance(decision, Send):
            sent.append(now_us)
            budget = Budget("", decision.tokens, now_us)
        now_us = max(0, now_us + move)
    return sent


@given(
    MOMENT, st.integers(1, 5), st.lists(st.one_of(st.just(0), st.integers(0, HOUR // 4), st.integers(0, 3 * HOUR)), max_size=60)
)
def test_the_cap_holds(now_us: int, cap: int, moves: list[int]) -> None:
    """In any span of t hours no more than ``max_per_hour * (1 + t)`` messages go."""
    sent = sent_at(now_us, moves, cap)
    for place, begin_us in enumerate(sent):
        for count, end_us in enumerate(sent[place:], 1):
            assert count <= cap * (1 + (end_us - begin_us) / HOUR) + ROUNDING


@given(
    MOMENT, st.integers(1, 5),
    st.lists(st.one_of(st.just(0), st.integers(-HOUR, 0), st.integers(-3 * HOUR, HOUR // 10), STEP), max_size=60),
)  # fmt: skip
def test_a_clock_that_is_set_lets_no_flood_through(now_us: int, cap: int, moves: list[int]) -> None:
    """An hour forward brings an hour's tokens; so does more than an hour back, and less brings none."""
    forward = sum(move / HOUR for move in moves if move > 0)
    back = sum(-move for move in moves if move < 0) // HOUR
    # First all is sent that may be.
    assert len(sent_at(now_us, [0] * cap + moves, cap)) <= cap * (1 + forward + back) + ROUNDING


@given(st.integers(0, 200), st.integers(1, 20))
def test_a_burst_makes_few_messages(count: int, cap: int) -> None:
    """Of any number at once ``max_per_hour`` go as they are and all others as one message, as soon as there is one token."""
    now_us = begun_us = 1_790_000_000 * SECOND
    budget, is_holding_back = Budget(), False
    told: list[int] = []
    while sum(told) < count:
        left = count - sum(told)
        waiting = Waiting(PENDING, budget, is_crowded=left > 1)
        match decide(now_us, Standing(), waiting, max_per_hour=cap, is_holding_back=is_holding_back):
            case Wait(seconds, _):
                assert seconds is not None
                now_us += ceil(seconds * SECOND)
                is_holding_back = True
            case Send(_, tokens) | Fold(_, tokens) as decision:
                told.append(left if isinstance(decision, Fold) else 1)
                budget = Budget("", tokens, now_us)
                is_holding_back = False
    assert told == [1] * min(count, cap) + ([count - cap] if count > cap else [])
    assert now_us - begun_us <= HOUR / cap + SECOND
