"""
Lists for TCP wrappers (libwrap), which sshd of Debian and Ubuntu asks: one pattern a line.

``/etc/hosts.deny`` itself stays as it is. It names the two lists::

    sshd: /var/lib/sshbell-block/hosts.deny EXCEPT /var/lib/sshbell-block/hosts.allow

So sshbell needs no right to write in ``/etc``, and a fault in the lists cannot break other rules. Source: hosts_access(5): a
pattern that begins with "/" names a file with patterns.
"""

from collections.abc import Iterable

from consumer.block.target import Target


def patterns(targets: Iterable[Target]) -> bytes:
    """Return a list with addresses and networks."""
    return "".join([f"{_pattern(target)}\n" for target in targets]).encode()


def _pattern(target: Target) -> str:
    address, slash, length = target.text.partition("/")
    if target.version == 6:
        return f"[{address}]{slash}{length}"
    # Without a length, libwrap takes an IPv4 address for one host.
    return target.text
