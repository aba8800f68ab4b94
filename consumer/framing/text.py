"""
The framings in which a line is readable text: rsyslog's file formats, journalctl, BusyBox, macOS, RFC 5424.

Each is one regular expression over a whole block of lines with six groups: stamp, host, program, procid, message and an empty
one, so that ``findall`` gives the rows of a block without a step of Python per line. A line that does not fit leaves
everything but the message empty. Facts: what rsyslog and journalctl write was measured on 8.2302 and systemd 252.
"""

import re

from consumer.framing.headers import FACILITY

# RFC 5424 section 6 allows 255 characters for a host and 48 for a program; what is longer is no header.
# "host tag[pid]: " with everything optional that some system leaves out: the host (UDP senders without a header), the pid,
# the colon (rsyslog, for messages relayed as RFC 5424), the blank. Solaris and macOS put a second blank before the host.
_HOST = r"(?:([^ \n\[]{1,255})(?<!:) )?"
_TAG = r"([^ \n:\[]{1,128})(?:\[([0-9]{1,10})\])?:? ?"
_BOM = "(?:\xef\xbb\xbf)?"
_REST = r"([^\n]*)()\n?"

_DAY = "[A-Z][a-z]{2}"
_CLOCK = r"\d\d:\d\d:\d\d"
_ISO = rf"\d{{4}}-\d\d-\d\d[T ]{_CLOCK}[^ \n]*"
_TIME = rf"\d{{1,2}} (?:\d{{4}} )?{_CLOCK}(?:\.\d+)?(?: \d{{4}})?"
_BSD = rf"(?:\d{{4}} )?{_DAY} {{1,2}}{_TIME}"
# A month in any language: "déc.", "de gen.", "10月", "Thg 11". Bytes beyond ASCII are parts of letters.
_LETTERS = r"[A-Za-z'.\x80-\xff-]"
_LOCAL = rf"(?:\d{{0,2}}{_LETTERS}{{1,20}} )?\d{{0,2}}{_LETTERS}{{0,60}} {{1,2}}{_TIME}"

# RFC 5424 section 6.3; a backslash in a quoted value makes the next character part of it.
_STRUCTURED = r'(?:-|(?:\[[^ \n"\]=]+(?: [^ \n"\]=]+="(?:[^"\\\n]|\\[^\n])*")*\])+)'


def _line(header: str) -> re.Pattern[str]:
    return re.compile(f"(?:{header})?{_BOM}{_REST}")


# The order is that of trying: what is stricter comes first.
FRAMINGS: dict[str, re.Pattern[str]] = {
    "rfc5424": _line(
        rf"(?:<\d{{1,3}}>)?(?:1 )?({_ISO}|-) ([^ \n]{{1,255}}) ([^ \n:\[]{{1,128}}) (?:([0-9]{{1,10}})|-|[^ \n]+) "
        rf"[^ \n]+ {_STRUCTURED}(?: |(?=\n)|\Z) ?"
    ),
    # RSYSLOG_TraditionalFileFormat, journalctl -o short and short-precise; BusyBox and FreeBSD, with a facility.
    "traditional": _line(rf"(?:<\d{{1,3}}>)?({_BSD})  ?(?:<{FACILITY}> )?{_HOST}(?:{FACILITY} )?{_TAG}"),
    # OpenWrt's logread, of one host that it does not name; with -t the time stands there once more, in seconds since 1970.
    "logread": _line(rf"(?:{_DAY} {_BSD} \[(?=\d+\.\d+\] ))?({_DAY} {_BSD}|(?<=\[)\d+\.\d+(?=\]))\]? ()(?:{FACILITY} ){_TAG}"),
    # RSYSLOG_FileFormat, journalctl -o short-iso and short-iso-precise, macOS, socklog; ESXi with its level, "In(38)".
    "iso": _line(rf"(?:<\d{{1,3}}>)?({_ISO})  ?(?:[A-Z][a-z]\(\d+\) )?{_HOST}(?:{FACILITY}: )?{_TAG}"),
    # journalctl -o short-unix.
    "epoch": _line(rf"(\d{{9,11}}\.\d+) {_HOST}{_TAG}"),
    # journalctl -o short-full and with-unit, which has the unit in the tag's place: "ssh@1-192.0.2.1:22-192.0.2.2:4711.service".
    "full": _line(
        rf"({_DAY} {_ISO} (?:[A-Z]{{2,5}}|[+-]\d\d(?:\d\d)?)) {_HOST}"
        rf"([^ \n\[]{{1,255}}\.(?:service|scope|socket)|[^ \n:\[]{{1,128}})(?:\[([0-9]{{1,10}})\])?:? ?"
    ),
    # journalctl -o short under another LC_TIME than English.
    "localized": _line(rf"({_LOCAL})  ?{_HOST}{_TAG}"),
    # A host in brackets; metalog's program in brackets, of one host that it does not name.
    "bracketed": _line(
        rf"({_BSD}|{_ISO}) (?:\[([^ \n\[\]]{{1,255}})\] (?=[^ \n:\[]{{1,128}}\[\d)|)"
        rf"(?:\[(?=[^ \n\[\]]+\]:? ))?([^ \n:\[\]]{{1,128}})(?:\[([0-9]{{1,10}})\]|\])?:? ?"
    ),
}

# A line without a time, such as somebody's extract; read where nothing else fits and the program is one of ours.
BARE = re.compile(rf"(){_HOST}{_TAG}{_BOM}{_REST}")
