"""The table ``[codes]`` of ``sshbell.toml``: one-time codes at login. The commands of PAM read it alone, so it imports little."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from consumer.code_bounds import DIGITS, SESSION_DIGITS, TRIES
from consumer.config_values import Span

# A code can be sent to a log or a file, but nobody should find it there.
NO_CODES = ("file", "syslog")

Ask = Literal["never", "always", "new"]
CodeNovelty = Literal["address", "network", "country"]
OnFailure = Literal["secure", "safe", "codes"]

_ON_FAILURE = '"secure", "safe" or "codes"'


def _within(bounds: range) -> Meta:
    return Meta(ge=bounds[0], le=bounds[-1], description=f"a number from {bounds[0]} to {bounds[-1]}, without quotes")


class CodeRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    When sshbell asks for a code. All non-empty lists must fit.

    Attributes:
        user: with ``*`` and ``?`` as in a shell.
        group: of this system, as ``id`` shows them; with ``*`` and ``?``.
        address: networks. A login without an address, such as one at the console, fits none.
        service: of PAM, such as ``sshd``; with ``*`` and ``?``.
        ask: ``new`` asks only if the login is new in one of the respects in ``new``.
        on_failure: in place of that of ``[codes]``; "" for that one.
    """

    user: Annotated[list[str], Meta(description='a list of names: ["alice", "backup-*"]')] = []
    group: Annotated[list[str], Meta(description='a list of groups of this system: ["wheel"]')] = []
    address: Annotated[list[str], Meta(description='a list of networks: ["192.0.2.0/24"]')] = []
    service: Annotated[list[str], Meta(description='a list of services of PAM: ["sshd"]')] = []
    ask: Annotated[Ask, Meta(description='"never", "always" or "new"')] = "always"
    new: Annotated[list[CodeNovelty], Meta(min_length=1, description='a list of "address", "network" and "country"')] = (
        msgspec.field(default_factory=lambda: ["address"])
    )
    on_failure: Annotated[OnFailure | Literal[""], Meta(description=f'{_ON_FAILURE}; "" for that of [codes]')] = ""


class Codes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    How sshbell asks for codes.

    Attributes:
        channels: in the order in which sshbell tries them; without any, on_failure decides.
        to: the channel's own recipients, or the person who logs in.
        digits: of a code.
        session_digits: of the number that both the prompt and the message show.
        valid: how long a code counts.
        tries: how often somebody may type a code wrongly before it counts no more.
        timeout: how long all channels together may take.
        on_failure: if no channel took the code. ``secure`` refuses, ``safe`` lets in, ``codes`` asks for an emergency code.
        rule: the first that fits counts; without any, sshbell asks.
    """

    channels: Annotated[list[str], Meta(description='a list of names of channels: ["ops"]')] = []
    to: Annotated[Literal["team", "owner"], Meta(description='"team" or "owner"')] = "team"
    digits: Annotated[int, _within(DIGITS)] = 8
    session_digits: Annotated[int, _within(SESSION_DIGITS)] = 6
    valid: Span = "5m"
    tries: Annotated[int, _within(TRIES)] = 3
    timeout: Span = "10s"
    on_failure: Annotated[OnFailure, Meta(description=_ON_FAILURE)] = "secure"
    rule: Annotated[list[CodeRule], Meta(description="a table under [[codes.rule]], in double brackets")] = []


CodesTable = Annotated[Codes, Meta(description="a table under [codes]")]
