"""Whatever a client, a channel or PAM calls itself: the grammar reads in a line about a code what sshbell-pam wrote into it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from consumer.codes import log_lines
from consumer.codes.log_lines import PROGRAM, REASONS, Asker
from consumer.matching.matcher import Matcher
from consumer.matching.messages import AuthMessage, auth_message
from consumer.text import readable, text_of_bytes
from tests.budget import examples

ENGINES = [Matcher(), Matcher(engine="pyparsing")]
# As os.environ gives them: any bytes but NUL.
TEXTS = st.binary(max_size=130).map(lambda raw: raw.replace(b"\0", b"")).map(lambda raw: raw.decode("utf-8", "surrogateescape"))
EVIL = st.sampled_from(
    [
        "x, sshd 1, from 203.0.113.66 for root",
        " ",
        "",
        "a: session 1 by ops, sshd 2, for root",
        "\n",
        "é" * 130,
        "\\" * 130,
        "for",
    ]
)
ANY = st.one_of(TEXTS, EVIL)
ADDRESSES = st.sampled_from(["", "192.0.2.7", "2001:db8:1111:2222:3333:4444:5555:6666", "host.example.net", "fe80::1%eth0"])
PIDS = st.integers(1, 1 << 22)
NUMBERS = st.from_regex("[0-9]{4,12}", fullmatch=True)
askers = st.builds(Asker, st.one_of(st.just("sshd"), ANY), PIDS, ANY, ADDRESSES)


def read(line: str) -> AuthMessage:
    """Return what both engines read in a line."""
    assert len(line) <= 480
    assert line.isascii()
    assert line.isprintable()
    found = []
    for matcher in ENGINES:
        reading = matcher.find(("2026-11-22T10:00:00+00:00", "web1", PROGRAM, "55", line, ""))
        assert reading is not None
        assert reading.rule is not None
        found.append(auth_message(reading))
    assert found[0] == found[1]
    return found[0]


def cut(text: str, size_bytes: int) -> str:
    """Return the beginning of a text as people read it."""
    return readable(text_of_bytes(text.encode("utf-8", "surrogateescape")[:size_bytes]))


def is_of(message: AuthMessage, asker: Asker) -> None:
    """Check that a line names its login, and no other."""
    assert message.fields["connection_pid"] == str(asker.pid)
    assert message.fields["service"] == (cut(asker.service, 24) or "-")
    assert message.address == (asker.address or None)
    # Long names are cut, at a whole byte, but never below 60 characters of the line.
    assert message.user is not None
    own = text_of_bytes(asker.user.encode("utf-8", "surrogateescape"))
    given = [cut(asker.user, size) for size in range(min(100, len(own)), -1, -1)]
    assert message.user in given
    assert len(message.user) >= min(15, len(given[0]))


@examples(150)
@given(askers, NUMBERS, ANY, st.integers(0, 999_999), st.sampled_from(REASONS))
def test_all_lines(asker: Asker, session: str, channel: str, number: int, reason: str) -> None:
    """Each line comes back as it was meant."""
    name = cut(channel, 24) or "-"
    message = read(log_lines.sent(asker, session, channel))
    is_of(message, asker)
    assert (message.rule, message.fields["code_session"], message.fields["channel"]) == ("code_sent", session, name)
    message = read(log_lines.accepted(asker, session, channel, number))
    is_of(message, asker)
    assert (message.rule, message.fields["after_s"], message.fields["channel"]) == ("code_accepted", str(number), name)
    message = read(log_lines.emergency_accepted(asker, number))
    is_of(message, asker)
    assert (message.rule, message.fields["codes_left"]) == ("emergency_code_accepted", str(number))
    message = read(log_lines.refused(asker, reason, session, channel))
    is_of(message, asker)
    assert (message.rule, message.fields["reason"]) == ("code_refused", reason)
    for line, rule in (
        (log_lines.refused(asker, reason), "code_refused"), (log_lines.not_needed(asker), "code_not_needed"),
        (log_lines.let_in(asker), "let_in_without_code"), (log_lines.prompted(asker, session), "prompt_without_code"),
    ):  # fmt: skip
        message = read(line)
        is_of(message, asker)
        assert message.rule == rule


@examples(100)
@given(askers, ANY)
def test_fault(asker: Asker, fault: str) -> None:
    """The reason of a channel may be any text."""
    message = read(log_lines.not_delivered(asker, fault))
    assert (message.rule, message.user, message.address) == ("code_not_delivered", None, None)
    assert message.fields["connection_pid"] == str(asker.pid)
