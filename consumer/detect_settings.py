"""The table ``[detect]`` of ``sshbell.toml``: what each detector looks for. An empty value, or false, turns a detector off."""

from typing import Annotated

import msgspec
from msgspec import Meta

from consumer.config_values import Span, Switch

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

    host_rule: _RuleText = "*:12/10m,30/1h"
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
        host_silent: report a host that has sent no line for so many times its longest pause of two weeks; 0: never.
        host_changed_wording: report a host of whose lines sshbell suddenly understands so many percent no more; 0: never.
        clock_skew: report a host whose clock is wrong by more than this; "0s": never.
    """

    guessing: Annotated[GuessingSettings, Meta(description="a table under [detect.guessing]")] = GuessingSettings()
    root_by_password: Switch = True
    host_silent: Annotated[int, Meta(ge=0, le=1000, description="a number from 0 to 1000")] = 3
    host_changed_wording: Annotated[int, Meta(ge=0, le=100, description="a number of percent, from 0 to 100")] = 20
    clock_skew: Span = "2m"


DetectTable = Annotated[Detect, Meta(description="a table under [detect]")]
