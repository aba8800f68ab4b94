"""
The nouns between the stages: a row, as framing gives it, and a line, as the correlator takes it.

Both are plain tuples, since every line of a log becomes one; ``SyslogRecord`` is the same with names, for whoever asks.

All text is the bytes of the log decoded as latin-1: one character a byte, nothing lost, whatever the encoding was.
``text_of_bytes`` and ``readable`` go in and out.
"""

from typing import Final, NamedTuple

# What the kernel vouches for, where the record carries it: the sender's uid and the path of its program ("" unknown).
Trusted = tuple[int, str]

# stamp, host, program name, procid, message, trusted. A field that the line does not have is "". The message has no leading blank
# and no byte order mark. A line that no framing fits has an empty program and stands whole in the message.
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


class Line(NamedTuple):
    """
    One line that a rule has read, as the correlator takes it.

    On the way of every line it is a plain tuple, of which the constants below name the places.
    """

    rule: int  # index into Matcher.rules
    time_us: int | None
    place: int  # where it stood: see events.PLACE_STEP
    repeats: int  # how many lines of the daemon it stands for
    text: str  # what was matched; "" where nobody will ask
    trusted: Trusted | None
    ambiguous: bool  # sshd cut the line: its address is not to be trusted, and not given
    program: str
    host: str
    procid: str  # "" where the tag has none
    user: str | None
    invalid: str | None
    address: str | None
    port: str | None
    method: str | None
    extra: str | None
    preauth: str | None


RULE: Final = 0
TIME: Final = 1
PLACE: Final = 2
REPEATS: Final = 3
TEXT: Final = 4
TRUSTED: Final = 5
AMBIGUOUS: Final = 6
PROGRAM: Final = 7
HOST: Final = 8
PROCID: Final = 9
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
