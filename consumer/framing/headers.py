"""
Puts header parts back that stand where no framing expects them.

rsyslog moves parts of a header about when it does not know their form. Relays and exporters put one header before another.
Devices write the severity into it. What stands between the time and the tag is then in the wrong fields of the row, and the tag
is in its message.

It is put back only where it is beyond doubt. All that stands before the tag must be known words, since another program's message
may hold what looks like a whole line of ours.
"""

import re
from collections.abc import Callable
from ipaddress import IPv6Address

from consumer.records import Row

# RFC 5424, tables 1 and 2, by their names in syslog.conf(5).
_FACILITIES = "kern|user|mail|daemon|auth|syslog|lpr|news|uucp|cron|authpriv|ftp|ntp|security|console|audit|local[0-7]"
_SEVERITIES = "emerg|emergency|panic|alert|crit|critical|err|error|warn|warning|notice|info|informational|debug|none"
FACILITY = rf"(?:{_FACILITIES})\.[a-z]+"

# "INFO", "authpriv.notice", "authpriv info", "auth|security:info" of AIX, "[auth.info]", "<38>". A row has lost the colon. A
# facility alone may be a program: cron.
_LEVEL = rf"(?:[<\[(]?(?i:(?:(?:{_FACILITIES})(?:\|security)?[.,:/| ])?(?:{_SEVERITIES}))[>\])]?:?|<\d{{1,3}}>)"
_HOST = r"(?P<host>[^ ()|]{1,255}?)"
_BSD = r"(?:\d{4} )?[A-Z][a-z]{2} {1,2}\d{1,2} (?:\d{4} )?\d\d:\d\d:\d\d(?:\.\d+)?(?: \d{4})?"
# Where a tag ends at a colon, a blank stands in its place.
_ISO = r"\d{4}-\d\d-\d\d[T ]\d\d[: ]\d\d:\d\d[^ ]*"
# What may stand before a header that is not the first: a relay or a stream, a bar, or Wazuh's agent and file.
_RELAY = rf"(?:[^ ()|]+ |\([^ ]+\) [^ ]+->[^ ]+ )?(?:[|>-]+ )?(?:{_LEVEL} )?"
# The words between the time and our tag.
_HEADERS = (
    rf"(?:{_LEVEL} )?{_HOST}(?: {_LEVEL})?",
    _LEVEL,
    r"(?P<host>[^ ()|\[]+ ?\[[^ \]]+\])",
    # AIX.
    r"[^ ]+ Message forwarded from (?P<host>[^ :]+):?",
    # A year behind the time.
    rf"(?:19|20)\d\d {_HOST}",
    # A zone behind the time. Others than these mean different offsets in different countries.
    rf"(?P<zone>UTC|GMT) {_HOST}",
    # A host with a character that rsyslog takes for none of a host's: it becomes the tag, and the relay is named.
    r"(?:[^ ]+ )?(?P<host>[^ ]*[^A-Za-z0-9._/() -][^ ]*)",
    rf"{_RELAY}(?P<stamp>{_BSD}|{_ISO})(?: {_HOST})?",
)
_TAG = re.compile(r"(?:\A|(?<= ))([^ :\[]+)(?:\[([0-9]{1,10})\])?: ?")
# The longest header that is looked through for a tag.
_LIMIT = 400
_HEX = re.compile(r"[0-9A-Fa-f]{0,4}\Z")
_IPV6 = re.compile(r"([0-9A-Fa-f:.]+) ")
_WITH_YEAR = re.compile(r"(?:\d{4}[- ]|\d{9,}|.* \d{4}(?: |\Z))")


def mended(row: Row, is_program: Callable[[str], bool]) -> Row:
    """Put back what stands in the wrong place, where it is beyond doubt; else return ``row`` as it is."""
    stamp, host, program, procid, text, trusted = row
    if procid or not program:
        return row
    if program[:1] in "0123456789abcdefABCDEF:" and _HEX.match(program) and (rest := _IPV6.match(text)):
        # rsyslog takes what stands before the first colon of an IPv6 address for the tag.
        address = f"{program}:{rest[1]}"
        try:
            IPv6Address(address)
        except ValueError:
            pass
        else:
            host, program, text = "", address, text[rest.end() :]
    tag = next((found for found in _TAG.finditer(text, 0, _LIMIT) if is_program(found[1])), None)
    if tag is None:
        return row
    words = " ".join(f"{host} {program} {text[: tag.start()]}".split())
    for pattern in _HEADERS:
        found = re.fullmatch(pattern, words)
        if found is not None:
            fields = found.groupdict()
            inner = _ISO_TORN.sub(r"\1:", fields.get("stamp") or "")
            zone = fields.get("zone")
            return (
                f"{stamp} {zone}" if zone else inner_stamp(stamp, inner),
                (fields.get("host") or "").replace(" [", "["),
                tag[1],
                tag[2] or "",
                text[tag.end() :],
                trusted,
            )
    return row


_ISO_TORN = re.compile(r"(T\d\d) ")


def inner_stamp(outer: str, inner: str) -> str:
    """Return the time of a line that has two: its own, if that has a year, else the one that was put before it."""
    return inner if inner and (not outer or has_year(inner)) else outer


def has_year(stamp: str) -> bool:
    """Tell whether a time names its year."""
    return _WITH_YEAR.match(stamp) is not None
