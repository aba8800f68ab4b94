"""The messages to ``guard``: bounded JSON. ``run`` sends lists of orders; a command sends one request."""

from typing import Annotated

import msgspec
from msgspec import Meta

from consumer.block.access_conf import EXCEPTIONS_LIMIT
from consumer.block.target import USER_NAME_LIMIT

# In bytes, of one message. Orders in a message from run, which has to fit the buffer of a socket.
MESSAGE_LIMIT, ORDERS_LIMIT = 1 << 16, 32
# Targets of one command, and imported blocks, which have to fit a message.
TARGETS_LIMIT, IMPORT_LIMIT = 1000, 100

_TargetText = Annotated[str, Meta(min_length=1, max_length=USER_NAME_LIMIT + 10)]
_AddressText = Annotated[str, Meta(min_length=1, max_length=50)]


class Order(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="block"):
    """
    Block a target. The same id again changes nothing.

    Attributes:
        id: of the event that decided it, or a command's own.
        target: see ``Target.text``.
        until_us: the end, in microseconds since 1970 UTC.
        reason: for people.
        service: the PAM service, for ``%s`` of commands.
        exceptions: addresses and networks from which a blocked user may still log in.
    """

    id: Annotated[str, Meta(min_length=1, max_length=64)]
    target: _TargetText
    until_us: Annotated[int, Meta(gt=0, le=253_402_300_799_999_999)]
    reason: Annotated[str, Meta(max_length=500)] = ""
    service: Annotated[str, Meta(max_length=64)] = "sshd"
    exceptions: Annotated[list[_AddressText], Meta(max_length=EXCEPTIONS_LIMIT)] = []


class Lift(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="unblock"):
    """Lift the blocks of these targets, before their ends."""

    targets: Annotated[list[_TargetText], Meta(max_length=TARGETS_LIMIT)]


class Import(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="import"):
    """Block what another machine blocks. This leaves out what the allow list has."""

    orders: Annotated[list[Order], Meta(max_length=IMPORT_LIMIT)]


class Purge(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="purge"):
    """Forget the blocks that have ended, and write everything anew."""


class Check(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="check"):
    """Ask which blocks keep this address, this user, or this user from this address, from logging in."""

    address: Annotated[str, Meta(max_length=50)] = ""
    user: Annotated[str, Meta(max_length=USER_NAME_LIMIT)] = ""


class Reply(msgspec.Struct, frozen=True, omit_defaults=True):
    """
    The answer to a command.

    Attributes:
        count: how many targets have changed.
        fault: why guard did nothing, in words; "" if it did.
        blocks: for ``Check``, one object for each block that applies: target, until_us and reason.
        allowed: for ``Check``, the reason why nothing applies to this address, if it is never blocked.
        left_out: for ``Import``, how many targets the allow list has.
        is_enforcing: False in a dry run, or while the panic file exists.
    """

    count: int = 0
    fault: str = ""
    blocks: list[dict[str, str | int]] = []
    allowed: str = ""
    is_enforcing: bool = True
    left_out: int = 0


GuardRequest = Order | Import | Lift | Purge | Check
