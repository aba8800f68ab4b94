"""``consumer.intake.redelivery``: lines that rsyslog sends again."""

from consumer.intake import redelivery as module
from consumer.intake.redelivery import Redelivery


def line(number: int) -> bytes:
    """Return a line of our template."""
    return b'{"v":"1","rcvd":"2026-11-22T10:00:00.%06dZ","msg":"x"}\n' % number


def test_only_ours_can_tell() -> None:
    """A line of our template is known again; equal lines of other senders are genuine repeats."""
    seen = Redelivery()
    for text, again in (
        (line(1), True),
        (b"plain\n", False),
        (b'{"msg":"x"}\n', False),
        (b' {"rcvd":"x"}\n', False),
        (b"", False),
    ):
        assert [seen.has_seen(text), seen.has_seen(text)] == [False, again], text
    assert seen.total == 1


def test_the_next_process_knows_them() -> None:
    """What is remembered outlives the process, and so does how many came again."""
    seen, later = Redelivery(), Redelivery()
    assert [seen.has_seen(line(number)) for number in (1, 2, 1)] == [False, False, True]
    later.restore(*seen.state())
    assert [later.has_seen(line(number)) for number in (1, 2, 3)] == [True, True, False]
    assert later.total == 3


def test_memory_is_bounded() -> None:
    """The last lines are remembered, and no more, also by who takes them over."""
    seen = Redelivery()
    for number in range(3 * module.SEEN_LIMIT):
        assert not seen.has_seen(line(number))
    remembered, _ = seen.state()
    assert len(remembered) == module.SEEN_LIMIT
    assert seen.has_seen(line(2 * module.SEEN_LIMIT))
    assert not seen.has_seen(line(0))
