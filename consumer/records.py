"""
The nouns between the stages: a row, as framing gives it, and a line, as the correlator takes it.

Every line of a log becomes a row, and most become a line. To make an object with names of each would cost more than all that is
done with it, so both are plain tuples. ``SyslogRecord`` is a row with names, for whoever asks.

All text is the bytes of the log decoded as latin-1: one character a byte, nothing lost, whatever the encoding was.
``text_of_bytes`` and ``readable`` go in and out.
"""

from typing import Final, NamedTuple

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

# What rsyslog says of lines that came by a socket or a journal of this machine.
OURS = "127.0.0.1"
# Pairs of host and address that are remembered.
SENDER_LIMIT = 10_000
Pair = tuple[str, str]
