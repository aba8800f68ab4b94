r"""
Mail addresses: one judgement for the configuration, ``people.toml`` and sending.

What is taken is what SMTP can carry (RFC 5321, ``Mailbox``; RFC 6531 for other alphabets), with or without a name before it:

==================================  ===============================================================================
``ops@example.org``                 The ordinary form. A host of one word will do: ``root@localhost``.
``Jürgen <jürgen@bücher.example>``  A name, in quotes where it has more than letters, digits, blanks and dots. The domain goes out
                                    as IDNA; the part before ``@`` needs a server with SMTPUTF8.
``"a b"@example.org``               A part before ``@`` that has blanks or the like, in quotes; ``\`` hides a quote or itself.
``ops@[192.0.2.1]``                 The server at an address; of IPv6 it is ``ops@[IPv6:2001:db8::1]``.
``root``                            A mailbox of the mail server's own host, which puts its domain behind it. Postfix does
                                    that; Exim only for hosts that its configuration names.
==================================  ===============================================================================
"""

import re
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from email.headerregistry import Address

# RFC 5321, section 4.5.3.1, in octets.
_LOCAL_LIMIT, _DOMAIN_LIMIT = 64, 255
# All but blanks and what has a meaning of its own; of another form it would take 20 ms to compile.
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
# An underscore is in no name of the public DNS, but in many of a site's own.
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
        """As SMTP takes it, without the angle brackets."""
        local = self.local
        if not _PLAIN.fullmatch(local):
            local = '"' + local.replace("\\", "\\\\").replace('"', '\\"') + '"'
        return f"{local}@{self.domain}" if self.domain else local

    @property
    def header(self) -> "Address":
        """As a header takes it."""
        # Here, because it takes longer than all else, and only what sends mail needs it.
        from email.headerregistry import Address  # noqa: PLC0415

        return Address(self.name, self.local, self.domain)


def mailbox_of(text: str) -> Mailbox:
    """
    Read one mail address, as the table above has them.

    Raises:
        ValueError: it is none; the text says why and what to write, and follows the address.
    """
    found = _FORM.fullmatch(text.strip(" "))
    if not text.isprintable() or found is None:
        raise ValueError(f"is no mail address; {_advice(text)}")
    local, domain = found["local"] or found["bare_local"], found["domain"] or found["bare_domain"] or ""
    name, local = _unquoted((found["name"] or "").strip(" ")).strip(" "), _unquoted(local)
    # Mail programs would decode it.
    if _ENCODED_WORD.search(name) or _ENCODED_WORD.search(local):
        raise ValueError("is no mail address; write it in plain letters, not as an encoded word (=?...?=)")
    if not local or len(local.encode()) > _LOCAL_LIMIT:
        raise ValueError(f"is no mail address; the part before '@' has 1 to {_LOCAL_LIMIT} bytes")
    if not _PLAIN.fullmatch(local):
        if not domain:
            raise ValueError('is no mail address; write the host behind it, as in "a b"@example.org')
        # The email package loses the quotes of such a one in the header.
        if local.startswith(".") or local.endswith(".") or ".." in local:
            raise ValueError("is no mail address; the part before '@' has a dot at an end, or two together")
    return Mailbox(name, local, _domain(domain))


def _advice(text: str) -> str:
    """Say what to write in place of what is no address."""
    if not text.isprintable():
        return "it has a character that none may have"
    if "," in text or ";" in text:
        return "write one as ops@example.org, and each in quotes of its own"
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
        ValueError: it is none.
    """
    if text.startswith("["):
        return _literal(text)
    try:
        found = text if text.isascii() else text.encode("idna").decode()
    except UnicodeError as error:
        raise ValueError(f"is no mail address; {text!r} is no host's name") from error
    if found and (len(found) > _DOMAIN_LIMIT or not all(map(_LABEL.fullmatch, found.split(".")))):
        raise ValueError(f"is no mail address; {text!r} is no host's name")
    if re.fullmatch(r"[0-9.]+", found):
        raise ValueError(f"is no mail address; write an IP address in brackets: ops@[{found}]")
    return found


def _literal(text: str) -> str:
    inside = text[1:].removesuffix("]")
    try:
        if text.endswith("]"):
            is_ipv6 = inside[:5].lower() == "ipv6:"
            return f"[IPv6:{IPv6Address(inside[5:])}]" if is_ipv6 else f"[{IPv4Address(inside)}]"
    except ValueError:
        pass
    raise ValueError("is no mail address; in brackets stands an IP address: ops@[192.0.2.1] or ops@[IPv6:2001:db8::1]")
