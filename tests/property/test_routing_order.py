"""The order in which ``deliver`` routes the outbox: logins ahead of noise, each message once, over any kills."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from consumer.actions import EventAction
from consumer.channel_settings import EmailSettings
from consumer.config import Config, Route
from consumer.deliver import dispatcher
from consumer.deliver.dispatcher import Dispatcher
from consumer.deliver.rendering import Renderer
from consumer.store.delivery import Delivery
from consumer.store.outbox import Outbox
from consumer.store.state import State

if TYPE_CHECKING:
    from collections.abc import Iterable

    from consumer.store.delivery_rows import Routed

NOW_US = 1_795_341_600_000_000
NOISE, LOGINS = ("ssh_attempt", "ssh_probe", "ssh_forged", "guessing"), ("ssh_login", "ssh_logout", "sshbell_notice")
ROUTE = Route(channels=["ops"], events=(EventAction.LOGIN, EventAction.FORGED))
CONFIG = Config(channel=[EmailSettings(name="ops", to=["ops@example.org"])], route=[ROUTE], geoip=[])


class Killed(Exception):  # noqa: N818 - no error
    """``deliver`` was killed."""


class Dying(Delivery):
    """A ``delivery.db`` whose process may die before or after it routes messages. It notes what is routed."""

    def __init__(self, folder: Path, routed: list[int], death: str) -> None:
        super().__init__(folder, pytest.fail)
        self._numbers, self.death = routed, death

    def route(self, routed: Iterable[Routed], *args: Any, **kwargs: Any) -> set[str]:
        """Do so, and die."""
        messages = list(routed)

        def until_the_end() -> Iterable[Routed]:
            yield from messages
            if self.death == "before":  # in the transaction, which is undone
                raise Killed

        found = super().route(until_the_end(), *args, **kwargs)
        self._numbers += [int(each.message.event_id) for each in messages]
        if self.death == "after":
            raise Killed
        return found


class Outcome:
    """``run`` and ``deliver`` over one state directory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = State(folder, pytest.fail)
        self.actions: dict[int, str] = {}
        self.lost: set[int] = set()
        self.routed: list[int] = []

    def store(self, actions: Iterable[str]) -> None:
        """Store messages."""
        for action in actions:
            number = len(self.actions)
            self.actions[number] = action
            body = f'{{"event": {{"action": "{action}", "id": "{number}"}}}}'.encode()
            self.state.record([], frozenset(), NOW_US, (str(number), action, body))

    def deliver(self, steps: int, death: str = "") -> None:
        """Let a new ``deliver`` route some batches, and die in the last one."""

        async def routed() -> None:
            with closing(Outbox(self.folder)) as outbox, closing(Dying(self.folder, self.routed, "")) as delivery:
                made = Dispatcher(CONFIG, delivery, outbox, Renderer(self.folder / "none", pytest.fail), clock=lambda: NOW_US)
                with suppress(Killed):
                    for step in range(1, steps + 1):
                        delivery.death = death if step == steps else ""
                        if not made._route_some():
                            break
                await made.stop(asyncio.Event())

        asyncio.run(routed())

    def forget(self) -> None:
        """Send and forget all that is routed, in both files."""
        with closing(Delivery(self.folder, pytest.fail)) as delivery, delivery._transaction():
            delivery._run("DELETE FROM delivery")
        self.state.forget_delivered()

    def lose(self) -> None:
        """Lose ``state.db``, and what is only there."""
        self.state.close()
        for path in self.folder.glob("state.db*"):
            path.unlink()
        self.lost = set(self.actions) - set(self.routed)
        self.state = State(self.folder, pytest.fail)


MESSAGES = st.lists(st.sampled_from(NOISE + LOGINS), min_size=1, max_size=8)
ACTS = st.one_of(
    st.tuples(st.just("store"), MESSAGES),
    st.tuples(st.just("deliver"), st.integers(1, 4), st.sampled_from(["", "before", "after"])),
    st.tuples(st.just("forget")),
    st.tuples(st.just("lose")),
)


@settings(max_examples=30)
@given(acts=st.lists(ACTS, max_size=8))
@example(
    acts=[("store", ["ssh_attempt"] * 9 + ["ssh_login"]), ("deliver", 3, ""), ("forget",), ("lose",), ("store", ["ssh_login"])]
)
@example(acts=[("store", ["ssh_attempt", "ssh_login"] * 6), ("deliver", 2, "after"), ("forget",), ("deliver", 3, "before")])
def test_each_message_once_and_in_order(acts: list[tuple[Any, ...]]) -> None:
    """Whatever dies and is forgotten, each message is routed once; logins stay in their order, and noise in its own."""
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(dispatcher, "_BATCH", 3)
        patch.setattr(dispatcher, "_LOOK_AHEAD", 5)
        # Its workers do not run here.
        patch.setattr(dispatcher, "STOP_S", 0.0)
        outcome = Outcome(Path(name))
        for act, *values in acts:
            getattr(outcome, act)(*values)
        outcome.deliver(2 + 2 * len(outcome.actions))
        outcome.state.close()
        assert Counter(outcome.routed) == Counter(set(outcome.actions) - outcome.lost)
        for kind in (NOISE, LOGINS):
            found = [number for number in outcome.routed if outcome.actions[number] in kind]
            assert found == sorted(found)


@pytest.mark.parametrize(("noise", "most"), [(1_900, 0), (10_000, 5 * 50)])
def test_a_login_behind_noise(tmp_path: Path, noise: int, most: int) -> None:
    """A login waits for a few batches of the noise before it, however much that is."""
    outcome = Outcome(tmp_path)
    with closing(outcome.state) as state:
        with state._connection as connection:
            connection.execute("BEGIN")
            connection.executemany(
                "INSERT INTO outbox (event_id, action, queued_us, body) VALUES (?, 'ssh_attempt', 1, '{}')",
                ((str(1_000_000 + number),) for number in range(noise)),
            )
        outcome.store(["ssh_login"])
        outcome.deliver(1 + most // 50)
    assert outcome.routed[-1] == 0
    assert len(outcome.routed) == 1 + most
