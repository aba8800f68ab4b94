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
    for name, body in seen.changed():
        later.restore(name, body)
    later.take_over((), seen.total)
    assert [later.has_seen(line(number)) for number in (1, 2, 3)] == [True, True, False]
    assert later.total == 3


def test_memory_is_bounded() -> None:
    """The last lines are remembered, and a bounded number of others."""
    seen = Redelivery()
    for number in range(5 * module.SEEN_LIMIT):
        assert not seen.has_seen(line(number))
    assert seen.has_seen(line(3 * module.SEEN_LIMIT))
    assert not seen.has_seen(line(0))


def test_an_older_version_had_one_list() -> None:
    """Lines that an older version has remembered are known."""
    seen, later = Redelivery(), Redelivery()
    seen.has_seen(line(1))
    later.take_over([digest for digest, _number in seen._seen._log], 4)
    assert later.has_seen(line(1))
    assert later.total == 5
