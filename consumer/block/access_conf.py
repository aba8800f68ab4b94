"""
The file for pam_access, which every Linux has: one rule a line, and the first that fits decides.

Source: Linux-PAM ``pam_access.c``, ``login_access()``, 1.1 to 1.7. Grammar of what sshbell writes::

    line  = perm " : " users " : " froms LF        perm = "+" | "-"
    users = "ALL" | name
    froms = item { " " item } [ " EXCEPT " froms ]

The module reads the whole file at each login. Until 1.5 it skips lines of 8 kB and more, and since 1.6 it takes a microsecond or
two for each address that it compares. So addresses stand in groups, behind the smallest network that holds the group:
``192.0.2.0/24 EXCEPT ALL EXCEPT 192.0.2.7 192.0.2.9``. This fits 192.0.2.7 and 192.0.2.9. For an address outside of the network,
the module stops reading at the first EXCEPT. So 20,000 addresses take as long as a few hundred.
"""

import re
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address

from consumer.block.target import Target

# Targets in one line. The longest address takes 43 characters with its prefix length, and a line must stay below 8,191.
GROUP_LIMIT = 150
# Addresses from which a blocked user may still log in: one line has all of them.
EXCEPTIONS_LIMIT = 100
HEAD = """\
# sshbell writes this file for pam_access; do not edit it. "sshbell block list" shows the entries, their reasons and their ends.
# "A EXCEPT ALL EXCEPT B C" stands for B and C, which belong to the network A.
"""
# pam_access splits at ":", "," and blanks, takes "(x)" for a group and "@" for a netgroup or a host, and gives some words a
# meaning. It compares without regard to case: a block of "ROOT" would stop root. Since 1.6 it takes digits for a uid.
_NAME = re.compile(r"[a-z_][a-z0-9._+\\-]{0,99}\$?")
_WORDS = frozenset({"all", "except", "none", "local"})
_BITS = {4: 32, 6: 128}


def can_name(user: str) -> bool:
    """Return whether a line of the file can name a user, and nobody else."""
    return _NAME.fullmatch(user) is not None and user not in _WORDS


def access_conf(
    blocked: Sequence[Target],
    users: Mapping[str, Iterable[Target]],
    allowed: Sequence[Target],
    groups: "Groups | None" = None,
) -> bytes:
    """
    Return the text of the file. The same arguments give the same text.

    Args:
        blocked: addresses and networks, as ``outermost`` returns them.
        users: blocked users that ``can_name`` accepts, with the addresses from which they may still log in.
        allowed: the allow list, as ``outermost`` returns it.
        groups: those of the text before this one, if there is one. Most stay the same, and need no new text.
    """
    lines = [f"+ : ALL : {froms}\n" for froms in Groups().texts(allowed)]
    for user, exceptions in sorted(users.items()):
        known = [target.text for target in sorted(exceptions)][:EXCEPTIONS_LIMIT]
        lines.append(f"- : {user} : ALL{' EXCEPT ' if known else ''}{' '.join(known)}\n")
    lines += [f"- : ALL : {froms}\n" for froms in (groups or Groups()).texts(blocked)]
    return (HEAD + "".join(lines)).encode()


class Groups:
    """The groups of a list of targets."""

    def __init__(self) -> None:
        # By the number of the first address and the prefix length of the network that has been halved for them.
        self._known: dict[tuple[int, int, int], tuple[Sequence[Target], str]] = {}

    def texts(self, targets: Sequence[Target]) -> list[str]:
        """Return what each line allows or denies."""
        before, self._known = self._known, {}
        for version in _BITS:
            begin, end = bisect_left(targets, (version,)), bisect_left(targets, (version + 1,))
            self._split(targets, begin, end, (version, 0, 0), before)
        return [text for _, text in self._known.values()]

    def _split(
        self, targets: Sequence[Target], begin: int, end: int, network: tuple[int, int, int],
        before: Mapping[tuple[int, int, int], tuple[Sequence[Target], str]],
    ) -> None:  # fmt: skip
        """Note the groups of the targets that lie within a network: a part of the list, from ``begin`` to before ``end``."""
        if begin == end:
            return
        version, first, length = network
        if end - begin <= GROUP_LIMIT:
            group = targets[begin:end]
            known = before.get(network)
            # The targets of both are mostly the same objects, so this takes a microsecond.
            self._known[network] = known if known is not None and known[0] == group else (group, _froms(group, length))
            return
        length += 1
        middle = first | 1 << (_BITS[version] - length)
        at = bisect_left(targets, (version, middle), begin, end)
        self._split(targets, begin, at, (version, first, length), before)
        self._split(targets, at, end, (version, middle, length), before)


def _froms(group: Sequence[Target], length: int) -> str:
    """Return the text of a group; ``length`` is the prefix length of a network that holds it."""
    froms = " ".join([target.text for target in group])
    # A short list is all in one line. pam_access would take a network with a prefix length of 0 for one address.
    is_alone = length == 0 or len(group) == 1
    return froms if is_alone else f"{_smallest(group[0], group[-1])} EXCEPT ALL EXCEPT {froms}"


def _smallest(first: Target, last: Target) -> str:
    """Return the smallest network that holds two targets and what lies between them."""
    bits = _BITS[first.version]
    length = bits - (first.first ^ last.last).bit_length()
    address = first.first >> (bits - length) << (bits - length)
    return f"{(IPv4Address if first.version == 4 else IPv6Address)(address)}/{length}"
