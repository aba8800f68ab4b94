"""
Which host sends its lines from which address. rsyslog adds the address to each line, so a relay learns the addresses of hosts.

``sshbell run`` collects this beside the pipeline: once a second, and at each login. No event depends on it.
"""

import re
import time
from collections import OrderedDict
from collections.abc import Iterable

from consumer.addresses import ip_of
from consumer.events import Event, Login
from consumer.records import OURS, SENDER_LIMIT, Pair

# A pair is noted again after this time, as long as its lines come in.
_AGAIN_S = 3600.0
_LOOK_S = 1.0
# The beginning of our template (rsyslog.d/30-sshbell.conf); inside a message, a backslash precedes each quotation mark.
_PAIR = re.compile(
    rb'^\{"v": ?"1", ?"ts":"[^"\n]*", ?"rcvd":"[^"\n]*", ?"host":"([!#-\[\]-~]{1,255})", ?"from_ip":"([0-9A-Fa-f.:]{2,45})"',
    re.MULTILINE,
)


class Senders:
    """
    Notes pairs of host and address.

    Attributes:
        new: pairs to store; the caller empties it after storing them.
    """

    def __init__(self) -> None:
        self.new: set[Pair] = set()
        self._stored_s: OrderedDict[tuple[bytes, bytes], float] = OrderedDict()
        self._looked_s = -_LOOK_S

    def note(self, block: bytes, events: Iterable[Event]) -> None:
        """Note the senders of a block's lines, if a second has passed or if one of its events is a login."""
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
    """Return an address in its usual form, one address for all of loopback, or "" for one that does not identify a host."""
    ip = ip_of(raw.decode("ascii"))
    if ip is None or ip.is_link_local or ip.is_unspecified:
        return ""
    return OURS if ip.is_loopback else str(ip)
