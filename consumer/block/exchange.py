"""
Blocks on their way from one machine to others: lines of JSON or of text, as ``sshbell block export`` writes them.

Text, for people and other programs, has only addresses and networks. A line that says ``lifted`` names a block that somebody has
removed before its end::

    192.0.2.7 until 2026-11-29T10:00:00Z # finding 0c9f3b1e52aa
    2001:db8:7::/64 lifted until 2026-11-29T10:00:00Z

JSON has users, too. The reader of a list trusts its writer to name whom to block, and nothing else: each value has its bounds,
and the reader's own allow list wins.
"""

import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from consumer.block.access_conf import EXCEPTIONS_LIMIT
from consumer.block.target import is_too_wide, network_target, target_of
from consumer.text import harmless

# In bytes and lines, of one file; guard remembers no more blocks than that.
FILE_LIMIT, LINES_LIMIT = 16 << 20, 20_000
_LINE_LIMIT = 8_000
_REASON_LIMIT = 200
# The last moment that the calendar has.
_LAST_US = 253_402_300_799_999_999
_TEXT = re.compile(r"(?P<target>[^\s#]+)(?P<lifted> lifted)? until (?P<until>[^\s#]+)(?: # (?P<reason>.*))?")

_Name = Annotated[str, Meta(min_length=1, max_length=64)]
# Commands get it for %s, where "-x" would be an option.
_Service = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*\Z")]


class SharedBlock(msgspec.Struct, frozen=True, omit_defaults=True):
    """
    A block of another machine.

    Attributes:
        id: the same block has the same id on all machines.
        target: see ``Target.text``.
        until: the end, in RFC 3339.
        reason, service, exceptions: as in ``Order`` of ``guard``.
        removed: when somebody lifted it, in RFC 3339; "" if nobody has.
    """

    id: _Name
    target: str
    until: Annotated[str, Meta(max_length=40)]
    reason: str = ""
    service: _Service = "sshd"
    exceptions: Annotated[list[str], Meta(max_length=EXCEPTIONS_LIMIT)] = []
    removed: Annotated[str, Meta(max_length=40)] = ""

    @property
    def until_us(self) -> int:
        """The end in microseconds since 1970 UTC."""
        found = datetime.fromisoformat(self.until)
        if found.tzinfo is None:
            raise ValueError(f"{self.until!r} has no zone")
        return min(round(found.timestamp()) * 1_000_000, _LAST_US)


_json = msgspec.json.Decoder(SharedBlock)


def json_of_block(block: SharedBlock) -> bytes:
    """Return a block as a line of JSON."""
    return msgspec.json.encode(block) + b"\n"


def line_of_block(block: SharedBlock) -> str:
    """Return a block as a line of text; "" for a user."""
    if target_of(block.target).user:
        return ""
    reason = harmless(block.reason)[:_REASON_LIMIT]
    return f"{block.target}{' lifted' if block.removed else ''} until {block.until}{f' # {reason}' if reason else ''}"


def shared_blocks(data: bytes) -> Iterator[SharedBlock]:
    """
    Yield the blocks of a file, which another machine has written.

    Raises:
        ValueError: the file is no list of blocks; the text has a line for each of the first faults. Nothing was yielded then.
    """
    if len(data) > FILE_LIMIT:
        raise ValueError(f"the list has more than {FILE_LIMIT >> 20} MiB")
    lines = data.decode("utf-8", "replace").split("\n")
    if len(lines) > LINES_LIMIT + 1:
        raise ValueError(f"the list has more than {LINES_LIMIT:,} lines")
    found: list[SharedBlock] = []
    faults: list[str] = []
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.startswith("#"):
            try:
                found.append(_block_of(line))
            except (ValueError, RecursionError) as error:
                faults.append(f"line {number}: {harmless(str(error))[:_REASON_LIMIT]}")
    if faults:
        more = f"\nand {len(faults) - 5:,} more" if len(faults) > 5 else ""
        raise ValueError("\n".join(faults[:5]) + more)
    yield from found


def _block_of(line: str) -> SharedBlock:
    if len(line) > _LINE_LIMIT:
        raise ValueError("it is too long")
    if line.lstrip().startswith("{"):
        read: SharedBlock = _json.decode(line)
    else:
        parts = _TEXT.fullmatch(line.strip())
        if parts is None:
            raise ValueError("write: 192.0.2.7 until 2026-11-29T10:00:00Z # reason")
        if parts["target"].startswith("user:"):
            raise ValueError("text has no users; write JSON")
        target = network_target(parts["target"]).text
        # The same block has the same id, however often it comes.
        own_id = sha256(f"{target}\0{parts['until']}".encode()).hexdigest()[:32]
        removed = parts["until"] if parts["lifted"] else ""
        read = SharedBlock(own_id, target, parts["until"], parts["reason"] or "", removed=removed)
    return _checked(read)


def _checked(block: SharedBlock) -> SharedBlock:
    """
    Return a block in its only form.

    Raises:
        ValueError: a value is out of bounds.
    """
    target = target_of(block.target)
    if is_too_wide(target):
        raise ValueError(f"{target.text} holds a large part of the world")
    _ = block.until_us
    changes: dict[str, Any] = {
        "target": target.text, "reason": harmless(block.reason)[:_REASON_LIMIT], "exceptions": _networks(block.exceptions),
    }  # fmt: skip
    return msgspec.structs.replace(block, **changes)


def _networks(texts: Sequence[str]) -> list[str]:
    return [network_target(text).text for text in texts]
