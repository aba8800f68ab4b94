"""The table ``[detect]`` of ``sshbell.toml``: what each detector looks for. An empty value, or false, turns a detector off."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from consumer.config_values import Span, Switch
from consumer.guessing_rules import USUAL_RULE
from consumer.spans import seconds_of

_SECOND_US = 1_000_000
# Detectors remember as many different values for one key, so no rule can ask for more.
RATE_LIMIT = 100
Rate = Annotated[
    str,
    Meta(
        pattern=r"^(?:(?:[1-9][0-9]?|100)/[1-9][0-9]{0,5}[smhdw])?\Z",
        description='a number up to 100 and a time: "10/1h"; "" turns it off',
    ),
]
_Count = Annotated[int, Meta(ge=0, le=100_000, description="a number, without quotes; 0 turns it off")]
Respect = Literal["address", "prefix", "network", "country", "key", "certificate", "method", "host", "hour"]


def rate_of(rate: str) -> tuple[int, int]:
    """Return the number and the microseconds of a rate such as ``10/1h``; (0, 0) for ""."""
    number, _, span = rate.partition("/")
    return (int(number), round(seconds_of(span) * _SECOND_US)) if number else (0, 0)


class ManyAddressesSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    One account is tried from so many different addresses, prefixes (/24 or /48) or networks (AS numbers) in that time.

    Attributes:
        address, prefix, network: a rate each.
    """

    address: Rate = "50/1h"
    prefix: Rate = "30/1h"
    network: Rate = "15/1h"


class ManyAccountsSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    One address, or one prefix (/24 or /48), tries so many different accounts in that time.

    Attributes:
        address, prefix: a rate each.
    """

    address: Rate = "10/1h"
    prefix: Rate = "30/1h"


class ScanningSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    One address connects without a try at a login.

    Attributes:
        faults: so many connections in that time, whose clients speak wrongly, in at least two ways.
        hosts: to so many hosts in that time.
    """

    faults: Rate = "5/1h"
    hosts: Rate = "10/1h"


class SuccessAfterFailuresSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    A login comes after so many failed ones, each within that time of the next.

    Attributes:
        address: from the same address.
        prefix: from other addresses of the same prefix (/24 or /48).
        account: at the same account, from elsewhere.
    """

    address: Rate = "10/1h"
    prefix: Rate = "20/1h"
    account: Rate = "30/1h"


class FirstSeenSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    A login of an account is the first of its kind.

    Attributes:
        what: in which respects.
        learning: how long nothing is new, from the first login that sshbell has seen.
        expiry: after what time without it something is new again.
    """

    what: Annotated[
        list[Respect],
        Meta(
            description='a list of "address", "prefix", "network", "country", "key", "certificate", "method", "host" and "hour"; '
            "[] turns it off"
        ),
    ] = msgspec.field(default_factory=lambda: ["network", "country", "key", "certificate", "method"])
    learning: Span = "7d"
    expiry: Span = "90d"


_RuleText = Annotated[str, Meta(description='a rule of pam_abl, in quotes: "*:12/10m,30/1h"; "" turns it off')]
_Names = Annotated[list[str], Meta(description='a list of names, addresses and networks: ["localhost", "192.0.2.0/24"]')]


class GuessingSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    The rules against guessing, as pam_abl has them.

    Attributes:
        host_rule: when an address guesses.
        user_rule: when somebody guesses the password of a user.
        host_purge, user_purge: how long a try counts at most.
        limits: an entry that would have more tries than the second number keeps as many as the first; "" for no limit.
        host_whitelist, user_whitelist: whose tries do not count.
    """

    host_rule: _RuleText = USUAL_RULE
    user_rule: _RuleText = ""
    host_purge: Span = "1d"
    user_purge: Span = "1d"
    limits: Annotated[
        str, Meta(pattern=r"^(?:[0-9]{1,4}-[0-9]{1,4})?\Z", description='two numbers: "1000-1200"; "" for none')
    ] = ""
    host_whitelist: _Names = []
    user_whitelist: Annotated[list[str], Meta(description='a list of names: ["backup"]')] = []


class Detect(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    The settings of the detectors.

    Attributes:
        guessing: the rules against guessing; without any, nothing is found.
        root_by_password: report a login of root by password.
        many_addresses, many_accounts, scanning, success_after_failures, first_seen: see the tables.
        slow_guessing: tries from one address, at least a minute apart, over that time without a pause of a day.
        impossible_travel: the fastest journey between two logins, in km/h.
        password_despite_key: how many logins by key, without one by password, show that an account uses keys.
        key_in_two_places: the distance between two places of one key at the same time, in km.
        sshd_penalty: connections of one address that sshd drops as a penalty.
        sshd_health: report broken and refused parts of sshd's configuration.
        known_networks: networks of your own, whose addresses neither travel, scan nor guess.
        host_silent: report a host that has sent no line for this many times its longest pause of the last two weeks; 0: never.
        host_changed_wording: report a host of whose lines sshbell suddenly understands so many percent no more; 0: never.
        clock_skew: report a host whose clock is wrong by more than this; "0s": never.
    """

    guessing: Annotated[GuessingSettings, Meta(description="a table under [detect.guessing]")] = GuessingSettings()
    root_by_password: Switch = True
    many_addresses: Annotated[ManyAddressesSettings, Meta(description="a table under [detect.many_addresses]")] = (
        ManyAddressesSettings()
    )
    many_accounts: Annotated[ManyAccountsSettings, Meta(description="a table under [detect.many_accounts]")] = (
        ManyAccountsSettings()
    )
    slow_guessing: Rate = "50/3d"
    scanning: Annotated[ScanningSettings, Meta(description="a table under [detect.scanning]")] = ScanningSettings()
    success_after_failures: Annotated[
        SuccessAfterFailuresSettings, Meta(description="a table under [detect.success_after_failures]")
    ] = SuccessAfterFailuresSettings()
    first_seen: Annotated[FirstSeenSettings, Meta(description="a table under [detect.first_seen]")] = FirstSeenSettings()
    impossible_travel: _Count = 1000
    password_despite_key: _Count = 20
    key_in_two_places: _Count = 500
    sshd_penalty: Rate = "50/1h"
    sshd_health: Switch = True
    known_networks: Annotated[list[str], Meta(description='a list of networks: ["192.0.2.0/24", "2001:db8::/48"]')] = []
    host_silent: Annotated[int, Meta(ge=0, le=1000, description="a number from 0 to 1000")] = 3
    host_changed_wording: Annotated[int, Meta(ge=0, le=100, description="a number of percent, from 0 to 100")] = 20
    clock_skew: Annotated[
        str,
        Meta(
            pattern=r"^(0s|[1-9][0-9]{0,5}[smhdw])\Z",
            description='a number with its unit, in quotes: "90s", "10m"; "0s" turns it off',
        ),
    ] = "2m"


DetectTable = Annotated[Detect, Meta(description="a table under [detect]")]
