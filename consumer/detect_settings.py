"""The table ``[detect]`` of ``sshbell.toml``: what each detector looks for. An empty value, or false, turns a detector off."""

from typing import Annotated

import msgspec
from msgspec import Meta

from consumer.config_values import Switch


class Detect(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    The settings of the detectors.

    Attributes:
        root_by_password: report a login of root by password.
    """

    root_by_password: Switch = True


DetectTable = Annotated[Detect, Meta(description="a table under [detect]")]
