r"""
The syslog lines of ``sshbell pam challenge`` and ``sshbell pam verify``. ``grammars/sshbell_pam.py`` reads them.

A line never contains a code. User names and other texts from the network are encoded as sshd does it, vis(3) VIS_CSTYLE:
``\\``, ``\n``, and ``\303\253`` for bytes that are not printable ASCII. So a line is printable ASCII, with the user at its end.

PAM runs these commands during a login, so this module imports only what starts fast.
"""

import re
import syslog
from typing import NamedTuple

PROGRAM = "sshbell-pam"
# The service in the lines of "sshbell pam try". It is no login, so sshbell builds no event from them.
TRY = "sshbell-try"
# Why a code is refused. "unknown": there is no challenge for this process. "not sent": no channel took the code.
REASONS = ("wrong", "expired", "used", "unknown", "too many tries", "too many prompts", "not sent")

# sshd's log.c cuts its lines at 500 bytes, and sshbell reads no longer ones from its family of programs.
_LINE_LIMIT = 480
# As in sshd's auth.c, auth_log(): "%.100s".
_USER_BYTES = 100
# IPv6 with a zone, or a name (UseDNS yes). Of a longer name, a part would be another name, so sshd's word replaces it.
_ADDRESS = re.compile(r"[0-9A-Za-z.:%_-]{1,64}")
_NO_ADDRESS = "UNKNOWN"
# Bytes of a channel's name and of a service's. With these bounds, there is always room for 60 bytes of a user's name.
_WORD_BYTES = 24

_NAMED = {0x5C: "\\\\", 0x0A: "\\n", 0x09: "\\t", 0x0D: "\\r", 0x07: "\\a", 0x08: "\\b", 0x0B: "\\v", 0x0C: "\\f"}


class Asker(NamedTuple):
    """
    The login that wants a code.

    Attributes:
        service: ``sshd`` for a connection of sshd, whatever ``PAMServiceName`` says; else PAM_SERVICE: ``su``.
        pid: the process whose PID is on "Accepted": sshd's monitor, the parent of its [pam] process. For other services, the
            process that asks.
        user, address: PAM_USER and PAM_RHOST as PAM passed them; ``address`` is "" for a login on the console.
    """

    service: str
    pid: int
    user: str
    address: str = ""


def sent(asker: Asker, session: str, channel: str) -> str:
    """Return the line for a code that a channel has taken."""
    return _line(f"Code sent: session {session} by {_word(channel)}, ", asker)


def prompted(asker: Asker, session: str) -> str:
    """Return the line for a prompt although sshbell has sent no code: to a user who does not exist, or for an emergency code."""
    return _line(f"Prompt without a code: session {session}, ", asker)


def accepted(asker: Asker, session: str, channel: str, after_s: int) -> str:
    """Return the line for the right code, typed ``after_s`` seconds after sshbell made it."""
    return _line(f"Code accepted: session {session} by {_word(channel)} after {after_s} s, ", asker)


def emergency_accepted(asker: Asker, left: int) -> str:
    """Return the line for an emergency code; ``left``: how many unused ones the user still has."""
    return _line(f"Emergency code accepted: {left} left, ", asker)


def refused(asker: Asker, reason: str, session: str = "", channel: str = "") -> str:
    """Return the line for a refusal; ``reason`` is one of ``REASONS``. Before the challenge there is no session number."""
    by = f" by {_word(channel)}" if channel else ""
    return _line(f"Code refused ({reason}): {f'session {session}{by}, ' if session else ''}", asker)


def not_needed(asker: Asker) -> str:
    """Return the line for a login that needs no code: a rule says ``never``, or nothing is new."""
    return _line("Code not needed: ", asker)


def let_in(asker: Asker) -> str:
    """Return the line for a login without a code, because no channel took one and ``on_failure`` is ``safe``."""
    return _line("Let in without a code: ", asker)


def not_delivered(asker: Asker, fault: str) -> str:
    """Return the line with the reason why no channel took a code. ``refused``, ``let_in`` or an emergency code follows."""
    start = f"Code not delivered: {_word(asker.service)} {asker.pid}, "
    return start + _encoded(fault, _LINE_LIMIT, _LINE_LIMIT - len(start))


_options = [syslog.LOG_PID]


def show() -> None:
    """From now on, also write the lines to standard error."""
    _options.append(syslog.LOG_PERROR)


def write(line: str) -> None:
    """
    Write a line to the system's log.

    syslog(3) waits if the log socket is full. sshd waits in the same way, so this adds no new way to hang a login.
    """
    syslog.openlog(PROGRAM, sum(_options), syslog.LOG_AUTHPRIV)
    syslog.syslog(syslog.LOG_INFO, line)


def _line(start: str, asker: Asker) -> str:
    address = asker.address if _ADDRESS.fullmatch(asker.address) else _NO_ADDRESS
    start += f"{_word(asker.service)} {asker.pid}, {f'from {address} ' if asker.address else ''}for "
    return start + _encoded(asker.user, _USER_BYTES, _LINE_LIMIT - len(start))


def _word(text: str) -> str:
    """Return a text as one word: blanks, commas and parentheses are encoded, too."""
    encoded = _encoded(text, _WORD_BYTES, 4 * _WORD_BYTES) or "-"
    return "".join(f"\\{ord(char):03o}" if char in " ,()" else char for char in encoded)


def _encoded(text: str, bytes_limit: int, limit: int) -> str:
    """Encode the first ``bytes_limit`` bytes of a text, as many as ``limit`` characters have room for."""
    encoded = ""
    for byte in text.encode("utf-8", "surrogateescape")[:bytes_limit]:
        char = _NAMED.get(byte) or (chr(byte) if 0x20 <= byte < 0x7F else f"\\{byte:03o}")
        if len(encoded) + len(char) > limit:
            break
        encoded += char
    return encoded
