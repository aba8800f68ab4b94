"""Where sshd looks for keys: asked of sshd itself, or read from its configuration where it cannot be run."""

from typing import NamedTuple

DEFAULT_CONFIG = "/etc/ssh/sshd_config"


class SshdSettings(NamedTuple):
    """
    What sshd would do for one user from one address.

    Attributes:
        authorized_keys_files: with their tokens (``%h``, ``%u``, ``%U``, ``%%``); relative ones are relative to the home.
        authorized_keys_command: with its arguments and tokens, as in the configuration; "" for none.
        authorized_keys_command_user: whom it runs as.
        trusted_user_ca_keys: a file; "" for none.
        strict_modes: files that others can write are not used.
    """

    authorized_keys_files: tuple[str, ...] = (".ssh/authorized_keys", ".ssh/authorized_keys2")
    authorized_keys_command: str = ""
    authorized_keys_command_user: str = ""
    trusted_user_ca_keys: str = ""
    strict_modes: bool = True


def sshd_settings(user: str, host: str, address: str, config: str = DEFAULT_CONFIG) -> SshdSettings:
    """
    Return what sshd would do for a user who comes from a host and an address; never raises. It wants to be called as root.

    ``sshd -T`` is run at most once for each combination of ``Match`` blocks, until a file of the configuration changes.
    """
    raise NotImplementedError
