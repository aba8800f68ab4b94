"""Mail addresses as people write them, such as ``Jürgen <jürgen@bücher.example>``, for a header and for SMTP."""

from email.headerregistry import Address
from email.utils import parseaddr


def header_address(text: str) -> Address:
    """
    Return an address for a header.

    Raises:
        ValueError, IndexError: it is none.
    """
    name, found = parseaddr(text)
    local, _, domain = _domain_in_ascii(found or text.strip()).rpartition("@")
    return Address(name, local, domain) if local else Address(name, domain)


def mailbox(text: str) -> str:
    """
    Return an address as SMTP takes it.

    Raises:
        ValueError: its domain cannot be one.
    """
    return _domain_in_ascii(parseaddr(text)[1] or text.strip())


def _domain_in_ascii(found: str) -> str:
    local, at, domain = found.rpartition("@")
    return found if domain.isascii() else f"{local}{at}{domain.encode('idna').decode()}"
