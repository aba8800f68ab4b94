"""``consumer.run.schedule``: which task is due when."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.run.schedule import Schedule

PERIODS_S = {"tick": 1.0, "sync": 1.0, "status": 5.0}


def done(schedule: Schedule, now_s: float) -> list[str]:
    """Do what is due."""
    return list(schedule.due(now_s))


def test_all_are_due_at_first_and_then_by_their_periods() -> None:
    """Each comes in its turn, and all that are due together come in their order."""
    schedule = Schedule(PERIODS_S, 100.0)
    assert schedule.next_s == 100.0
    assert done(schedule, 99.9) == []
    assert done(schedule, 100.0) == ["tick", "sync", "status"]
    assert schedule.next_s == 101.0
    assert done(schedule, 100.9) == []
    assert done(schedule, 101.0) == ["tick", "sync"]
    assert done(schedule, 105.0) == ["tick", "sync", "status"]


def test_a_late_look_makes_up_for_nothing() -> None:
    """After a pause of the machine each is done once, and a period later again."""
    schedule = Schedule(PERIODS_S, 0.0)
    assert done(schedule, 3600.0) == ["tick", "sync", "status"]
    assert done(schedule, 3600.9) == []
    assert schedule.next_s == 3601.0


def test_another_time() -> None:
    """A task can be due sooner or later than its turn, and ``next_s`` follows."""
    schedule = Schedule(PERIODS_S, 0.0)
    done(schedule, 0.0)
    schedule.at(0.25, "sync", "status")
    assert schedule.next_s == 0.25
    assert done(schedule, 0.25) == ["sync", "status"]
    assert schedule.next_s == 1.0
    schedule.at(2.0, "tick")
    assert done(schedule, 1.25) == ["sync"]
    assert done(schedule, 2.0) == ["tick"]


def test_done_out_of_turn() -> None:
    """What was done out of turn is due a period later."""
    schedule = Schedule(PERIODS_S, 0.0)
    schedule.done(0.0, "status")
    assert done(schedule, 4.0) == ["tick", "sync"]
    schedule.done(4.5, "status")
    assert done(schedule, 9.0) == ["tick", "sync"]
    assert done(schedule, 9.5) == ["status"]


def test_a_task_makes_another_due() -> None:
    """One behind it has its turn at once, one before it, and it itself, with the next look, which is due then."""
    schedule = Schedule(PERIODS_S, 0.0)
    done(schedule, 0.0)
    schedule.at(0.5, "sync")
    seen = []
    for name in schedule.due(0.5):
        seen.append(name)
        if name == "sync":
            schedule.at(0.25, "tick", "sync", "status")
    assert seen == ["sync", "status"]
    assert schedule.next_s == 0.25
    assert done(schedule, 0.5) == ["tick", "sync"]


def test_an_unknown_task() -> None:
    """A slip is an error, and not a task that is due for ever and never done."""
    schedule = Schedule(PERIODS_S, 0.0)
    with pytest.raises(KeyError, match="tack"):
        schedule.at(1.0, "tack")
    with pytest.raises(KeyError, match="tack"):
        schedule.done(1.0, "tack")


@given(
    st.dictionaries(st.sampled_from("abcdef"), st.floats(0.001, 1000), min_size=1),
    st.lists(st.one_of(st.floats(0, 2000), st.tuples(st.sampled_from("abcdef"), st.floats(0, 2000))), max_size=50),
)
def test_next_s_comes_before_every_task(periods_s: dict[str, float], steps: list[float | tuple[str, float]]) -> None:
    """Before ``next_s`` nothing is due; each task is due at the last time set for it, and else a period after it was done."""
    schedule, due_s, now_s = Schedule(periods_s, 0.0), dict.fromkeys(periods_s, 0.0), 0.0
    for step in steps:
        if isinstance(step, tuple):
            name, after_s = step
            if name in periods_s:
                schedule.at(now_s + after_s, name)
                due_s[name] = now_s + after_s
        else:
            now_s += step
            assert schedule.next_s <= min(due_s.values())
            assert done(schedule, math.nextafter(schedule.next_s, -math.inf)) == []
            assert done(schedule, now_s) == [name for name in periods_s if due_s[name] <= now_s]
            due_s |= {name: now_s + periods_s[name] for name in periods_s if due_s[name] <= now_s}
