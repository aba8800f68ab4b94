"""
The types between the stages: a row, the output of framing, and a line, the input of the correlator.

Every line of a log becomes a row, and most become a line. Both are plain tuples, because creating an object for each would cost
more than all the work on it. ``SyslogRecord`` is a row with names, for code that is not as fast.

All text is the bytes of the log decoded as latin-1: one character per byte, without loss, whatever the encoding was.
``text_of_bytes`` and ``readable`` convert to and from this form.
"""

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from consumer.text import text_of_bytes

# The facts that the kernel vouches for, if the record has them: the sender's uid and the path of its program ("" if unknown).
Trusted = tuple[int, str]

# A line after framing. Functions unpack it at their start, with these names:
#     stamp, host, program, procid, msg, trusted
# A missing field is "". The message has no leading blank and no byte order mark. If no framing fits, the program is empty and the
# whole line is the message.
Row = tuple[str, str, str, str, str, Trusted | str]


class SyslogRecord(NamedTuple):
    """One syslog message with its header parsed."""

    time_us: int | None  # None: the header has no time, or one that does not exist
    stamp: str  # the time as written
    host: str
    program: str
    procid: str  # digits, or ""
    msg: str
    trusted: Trusted | None
    raw: str  # the whole line


# A line that a rule has read, for the correlator. The constants below name its positions. It is a plain tuple; the class is for
# mypy alone. mypyc would copy all values of a ``tuple[...]`` at each call.
if TYPE_CHECKING:

    class Line(tuple[  # noqa: SLOT001 - it has no objects
        int, int | None, int, int, str, Trusted | None, bool, str, str, str,
        str | None, str | None, str | None, str | None, str | None, str | None, str | None,
    ]):  # fmt: skip
        """See above."""

else:
    Line = tuple

RULE: Final = 0  # index into Matcher.rules
TIME: Final = 1  # microseconds since 1970 UTC; None: the header has no time, or one that does not exist
PLACE: Final = 2  # its file and line number: see events.PLACE_STEP
REPEATS: Final = 3  # how many lines of the daemon it stands for
TEXT: Final = 4  # the matched text; "" if no caller needs it
TRUSTED: Final = 5
AMBIGUOUS: Final = 6  # sshd cut the line, so its address is untrustworthy and left out
PROGRAM: Final = 7
HOST: Final = 8
PROCID: Final = 9  # "" if the tag has none
# The values that the rule took, in the order of CORE in matching/rules.py; None if it has no such field.
USER: Final = 10
INVALID: Final = 11
ADDRESS: Final = 12
PORT: Final = 13
METHOD: Final = 14
EXTRA: Final = 15
PREAUTH: Final = 16

# Bytes that a line keeps of the whole message, and of each value in it. sshd cuts its own messages at this length, so the bound
# matters for PAM only, of whose messages sshbell reads 2,000 bytes. No account has so long a name.
TEXT_LIMIT = 500


def is_long(row: Row) -> bool:
    """Return whether a part of the line of this row may exceed the bound. The names of some modules become a part of the text."""
    _stamp, _host, program, _procid, msg, trusted = row
    return len(program) + len(msg) + 2 > TEXT_LIMIT or (trusted != "" and len(trusted[1]) > TEXT_LIMIT)


def bounded(line: Line) -> Line:
    """Cut the long texts of a line, and mark each with its original length."""
    trusted = line[TRUSTED]
    is_path_long = trusted is not None and len(trusted[1]) > TEXT_LIMIT
    # Every value of a rule is a part of the text; "" was not kept.
    if 0 < len(line[TEXT]) <= TEXT_LIMIT and not is_path_long:
        return line
    values: list[Any] = [_cut(value) if isinstance(value, str) else value for value in line]
    if trusted is not None and is_path_long:
        values[TRUSTED] = trusted[0], trusted[1][-TEXT_LIMIT:]  # the program's name is at the end
    return Line(values)


def _cut(text: str) -> str:
    if len(text) <= TEXT_LIMIT:
        return text
    mark = text_of_bytes(f"…[{len(text)} bytes]".encode())
    return text[: TEXT_LIMIT - len(mark)] + mark


# The address that rsyslog gives for lines from a socket or a journal of this machine.
OURS = "127.0.0.1"
# Pairs of host and address to remember.
SENDER_LIMIT = 10_000
Pair = tuple[str, str]
