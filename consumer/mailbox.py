r"""
Mail addresses: one parser for the configuration, ``people.toml`` and sending.

It accepts addresses that SMTP can carry (RFC 5321, ``Mailbox``; RFC 6531 for other alphabets), with or without a name before it:

==================================  ===============================================================================
``ops@example.org``                 The ordinary form. A host of one word is enough: ``root@localhost``.
``Jürgen <jürgen@bücher.example>``  A name, in quotes if it has more than letters, digits, blanks and dots. sshbell sends the
                                    domain as IDNA; the part before ``@`` needs a server with SMTPUTF8.
``"a b"@example.org``               A part before ``@`` with blanks or the like, in quotes; ``\`` protects a quote or itself.
``ops@[192.0.2.1]``                 The server at an address; for IPv6, ``ops@[IPv6:2001:db8::1]``.
``root``                            A mailbox of the mail server's own host, which adds its domain. Postfix does that; Exim only
                                    for hosts that its configuration names.
==================================  ===============================================================================
"""

import re
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from email.headerregistry import Address

# RFC 5321, section 4.5.3.1, in octets.
_LOCAL_LIMIT, _DOMAIN_LIMIT = 64, 255
# All characters but blanks and special ones. In another form, the pattern would take 20 ms to compile.
_ATOM = r'[^\x00-\x20"(),.:;<>@\[\\\]\x7f]+'
_DOTTED = rf"{_ATOM}(?:\.{_ATOM})*"
_QUOTED = r'"(?:[^"\\]|\\.)*"'
_DOMAIN = r'[^\s@<>()",;\\]+'
_FORM = re.compile(
    rf'(?:(?P<name>{_QUOTED} *|[^"<>@,;:()\\\[\]]*)<(?P<local>{_DOTTED}|{_QUOTED})(?:@(?P<domain>{_DOMAIN}))?>'
    rf"|(?P<bare_local>{_DOTTED}|{_QUOTED})(?:@(?P<bare_domain>{_DOMAIN}))?)"
)
_PLAIN = re.compile(_DOTTED)
# RFC 2047.
_ENCODED_WORD = re.compile(r"=\?.*\?=")
# No host name in the public DNS has an underscore, but many names of a site's own DNS do.
_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")


class Mailbox(NamedTuple):
    """
    One mail address.

    Attributes:
        name: of the person, for the header; "" for none.
        local: the part before ``@``, without its quotes.
        domain: a name in ASCII, or an address in brackets; "" for the mail server's own host.
    """

    name: str
    local: str
    domain: str

    @property
    def smtp(self) -> str:
        """The form for SMTP, without the angle brackets."""
        local = self.local
        if not _PLAIN.fullmatch(local):
            local = '"' + local.replace("\\", "\\\\").replace('"', '\\"') + '"'
        return f"{local}@{self.domain}" if self.domain else local

    @property
    def header(self) -> "Address":
        """The form for a header."""
        # Imported here, because this import is slow and only sending needs it.
        from email.headerregistry import Address  # noqa: PLC0415

        return Address(self.name, self.local, self.domain)


def mailbox_of(text: str) -> Mailbox:
    """
    Read one mail address in one of the forms above.

    Raises:
        ValueError: it is not one. The text gives the reason and a correct form, and follows the address.
    """
    found = _FORM.fullmatch(text.strip(" "))
    if not text.isprintable() or found is None:
        raise ValueError(f"is not a mail address; {_advice(text)}")
    local, domain = found["local"] or found["bare_local"], found["domain"] or found["bare_domain"] or ""
    name, local = _unquoted((found["name"] or "").strip(" ")).strip(" "), _unquoted(local)
    # Mail programs would decode it.
    if _ENCODED_WORD.search(name) or _ENCODED_WORD.search(local):
        raise ValueError("is not a mail address; write it in plain letters, not as an encoded word (=?...?=)")
    if not local or len(local.encode()) > _LOCAL_LIMIT:
        raise ValueError(f"is not a mail address; the part before '@' must have 1 to {_LOCAL_LIMIT} bytes")
    if not _PLAIN.fullmatch(local):
        if not domain:
            raise ValueError('is not a mail address; add the host, as in "a b"@example.org')
        # For such an address, the email package loses the quotes in the header.
        if local.startswith(".") or local.endswith(".") or ".." in local:
            raise ValueError("is not a mail address; the part before '@' has a dot at an end, or two together")
    return Mailbox(name, local, _domain(domain))


def _advice(text: str) -> str:
    """Return how to write a text that is not an address."""
    if not text.isprintable():
        return "it has a character that is not allowed"
    if "," in text or ";" in text:
        return "write one as ops@example.org; put several into separate quotes"
    if "<" in text or ">" in text:
        return 'write it as ops@example.org, Ops <ops@example.org> or "Ops, Inc." <ops@example.org>'
    if text.count("@") == 1 and (words := text.split()) and "@" in words[-1]:
        return f"write it as {' '.join(words[:-1])} <{words[-1]}>" if len(words) > 1 else "write one as ops@example.org"
    return "write one as ops@example.org"


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1]) if text.startswith('"') else text


def _domain(text: str) -> str:
    """
    Return a domain in ASCII.

    Raises:
        ValueError: it is not a domain.
    """
    if text.startswith("["):
        return _literal(text)
    try:
        found = text if text.isascii() else text.encode("idna").decode()
    except UnicodeError as error:
        raise ValueError(f"is not a mail address; {text!r} is not a host name") from error
    if found and (len(found) > _DOMAIN_LIMIT or not all(map(_LABEL.fullmatch, found.split(".")))):
        raise ValueError(f"is not a mail address; {text!r} is not a host name")
    if re.fullmatch(r"[0-9.]+", found):
        raise ValueError(f"is not a mail address; write an IP address in brackets: ops@[{found}]")
    return found


def _literal(text: str) -> str:
    inside = text[1:].removesuffix("]")
    try:
        if text.endswith("]"):
            is_ipv6 = inside[:5].lower() == "ipv6:"
            return f"[IPv6:{IPv6Address(inside[5:])}]" if is_ipv6 else f"[{IPv4Address(inside)}]"
    except ValueError:
        pass
    raise ValueError("is not a mail address; write an IP address in the brackets: ops@[192.0.2.1] or ops@[IPv6:2001:db8::1]")
