"""
Which host's lines come from which address, as rsyslog says of each line: on a relay that tells whose an address is.

Seen at the edge of ``sshbell run``, beside the way of a line: one look a second, and where somebody logs in. No event depends
on it.
"""

import re
import time
from collections import OrderedDict
from collections.abc import Iterable

from consumer.addresses import ip_of
from consumer.events import Event, Login
from consumer.records import OURS, SENDER_LIMIT, Pair

# A pair is noted again after so long, while its lines come.
_AGAIN_S = 3600.0
_LOOK_S = 1.0
# As our template begins (rsyslog.d/30-sshbell.conf); inside a message a quotation mark has a backslash before it.
_PAIR = re.compile(
    rb'^\{"v": ?"1", ?"ts":"[^"\n]*", ?"rcvd":"[^"\n]*", ?"host":"([!#-\[\]-~]{1,255})", ?"from_ip":"([0-9A-Fa-f.:]{2,45})"',
    re.MULTILINE,
)


class Senders:
    """
    Notes pairs of host and address.

    Attributes:
        new: pairs that are to be stored; whoever has stored them empties it.
    """

    def __init__(self) -> None:
        self.new: set[Pair] = set()
        self._stored_s: OrderedDict[tuple[bytes, bytes], float] = OrderedDict()
        self._looked_s = -_LOOK_S

    def note(self, block: bytes, events: Iterable[Event]) -> None:
        """Note whose lines a block holds, if it is time to look, or if one of its events is a login."""
        now_s = time.monotonic()
        if now_s - self._looked_s < _LOOK_S and not any(isinstance(event, Login) for event in events):
            return
        self._looked_s = now_s
        for pair in set(_PAIR.findall(block)):
            if now_s - self._stored_s.get(pair, -_AGAIN_S) >= _AGAIN_S and (address := _plain(pair[1])):
                self._stored_s[pair] = now_s
                self._stored_s.move_to_end(pair)
                self.new.add((pair[0].decode("ascii"), address))
                if len(self._stored_s) > SENDER_LIMIT:
                    self._stored_s.popitem(last=False)


def _plain(raw: bytes) -> str:
    """Return an address in its usual form, and one address for all of loopback; "" for what says nothing about a host."""
    ip = ip_of(raw.decode("ascii"))
    if ip is None or ip.is_link_local or ip.is_unspecified:
        return ""
    return OURS if ip.is_loopback else str(ip)
