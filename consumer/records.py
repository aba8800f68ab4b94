"""
The nouns between the stages: a row, as framing gives it, and a line, as the correlator takes it.

Every line of a log becomes a row, and most become a line. To make an object with names of each would cost more than all that is
done with it, so both are plain tuples. ``SyslogRecord`` is a row with names, for whoever asks.

All text is the bytes of the log decoded as latin-1: one character a byte, nothing lost, whatever the encoding was.
``text_of_bytes`` and ``readable`` go in and out.
"""

from typing import Any, Final, NamedTuple

from consumer.text import text_of_bytes

# What the kernel vouches for, where the record carries it: the sender's uid and the path of its program ("" unknown).
Trusted = tuple[int, str]

# A line whose header was read. A function takes it apart at its head, by these names:
#     stamp, host, program, procid, msg, trusted
# A field that the line does not have is "". The message has no leading blank and no byte order mark. A line that no framing fits
# has an empty program and stands whole in the message.
Row = tuple[str, str, str, str, str, Trusted | str]


class SyslogRecord(NamedTuple):
    """One syslog message with its header settled."""

    time_us: int | None  # None: the header has no time, or one that does not exist
    stamp: str  # the time as it was written
    host: str
    program: str
    procid: str  # digits, or ""
    msg: str
    trusted: Trusted | None
    raw: str  # the whole line


# A line that a rule has read, as the correlator takes it. The constants below name its places.
Line = tuple[
    int, int | None, int, int, str, Trusted | None, bool, str, str, str,
    str | None, str | None, str | None, str | None, str | None, str | None, str | None,
]  # fmt: skip

RULE: Final = 0  # index into Matcher.rules
TIME: Final = 1  # microseconds since 1970 UTC; None: the header has no time, or one that does not exist
PLACE: Final = 2  # where it stood: see events.PLACE_STEP
REPEATS: Final = 3  # how many lines of the daemon it stands for
TEXT: Final = 4  # what was matched; "" where nobody will ask
TRUSTED: Final = 5
AMBIGUOUS: Final = 6  # sshd cut the line: its address is not to be trusted, and not given
PROGRAM: Final = 7
HOST: Final = 8
PROCID: Final = 9  # "" where the tag has none
# What the rule took, in the order of CORE in matching/rules.py; None where it has no such field.
USER: Final = 10
INVALID: Final = 11
ADDRESS: Final = 12
PORT: Final = 13
METHOD: Final = 14
EXTRA: Final = 15
PREAUTH: Final = 16

# Bytes of a text that a line keeps: of the whole message, and of each thing that it says. sshd cuts its own messages here, so
# this concerns PAM's alone, of which sshbell reads 2,000 bytes. No account has a name as long as that.
TEXT_LIMIT = 500


def bounded(line: Line) -> Line:
    """Cut what is too long in a line, and mark that with the length that it had."""
    trusted = line[TRUSTED]
    is_path_long = trusted is not None and len(trusted[1]) > TEXT_LIMIT
    # All that a rule takes is a part of the text; "" was not kept.
    if 0 < len(line[TEXT]) <= TEXT_LIMIT and not is_path_long:
        return line
    values: list[Any] = [_cut(value) if isinstance(value, str) else value for value in line]
    if trusted is not None and is_path_long:
        values[TRUSTED] = trusted[0], trusted[1][-TEXT_LIMIT:]  # the name of the program stands at the end
    return tuple(values)


def _cut(text: str) -> str:
    if len(text) <= TEXT_LIMIT:
        return text
    mark = text_of_bytes(f"…[{len(text)} bytes]".encode())
    return text[: TEXT_LIMIT - len(mark)] + mark


# What rsyslog says of lines that came by a socket or a journal of this machine.
OURS = "127.0.0.1"
# Pairs of host and address that are remembered.
SENDER_LIMIT = 10_000
Pair = tuple[str, str]
