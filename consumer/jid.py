"""
Addresses of XMPP (RFC 7622): one parser for the configuration, ``people.toml`` and sending.

It accepts ``alice@example.org``, the address of an account or of a room. sshbell needs no other form: a server alone has no
reader, and ``alice@example.org/phone`` would miss the device that Alice looks at.
"""

import re

# RFC 7622, section 3, in octets.
_PART_LIMIT = 1023
# Besides blanks, section 3.3.1 forbids these characters before "@". No host name has them either.
_PART = r"([^\"&'/:<>@\s]+)"
_FORM = re.compile(f"{_PART}@{_PART}")


def jid_of(text: str) -> str:
    """
    Return an address without the blanks around it.

    Raises:
        ValueError: it is not one. The text gives the reason and a correct form, and follows the address.
    """
    jid = text.strip(" ")
    found = _FORM.fullmatch(jid)
    if "/" in jid:
        raise ValueError("is not an XMPP address; leave out the / and the rest, as in alice@example.org")
    if found is None or not jid.isprintable():
        raise ValueError("is not an XMPP address; write one as alice@example.org")
    if not all(found[2].split(".")):
        raise ValueError(f"is not an XMPP address; {found[2]!r} is not a host name")
    if any(len(part.encode("utf-8", "replace")) > _PART_LIMIT for part in found.groups()):
        raise ValueError(f"is not an XMPP address; each part has 1 to {_PART_LIMIT} bytes")
    return jid
